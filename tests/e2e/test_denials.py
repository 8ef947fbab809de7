"""What real clients see of each form of a denial, through a real Envoy: `mcp` 2.3, gRPC, and raw HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.client import ConnectMode
from mcp.client.session import ElicitationFnT
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, ElicitRequestURLParams, ElicitResult, TextContent

from authz.codes import Code
from authz.protected_resource import WELL_KNOWN_RESOURCE, resource_document, scopes_of
from tests.denials import DECISION, URL
from tests.e2e.denial_world import ISSUER, Refusals, refusals

pytestmark = pytest.mark.e2e
ERAS: tuple[ConnectMode, ...] = ("legacy", "auto", "2026-07-28")


@pytest.fixture(scope="module")
def mesh() -> Iterator[Refusals]:
    with refusals() as made:
        yield made


@asynccontextmanager
async def client(
    mesh: Refusals,
    service: str,
    mode: ConnectMode = "2026-07-28",
    seen: list[httpx2.Response] | None = None,
    *,
    elicit: ElicitationFnT | None = None,
    bearer: str = "x",
) -> AsyncIterator[Client]:
    """The official client; `seen` gets the answers to its calls."""

    async def keep(response: httpx2.Response) -> None:
        if seen is not None and b'"tools/call"' in response.request.content:
            seen.append(response)

    headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
    url = f"https://localhost:{mesh.port}/{service}/mcp"
    async with httpx2.AsyncClient(verify=mesh.tls(), headers=headers, timeout=30, trust_env=False) as http:
        http.event_hooks["response"].append(keep)
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode=mode, elicitation_callback=elicit) as made:
            yield made


async def still_works(made: Client) -> None:
    """The session lives on after what was refused."""
    result = await made.call_tool("echo", {"text": "still here"})
    assert text_of(result) == "still here"


def text_of(result: CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


async def refused(made: Client, tool: str) -> MCPError:
    with pytest.raises(MCPError) as caught:
        await made.call_tool(tool, {})
    return caught.value


# ---- the default: an error


@pytest.mark.parametrize("mode", ERAS)
def test_an_error_reaches_the_client_whole_and_its_session_lives(mesh: Refusals, mode: ConnectMode) -> None:
    async def run() -> None:
        seen: list[httpx2.Response] = []
        async with client(mesh, "error", mode, seen) as made:
            error = await refused(made, "forbidden")
            await still_works(made)
        assert (error.code, error.message) == (403, Code.AGENT_TIER.sentence)
        assert error.data == {
            "reason": "DPT-AGENT-TIER",
            "fix": Code.AGENT_TIER.fix,
            "decision_id": DECISION,
        }
        assert seen[0].status_code == 200
        assert seen[0].headers["x-deputy-decision"] == DECISION

    asyncio.run(run())


@pytest.mark.parametrize("rpc_id", [0, 2**53 - 1, "ünïcode ☃", "7"])
def test_the_id_comes_back_through_envoy_as_it_was(mesh: Refusals, rpc_id: str | int) -> None:
    params = {"name": "forbidden", "arguments": {}}
    call = {"jsonrpc": "2.0", "id": rpc_id, "method": "tools/call", "params": params}
    answer = mesh.post("/error/mcp", call)
    assert answer.status == 200
    assert answer.json["id"] == rpc_id
    assert type(answer.json["id"]) is type(rpc_id)


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_what_cannot_be_known_now_is_503_with_an_error_that_the_client_reads(
    mesh: Refusals, mode: ConnectMode
) -> None:
    async def run() -> None:
        seen: list[httpx2.Response] = []
        async with client(mesh, "error", mode, seen) as made:
            error = await refused(made, "unavailable")
            await still_works(made)
        assert (seen[0].status_code, seen[0].headers["retry-after"]) == (503, "1")
        assert (error.code, error.data["reason"]) == (403, "DPT-POLICY-UNAVAILABLE")

    asyncio.run(run())


def test_more_scope_is_asked_for_with_a_challenge_and_the_client_reads_the_error(mesh: Refusals) -> None:
    async def run() -> None:
        seen: list[httpx2.Response] = []
        async with client(mesh, "error", seen=seen) as made:
            error = await refused(made, "scoped")
            await still_works(made)
        assert seen[0].status_code == 403
        assert 'error="insufficient_scope", scope="tickets:write"' in seen[0].headers["www-authenticate"]
        assert error.data["reason"] == "DPT-SCOPE-MISSING"

    asyncio.run(run())


# ---- what the service chose


@pytest.mark.parametrize("mode", ERAS)
def test_a_tool_error_is_a_result_that_the_model_reads(mesh: Refusals, mode: ConnectMode) -> None:
    async def run() -> None:
        async with client(mesh, "tool-error", mode) as made:
            result = await made.call_tool("forbidden", {})
            await still_works(made)
        assert result.is_error
        assert Code.AGENT_TIER.fix in text_of(result)

    asyncio.run(run())


@pytest.mark.parametrize("mode", ERAS)
def test_a_hidden_tool_and_one_that_is_not_there_cannot_be_told_apart(
    mesh: Refusals, mode: ConnectMode
) -> None:
    async def run() -> None:
        seen: list[httpx2.Response] = []
        async with client(mesh, "unknown-tool", mode, seen) as made:
            errors = [await refused(made, tool) for tool in ("forbidden", "missing", "scoped")]
            await still_works(made)
        assert [error.code for error in errors] == [-32602] * 3
        assert [error.message for error in errors] == [
            f"Unknown tool: {tool}" for tool in ("forbidden", "missing", "scoped")
        ]
        first, *others = [
            (answer.status_code, sorted(set(answer.headers) - {"date"}), set(json.loads(answer.content)))
            for answer in seen[:3]
        ]
        assert others == [first, first]
        for answer in seen[:3]:
            assert "DPT-" not in f"{answer.headers} {answer.text}"
            assert answer.headers["x-deputy-decision"] == DECISION

    asyncio.run(run())


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_http_leaves_the_client_with_nothing_but_that_it_failed(mesh: Refusals, mode: ConnectMode) -> None:
    """Why it is not the default: code, sentence and fix do not reach the agent."""

    async def run() -> None:
        seen: list[httpx2.Response] = []
        async with client(mesh, "http", mode, seen) as made:
            error = await refused(made, "forbidden")
            await still_works(made)
        assert (error.code, error.data) == (-32603, None)
        assert (seen[0].status_code, seen[0].json()["reason"]) == (403, "DPT-AGENT-TIER")

    asyncio.run(run())


# ---- a person decides


@pytest.mark.parametrize("service", ["error", "tool-error", "unknown-tool"])
def test_a_client_shows_the_url_and_its_call_passes_once_a_person_approved(
    mesh: Refusals, service: str
) -> None:
    shown: list[ElicitRequestURLParams] = []

    async def elicit(context: Any, params: Any) -> ElicitResult:
        assert isinstance(params, ElicitRequestURLParams)
        shown.append(params)
        mesh.refuser.approved = len(shown) > 1
        return ElicitResult(action="accept")

    async def run() -> None:
        seen: list[httpx2.Response] = []
        async with client(mesh, service, seen=seen, elicit=elicit) as made:
            result = await made.call_tool("approved", {})
        assert text_of(result) == "done"
        # What the client's "accept" says did not count: the first retry was asked again.
        assert [params.url for params in shown] == [URL, URL]
        assert len(seen) == 3

    mesh.refuser.approved = False
    try:
        asyncio.run(run())
    finally:
        mesh.refuser.approved = False


def test_a_client_that_goes_on_accepting_for_itself_gets_nowhere(mesh: Refusals) -> None:
    async def elicit(context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"approved": True})

    async def run() -> None:
        async with client(mesh, "error", elicit=elicit) as made:
            with pytest.raises(RuntimeError, match="more than 10 rounds"):
                await made.call_tool("approved", {})
            await still_works(made)

    asyncio.run(run())


@pytest.mark.parametrize("mode", ERAS)
def test_a_client_that_cannot_show_a_url_gets_it_in_the_error(mesh: Refusals, mode: ConnectMode) -> None:
    async def run() -> None:
        async with client(mesh, "error", mode) as made:
            error = await refused(made, "approved")
            await still_works(made)
        assert error.data["approval"]["url"] == URL

    asyncio.run(run())


# ---- whoever waits for no answer, and whoever is nobody


def test_a_refused_notification_is_403_and_does_not_disturb_the_session(mesh: Refusals) -> None:
    async def run() -> None:
        before = len(mesh.refuser.operations)
        async with client(mesh, "error", "legacy") as made:
            await still_works(made)
        methods = [operation.method for operation in mesh.refuser.operations[before:]]
        assert "notifications/initialized" in methods

    asyncio.run(run())
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    answer = mesh.post("/error/mcp", note)
    assert (answer.status, answer.json["reason"]) == (403, "DPT-AGENT-NOT-GRANTED")


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_without_a_token_the_challenge_says_where_to_get_one(mesh: Refusals, mode: ConnectMode) -> None:
    async def run() -> None:
        seen: list[httpx2.Response] = []
        with pytest.RaisesGroup(MCPError, flatten_subgroups=True, allow_unwrapped=True):
            async with client(mesh, "error", mode, seen, bearer="") as made:
                await made.call_tool("echo", {"text": "x"})

    asyncio.run(run())
    answer = mesh.post("/error/mcp", {}, bearer="")
    assert answer.status == 401
    scopes = "error:destroy error:read error:write"
    assert answer.headers["www-authenticate"] == f'Bearer resource_metadata="{ISSUER}/x", scope="{scopes}"'


def test_a_batch_and_an_unknown_method_are_answered_and_never_with_404(mesh: Refusals) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    batch = mesh.post("/error/mcp", [ping])
    assert (batch.status, batch.json["error"]["code"], batch.json["id"]) == (400, -32600, None)
    unknown = mesh.post("/error/mcp", {**ping, "method": "evil/method"})
    assert (unknown.status, unknown.json["error"]["code"], unknown.json["id"]) == (200, 403, 1)


def test_the_metadata_is_answered_in_place_of_the_service_without_a_token(mesh: Refusals) -> None:
    answer = mesh.ask(f"{WELL_KNOWN_RESOURCE}/error/mcp", bearer="")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json == resource_document(ISSUER, "https://error.mesh.example", scopes_of("error"))


@pytest.mark.parametrize("path", ["/error/../http/mcp", "/error/x", "//error/mcp", "/error/mcp?x=1"])
def test_nothing_beside_the_metadata_is_answered_without_a_token(mesh: Refusals, path: str) -> None:
    answer = mesh.ask(WELL_KNOWN_RESOURCE + path, bearer="")
    if answer.status == 200:
        # Envoy has normalised the path: what is answered is the document of the service that it leads to.
        assert answer.json["resource"] in {"https://error.mesh.example", "https://http.mesh.example"}
    else:
        assert answer.status in {401, 404}


# ---- other protocols


def rpc_refused(mesh: Refusals, path: str, *metadata: tuple[str, str], streams: bool = False) -> Any:
    with mesh.channel() as channel:
        calls: Any = channel.unary_stream(path) if streams else channel.unary_unary(path)
        with pytest.raises(grpc.RpcError) as caught:
            list(calls(b"", timeout=30, metadata=metadata))
        return caught.value


@pytest.mark.parametrize(
    ("method", "bearer", "status", "text"),
    [
        ("Get", "x", grpc.StatusCode.PERMISSION_DENIED, URL),
        ("STALE", "x", grpc.StatusCode.UNAVAILABLE, Code.STALE.sentence),
        ("PATH", "x", grpc.StatusCode.INVALID_ARGUMENT, Code.PATH.sentence),
        ("Get", "", grpc.StatusCode.UNAUTHENTICATED, Code.TOKEN_MISSING.sentence),
    ],
)
@pytest.mark.parametrize("streams", [False, True])
def test_a_grpc_client_gets_a_status_and_the_sentence(
    mesh: Refusals, method: str, bearer: str, status: grpc.StatusCode, text: str, *, streams: bool
) -> None:
    metadata = (("authorization", f"Bearer {bearer}"),) if bearer else ()
    error = rpc_refused(mesh, f"/rpc/ledger.v1.Ledger/{method}", *metadata, streams=streams)
    assert error.code() is status
    assert text in error.details()
    trailers = dict(error.trailing_metadata())
    assert trailers["x-deputy-decision"] == DECISION
    assert trailers["x-deputy-reason"] in error.details()


@pytest.mark.parametrize("service", ["error", "llm", "agent"])
def test_a_grpc_client_gets_one_on_every_route(mesh: Refusals, service: str) -> None:
    error = rpc_refused(mesh, f"/{service}/l.v1.L/Get")
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert error.details().startswith(Code.TOKEN_MISSING.sentence)


def test_clients_of_models_and_agents_are_answered_in_their_own_shapes(mesh: Refusals) -> None:
    openai = mesh.post("/llm/v1/chat/completions", {})
    assert (openai.status, openai.json["error"]["code"]) == (403, "DPT-APPROVAL-REQUIRED")
    anthropic = mesh.post("/llm/v1/messages", {}, bearer="")
    assert (anthropic.status, anthropic.json["error"]["type"]) == (401, "authentication_error")
    rest = mesh.post("/agent/message:send", {})
    assert (rest.status, rest.json["error"]["status"]) == (403, "PERMISSION_DENIED")
