"""Keys in two slots: prepared, activated, retired, pruned; and by hand: rotated, tainted, revoked."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from identity.authority import Authority
from identity.bundle import Bundle
from identity.canonical import canonical_json
from identity.certificate_authority import load_certificate
from identity.delegation import issue_delegation_token, verify_delegation_token
from identity.errors import (
    AuthorityStateError,
    CertificateError,
    IssuanceUnavailableError,
    KeyMaterialError,
    TokenError,
)
from identity.jws import UnverifiedToken
from identity.jwt_svid import verify_jwt_svid
from identity.key_ring import MAX_SLOTS, KeyChange, KeyLife, KeyRing, Role, Stage
from identity.keys import SigningKey
from identity.live_authority import AuthoritySettings, LiveAuthority
from identity.spiffe import SpiffeId
from identity.x509_svid import verify_x509_svid
from tests.identity_world import AUDIENCE as DESK
from tests.identity_world import ISSUER, LEEWAY, NOW, TD, delegation

DAY = timedelta(days=1)
LIFE = KeyLife(lifetime=DAY, lead=timedelta(minutes=3))
WORKLOAD = SpiffeId(TD, "/ns/a/sa/b")
AUDIENCE = "https://tickets.mesh.example"
Open = Callable[..., LiveAuthority]


@pytest.fixture
def start(tmp_path: Path) -> Open:
    def start(now: datetime = NOW, *, wit: bool = False) -> LiveAuthority:
        return LiveAuthority.open(tmp_path / "keys", TD, AuthoritySettings(LIFE, wit=wit), now)

    return start


def pass_time(live: LiveAuthority, now: datetime) -> list[tuple[str, str]]:
    due = live.due(now)
    live.apply(due, now)
    return [(change.action, change.role) for change in due]


def svid(live: LiveAuthority, now: datetime = NOW, ttl: int = 600) -> bytes:
    return live.current.issue_workload_svid(
        WORKLOAD, SigningKey.generate().private_key.public_key(), now, ttl
    )


def verifies(der: bytes, authority: Authority, now: datetime = NOW) -> bool:
    try:
        verify_x509_svid([der], authority.roots, TD, now)
    except CertificateError:
        return False
    return True


def stages(live: LiveAuthority, role: Role = "x509") -> list[Stage]:
    return [slot.stage for slot in live.current.rings[role]]


def test_first_start_makes_one_active_key_a_role(start: Open) -> None:
    live = start()
    assert {role: stages(live, role) for role in live.current.rings} == {
        "x509": [Stage.ACTIVE],
        "jwt": [Stage.ACTIVE],
        "tokens": [Stage.ACTIVE],
    }
    assert live.due(NOW) == ()


def test_next_key_is_prepared_when_half_is_left_and_published_at_once(start: Open) -> None:
    """B-5."""
    live = start()
    assert pass_time(live, NOW + DAY / 2 - timedelta(seconds=1)) == []
    before = live.current
    assert pass_time(live, NOW + DAY / 2) == [("prepare", role) for role in ("x509", "jwt", "tokens")]
    after = live.current
    assert (len(after.roots), len(after.svid_keys.keys), len(after.token_keys.keys)) == (2, 2, 2)
    assert after.sequence > before.sequence
    assert after.ca.key.kid == before.ca.key.kid, "published, but it does not sign yet"
    assert pass_time(live, NOW + DAY / 2) == [], "prepared once"


def test_nothing_is_signed_with_a_prepared_key(start: Open) -> None:
    live = start()
    pass_time(live, NOW + DAY / 2)
    now = NOW + DAY / 2
    active, prepared = live.current.roots
    verify_x509_svid([svid(live, now)], [active], TD, now)
    with pytest.raises(CertificateError):
        verify_x509_svid([svid(live, now)], [prepared], TD, now)
    token = UnverifiedToken.parse(live.current.issue_jwt_svid(WORKLOAD, AUDIENCE, now, 60, now + DAY))
    only_prepared = {TD: KeyRing("jwt", live.current.rings["jwt"].slots[1:]).public_keys}
    with pytest.raises(TokenError):
        verify_jwt_svid(token, only_prepared, audience=AUDIENCE, now=now, leeway=0)


def test_next_key_takes_over_when_a_sixth_is_left(start: Open) -> None:
    live = start()
    pass_time(live, NOW + DAY / 2)
    prepared = live.current.rings["x509"].prepared
    old = svid(live, NOW + DAY / 2, ttl=36_000)
    at = live.current.ca.not_after - DAY / 6
    assert pass_time(live, at - timedelta(minutes=1)) == []
    assert pass_time(live, at) == [("activate", role) for role in ("x509", "jwt", "tokens")]
    assert prepared is not None
    assert live.current.ca.key.kid == prepared.kid
    assert stages(live) == [Stage.RETIRED, Stage.ACTIVE]
    assert verifies(old, live.current, at), "what the retired key signed is still good"


def test_private_part_of_a_retired_key_is_destroyed(start: Open, tmp_path: Path) -> None:
    live = start()
    first = live.current.ca.key.kid
    pass_time(live, NOW + DAY / 2)
    pass_time(live, live.current.ca.not_after - DAY / 6)
    assert not (tmp_path / "keys" / f"key-{first}.pem").exists()
    assert first not in live.current.keys
    assert len(list((tmp_path / "keys").glob("key-*.pem"))) == 3


def test_retired_key_is_pruned_after_its_end(start: Open) -> None:
    live = start()
    end = live.current.ca.not_after
    pass_time(live, NOW + DAY / 2)
    pass_time(live, end - DAY / 6)
    before = live.current.sequence
    pass_time(live, end)
    assert Stage.RETIRED in stages(live), "clocks differ"
    assert ("prune", "x509") in pass_time(live, end + timedelta(seconds=61))
    assert Stage.RETIRED not in stages(live)
    assert live.current.sequence > before


def test_svid_never_outlives_its_authority_or_key(start: Open) -> None:
    live = start()
    late = live.current.ca.not_after - timedelta(seconds=5)
    assert load_certificate(svid(live, late)).not_valid_after_utc == live.current.ca.not_after
    token = UnverifiedToken.parse(live.current.issue_jwt_svid(WORKLOAD, AUDIENCE, late, 60, late + DAY))
    expires = token.unverified_claims["exp"]
    assert isinstance(expires, int)
    active = live.current.rings["jwt"].active
    assert active is not None
    assert expires <= active.not_after.timestamp()


def test_a_sixth_of_a_key_is_the_longest_svid(start: Open) -> None:
    """One of that length, signed by a key in its last moment as the active one, verifies until it ends."""
    live = start()
    takes_over = live.current.ca.not_after - DAY / 6
    pass_time(live, NOW + DAY / 2)
    last = takes_over - timedelta(seconds=1)
    der = svid(live, last, ttl=int((DAY / 6).total_seconds()))
    end = load_certificate(der).not_valid_after_utc
    assert end == last + DAY / 6, "the end of the key does not cut it short"
    pass_time(live, takes_over)
    pass_time(live, end)
    assert verifies(der, live.current, end)


def test_state_survives_a_restart(start: Open) -> None:
    live = start()
    pass_time(live, NOW + DAY / 2)
    pass_time(live, NOW + DAY * 5 / 6)
    before = live.current
    live.close()
    after = start(NOW + DAY * 5 / 6).current
    assert (after.rings, after.sequence, set(after.keys)) == (before.rings, before.sequence, set(before.keys))
    assert canonical_json(after.bundle()) == canonical_json(before.bundle())


def test_long_pause_ends_with_new_keys_and_a_higher_sequence(start: Open) -> None:
    live = start()
    before = live.current
    live.close()
    later = NOW + 3 * DAY
    again = start(later)
    assert stages(again) == [Stage.ACTIVE]
    assert again.current.ca.key.kid != before.ca.key.kid
    assert again.current.sequence > before.sequence
    assert verifies(svid(again, later), again.current, later)


def test_clock_that_jumps_back_changes_no_key_and_issues_nothing(start: Open) -> None:
    """Nothing is issued for a time at which the authority was not yet there; nor is a key made for it."""
    live = start()
    past = NOW - timedelta(hours=1)
    before = live.current
    assert pass_time(live, past) == []
    assert live.current is before
    with pytest.raises(IssuanceUnavailableError, match="clock"):
        svid(live, past)


def test_a_forced_rotation_sets_right_what_a_clock_that_was_ahead_left_behind(start: Open) -> None:
    """Its key begins in what is now the future; the next one begins now."""
    live = start(NOW + timedelta(days=2))
    with pytest.raises(IssuanceUnavailableError, match="clock"):
        svid(live)
    for role in live.current.rings:
        rotated(live, role)
    assert verifies(svid(live), live.current)
    assert live.current.issue_jwt_svid(WORKLOAD, AUDIENCE, NOW, 60, NOW + DAY)


def test_sequence_grows_with_every_published_change_and_only_then(start: Open) -> None:
    """B-2."""
    live = start()
    seen = [live.current.sequence]
    contents = [live.current.bundle()["keys"]]
    now = NOW
    for _ in range(40):
        now += timedelta(hours=2)
        pass_time(live, now)
        seen.append(live.current.sequence)
        contents.append(live.current.bundle()["keys"])
    assert seen == sorted(seen)
    for at in range(1, len(seen)):
        if contents[at] != contents[at - 1]:
            assert seen[at] > seen[at - 1]
    assert len(set(seen)) > 4


def test_bundle_of_every_moment_is_one_that_others_read(start: Open) -> None:
    live, now = start(wit=True), NOW
    for _ in range(20):
        now += timedelta(hours=3)
        pass_time(live, now)
        data = canonical_json(live.current.bundle())
        bundle = Bundle.parse(data, TD)
        assert bundle.roots == live.current.roots
        assert set(bundle.jwt_keys.keys) == set(live.current.svid_keys.keys)
        assert set(bundle.wit_keys.keys) == set(live.current.wit_keys.keys)
        assert not set(live.current.token_keys.keys) & set(live.current.svid_keys.keys)
        assert verifies(svid(live, now), live.current, now)


def test_everybody_who_waits_hears_of_a_change(start: Open) -> None:
    live = start()
    before = live.feed.version
    live.apply([KeyChange("prepare", "x509")], NOW)
    assert live.feed.version > before


def test_a_key_that_cannot_be_destroyed_keeps_nobody_from_hearing_of_its_end(
    start: Open, tmp_path: Path
) -> None:
    """Open streams went on with SVIDs of the old key, because its file could not be removed."""
    live = start()
    live.apply([KeyChange("prepare", "x509")], NOW)
    old, prepared = live.current.ca.key.kid, live.current.rings["x509"].prepared
    version, file = live.feed.version, tmp_path / "keys" / f"key-{old}.pem"
    data = file.read_bytes()
    file.unlink()
    file.mkdir()  # a directory cannot be unlinked
    with pytest.raises(KeyMaterialError, match="signs no more, but cannot be destroyed yet"):
        live.apply([KeyChange("activate", "x509")], NOW)
    assert prepared is not None
    assert live.current.ca.key.kid == prepared.kid
    assert live.feed.version > version
    file.rmdir()
    file.write_bytes(data)
    live.apply([KeyChange("prepare", "jwt")], NOW)
    assert not file.exists()


def test_change_that_cannot_be_kept_has_not_happened(start: Open, tmp_path: Path) -> None:
    live = start()
    before, version = live.current, live.feed.version
    state = tmp_path / "keys" / "state.json"
    state.unlink()
    state.mkdir()  # nothing can be renamed onto a directory
    with pytest.raises(KeyMaterialError, match="cannot write"):
        live.apply([KeyChange("prepare", "x509")], NOW)
    assert live.current is before
    assert live.feed.version == version


# ---------------------------------------------------------------- by hand


def rotated(live: LiveAuthority, role: Role = "x509") -> str:
    """Rotate, and return the key that was active before."""
    active = live.current.rings[role].active
    assert active is not None
    live.apply([KeyChange("prepare", role), KeyChange("activate", role)], NOW)
    return active.kid


def test_forced_rotation(start: Open) -> None:
    live = start()
    old = svid(live)
    kid = rotated(live)
    assert live.current.ca.key.kid != kid
    assert verifies(old, live.current)
    assert load_certificate(svid(live)).issuer == live.current.ca.certificate.subject


def test_rotation_needs_a_key_that_is_published_first(start: Open) -> None:
    """B-5: at the very least before its first signature."""
    live = start()
    with pytest.raises(AuthorityStateError, match="prepare one first"):
        live.apply([KeyChange("activate", "x509")], NOW)


def test_key_that_signs_can_be_neither_tainted_nor_revoked(start: Open) -> None:
    live = start()
    kid = live.current.ca.key.kid
    for change in (KeyChange("taint", "x509", kid), KeyChange("revoke", "x509", kid)):
        with pytest.raises(AuthorityStateError, match="rotate first"):
            live.apply([change], NOW, force=True)
    assert live.current.ca.key.kid == kid


def test_key_is_tainted_before_it_is_revoked(start: Open) -> None:
    live = start()
    old = svid(live)
    kid = rotated(live)
    with pytest.raises(AuthorityStateError, match="taint it first"):
        live.apply([KeyChange("revoke", "x509", kid)], NOW)
    live.apply([KeyChange("taint", "x509", kid)], NOW)
    assert [slot.tainted for slot in live.current.rings["x509"]] == [True, False]
    assert verifies(old, live.current), "tainted: to be replaced, and still good"
    live.apply([KeyChange("revoke", "x509", kid)], NOW)
    assert live.current.rings["x509"].find(kid) is None
    assert not verifies(old, live.current)


def test_revocation_by_force(start: Open) -> None:
    live = start()
    kid = rotated(live, "jwt")
    live.apply([KeyChange("revoke", "jwt", kid)], NOW, force=True)
    assert live.current.svid_keys.get(kid) is None


def test_revoked_prepared_key_is_replaced_by_another(start: Open) -> None:
    live = start()
    pass_time(live, NOW + DAY / 2)
    prepared = live.current.rings["x509"].prepared
    assert prepared is not None
    live.apply([KeyChange("revoke", "x509", prepared.kid)], NOW + DAY / 2)
    assert pass_time(live, NOW + DAY / 2) == [("prepare", "x509")]
    assert live.current.rings["x509"].prepared != prepared


def test_revocation_of_token_keys_leaves_svids_alone(start: Open) -> None:
    live = start()
    svids, sequence = live.current.svid_keys, live.current.sequence
    kid = rotated(live, "tokens")
    live.apply([KeyChange("taint", "tokens", kid), KeyChange("revoke", "tokens", kid)], NOW)
    assert live.current.token_keys.get(kid) is None
    assert live.current.svid_keys == svids
    assert live.current.sequence == sequence, "the bundle is the same"


# ---------------------------------------------------------------- the keys of tokens, over time (JW-08)


def token_of(live: LiveAuthority, now: datetime) -> UnverifiedToken:
    """Sign a delegation token of five minutes with the key that signs now."""
    seconds = int(now.timestamp())
    made = delegation(issued_at=seconds, expires_at=seconds + 300)
    return UnverifiedToken.parse(issue_delegation_token(live.current.token_key, made))


def counts(token: UnverifiedToken, live: LiveAuthority, now: datetime) -> bool:
    try:
        verify_delegation_token(
            token,
            live.current.token_keys,
            issuer=ISSUER,
            audience=DESK,
            now=now,
            leeway=LEEWAY,
            max_depth=4,
        )
    except TokenError:
        return False
    return True


def test_jw08_a_key_of_tokens_is_published_before_it_signs(start: Open) -> None:
    """JW-08: for longer than the key set is kept, and, without haste, than any token lives."""
    live = start()
    pass_time(live, NOW + DAY / 2)
    prepared = live.current.rings["tokens"].prepared
    assert prepared is not None
    assert live.current.token_keys.get(prepared.kid) is not None
    assert live.current.token_key.kid != prepared.kid
    at = live.current.rings["tokens"].slots[0].not_after - DAY / 6
    pass_time(live, at)
    assert live.current.token_key.kid == prepared.kid
    assert at - prepared.published_at > timedelta(seconds=300)


def test_jw08_a_key_of_tokens_is_kept_until_all_that_it_signed_has_ended(start: Open) -> None:
    """JW-08: keep for the token's life and the leeway."""
    live = start()
    pass_time(live, NOW + DAY / 2)
    end = live.current.rings["tokens"].slots[0].not_after
    before_it_retires = end - DAY / 6 - timedelta(seconds=1)
    last = token_of(live, before_it_retires)
    pass_time(live, end - DAY / 6)
    assert stages(live, "tokens") == [Stage.RETIRED, Stage.ACTIVE]
    moment = before_it_retires
    while moment <= before_it_retires + timedelta(seconds=300 + LEEWAY - 1):
        pass_time(live, moment)
        assert counts(last, live, moment), moment
        moment += timedelta(seconds=30)


