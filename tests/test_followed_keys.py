"""The keys of another process, followed: rotations, torn files, backups, and an authority that is gone."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from identity.errors import IdentityError, IssuanceUnavailableError, KeyMaterialError
from identity.followed_file import FollowedFile, boottime
from identity.followed_keys import FollowedKeys
from identity.key_directory import LOCK, KeyDirectory
from identity.key_files import FileKeyStore
from identity.key_ring import KeyChange, Role
from identity.keys import SigningKey
from identity.live_authority import STATE_FILE, AuthoritySettings, LiveAuthority
from identity.spiffe import SpiffeId
from tests.identity_world import NOW, OTHER_TD, TD
from tests.service_files import ROOT


class Place:
    """An authority, and one who follows it on a clock that the test turns."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.seconds = directory, 100.0
        self.live = LiveAuthority.open(directory, TD, AuthoritySettings(), NOW)
        self.followed = FollowedKeys.open(directory, TD, max_age=5.0, clock=lambda: self.seconds)

    def rotate(self, role: Role) -> str:
        """Let a new key sign, and return the name of the one before."""
        before = self.live.current.active[role].kid
        changes = (KeyChange("prepare", role), KeyChange("activate", role))
        self.live.apply(changes, NOW + timedelta(minutes=1))
        return before

    @property
    def state(self) -> Path:
        return self.directory / STATE_FILE


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "keys")


def test_signs_and_issues_with_the_keys_of_the_authority(place: Place) -> None:
    ours, theirs = place.followed.current, place.live.current
    assert ours.token_key.kid == theirs.token_key.kid
    assert ours.roots == theirs.roots
    assert place.followed.trust_bundle() == place.live.trust_bundle()
    key = SigningKey.generate().private_key.public_key()
    assert ours.issue_workload_svid(SpiffeId(TD, "/deputy"), key, NOW, 60)


def test_reads_no_private_key_that_it_does_not_need(place: Place) -> None:
    assert set(place.followed.current.keys) == {
        place.live.current.ca.key.kid,
        place.live.current.token_key.kid,
    }
    assert "PRIVATE" not in repr(place.followed.current)


def test_writes_nothing_and_takes_no_lock(place: Place) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in place.directory.iterdir()}
    place.seconds += 10
    place.followed.poll()
    assert {file.name: file.stat().st_mtime_ns for file in place.directory.iterdir()} == before
    place.live.close()
    LiveAuthority.open(place.directory, TD, AuthoritySettings(), NOW).close()
    assert (place.directory / LOCK).exists()


@pytest.mark.parametrize("role", ["x509", "jwt", "tokens"])
def test_a_rotation_is_followed_and_told(place: Place, role: Role) -> None:
    before, version = place.followed.current, place.followed.feed.version
    place.rotate(role)
    assert place.followed.poll()
    assert place.followed.current.active[role].kid == place.live.current.active[role].kid
    assert place.followed.current is not before
    assert place.followed.feed.version == version + 1


def test_a_revoked_key_verifies_no_more(place: Place) -> None:
    old = place.rotate("tokens")
    place.followed.poll()
    assert place.followed.current.token_keys.get(old)
    place.live.apply((KeyChange("taint", "tokens", old), KeyChange("revoke", "tokens", old)), NOW)
    place.followed.poll()
    assert place.followed.current.token_keys.get(old) is None


def test_the_value_is_the_same_object_until_something_changed(place: Place) -> None:
    before = place.followed.current
    for _ in range(3):
        place.seconds += 2
        assert not place.followed.poll()
    assert place.followed.current is before


def _torn(place: Place) -> None:
    place.state.write_bytes(place.state.read_bytes()[:-40])


def _empty(place: Place) -> None:
    place.state.write_bytes(b"")


def _gone(place: Place) -> None:
    place.state.unlink()


def _no_directory(place: Place) -> None:
    shutil.move(place.directory, place.directory.with_name("elsewhere"))


def _open_to_others(place: Place) -> None:
    place.state.chmod(0o644)


def _link(place: Place) -> None:
    place.state.rename(place.state.with_name("kept"))
    place.state.symlink_to("kept")


def _other_domain(place: Place) -> None:
    place.state.write_bytes(place.state.read_bytes().replace(TD.name.encode(), OTHER_TD.name.encode()))


@pytest.mark.parametrize("harm", [_torn, _empty, _gone, _no_directory, _open_to_others, _link, _other_domain])
def test_what_cannot_be_read_leaves_the_last_good_keys_for_some_seconds(
    place: Place, harm: Callable[[Place], None]
) -> None:
    before = place.followed.current
    harm(place)
    place.seconds += 2
    with pytest.raises(KeyMaterialError):
        place.followed.poll()
    assert place.followed.current is before
    place.seconds += 4
    with pytest.raises(KeyMaterialError):
        place.followed.poll()
    with pytest.raises(IssuanceUnavailableError):
        place.followed.current  # noqa: B018 - asking is what is refused


def test_a_torn_file_is_read_once_the_rest_is_there(place: Place) -> None:
    """The stamp of the torn file may be that of the whole one: clocks of file systems are coarse."""
    place.rotate("tokens")
    whole = place.state.read_bytes()
    place.state.write_bytes(whole[:100])
    with pytest.raises(KeyMaterialError):
        place.followed.poll()
    place.state.write_bytes(whole)
    assert place.followed.poll()
    assert place.followed.current.token_key.kid == place.live.current.token_key.kid


