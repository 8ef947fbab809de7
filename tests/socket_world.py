"""A Workload API on a real Unix socket, with an authority whose keys and time the test turns."""

import asyncio
from collections.abc import AsyncIterator, Container, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc

from identity.authority import Authority
from identity.bundle import Bundle
from identity.entitlement import Entitlement, Issuance, Peer
from identity.feed import Feed
from identity.key_ring import KeyRing, KeySlot, Stage
from identity.keys import SigningKey
from identity.pb import workload_pb2 as pb
from identity.socket_connection import SocketLimits
from identity.socket_server import SocketServer
from identity.spiffe import SpiffeId, TrustDomain
from identity.svid_source import IssuingSource, SvidSettings
from identity.trust_bundles import TrustBundles
from identity.workload_api import WorkloadApi
from identity.workload_messages import standard_file

MESH = TrustDomain.parse("mesh.example")
OTHER = TrustDomain.parse("other.example")
AUDIENCE = "https://broker.mesh.example"
HEADER = (("workload.spiffe.io", "true"),)
WEB = SpiffeId.parse("spiffe://mesh.example/ns/demo/sa/web")
JOB = SpiffeId.parse("spiffe://mesh.example/ns/demo/sa/job")


@dataclass
class TurningLive:
    """An authority that the test replaces."""

    current: Authority
    feed: Feed = field(default_factory=Feed)


@dataclass
class MemoryRecorder:
    """Evidence in a list, or a refusal."""

    kept: list[Issuance] = field(default_factory=list)
    refusal: Exception | None = None
    gate: asyncio.Event | None = None

    async def issued(self, issuance: Issuance) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.refusal is not None:
            raise self.refusal
        self.kept.append(issuance)


@dataclass
class TurningClock:
    now: datetime

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class GivenEntitlements:
    """What every caller may have; who asked is kept."""

    given: tuple[Entitlement, ...] = (Entitlement(WEB),)
    refusal: Exception | None = None
    asked: list[Peer] = field(default_factory=list)

    def of(self, peer: Peer) -> tuple[Entitlement, ...]:
        self.asked.append(peer)
        if self.refusal is not None:
            raise self.refusal
        return self.given


class SocketWorld:
    """All parts of one socket."""

    def __init__(self, settings: SvidSettings | None = None, **entitlement: Any) -> None:
        self.clock = TurningClock(datetime.now(UTC).replace(microsecond=0))
        self.live = TurningLive(Authority.generate(MESH, self.clock.now))
        self.federated: dict[TrustDomain, Bundle] = {}
        self.recorder = MemoryRecorder()
        self.is_ready = True
        self.entitlements = GivenEntitlements((Entitlement(WEB, **entitlement),))
        self.source = IssuingSource(
            self.live,
            self.bundles,
            self.recorder,
            settings or SvidSettings(jwt_audiences=frozenset({AUDIENCE})),
            clock=self.clock,
            chance=lambda: 0.5,
            is_ready=lambda: self.is_ready,
        )
        self.api = WorkloadApi(self.source, self.entitlements)

    def bundles(self) -> TrustBundles:
        return TrustBundles(self.live.current.trust_bundle(), dict(self.federated))

    def rotate(self) -> None:
        """Let a new authority take over, which publishes the old root too."""
        self.live.current = Authority.generate(MESH, self.clock.now)
        self.live.feed.publish()

    def entitle(self, *entitlements: Entitlement) -> None:
        self.entitlements.given = entitlements
        self.live.feed.publish()

    def federate(self, authority: Authority) -> None:
        self.federated[authority.trust_domain] = authority.trust_bundle()
        self.live.feed.publish()

    @asynccontextmanager
    async def served(
        self,
        path: Path,
        limits: SocketLimits | None = None,
        *,
        hashed: Container[int] = (),
        seconds: float = 60,
    ) -> AsyncIterator["Client"]:
        server = SocketServer(
            limits or SocketLimits(), is_ready=lambda: self.is_ready, changes=self.live.feed
        )
        await server.listen(path, [self.api], files=[standard_file()], hashed=hashed)
        try:
            async with grpc.aio.insecure_channel(f"unix:{path}") as channel, asyncio.timeout(seconds):
                yield Client(channel)
        finally:
            await server.close()


class Client:
    """A raw client of grpcio, which knows nothing of the standard but the wire."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    async def call(self, rpc: str, request: Any, metadata: Sequence[tuple[str, str]] = HEADER) -> Any:
        method = self.channel.unary_unary(
            f"/SpiffeWorkloadAPI/{rpc}",
            request_serializer=_bytes,
            response_deserializer=_answer(rpc).FromString,
        )
        return await method(request, metadata=metadata)

    def stream(self, rpc: str, request: Any, metadata: Sequence[tuple[str, str]] = HEADER) -> Any:
        method = self.channel.unary_stream(
            f"/SpiffeWorkloadAPI/{rpc}",
            request_serializer=_bytes,
            response_deserializer=_answer(rpc).FromString,
        )
        return method(request, metadata=metadata)

    async def first(self, rpc: str, request: Any, metadata: Sequence[tuple[str, str]] = HEADER) -> Any:
        """Return the first message of a stream, or raise as it ended."""
        call = self.stream(rpc, request, metadata)
        try:
            return await anext(aiter(call))
        finally:
            call.cancel()


def wit_world() -> SocketWorld:
    world = SocketWorld(SvidSettings(jwt_audiences=frozenset({AUDIENCE}), wit_enabled=True))
    world.live.current = with_wit(world.live.current, world)
    return world


def with_wit(authority: Authority, world: SocketWorld) -> Authority:
    key = SigningKey.generate()
    slot = KeySlot("wit", Stage.ACTIVE, key.public, world.clock.now, authority.ca.not_after)
    return replace(
        authority,
        rings={**authority.rings, "wit": KeyRing("wit", (slot,))},
        keys={**authority.keys, key.kid: key},
    )


async def refusal(awaitable: Any) -> tuple[grpc.StatusCode, str]:
    """Return with what a call was refused."""
    try:
        answer = await awaitable
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    raise AssertionError(f"answered: {answer!r}")


def _answer(rpc: str) -> Any:
    return getattr(pb, rpc.removeprefix("Fetch").removesuffix("Response") + "Response")


def _bytes(message: Any) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()
