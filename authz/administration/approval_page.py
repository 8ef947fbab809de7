"""The page that a client of an agent shows to its person: how to decide, and nothing about the call.

- It is the same for every id, be there such a request or not: whoever has the URL learns nothing by it, and
  nothing can be decided on it. What is asked for is shown to who signs in.
- What is no id of ours is not written into the page.
"""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from authz.approvals.place import APPROVALS
from identity.errors import AgentNameError
from identity.names import parse_ulid

_TEXT: Final = """\
An agent may be waiting for your approval. Nothing can be approved on this page.

See what it wants to do, with all its arguments, and decide:

    deputy approvals show {id}
    deputy approvals approve {id}
    deputy approvals deny {id}

Elsewhere than on the machine of the service, add who you are:

    --url {issuer} --token-file FILE

If you do not know of an agent that works for you, deny it and tell your operators.
"""
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page_route(path: str, issuer: str) -> Route:
    """Return the route of the pages; `path` is that of the issuer."""

    async def page(request: Request) -> Response:
        try:
            approval_id = parse_ulid(str(request.path_params["id"]))
        except AgentNameError as error:
            raise HTTPException(404) from error
        text = _TEXT.format(id=approval_id, issuer=issuer)
        return PlainTextResponse(text, headers=_HEADERS)

    return Route(f"{path}{APPROVALS}/{{id}}", page, methods=["GET"])
