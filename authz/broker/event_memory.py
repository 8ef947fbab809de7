"""Which security events had their effect already.

- An event that stops a person is remembered on disk, until it is too old to be accepted at all: whoever kept
  it must not stop the person again after an operator released them, however often we start.
- Any other event does the same each time, so it is remembered in memory only, to spare log and disk.
- Both memories are bounded; what was heard longest ago leaves first. Only verified events come in, so that
  only a transmitter could push out its own.
"""

import json
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Final

from authz.errors import StoreError
from authz.store.whole_file import read_whole, replace_whole
from identity.strict_json import Limits, StrictJsonError, loads

MAX_EVENTS: Final = 10_000
MEMORY_FILE: Final = "events-received.json"

_MAX_BYTES: Final = MAX_EVENTS * 96
_LIMITS: Final = Limits(depth=1, values=2 * MAX_EVENTS + 2, keys=MAX_EVENTS)


class EventMemory:
    """The events of the last days; made by `open`, safe in threads."""

    def __init__(self, path: Path, durable: OrderedDict[str, int], clock: Callable[[], datetime]) -> None:
        self._path = path
        self._clock = clock
        self._durable = durable
        self._passing: OrderedDict[str, None] = OrderedDict()
        self._lock = Lock()

    @classmethod
    def open(cls, directory: Path, clock: Callable[[], datetime]) -> "EventMemory":
        """Read what was remembered before.

        Raises:
            StoreError: if the file cannot be read, or is not one that we wrote.
        """
        path = directory / MEMORY_FILE
        data = read_whole(path, _MAX_BYTES)
        return cls(path, OrderedDict() if data is None else _parse(data, path), clock)

    def is_known(self, key: str) -> bool:
        """Say whether an event had its effect."""
        return key in self._durable or key in self._passing

    def remember(self, key: str, until: int, *, durable: bool) -> None:
        """Remember an event until a second; `durable`, also over a start.

        Raises:
            StoreError: if it cannot be remembered so.
        """
        with self._lock:
            if durable:
                self._durable = self._written(key, until)
                return
            self._passing[key] = None
            while len(self._passing) > MAX_EVENTS:
                self._passing.popitem(last=False)

    def _written(self, key: str, until: int) -> OrderedDict[str, int]:
        seconds = int(self._clock().timestamp())
        kept = OrderedDict((name, end) for name, end in self._durable.items() if end > seconds)
        kept[key] = until
        while len(kept) > MAX_EVENTS:
            kept.popitem(last=False)
        replace_whole(self._path, json.dumps(kept, separators=(",", ":")).encode("ascii"))
        return kept


def _parse(data: bytes, path: Path) -> OrderedDict[str, int]:
    try:
        value = loads(data, _LIMITS)
    except StrictJsonError as error:
        raise StoreError(f"{str(path)!r} is damaged: {error}: delete it") from error
    if not isinstance(value, dict) or not all(isinstance(end, int) for end in value.values()):
        raise StoreError(f"{str(path)!r} is not one that we wrote: delete it")
    return OrderedDict(value)
