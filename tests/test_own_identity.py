"""Our own certificate, whatever the clock does."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from authz.hosts.tls import TlsMaterial
from authz.own_identity import LIFETIME, OwnIdentity
from identity.authority import Authority
from identity.spiffe import SpiffeId
from tests.fakes import DOMAIN

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)


class Clock:
    """A clock that is set."""

    now = NOW

    def __call__(self) -> datetime:
        return self.now


def own(clock: Clock) -> OwnIdentity:
    authority = Authority.generate(DOMAIN, NOW - timedelta(days=2))
    return OwnIdentity(authority, SpiffeId(DOMAIN, "/deputy"), ("localhost",), clock)


def is_valid(material: TlsMaterial, now: datetime) -> bool:
    certificate = x509.load_pem_x509_certificate(material.certificate_chain)
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def test_one_certificate_serves_until_half_of_its_life() -> None:
    clock = Clock()
    identity = own(clock)
    first = identity.material()
    clock.now += LIFETIME / 2 - timedelta(seconds=1)
    assert identity.material() is first
    clock.now += timedelta(seconds=1)
    assert identity.material() != first


@pytest.mark.parametrize(
    "step", [timedelta(days=-1), timedelta(seconds=-30), timedelta(hours=2), timedelta(days=1)]
)
def test_after_a_step_of_the_clock_the_certificate_is_valid(step: timedelta) -> None:
    """Else a clock that was ahead for a moment would leave us without a valid certificate for as long."""
    clock = Clock()
    identity = own(clock)
    identity.material()
    clock.now += step
    assert is_valid(identity.material(), clock.now)
