"""A file that another process of the same user replaces now and then, read again when it changed.

- What was read last stays until something newer could be read **whole**: a file that is damaged, half written
  or gone changes nothing but how long ago the last good reading was.
- A change is seen by the file's stamp (inode, size, times). Clocks of file systems are coarse, so once a
  second the bytes are read whatever the stamp says.
- The directory is opened by its path each time: one that was put in its place is the one that counts.
- How old a reading is, is counted from before it began, on a clock that also runs while the machine sleeps.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from time import CLOCK_BOOTTIME, clock_gettime
from typing import Final, Generic, TypeVar

from identity.errors import IdentityError, KeyMaterialError
from identity.key_directory import KeyDirectory, Stamp

READ_ALWAYS_SECONDS: Final = 1.0

T = TypeVar("T")
Boottime = Callable[[], float]


def boottime() -> float:
    """Return the seconds since the machine started, also those that it slept; alike in all containers."""
    return clock_gettime(CLOCK_BOOTTIME) - _shift()


@cache
def _shift() -> float:
    """Return by how much our time namespace shifts the clock: others compare their times with ours."""
    try:
        lines = Path("/proc/self/timens_offsets").read_text("ascii").splitlines()
    except OSError:  # a kernel without time namespaces
        return 0.0
    found = [line.split() for line in lines if line.startswith("boottime")]
    return sum(int(seconds) + int(nanoseconds) / 1e9 for _, seconds, nanoseconds in found)


class FollowedFile(Generic[T]):
    """One file of a directory of keys, and what `parse` last made of it; None stands for no file."""

    def __init__(
        self,
        path: Path,
        name: str,
        parse: Callable[[KeyDirectory, bytes | None], T],
        clock: Boottime = boottime,
    ) -> None:
        """Follow a file; `poll` reads it first."""
        self._path, self._name, self._parse, self._clock = path, name, parse, clock
        self._value: T | None = None
        self._digest: bytes | None = None
        self._stamp: Stamp | None = None
        self._bytes_at = float("-inf")
        self._read_at = float("-inf")

    @property
    def value(self) -> T:
        """What was read last.

        Raises:
            KeyMaterialError: if nothing was read yet.
        """
        if self._value is None:
            raise KeyMaterialError(f"the file {str(self._path / self._name)!r} was not read yet")
        return self._value

    @property
    def age(self) -> float:
        """How many seconds ago the last good reading began."""
        return self._clock() - self._read_at

    def poll(self) -> bool:
        """Look at the file, read it where it changed, and say whether it holds something new.

        Raises:
            IdentityError: if it cannot be read, or `parse` refuses it; what was read before still stands.
        """
        began = self._clock()
        directory = KeyDirectory.open(self._path, create=False)
        try:
            stamp = directory.stamp(self._name)
            if stamp == self._stamp and began - self._bytes_at < READ_ALWAYS_SECONDS:
                self._read_at = began
                return False
            changed = self._read(directory)
        finally:
            directory.close()
        self._stamp, self._bytes_at, self._read_at = stamp, began, began
        return changed

    def _read(self, directory: KeyDirectory) -> bool:
        data = directory.read(self._name)
        digest = hashlib.sha256(b"" if data is None else b"=" + data).digest()
        if digest == self._digest:
            return False
        try:
            value = self._parse(directory, data)
        except IdentityError:
            # Not remembered by its stamp: the next look reads it again, for the rest may be written by then.
            self._stamp = None
            raise
        self._value, self._digest = value, digest
        return True
