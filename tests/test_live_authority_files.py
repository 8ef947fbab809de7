"""An authority on disk: wrong rights, links, damage, crashes, and two processes at once."""

import json
import multiprocessing
import os
import resource
import stat
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from identity.authority import Authority
from identity.base64url import encode_base64url
from identity.errors import KeyMaterialError
from identity.key_directory import LOCK
from identity.keys import SigningKey
from identity.live_authority import STATE_FILE, AuthoritySettings, LiveAuthority, read_published
from identity.spiffe import TrustDomain
from tests.identity_world import NOW, OTHER_TD, TD


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data"


def load(directory: Path, trust_domain: TrustDomain = TD, now: datetime = NOW) -> Authority:
    """Start, and end at once."""
    live = LiveAuthority.open(directory, trust_domain, AuthoritySettings(), now)
    live.close()
    return live.current


def names(directory: Path) -> set[str]:
    return {file.name for file in directory.iterdir()}


def key_file(directory: Path, authority: Authority) -> Path:
    return directory / f"key-{authority.ca.key.kid}.pem"


def kids(authority: Authority) -> tuple[str, str, str]:
    return authority.ca.key.kid, authority.jwt_key.kid, authority.token_key.kid


def refused(directory: Path) -> str:
    with pytest.raises(KeyMaterialError) as caught:
        load(directory)
    return str(caught.value)


def test_second_start_reads_what_the_first_wrote(directory: Path) -> None:
    first = load(directory)
    second = load(directory, now=NOW + timedelta(hours=1))
    assert kids(first) == kids(second)
    assert first.ca.certificate == second.ca.certificate


def test_modes_are_for_us_alone(directory: Path) -> None:
    old = os.umask(0)
    try:
        load(directory)
    finally:
        os.umask(old)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    files = list(directory.iterdir())
    assert len(files) == 5, "the state, the lock, and three keys"
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o666, 0o610])
def test_refuses_file_that_others_can_reach(directory: Path, mode: int) -> None:
    load(directory)
    (directory / STATE_FILE).chmod(mode)
    assert "chmod 600" in refused(directory)


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o720, 0o777, 0o701])
def test_refuses_directory_that_others_can_reach(directory: Path, mode: int) -> None:
    load(directory)
    directory.chmod(mode)
    assert "chmod 700" in refused(directory)


def test_refuses_link_in_place_of_the_file(directory: Path) -> None:
    load(directory)
    (directory / STATE_FILE).rename(directory / "real.json")
    (directory / STATE_FILE).symlink_to(directory / "real.json")
    assert "cannot open" in refused(directory)


def test_refuses_dangling_link_and_writes_nothing_through_it(directory: Path, tmp_path: Path) -> None:
    directory.mkdir(0o700)
    (directory / STATE_FILE).symlink_to(tmp_path / "elsewhere")
    assert "cannot open" in refused(directory)
    assert not (tmp_path / "elsewhere").exists()


def test_refuses_link_in_place_of_the_directory(directory: Path, tmp_path: Path) -> None:
    load(directory)
    (tmp_path / "link").symlink_to(directory)
    assert "cannot open" in refused(tmp_path / "link")


def test_refuses_pipe_or_directory_in_place_of_the_file(directory: Path) -> None:
    directory.mkdir(0o700)
    os.mkfifo(directory / STATE_FILE, 0o600)
    assert "not a file" in refused(directory)
    (directory / STATE_FILE).unlink()
    (directory / STATE_FILE).mkdir(0o700)
    assert "not a file" in refused(directory) or "cannot open" in refused(directory)


