"""How far each receiver of security events was told, over a start."""

import hashlib
import re
from pathlib import Path
from typing import Final, Protocol

from authz.broker.event_signal import Lane
from authz.errors import StoreError
from authz.store.whole_file import read_whole, replace_whole

DIRECTORY: Final = "events"

_NUMBER: Final = re.compile(rb"[0-9]{1,19}\n")
_MAX_BYTES: Final = 32


class Cursor(Protocol):
    """The number of the last withdrawal that one receiver was told of; both methods may block for a disk."""

    def load(self) -> int:
        """Return the number; 0, if there is none.

        Raises:
            StoreError: if that cannot be known.
        """

    def store(self, number: int) -> None:
        """Keep the number.

        Raises:
            StoreError: if it cannot be kept.
        """


class FileCursor:
    """A file for each receiver and lane; another address or audience is another receiver."""

    def __init__(self, data_dir: Path, url: str, audience: str, lane: Lane = "people") -> None:
        """Name the file; nothing is read or written yet."""
        name = hashlib.sha256(f"{url}\n{audience}".encode()).hexdigest()[:32]
        # The names of the first lane are older than the other one.
        self._path = data_dir / DIRECTORY / (f"{name}.sent" if lane == "people" else f"{name}.{lane}.sent")

    def load(self) -> int:
        """Return the number."""
        data = read_whole(self._path, _MAX_BYTES)
        if data is None:
            return 0
        if not _NUMBER.fullmatch(data):
            raise StoreError(f"{str(self._path)!r} is damaged: delete it, and the receiver is told all again")
        return int(data)

    def store(self, number: int) -> None:
        """Keep the number."""
        replace_whole(self._path, b"%d\n" % number)
