"""gRPC, A2A and MCP behind a real Envoy, the real flow and policy: what may run runs, and nothing else."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final, Self

import grpc
import httpx2
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (  # type: ignore[import-untyped]  # it has no stubs
    ProtoReflectionDescriptorDatabase,
)
from mcp import Client, MCPError
from mcp.client.client import ConnectMode
from mcp.client.streamable_http import streamable_http_client

from authz.codes import Code
from tests.e2e.protocol_servers import DESK, EVENTS, LEDGER
from tests.e2e.protocols_world import DESK_HOST, SECONDS, Protocols, protocols, read_stream

pytestmark = pytest.mark.e2e
NEW: Final = {"a2a-version": "1.0"}


@pytest.fixture(scope="module")
def running() -> Iterator[Protocols]:
    with protocols() as made:
        yield made


@pytest.fixture
def world(running: Protocols) -> Protocols:
    return running.anew()


# ---- gRPC


def unary(channel: grpc.Channel, method: str) -> Any:
    return channel.unary_unary(
        f"/{LEDGER}/{method}",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )


def rpc_refused(call: Any) -> tuple[grpc.StatusCode, str, Mapping[str, Any]]:
    """The code, the details and the trailers of what is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    error: Any = caught.value
    return error.code(), error.details(), dict(error.trailing_metadata())


def test_a_grpc_method_that_is_listed_runs(world: Protocols) -> None:
    with world.channel() as channel:
        assert unary(channel, "Get")(StringValue(value="a"), timeout=SECONDS).value == "a"
    assert world.ran.take() == ["Get a"]
    assert world.decisions()[-1]["resource"] == {
        "name": f"/{LEDGER}/Get",
        "service": "ledger",
        "type": "rpc",
    }


def test_a_grpc_server_streams_what_it_has_as_it_has_it(world: Protocols) -> None:
    with world.channel() as channel:
        watch: Any = channel.unary_stream(
            f"/{LEDGER}/Watch", request_serializer=StringValue.SerializeToString
        )
        assert read_stream(world, watch(StringValue(value="a"), timeout=SECONDS)) == EVENTS
    assert world.ran.take() == ["Watch a"]


def test_a_grpc_client_that_streams_is_asked_about_once(world: Protocols) -> None:
    before = len(world.decisions())
    with world.channel() as channel:
        send: Any = channel.stream_unary(
            f"/{LEDGER}/Import", request_serializer=StringValue.SerializeToString
        )
        send(iter([StringValue(value=value) for value in "abc"]), timeout=SECONDS)
    assert world.ran.take() == ["Import a b c"]
    assert len(world.decisions()) == before + 1


@pytest.mark.parametrize("method", ["Delete", "get", "GET", "GetAll", "Get/Delete", "Get/"])
def test_a_grpc_method_that_is_not_listed_does_not_run(world: Protocols, method: str) -> None:
    with world.channel() as channel:
        calls: Any = channel.unary_stream(f"/{LEDGER}/{method}")
        code, details, trailers = rpc_refused(calls(b"", timeout=SECONDS))
    reason = Code.GRPC_PATH if "/" in method else Code.TOOL_UNKNOWN
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert f"({reason})" in details
    record = world.decisions()[-1]
    assert (trailers["x-deputy-decision"], record["effect"]) == (record["id"], "deny")
    assert details.endswith(f"Decision {record['id']}.")
    assert world.ran.take() == []


def test_the_message_of_a_grpc_refusal_is_that_of_the_policy(world: Protocols) -> None:
    with world.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        unary(channel, "Delete")(StringValue(value="a"), timeout=SECONDS)
    said = str(caught.value)
    assert "this method on this path is not listed for ledger (DPT-TOOL-UNKNOWN)." in said
    assert "an operator lists it with its class in grants.yaml" in said


def test_reflection_that_is_not_listed_tells_nothing(world: Protocols) -> None:
    with world.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        ProtoReflectionDescriptorDatabase(channel).get_services()
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert Code.TOOL_UNKNOWN in str(caught.value)


