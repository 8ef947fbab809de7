"""The kill switch, whole: each command as an operator types it, against a real service, Envoy and agents.

- What is taken back is refused at the very next call, exchange and issuance, with what was good a moment ago.
- What is released counts again; nothing else was touched meanwhile.
- A stream that is open already ends by the duration that our Envoy configuration sets; one whose answers are
  guarded ends at once.
"""

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
import uvicorn
from spiffe.errors import PySpiffeError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from authz.address import TcpAddress, UnixAddress
from authz.codes import Code
from authz.demo.agents import ACCESS_TOKEN, AgentTask, Answer, Token
from authz.demo.identity import Identity
from authz.demo.people import GRANTS
from authz.demo.stage import READ, TICKETS, Stage, must
from authz.demo.world import DemoWorld
from authz.mesh.envoy import LISTENER, render
from authz.mesh.envoy_process import EnvoyProcess
from authz.mesh.settings import EnvoySettings, Service
from authz.response import REASON_HEADER
from identity.spiffe import SpiffeId, TrustDomain
from tests.e2e.conftest import Live
from tests.e2e.services import SECONDS, environment

pytestmark = pytest.mark.e2e
OBEYED = "obeyed at once"
STREAM_SECONDS = 2


async def deputy(stage: Stage, *arguments: str) -> str:
    """Run a command as the operator of the service, and return what it printed."""
    config = stage.world.directory / "deputy.yaml"  # type: ignore[attr-defined] # the demo's world has one

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "authz", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            env=environment(DEPUTY_CONFIG=str(config)),
        )

    done = await asyncio.to_thread(run)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


async def called(task: AgentTask, bearer: str) -> Answer:
    return await task.call(READ.service, READ.tool, READ.arguments, bearer)


async def exchanged(stage: Stage, task: AgentTask) -> Token:
    """A token for a person who signs in now."""
    return await task.exchange(stage.world.audience(TICKETS), await stage.world.sign_in(task.human))


async def refusal_of(doing: Awaitable[object]) -> str:
    """What the authority says to who may have no identity now."""
    with pytest.raises((grpc.aio.AioRpcError, PySpiffeError)) as refused:
        await doing
    return str(refused.value)


def in_file(stage: Stage, token: str) -> str:
    path: Path = stage.world.directory / "given"  # type: ignore[attr-defined] # the demo's world has one
    path.write_text(token)
    return str(path)


def test_a_revoked_token_is_dead_and_the_agent_gets_another(live: Live) -> None:
    async def play(stage: Stage) -> None:
        task, bearer = await stage.task("triage", "lead"), await stage.token("triage", "lead", TICKETS)
        assert (await called(task, bearer)).allowed
        said = await deputy(stage, "token", "revoke", in_file(stage, bearer), "--reason", "in a log")
        assert OBEYED in said
        assert bearer not in said
        assert (await called(task, bearer)).reason == Code.REVOKED
        again = await task.exchange(stage.world.audience(TICKETS), bearer, subject_type=ACCESS_TOKEN)
        assert again.answer.reason == Code.REVOKED
        assert (await called(task, must(await exchanged(stage, task)))).allowed

    live.run(play)


def test_all_that_came_of_one_sign_in_dies_with_its_lineage(live: Live) -> None:
    async def play(stage: Stage) -> None:
        resolver, helper = await stage.task("resolver", "lead"), await stage.task("triage", "lead")
        own, other = await stage.token("resolver", "lead", TICKETS), must(await exchanged(stage, resolver))
        handed = must(await resolver.delegate(stage.world.audience(TICKETS), own, helper))
        assert (await called(helper, handed)).allowed
        await deputy(stage, "token", "revoke", in_file(stage, own), "--lineage", "--reason", "stolen")
        assert (await called(helper, handed)).reason == Code.REVOKED
        assert (await called(resolver, own)).reason == Code.REVOKED
        assert (await called(resolver, other)).allowed

    live.run(play)


