"""Host and port of a request's authority.

- The host is in lower case (CVE-2021-39155), an IPv6 literal in its canonical form and in brackets.
- Userinfo, an empty host, other letters than ASCII: refused.
"""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address

from authz.codes import Code
from authz.errors import RequestError

# A DNS name with its dots and a port; each part is bounded below.
MAX_AUTHORITY_CHARS = 260
MAX_PORT = 65535

# The underscore is no DNS, but container networks name hosts with it.
_AUTHORITY = re.compile(r"(?P<host>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?")


def parse_authority(text: str) -> tuple[str, int | None]:
    """Return host and port.

    Raises:
        RequestError: if the text is not `host` or `host:port` (RFC 3986 section 3.2 without userinfo).
    """
    if len(text) > MAX_AUTHORITY_CHARS:
        raise RequestError(Code.REQUEST_MALFORMED, f"a host of {len(text)} characters")
    return _parse(text)


@lru_cache(maxsize=1024)
def _parse(text: str) -> tuple[str, int | None]:
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise RequestError(Code.REQUEST_MALFORMED, f"not a host: {text!r}")
    # Folded after the match, so it is ASCII, and no other letter can fold into one of ours.
    host = match["host"].lower()
    port = None if match["port"] is None else int(match["port"])
    if port is not None and port > MAX_PORT:
        raise RequestError(Code.REQUEST_MALFORMED, f"not a port: {port}")
    return _ipv6_literal(host) if host.startswith("[") else host, port


def _ipv6_literal(host: str) -> str:
    try:
        return f"[{IPv6Address(host[1:-1])}]"
    except AddressValueError as error:
        raise RequestError(Code.REQUEST_MALFORMED, f"not an IPv6 address: {host!r}") from error
