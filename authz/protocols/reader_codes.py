"""The reason codes with which the readers of one protocol refuse.

- What the readers share refuses with the codes of the protocol that the route has, so that a code says
  where the message went, not which file read it.
"""

from dataclasses import dataclass
from typing import Final

from authz.codes import Code


@dataclass(frozen=True, slots=True)
class ReaderCodes:
    """The codes of one protocol."""

    batch: Code
    envelope: Code
    id: Code
    params: Code
    lookalike: Code


MCP: Final = ReaderCodes(
    Code.MCP_BATCH, Code.MCP_ENVELOPE, Code.MCP_ID, Code.MCP_PARAMS, Code.MCP_LOOKALIKE_KEY
)
A2A: Final = ReaderCodes(
    Code.A2A_ENVELOPE, Code.A2A_ENVELOPE, Code.A2A_ENVELOPE, Code.A2A_PARAMS, Code.JSON_LOOKALIKE_KEY
)
LLM: Final = ReaderCodes(Code.LLM_BODY, Code.LLM_BODY, Code.LLM_BODY, Code.LLM_BODY, Code.JSON_LOOKALIKE_KEY)
