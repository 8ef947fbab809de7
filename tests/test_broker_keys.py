"""The keys of the broker's tokens as they rotate, seen through /jwks and through tokens: JW-08."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from authz.broker.app import broker_app
from authz.broker.token_request import ACCESS_TOKEN
from authz.codes import Code
from authz.peers import Peers
from identity.errors import TokenKeyError
from identity.jws import UnverifiedToken
from identity.key_ring import KeyChange, KeyLife
from identity.live_authority import AuthoritySettings, LiveAuthority
from identity.trust_bundles import TrustBundles
from tests.broker_fakes import MESH, SETTINGS, TICKETS_SERVER, World, broker_alone, refused, serving_tls

LIFE = KeyLife(lifetime=timedelta(days=1), lead=timedelta(minutes=3))
CONTINUED = {"subject_token_type": ACCESS_TOKEN}


def run_live(tmp_path: Path, act: Callable[[World, LiveAuthority], Awaitable[None]]) -> None:
    """Run one scenario against a broker whose keys live."""

    async def scenario() -> None:
        world = broker_alone()
        live = LiveAuthority.open(tmp_path / "keys", MESH, AuthoritySettings(LIFE), world.clock.now)
        object.__setattr__(world.broker, "live", live)
        object.__setattr__(world.broker.transactions, "key", lambda: live.current.token_key)
        peers = Peers(lambda: TrustBundles(live.trust_bundle()), frozenset({MESH}))
        object.__setattr__(world.broker, "peers", peers)
        world.runner = world.workload(world.runner.spiffe_id)
        async with serving_tls(broker_app(world.broker, lambda: True), live.current, world.clock.now) as base:
            world.base = base
            await act(world, live)

    asyncio.run(scenario())


async def kids(world: World) -> set[str]:
    response = await world.send("GET", "/jwks", None)
    return {key["kid"] for key in response.json()["keys"]}


def kid_of(token: str) -> Any:
    return UnverifiedToken.parse(token).header["kid"]


def test_jw08_the_next_key_is_published_before_it_signs_and_the_last_one_after(tmp_path: Path) -> None:
    """JW-08: through a rotation by hand; a token of the last key counts to its end."""

    async def act(world: World, live: LiveAuthority) -> None:
        task = await world.start()
        old = await world.token(task)
        live.apply([KeyChange("prepare", "tokens")], world.clock.now)
        published = await kids(world)
        (new_kid,) = published - {kid_of(old)}
        # Published, and not signing: whoever fetches now knows it before it is used.
        assert kid_of(await world.token(task)) == kid_of(old)
        live.apply([KeyChange("activate", "tokens", new_kid)], world.clock.now)
        new = await world.token(task)
        assert kid_of(new) == new_kid
        assert await kids(world) == published
        for token in (old, new):
            assert (await world.exchange(task, token, **CONTINUED)).status_code == 200

    run_live(tmp_path, act)


def test_jw08_a_key_that_is_taken_away_in_an_emergency(tmp_path: Path) -> None:
    """JW-08: the drill: tainted, revoked, gone from the set; its tokens count no more, in no place."""

    async def act(world: World, live: LiveAuthority) -> None:
        task = await world.start()
        old = await world.token(task)
        for change in (
            KeyChange("prepare", "tokens"),
            KeyChange("activate", "tokens"),
            KeyChange("taint", "tokens", kid_of(old)),
            KeyChange("revoke", "tokens", kid_of(old)),
        ):
            if change.action == "activate":
                prepared = live.current.rings["tokens"].prepared
                assert prepared is not None
                change = KeyChange("activate", "tokens", prepared.kid)  # noqa: PLW2901 - its name is known now
            live.apply([change], world.clock.now)
        assert kid_of(old) not in await kids(world)
        await refused(world, task, "invalid_request", Code.TOKEN_KEY, old, **CONTINUED)
        service = world.workload(TICKETS_SERVER)
        answer = await world.send("POST", "/introspect", service, data={"token": old})
        assert answer.json() == {"active": False}
        with pytest.raises(TokenKeyError):
            world.verified(old)
        assert (await world.exchange(task)).status_code == 200

    run_live(tmp_path, act)


def test_jw08_a_retired_key_outlives_what_it_signed() -> None:
    """JW-08: the next one takes over early enough: a sixth of its life is left."""
    left = LIFE.lifetime / 6
    assert left > timedelta(seconds=SETTINGS.delegation_token_seconds + 2 * SETTINGS.leeway)
    assert left > timedelta(seconds=SETTINGS.jwks_max_age)
