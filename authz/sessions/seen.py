"""The session that a request is part of.

- Only MCP has sessions of this kind. The header counts in either era: a server may still honour it.
- `initialize` opens one, and has no id yet; ext_proc sees the one that the answer gives.
"""

from authz.protocols.mcp_era import SESSION_HEADER
from authz.protocols.operation import Operation
from authz.request import Request
from authz.sessions.port import Owner
from identity.caller import Caller


def session_of(request: Request, operation: Operation) -> str | None:
    """Return the id of the session, None where the request is part of none.

    Raises:
        RequestError: if the header stands twice.
    """
    return (request.headers.one(SESSION_HEADER) or None) if operation.protocol == "mcp" else None


def owner_of(caller: Caller) -> Owner:
    """Return whose the sessions of a caller are."""
    return Owner(caller.human.uri if caller.human else None, caller.agent.name)