def test_a_token_for_another_service_is_none_for_a_grpc_call(world: Protocols) -> None:
    with world.channel("docs") as channel:
        calls: Any = channel.unary_stream(f"/{LEDGER}/Get")
        code, details, _ = rpc_refused(calls(b"", timeout=SECONDS))
    assert (code, Code.TOKEN_AUDIENCE in details) == (grpc.StatusCode.UNAUTHENTICATED, True)
    assert world.ran.take() == []


def test_a_stream_that_waits_for_answers_gets_them(world: Protocols) -> None:
    """The gRPC reader reads no message, so it is decided at once, by the path alone."""
    with world.channel() as channel:
        said: SimpleQueue[StringValue | None] = SimpleQueue()
        echo: Any = channel.stream_stream(
            f"/{LEDGER}/Chat",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=StringValue.FromString,
        )
        answers = echo(iter(said.get, None), timeout=SECONDS)
        for value in "ab":
            said.put(StringValue(value=value))
            assert next(answers).value == value
        said.put(None)
        assert list(answers) == []
        # It waits for no end of the request either where it is refused.
        refused: Any = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        open_end: SimpleQueue[bytes | None] = SimpleQueue()
        code, _, _ = rpc_refused(refused(iter(open_end.get, None), timeout=SECONDS))
        open_end.put(None)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert world.ran.take() == ["Chat a", "Chat b"]


# ---- A2A


