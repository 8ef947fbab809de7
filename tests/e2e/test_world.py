"""Attacks on, and changes of, a running world: real Envoy, real MCP servers, real tokens."""

import asyncio
import json
import os
import signal
import ssl
import time

import grpc
import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from authz.audit.read_verify import verify_directory
from authz.codes import Code
from authz.demo.agents import AgentTask, Answer
from authz.demo.stage import CLOSE, READ, TICKETS, Call, Stage
from authz.demo.world import SERVICES
from authz.response import REASON_HEADER
from identity.keys import SigningKey
from tests.e2e.conftest import Live

pytestmark = pytest.mark.e2e
RELOAD_SECONDS = 15.0


async def _read(stage: Stage, task: AgentTask, bearer: str, call: Call = READ) -> Answer:
    return await task.call(call.service, call.tool, call.arguments, bearer)


async def _raw(task: AgentTask, path: str, bearer: str, **headers: str) -> httpx2.Response:
    sent = {"authorization": f"Bearer {bearer}", "content-type": "application/json", **headers}
    sent |= {"accept": "application/json, text/event-stream"}
    async with httpx2.AsyncClient(verify=task.identity.tls(), trust_env=False) as client:
        return await client.post(f"{task.places.gateway}{path}", content=READ.rpc(1), headers=sent)


