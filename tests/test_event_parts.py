"""From the section `events` of the configuration to what hears and tells."""

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from authz.audit.strangers import Strangers
from authz.broker.arrival import Arrival
from authz.broker.deps import Broker
from authz.broker.event_parts import open_inbox, open_outbox
from authz.broker.events_endpoint import Inbox, receive_event
from authz.broker.events_outgoing import Outbox
from authz.config_events import EventsConfig
from authz.errors import ConfigError
from authz.store.snapshot import State
from authz.store.sqlite import Store
from identity.caller import Human
from identity.keys import SigningKey
from identity.names import new_ulid
from identity.withdrawal import Standing, Withdrawal
from tests.broker_fakes import FakeSink, serving
from tests.event_world import event_token, iss_sub
from tests.test_events_outgoing import Party

BROKER = "https://broker.mesh.example"


def now() -> datetime:
    return datetime.now(UTC)


class World:
    """A state on disk, and what `receive_event` asks of a broker."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = Store.open(directory / "state.db")
        self.state = State.load(self.store, now())
        self.sink, self.strangers = FakeSink(), Strangers()
        self.tasks, self.clock = self.state, now
        self.key = SigningKey.generate()

    def new_id(self, at: datetime) -> str:
        return new_ulid(at, os.urandom(10))

    def inbox(self, **transmitter: Any) -> Inbox:
        events = EventsConfig.model_validate({"transmitters": [transmitter]})
        return open_inbox(
            events, issuer=BROKER, leeway=30, state=self.state, data_dir=self.directory, clock=now
        )

    def outbox(self, **receiver: Any) -> Outbox:
        return open_outbox(
            EventsConfig.model_validate({"receivers": [receiver]}),
            issuer=BROKER,
            token_key=lambda: self.key,
            sink=self.sink,
            data_dir=self.directory,
            clock=now,
            new_id=self.new_id,
        )

    async def push(self, inbox: Inbox, token: str, *authorization: str) -> int:
        arrival = Arrival(
            "POST", "local", (), token.encode(), "application/secevent+jwt", authorization=authorization
        )
        return (await receive_event(arrival, cast("Broker", self), inbox)).status


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "data")
    yield world
    world.store.close()


def transmitter_app(key: SigningKey) -> Starlette:
    async def keys(_: Request) -> Response:
        return JSONResponse({"keys": [{**key.public.jwk(), "use": "sig"}]})

    return Starlette(routes=[Route("/keys", keys)])


def test_an_event_that_is_heard_stops_a_person_in_the_state(world: World, tmp_path: Path) -> None:
    """And an earlier containment is not weakened by a later end of sessions."""
    secret = tmp_path / "bearer"
    secret.touch(0o600)
    secret.write_text("s3cret-s3cret-s3cret")

    async def scenario() -> None:
        async with serving(transmitter_app(world.key)) as issuer:
            inbox = world.inbox(
                issuer=issuer, jwks_uri=f"{issuer}/keys", bearer_file=str(secret), allow_loopback=True
            )
            claims: dict[str, Any] = {"iss": issuer, "sub_id": iss_sub(issuer=issuer), "now": now()}
            first = event_token(
                "https://schemas.openid.net/secevent/risc/event-type/account-disabled",
                {},
                key=world.key,
                **claims,
            )
            second = event_token(key=world.key, jti="event-2", **claims)
            bearer = "Bearer s3cret-s3cret-s3cret"
            assert await world.push(inbox, first) == 400
            assert await world.push(inbox, first, bearer) == 202
            assert await world.push(inbox, second, bearer) == 202
            person = Human(issuer, "lead").uri
            later = Standing(human=person, issued_at=int(now().timestamp()) + 999)
            found = world.state.withdrawals.find(later)
            assert found is not None
            assert found.is_containment
            world.state.release("human", person, "uid 0", "they are back", now())
            assert world.state.withdrawals.find(later) is None
            # What was signed in to before the session ended stays withdrawn; and the old event does nothing.
            assert await world.push(inbox, first, bearer) == 202
            assert world.state.withdrawals.find(later) is None
            earlier = Standing(human=person, issued_at=int(now().timestamp()) - 999)
            assert world.state.withdrawals.find(earlier) is not None

    asyncio.run(scenario())


def test_a_withdrawal_in_the_state_is_told(world: World) -> None:
    person = "https://idp.example#lead"
    world.state.withdraw(Withdrawal("human", person, None, "a reason", "uid 0", now()), now())
    party = Party()

    async def scenario() -> None:
        async with serving(party.app()) as base, asyncio.timeout(20):
            outbox = world.outbox(url=f"{base}/events", audience="x", allow_loopback=True)
            running = asyncio.create_task(outbox.run())
            while not world.sink.entries:
                await asyncio.sleep(0.01)
                outbox.wake()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())
    assert len(party.pushed) == 1
    assert world.sink.last["outcome"] == "sent"


def test_a_secret_that_cannot_be_read_is_found_at_start(world: World) -> None:
    missing = {"bearer_file": "/nowhere/bearer"}
    with pytest.raises(ConfigError, match="/nowhere/bearer"):
        world.inbox(issuer="https://idp.example", **missing)
    with pytest.raises(ConfigError, match="/nowhere/bearer"):
        world.outbox(url="https://soc.example", audience="x", **missing)
