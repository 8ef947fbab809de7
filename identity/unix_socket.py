"""A Unix socket that only the right users can reach.

- The directory decides who can put another socket in the place of ours: it is our own, and nobody else may
  write there. Who may connect is the mode of the socket; where that is not everybody, the directory is closed
  to others as well (0700 is this user only, 0750 also its group).
- The socket is born with its mode, or with a narrower one; a `chmod` that narrows would leave a moment in
  between.
- A socket on which somebody answers is not taken over, nor one whose owner is only too busy to answer.
"""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from identity.errors import SocketError

# `sun_path` on Linux, without the final zero; the kernel's own message would not say so.
MAX_PATH: Final = 107
PRIVATE: Final = 0o600
GROUP: Final = 0o660
EVERYONE: Final = 0o666

_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_REACHED_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IRWXO


def prepare_socket(path: str | Path, mode: int = GROUP) -> None:
    """Make the directory of a socket, or check it.

    Raises:
        SocketError: if others could reach or replace the socket, or if it is in use.
    """
    directory = Path(path).parent
    if len(os.fsencode(path)) > MAX_PATH:
        raise SocketError(f"a socket path longer than {MAX_PATH} bytes: {str(path)!r}")
    try:
        _make(directory, for_everyone=bool(mode & stat.S_IRWXO))
        status = directory.stat()
    except OSError as error:
        raise SocketError(f"cannot use directory {str(directory)!r}: {error.strerror}") from error
    forbidden = _WRITABLE_BY_OTHERS if mode & stat.S_IRWXO else _REACHED_BY_OTHERS
    if status.st_uid != os.geteuid() or status.st_mode & forbidden:
        raise SocketError(
            f"directory {str(directory)!r} is open to others; make it your own with mode 0700 (or 0750)"
        )
    if _answers(str(path)):
        raise SocketError(f"somebody listens on {str(path)!r} already")


def _make(directory: Path, *, for_everyone: bool) -> None:
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        return
    if for_everyone:
        directory.chmod(0o755)  # whatever the umask: a socket for everyone is of no use behind a closed door


@contextmanager
def private_umask() -> Iterator[None]:
    """Let the sockets made inside be 0660: the group counts where the directory lets it in."""
    before = os.umask(0o117)
    try:
        yield
    finally:
        os.umask(before)


def bind_socket(path: Path, mode: int = GROUP, gid: int | None = None) -> socket.socket:
    """Make a socket at a path, for the users that its mode and group name.

    Raises:
        SocketError: if others could reach or replace the socket, if it is in use, or cannot be made.
    """
    prepare_socket(path, mode)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _remove_stale(path)
        before = os.umask(0o177)
        try:
            made.bind(str(path))
        finally:
            os.umask(before)
        if gid is not None:
            os.chown(path, -1, gid)
        # It only gets wider, and only after it has its group.
        path.chmod(mode)
    except OSError as error:
        made.close()
        raise SocketError(f"cannot make the socket {str(path)!r}: {error.strerror}") from error
    return made


def _remove_stale(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(None, "there is something else")
        path.unlink()
    except FileNotFoundError:
        return


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError as error:
            # A full queue of callers (EAGAIN), or no right to ask: somebody may well live there. What is not
            # a socket at all refuses the connection.
            raise SocketError(f"cannot see whether {path!r} is in use: {error.strerror}") from error
        return True
