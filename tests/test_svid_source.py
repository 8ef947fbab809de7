"""What our own authority issues: one SVID an identity, replaced in time, recorded first, never stale."""

import asyncio
import hashlib
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509

from identity.authority import Authority
from identity.entitlement import Entitlement, Issuance
from identity.errors import AuthorityStateError, IssuanceUnavailableError, NotEntitledError
from identity.jws import UnverifiedToken
from identity.live_authority import LiveAuthority
from identity.svid_source import IssuingSource, SvidSettings
from identity.x509_svid import thumbprint
from tests.socket_world import AUDIENCE, JOB, MESH, OTHER, WEB, SocketWorld, wit_world, with_wit


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


def test_all_who_ask_for_an_identity_get_one_svid_and_key() -> None:
    async def main() -> None:
        world = SocketWorld()
        made = await asyncio.gather(*(world.source.x509_svid(Entitlement(WEB)) for _ in range(50)))
        assert len({id(svid) for svid in made}) == 1
        assert len(world.recorder.kept) == 1
        assert (await world.source.x509_svid(Entitlement(JOB))).key.kid != made[0].key.kid

    run(main())


def test_an_svid_is_recorded_before_it_is_handed_out() -> None:
    async def main() -> None:
        world = SocketWorld()
        svid = await world.source.x509_svid(Entitlement(WEB))
        token = await world.source.jwt_svid(Entitlement(WEB), (AUDIENCE,))
        expires_at = UnverifiedToken.parse(token).unverified_claims["exp"]
        assert world.recorder.kept[0] == Issuance(
            "x509-svid", Entitlement(WEB), svid.not_after, thumbprint=thumbprint(svid.chain[0])
        )
        assert world.recorder.kept[1].kind == "jwt-svid"
        assert world.recorder.kept[1].expires_at.timestamp() == expires_at
        assert world.recorder.kept[1].audience == AUDIENCE
        assert world.recorder.kept[1].token_id == hashlib.sha256(token.encode()).hexdigest()

    run(main())


def test_what_cannot_be_recorded_is_not_issued() -> None:
    async def main() -> None:
        world = wit_world()
        world.recorder.refusal = IssuanceUnavailableError("no space left")
        for issuing in (
            world.source.x509_svid(Entitlement(WEB)),
            world.source.wit_svid(Entitlement(WEB)),
            world.source.jwt_svid(Entitlement(WEB), (AUDIENCE,)),
        ):
            with pytest.raises(IssuanceUnavailableError, match="no space left"):
                await issuing
        world.recorder.refusal = None
        await world.source.x509_svid(Entitlement(WEB))
        assert len(world.recorder.kept) == 1

    run(main())


@pytest.mark.parametrize(("chance", "expected"), [(0.0, 270), (0.5, 300), (1.0, 330)])
def test_an_svid_is_renewed_at_half_its_life_a_tenth_earlier_or_later(chance: float, expected: int) -> None:
    async def main() -> None:
        world = SocketWorld()
        world.source._chance = lambda: chance
        svid = await world.source.x509_svid(Entitlement(WEB))
        assert svid.not_after == world.clock.now + timedelta(seconds=600)
        assert svid.renew_at == world.clock.now + timedelta(seconds=expected)
        world.clock.advance(expected - 1)
        assert await world.source.x509_svid(Entitlement(WEB)) is svid
        world.clock.advance(1)
        assert await world.source.x509_svid(Entitlement(WEB)) is not svid

    run(main())


def test_an_svid_of_a_key_that_signs_no_more_is_replaced_at_once() -> None:
    async def main() -> None:
        world = wit_world()
        old, old_wit = (
            await world.source.x509_svid(Entitlement(WEB)),
            await world.source.wit_svid(Entitlement(WEB)),
        )
        world.live.current = with_wit(Authority.generate(MESH, world.clock.now), world)
        new, new_wit = (
            await world.source.x509_svid(Entitlement(WEB)),
            await world.source.wit_svid(Entitlement(WEB)),
        )
        assert world.bundles().verify_x509(new.chain, world.clock.now).spiffe_id == WEB
        assert new.key.kid != old.key.kid
        assert new_wit.token != old_wit.token

    run(main())


