"""Sets of scopes, as OAuth writes them (RFC 6749 section 3.3).

- A scope is compared as a whole; no prefix is guessed and no order matters (NR-01).
- The text is the sorted tokens with one space between; reading it back gives the same set.
"""

import re
from typing import Final

from identity.errors import IdentityError

MAX_SCOPES: Final = 64

_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,128}")


class ScopeError(IdentityError):
    """Not a list of scopes that we accept."""


def parse_scopes(text: str) -> frozenset[str]:
    """Read scopes; each once, at least one.

    Raises:
        ScopeError: if a scope is malformed or stands twice, or there are none or too many.
    """
    tokens = text.split(" ")
    scopes = frozenset(tokens)
    if len(tokens) > MAX_SCOPES or len(scopes) != len(tokens):
        raise ScopeError(f"more than {MAX_SCOPES} scopes, or one that stands twice")
    if not all(_SCOPE.fullmatch(scope) for scope in scopes):
        raise ScopeError(f"not a list of scopes: {text[:128]!r}")
    return scopes


def format_scopes(scopes: frozenset[str]) -> str:
    """Return the text of some scopes."""
    return " ".join(sorted(scopes))
