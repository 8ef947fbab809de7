"""An http or https URI without query and fragment, in its one normal form (RFC 3986 section 6.2).

- Scheme and host are in lower case, the port is the number that the scheme means where none is written, an
  IPv6 host is in its canonical text.
- Percent-encoded unreserved characters are decoded and the hex digits of the others are in upper case; an
  encoded slash stays one and is never a slash. Dot segments are removed, after that decoding, as a server
  would. An empty path is `/`.
- Query and fragment are read, because they must be well-formed, and left out.
- Userinfo, an empty or percent-encoded host, anything that is not ASCII and every character that RFC 3986
  does not have is refused.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
from typing import Final

from identity.errors import IdentityError

MAX_URI: Final = 8192
_PORTS: Final = {"http": 80, "https": 443}
_MAX_PORT: Final = 65535
_PCHAR: Final = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
# The underscore is no DNS, but container networks name hosts with it.
_URI: Final = re.compile(
    r"(?P<scheme>[Hh][Tt][Tt][Pp][Ss]?)://"
    r"(?P<host>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{0,5}))?"
    rf"(?P<path>(?:/{_PCHAR}*)*)(?:\?(?:{_PCHAR}|[/?])*)?(?:#(?:{_PCHAR}|[/?])*)?"
)
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]")


class HttpUriError(IdentityError):
    """Not an http or https URI that has one reading."""


@dataclass(frozen=True, slots=True)
class HttpUri:
    """Where a request goes; two that are equal name one place."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> "HttpUri":
        """Read and normalise a URI.

        Raises:
            HttpUriError: if it is not one, or longer than 8192 characters.
        """
        match = _URI.fullmatch(text) if len(text) <= MAX_URI else None
        if match is None:
            # The query stays out of messages: tokens travel there.
            raise HttpUriError(f"not an http or https URI: {text.partition('?')[0][:255]!r}")
        # Folded after the match, so it is ASCII, and no other letter can fold into one of ours.
        scheme, host = match["scheme"].lower(), match["host"].lower()
        port = int(match["port"]) if match["port"] else _PORTS[scheme]
        if port > _MAX_PORT:
            raise HttpUriError(f"not a port: {port}")
        return cls(scheme, _canonical(host), port, _normal_path(match["path"]))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}{self.path}"


def _canonical(host: str) -> str:
    if not host.startswith("["):
        return host
    try:
        return f"[{IPv6Address(host[1:-1])}]"
    except AddressValueError as error:
        raise HttpUriError(f"not an IPv6 address: {host!r}") from error


def _normal_path(path: str) -> str:
    return _without_dots(_ESCAPE.sub(_one_spelling, path)) if path else "/"


def _one_spelling(escape: re.Match[str]) -> str:
    """Decode what need not be encoded (section 6.2.2.2)."""
    char = chr(int(escape[1], 16))
    return char if _UNRESERVED.fullmatch(char) else escape[0].upper()


def _without_dots(path: str) -> str:
    """Remove the dot segments of an absolute path (section 5.2.4)."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    # A dot segment at the end names the directory.
    if segments[-1] in {".", ".."}:
        kept.append("")
    return "/" + "/".join(kept)