def test_an_svid_ends_with_its_task_and_not_before_it() -> None:
    async def main() -> None:
        world = SocketWorld()
        short = Entitlement(WEB, not_after=world.clock.now + timedelta(seconds=90), task="t")
        svid = await world.source.x509_svid(short)
        assert svid.not_after == svid.renew_at == short.not_after
        token = await world.source.jwt_svid(
            Entitlement(WEB, not_after=world.clock.now + timedelta(seconds=20)), (AUDIENCE,)
        )
        claims = UnverifiedToken.parse(token).unverified_claims
        assert claims["exp"] == world.clock.now.timestamp() + 20
        world.clock.advance(60)
        assert await world.source.x509_svid(short) is svid
        longer = Entitlement(WEB, not_after=world.clock.now + timedelta(hours=1), task="t")
        renewed = await world.source.x509_svid(longer)
        assert renewed.not_after == world.clock.now + timedelta(seconds=600)
        world.clock.advance(3600)
        with pytest.raises(NotEntitledError, match="over"):
            await world.source.x509_svid(longer)
        with pytest.raises(NotEntitledError, match="over"):
            await world.source.jwt_svid(longer, (AUDIENCE,))

    run(main())


def test_a_task_that_is_cut_short_gets_a_shorter_svid() -> None:
    async def main() -> None:
        world = SocketWorld()
        await world.source.x509_svid(Entitlement(WEB))
        end = world.clock.now + timedelta(seconds=30)
        assert (await world.source.x509_svid(Entitlement(WEB, not_after=end))).not_after == end

    run(main())


def test_a_clock_that_jumps_back_makes_no_stale_svid() -> None:
    """An SVID from the future is replaced; before the key of the authority nothing is signed."""

    async def main() -> None:
        world = wit_world()
        world.clock.advance(3600)
        future = await world.source.x509_svid(Entitlement(WEB))
        world.clock.advance(-1800)
        now = await world.source.x509_svid(Entitlement(WEB))
        assert now is not future
        assert now.not_after == world.clock.now + timedelta(seconds=600)
        world.clock.advance(-1800 - 3600)
        for issuing in (
            world.source.x509_svid(Entitlement(WEB)),
            world.source.wit_svid(Entitlement(WEB)),
            world.source.jwt_svid(Entitlement(WEB), (AUDIENCE,)),
        ):
            with pytest.raises(IssuanceUnavailableError, match="clock"):
                await issuing

    run(main())


def test_a_clock_that_jumps_ahead_of_the_authority_makes_nothing() -> None:
    async def main() -> None:
        world = wit_world()
        await world.source.x509_svid(Entitlement(WEB))
        world.clock.now = world.live.current.ca.not_after + timedelta(seconds=1)
        for issuing in (
            world.source.x509_svid(Entitlement(WEB)),
            world.source.wit_svid(Entitlement(WEB)),
            world.source.jwt_svid(Entitlement(WEB), (AUDIENCE,)),
        ):
            with pytest.raises(IssuanceUnavailableError):
                await issuing

    run(main())


def test_an_svid_never_outlives_the_key_that_signed_it() -> None:
    async def main() -> None:
        world = wit_world()
        world.clock.now = world.live.current.ca.not_after - timedelta(seconds=30)
        assert (await world.source.x509_svid(Entitlement(WEB))).not_after == world.live.current.ca.not_after
        assert (await world.source.wit_svid(Entitlement(WEB))).not_after <= world.live.current.ca.not_after
        token = await world.source.jwt_svid(Entitlement(WEB), (AUDIENCE,))
        claims = UnverifiedToken.parse(token).unverified_claims
        assert claims["exp"] == world.live.current.ca.not_after.timestamp()

    run(main())