def test_jw08_emergency_removal_of_a_key_of_tokens(start: Open) -> None:
    """JW-08: the drill: a new key signs, the stolen one verifies nothing any more, SVIDs stay."""
    live = start()
    stolen = live.current.token_key
    forged = token_of(live, NOW)
    svids = live.current.svid_keys
    kid = rotated(live, "tokens")
    assert kid == stolen.kid
    assert counts(forged, live, NOW), "not yet: it is only replaced"
    live.apply([KeyChange("taint", "tokens", kid)], NOW)
    live.apply([KeyChange("revoke", "tokens", kid)], NOW)
    assert not counts(forged, live, NOW)
    assert counts(token_of(live, NOW), live, NOW), "whoever exchanges anew goes on"
    assert live.current.svid_keys == svids
    text = issue_delegation_token(stolen, delegation())
    assert not counts(UnverifiedToken.parse(text), live, NOW), "what the thief signs afterwards"


def test_unknown_key_is_refused(start: Open) -> None:
    live = start()
    for change in (KeyChange("taint", "x509", "x" * 43), KeyChange("revoke", "x509", "x" * 43)):
        with pytest.raises(AuthorityStateError, match="no key"):
            live.apply([change], NOW)


def test_rotations_without_end_are_refused_before_the_bundle_grows_without_end(start: Open) -> None:
    live = start()
    for _ in range(MAX_SLOTS - 1):
        rotated(live)
    with pytest.raises(AuthorityStateError, match="more than"):
        rotated(live)
    assert verifies(svid(live), live.current)