def rpc(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": "m-1", "method": method, "params": params}


def message(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"message": {"messageId": "m-1", "role": "ROLE_USER", "parts": [{"text": text}]}, **more}


def old_message(text: str = "hello", **more: Any) -> dict[str, Any]:
    parts = [{"kind": "text", "text": text}]
    return {"message": {"kind": "message", "messageId": "m-1", "role": "user", "parts": parts}, **more}


@dataclass(frozen=True)
class Refusal:
    """What a client of A2A reads of a refusal, over JSON-RPC or REST."""

    status: int
    code: int
    reason: str
    fix: str

    @classmethod
    def of(cls, answer: httpx2.Response) -> Self:
        error = answer.json()["error"]
        (info,) = error.get("data") or error["details"]
        assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
        metadata = info["metadata"]
        assert metadata["code"] == answer.headers["x-deputy-reason"]
        return cls(answer.status_code, error["code"], metadata["code"], metadata["fix"])


@pytest.mark.parametrize(
    ("headers", "call", "ran"),
    [
        (NEW, rpc("SendMessage", **message()), "SendMessage"),
        (NEW, rpc("SendMessage", **message(tenant="acme")), "SendMessage acme"),
        (NEW, rpc("GetTask", id="t-1"), "GetTask"),
        ({}, rpc("message/send", **old_message()), "message/send"),
        ({"a2a-version": "0.3"}, rpc("tasks/get", id="t-1"), "tasks/get"),
    ],
)
def test_an_agent_does_what_is_granted(
    world: Protocols, headers: dict[str, str], call: dict[str, Any], ran: str
) -> None:
    with world.http("planner") as http:
        answer = http.post("/", json=call, headers=headers)
    assert (answer.status_code, answer.json()["id"]) == (200, "m-1")
    assert "result" in answer.json()
    assert world.ran.take() == [ran]


@pytest.mark.parametrize("tenant", ["", "/acme"])
def test_an_agent_does_the_same_over_rest(world: Protocols, tenant: str) -> None:
    with world.http("planner") as http:
        sent = http.post(f"{tenant}/message:send", json=message(), headers=NEW)
        got = http.get(f"{tenant}/tasks/t-1", headers=NEW)
    assert (sent.status_code, got.status_code) == (200, 200)
    assert world.ran.take() == [f"POST {tenant}/message:send", f"GET {tenant}/tasks/t-1"]


def test_an_agent_streams_its_answer_as_it_comes(world: Protocols) -> None:
    call = rpc("SendStreamingMessage", **message())
    with world.http("planner") as http, http.stream("POST", "/", json=call, headers=NEW) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = (line for line in answer.iter_lines() if line.startswith("data:"))
        assert read_stream(world, events) == EVENTS
    assert world.ran.take() == ["SendStreamingMessage"]


def test_an_older_name_is_denied_the_same_way_as_the_new_one(world: Protocols) -> None:
    with world.http("planner") as http:
        new = Refusal.of(http.post("/", json=rpc("CancelTask", id="t-1"), headers=NEW))
        old = Refusal.of(http.post("/", json=rpc("tasks/cancel", id="t-1")))
        rest = Refusal.of(http.post("/tasks/t-1:cancel", headers=NEW))
        old_rest = Refusal.of(http.post("/v1/tasks/t-1:cancel"))
    assert (new.status, new.code, new.reason) == (200, 403, Code.TOOL_UNKNOWN)
    assert old == new
    assert (rest.status, rest.reason, rest.fix) == (403, new.reason, new.fix)
    assert old_rest == rest
    assert {record["action"]["method"] for record in world.decisions()[-4:]} == {"CancelTask"}
    assert world.ran.take() == []


@pytest.mark.parametrize("method", ["message/send", "tasks/get", "CancelTask", "agent/admin"])
def test_a_name_of_another_version_or_of_none_is_not_read(world: Protocols, method: str) -> None:
    headers = {} if method[0].isupper() else NEW
    with world.http("planner") as http:
        answer = http.post("/", json=rpc(method, id="t-1"), headers=headers)
    assert Refusal.of(answer).reason in {Code.A2A_VERSION, Code.A2A_METHOD_UNKNOWN}
    assert world.ran.take() == []


def test_a_tenant_that_is_not_listed_is_not_served(world: Protocols) -> None:
    with world.http("planner") as http:
        refusals = [
            Refusal.of(http.post("/", json=rpc("SendMessage", **message(tenant="rival")), headers=NEW)),
            Refusal.of(
                http.post("/", json=rpc("SendStreamingMessage", **message(tenant="rival")), headers=NEW)
            ),
            Refusal.of(http.post("/rival/message:send", json=message(), headers=NEW)),
            Refusal.of(http.post("/message:send", json=message(tenant="rival"), headers=NEW)),
            Refusal.of(http.get("/rival/tasks/t-1", headers=NEW)),
        ]
        mixed = http.post("/acme/message:send", json=message(tenant="rival"), headers=NEW)
        hidden = http.get("/tasks/t-1", headers={**NEW, "a2a-tenant": "rival"})
        itself = http.post("/", json=rpc("GetTask", id="t-1", tenant="planner"), headers=NEW)
    assert {refusal.reason for refusal in refusals} == {Code.TOOL_UNKNOWN}
    assert {Refusal.of(each).reason for each in (mixed, hidden, itself)} == {Code.A2A_PARAMS}
    assert world.ran.take() == []


def test_nobody_has_tasks_sent_to_a_url_of_theirs(world: Protocols) -> None:
    url = "https://collector.example/in"
    config = {"taskId": "t-1", "url": url}
    old = {"taskId": "t-1", "pushNotificationConfig": {"url": url}}
    inside = message(configuration={"taskPushNotificationConfig": {"url": url}})
    with world.http("planner") as http:
        calls = [
            http.post("/", json=rpc("CreateTaskPushNotificationConfig", **config), headers=NEW),
            http.post("/", json=rpc("tasks/pushNotificationConfig/set", **old)),
            http.post("/tasks/t-1/pushNotificationConfigs", json=config, headers=NEW),
            http.post("/acme/tasks/t-1/pushNotificationConfigs", json=config, headers=NEW),
        ]
        within = http.post("/", json=rpc("SendMessage", **inside), headers=NEW)
    assert {Refusal.of(answer).reason for answer in calls} == {Code.TOOL_UNKNOWN}
    assert Refusal.of(within).reason == Code.A2A_PARAMS
    assert world.ran.take() == []


def test_the_public_card_is_no_call_and_the_extended_one_is(world: Protocols) -> None:
    path = "/.well-known/agent-card.json"
    with world.http("planner") as http:
        public = http.get(path)
        phase = world.decisions()[-1]["action"]["phase"]
        extended = http.get("/extendedAgentCard", headers=NEW)
    assert (public.status_code, phase, world.ran.take()) == (200, "lifecycle", [f"GET {path}"])
    assert Refusal.of(extended).reason == Code.TOOL_UNKNOWN


def task(tenant: str) -> bytes:
    """The message of a call about a task: its tenant, and its id."""
    return b"".join(
        bytes([tag, len(text)]) + text.encode() for tag, text in ((0x0A, tenant), (0x12, "t-1")) if text
    )


@pytest.mark.parametrize(
    ("method", "message", "reason"),
    [
        ("GetTask", task("acme"), ""),
        ("GetTask", task("rival"), Code.TOOL_UNKNOWN),
        ("GetTask", task(""), Code.TOOL_UNKNOWN),
        ("GetTask", task("rival") + task("acme"), Code.A2A_PARAMS),
        ("CancelTask", task("acme"), Code.TOOL_UNKNOWN),
        ("DropTasks", task("acme"), Code.A2A_METHOD_UNKNOWN),
    ],
)
def test_an_agent_is_asked_over_grpc_within_the_same_grants(
    world: Protocols, method: str, message: bytes, reason: str
) -> None:
    with world.channel("desk", DESK_HOST) as channel:
        calls: Any = channel.unary_stream(f"/{DESK}/{method}")
        call = calls(message, timeout=SECONDS, metadata=tuple(NEW.items()))
        if not reason:
            assert list(call) == [message]
        else:
            assert f"({reason})" in rpc_refused(call)[1]
    assert world.ran.take() == ([] if reason else [method])


# ---- MCP

WITHIN: Final[Mapping[str, dict[str, Any]]] = {
    "read_page": {"path": "docs/2026/.draft.md"},
    "find_order": {"order": "ORD-0042"},
    "tag_page": {"tags": ["urgent", "billing"]},
}
BEYOND: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("read_page", {"path": "docs/../secret.md"}),
    ("read_page", {"path": "docs/%2e%2e/secret.md"}),
    ("read_page", {"path": "/docs/a.md"}),
    ("read_page", {"path": "docs/"}),
    ("find_order", {"order": "ORD-00421"}),
    ("find_order", {"order": "ORD-0042\n"}),
    ("find_order", {"order": "ord-0042"}),
    ("find_order", {"order": 42}),
    ("tag_page", {"tags": ["urgent", "root"]}),
    ("tag_page", {"tags": "urgent"}),
    ("tag_page", {"tags": [["urgent"]]}),
    ("tag_page", {}),
)


