"""A request as the shell read it: bytes and the few header values that count, nothing parsed.

- The shell reads no more of a body than is allowed, and says so instead of answering: the refusal is recorded
  like any other.
- A header that must stand once and stands twice has no value.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from authz.broker.refusal import malformed, refuse
from authz.codes import Code
from identity.quick_init import quick_init

MAX_BODY: Final = 64 * 1024

_JSON: Final = re.compile(r"application/json(?:\s*;\s*charset=\"?utf-8\"?)?", re.IGNORECASE)


@quick_init
@dataclass(frozen=True, slots=True)
class Arrival:
    """A request; `chain` is what TLS showed of the client, `body` is None if it was longer than we read."""

    method: str
    source: str
    chain: tuple[bytes, ...] = field(repr=False)
    body: bytes | None = field(repr=False)
    content_type: str | None = None
    has_query: bool = False
    # All values of the header: one that must stand once may stand twice.
    authorization: tuple[str, ...] = field(default=(), repr=False)
    proofs: tuple[str, ...] = field(default=(), repr=False)
    accept: str = ""

    @property
    def has_authorization(self) -> bool:
        """Say whether a login of HTTP came with it."""
        return bool(self.authorization)

    def bounded_body(self) -> bytes:
        """Return the body.

        Raises:
            RefusedError: if it was too long.
        """
        if self.body is None:
            text = f"the body is longer than {MAX_BODY} bytes"
            raise refuse(Code.BODY_TOO_LARGE, text, oauth="invalid_request", description=text)
        return self.body

    def json_body(self) -> bytes:
        """Return a body that is said to be JSON.

        Raises:
            RefusedError: if it is too long, or said to be something else.
        """
        if self.content_type is None or not _JSON.fullmatch(self.content_type):
            raise malformed("the content type is not application/json")
        return self.bounded_body()
