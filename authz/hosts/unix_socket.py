"""A Unix socket that only the right users can reach.

- The directory decides: 0700 is this user only, 0750 also its group; anything wider is refused, because who
  may write there can put another socket in the place of ours.
- The socket is born with its mode; a `chmod` afterwards would leave a moment in between.
- A socket on which somebody answers is not taken over; gRPC would unlink it without a word.
"""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from authz.address import UnixAddress
from authz.errors import ConfigError

_FORBIDDEN = stat.S_IWGRP | stat.S_IRWXO


def prepare_socket(address: UnixAddress) -> None:
    """Make the directory of a socket, or check it.

    Raises:
        ConfigError: if others could reach or replace the socket, or if it is in use.
    """
    directory = Path(address.path).parent
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        status = directory.stat()
    except OSError as error:
        raise ConfigError(f"cannot use directory {str(directory)!r}: {error.strerror}") from error
    if status.st_uid != os.geteuid() or status.st_mode & _FORBIDDEN:
        raise ConfigError(
            f"directory {str(directory)!r} is open to others; make it your own with mode 0700 (or 0750)"
        )
    if _answers(address):
        raise ConfigError(f"somebody listens on {address.path!r} already")


@contextmanager
def private_umask() -> Iterator[None]:
    """Let the sockets made inside be 0660: the group counts where the directory lets it in."""
    before = os.umask(0o117)
    try:
        yield
    finally:
        os.umask(before)


def _answers(address: UnixAddress) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(address.path)
        except OSError:
            return False
        return True
