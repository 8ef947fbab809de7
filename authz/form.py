"""The forms of an answer: how a refusal travels.

- Each reason code has one; authz/response.py turns it into HTTP.
- How a client that speaks JSON-RPC is told what the policy says is for the operator to choose, service by
  service.
"""

from enum import Enum, unique
from typing import Literal

# The denials of a service, as `services.<s>.denials` of deputy.yaml has them (docs/reference/denials.md).
DenialForm = Literal["json_rpc", "tool_error", "unknown_tool", "http"]


@unique
class Form(Enum):
    """How a refusal travels; authz/response.py turns it into HTTP."""

    MALFORMED = "malformed"  # 400
    REFUSED = "refused"  # as POLICY: 403 where nobody waits for a JSON-RPC answer
    TOKEN = "token"  # 401  # noqa: S105 - the name of a form, no secret
    SCOPE = "scope"  # 403 with a challenge
    POLICY = "policy"  # 200 to a JSON-RPC request with an id, else 403
    UNAVAILABLE = "unavailable"  # 503
    ALLOWED = "allowed"
