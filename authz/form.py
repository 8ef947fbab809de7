"""The forms of an answer: how a refusal travels.

- Each reason code has one; authz/response.py turns it into HTTP.
"""

from enum import Enum, unique


@unique
class Form(Enum):
    """How a refusal travels; authz/response.py turns it into HTTP."""

    MALFORMED = "malformed"  # 400
    REFUSED = "refused"  # 403
    TOKEN = "token"  # 401  # noqa: S105 - the name of a form, no secret
    SCOPE = "scope"  # 403 with a challenge
    POLICY = "policy"  # 200 with a JSON-RPC error for MCP, else 403
    UNAVAILABLE = "unavailable"  # 503
    ALLOWED = "allowed"
