"""What replicas say that they obey, in files, and who waits for it."""

import asyncio
import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from authz.errors import StoreError
from authz.store.barrier import BarrierResult, barrier
from authz.store.leases import DIRECTORY, MAX_BYTES, MAX_FILES, LeaseFiles, parse_lease
from authz.store.port import LEASE_SECONDS, MAX_REPLICAS, Lease, Listed
from authz.store.private import private_directory
from identity.names import new_ulid
from tests.fakes import NOW

IDS = [new_ulid(NOW, n.to_bytes(10)) for n in range(300)]
ONE = Lease(IDS[0], 1, 7, 100.0, "127.0.0.1:9191", "0.1")


@pytest.fixture
def files(tmp_path: Path) -> LeaseFiles:
    made = LeaseFiles(tmp_path, lambda: 101.0)
    made.join()
    return made


def test_what_was_acknowledged_is_listed(files: LeaseFiles, tmp_path: Path) -> None:
    files.acknowledge(ONE)
    files.acknowledge(replace(ONE, epoch=8, boottime=100.5))
    assert files.listed() == Listed((replace(ONE, epoch=8, boottime=100.5),))
    path = tmp_path / DIRECTORY / f"{ONE.replica}.json"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_lease_that_ended_is_not_listed(files: LeaseFiles) -> None:
    files.acknowledge(ONE)
    files.end(ONE.replica)
    files.end(ONE.replica)
    assert files.listed() == Listed(())


def test_no_directory_is_no_replica(tmp_path: Path) -> None:
    assert LeaseFiles(tmp_path).listed() == Listed(())


@pytest.mark.parametrize("name", ["../x", "", "x", "01JD0000000000000000000000/x", IDS[0].lower()])
def test_a_replica_is_named_by_its_ulid(files: LeaseFiles, name: str) -> None:
    with pytest.raises(StoreError, match="not the name"):
        files.acknowledge(replace(ONE, replica=name))


def _too_long(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" " * MAX_BYTES)


def _of_another(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(IDS[0].encode(), IDS[1].encode()))


def _open_to_others(path: Path) -> None:
    path.chmod(0o644)


def _link(path: Path) -> None:
    path.rename(path.with_name("kept"))
    path.symlink_to("kept")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _socket(path: Path) -> None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket has 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)
    path.chmod(0o600)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir(0o700)


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize(
    "harm", [_too_long, _of_another, _open_to_others, _link, _pipe, _socket, _directory, _torn]
)
def test_a_file_that_is_no_lease_of_ours_is_named_and_counts_for_nobody(
    files: LeaseFiles, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    files.acknowledge(ONE)
    files.acknowledge(other := replace(ONE, replica=IDS[2]))
    harm(tmp_path / DIRECTORY / f"{ONE.replica}.json")
    found = files.listed()
    assert found.leases == (other,)
    assert f"{ONE.replica}.json" in found.malformed


GOOD = {"id": IDS[0], "term": 1, "epoch": 7, "boottime": 1.5, "address": "a", "version": "v"}


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": True},
        {"term": "1"},
        {"boottime": None},
        {"boottime": "1"},
        {"epoch": 1.5},
        {"more": 1},
        {"id": 5},
        {"address": []},
    ],
)
def test_other_members_are_no_lease(change: dict[str, object]) -> None:
    with pytest.raises(StoreError):
        parse_lease(json.dumps({**GOOD, **change}).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b'{"boottime": NaN}', b"[" * 1000])
def test_other_bytes_are_no_lease(data: bytes) -> None:
    with pytest.raises(StoreError):
        parse_lease(data)


def test_no_more_replicas_than_there_may_be(files: LeaseFiles) -> None:
    for replica in IDS[:MAX_REPLICAS]:
        files.acknowledge(replace(ONE, replica=replica))
    with pytest.raises(StoreError, match=f"{MAX_REPLICAS} replicas"):
        files.join()


def test_a_flood_of_files_is_not_read_and_is_said(files: LeaseFiles, tmp_path: Path) -> None:
    for replica in IDS[: MAX_FILES + 1]:
        (tmp_path / DIRECTORY / f"{replica}.json").touch(0o600)
    assert files.listed().unread


def test_leases_of_long_ago_are_swept_when_a_replica_joins(tmp_path: Path) -> None:
    seconds = [100.0]
    files = LeaseFiles(tmp_path, lambda: seconds[0])
    files.join()
    for replica in IDS[:MAX_REPLICAS]:
        files.acknowledge(replace(ONE, replica=replica))
    seconds[0] += 3600
    files.join()
    assert files.listed() == Listed(())


def test_leases_of_an_earlier_start_of_the_machine_are_swept(tmp_path: Path) -> None:
    files = LeaseFiles(tmp_path, lambda: 5.0)
    files.join()
    files.acknowledge(ONE)
    files.join()
    assert files.listed() == Listed(())


@pytest.mark.parametrize(
    ("now", "live"), [(99.0, False), (100.0, True), (100.0 + LEASE_SECONDS, False), (104.9, True)]
)
def test_a_lease_lives_from_its_reading_on(now: float, *, live: bool) -> None:
    assert ONE.is_live(now) is live


# ---- the barrier