@pytest.mark.parametrize("audiences", [(), ("https://nobody.example",), (AUDIENCE, AUDIENCE), ("",)])
def test_a_jwt_svid_is_for_one_audience_that_is_known(audiences: tuple[str, ...]) -> None:
    async def main() -> None:
        world = SocketWorld()
        with pytest.raises(NotEntitledError):
            await world.source.jwt_svid(Entitlement(WEB), audiences)
        assert world.recorder.kept == []

    run(main())


def test_an_id_of_another_trust_domain_is_not_signed() -> None:
    async def main() -> None:
        world = wit_world()
        foreign = Entitlement(type(WEB).parse(f"spiffe://{OTHER}/ns/demo/sa/web"))
        with pytest.raises(IssuanceUnavailableError):
            await world.source.x509_svid(foreign)
        with pytest.raises(IssuanceUnavailableError):
            await world.source.jwt_svid(foreign, (AUDIENCE,))
        assert world.recorder.kept == []

    run(main())


def test_what_has_expired_is_forgotten() -> None:
    async def main() -> None:
        world = wit_world()
        for number in range(20):
            each = Entitlement(type(WEB).parse(f"spiffe://mesh.example/w/{number}"))
            await world.source.x509_svid(each)
            await world.source.wit_svid(each)
        assert len(world.source._x509) == len(world.source._wit) == 20
        world.clock.advance(601)
        await world.source.x509_svid(Entitlement(WEB))
        assert (len(world.source._x509), len(world.source._wit)) == (1, 0)

    run(main())


def test_a_caller_that_goes_away_does_not_take_the_others_along() -> None:
    async def main() -> None:
        world = SocketWorld()
        world.recorder.gate = asyncio.Event()
        first = asyncio.create_task(world.source.x509_svid(Entitlement(WEB)))
        second = asyncio.create_task(world.source.x509_svid(Entitlement(WEB)))
        await asyncio.sleep(0)
        first.cancel()
        world.recorder.gate.set()
        assert (await second).spiffe_id == WEB
        with pytest.raises(asyncio.CancelledError):
            await first

    run(main())


def test_a_name_in_the_certificate_is_part_of_what_is_asked_for() -> None:
    async def main() -> None:
        world = SocketWorld()
        plain = await world.source.x509_svid(Entitlement(WEB))
        named = await world.source.x509_svid(Entitlement(WEB, dns_names=("web.example",)))
        assert named is not plain
        leaf = x509.load_der_x509_certificate(named.chain[0])
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["web.example"]

    run(main())


def test_a_real_authority_is_a_source(tmp_path: Any) -> None:
    async def main() -> None:
        world = SocketWorld()
        live = LiveAuthority.fixed(world.live.current)
        source = IssuingSource(
            live, world.bundles, world.recorder, SvidSettings(), clock=world.clock, chance=lambda: 0.5
        )
        assert source.is_ready
        assert not source.wit_enabled
        assert source.changes is live.feed
        assert (await source.x509_svid(Entitlement(WEB))).spiffe_id == WEB
        with pytest.raises(IssuanceUnavailableError, match="WIT"):
            await source.wit_svid(Entitlement(WEB))

    run(main())


def test_an_authority_without_keys_issues_nothing() -> None:
    class NoKeys:
        feed = SocketWorld().live.feed

        @property
        def current(self) -> Authority:
            raise AuthorityStateError("an authority without keys")

    async def main() -> None:
        world = SocketWorld()
        source = IssuingSource(
            NoKeys(), world.bundles, world.recorder, SvidSettings(), clock=world.clock, chance=lambda: 0.5
        )
        with pytest.raises(IssuanceUnavailableError, match="without keys"):
            await source.x509_svid(Entitlement(WEB))

    run(main())
