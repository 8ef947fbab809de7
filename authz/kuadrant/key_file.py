"""The key of the signed header, from a file that somebody else keeps: a mounted Secret, most of the time."""

from pathlib import Path
from typing import Final

from authz.errors import ConfigError
from identity.errors import KeyMaterialError
from identity.keys import SigningKey

_MAX_BYTES: Final = 16 << 10


def load_list_key(path: Path) -> SigningKey:
    """Read the key, once.

    Raises:
        ConfigError: if it cannot be read, or is no P-256 private key.
    """
    try:
        with path.open("rb") as file:
            return SigningKey.parse_pem(file.read(_MAX_BYTES))
    except (OSError, KeyMaterialError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"kuadrant.key: {str(path)!r}: {why}") from error
