"""The secret that goes with pushed security events, in a file of its own.

- The file has mode 0600 and is ours; it holds one bearer token (RFC 6750 section 2.1), and a line break at
  most.
- What it holds is in no message and no `repr`.
"""

import hmac
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from authz.errors import ConfigError, StoreError
from authz.store.private import open_private

MIN_SECRET: Final = 16
MAX_SECRET: Final = 4096

_TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
_SCHEME: Final = "bearer "


@dataclass(frozen=True, slots=True)
class EventSecret:
    """A bearer token that both sides know."""

    _token: str = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the secret from its file.

        Raises:
            ConfigError: if the file cannot be read, others could read it, or it holds something else.
        """
        try:
            descriptor = open_private(path, os.O_RDONLY)
            with os.fdopen(descriptor, "rb") as file:
                data = file.read(MAX_SECRET + 2)
        except StoreError as error:
            raise ConfigError(str(error)) from error
        except OSError as error:
            raise ConfigError(f"the secret {str(path)!r} cannot be read: {error.strerror}") from error
        token = data.removesuffix(b"\n")
        if not MIN_SECRET <= len(token) <= MAX_SECRET or not _TOKEN.fullmatch(token):
            raise ConfigError(f"{str(path)!r} is not one bearer token of {MIN_SECRET} to {MAX_SECRET} bytes")
        return cls(token.decode("ascii"))

    def is_in(self, unverified_authorization: tuple[str, ...]) -> bool:
        """Say whether the one Authorization header holds it; the time that takes says nothing about it."""
        header = unverified_authorization[0] if len(unverified_authorization) == 1 else ""
        if header[: len(_SCHEME)].lower() != _SCHEME:
            return False
        return hmac.compare_digest(header[len(_SCHEME) :].encode("utf-8", "replace"), self._token.encode())

    def reveal_header(self) -> str:
        """Return the Authorization header that holds it."""
        return f"Bearer {self._token}"