def _request() -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.sign(SigningKey.generate().private_key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def test_nobody_without_a_certificate_gets_in(live: Live) -> None:
    async def play(stage: Stage) -> None:
        roots = (await stage.task("triage", "lead")).identity.roots
        context = ssl.create_default_context(cadata=roots.decode())
        async with httpx2.AsyncClient(verify=context, trust_env=False) as client:
            with pytest.raises((httpx2.TransportError, ssl.SSLError)):
                await client.post(f"{live.world.runner.places.gateway}/tickets/mcp", content=b"{}")

    live.run(play)


def test_the_sockets_of_the_tool_servers_are_closed_to_other_users(live: Live) -> None:
    for service in SERVICES:
        directory = live.world.directory / service
        assert directory.stat().st_mode & 0o077 == 0
        assert (directory / "mcp.sock").is_socket()


def test_no_header_of_the_client_speaks_for_us(live: Live) -> None:
    async def play(stage: Stage) -> None:
        task, bearer = await stage.task("triage", "lead"), await stage.token("triage", "lead", TICKETS)
        forged = {
            "txn-token": "forged",
            "x-deputy-human": "root",
            "x-forwarded-client-cert": "URI=spiffe://mesh.example/root",
        }
        response = await _raw(task, "/tickets/mcp", bearer, **forged)
        assert response.status_code == 200
        seen = live.world.upstream(response.headers["x-deputy-decision"])
        assert seen is not None
        assert "authorization" not in seen["headers"]
        assert not {name for name in seen["headers"] if name.startswith("x-deputy-")}
        assert seen["transaction"]["tctx"]["service"] == TICKETS

    live.run(play)


@pytest.mark.parametrize(
    "path",
    [
        "/tickets/../billing/mcp",
        "/tickets/%2e%2e/billing/mcp",
        "/tickets/..%2fbilling/mcp",
        "/tickets%2fmcp",
        "/tickets/mcp%00",
        "//tickets/mcp/",
        "/tickets/mcp;x=/billing/mcp",
        "/nowhere/mcp",
        "/",
    ],
)
def test_no_spelling_of_a_path_reaches_what_it_was_not_decided_for(live: Live, path: str) -> None:
    """None of them is the path that the token is for, and none makes a tool run."""

    async def play(stage: Stage) -> None:
        task, bearer = await stage.task("triage", "lead"), await stage.token("triage", "lead", TICKETS)
        raw = path.encode()
        url = httpx2.URL(task.places.gateway).copy_with(raw_path=raw)
        headers = {"authorization": f"Bearer {bearer}", "content-type": "application/json"}
        headers |= {"accept": "application/json, text/event-stream"}
        before = _calls_that_arrived(live)
        async with httpx2.AsyncClient(verify=task.identity.tls(), trust_env=False) as client:
            response = await client.post(url, content=READ.rpc(1), headers=headers)
        # One arrived as /tickets/mcp/, which the server itself does not serve: it redirects, and a guarded
        # answer leads nobody elsewhere.
        is_redirected = response.headers.get(REASON_HEADER) == Code.ANSWER_UNREADABLE
        assert is_redirected or response.status_code in {400, 401, 403, 404}
        assert _calls_that_arrived(live) - before == is_redirected

    live.run(play)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_nothing_beside_the_mcp_endpoint_is_reached_without_a_tool(live: Live, method: str) -> None:
    async def play(stage: Stage) -> None:
        task, bearer = await stage.task("triage", "lead"), await stage.token("triage", "lead", TICKETS)
        async with httpx2.AsyncClient(verify=task.identity.tls(), trust_env=False) as client:
            url, headers = (
                f"{task.places.gateway}/tickets/customers/42",
                {"authorization": f"Bearer {bearer}"},
            )
            response = await client.request(method, url, headers=headers)
        assert (response.status_code, response.headers["x-deputy-reason"]) == (403, "DPT-SERVICE-UNKNOWN")

    live.run(play)


def _calls_that_arrived(live: Live) -> int:
    logs = [live.world.directory / service / "upstream.jsonl" for service in SERVICES]
    return sum(log.read_text(encoding="utf-8").count('"action": "tools/call"') for log in logs)


def test_a_task_that_ended_is_dead_at_the_next_call(live: Live) -> None:
    async def play(stage: Stage) -> None:
        task, bearer = await stage.task("triage", "lead"), await stage.token("triage", "lead", TICKETS)
        assert (await _read(stage, task, bearer)).allowed
        async with httpx2.AsyncClient(verify=task.identity.tls(), trust_env=False) as client:
            ended = await client.delete(f"{task.places.broker}/tasks/{task.id}")
        assert ended.status_code < 300
        assert (await _read(stage, task, bearer)).reason == "DPT-TASK-ENDED"

    live.run(play)


def test_a_delegate_dies_with_its_delegators_task(live: Live) -> None:
    async def play(stage: Stage) -> None:
        resolver, triage = await stage.task("resolver", "lead"), await stage.task("triage", "lead")
        own = await stage.token("resolver", "lead", TICKETS)
        handed = (await resolver.delegate(live.world.audience(TICKETS), own, triage)).value
        assert (await _read(stage, triage, handed)).allowed
        async with httpx2.AsyncClient(verify=resolver.identity.tls(), trust_env=False) as client:
            await client.delete(f"{resolver.places.broker}/tasks/{resolver.id}")
        assert (await _read(stage, triage, handed)).reason == "DPT-TASK-ENDED"

    live.run(play)


def test_a_runner_starts_no_agent_that_it_may_not_host(live: Live) -> None:
    async def play(stage: Stage) -> None:
        stranger, token = live.world.stranger, await live.world.sign_in("lead")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stranger.start("triage", "lead", token)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert ("deputy-code", "DPT-AGENT-HOST") in list(refused.value.trailing_metadata() or ())
        body = {"agent": "triage", "csr": _request(), "subject_token": token}
        async with httpx2.AsyncClient(verify=stranger.identity.tls(), trust_env=False) as client:
            response = await client.post(f"{stranger.places.broker}/tasks", json=body)
        assert response.status_code >= 400
        assert "DPT-AGENT-HOST" in response.text

    live.run(play)


def test_an_agent_does_not_start_for_one_human_and_act_for_another(live: Live) -> None:
    async def play(stage: Stage) -> None:
        task = await stage.task("triage", "lead")
        token = await task.exchange(live.world.audience(TICKETS), await live.world.sign_in("clerk"))
        assert token.value == ""
        assert token.answer.reason == "DPT-TASK-MISMATCH"

    live.run(play)


def test_an_agent_asks_the_authorizer_itself_in_vain(live: Live) -> None:
    """The Check port is on mTLS too, and an agent has a certificate; the list of askers keeps it out."""
    from authz.pb.ext_authz_pb2 import CheckResponse
    from tests.check_requests import check_request

    async def play(stage: Stage) -> None:
        identity = (await stage.task("triage", "lead")).identity
        certificate, key = identity.reveal()
        credentials = grpc.ssl_channel_credentials(identity.roots, key, certificate)
        options = (("grpc.ssl_target_name_override", "localhost"),)
        async with grpc.aio.secure_channel(live.world.config.check.listen, credentials, options) as channel:
            check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                "/envoy.service.auth.v3.Authorization/Check"
            )
            answer = await check(check_request().SerializeToString(), timeout=5)
        response = CheckResponse.FromString(answer)
        assert (response.status.code, response.status.message) == (7, "DPT-ASKER-UNKNOWN")

    live.run(play)


