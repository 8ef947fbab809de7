"""Who is at the other end of a socket: alive, unchanged and by what runs, or nobody."""

import asyncio
import errno
import hashlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import overload

import pytest

from identity import peer_process
from identity.entitlement import Peer
from identity.errors import AttestationError
from identity.peer_process import File, PeerProcess

SLEEP = Path(os.path.realpath(shutil.which("sleep") or "/bin/sleep"))
# Connects, says so, and goes on as its argument says.
CONNECT = (
    "import os, socket, sys, time\n"
    "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.set_inheritable(True)\n"
    "print('connected', flush=True); sys.stdin.readline()\n"
    "exec(sys.argv[2]); print('done', flush=True); time.sleep(60)"
)


def eventually(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it never came true")


@contextmanager
def running(*command: str | Path, **more: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **more},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def connected(
    path: Path, then: str = "", python: str | Path = sys.executable, **more: str
) -> Iterator[tuple[subprocess.Popen[str], socket.socket]]:
    """Start a process that connects, and return both ends."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(10)
        with running(python, "-S", "-c", CONNECT, path, then, **more) as process:
            accepted, _ = listener.accept()
            with accepted:
                assert process.stdout is not None
                assert process.stdout.readline() == "connected\n"
                yield process, accepted


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def executable_of(pid: int) -> str | None:
    """Hash what a process runs, as an attested caller."""
    held = PeerProcess(pid, os.getuid(), os.getgid(), pidfd=os.pidfd_open(pid), with_executable=True)
    try:
        asyncio.run(held.read_executable())
        return held.peer().executable_sha256
    finally:
        held.close()


def started(process: subprocess.Popen[str], path: Path) -> None:
    """Wait until a process runs its own program and no more the one that started it."""
    eventually(lambda: str(Path(f"/proc/{process.pid}/exe").readlink()).startswith(str(path)))


class OldKernel:
    """A socket of a kernel that has no SO_PEERPIDFD, or of a caller that we cannot see."""

    def __init__(self, pid: int, error: int = errno.ENOPROTOOPT) -> None:
        self.pid = pid
        self.error = error

    @overload
    def getsockopt(self, level: int, option: int, /) -> int: ...

    @overload
    def getsockopt(self, level: int, option: int, length: int, /) -> bytes: ...

    def getsockopt(self, level: int, option: int, length: int = 0, /) -> int | bytes:
        if option == socket.SO_PEERCRED:
            return struct.pack("iII", self.pid, os.getuid(), os.getgid())
        raise OSError(self.error, "no such option")


def test_the_kernel_says_who_connected(tmp_path: Path) -> None:
    with connected(tmp_path / "s") as (process, accepted):
        held = PeerProcess.attest(accepted)
        assert held.peer() == Peer(process.pid, os.getuid(), os.getgid())
        held.close()


def test_who_is_gone_is_not_attested(tmp_path: Path) -> None:
    with connected(tmp_path / "s") as (process, accepted):
        held = PeerProcess.attest(accepted)
        process.kill()
        # Not waited for: a zombie still has its number, and its row in /proc.
        eventually(lambda: Path(f"/proc/{process.pid}/stat").read_text().split(")")[-1].split()[0] == "Z")
        with pytest.raises(AttestationError, match="gone"):
            held.peer()
        process.wait()
        with pytest.raises(AttestationError, match="gone"):
            held.check()
        with pytest.raises(AttestationError):
            PeerProcess.attest(accepted)
        held.close()


def test_who_runs_another_program_now_is_not_attested(tmp_path: Path) -> None:
    """An attacker connects, keeps the socket in a child, and becomes the program that is trusted."""
    become = f"os.execv({str(SLEEP)!r}, ['sleep', '60'])"
    with connected(tmp_path / "s", become) as (process, accepted):
        held = PeerProcess.attest(accepted, hashed={os.getuid()})
        go_on(process)
        started(process, SLEEP)
        with pytest.raises(AttestationError, match="another program"):
            held.peer()
        with pytest.raises(AttestationError, match="another program"):
            asyncio.run(held.read_executable())
        held.close()


def test_a_number_that_was_given_to_another_is_noticed() -> None:
    with running(SLEEP, "60") as process:
        held = PeerProcess(process.pid, 0, 0, pidfd=None)
        assert held._start is not None
        held._start -= 1
        with pytest.raises(AttestationError, match="another's"):
            held.peer()


@pytest.mark.parametrize("pidfd", [True, False])
def test_an_older_kernel_is_enough(monkeypatch: pytest.MonkeyPatch, pidfd: bool) -> None:
    """Without SO_PEERPIDFD the pidfd is opened; without pidfds the start time alone holds the process."""

    def without(pid: int) -> int:
        raise OSError(errno.ENOSYS, "no pidfd")

    if not pidfd:
        monkeypatch.setattr(os, "pidfd_open", without)
    with running(SLEEP, "60") as process:
        held = PeerProcess.attest(OldKernel(process.pid))
        assert held.peer().pid == process.pid
        process.kill()
        process.wait()
        with pytest.raises(AttestationError):
            held.peer()
        held.close()


@pytest.mark.parametrize(
    "caller",
    [OldKernel(0), OldKernel(-1), OldKernel(2**22 + 1), OldKernel(os.getpid(), errno.ESRCH)],
    ids=["another pid namespace", "no number", "nobody", "gone before we asked"],
)
def test_who_cannot_be_seen_is_not_attested(caller: OldKernel) -> None:
    with pytest.raises(AttestationError):
        PeerProcess.attest(caller)


def test_a_socket_without_credentials_is_not_attested() -> None:
    with socket.socket(socket.AF_UNIX) as alone, pytest.raises(AttestationError):
        PeerProcess.attest(alone)


def test_after_the_connection_nobody_is_attested() -> None:
    held = PeerProcess.attest(OldKernel(os.getpid()))
    held.close()
    held.close()
    with pytest.raises(AttestationError, match="over"):
        held.peer()


def test_no_file_is_left_open() -> None:
    before = open_files()
    for _ in range(20):
        PeerProcess.attest(OldKernel(os.getpid())).close()
        with pytest.raises(AttestationError):
            PeerProcess.attest(OldKernel(2**22 + 1))
    assert open_files() == before


def test_an_executable_is_hashed_by_what_runs() -> None:
    with running(SLEEP, "60") as process:
        started(process, SLEEP)
        assert executable_of(process.pid) == hashlib.sha256(SLEEP.read_bytes()).hexdigest()


def test_an_executable_is_not_hashed_where_no_selector_asks_for_it() -> None:
    with running(SLEEP, "60") as process:
        started(process, SLEEP)
        held = PeerProcess(process.pid, 0, 0, pidfd=None)
        asyncio.run(held.read_executable())
        assert held.peer().executable_sha256 is None


def test_the_executable_of_a_user_whom_nobody_registered_is_not_read(tmp_path: Path) -> None:
    """Whoever reaches the shared socket could order seconds of reading with each connection."""
    with connected(tmp_path / "s", "import time; time.sleep(60)") as (_, accepted):
        held = PeerProcess.attest(accepted, hashed={os.getuid() + 1})
        asyncio.run(held.read_executable())
        assert not held._is_read
        held.close()


def test_a_crowd_of_large_executables_of_one_user_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two readers serve everybody; one user with many connections had both, and all others waited."""
    go_on = threading.Event()

    def read(_: int, file: File | None) -> str | None:
        assert file is not None
        if file[1]:
            go_on.wait(30)
        return "00" * 32

    def held(uid: int) -> PeerProcess:
        made = PeerProcess(os.getpid(), uid, uid, pidfd=None, with_executable=True)
        monkeypatch.setattr(made, "check", lambda: None)
        made._file = (0, uid)
        return made

    async def main() -> None:
        crowd = [asyncio.create_task(held(1).read_executable()) for _ in range(10)]
        await asyncio.sleep(0)
        other = held(0)
        try:
            async with asyncio.timeout(20):
                await other.read_executable()
        finally:
            go_on.set()
        assert other._is_read
        await asyncio.gather(*crowd)

    monkeypatch.setattr(peer_process, "_hash_running_file", read)
    asyncio.run(main())


def test_a_running_executable_whose_file_was_replaced_is_hashed_by_what_runs(tmp_path: Path) -> None:
    """An attacker who may write the directory lays the trusted file at the path of their own."""
    mine = tmp_path / "mine"
    mine.write_bytes(SLEEP.read_bytes() + b"not the trusted one")
    mine.chmod(0o700)
    with running(mine, "60") as process:
        started(process, mine)
        mine.unlink()
        shutil.copy(SLEEP, mine)
        assert (
            executable_of(process.pid)
            == hashlib.sha256(SLEEP.read_bytes() + b"not the trusted one").hexdigest()
        )


def test_a_renamed_executable_of_an_interpreter_has_no_hash(tmp_path: Path) -> None:
    """A copy of the interpreter with the name of an agent is still the interpreter."""
    renamed = tmp_path / "agent"
    shutil.copy(os.path.realpath(sys.executable), renamed)
    with connected(tmp_path / "s", python=renamed, PYTHONHOME=sys.base_prefix) as (process, accepted):
        held = PeerProcess.attest(accepted, hashed={os.getuid()})
        assert str(Path(f"/proc/{process.pid}/exe").readlink()) == str(renamed)
        asyncio.run(held.read_executable())
        assert held.peer() == Peer(process.pid, os.getuid(), os.getgid(), None)
        held.close()


@pytest.mark.parametrize("name", ["sh", "bash", "perl", "node"])
def test_a_renamed_executable_of_this_machine_has_no_hash(tmp_path: Path, name: str) -> None:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here")
    renamed = tmp_path / "agent"
    shutil.copy(os.path.realpath(found), renamed)
    with running(renamed) as process:  # it reads its program from standard input
        started(process, renamed)
        assert executable_of(process.pid) is None


def test_an_executable_that_we_may_not_read_has_no_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: str) -> os.stat_result:
        raise PermissionError(errno.EACCES, "not yours", path)

    held = PeerProcess(os.getpid(), 0, 0, pidfd=None, with_executable=True)
    monkeypatch.setattr(os, "stat", forbidden)
    with pytest.raises(AttestationError, match="another program"):
        held.check()
    unseen = PeerProcess(os.getpid(), 0, 0, pidfd=None, with_executable=True)
    asyncio.run(unseen.read_executable())
    assert unseen.peer().executable_sha256 is None


