"""Requests that ask to be another one.

- A header by which some servers take another method or path than the request line has, and an upgrade, after
  which nobody asks us any more.
- The parameter `_method`, by which the usual web frameworks turn a POST into a DELETE: in the query, in a
  form, in JSON. Its name is looked for in every spelling that one of them folds into it (PHP makes an
  underscore of a dot, a space and a bracket).
"""

import re
from urllib.parse import unquote_to_bytes

from authz.codes import Code
from authz.errors import InspectionError
from authz.request import Request

_HEADERS = frozenset(
    {
        "upgrade",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-url",
        "x-rewrite-url",
    }
)
_PARAMETER = re.compile(rb"(?:^|[&;?])[\s\0]*[_ .\[]method(?:[=&;\[\0]|\Z)", re.IGNORECASE)
_PART = re.compile(rb"name\*?\s*=\s*(?:utf-8'')?[\"']?[\s\0]*[_ .\[]method\b", re.IGNORECASE)
_MEMBER = re.compile(rb'"_method"\s*:', re.IGNORECASE)
_JSON_ESCAPE = re.compile(rb"\\u00([2-7][0-9A-Fa-f])")


def refuse_turning(request: Request) -> None:
    """Refuse what turns any request into another, whatever protocol it is read by.

    Raises:
        InspectionError: with REQUEST_MALFORMED.
    """
    if not _HEADERS.isdisjoint(request.headers.last):
        turning = ", ".join(sorted(_HEADERS & request.headers.names()))
        raise InspectionError(Code.REQUEST_MALFORMED, f"a request that asks to be another one: {turning}")
    _, _, query = request.path.partition("?")
    if query and _PARAMETER.search(_unquoted(query.encode())):
        raise InspectionError(Code.REQUEST_MALFORMED, "a request that asks to be another one: _method")


def refuse_turning_body(request: Request) -> None:
    """Refuse a form or JSON that turns a POST into another method, where nobody else reads the body.

    Raises:
        InspectionError: with REQUEST_MALFORMED.
        RequestError: if the content type stands twice or is not text.
    """
    if request.method != "POST" or not request.body:
        return
    kind = (request.headers.one("content-type") or "").lower()
    # Without a type a server guesses.
    if (
        ((not kind or "form-urlencoded" in kind) and _PARAMETER.search(_unquoted(request.body)))
        or ((not kind or "multipart" in kind) and _PART.search(request.body))
        or ((not kind or "json" in kind) and _MEMBER.search(_unescaped(request.body)))
    ):
        raise InspectionError(Code.REQUEST_MALFORMED, "a body that asks for another method: _method")


def _unquoted(data: bytes) -> bytes:
    return unquote_to_bytes(data.replace(b"+", b" "))


def _unescaped(data: bytes) -> bytes:
    return (
        _JSON_ESCAPE.sub(lambda escape: bytes.fromhex(escape[1].decode()), data) if b"\\u" in data else data
    )