def test_a_revoked_run_ends_and_other_runs_of_the_agent_do_not(live: Live) -> None:
    async def play(stage: Stage) -> None:
        task, other = await stage.task("triage", "lead"), await stage.task("triage", "lead", " other")
        bearer = await stage.token("triage", "lead", TICKETS)
        others = must(await exchanged(stage, other))
        await deputy(stage, "token", "revoke", "--task", task.id, "--reason", "runs in circles")
        assert not (await called(task, bearer)).allowed
        assert not (await exchanged(stage, task)).value
        assert (await called(other, others)).allowed

    live.run(play)


def test_a_contained_agent_calls_gets_and_is_nothing_until_it_is_released(live: Live) -> None:
    async def play(stage: Stage) -> None:
        task, bearer = await stage.task("triage", "lead"), await stage.token("triage", "lead", TICKETS)
        other, others = await stage.task("resolver", "lead"), await stage.token("resolver", "lead", TICKETS)
        handed = must(await other.delegate(stage.world.audience(TICKETS), others, task))
        assert (await called(task, bearer)).allowed
        said = await deputy(stage, "agents", "contain", "triage", "--reason", "reads what nobody asked for")
        assert OBEYED in said
        try:
            assert (await called(task, bearer)).reason == Code.CONTAINED
            assert (await called(task, handed)).reason == Code.CONTAINED
            assert (await exchanged(stage, task)).answer.reason == Code.CONTAINED
            assert "CONTAINED" in await refusal_of(stage.task("triage", "lead", " again"))
            await refusal_of(task.jwt_svid(stage.world.audience(TICKETS)))
            await refusal_of(Identity.open(task.identity.socket))
            assert (await called(other, others)).allowed
        finally:
            await deputy(stage, "agents", "release", "triage", "--reason", "repaired")
        assert (await called(task, bearer)).allowed
        assert (await exchanged(stage, task)).value
        (await Identity.open(task.identity.socket)).close()

    live.run(play)


def test_a_person_who_is_signed_out_signs_in_again(live: Live) -> None:
    async def play(stage: Stage) -> None:
        task, bearer = await stage.task("triage", "lead"), await stage.token("triage", "lead", TICKETS)
        other, others = await stage.task("resolver", "clerk"), await stage.token("resolver", "clerk", TICKETS)
        before = await stage.world.sign_in("lead")
        who = stage.world.human_uri("lead")
        await deputy(stage, "people", "sign-out", who, "--reason", "laptop lost")
        assert (await called(task, bearer)).reason == Code.REVOKED
        refused = await task.exchange(stage.world.audience(TICKETS), before)
        assert refused.answer.reason == Code.REVOKED
        assert (await called(other, others)).allowed
        # What begins in a later second counts, in a run that begins then.
        async with asyncio.timeout(SECONDS):
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    fresh = await stage.task("triage", "lead", " again")
                    break
                await asyncio.sleep(0.1)
        assert (await called(fresh, must(await exchanged(stage, fresh)))).allowed

    live.run(play)


def test_nothing_acts_for_a_contained_person_until_they_are_released(live: Live) -> None:
    async def play(stage: Stage) -> None:
        task, bearer = await stage.task("resolver", "clerk"), await stage.token("resolver", "clerk", TICKETS)
        who = stage.world.human_uri("clerk")
        await deputy(stage, "people", "contain", who, "--reason", "account taken over")
        try:
            assert (await called(task, bearer)).reason == Code.CONTAINED
            assert (await exchanged(stage, task)).answer.reason == Code.CONTAINED
            assert "CONTAINED" in await refusal_of(stage.task("resolver", "clerk", " again"))
        finally:
            await deputy(stage, "people", "release", who, "--reason", "password reset")
        assert (await called(task, bearer)).allowed

    live.run(play)


