"""Two brokers on the loopback, over TLS: what one withdraws, the other stops."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from authz.address import TcpAddress
from authz.audit.strangers import Strangers
from authz.broker.arrival import Arrival
from authz.broker.deps import Broker, Settings
from authz.broker.event_cursor import FileCursor
from authz.broker.event_discovery import WELL_KNOWN_EVENTS, event_metadata
from authz.broker.event_memory import EventMemory
from authz.broker.event_push import Receiver
from authz.broker.event_signal import Lane, Signal, signal_of
from authz.broker.event_transmitters import Transmitter, Transmitters
from authz.broker.events_endpoint import Inbox, receive_event
from authz.broker.events_outgoing import Outbox, Outside
from authz.errors import StoreError
from authz.hosts.http import HttpHost
from authz.hosts.tls import TlsMaterial
from authz.store.withdrawal_log import Written
from identity.caller import Human
from identity.keys import SigningKey
from identity.names import new_ulid
from identity.security_event import issue_security_event
from identity.withdrawal import Kind, Withdrawal
from tests.broker_fakes import FakeSink

PERSON = Human("https://idp.example", "lead")
WAIT_SECONDS = 20


def certificate(directory: Path) -> TlsMaterial:
    """A certificate for localhost that vouches for itself, for an hour."""
    now, key = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain = made.public_bytes(serialization.Encoding.PEM)
    (directory / "ca.pem").write_bytes(chain)
    pkcs8 = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption())
    return TlsMaterial(chain, private, chain)


class Side:
    """One broker: its withdrawals in a list, its endpoint on a port."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700)
        self.directory = directory
        self.key = SigningKey.generate()
        self.sink, self.strangers, self.tasks = FakeSink(), Strangers(), self
        self.epoch = 1
        self.withdrawn: list[Withdrawal] = []
        self.issuer = ""
        self.inbox: Inbox | None = None
        self.broken = False

    def clock(self) -> datetime:
        return datetime.now(UTC)

    def new_id(self, now: datetime) -> str:
        return new_ulid(now, os.urandom(10))

    def withdraw(self, withdrawal: Withdrawal, now: datetime) -> None:
        if self.broken:
            raise StoreError("the disk is full")
        self.withdrawn.append(withdrawal)
        self.epoch += 1

    def signals(self, after: int, limit: int) -> Sequence[Signal]:
        written = [Written(n, one, one.human or PERSON.uri) for n, one in enumerate(self.withdrawn, 1)]
        return [signal_of(one) for one in written if one.number > after][:limit]

    async def events(self, request: Request) -> Response:
        assert self.inbox is not None
        arrival = Arrival("POST", "local", (), await request.body(), request.headers["content-type"])
        # It has what `receive_event` uses of a Broker.
        reply = await receive_event(arrival, cast("Broker", self), self.inbox)
        return Response(json.dumps(reply.body) if reply.body else b"", reply.status)

    def app(self) -> Starlette:
        async def metadata(_: Request) -> Response:
            return JSONResponse(event_metadata(Settings(issuer=self.issuer, audiences={})))

        async def keys(_: Request) -> Response:
            return JSONResponse({"keys": [{**self.key.public.jwk(), "use": "sig"}]})

        return Starlette(
            routes=[
                Route(WELL_KNOWN_EVENTS, metadata),
                Route("/jwks", keys),
                Route("/events", self.events, methods=["POST"]),
            ]
        )

    def hear(self, other: "Side", ca_file: Path) -> None:
        transmitter = Transmitter(
            other.issuer, self.issuer, frozenset({PERSON.issuer}), ca_file=ca_file, allow_loopback=True
        )
        self.inbox = Inbox(
            Transmitters([transmitter], 30), self, EventMemory.open(self.directory, self.clock)
        )

    def told(self, other: "Side", lane: Lane = "people") -> int:
        """How far the other one was told."""
        return FileCursor(self.directory, f"{other.issuer}/events", other.issuer, lane).load()

    def outbox(self, other: "Side", ca_file: Path | None) -> Outbox:
        receiver = Receiver(f"{other.issuer}/events", other.issuer, ca_file=ca_file, allow_loopback=True)
        outside = Outside(
            self.issuer,
            self.signals,
            lambda event, audience: issue_security_event(self.key, event, audience),
            self.sink,
            self.clock,
            self.new_id,
            sleep=lambda _: asyncio.sleep(0.01),
        )
        return Outbox(
            [receiver], lambda one, lane: FileCursor(self.directory, one.url, one.audience, lane), outside
        )


