"""The private sockets of the service: who is served what on which.

- The shared socket tells processes apart by uid, a socket of a workload by who can reach it, a task's private
  socket by the task that it was made for. Each has the Workload API and Envoy's secret discovery; those of
  workloads also have the task service, so that a task starts no others.
- The operator's socket lets in the user that runs the service, and nobody else.
- What they hand out comes from one source, so that one identity has one current certificate everywhere.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authz.broker.deps import Broker
from authz.config import Config
from authz.identity_parts import IdentityParts
from authz.identity_service import admin
from authz.identity_service.agent_uids import AgentUids
from authz.identity_service.doorway import Doorway
from authz.identity_service.entitlements import OneWorkload, RegisteredEntitlements, running_task
from authz.identity_service.recorder import AuditRecorder, WatchedEntitlements
from authz.identity_service.task_delivery import Deliveries
from authz.identity_service.task_service import TaskService
from authz.identity_service.task_sockets import TaskSockets
from identity.entitlement import Entitlements
from identity.kubernetes import ApiServer, KubernetesAttestor
from identity.pb import authority_pb2, sds_pb2, task_pb2
from identity.registration import Registration, Registrations
from identity.sds import SecretDiscovery
from identity.socket_connection import SocketLimits
from identity.socket_server import Servicer, SocketServer
from identity.svid_source import IssuingSource, SvidSettings
from identity.unix_socket import EVERYONE, GROUP, PRIVATE
from identity.workload_api import WorkloadApi
from identity.workload_messages import standard_file

TASK_SOCKETS: Final = "tasks"
_OPERATORS: Final = SocketLimits(connections=16, connections_per_uid=16)
_ADMIN: Final = (authority_pb2.DESCRIPTOR,)
_TASK: Final = (standard_file(), sds_pb2.DESCRIPTOR)
_WORKLOAD: Final = (task_pb2.DESCRIPTOR,)


@asynccontextmanager
async def open_doors(config: Config, identity: IdentityParts, broker: Broker) -> AsyncIterator[None]:
    """Serve on every private socket that the configuration names, and part from them on the way out.

    Raises:
        IdentityError: if a socket is in use, or others could reach or replace it.
    """
    live = identity.live

    def is_ready() -> bool:
        return identity.is_ready(broker.clock())

    async with AsyncExitStack() as stack:
        server = SocketServer(is_ready=is_ready, changes=live.feed)
        stack.push_async_callback(server.close)
        doors = _Doors(config, identity, broker, server, _source(config, identity, broker, is_ready))
        # With connections of its own: no crowd at the other sockets can lock the operator out.
        operators = SocketServer(_OPERATORS, is_ready=is_ready, changes=live.feed)
        stack.push_async_callback(operators.close)
        await operators.listen(
            config.data_dir / admin.SOCKET_NAME, [doors.admin()], files=_ADMIN, mode=PRIVATE
        )
        deliveries = await _deliveries(doors, stack)
        for path, registration in config.identity.to_own_sockets(live.current.trust_domain):
            await doors.open_workload(
                path,
                OneWorkload(registration, lambda: broker.tasks.withdrawals),
                deliveries,
                [registration],
                GROUP,
            )
        if config.identity.socket is not None:
            await doors.open_shared(deliveries)
        yield


def _source(
    config: Config, identity: IdentityParts, broker: Broker, is_ready: Callable[[], bool]
) -> IssuingSource:
    limits = config.limits
    settings = SvidSettings(
        x509_ttl=limits.x509_svid_seconds,
        jwt_ttl=limits.jwt_svid_seconds,
        wit_ttl=limits.x509_svid_seconds,
        jwt_audiences=frozenset(
            {broker.settings.issuer, *broker.settings.audiences, *config.identity.jwt_audiences}
        ),
        wit_enabled=config.identity.wit_svid,
    )
    return IssuingSource(
        identity.live,
        identity.known.trust,
        AuditRecorder(broker),
        settings,
        clock=broker.clock,
        chance=random.random,
        is_ready=is_ready,
    )


async def _deliveries(doors: "_Doors", stack: AsyncExitStack) -> Deliveries:
    """Open the sockets of tasks, and look after them until the end."""
    broker, config = doors.broker, doors.config
    uids = AgentUids(doors.registrations.agents, lambda task_id: running_task(task_id, broker) is not None)
    if not config.identity.workloads:
        return Deliveries(uids)  # nobody can ask for a task here
    directory = config.identity.task_sockets or config.data_dir / TASK_SOCKETS
    sockets = TaskSockets.open(
        directory,
        doors.server,
        services=doors.of_anybody,
        broker=broker,
        changes=doors.identity.live.feed,
        files=_TASK,
    )
    stack.push_async_callback(sockets.close)
    stack.callback(asyncio.create_task(sockets.run()).cancel)
    return Deliveries(uids, sockets, config.identity.socket)


@dataclass(frozen=True, slots=True)
class _Doors:
    """What all sockets share."""

    config: Config
    identity: IdentityParts
    broker: Broker
    server: SocketServer
    source: IssuingSource

    @property
    def registrations(self) -> Registrations:
        """Who may come to the shared socket."""
        return self.config.identity.to_registrations(self.broker.trust_domain)

    def of_anybody(self, entitlements: Entitlements) -> Sequence[Servicer]:
        """Return what every socket but the operator's serves."""
        watched = WatchedEntitlements(entitlements, self.broker)
        return (WorkloadApi(self.source, watched), SecretDiscovery(self.source, watched))

    def admin(self) -> admin.AuthorityService:
        """Return what the operator's socket serves."""
        identity = self.identity
        return admin.AuthorityService(
            identity.rotation,
            identity.federation,
            identity.record_federation,
            our_uid=os.geteuid(),
            key_store=identity.key_store,
            clock=self.broker.clock,
        )

    async def open_shared(self, deliveries: Deliveries) -> None:
        """Serve on the socket that workloads share: anybody may come, and is told apart by uid."""
        registrations = self.registrations
        all_of_them = [each for found in registrations.workloads.values() for each in found]
        path = Path((self.config.identity.socket or "").removeprefix("unix://"))
        entitlements = RegisteredEntitlements(registrations, deliveries.uids, self.broker)
        await self.open_workload(path, entitlements, deliveries, all_of_them, EVERYONE)

    async def open_workload(
        self,
        path: Path,
        entitlements: Entitlements,
        deliveries: Deliveries,
        registrations: Iterable[Registration],
        mode: int,
    ) -> None:
        """Serve on a socket of workloads, who may start tasks."""
        doorway = Doorway(entitlements, self.broker.trust_domain, self._pods())
        services = (*self.of_anybody(entitlements), TaskService(self.broker, deliveries, doorway))
        await self.server.listen(
            path,
            services,
            files=(*_TASK, *_WORKLOAD),
            mode=mode,
            hashed={each.uid for each in registrations if each.executable_sha256 and each.uid is not None},
        )

    def _pods(self) -> KubernetesAttestor | None:
        cluster = self.config.identity.kubernetes
        if cluster is None:
            return None
        return KubernetesAttestor(
            ApiServer.parse(cluster.api_server, cluster.ca, cluster.token, cluster.audience)
        )
