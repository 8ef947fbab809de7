"""Where a server listens or is reached.

- `unix:///absolute/path` or `host:port`; nothing else, so that a typing error never opens a wider door.
- A path fits into `sun_path` (107 bytes on Linux); the kernel's own message would not say so.
- An IPv6 address stands in brackets, as in a URL.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_address

from authz.errors import ConfigError

_UNIX = "unix://"
_MAX_SOCKET_PATH = 107
_HOST_PORT = re.compile(
    r"(?:\[([0-9a-fA-F:.]{2,45})\]|([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)):([0-9]{1,5})"
)


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket."""

    path: str

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and a port; port 0 lets the kernel choose."""

    host: str
    port: int

    @property
    def is_ip(self) -> bool:
        """Tell whether the host is an address, not a name."""
        try:
            ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def is_loopback(self) -> bool:
        """Tell whether only this machine can reach it; a name may resolve to anything, so it is not."""
        return self.is_ip and ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Address = UnixAddress | TcpAddress


def parse_address(text: str) -> Address:
    """Read an address.

    Raises:
        ConfigError: if the text is neither `unix:///absolute/path` nor `host:port`.
    """
    if text.startswith(_UNIX):
        return _unix(text)
    match = _HOST_PORT.fullmatch(text)
    if match is None or int(match[4]) > 65535:
        raise ConfigError(f"not an address: {text[:300]!r}; write 'host:port' or 'unix:///absolute/path'")
    if match[1] is not None:
        return _ipv6(match[1], int(match[4]), text)
    return TcpAddress(match[2], int(match[4]))


def _unix(text: str) -> UnixAddress:
    path = text.removeprefix(_UNIX)
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise ConfigError(f"not the absolute path of a socket: {text[:300]!r}")
    if len(path.encode("utf-8", "surrogateescape")) > _MAX_SOCKET_PATH:
        raise ConfigError(f"socket path longer than {_MAX_SOCKET_PATH} bytes: {path[:300]!r}")
    return UnixAddress(path)


def _ipv6(host: str, port: int, text: str) -> TcpAddress:
    address = TcpAddress(host, port)
    if not address.is_ip or ":" not in host:
        raise ConfigError(f"not an IPv6 address in brackets: {text[:300]!r}")
    return address