def test_a_key_that_is_destroyed_between_state_and_key_is_no_error(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the reading of the state and of its key the authority rotates, and destroys that key."""
    place.rotate("tokens")
    turns, load = [lambda: place.rotate("tokens")], FileKeyStore.load

    def destroyed_meanwhile(store: FileKeyStore, kid: str) -> SigningKey:
        if kid == place.live.current.token_key.kid and turns:
            turns.pop()()
        return load(store, kid)

    monkeypatch.setattr(FileKeyStore, "load", destroyed_meanwhile)
    assert place.followed.poll()
    assert place.followed.current.token_key.kid == place.live.current.token_key.kid


def test_a_key_that_is_missing_for_good_is_said(place: Place) -> None:
    place.rotate("tokens")
    (place.directory / f"key-{place.live.current.token_key.kid}.pem").unlink()
    with pytest.raises(KeyMaterialError, match="missing"):
        place.followed.poll()


def test_keys_that_change_at_each_reading_end_in_an_error(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.rotate("tokens")

    def always_late(_: FileKeyStore, kid: str) -> SigningKey:
        place.rotate("jwt")
        raise KeyMaterialError(f"{kid} is missing")

    monkeypatch.setattr(FileKeyStore, "load", always_late)
    with pytest.raises(KeyMaterialError, match="missing"):
        place.followed.poll()


def _restore(place: Place, steps: Callable[[], object], saved: Path) -> str:
    """Copy the directory, take steps, follow them, put the copy back, and return the refusal."""
    shutil.copytree(place.directory, saved)
    steps()
    place.followed.poll()
    for file in saved.iterdir():
        shutil.copy2(file, place.directory / file.name)
    place.seconds += 2
    with pytest.raises(KeyMaterialError) as caught:
        place.followed.poll()
    return str(caught.value)


def test_a_restored_backup_is_not_obeyed(place: Place, tmp_path: Path) -> None:
    assert "went back" in _restore(place, lambda: place.rotate("x509"), tmp_path / "saved")


def test_a_restored_backup_brings_no_key_back_to_sign(place: Place, tmp_path: Path) -> None:
    assert "is back" in _restore(place, lambda: place.rotate("tokens"), tmp_path / "saved")


def test_a_restored_backup_brings_no_revoked_key_back(place: Place, tmp_path: Path) -> None:
    """Keys of tokens are in no bundle, so no sequence number tells."""
    old = place.rotate("tokens")
    place.followed.poll()
    steps = (KeyChange("taint", "tokens", old), KeyChange("revoke", "tokens", old))
    assert "is back" in _restore(place, lambda: place.live.apply(steps, NOW), tmp_path / "saved")


def test_a_restored_backup_takes_no_taint_back(place: Place, tmp_path: Path) -> None:
    old = place.rotate("tokens")
    place.followed.poll()
    steps = (KeyChange("taint", "tokens", old),)
    assert "is back" in _restore(place, lambda: place.live.apply(steps, NOW), tmp_path / "saved")


def test_there_is_nobody_to_follow_yet(tmp_path: Path) -> None:
    with pytest.raises(KeyMaterialError, match="cannot open"):
        FollowedKeys.open(tmp_path / "keys", TD)
    KeyDirectory.open(tmp_path / "keys").close()
    with pytest.raises(KeyMaterialError, match="start its authority first"):
        FollowedKeys.open(tmp_path / "keys", TD)


def test_an_authority_that_is_still_starting_is_not_followed(tmp_path: Path) -> None:
    live = LiveAuthority.open(tmp_path / "keys", TD, AuthoritySettings(), NOW, begin=False)
    live.apply(live.due(NOW)[:2], NOW)
    with pytest.raises(KeyMaterialError, match="wait for the authority"):
        FollowedKeys.open(tmp_path / "keys", TD)
    live.close()


def test_what_was_never_read_has_no_value(tmp_path: Path) -> None:
    file: FollowedFile[bytes] = FollowedFile(tmp_path, "x", lambda _, data: data or b"")
    with pytest.raises(IdentityError, match="not read yet"):
        file.value  # noqa: B018 - asking is what is refused
    assert file.age == float("inf")


def test_a_change_that_its_stamp_does_not_show_is_found_within_a_second(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inode was used again, the length is the same, and the clock of the file system stood still."""
    monkeypatch.setattr(KeyDirectory, "stamp", lambda *_: (0, 0, 0, 0, 0, 0))
    place.followed.poll()
    place.seconds += 0.5
    place.rotate("tokens")
    assert not place.followed.poll()
    place.seconds += 0.6
    assert place.followed.poll()


def test_the_clock_is_one_for_all_containers_of_a_machine() -> None:
    """A lease of one time namespace would be long over, or still to come, in another."""
    command = [sys.executable, "-c", "from identity.followed_file import boottime; print(boottime())"]
    shifted = ["unshare", "--user", "--map-root-user", "--time", "--boottime", "1000000", "--fork", *command]
    before = boottime()
    try:
        done = subprocess.run(shifted, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode:
        pytest.skip(f"no time namespaces here: {done.stderr.strip()}")
    assert before <= float(done.stdout) <= boottime()