@asynccontextmanager
async def pair(directory: Path) -> AsyncIterator[tuple[Side, Side]]:
    tls = certificate(directory)
    here, there = Side(directory / "here"), Side(directory / "there")
    hosts = []
    for side in (here, there):
        host = HttpHost(side.app(), tls=lambda: tls)
        address = await host.listen(TcpAddress("127.0.0.1", 0))
        side.issuer = f"https://localhost:{str(address).rpartition(':')[2]}"
        hosts.append(host)
    here.hear(there, directory / "ca.pem")
    there.hear(here, directory / "ca.pem")
    try:
        yield here, there
    finally:
        for host in hosts:
            await host.close(grace_seconds=0.1)


async def run(outboxes: Sequence[Outbox], until: Any) -> None:
    running = [asyncio.create_task(outbox.run()) for outbox in outboxes]
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while not until():
                await asyncio.sleep(0.02)
                for outbox in outboxes:
                    outbox.wake()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def stopped(reason: str = "left the company") -> Withdrawal:
    return Withdrawal("human", PERSON.uri, None, reason, "uid 1000", datetime.now(UTC))


def test_what_one_broker_withdraws_the_other_stops_and_does_not_send_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        ca_file = tmp_path / "ca.pem"
        async with pair(tmp_path) as (here, there):
            first = stopped()
            here.withdrawn.append(first)
            outboxes = [here.outbox(there, ca_file), there.outbox(here, ca_file)]
            await run(outboxes, lambda: here.told(there) == 1)
            # One more, so that what was heard first would have come back by now.
            here.withdrawn.append(stopped("again"))
            await run(outboxes, lambda: here.told(there) == 2 and there.told(here) == 2)
            (heard, _) = there.withdrawn
            assert (heard.subject, heard.before) == (PERSON.uri, int(first.at.timestamp()))
            assert heard.reason == "session-revoked: left the company"
            assert len(here.withdrawn) == 2
            assert [entry.fields["outcome"] for entry in here.sink.entries] == ["sent", "sent"]
            assert [entry.fields["outcome"] for entry in there.sink.entries] == ["received", "received"]

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["token", "txn"])
def test_an_agent_that_revokes_its_tokens_signs_its_person_out_nowhere_else(
    tmp_path: Path, kind: Kind
) -> None:
    """The other broker is told, and keeps a record: a token of this one is no sign-in there."""

    async def scenario() -> None:
        async with pair(tmp_path) as (here, there):
            now = datetime.now(UTC)
            by, end = "spiffe://here.example/ns/agents/sa/runner", now + timedelta(minutes=10)
            one = Withdrawal(kind, "J" * 22, None, "revoked by its presenter", by, now, end, PERSON.uri)
            here.withdrawn.append(one)
            await run([here.outbox(there, tmp_path / "ca.pem")], lambda: here.told(there, "tokens") == 1)
            assert there.withdrawn == []
            assert there.sink.last["outcome"] == "ignored"
            assert f"session {kind}:{'J' * 22}; by system" in str(there.sink.last["detail"])
            assert here.sink.last["human"] == {"issuer": PERSON.issuer, "subject": PERSON.subject}

    asyncio.run(scenario())


def test_a_receiver_whose_disk_is_full_is_told_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        ca_file = tmp_path / "ca.pem"
        async with pair(tmp_path) as (here, there):
            there.broken = True
            here.withdrawn.append(stopped())
            outbox = here.outbox(there, ca_file)
            await run([outbox], lambda: len(there.sink.entries) >= 2)
            assert (there.withdrawn, here.sink.entries) == ([], [])
            there.broken = False
            await run([here.outbox(there, ca_file)], lambda: here.told(there) == 1)
            assert len(there.withdrawn) == 1

    asyncio.run(scenario())


def test_no_event_goes_to_a_receiver_that_we_do_not_trust(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as (here, there):
            here.withdrawn.append(stopped())
            outbox = here.outbox(there, None)
            failed = "ClientConnectorCertificateError"
            await run([outbox], lambda: failed in caplog.text)
            assert failed in (await outbox.status())[0].last_error
            assert (there.sink.entries, there.withdrawn) == ([], [])

    asyncio.run(scenario())


def test_a_crash_after_a_push_tells_twice_and_stops_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        ca_file = tmp_path / "ca.pem"
        async with pair(tmp_path) as (here, there):
            here.withdrawn.append(stopped())
            await run([here.outbox(there, ca_file)], lambda: here.told(there) == 1)
            for path in (here.directory / "events").glob("*"):
                path.unlink()  # as if it had not been kept
            await run([here.outbox(there, ca_file)], lambda: here.told(there) == 1)
            assert len(there.withdrawn) == 1
            assert [entry.fields["outcome"] for entry in there.sink.entries] == ["received", "repeated"]

    asyncio.run(scenario())
