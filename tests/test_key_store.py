"""The keys on disk: wrong rights, links, damage, and two processes at once."""

import json
import multiprocessing
import os
import resource
import stat
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from identity.authority import Authority
from identity.errors import KeyMaterialError
from identity.key_store import FILE_NAME, load_or_create_authority
from tests.identity_world import NOW, OTHER_TD, TD


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data"


def load(directory: Path) -> Authority:
    return load_or_create_authority(directory, TD, NOW)


def kids(authority: Authority) -> tuple[str, str, str]:
    return authority.ca.key.kid, authority.jwt_key.kid, authority.token_key.kid


def refused(directory: Path) -> str:
    with pytest.raises(KeyMaterialError) as caught:
        load(directory)
    return str(caught.value)


def test_second_start_reads_what_the_first_wrote(directory: Path) -> None:
    first = load(directory)
    second = load_or_create_authority(directory, TD, NOW + timedelta(days=1))
    assert kids(first) == kids(second)
    assert first.ca.certificate == second.ca.certificate


def test_modes_are_for_us_alone(directory: Path) -> None:
    old = os.umask(0)
    try:
        load(directory)
    finally:
        os.umask(old)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / FILE_NAME).stat().st_mode) == 0o600
    assert [file.name for file in directory.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o666, 0o610])
def test_refuses_file_that_others_can_reach(directory: Path, mode: int) -> None:
    load(directory)
    (directory / FILE_NAME).chmod(mode)
    assert "chmod 600" in refused(directory)


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o720, 0o777, 0o701])
def test_refuses_directory_that_others_can_reach(directory: Path, mode: int) -> None:
    load(directory)
    directory.chmod(mode)
    assert "chmod 700" in refused(directory)


def test_refuses_link_in_place_of_the_file(directory: Path) -> None:
    load(directory)
    (directory / FILE_NAME).rename(directory / "real.json")
    (directory / FILE_NAME).symlink_to(directory / "real.json")
    assert "cannot open" in refused(directory)


def test_refuses_dangling_link_and_writes_nothing_through_it(directory: Path, tmp_path: Path) -> None:
    directory.mkdir(0o700)
    (directory / FILE_NAME).symlink_to(tmp_path / "elsewhere")
    assert "cannot open" in refused(directory)
    assert not (tmp_path / "elsewhere").exists()


def test_refuses_link_in_place_of_the_directory(directory: Path, tmp_path: Path) -> None:
    load(directory)
    (tmp_path / "link").symlink_to(directory)
    assert "cannot open" in refused(tmp_path / "link")


def test_refuses_pipe_or_directory_in_place_of_the_file(directory: Path) -> None:
    directory.mkdir(0o700)
    os.mkfifo(directory / FILE_NAME, 0o600)
    assert "not a file" in refused(directory)
    (directory / FILE_NAME).unlink()
    (directory / FILE_NAME).mkdir(0o700)
    assert "not a file" in refused(directory) or "cannot open" in refused(directory)


def test_refuses_file_in_place_of_the_directory(directory: Path) -> None:
    directory.write_text("x")
    assert "cannot open" in refused(directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file to another user needs root")
def test_refuses_file_or_directory_of_another_user(directory: Path) -> None:
    load(directory)
    os.chown(directory / FILE_NAME, 12345, -1)
    assert "of the user that runs this" in refused(directory)
    os.chown(directory / FILE_NAME, os.geteuid(), -1)
    os.chown(directory, 12345, -1)
    assert "another user's" in refused(directory)


def test_refuses_truncated_file_at_any_length_and_leaves_it(directory: Path) -> None:
    load(directory)
    path = directory / FILE_NAME
    whole = path.read_bytes()
    for length in [0, 1, 100, len(whole) // 2, len(whole) - 3]:
        path.write_bytes(whole[:length])
        message = refused(directory)
        assert "damaged" in message
        assert "PRIVATE" not in message
        assert path.read_bytes() == whole[:length]


def change(directory: Path, **changes: object) -> None:
    path = directory / FILE_NAME
    document = json.loads(path.read_bytes()) | changes
    path.write_text(json.dumps({name: value for name, value in document.items() if value is not ...}))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": True},
        {"version": None},
        {"ca_key": ...},
        {"more": "x"},
        {"ca_key": "junk"},
        {"ca_certificate": "junk"},
        {"jwt_key": 7},
        {"token_key": "\u00e9"},
        {"trust_domain": None},
    ],
)
def test_refuses_file_that_is_not_wholly_understood(directory: Path, changes: dict[str, object]) -> None:
    load(directory)
    change(directory, **changes)
    assert refused(directory)


def test_refuses_one_key_in_two_roles(directory: Path) -> None:
    authority = load(directory)
    change(directory, token_key=authority.jwt_key.reveal_pem().decode())
    assert "two roles" in refused(directory)


def test_refuses_key_of_another_authority(directory: Path, tmp_path: Path) -> None:
    load(directory)
    change(directory, ca_key=load(tmp_path / "other").ca.key.reveal_pem().decode())
    assert "damaged" in refused(directory)


def test_refuses_directory_of_another_trust_domain(directory: Path) -> None:
    load(directory)
    with pytest.raises(KeyMaterialError, match="use another data directory"):
        load_or_create_authority(directory, OTHER_TD, NOW)
    change(directory, trust_domain=OTHER_TD.name)
    with pytest.raises(KeyMaterialError):
        load_or_create_authority(directory, OTHER_TD, NOW)


def test_refuses_huge_file(directory: Path) -> None:
    load(directory)
    (directory / FILE_NAME).write_bytes(b" " * 10_000_000)
    assert "damaged" in refused(directory)


def test_full_disk_leaves_nothing_behind(directory: Path) -> None:
    """A limit on the size of files stands for a disk without room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        message = refused(directory)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write" in message
    assert list(directory.iterdir()) == []
    load(directory)


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "cannot open" in refused(tmp_path / "file" / "data")


def _start(directory: Path, ready: Connection) -> None:
    ready.recv()
    ready.send(kids(load(directory)))
    ready.close()


def test_two_processes_at_once_make_one_authority(directory: Path) -> None:
    """Each waits for the word and starts; whoever is later takes the keys of the other."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(4):
        ours, theirs = context.Pipe()
        process = context.Process(target=_start, args=(directory, theirs))
        process.start()
        pipes.append(ours)
        processes.append(process)
    for pipe in pipes:
        pipe.send("go")
    answers = {pipe.recv() for pipe in pipes}
    for process in processes:
        process.join()
    assert answers == {kids(load(directory))}
    assert [file.name for file in directory.iterdir()] == [FILE_NAME]


def test_nothing_is_left_behind_when_another_was_faster(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race, made certain: the file appears between our look and our link."""
    from identity import key_store

    real = key_store._read
    looked = iter([True])

    def read(handle: int, where: Path) -> bytes | None:
        if next(looked, False):
            load(where)
            return None
        return real(handle, where)

    monkeypatch.setattr(key_store, "_read", read)
    mine = kids(load(directory))
    assert mine == kids(load(directory))
    assert [file.name for file in directory.iterdir()] == [FILE_NAME]
