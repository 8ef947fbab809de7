r"""Path and query of a request target, in the one spelling that every server reads alike.

- Nothing is normalised: what a normaliser would change is refused, because the upstream may have another one.
- Refused: `//`, the segments `.` and `..`, `;` parameters, `\`, `#`, the absolute form, control characters,
  and every character that RFC 3986 does not allow in a path (CVE-2026-26205, CVE-2021-31920,
  CVE-2026-73551).
- Percent-encoding is accepted for nothing that could stand in plain, for no slash, backslash, percent,
  semicolon, question mark, hash or control character, and only for what decodes as UTF-8. Its hex digits are
  returned in upper case, so each path has one name.
- The query is split off at the first `?` and not read.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from authz.codes import Code
from authz.errors import InspectionError

# RFC 3986 section 3.3, `pchar`, without the semicolon.
_PLAIN = "A-Za-z0-9._~!$&'()*+,=:@-"
_PATH = re.compile(rf"(?:/(?!\.{{1,2}}(?:/|\Z))(?:[{_PLAIN}]|%[0-9A-Fa-f]{{2}})+)*/?")
_QUERY = re.compile(r"[!-\"$-~]*")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_AMBIGUOUS = re.compile(rf"[/\\%;?#\x00-\x1f\x7f{_PLAIN}]")


@dataclass(frozen=True, slots=True)
class HttpPath:
    """An unambiguous path, and the query as it came."""

    path: str
    query: str

    @classmethod
    def parse(cls, target: str) -> "HttpPath":
        """Split a request target in its origin form (RFC 9112 section 3.2.1).

        Raises:
            InspectionError: with PATH if two servers could read it in two ways.
        """
        path, mark, query = target.partition("?")
        if not mark:
            return _without_query(target)
        if query and not _QUERY.fullmatch(query):
            # The query stays out of records: tokens travel there.
            raise InspectionError(Code.PATH, f"a query that is not printable ASCII, behind {path[:255]!r}")
        return cls(_one_path(path), query)


@lru_cache(maxsize=256)  # a service has few; what is refused is not kept, and no query, where tokens travel
def _without_query(path: str) -> HttpPath:
    return HttpPath(_one_path(path), "")


@lru_cache(maxsize=256)
def _one_path(path: str) -> str:
    if not path or not _PATH.fullmatch(path):
        raise InspectionError(Code.PATH, f"not a normalised path: {path[:255]!r}")
    return _with_one_spelling(path) if "%" in path else path


def _with_one_spelling(path: str) -> str:
    for escape in _ESCAPE.findall(path):
        if _AMBIGUOUS.fullmatch(chr(int(escape[1:], 16))):
            raise InspectionError(Code.PATH, f"a path that encodes what it must not: {path[:255]!r}")
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise InspectionError(Code.PATH, f"a path that does not decode as UTF-8: {path[:255]!r}") from error
    return _ESCAPE.sub(lambda escape: escape[0].upper(), path)
