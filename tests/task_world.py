"""The task service on real Unix sockets, with what is behind it in memory: for tests of tasks over gRPC."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream
from h2.exceptions import ProtocolError

from authz.audit.strangers import Strangers
from authz.broker.deps import Broker
from authz.identity_service.agent_uids import AgentUids
from authz.identity_service.doorway import Doorway, Pods
from authz.identity_service.entitlements import RegisteredEntitlements, running_task
from authz.identity_service.recorder import AuditRecorder, WatchedEntitlements
from authz.identity_service.task_delivery import Deliveries
from authz.identity_service.task_service import SERVICE, TaskService
from authz.identity_service.task_sockets import SocketBounds, TaskSockets
from identity.bundle import Bundle
from identity.caller import Task
from identity.entitlement import Entitlement, Entitlements, Peer
from identity.pb import task_pb2 as pb
from identity.pb import workload_pb2
from identity.registration import AgentUid, Registration, Registrations
from identity.socket_server import Servicer, SocketServer, peer_of
from identity.spiffe import SpiffeId
from identity.svid_source import IssuingSource, SvidSettings
from identity.trust_bundles import TrustBundles
from identity.workload_api import WorkloadApi
from identity.x509_svid import leaf_spiffe_id
from tests.broker_fakes import BROKER, MESH, RUNNER, TICKETS, FakeSink, FakeTasks, World, broker_alone

UID = os.getuid()
# Uids that this process does not have.
OTHER_UID, AGENT_UID = UID + 4001, UID + 4002
OTHER_RUNNER = SpiffeId.parse("spiffe://mesh.example/ns/agents/sa/other-runner")
_WORKLOAD = "/SpiffeWorkloadAPI"
_HEADER = {"workload.spiffe.io": "true"}


class PublishingTasks(FakeTasks):
    """As the real registry does: a withdrawal is told to those who wait."""

    def __init__(self, agents: Any, tell: Callable[[], None]) -> None:
        super().__init__(tuple(agents))
        self._tell = tell

    def end_task(self, task_id: str, now: datetime) -> Task | None:
        ended = super().end_task(task_id, now)
        self._tell()
        return ended

    def retire(self, name: str) -> None:
        super().retire(name)
        self._tell()


@dataclass
class TaskWorld:
    """One process: a shared socket, private sockets, and who is taken for whom."""

    base: World
    directory: Path
    registrations: Registrations
    pods: Pods | None = None
    bounds: SocketBounds = field(default_factory=lambda: SocketBounds(grace_seconds=0.05))
    tasks_given: Any = None
    shared_mode: int = 0o600
    # What the kernel is taken to say of the caller of the shared socket.
    peer: Callable[[Peer], Peer] = lambda peer: peer

    def __post_init__(self) -> None:
        self.server = SocketServer()
        self.feed = self.base.broker.live.feed
        self.tasks: Any = self.tasks_given or PublishingTasks(
            self.base.tasks.agents.values(), self.feed.publish
        )
        self.broker: Broker = replace(self.base.broker, tasks=self.tasks, strangers=Strangers())
        self.sink: FakeSink = self.base.sink
        self.shared = self.directory / "shared" / "api.sock"
        self.source = IssuingSource(
            self.broker.live,
            lambda: TrustBundles(
                Bundle(MESH, self.broker.authority.roots, self.broker.authority.svid_keys, 1, 60)
            ),
            AuditRecorder(self.broker),
            SvidSettings(jwt_audiences=frozenset({BROKER, TICKETS})),
            clock=self.base.clock,
            chance=lambda: 0.5,
            changes=self.feed,
        )
        self.uids = AgentUids(
            self.registrations.agents, lambda task: running_task(task, self.broker) is not None
        )
        self.entitlements = RegisteredEntitlements(self.registrations, self.uids, self.broker)

    async def open(self) -> None:
        self.sockets = TaskSockets.open(
            self.directory / "tasks",
            self.server,
            services=self.services,
            broker=self.broker,
            changes=self.feed,
            bounds=self.bounds,
        )
        self.running = asyncio.create_task(self.sockets.run())
        deliveries = Deliveries(self.uids, self.sockets, f"unix://{self.shared}")
        doorway = Doorway(self.entitlements, MESH, self.pods, self.peer_of)
        self.service = TaskService(self.broker, deliveries, doorway)
        watched = WatchedEntitlements(self.entitlements, self.broker)
        api = WorkloadApi(self.source, watched, self.peer_of)
        self.shared.parent.mkdir(mode=0o700)
        if self.shared_mode & 0o006:
            let_others_pass(self.shared.parent)
        files, mode = (pb.DESCRIPTOR,), self.shared_mode
        await self.server.listen(self.shared, [self.service, api], files=files, mode=mode)

    async def close(self) -> None:
        self.running.cancel()
        with suppress(asyncio.CancelledError):
            await self.running
        await self.sockets.close()
        await self.server.close()

    def services(self, entitlements: Entitlements) -> Sequence[Servicer]:
        return (WorkloadApi(self.source, WatchedEntitlements(entitlements, self.broker)),)

    def peer_of(self, stream: Stream[Any, Any]) -> Peer:
        return self.peer(peer_of(stream))

    def become(self, uid: int) -> None:
        """From now on the callers of the shared socket are taken for another user's."""
        self.peer = lambda peer: replace(peer, uid=uid)

    # ------------------------------------------------------------ what callers do

    async def call(self, method: str, request: Message, metadata: Any = None) -> Any:
        answer = {"StartTask": pb.StartTaskResponse, "RenewTask": pb.RenewTaskResponse}.get(
            method, pb.EndTaskResponse
        )
        async with Channel(path=str(self.shared)) as channel:
            return await UnaryUnaryMethod(channel, f"/{SERVICE}/{method}", type(request), answer)(
                request, metadata=metadata, timeout=20
            )

    async def start(
        self, agent: str = "triage", person: str | None = "lead", metadata: Any = None, **more: Any
    ) -> pb.StartTaskResponse:
        token = self.base.id_token(person) if person else ""
        request = pb.StartTaskRequest(agent=agent, **{"id_token": token, **more})
        return await self.call("StartTask", request, metadata)  # type: ignore[no-any-return]  # as the method has it

    async def renew(self, task: str, metadata: Any = None, **more: Any) -> pb.RenewTaskResponse:
        return await self.call("RenewTask", pb.RenewTaskRequest(task=task, **more), metadata)  # type: ignore[no-any-return]  # as the method has it

    async def end(self, task: str, metadata: Any = None) -> pb.EndTaskResponse:
        return await self.call("EndTask", pb.EndTaskRequest(task=task), metadata)  # type: ignore[no-any-return]  # as the method has it

    async def svids(self, address: str) -> list[SpiffeId]:
        """The X.509-SVIDs in the first message of a Workload API, verified by name."""
        async with watching(address) as stream:
            return ids(await stream.recv_message())

    async def jwt_svid(self, address: str, audience: str = TICKETS, spiffe_id: str = "") -> str:
        async with Channel(path=address.removeprefix("unix://")) as channel:
            method = UnaryUnaryMethod(
                channel,
                f"{_WORKLOAD}/FetchJWTSVID",
                workload_pb2.JWTSVIDRequest,
                workload_pb2.JWTSVIDResponse,
            )
            request = workload_pb2.JWTSVIDRequest(audience=[audience], spiffe_id=spiffe_id)
            answer = await method(request, metadata=_HEADER, timeout=20)
        return str(answer.svids[0].svid)