def test_a_grant_that_is_revoked_takes_all_that_came_of_it(live: Live) -> None:
    async def play(stage: Stage) -> None:
        task, bearer = await stage.task("triage", "lead"), await stage.token("triage", "lead", TICKETS)
        (own,) = GRANTS["lead"][:1]
        listed: Any = json.loads(
            await deputy(stage, "grants", "list", "--human", stage.world.human_uri("lead"), "-o", "json")
        )
        (grant,) = [each["id"] for each in listed if each["agent"] == "triage" and each["state"] == "live"]
        try:
            assert OBEYED in await deputy(stage, "grants", "revoke", grant, "--reason", "not needed")
            assert (await called(task, bearer)).reason == Code.REVOKED
            assert (await exchanged(stage, task)).answer.reason == Code.CONSENT_MISSING
        finally:
            await stage.world.let("lead", own)
        assert (await called(task, bearer)).reason == Code.REVOKED
        assert (await called(task, must(await exchanged(stage, task)))).allowed

    live.run(play)


def test_a_contained_workload_starts_nothing_and_what_it_started_acts_no_more(live: Live) -> None:
    async def play(stage: Stage) -> None:
        task, bearer = await stage.task("triage", "lead"), await stage.token("triage", "lead", TICKETS)
        runner = stage.world.runner
        name = runner.identity.spiffe_id
        await deputy(stage, "workloads", "contain", name, "--reason", "image not ours")
        try:
            assert (await called(task, bearer)).reason == Code.CONTAINED
            assert (await exchanged(stage, task)).answer.reason == Code.CONTAINED
            await refusal_of(stage.task("triage", "lead", " again"))
            await refusal_of(Identity.open(runner.identity.socket))
            await refusal_of(Identity.open(task.identity.socket))
        finally:
            await deputy(stage, "workloads", "release", name, "--reason", "image rebuilt")
        assert (await called(task, bearer)).allowed
        (await Identity.open(runner.identity.socket)).close()
        assert (await stage.task("triage", "lead", " again")).id

    live.run(play)


