"""Where private keys are kept: the port, and its first implementation, files.

- A key is kept before it is used, and named by its `kid`.
- What is destroyed is gone: no store gives it back.
- Each file holds one unencrypted PKCS#8 key, mode 0600, in a directory of mode 0700 (see key_directory).
"""

import re
from typing import Final, Protocol

from identity.errors import KeyMaterialError
from identity.key_directory import KeyDirectory
from identity.keys import SigningKey

_KID: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # the base64url of a SHA-256 (RFC 7638)
_FILE: Final = re.compile(r"key-([A-Za-z0-9_-]{43})\.pem")
# What KeyDirectory writes beside a file before it takes its place.
_UNFINISHED: Final = re.compile(r"\.key-[A-Za-z0-9_-]{43}\.pem\.[0-9]+\.[0-9a-f]{16}")


class KeyStore(Protocol):
    """Keeps private keys; each method may block for a disk or a device."""

    def make(self) -> SigningKey:
        """Make a new P-256 key and keep it.

        Raises:
            KeyMaterialError: if it cannot be kept.
        """

    def load(self, kid: str) -> SigningKey:
        """Return a key that was made here.

        Raises:
            KeyMaterialError: if it is not here, or damaged.
        """

    def destroy(self, kid: str) -> None:
        """Forget a key for good, if it is here.

        Raises:
            KeyMaterialError: if it cannot be destroyed.
        """


class FileKeyStore:
    """Keys in files, one each."""

    def __init__(self, directory: KeyDirectory) -> None:
        """Keep the keys in a directory that is ours alone."""
        self._directory = directory

    def make(self) -> SigningKey:
        """Make a new P-256 key and keep it."""
        key = SigningKey.generate()
        self._directory.write(_file(key.kid), key.reveal_pem())
        return key

    def load(self, kid: str) -> SigningKey:
        """Return a key that was made here."""
        name = _file(kid)
        data = self._directory.read(name)
        if data is None:
            raise KeyMaterialError(f"{self._directory.named(name)} is missing: restore it from a backup")
        try:
            key = SigningKey.parse_pem(data)
        except KeyMaterialError as error:
            raise KeyMaterialError(
                f"{self._directory.named(name)} is damaged ({error}): restore it from a backup"
            ) from None
        if key.kid != kid:
            raise KeyMaterialError(
                f"{self._directory.named(name)} holds another key: restore it from a backup"
            )
        return key

    def destroy(self, kid: str) -> None:
        """Forget a key for good."""
        self._directory.remove(_file(kid))

    def destroy_others(self, known: frozenset[str]) -> None:
        """Forget the keys that a crash left between their making and their first use."""
        names = self._directory.names()
        for kid in sorted({match[1] for match in map(_FILE.fullmatch, names) if match} - known):
            self.destroy(kid)
        for name in filter(_UNFINISHED.fullmatch, names):
            self._directory.remove(name)


def _file(kid: str) -> str:
    if not _KID.fullmatch(kid):
        raise KeyMaterialError(f"not the name of a key of ours: {kid!r}")
    return f"key-{kid}.pem"