def test_refuses_file_in_place_of_the_directory(directory: Path) -> None:
    directory.write_text("x")
    assert "cannot open" in refused(directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file to another user needs root")
def test_refuses_file_or_directory_of_another_user(directory: Path) -> None:
    load(directory)
    os.chown(directory / STATE_FILE, 12345, -1)
    assert "of the user that runs this" in refused(directory)
    os.chown(directory / STATE_FILE, os.geteuid(), -1)
    os.chown(directory, 12345, -1)
    assert "another user's" in refused(directory)


def test_refuses_truncated_file_at_any_length_and_leaves_it(directory: Path) -> None:
    load(directory)
    path = directory / STATE_FILE
    whole = path.read_bytes()
    for length in [0, 1, 100, len(whole) // 2, len(whole) - 3]:
        path.write_bytes(whole[:length])
        message = refused(directory)
        assert "damaged" in message
        assert "PRIVATE" not in message
        assert path.read_bytes() == whole[:length]


def change(directory: Path, **changes: object) -> None:
    path = directory / STATE_FILE
    document = json.loads(path.read_bytes()) | changes
    path.write_text(json.dumps({name: value for name, value in document.items() if value is not ...}))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 1},
        {"version": True},
        {"version": None},
        {"sequence": ...},
        {"sequence": 0},
        {"sequence": "1"},
        {"more": "x"},
        {"slots": "junk"},
        {"slots": [7]},
        {"slots": [{}]},
        {"trust_domain": None},
        {"trust_domain": "Upper"},
        {"trust_domain": "\u00e9"},
    ],
)
def test_refuses_file_that_is_not_wholly_understood(directory: Path, changes: dict[str, object]) -> None:
    load(directory)
    change(directory, **changes)
    assert refused(directory)


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "root"},
        {"role": "jwt"},
        {"stage": "signing"},
        {"stage": "prepared"},
        {"kid": "x"},
        {"kid": "../state"},
        {"public": None},
        {"public": {}},
        {"certificate": None},
        {"certificate": "junk"},
        {"published_at": "yesterday"},
        {"not_after": "2026-01-01T00:00:00"},
        {"tainted": "no"},
        {"tainted": ...},
        {"more": 1},
    ],
)
def test_refuses_slot_that_is_not_wholly_understood(directory: Path, changes: dict[str, object]) -> None:
    load(directory)
    slots = json.loads((directory / STATE_FILE).read_bytes())["slots"]
    assert slots[0]["role"] == "x509"
    slots[0] = {name: value for name, value in (slots[0] | changes).items() if value is not ...}
    change(directory, slots=slots)
    before = names(directory)
    if changes.get("stage") == "prepared":
        # Then nothing signs, and the prepared key takes over: that is a state that a crash may leave.
        load(directory)
    else:
        assert refused(directory)
        assert names(directory) == before


def test_refuses_one_key_in_two_roles(directory: Path) -> None:
    load(directory)
    slots = json.loads((directory / STATE_FILE).read_bytes())["slots"]
    jwt = next(slot for slot in slots if slot["role"] == "jwt")
    change(directory, slots=[slot for slot in slots if slot["role"] != "tokens"] + [jwt | {"role": "tokens"}])
    assert "two roles" in refused(directory)


