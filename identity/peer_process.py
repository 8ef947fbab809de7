"""Which process is at the other end of a Unix socket, as far as the kernel can say for sure.

- Its user, group and number are those of the moment when it connected (`SO_PEERCRED`); it cannot choose them.
- The number is held by a pidfd: the socket's own (`SO_PEERPIDFD`, Linux 6.5), else one that is opened at
  once. Where the kernel has neither, the start time alone tells that the number was not given to another.
- Around every use: the process lives (or started when it did), and runs the file that it ran when it
  connected. If not, or if we cannot see it at all (a process of another pid namespace has number 0),
  `AttestationError`: then nothing is issued. A caller that replaced its program connects again.
- The executable is hashed through /proc/<pid>/exe, which is the file that runs and not the one that lies at
  its path now; once a connection, in a thread, and only of users whose hash somebody asks for, one program of
  a user at a time: nobody waits for what a stranger runs. What we may not read has no hash. The hash tells
  programs of one user apart; against that user itself it is no boundary, so it is never enough alone.
"""

import asyncio
import contextlib
import errno
import os
import select
import socket
import struct
from collections.abc import Container
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, overload
from weakref import WeakValueDictionary

from identity.entitlement import Peer
from identity.errors import AttestationError
from identity.executable import ExecutableReading

# linux/socket.h; Python 3.11 has no name for it.
_SO_PEERPIDFD: Final = 77
_CREDENTIALS: Final = struct.Struct("iII")
_PIECE: Final = 1024 * 1024
# Two, whoever asks: hashing is work that a caller can order, seconds of it for a large file.
_READERS: Final = ThreadPoolExecutor(2, thread_name_prefix="executable")
# One of each user is in the queue of the readers, so that no user's crowd stands before another's program.
_TURNS: Final[WeakValueDictionary[int, asyncio.Lock]] = WeakValueDictionary()

File = tuple[int, int]
"""A file, as device and inode."""


class Socket(Protocol):
    """What we ask of a connected socket."""

    @overload
    def getsockopt(self, level: int, option: int, /) -> int: ...

    @overload
    def getsockopt(self, level: int, option: int, length: int, /) -> bytes: ...


class PeerProcess:
    """A process that connected to one of our sockets."""

    def __init__(
        self, pid: int, uid: int, gid: int, *, pidfd: int | None, with_executable: bool = False
    ) -> None:
        """Note what there is now, to see later whether it changed.

        Raises:
            AttestationError: if the process is gone.
        """
        self.pid, self.uid, self.gid = pid, uid, gid
        self._pidfd = pidfd
        self._with_executable = with_executable
        self._is_closed = False
        self._is_read = False
        self._sha256: str | None = None
        self._start = _start_time(pid) if pidfd is None else None
        self._file = _running_file(pid)
        self.check()

    @classmethod
    def attest(cls, connection: Socket, *, hashed: Container[int] = ()) -> "PeerProcess":
        """Say who connected; `hashed` are the users whose executables are asked for.

        Raises:
            AttestationError: if that cannot be said, or the process is gone.
        """
        try:
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError as error:
            raise AttestationError("a caller without credentials") from error
        pid, uid, gid = _CREDENTIALS.unpack(credentials)
        if pid <= 0:
            raise AttestationError("a caller in a pid namespace that we cannot see")
        pidfd = _pidfd(connection, pid)
        try:
            return cls(pid, uid, gid, pidfd=pidfd, with_executable=uid in hashed)
        except AttestationError:
            if pidfd is not None:
                os.close(pidfd)
            raise

    def check(self) -> None:
        """See that it still is the process that connected.

        Raises:
            AttestationError: if it is gone, or runs something else.
        """
        if self._is_closed:
            raise AttestationError("a caller whose connection is over")
        file = _running_file(self.pid)
        # 1. Whose file was it? While the pidfd's process lives, nobody else has its number.
        if self._pidfd is None:
            if _start_time(self.pid) != self._start:
                raise AttestationError(f"a caller whose number is another's now: pid {self.pid}")
        elif _has_ended(self._pidfd):
            raise AttestationError(f"a caller that is gone: pid {self.pid}")
        # 2. Is it the file of when it connected?
        if file != self._file:
            raise AttestationError(f"a caller that runs another program now: pid {self.pid}")

    def peer(self) -> Peer:
        """Return who it is, checked now; with the hash of what it runs, once that was read.

        Raises:
            AttestationError: if it is gone, or runs something else.
        """
        self.check()
        return Peer(self.pid, self.uid, self.gid, self._sha256)

    async def read_executable(self) -> None:
        """Hash what it runs, once, and only where somebody asks for it.

        Raises:
            AttestationError: if it is gone, or runs something else.
        """
        if not self._with_executable:
            return
        turn = _TURNS.setdefault(self.uid, asyncio.Lock())
        async with turn:
            if not self._is_read:
                loop = asyncio.get_running_loop()
                self._sha256 = await loop.run_in_executor(_READERS, _hash_running_file, self.pid, self._file)
                # It was the program of this very process, and not of one that has its number since.
                self.check()
                self._is_read = True

    def close(self) -> None:
        """Let go of the process; nothing is said of it from now on."""
        self._is_closed = True
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            os.close(pidfd)


def _pidfd(connection: Socket, pid: int) -> int | None:
    try:
        held = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise AttestationError(f"a caller that is gone: pid {pid}") from error
    else:
        return held
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError as error:
        raise AttestationError(f"a caller that is gone: pid {pid}") from error
    except OSError as error:
        if error.errno in {errno.ENOSYS, errno.EPERM}:
            return None
        raise AttestationError(f"a caller that cannot be held: pid {pid}") from error


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot (proc(5), field 22 of stat)."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123  # once a use: no Path
            # The name of the program stands in brackets and may hold spaces and brackets itself.
            fields = file.read(4096).rpartition(b")")[2].split()
        state, start = fields[0], int(fields[19])
    except (OSError, ValueError, IndexError) as error:
        raise AttestationError(f"a caller that is gone: pid {pid}") from error
    if state in {b"Z", b"X", b"x"}:
        raise AttestationError(f"a caller that has ended: pid {pid}")
    return start


def _running_file(pid: int) -> File | None:
    try:
        status = os.stat(f"/proc/{pid}/exe")  # noqa: PTH116  # once a use: no Path
    except OSError:
        # Not ours to see (another user's, or a /proc with `hidepid`), or gone, which its holder knows better.
        return None
    return status.st_dev, status.st_ino


def _hash_running_file(pid: int, expected: File | None) -> str | None:
    if expected is None:
        return None
    path = f"/proc/{pid}/exe"
    name = ""
    with contextlib.suppress(OSError):
        name = os.readlink(path)  # noqa: PTH115  # its text, which is no path where the file was removed
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # the magic link, not what it names
            status = os.fstat(file.fileno())
            if (status.st_dev, status.st_ino) != expected:
                raise AttestationError(f"a caller that runs another program now: pid {pid}")
            reading = ExecutableReading(name)
            while not reading.is_over and (piece := file.read(_PIECE)):
                reading.feed(piece)
    except PermissionError:
        return None
    except OSError as error:
        raise AttestationError(f"a caller that is gone: pid {pid}") from error
    return reading.sha256()