@contextmanager
def endless_server(socket: Path) -> Iterator[None]:
    """A server whose answers never end by themselves (server-sent events)."""
    stop = threading.Event()

    async def events() -> AsyncIterator[bytes]:
        for number in itertools.count():
            if stop.is_set():
                return
            params = {"progressToken": 1, "progress": number}
            message = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
            yield f"data: {json.dumps(message)}\n\n".encode()
            await asyncio.sleep(0.02)

    async def answer(_: Request) -> StreamingResponse:
        return StreamingResponse(events(), media_type="text/event-stream")

    app = Starlette(routes=[Route("/{rest:path}", answer, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, uds=str(socket), log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        yield
    finally:
        stop.set()
        server.should_exit = True
        thread.join(10)


@contextmanager
def streaming_envoy(
    world: DemoWorld, *, seconds: int = STREAM_SECONDS, is_guarded: bool = False
) -> Iterator[int]:
    """A second Envoy of the same identity, whose streams end after so many seconds; return its port."""
    with tempfile.TemporaryDirectory(prefix="dpt-") as made:
        home = Path(made)
        trust_domain = TrustDomain.parse(world.config.trust_domain)
        gateway = next(each for each in world.config.identity.workloads if each.id.endswith("/gateway"))
        host, _, port = world.config.check.listen.rpartition(":")
        settings = EnvoySettings(
            trust_domain=trust_domain,
            listen=TcpAddress(host, 0),
            deputy=(TcpAddress(host, int(port)),),
            deputy_id=SpiffeId(trust_domain, "/deputy"),
            services=(Service(TICKETS, UnixAddress(str(home / "sse.sock")), TICKETS, is_guarded=is_guarded),),
            sds_socket=Path(str(gateway.socket).removeprefix("unix://")),
            run_directory=home,
        )
        settings = replace(settings, max_stream_seconds=seconds)
        with endless_server(home / "sse.sock"), EnvoyProcess.start(render(settings), home) as envoy:
            yield envoy.port(LISTENER)


def test_an_open_stream_ends_by_the_duration_of_our_configuration(
    live: Live, record_property: Callable[[str, object], None]
) -> None:
    async def play(stage: Stage) -> float:
        task, bearer = await stage.task("triage", "lead"), await stage.token("triage", "lead", TICKETS)
        headers = {"authorization": f"Bearer {bearer}", "accept": "application/json, text/event-stream"}
        with streaming_envoy(live.world) as port:
            url = f"https://localhost:{port}/{TICKETS}/mcp"
            body = json.loads(READ.rpc(1))
            async with httpx2.AsyncClient(verify=task.identity.tls(), trust_env=False) as http:
                contained = last = 0.0
                async with asyncio.timeout(SECONDS):
                    with contextlib.suppress(httpx2.TransportError):
                        async with http.stream("POST", url, json=body, headers=headers) as response:
                            assert response.status_code == httpx2.codes.OK
                            async for _ in response.aiter_bytes():
                                last = time.monotonic()
                                if not contained:
                                    await live.world.contain("triage")
                                    contained = time.monotonic()
                try:
                    assert contained
                    assert last
                    refused = await http.post(url, json=body, headers=headers)
                    assert refused.headers[REASON_HEADER] == Code.CONTAINED
                finally:
                    await live.world.release("triage")
        return max(0.0, last - contained)

    seconds = live.run(play)
    record_property("seconds_to_the_last_byte", f"{seconds:.3f}")
    print(
        f"the last byte came {seconds:.3f} s after containment, of {STREAM_SECONDS} s that a stream may last"
    )


class Reading:
    """One open stream: when its last byte came."""

    def __init__(self) -> None:
        self.begun, self.last = asyncio.Event(), 0.0

    async def read(self, port: int, task: AgentTask, bearer: str) -> None:
        """Read until it is ended, which is no end that the server wrote."""
        headers = {"authorization": f"Bearer {bearer}", "accept": "application/json, text/event-stream"}
        url = f"https://localhost:{port}/{TICKETS}/mcp"
        body = json.loads(READ.rpc(1))
        async with (
            httpx2.AsyncClient(verify=task.identity.tls(), trust_env=False) as http,
            http.stream("POST", url, json=body, headers=headers) as answer,
        ):
            assert answer.status_code == httpx2.codes.OK
            try:
                async for _ in answer.aiter_bytes():
                    self.last = time.monotonic()
                    self.begun.set()
            except httpx2.TransportError:
                return
        raise AssertionError("the server ended it")


def test_an_open_stream_whose_answers_are_guarded_ends_with_the_command_and_no_other_does(
    live: Live, record_property: Callable[[str, object], None]
) -> None:
    async def play(stage: Stage) -> float:
        task, bearer = await stage.task("triage", "lead"), await stage.token("triage", "lead", TICKETS)
        other, others = await stage.task("resolver", "lead"), await stage.token("resolver", "lead", TICKETS)
        with streaming_envoy(live.world, seconds=int(SECONDS), is_guarded=True) as port:
            stopped, on = Reading(), Reading()
            async with asyncio.timeout(SECONDS / 2), asyncio.TaskGroup() as group:
                ending = group.create_task(stopped.read(port, task, bearer))
                going_on = group.create_task(on.read(port, other, others))
                await asyncio.gather(stopped.begun.wait(), on.begun.wait())
                await deputy(stage, "agents", "contain", "triage", "--reason", "reads too much")
                obeyed = time.monotonic()
                try:
                    await ending
                    on.begun.clear()
                    await on.begun.wait()
                    assert not going_on.done()
                    await deputy(stage, "agents", "contain", "resolver", "--reason", "that one, too")
                    await going_on
                finally:
                    await deputy(stage, "agents", "release", "triage", "--reason", "repaired")
                    await deputy(stage, "agents", "release", "resolver", "--reason", "repaired")
        return stopped.last - obeyed

    seconds = live.run(play)
    record_property("seconds_to_the_last_byte", f"{seconds:.3f}")
    print(f"the last byte came {seconds:.3f} s after the command said that all had obeyed")