@asynccontextmanager
async def watching(address: str) -> AsyncIterator[Any]:
    """Open a stream of X.509-SVIDs."""
    async with Channel(path=address.removeprefix("unix://")) as channel:
        method = UnaryStreamMethod(
            channel,
            f"{_WORKLOAD}/FetchX509SVID",
            workload_pb2.X509SVIDRequest,
            workload_pb2.X509SVIDResponse,
        )
        async with method.open(metadata=_HEADER, timeout=30) as stream:
            await stream.send_message(workload_pb2.X509SVIDRequest(), end=True)
            yield stream
            # Without a word to a server that has said its last one.
            with suppress(ProtocolError):
                await stream.cancel()


def ids(answer: Any) -> list[SpiffeId]:
    """The names in the leaves of an answer, which are those that it says."""
    found = []
    for svid in answer.svids:
        assert svid.x509_svid_key
        found.append(leaf_spiffe_id(svid.x509_svid))
        assert str(found[-1]) == svid.spiffe_id
    return found


def registration(uid: int = UID, spiffe_id: SpiffeId = RUNNER, **more: Any) -> Registration:
    return Registration.parse(str(spiffe_id), MESH, uid=uid, **more)


def registered(*more: Registration) -> Registrations:
    """This process is the runner; another user is another runner, and a third one runs triage."""
    return Registrations.of(
        [registration(), registration(OTHER_UID, OTHER_RUNNER), *more], [AgentUid.parse(AGENT_UID, "triage")]
    )


def let_others_pass(directory: Path) -> None:
    """As a directory for the processes of other users is."""
    directory.chmod(0o711)


@asynccontextmanager
async def task_world(directory: Path | None = None, **options: Any) -> AsyncIterator[TaskWorld]:
    # A socket's path is short, shorter than what pytest gives.
    with tempfile.TemporaryDirectory(prefix="dpt") as made:
        let_others_pass(Path(made))
        given = {"registrations": registered(), **options}
        base = given.pop("base", None) or broker_alone()
        world = TaskWorld(base, directory or Path(made), **given)
        await world.open()
        try:
            yield world
        finally:
            await world.close()


def run(act: Callable[[TaskWorld], Awaitable[None]], **options: Any) -> None:
    """Run one scenario."""

    async def scenario() -> None:
        async with task_world(**options) as world:
            await act(world)

    asyncio.run(scenario())


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that comes soon, or never."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.01)


async def refusal(call: Awaitable[Any]) -> tuple[Status, str]:
    """Return how a call was refused."""
    try:
        await call
    except GRPCError as error:
        return error.status, error.message or ""
    raise AssertionError("the call was not refused")


async def ended(stream: Any) -> Status:
    """Read a stream to its end, and return how it ended."""
    try:
        while await stream.recv_message() is not None:
            pass
        await stream.recv_trailing_metadata()
    except GRPCError as error:
        return error.status
    return Status.OK


def entitlement_of(task: Task, **more: Any) -> Entitlement:
    return Entitlement(
        SpiffeId.parse(f"spiffe://{MESH.name}/agent/{task.agent}/task/{task.id}"),
        not_after=task.deadline,
        task=task.id,
        **more,
    )
