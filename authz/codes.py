"""The reason codes: one list for the flow, the policy, the command line and the docs.

- A code is stable: it is never renamed, and never means something else later.
- What each says, and how its answer travels, is in authz/code_texts.py.
- docs/reference/reason-codes.md lists them all; a test keeps it complete.
"""

# ruff: noqa: S105 - the names of codes, no secrets
from enum import StrEnum, unique

from authz.code_texts import TEXTS
from authz.form import Form


@unique
class Code(StrEnum):
    """A machine-readable reason."""

    ALLOWED = "DPT-ALLOWED"

    # The request itself
    REQUEST_MALFORMED = "DPT-REQUEST-MALFORMED"
    BODY_TRUNCATED = "DPT-BODY-TRUNCATED"
    BODY_TOO_LARGE = "DPT-BODY-TOO-LARGE"
    BODY_ENCODING = "DPT-BODY-ENCODING"
    CONTENT_TYPE = "DPT-CONTENT-TYPE"
    JSON_MALFORMED = "DPT-JSON-MALFORMED"
    JSON_DUPLICATE_KEY = "DPT-JSON-DUPLICATE-KEY"
    JSON_NUMBER = "DPT-JSON-NUMBER"
    JSON_DEPTH = "DPT-JSON-DEPTH"
    JSON_SURROGATE = "DPT-JSON-SURROGATE"
    JSON_KEYS = "DPT-JSON-KEYS"
    MCP_BATCH = "DPT-MCP-BATCH"
    MCP_ENVELOPE = "DPT-MCP-ENVELOPE"
    MCP_LOOKALIKE_KEY = "DPT-MCP-LOOKALIKE-KEY"
    MCP_ID = "DPT-MCP-ID"
    MCP_VERSION = "DPT-MCP-VERSION"
    MCP_HEADER_MISMATCH = "DPT-MCP-HEADER-MISMATCH"
    MCP_PARAMS = "DPT-MCP-PARAMS"
    PATH = "DPT-PATH"
    HEADER_DUPLICATE = "DPT-HEADER-DUPLICATE"
    HEADER_ENCODING = "DPT-HEADER-ENCODING"

    # What is asked for is not known here
    MCP_METHOD_UNKNOWN = "DPT-MCP-METHOD-UNKNOWN"
    MCP_HTTP_METHOD = "DPT-MCP-HTTP-METHOD"
    PARSER_DISAGREEMENT = "DPT-PARSER-DISAGREEMENT"
    SERVICE_UNKNOWN = "DPT-SERVICE-UNKNOWN"
    ASKER_UNKNOWN = "DPT-ASKER-UNKNOWN"
    ASKER_TARGET = "DPT-ASKER-TARGET"

    # Who is calling
    PEER_MISSING = "DPT-PEER-MISSING"
    TOKEN_MISSING = "DPT-TOKEN-MISSING"
    TOKEN_MALFORMED = "DPT-TOKEN-MALFORMED"
    TOKEN_TYPE = "DPT-TOKEN-TYPE"
    TOKEN_ALG = "DPT-TOKEN-ALG"
    TOKEN_KEY = "DPT-TOKEN-KEY"
    TOKEN_SIGNATURE = "DPT-TOKEN-SIGNATURE"
    TOKEN_EXPIRED = "DPT-TOKEN-EXPIRED"
    TOKEN_NOT_YET = "DPT-TOKEN-NOT-YET"
    TOKEN_ISSUER = "DPT-TOKEN-ISSUER"
    TOKEN_AUDIENCE = "DPT-TOKEN-AUDIENCE"
    TOKEN_CLAIMS = "DPT-TOKEN-CLAIMS"
    NOT_BOUND = "DPT-NOT-BOUND"
    HUMAN_MISSING = "DPT-HUMAN-MISSING"
    CHAIN_DEPTH = "DPT-CHAIN-DEPTH"
    CHAIN_CYCLE = "DPT-CHAIN-CYCLE"
    AGENT_UNKNOWN = "DPT-AGENT-UNKNOWN"
    AGENT_EXPIRED = "DPT-AGENT-EXPIRED"
    AGENT_HOST = "DPT-AGENT-HOST"
    TASK_UNKNOWN = "DPT-TASK-UNKNOWN"
    TASK_ENDED = "DPT-TASK-ENDED"
    TASK_MISMATCH = "DPT-TASK-MISMATCH"
    CLIENT_UNREGISTERED = "DPT-CLIENT-UNREGISTERED"
    MAY_ACT = "DPT-MAY-ACT"
    CONSENT_MISSING = "DPT-CONSENT-MISSING"
    DPOP_MISSING = "DPT-DPOP-MISSING"
    DPOP_INVALID = "DPT-DPOP-INVALID"
    REPLAYED = "DPT-REPLAYED"
    DETAILS = "DPT-DETAILS"
    REVOKED = "DPT-REVOKED"
    CONTAINED = "DPT-CONTAINED"

    # What the policy says
    TOOL_UNKNOWN = "DPT-TOOL-UNKNOWN"
    HUMAN_NOT_GRANTED = "DPT-HUMAN-NOT-GRANTED"
    HUMAN_REQUIRED = "DPT-HUMAN-REQUIRED"
    AGENT_NOT_GRANTED = "DPT-AGENT-NOT-GRANTED"
    AGENT_TIER = "DPT-AGENT-TIER"
    CHAIN_NARROWED = "DPT-CHAIN-NARROWED"
    SCOPE_MISSING = "DPT-SCOPE-MISSING"
    ARGUMENT_LIMIT = "DPT-ARGUMENT-LIMIT"
    BINDING_WEAK = "DPT-BINDING-WEAK"
    PAYLOAD = "DPT-PAYLOAD"
    APPROVAL_REQUIRED = "DPT-APPROVAL-REQUIRED"
    APPROVAL_DENIED = "DPT-APPROVAL-DENIED"
    APPROVAL_LIMIT = "DPT-APPROVAL-LIMIT"
    APPROVAL_SIZE = "DPT-APPROVAL-SIZE"
    DENIED = "DPT-DENIED"
    NOT_PERMITTED = "DPT-NOT-PERMITTED"
    CHANGED = "DPT-CHANGED"
    POLICY_SHAPE = "DPT-POLICY-SHAPE"

    # We cannot know
    POLICY_UNAVAILABLE = "DPT-POLICY-UNAVAILABLE"
    POLICY_REVISION = "DPT-POLICY-REVISION"
    AUDIT_UNAVAILABLE = "DPT-AUDIT-UNAVAILABLE"
    PROVIDER_UNAVAILABLE = "DPT-PROVIDER-UNAVAILABLE"
    WITHDRAWN = "DPT-WITHDRAWN"
    STALE = "DPT-STALE"
    REPLAY_UNKNOWN = "DPT-REPLAY-UNKNOWN"
    APPROVAL_UNKNOWN = "DPT-APPROVAL-UNKNOWN"
    OVERLOADED = "DPT-OVERLOADED"
    INTERNAL = "DPT-INTERNAL"

    @property
    def form(self) -> Form:
        """How its answer travels."""
        return TEXTS[self.value].form

    @property
    def sentence(self) -> str:
        """What the one who is refused reads."""
        return TEXTS[self.value].sentence

    @property
    def fix(self) -> str:
        """What to do about it."""
        return TEXTS[self.value].fix


_BY_VALUE = {code.value: code for code in Code}


def find_code(value: str) -> Code | None:
    """Return the code of ours with this text; a policy may have codes of its own."""
    return _BY_VALUE.get(value)