def test_roles_can_be_added_later(start: Open) -> None:
    start().close()
    live = start(wit=True)
    assert live.current.wit_key is not None


def test_keys_of_a_role_that_was_switched_off_end_and_are_published_no_more(
    start: Open, tmp_path: Path
) -> None:
    """A key of WIT-SVIDs stayed in the bundle, and its private part on disk, for good."""
    live = start(wit=True)
    wit = live.current.rings["wit"].active
    live.close()
    assert wit is not None
    start().close()
    live = start(wit.not_after + timedelta(seconds=61))
    assert not live.current.wit_keys.keys
    assert not (tmp_path / "keys" / f"key-{wit.kid}.pem").exists()
    live.close()
    assert start(wit.not_after + timedelta(seconds=62), wit=True).current.wit_key is not None


def test_ring_that_no_sequence_of_steps_leads_to_is_refused(start: Open) -> None:
    live = start()
    pass_time(live, NOW + DAY / 2)
    active, prepared = live.current.rings["x509"]
    for stage in (Stage.ACTIVE, Stage.PREPARED):
        with pytest.raises(AuthorityStateError, match="in one slot"):
            KeyRing("x509", (replace(active, stage=stage), replace(prepared, stage=stage)))
    with pytest.raises(AuthorityStateError, match="another role"):
        KeyRing("jwt", (active,))
    with pytest.raises(AuthorityStateError, match="prepared already"):
        live.current.rings["x509"].with_prepared(prepared)
    assert KeyRing("x509", (prepared,)).next_step(LIFE) is None, "nothing signs: there is no clock to go by"