@dataclass
class Fakes:
    """Leases in memory; each look takes the next of `acts`, and time passes with each."""

    leases: dict[str, Lease] = field(default_factory=dict)
    seconds: float = 100.0
    each: Callable[["Fakes"], None] = lambda _: None
    malformed: tuple[str, ...] = ()
    unread: bool = False
    looks: int = 0

    def acknowledge(self, lease: Lease) -> None:
        self.leases[lease.replica] = lease

    def end(self, replica: str) -> None:
        self.leases.pop(replica, None)

    def listed(self) -> Listed:
        self.looks += 1
        self.each(self)
        return Listed(tuple(self.leases.values()), self.malformed, self.unread)

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def wait(self, epoch: int = 8) -> BarrierResult:
        return asyncio.run(barrier(self, term=1, epoch=epoch, clock=lambda: self.seconds, sleep=self.sleep))

    def add(self, *names: str, **more: object) -> None:
        for name in names:
            self.acknowledge(replace(ONE, replica=name, boottime=self.seconds, **more))  # type: ignore[arg-type]  # real fields


def test_nobody_to_wait_for_is_obeyed() -> None:
    result = Fakes().wait()
    assert result.is_obeyed
    assert (result.acknowledged, result.expired, result.took_seconds) == ({}, (), 0)


def test_waits_until_the_last_replica_obeys() -> None:
    fakes = Fakes()
    fakes.add("a", "b")

    def obey_in_turn(_: Fakes) -> None:
        if fakes.looks == 2:
            fakes.add("a", epoch=8)
        if fakes.looks == 4:
            fakes.add("b", epoch=9)

    fakes.each = obey_in_turn
    result = fakes.wait()
    assert result.is_obeyed
    assert list(result.acknowledged) == ["a", "b"]
    assert 0 < result.acknowledged["a"] < result.acknowledged["b"] <= result.took_seconds < 1
    assert result.addresses["a"] == ONE.address


def test_a_replica_that_is_stopped_is_waited_for_no_longer_than_its_lease() -> None:
    fakes = Fakes()
    fakes.add("stopped")
    fakes.add("obeys", epoch=8)
    result = fakes.wait()
    assert result.is_obeyed
    assert (result.expired, list(result.acknowledged)) == (("stopped",), ["obeys"])
    assert result.took_seconds <= LEASE_SECONDS + 0.1


def test_a_replica_that_ends_is_not_waited_for() -> None:
    fakes = Fakes()
    fakes.add("ends")
    fakes.each = lambda _: fakes.end("ends") if fakes.looks == 2 else None
    assert fakes.wait().expired == ("ends",)
    assert fakes.looks == 2


def test_a_lease_that_ended_before_holds_up_nobody() -> None:
    fakes = Fakes()
    fakes.add("long ago")
    fakes.seconds += 60
    result = fakes.wait()
    assert (result.expired, result.took_seconds) == ((), 0)


def test_a_replica_that_joins_meanwhile_is_waited_for() -> None:
    fakes = Fakes()
    fakes.add("first")

    def joins(_: Fakes) -> None:
        if fakes.looks == 2:
            fakes.add("second")
        if fakes.looks == 3:
            fakes.add("first", epoch=8)
        if fakes.looks == 5:
            fakes.add("second", epoch=8)

    fakes.each = joins
    assert list(fakes.wait().acknowledged) == ["first", "second"]


def test_a_lease_that_is_renewed_and_never_obeys_is_named() -> None:
    """A hostile file, or a state whose disk is full: nobody waits for ever, or is told that all obey."""
    fakes = Fakes()
    fakes.each = lambda _: fakes.add("hostile")
    result = fakes.wait()
    assert not result.is_obeyed
    assert result.behind == ("hostile",)
    assert result.took_seconds <= LEASE_SECONDS + 0.1


def test_a_lease_of_the_future_counts_for_nobody() -> None:
    fakes = Fakes()
    fakes.add("future")
    fakes.leases["future"] = replace(fakes.leases["future"], boottime=1e12)
    assert fakes.wait().took_seconds == 0


def test_a_lease_of_another_term_does_not_obey() -> None:
    """Its numbers are of another history: a backup was restored."""
    fakes = Fakes()
    fakes.add("other", term=2, epoch=1000)
    assert fakes.wait().expired == ("other",)


def test_what_is_no_lease_holds_up_nobody_and_is_named() -> None:
    fakes = Fakes(malformed=("junk",))
    result = fakes.wait()
    assert (result.malformed, result.is_obeyed, result.took_seconds) == (("junk",), True, 0)


def test_more_files_than_are_read_are_waited_for_and_said() -> None:
    result = Fakes(unread=True).wait()
    assert not result.is_obeyed
    assert LEASE_SECONDS < result.took_seconds <= LEASE_SECONDS + 0.1


def test_leases_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    (tmp_path / DIRECTORY).touch()
    with pytest.raises(StoreError):
        asyncio.run(barrier(LeaseFiles(tmp_path), term=1, epoch=1))


def test_the_directory_of_leases_is_for_us_alone(tmp_path: Path) -> None:
    private_directory(tmp_path / DIRECTORY)
    (tmp_path / DIRECTORY).chmod(0o755)
    with pytest.raises(StoreError, match="others can get at"):
        LeaseFiles(tmp_path).join()