def test_changed_grants_count_while_running_and_bad_ones_do_not(live: Live) -> None:
    async def until(stage: Stage, call: Call, reason: str) -> None:
        task, bearer = await stage.task("resolver", "lead"), await stage.token("resolver", "lead", TICKETS)
        deadline = time.monotonic() + RELOAD_SECONDS
        while (answer := await _read(stage, task, bearer, call)).reason != reason:
            assert time.monotonic() < deadline, answer
            await asyncio.sleep(0.2)

    async def play(stage: Stage) -> None:
        path = live.world.config.policy.grants
        good = path.read_text(encoding="utf-8")
        try:
            await until(stage, CLOSE, "")
            path.write_text(good.replace("close_ticket", "close_any"), encoding="utf-8")
            await until(stage, CLOSE, "DPT-TOOL-UNKNOWN")
            path.write_text("version: 1\n", encoding="utf-8")
            await asyncio.sleep(2.5)
            await until(stage, CLOSE, "DPT-TOOL-UNKNOWN")
            await until(stage, READ, "")
        finally:
            path.write_text(good, encoding="utf-8")
        await until(stage, CLOSE, "")

    live.run(play)


def test_deputy_killed_is_503_and_restarted_goes_on_with_its_tasks_and_its_log(live: Live) -> None:
    from authz.demo.processes import Process

    async def play(stage: Stage) -> None:
        task, bearer = await stage.task("triage", "lead"), await stage.token("triage", "lead", TICKETS)
        assert (await _read(stage, task, bearer)).allowed
        directory = live.world.directory
        os.kill(live.world.deputy.popen.pid, signal.SIGKILL)
        answer = await task.post(TICKETS, READ.rpc(1).encode(), bearer)
        assert (answer.status, answer.reason) == (503, "")
        command = ["authz", "serve", "--config", str(directory / "deputy.yaml")]
        again = Process.python("deputy-2", directory, *command)
        live.world.running.add(again.stop)
        deadline = time.monotonic() + RELOAD_SECONDS
        while not (answer := await _read(stage, task, bearer)).allowed:
            assert time.monotonic() < deadline, (answer, again.log_end())
            await asyncio.sleep(0.2)
        found = verify_directory(live.world.audit_directory)
        assert found.ok, found.problems

    live.run(play)


def test_what_was_decided_is_in_the_access_log_of_envoy(live: Live) -> None:
    async def play(stage: Stage) -> str:
        task, bearer = await stage.task("triage", "lead"), await stage.token("triage", "lead", TICKETS)
        return (await _read(stage, task, bearer)).decision

    decision = live.run(play)
    deadline = time.monotonic() + RELOAD_SECONDS
    log = live.world.directory / "envoy" / "access.log"
    while decision not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    (line,) = [json.loads(line) for line in log.read_text().splitlines() if decision in line]
    assert (line["decision_id"], line["status"], line["service"]) == (decision, 200, TICKETS)
