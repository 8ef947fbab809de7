"""The session that a request is part of.

- Only MCP has sessions of this kind. The header counts in either era: the newer one says that servers ignore
  it, but one that speaks both may still honour it.
- `initialize` opens one, and has no id yet; ext_proc sees the one that the answer gives.
- What cannot be the id of a session is refused, an empty one too: no two readers would agree on it.
"""

from authz.codes import Code
from authz.errors import InspectionError
from authz.protocols.mcp_era import SESSION_HEADER
from authz.protocols.operation import Operation
from authz.request import Request
from authz.sessions.port import Owner
from authz.sessions.session_key import is_session_id
from identity.caller import Caller


def session_of(request: Request, operation: Operation) -> str | None:
    """Return the id of the session, None where the request is part of none.

    Raises:
        RequestError: if the header stands twice.
        InspectionError: with SESSION_MALFORMED, if what it holds is no id.
    """
    if operation.protocol != "mcp":
        return None
    unverified_id = request.headers.one(SESSION_HEADER)
    if unverified_id is not None and not is_session_id(unverified_id):
        raise InspectionError(
            Code.SESSION_MALFORMED, f"no id of a session in {SESSION_HEADER!r}", operation.rpc_id
        )
    return unverified_id


def owner_of(caller: Caller) -> Owner:
    """Return whose the sessions of a caller are."""
    return Owner(caller.human.uri if caller.human else None, caller.agent.name)
