"""A query string in the one reading that every server has of it.

- `name=value`, joined by `&`; each name stands once, is not empty and is written in plain.
- A value is percent-decoded UTF-8 without control characters. A plus is refused, because it is a space to
  some; so is a semicolon, which separates to some.
- An empty query is the same as none.
"""

import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

MAX_QUERY_CHARS = 4096

_PAIR = re.compile(r"([A-Za-z0-9_.-]{1,64})=((?:[A-Za-z0-9._~!$'()*,/:@?-]|%[0-9A-Fa-f]{2})*)")


def read_query(query: str) -> Mapping[str, str] | None:
    """Return the parameters of a query, or None where two servers could read it in two ways."""
    if len(query) > MAX_QUERY_CHARS:
        return None
    found: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        parts = _PAIR.fullmatch(pair)
        if parts is None or parts[1] in found:
            return None
        try:
            value = unquote_to_bytes(parts[2]).decode()
        except UnicodeDecodeError:
            return None
        if not value.isprintable():
            return None
        found[parts[1]] = value
    return found
