"""A directory of keys: private, of one user, and written by one process at a time.

- Directory 0700, files 0600, both of the user that runs us; anything else is refused and never repaired.
- No link is followed, neither as the directory nor as a file in it.
- A file appears whole or not at all: written beside, synced, renamed, and the directory synced.
- The lock ends with the process, however that ends.
"""

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from identity.errors import KeyMaterialError

Stamp = tuple[int, int, int, int, int, int]

LOCK: Final = "lock"
MAX_FILE: Final = 1 << 20

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
# Not blocking, so that a pipe of a file's name is refused and not waited for.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class KeyDirectory:
    """An open directory: all that follows is about this one, whatever its path comes to mean."""

    def __init__(self, path: Path, handle: int) -> None:
        """Take over a handle that `open` checked."""
        self.path = path
        self._handle = handle
        self._lock: int | None = None

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> Self:
        """Open the directory, or make it.

        Raises:
            KeyMaterialError: with a sentence that says what to do, if it is not ours alone.
        """
        try:
            if create:
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise KeyMaterialError(
                f"cannot open the key directory {str(path)!r}: {error.strerror}"
            ) from error
        try:
            status = os.fstat(handle)
            if status.st_uid != os.geteuid():
                raise KeyMaterialError(
                    f"the key directory {str(path)!r} is another user's: use one of your own"
                )
            if status.st_mode & _OTHERS:
                raise KeyMaterialError(f"the key directory {str(path)!r} is open to others: chmod 700 it")
        except BaseException:
            os.close(handle)
            raise
        return cls(path, handle)

    def lock(self) -> None:
        """Claim the directory for this process.

        Raises:
            KeyMaterialError: if another process has it.
        """
        descriptor = self._open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise KeyMaterialError(
                f"another process uses the keys in {str(self.path)!r}: stop it, or use another data directory"
            ) from error
        self._lock = descriptor

    def names(self) -> frozenset[str]:
        """Return the names of the files."""
        return frozenset(os.listdir(self._handle))  # noqa: PTH208 - of the handle, not of the path

    def read(self, name: str) -> bytes | None:
        """Return a file's bytes, or None if there is none.

        Raises:
            KeyMaterialError: if it is not a private file of ours, or cannot be read.
        """
        try:
            file = os.open(name, _READ, dir_fd=self._handle)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeyMaterialError(f"cannot open {self.named(name)}: {error.strerror}") from error
        try:
            self._check(name, os.fstat(file))
            with os.fdopen(file, "rb", closefd=False) as reader:
                data = reader.read(MAX_FILE + 1)
        except OSError as error:
            raise KeyMaterialError(f"cannot read {self.named(name)}: {error.strerror}") from error
        finally:
            os.close(file)
        if len(data) > MAX_FILE:
            raise KeyMaterialError(f"{self.named(name)} is longer than {MAX_FILE} bytes")
        return data

    def stamp(self, name: str) -> Stamp | None:
        """Return what changes when somebody replaces a file or the directory, None where there is no file.

        Raises:
            KeyMaterialError: if that cannot be said.
        """
        try:
            status = os.stat(name, dir_fd=self._handle, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeyMaterialError(f"cannot open {self.named(name)}: {error.strerror}") from error
        place = os.fstat(self._handle)
        return (
            place.st_dev,
            place.st_ino,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )

    def write(self, name: str, data: bytes) -> None:
        """Put a file in place, whole, also in the place of an older one.

        Raises:
            KeyMaterialError: if it cannot be written; what was there is then untouched.
        """
        beside = f".{name}.{os.getpid()}.{os.urandom(8).hex()}"
        file = self._open(beside, _NEW)
        try:
            with os.fdopen(file, "wb") as writer:
                writer.write(data)
                writer.flush()
                os.fsync(writer.fileno())
            os.rename(beside, name, src_dir_fd=self._handle, dst_dir_fd=self._handle)
            os.fsync(self._handle)
        except OSError as error:
            with suppress(OSError):
                os.unlink(beside, dir_fd=self._handle)
            raise KeyMaterialError(f"cannot write {self.named(name)}: {error.strerror}") from error

    def remove(self, name: str) -> None:
        """Remove a file, if it is there.

        Raises:
            KeyMaterialError: if it cannot be removed.
        """
        try:
            os.unlink(name, dir_fd=self._handle)
            os.fsync(self._handle)
        except FileNotFoundError:
            return
        except OSError as error:
            raise KeyMaterialError(f"cannot remove {self.named(name)}: {error.strerror}") from error

    def close(self) -> None:
        """Let go of the directory and of the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        os.close(self._handle)

    def named(self, name: str) -> str:
        """Return a file's name as a sentence names it."""
        return f"the key file {str(self.path / name)!r}"

    def _open(self, name: str, flags: int) -> int:
        try:
            return os.open(name, flags, 0o600, dir_fd=self._handle)
        except OSError as error:
            raise KeyMaterialError(f"cannot write {self.named(name)}: {error.strerror}") from error

    def _check(self, name: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise KeyMaterialError(
                f"{self.named(name)} is not a file of the user that runs this: move it away"
            )
        if status.st_mode & _OTHERS:
            raise KeyMaterialError(
                f"{self.named(name)} is open to others: chmod 600 it, and revoke the key in it"
            )
