"""The session that a request is part of.

- Only MCP has sessions of this kind. The header counts in either era: the newer one says that servers ignore
  it, but one that speaks both may still honour it.
- `initialize` opens one, and has no id yet; ext_proc sees the one that the answer gives.
- The transport of 2024-11-05 (HTTP with SSE) names a session in the query of each message. Its servers read a
  UUID however it is written, so there one is bound in one spelling.
- What cannot be the id of a session is refused, an empty one too: no two readers would agree on it.
"""

import re
from typing import Final
from urllib.parse import parse_qsl

from authz.codes import Code
from authz.errors import InspectionError
from authz.protocols.mcp_era import SESSION_HEADER
from authz.protocols.operation import Operation
from authz.request import Request
from authz.sessions.port import Owner
from authz.sessions.session_key import is_session_id
from identity.caller import Caller

_MAX_PARAMETERS: Final = 128
# As the SDKs call it: `session_id` in Python, `sessionId` elsewhere.
_IN_QUERY: Final = re.compile(r"session[_-]?id", re.IGNORECASE)
# Letters and digits that no reader of a UUID takes for a number in another form.
_PLAIN_ID: Final = re.compile(r"(?!0[xX])[A-Za-z0-9-]{1,512}")


def sessions_of(request: Request, operation: Operation) -> tuple[str, ...]:
    """Return the ids of the sessions that a request names: none, mostly one, or that of the query as well.

    Raises:
        RequestError: if the header stands twice.
        InspectionError: with SESSION_MALFORMED, if what they hold is no id, or the query names two.
    """
    if operation.protocol != "mcp":
        return ()
    unverified_id = request.headers.one(SESSION_HEADER)
    if unverified_id is not None and not is_session_id(unverified_id):
        raise _malformed(repr(SESSION_HEADER), operation)
    in_header = () if unverified_id is None else (unverified_id,)
    _, _, query = request.path.partition("?")
    return in_header if not query else (*in_header, *_in_query(query, operation))


def _in_query(query: str, operation: Operation) -> tuple[str, ...]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    except ValueError as error:
        raise _malformed("the query", operation) from error
    found = [value for name, value in pairs if _IN_QUERY.fullmatch(name)]
    if len(found) > 1 or not all(_PLAIN_ID.fullmatch(value) for value in found):
        raise _malformed("the query", operation)
    return tuple([value.lower().replace("-", "") for value in found])


def _malformed(where: str, operation: Operation) -> InspectionError:
    return InspectionError(Code.SESSION_MALFORMED, f"no id of a session in {where}", operation.rpc_id)


def owner_of(caller: Caller) -> Owner:
    """Return whose the sessions of a caller are."""
    return Owner(caller.human.uri if caller.human else None, caller.agent.name)
