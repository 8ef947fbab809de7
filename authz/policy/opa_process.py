"""A real OPA, started and stopped by us, for the demo and the tests.

- It listens on a Unix socket in a directory of mode 0700, and on nothing else; it calls nobody.
- Only the process that was started here is signalled.
"""

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from authz.child import stop_child
from authz.errors import ConfigError
from authz.policy.modules import Modules
from authz.policy.opa_bundle import write_bundle

READY_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.02


def find_opa(named: Path | None) -> Path:
    """Return OPA's binary: the one that is named, else the one on PATH.

    Raises:
        ConfigError: if there is none.
    """
    if named is not None:
        if named.is_file():
            return named.resolve()
        raise ConfigError(f"no OPA at {str(named)!r}: 'make opa' builds one into .cache/bin")
    found = shutil.which("opa")
    if found is None:
        raise ConfigError("no OPA here: name one with --opa, or put 'opa' on PATH")
    return Path(found)


@dataclass(frozen=True, slots=True)
class OpaProcess:
    """An OPA that runs."""

    process: subprocess.Popen[bytes]
    socket: Path
    log: Path

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"unix://{self.socket}"

    def stop(self) -> None:
        """End the process; a second call does nothing."""
        stop_child(self.process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_opa(binary: Path, directory: Path, modules: Modules) -> OpaProcess:
    """Start OPA with a policy, in a directory of its own, and wait until it listens.

    Raises:
        ConfigError: if it ends or does not listen in time; the message holds the end of its log.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    write_bundle(modules, directory / "policy")
    path, log = directory / "opa.sock", directory / "opa.log"
    path.unlink(missing_ok=True)
    command = [str(binary), "run", "--server", "--addr", f"unix://{path}", "--log-level", "error"]
    command += ["--skip-version-check", str(directory / "policy")]
    with log.open("ab") as out:
        process = subprocess.Popen(  # noqa: S603  # the operator's binary, no shell
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={"PATH": os.defpath}
        )
    opa = OpaProcess(process, path, log)
    try:
        _wait(opa)
    except BaseException:
        opa.stop()
        raise
    return opa


def _wait(opa: OpaProcess) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not _answers(opa.socket):
        if opa.process.poll() is not None or time.monotonic() > deadline:
            end = opa.log.read_bytes()[-1000:].decode("utf-8", "replace").strip()
            raise ConfigError(f"OPA is not ready: {end}")
        time.sleep(_POLL_SECONDS)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
