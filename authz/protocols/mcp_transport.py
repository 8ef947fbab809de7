"""The HTTP side of an MCP message, before a byte of the body is read.

- Media type `application/json` in any case, alone or with `charset=utf-8`; any other type may be read by
  another parser (CVE class: type confusion).
- No content encoding but `identity`: the upstream would see another body.
- The session id stands once, or not at all.
"""

import re

from authz.codes import Code
from authz.errors import InspectionError
from authz.headers import Headers

SESSION_HEADER = "mcp-session-id"

_JSON = "application/json"
_CONTENT_TYPE = re.compile(
    r" *([a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+) *(?:; *charset *= *(\"?)([a-z0-9_-]+)\2 *)?"
)


def check_transport(headers: Headers) -> None:
    """Check the headers that say how the body is to be read.

    Raises:
        InspectionError: with CONTENT_TYPE or BODY_ENCODING.
        RequestError: if one of them stands twice or is not text.
    """
    _check_content_type(headers.one("content-type"))
    encoding = headers.one("content-encoding")
    if encoding is not None and encoding.lower() != "identity":
        raise InspectionError(Code.BODY_ENCODING, "another content-encoding than identity")
    headers.one(SESSION_HEADER)


def _check_content_type(value: str | None) -> None:
    if value == _JSON:
        return
    match = _CONTENT_TYPE.fullmatch((value or "").lower())
    if match is None or match[1] != _JSON:
        raise InspectionError(Code.CONTENT_TYPE, f"another content-type than {_JSON}")
    if match[3] not in {None, "utf-8"}:
        raise InspectionError(Code.BODY_ENCODING, "another charset than utf-8")
