"""Requests that ask to be another one.

- A header by which some servers take another method or path than the request line has, and an upgrade, after
  which nobody asks us any more; with underscores as well, which CGI, WSGI and Rack do not tell from hyphens.
- A header whose name has underscores where one has hyphens that we decide by, or set, or take out: such
  servers would find the client's own under that name.
- The parameter `_method`, by which the usual web frameworks turn a POST into a DELETE: in the query, in a
  form, in JSON. Its name is looked for in every spelling that one of them folds into it (PHP makes an
  underscore of a dot, a space and a bracket). Where the body is compressed, or its letters are no ASCII,
  nobody here can look for it.
"""

import re
from collections.abc import Collection

from authz.codes import Code
from authz.errors import InspectionError
from authz.outside import CREDENTIAL_HEADERS, NAMES_HEADER, OUR_PREFIX, TRANSACTION_HEADER
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
_DECIDED = frozenset(
    {"content-type", "content-encoding", *CREDENTIAL_HEADERS, TRANSACTION_HEADER, NAMES_HEADER},
)
_DECIDED_PREFIXES = ("mcp-", OUR_PREFIX)


def _letters(escape: bytes) -> bytes:
    """Return a pattern of `method` in which each letter may stand for itself or be escaped, in any case."""
    return b"".join(
        b"(?:%c|%b%02x|%b%02x)" % (letter, escape, letter, escape, letter - 32) for letter in b"method"
    )


# The escapes stand in the patterns, because undoing them in a large body costs far more than looking for
# them. What repeats is possessive, so that no run of blanks is looked at twice; a run of more than 64 before
# a name is refused as well, since nobody writes one who has nothing to hide.
_BLANK = rb"(?:[\s\0+_.\[]|%(?:00|09|0[a-d]|20|2e|5b|5f))"
_PARAMETER = re.compile(
    rb"(?:\A|[&;?])%b{1,64}+(?:%b(?:[=&;\[\0]|%%(?:5b|00)|\Z)|%b)" % (_BLANK, _letters(rb"%"), _BLANK),
    re.IGNORECASE,
)
_PART = re.compile(
    rb"name\*?+\s*+=\s*+(?:[a-z0-9_-]{1,32}'[a-z0-9-]{0,32}')?[\"']?\\?%b++%b(?![a-z0-9_])"
    % (_BLANK, _letters(rb"%")),
    re.IGNORECASE,
)
_CHARSET = re.compile(r"charset *= *[\"']?([a-z0-9_-]*)")
_LIKE_ASCII = frozenset({"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1", "windows-1252"})
_MEMBER = re.compile(rb'"(?:_|\\u005f)' + _letters(rb"\\u00") + rb'"\s*+:', re.IGNORECASE)


def refuse_turning(request: Request) -> None:
    """Refuse what turns any request into another, whatever protocol it is read by.

    Raises:
        InspectionError: with REQUEST_MALFORMED.
    """
    names: Collection[str] = request.headers.last.keys()
    if "_" in request.headers.joined:
        _refuse_twins(names)
        names = [name.replace("_", "-") for name in names]
    if not _HEADERS.isdisjoint(names):
        turning = ", ".join(sorted(_HEADERS.intersection(names)))
        raise InspectionError(Code.REQUEST_MALFORMED, f"a request that asks to be another one: {turning}")
    _, _, query = request.path.partition("?")
    if query and _PARAMETER.search(query.encode()):
        raise InspectionError(Code.REQUEST_MALFORMED, "a request that asks to be another one: _method")


def _refuse_twins(names: Collection[str]) -> None:
    for name in names:
        if "_" not in name:
            continue
        hyphens = name.replace("_", "-")
        if hyphens in _DECIDED or hyphens.startswith(_DECIDED_PREFIXES):
            raise InspectionError(
                Code.REQUEST_MALFORMED, f"a header that some servers take for another: {name[:80]!r}"
            )


def refuse_turning_body(request: Request) -> None:
    """Refuse a form or JSON that turns a POST into another method, where nobody else reads the body.

    Raises:
        InspectionError: with REQUEST_MALFORMED.
        RequestError: if the content type, or the encoding, stands twice or is not text.
    """
    if request.method != "POST" or not request.body:
        return
    kind = (request.headers.one("content-type") or "").lower()
    is_read = not kind or any(known in kind for known in ("form-urlencoded", "multipart", "json"))
    if is_read and _is_disguised(request, kind):
        raise InspectionError(Code.BODY_ENCODING, "a body in which nobody can look for another method")
    # Without a type a server guesses.
    if (
        ((not kind or "form-urlencoded" in kind) and _PARAMETER.search(request.body))
        or ((not kind or "multipart" in kind) and _PART.search(request.body))
        or ((not kind or "json" in kind) and _MEMBER.search(request.body))
    ):
        raise InspectionError(Code.REQUEST_MALFORMED, "a body that asks for another method: _method")


def _is_disguised(request: Request, kind: str) -> bool:
    encoding = request.headers.one("content-encoding")
    charset = _CHARSET.search(kind)
    is_other = charset is not None and charset[1] not in _LIKE_ASCII
    return is_other or (encoding is not None and encoding.strip(" ").lower() != "identity")