@asynccontextmanager
async def client(world: Protocols, mode: ConnectMode) -> AsyncIterator[Client]:
    async with world.mcp_http() as http:
        url = f"https://localhost:{world.port}/docs/mcp"
        async with Client(streamable_http_client(url, http_client=http), mode=mode) as made:
            yield made


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_a_tool_runs_within_the_limits_of_its_arguments_and_never_beyond(
    world: Protocols, mode: ConnectMode
) -> None:
    async def run() -> None:
        async with client(world, mode) as made:
            for tool, arguments in (*BEYOND, ("drop_pages", {})):
                with pytest.raises(MCPError) as caught:
                    await made.call_tool(tool, arguments)
                code = Code.ARGUMENT_LIMIT if tool in WITHIN else Code.TOOL_UNKNOWN
                assert (caught.value.code, caught.value.data["reason"]) == (403, code), arguments
            assert world.ran.take() == []
            # The session lives on.
            for tool, arguments in WITHIN.items():
                assert not (await made.call_tool(tool, arguments)).is_error

    asyncio.run(run())
    assert world.ran.take() == [
        "read_page docs/2026/.draft.md",
        "find_order ORD-0042",
        "tag_page urgent billing",
    ]
    denied = [json.dumps(record) for record in world.decisions() if record["effect"] == "deny"]
    assert not any("secret.md" in record for record in denied)
