"""Our own certificate, whatever the clock and the keys of the authority do."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from authz.hosts.tls import Credential
from authz.own_identity import LIFETIME, OwnIdentity
from identity.authority import Authority
from identity.key_ring import KeyChange
from identity.live_authority import AuthoritySettings, LiveAuthority
from identity.spiffe import SpiffeId
from identity.x509_svid import verify_x509_svid
from tests.fakes import DOMAIN

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
_DER = serialization.Encoding.DER
DEPUTY = SpiffeId(DOMAIN, "/deputy")


class Clock:
    """A clock that is set."""

    now = NOW

    def __call__(self) -> datetime:
        return self.now


def own(clock: Clock, live: LiveAuthority | None = None) -> OwnIdentity:
    live = live or LiveAuthority.fixed(Authority.generate(DOMAIN, NOW - timedelta(hours=12)))
    return OwnIdentity(live, DEPUTY, ("localhost",), clock)


def leaf_of(credential: Credential) -> x509.Certificate:
    return x509.load_pem_x509_certificate(credential.certificate_chain)


def test_one_certificate_serves_until_half_of_its_life() -> None:
    clock = Clock()
    identity = own(clock)
    first = identity.credential()
    clock.now += LIFETIME / 2 - timedelta(seconds=1)
    assert identity.credential() is first
    clock.now += timedelta(seconds=1)
    assert identity.credential() != first


def test_a_certificate_that_the_authority_cut_short_is_renewed_at_half_of_what_it_has() -> None:
    clock = Clock()
    identity = own(
        clock, LiveAuthority.fixed(Authority.generate(DOMAIN, NOW - timedelta(hours=23, minutes=56)))
    )
    first = identity.credential()
    assert leaf_of(first).not_valid_after_utc == NOW + timedelta(minutes=4)
    clock.now += timedelta(minutes=2)
    assert identity.credential() != first


@pytest.mark.parametrize(
    "step", [timedelta(hours=-11), timedelta(seconds=-30), timedelta(hours=2), timedelta(hours=11)]
)
def test_after_a_step_of_the_clock_the_certificate_is_valid(step: timedelta) -> None:
    """Else a clock that was ahead for a moment would leave us without a valid certificate for as long."""
    clock = Clock()
    identity = own(clock)
    identity.credential()
    clock.now += step
    leaf = leaf_of(identity.credential())
    assert leaf.not_valid_before_utc <= clock.now <= leaf.not_valid_after_utc


def test_when_another_ca_becomes_active_the_next_handshake_has_its_certificate(tmp_path: Path) -> None:
    clock = Clock()
    live = LiveAuthority.open(tmp_path / "keys", DOMAIN, AuthoritySettings(), NOW)
    try:
        identity = own(clock, live)
        first = identity.credential()
        live.apply([KeyChange("prepare", "x509")], NOW)
        assert identity.credential() is first  # a key that is only published signs nothing
        before = live.current.ca
        live.apply([KeyChange("activate", "x509")], NOW)
        second = identity.credential()
        assert second is not first
        active = live.current.ca.certificate
        assert active != before.certificate
        verify_x509_svid([leaf_of(second).public_bytes(_DER)], [active], DOMAIN, NOW)
    finally:
        live.close()


def test_certificate_and_key_belong_together_and_the_key_is_in_no_text() -> None:
    identity = own(Clock())
    credential = identity.credential()
    key = serialization.load_pem_private_key(credential.private_key, None)
    assert key.public_key() == leaf_of(credential).public_key()
    assert "PRIVATE" not in repr(credential) + repr(identity)
