"""A provider that fails, seen from the broker's endpoints: nothing is issued, and there is one record."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from authz.broker.app import broker_app
from authz.broker.fetch import Fetched, Fetcher
from authz.broker.human import OpenIdPeople
from authz.broker.id_token import IdentityProvider
from authz.broker.provider_keys import MAX_FRESH_SECONDS, RETRY_SECONDS
from authz.codes import Code
from authz.demo.provider import provider_app
from authz.hosts.http import App, Receive, Scope, Send
from identity.jws import UnverifiedToken
from identity.keys import SigningKey
from tests.broker_fakes import (
    CLIENT,
    ES256,
    ISSUER,
    NOW,
    Ticks,
    World,
    broker_alone,
    check_refused,
    csr_of,
    id_token,
    provider_of,
    serving,
    serving_tls,
)

Fault = Callable[[Scope, Receive, Send], Awaitable[None]]


async def hangs(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.Event().wait()


async def drips(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b" ", "more_body": True})
        await asyncio.sleep(0.02)


async def redirects(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"location", b"http://169.254.169.254/latest/meta-data")]
    await send({"type": "http.response.start", "status": 302, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def says(body: bytes, status: int = 200) -> Fault:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return answer


def publishes(*keys: object) -> Fault:
    """Be right in all but the keys."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if str(scope["path"]).endswith("/jwks"):
            await says(json.dumps({"keys": keys}).encode())(scope, receive, send)
        else:
            await provider_app(provider_of(), lambda: NOW)(scope, receive, send)

    return answer


PRIVATE = {**ES256.private.as_dict(private=True), "kid": "private"}
FAULTS: dict[str, Fault] = {
    "hangs": hangs,
    "drips": drips,
    "redirects": redirects,
    "answers 5 MB": says(b" " * 5_000_000),
    "answers a page": says(b"<html>sign in</html>"),
    "answers an error": says(b"{}", 500),
    "is another issuer": says(b'{"issuer":"https://evil.example","jwks_uri":"https://evil.example/jwks"}'),
    "publishes a private key": publishes(ES256.public, PRIVATE),
    "publishes a symmetric key": publishes(ES256.public, {"kty": "oct", "k": "AAAA", "kid": "s"}),
    "publishes one kid twice": publishes(ES256.public, ES256.public),
    "publishes 101 keys": publishes(*({**ES256.public, "kid": str(number)} for number in range(101))),
}
each_fault = pytest.mark.parametrize("fault", FAULTS)


class Moody:
    """A provider over HTTP that is right until it has a fault."""

    def __init__(self) -> None:
        self.fault: Fault | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: App = self.fault or provider_app(provider_of(), lambda: NOW)
        await app(scope, receive, send)


@asynccontextmanager
async def moody_world(ticks: Ticks) -> AsyncIterator[tuple[World, Moody]]:
    """A broker whose one provider has moods; both behind real sockets."""
    moody, world = Moody(), broker_alone()
    async with serving(moody) as base:

        async def fetch(url: str) -> Fetched:
            # A busy machine may be slow; who waits for a fault need not wait long.
            fetcher = Fetcher(allow_loopback=True, timeout_seconds=0.3 if moody.fault else 30)
            return await fetcher.fetch(url.replace(ISSUER, base))

        known = IdentityProvider(ISSUER, frozenset({CLIENT}))
        people = OpenIdPeople([known], 30, fetch=lambda _: fetch, monotonic=ticks)
        world.broker = replace(world.broker, people=people)
        async with serving_tls(
            broker_app(world.broker, lambda: True), world.broker.authority, world.clock.now
        ) as base_of_broker:
            world.base = base_of_broker + world.broker.settings.path
            yield world, moody


@each_fault
def test_jw07_no_token_while_a_provider(fault: str) -> None:
    """JW-07, TX-06: hangs, redirects, answers 5 MB or a private key: 503, nothing issued, one record."""

    async def scenario() -> None:
        ticks = Ticks()
        async with moody_world(ticks) as (world, moody):
            task = await world.start()
            moody.fault = FAULTS[fault]
            ticks.seconds += MAX_FRESH_SECONDS + 1
            before = len(world.sink.entries)
            response = await world.exchange(task)
            check_refused(world, response, before, "temporarily_unavailable", Code.PROVIDER_UNAVAILABLE)
            assert "idp" not in response.json()["error_description"]
            assert "private" not in response.text

            # It recovers by itself.
            moody.fault = None
            ticks.seconds += RETRY_SECONDS
            assert (await world.exchange(task)).status_code == 200

    asyncio.run(scenario())


@each_fault
def test_jw07_no_task_while_a_provider(fault: str) -> None:
    """JW-07: who the person is cannot be known, so no task starts for them."""

    async def scenario() -> None:
        async with moody_world(Ticks()) as (world, moody):
            moody.fault = FAULTS[fault]
            body = {
                "agent": "triage",
                "csr": csr_of(SigningKey.generate().private_key),
                "subject_token": world.id_token(),
            }
            response = await world.send("POST", "/tasks", world.runner, json=body)
            assert (response.status_code, response.json()["code"]) == (503, Code.PROVIDER_UNAVAILABLE.value)
            assert world.tasks.tasks == {}
            (entry,) = world.sink.entries
            assert entry.members(1, "")["effect"] == "deny"

    asyncio.run(scenario())


def test_jw07_a_provider_that_hangs_holds_up_nobody_of_another() -> None:
    """JW-07: each provider has a single flight of its own."""

    async def scenario() -> None:
        gate = asyncio.Event()

        async def never(url: str) -> Fetched:
            await gate.wait()
            raise AssertionError(url)

        async def at_once(url: str) -> Fetched:
            good = provider_of("https://good.example")
            document = good.jwks() if url.endswith("/jwks") else good.discovery()
            return Fetched(json.dumps(document).encode(), None)

        providers = [IdentityProvider(one, frozenset({CLIENT})) for one in (ISSUER, "https://good.example")]
        people = OpenIdPeople(
            providers, 30, fetch=lambda one: never if one.issuer == ISSUER else at_once, monotonic=Ticks()
        )
        stuck = asyncio.create_task(
            people.verify(UnverifiedToken.parse(id_token(provider_of())), "id_token", NOW)
        )
        await asyncio.sleep(0)
        token = UnverifiedToken.parse(id_token(provider_of("https://good.example")))
        assert (await people.verify(token, "id_token", NOW)).human.issuer == "https://good.example"
        assert not stuck.done()
        stuck.cancel()

    asyncio.run(scenario())