def test_a_proc_that_hides_others_is_enough_with_a_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `hidepid`, /proc/<pid> of another user is not there."""

    def hidden(path: str) -> os.stat_result:
        raise FileNotFoundError(errno.ENOENT, "not for you", path)

    monkeypatch.setattr(os, "stat", hidden)
    with running(SLEEP, "60") as process:
        held = PeerProcess.attest(OldKernel(process.pid), hashed={os.getuid()})
        asyncio.run(held.read_executable())
        assert held.peer().executable_sha256 is None
        process.kill()
        process.wait()
        with pytest.raises(AttestationError, match="gone"):
            held.peer()
        held.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_the_user_that_connected_counts_and_not_the_one_before(tmp_path: Path) -> None:
    program = (
        "import os, socket, sys; os.setgroups([]); os.setgid(12345); os.setuid(54321);"
        f"s = socket.socket(socket.AF_UNIX); s.connect('\\0' + {str(tmp_path)!r}); sys.stdin.readline()"
    )
    with socket.socket(socket.AF_UNIX) as listener:
        # Somewhere that the other user may reach.
        listener.bind(f"\0{tmp_path}")
        listener.listen()
        listener.settimeout(10)
        with running(sys.executable, "-S", "-c", program) as process:
            accepted, _ = listener.accept()
            with accepted:
                held = PeerProcess.attest(accepted)
                assert held.peer() == Peer(process.pid, 54321, 12345)
                held.close()


def test_a_program_whose_name_holds_brackets_is_read_right(tmp_path: Path) -> None:
    """/proc/<pid>/stat holds the name in brackets, which may hold brackets and spaces itself."""
    strange = tmp_path / ") R 1 1 (x"
    shutil.copy(SLEEP, strange)
    with running(strange, "60") as process:
        started(process, strange)
        held = PeerProcess(process.pid, 0, 0, pidfd=None)
        held.check()
        process.send_signal(signal.SIGKILL)
        process.wait()
        with pytest.raises(AttestationError):
            held.check()
