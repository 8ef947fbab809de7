"""The headers of a request: names as text, values as bytes, in the order they came.

- Names are lower-case tokens, or the pseudo-headers of HTTP/2; anything else is refused, not folded: a name
  that we would miss is one that the upstream may find.
- A value is decoded when it is asked for, as printable ASCII; bytes in a header that nobody asks for harm
  nobody (CVE-2026-73552).
- A header that is asked for stands once or not at all: first-copy and last-copy readers would disagree
  (CVE-2021-32777).
- Count, names and total size are bounded. The representation shows no value: credentials travel in headers.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from authz.codes import Code
from authz.errors import RequestError

MAX_HEADERS = 200
MAX_HEADER_BYTES = 128 * 1024

# RFC 9110 section 5.6.2, lower case only.
_NAME = re.compile(r":?[!#$%&'*+.^_`|~0-9a-z-]{1,255}")


@dataclass(frozen=True, slots=True)
class Headers:
    """Header fields as the proxy received them; `repeated` are the names that stand more than once.

    `joined` are all names, one a line: what hardly any request has is looked for in all of them at once.
    """

    fields: tuple[tuple[str, bytes], ...] = field(repr=False)
    last: Mapping[str, bytes] = field(repr=False)
    repeated: frozenset[str]
    joined: str = field(repr=False)

    @classmethod
    def parse(cls, fields: Iterable[tuple[str, bytes]]) -> "Headers":
        """Bound and check the fields.

        Raises:
            RequestError: if there are too many, they are too large, or a name is not one.
        """
        kept = tuple(fields)
        check_count(len(kept))
        size = sum([len(name) + len(value) for name, value in kept])
        if size > MAX_HEADER_BYTES:
            raise RequestError(
                Code.REQUEST_MALFORMED, f"headers of {size} bytes, at most {MAX_HEADER_BYTES} are read"
            )
        last = dict(kept)
        for name in last:
            _check_name(name)
        repeated = _repeated(kept) if len(last) < len(kept) else frozenset[str]()
        return cls(kept, last, repeated, "\n".join(last))

    def one(self, name: str) -> str | None:
        """Return the value of a header that may stand once.

        Raises:
            RequestError: if it stands twice (HEADER_DUPLICATE) or is not printable ASCII (HEADER_ENCODING).
        """
        value = self.last.get(name)
        if value is None:
            return None
        if name in self.repeated:
            raise RequestError(Code.HEADER_DUPLICATE, f"{name!r} stands more than once")
        if not value.isascii() or not (text := value.decode()).isprintable():
            raise RequestError(Code.HEADER_ENCODING, f"{name!r} is not printable ASCII")
        return text

    def names(self) -> frozenset[str]:
        """Return the names of all headers."""
        return frozenset(self.last)


@lru_cache(maxsize=1024)  # the same names at every call; what is refused is not kept
def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise RequestError(Code.REQUEST_MALFORMED, f"not a lower-case header name: {name[:80]!r}")


def check_count(count: int) -> None:
    """Bound the number of fields.

    Raises:
        RequestError: if there are more than are read.
    """
    if count > MAX_HEADERS:
        raise RequestError(Code.REQUEST_MALFORMED, f"{count} headers, at most {MAX_HEADERS} are read")


def _repeated(fields: tuple[tuple[str, bytes], ...]) -> frozenset[str]:
    counts = Counter(name for name, _ in fields)
    return frozenset(name for name, count in counts.items() if count > 1)