def test_refuses_truncated_key_file_at_any_length_and_leaves_it(directory: Path) -> None:
    path = key_file(directory, load(directory))
    whole = path.read_bytes()
    for length in [0, 1, len(whole) // 2, len(whole) - 10]:
        path.write_bytes(whole[:length])
        message = refused(directory)
        assert "damaged" in message
        assert "restore it from a backup" in message
        assert "PRIVATE" not in message
        assert path.read_bytes() == whole[:length]


def test_refuses_missing_key_file(directory: Path) -> None:
    key_file(directory, load(directory)).unlink()
    assert "missing" in refused(directory)


def test_refuses_key_of_another_authority(directory: Path, tmp_path: Path) -> None:
    mine, other = load(directory), load(tmp_path / "other")
    key_file(directory, mine).write_bytes(other.ca.key.reveal_pem())
    assert "another key" in refused(directory)


def test_refuses_key_file_that_others_can_read(directory: Path) -> None:
    key_file(directory, load(directory)).chmod(0o644)
    assert "revoke the key" in refused(directory)


def test_refuses_what_an_earlier_version_wrote(directory: Path) -> None:
    """Its keys are not silently replaced by new ones."""
    directory.mkdir(0o700)
    (directory / "authority.json").write_text("{}")
    assert "earlier version" in refused(directory)


def test_key_that_a_crash_left_is_destroyed(directory: Path) -> None:
    """Made, but never put into the state: nobody knows what it was for."""
    load(directory)
    orphan = SigningKey.generate()
    path = directory / f"key-{orphan.kid}.pem"
    path.write_bytes(orphan.reveal_pem())
    before = names(directory)
    load(directory)
    assert names(directory) == before - {path.name}


def test_key_that_a_crash_left_half_written_is_destroyed(directory: Path) -> None:
    """The process was killed between writing a private key beside its place and renaming it."""
    load(directory)
    whole = next(directory.glob("key-*.pem"))
    left = directory / f".{whole.name}.4711.0123456789abcdef"
    left.write_bytes(whole.read_bytes())
    load(directory)
    assert not left.exists()
    assert whole.exists()


def test_no_private_key_is_in_the_state(directory: Path) -> None:
    load(directory)
    state = (directory / STATE_FILE).read_text()
    assert "PRIVATE" not in state
    assert '"d"' not in state


def test_refuses_directory_of_another_trust_domain(directory: Path) -> None:
    load(directory)
    with pytest.raises(KeyMaterialError, match="use another data directory"):
        load(directory, OTHER_TD)
    change(directory, trust_domain=OTHER_TD.name)
    with pytest.raises(KeyMaterialError, match="another trust domain"):
        load(directory, OTHER_TD)


def test_refuses_huge_file(directory: Path) -> None:
    load(directory)
    (directory / STATE_FILE).write_bytes(b" " * 10_000_000)
    assert "longer than" in refused(directory)


def test_full_disk_leaves_nothing_behind(directory: Path) -> None:
    """A limit on the size of files stands for a disk without room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        message = refused(directory)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write" in message
    assert names(directory) == {LOCK}
    load(directory)


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "cannot open" in refused(tmp_path / "file" / "data")


def _hold(directory: Path, word: Connection) -> None:
    live = LiveAuthority.open(directory, TD, AuthoritySettings(), NOW)
    word.send(kids(live.current))
    word.recv()
    live.close()
    word.close()


def test_two_processes_on_one_data_directory(directory: Path) -> None:
    """The second is refused while the first lives, and reads what is published all the same."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_hold, args=(directory, theirs))
    process.start()
    mine = ours.recv()
    assert "another process uses the keys" in refused(directory)
    assert {slot.kid for ring in read_published(directory, TD).rings.values() for slot in ring} == set(mine)
    ours.send("end")
    process.join()
    assert kids(load(directory)) == mine


def test_nothing_is_published_where_no_service_ran(directory: Path) -> None:
    directory.mkdir(0o700)
    with pytest.raises(KeyMaterialError, match="start the service first"):
        read_published(directory, TD)


def foreign_jwk(kind: str) -> dict[str, str]:
    if kind == "RSA":
        modulus = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
        return {"kty": "RSA", "n": encode_base64url(modulus.to_bytes(256)), "e": "AQAB"}
    point = ec.generate_private_key(ec.SECP384R1()).public_key().public_numbers()
    numbers = {name: encode_base64url(getattr(point, name).to_bytes(48)) for name in ("x", "y")}
    return {"kty": "EC", "crv": "P-384", **numbers}


@pytest.mark.parametrize("kind", ["RSA", "P-384"])
def test_refuses_public_key_of_another_kind(directory: Path, kind: str) -> None:
    """All keys of ours are on P-256; those of others need not be, so they can be read."""
    load(directory)
    slots = json.loads((directory / STATE_FILE).read_bytes())["slots"]
    other = {"public": foreign_jwk(kind) | {"kid": "other"}, "kid": "other", "stage": "retired"}
    change(directory, slots=[slot | other if slot["role"] == "jwt" else slot for slot in slots])
    assert "P-256" in refused(directory)
