"""The real flow and policy behind a real Envoy: a server that says what reached it, and who calls it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

from authz.address import Address, TcpAddress
from authz.answers.admission import Answers
from authz.check import check
from authz.hosts.grpc import Denials, GrpcHost, Limits
from authz.mesh.envoy import render
from authz.mesh.envoy_listener import LISTENER
from authz.mesh.envoy_process import EnvoyProcess
from authz.policy.embedded import EmbeddedPolicy
from authz.policy.grants import Grants
from authz.policy.modules import shipped_modules
from authz.response import REASON_HEADER, fallback_response, overloaded_response, stranger_response
from authz.services import Asker, Services
from identity.caller import WorkloadBinding
from identity.spiffe import SpiffeId
from tests.e2e.ca import Leaf
from tests.e2e.envoy_world import DEPUTY, ENVOY, Answer, Header, World, world
from tests.e2e.file_secrets import from_files
from tests.fakes import LEAD, RUNNER, TICKETS, Run, agent
from tests.fakes import World as FlowWorld
from tests.passed_on import BILLING_WORKLOAD, TICKETS_WORKLOAD, call, services
from tests.policy_questions import demo_grants
from tests.tls_files import tls_from_files

DENIALS = Denials(failed=fallback_response(), busy=overloaded_response(), stranger=stranger_response())


class Deputy:
    """The real host and flow on a thread; its clock stands still, so that no token of the test grows old."""

    def __init__(self, envoys: World, known: Services | None = None, grants: Grants | None = None) -> None:
        leaf = envoys.ca.issue(DEPUTY)
        parts = (("chain.pem", leaf.certificate), ("key.pem", leaf.key), ("roots.pem", envoys.ca.bundle))
        for name, data in parts:
            (envoys.directory / name).write_bytes(data)
        self.directory = envoys.directory
        self.flow_world = FlowWorld()
        known = known or services()
        self._grants = grants or demo_grants()
        asker = Asker(SpiffeId.parse(ENVOY), frozenset(known.by_name))
        self.flow_world.services = Services.of(tuple(known.by_name.values()), (asker,), None)
        self.flow_world.rights.agents["resolver"] = agent("resolver", ceiling="contributor")
        self._said: SimpleQueue[Address] = SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def start(self) -> TcpAddress:
        self._thread.start()
        address = self._said.get(timeout=30)
        assert isinstance(address, TcpAddress)
        return address

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)
        self._loop.close()

    async def _serve(self) -> None:
        # The engine belongs to the thread that made it.
        self.flow_world.policy = EmbeddedPolicy(shipped_modules(), self._grants)  # type: ignore[assignment]  # the real one
        flow = self.flow_world.flow()

        async def answer(data: bytes, asker: SpiffeId | None) -> bytes:
            return await check(data, asker, flow)

        host = GrpcHost(
            answer,
            denials=DENIALS,
            listen=TcpAddress("127.0.0.1", 0),
            tls=tls_from_files(self.directory),
            limits=Limits(drain_seconds=0, grace_seconds=0),
            answers=Answers(flow),
        )
        address = await host.start()
        await host.set_ready(True)
        self._said.put(address)
        await self._over.wait()
        await host.stop()


class Mesh:
    """One Envoy before tickets and billing, whose server says what reached it."""

    def __init__(self, envoys: World, deputy: Deputy, *, passes_on: bool) -> None:
        self.envoys, self.flow_world = envoys, deputy.flow_world
        settings = replace(envoys.settings(deputy.start()), passes_on=passes_on)
        secrets = envoys.write_secrets(envoys.ca)
        envoy = EnvoyProcess.start(from_files(render(settings), secrets), settings.run_directory)
        envoys.envoys.append(envoy)
        self.port = envoy.port(LISTENER)
        self.runner = envoys.ca.issue(str(RUNNER))
        self.tickets = envoys.ca.issue(str(TICKETS_WORKLOAD))
        self.billing = envoys.ca.issue(str(BILLING_WORKLOAD))

    def post(self, service: str, body: bytes, leaf: Leaf, *headers: Header) -> Answer:
        common = (
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
        )
        given = (*common, *headers)
        return self.envoys.request(
            self.port, f"/{service}/mcp", method="POST", headers=given, body=body, leaf=leaf
        )

    def run(self) -> Run:
        return self.flow_world.run("resolver", LEAD)

    def first(self, run: Run, *scopes: str) -> str:
        """Let the agent call tickets; return the transaction token that tickets gets."""
        token = self.flow_world.token(
            run, binding=WorkloadBinding(RUNNER), audience=TICKETS, human=LEAD, scopes=frozenset(scopes)
        )
        body = call("read_ticket", ticket="T-1")
        answer = self.post("tickets", body, self.runner, ("authorization", f"Bearer {token}"))
        assert answer.status == 200, answer
        return upstream(answer)


def upstream(answer: Answer) -> str:
    """Return the one transaction token that reached the server."""
    seen: dict[str, Any] = answer.json
    (txn,) = [value for name, value in seen["headers"] if name == "txn-token"]
    assert not [name for name, _ in seen["headers"] if name == "authorization"]
    return str(txn)


def refused(answer: Answer) -> str:
    return answer.headers.get(REASON_HEADER, "")


@contextmanager
def flow_mesh(*, passes_on: bool) -> Iterator[Mesh]:
    """Run both, and end them with the block."""
    with world() as envoys:
        deputy = Deputy(envoys)
        try:
            yield Mesh(envoys, deputy, passes_on=passes_on)
        finally:
            deputy.stop()
