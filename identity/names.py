"""Names of agents and of their runs.

- An agent's name is a DNS label in lower case, so that it fits a SPIFFE path, a URL and a metric alike.
- A run is named by a ULID: 48 bits of milliseconds, 80 bits of entropy, 26 characters of Crockford's base 32.
- Time and entropy are arguments.
"""

import re
from datetime import datetime

from identity.errors import AgentNameError

ENTROPY_BYTES = 10

_AGENT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
# The first character holds three bits only: 130 bits of text for 128 of value.
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


def parse_agent_name(text: str) -> str:
    """Read an agent's name.

    Raises:
        AgentNameError: if the name is not a lower-case DNS label.
    """
    if not _AGENT.fullmatch(text):
        raise AgentNameError(f"not an agent name (a-z, 0-9 and '-', at most 63): {text[:80]!r}")
    return text


def parse_ulid(text: str) -> str:
    """Read a ULID in its canonical, upper-case form.

    Raises:
        AgentNameError: if the text is not a canonical ULID.
    """
    if not _ULID.fullmatch(text):
        raise AgentNameError(f"not a ULID: {text[:40]!r}")
    return text


def new_ulid(now: datetime, entropy: bytes) -> str:
    """Make a ULID of a time and ten random bytes.

    Raises:
        ValueError: if the entropy is not ten bytes long.
    """
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"a ULID takes {ENTROPY_BYTES} bytes of entropy, got {len(entropy)}")
    value = int(now.timestamp() * 1000) << 80 | int.from_bytes(entropy)
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -1, -10)])
