"""agentgateway's ExtMcp: what it asks about a request is decided by the one flow (ADR 0023)."""

import asyncio
import json
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.agentgateway.message import MAX_MESSAGE_BYTES, MAX_TARGETS, Asked
from authz.agentgateway.service import Unasked, unasked_request, unasked_result
from authz.agentgateway.targets import Targets
from authz.agentgateway.verdict import Allowed, Refusal, read_answer, request_passes
from authz.errors import ConfigError
from authz.headers import MAX_HEADERS
from authz.pb import ext_authz_pb2 as authz
from authz.pb import ext_mcp_pb2 as pb
from authz.protocols.route import Route
from authz.services import Service, Services
from identity.caller import DpopBinding, WorkloadBinding
from identity.transaction import verify_transaction_token
from identity.withdrawal import Withdrawal, Withdrawals
from tests.dpop_proofs import KEY, proof
from tests.extmcp_world import READ, ExtMcpWorld, reason, renamed, told
from tests.fakes import APPROVE, DENY, DOMAIN, GATEWAY, ISSUER, NOW, RUNNER, WEB

INVALID = pb.AuthorizationError.INVALID
DENIED = pb.AuthorizationError.PERMISSION_DENIED
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
MODERN_HEADERS = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call"}


def set_headers(result: pb.McpRequestResult) -> dict[str, bytes]:
    return {header.key: header.value for header in result.header_mutation.set}


def test_an_allowed_call_passes_with_a_token_in_place_of_the_credential() -> None:
    world = ExtMcpWorld()
    result = world.ask(world.message(headers=world.headers(**{"x-deputy-decision": "forged"})))
    assert result.WhichOneof("result") == "passed"
    token = verify_transaction_token(
        set_headers(result).pop("txn-token").decode(),
        world.authority.token_keys,
        issuer=ISSUER,
        trust_domain=DOMAIN,
        service="tickets",
        now=NOW,
        leeway=0,
    )
    assert (token.chain, token.tool) == ((world.caller.hop,), "read_ticket")
    (record,) = world.records()
    assert (record["kind"], record["effect"]) == ("decision", "allow")
    assert result.metadata["decision_id"] == world.sink.entries[0].id


def test_what_is_set_is_not_removed_again_and_nothing_of_the_client_stays() -> None:
    """Agentgateway removes after it has set."""
    world = ExtMcpWorld()
    sent = world.headers(**{"x-deputy-decision": "forged", "dpop": "x"})
    result = world.ask(world.message(headers=sent))
    removed = set(result.header_mutation.remove)
    assert list(set_headers(result)) == ["txn-token"]
    assert {"authorization", "dpop", "x-deputy-decision"} <= removed
    assert "txn-token" not in removed


def test_the_policy_is_asked_what_it_is_asked_behind_envoy() -> None:
    world = ExtMcpWorld()
    world.ask(world.message())
    world.check(world.request(world.bearer, world.caller))
    ours, envoys = world.policy.asked
    assert {**ours, "request": None} == {**envoys, "request": None}
    assert ours["request"] == {"method": "POST", "path": "/mcp", "host": "mcp.mesh.example"}


def test_a_denial_is_an_error_with_our_words_and_one_record() -> None:
    world = ExtMcpWorld()
    world.policy.answer = DENY
    result = world.ask(world.message())
    assert (result.error.code, result.error.reason) == (DENIED, "too high")
    data = told(result)
    assert data == {"reason": "DPT-AGENT-TIER", "fix": "ask", "decision_id": world.sink.entries[0].id}
    assert not result.HasField("header_mutation")
    assert len(world.records()) == 1


@pytest.mark.parametrize("denials", ["tool_error", "http"])
def test_a_denial_in_another_form_is_an_error_all_the_same(denials: str) -> None:
    world = ExtMcpWorld()
    world.services = renamed(world.services, denials=denials)
    world.policy.answer = DENY
    result = world.ask(world.message())
    assert reason(result) == "DPT-AGENT-TIER"
    assert result.error.reason.startswith("too high")


def test_what_is_hidden_names_no_reason() -> None:
    world = ExtMcpWorld()
    world.services = renamed(world.services, denials="unknown_tool")
    world.policy.answer = DENY
    result = world.ask(world.message())
    assert (result.error.code, result.error.reason) == (INVALID, "Unknown tool: read_ticket")
    assert "reason" not in told(result)


def test_who_presents_no_credential_is_nobody() -> None:
    world = ExtMcpWorld()
    headers = [(name, value) for name, value in world.headers() if name != "authorization"]
    result = world.ask(world.message(headers=headers))
    assert (reason(result), result.error.code) == ("DPT-TOKEN-MISSING", DENIED)


def test_a_peer_that_the_gateway_does_not_attest_is_nobody() -> None:
    world = ExtMcpWorld()
    for context in ({}, {"peer": None, "certificate": None}):
        assert reason(world.ask(world.message(context=context))) == "DPT-PEER-MISSING"


@pytest.mark.parametrize("name", ["peer", "certificate", "x-forwarded-client-cert", "x-spiffe-id"])
def test_a_peer_in_a_header_counts_for_nothing(name: str) -> None:
    world = ExtMcpWorld()
    claimed = world.attested(world.caller)["peer"]
    value = f"By={GATEWAY};URI={claimed}" if name.startswith("x-f") else claimed
    result = world.ask(world.message(context={}, headers=world.headers(**{name: value})))
    assert reason(result) == "DPT-PEER-MISSING"


def test_another_peer_than_the_tokens_is_refused() -> None:
    world = ExtMcpWorld()
    other = world.run("resolver")
    assert reason(world.ask(world.message(context=world.attested(other)))) == "DPT-NOT-BOUND"


def test_a_token_of_a_workload_needs_no_certificate() -> None:
    world = ExtMcpWorld()
    world.bearer = world.token(world.caller, binding=WorkloadBinding(RUNNER))
    assert world.ask(world.message(context={"peer": str(RUNNER)})).WhichOneof("result") == "passed"


@pytest.mark.parametrize(
    ("asker", "target", "code"),
    [
        (WEB, "tickets-target", "DPT-ASKER-UNKNOWN"),
        (None, "tickets-target", "DPT-ASKER-UNKNOWN"),
        (GATEWAY, "files", "DPT-ASKER-TARGET"),
        (GATEWAY, "tickets", "DPT-SERVICE-UNKNOWN"),
        (GATEWAY, "unknown", "DPT-SERVICE-UNKNOWN"),
    ],
)
def test_a_stranger_that_forges_a_peer_and_a_target_that_is_not_the_askers_are_refused(
    asker: object, target: str, code: str
) -> None:
    world = ExtMcpWorld()
    result = world.ask(world.message(targets=(target,)), asker)  # type: ignore[arg-type]  # an ID or none
    assert reason(result) == code
    assert not world.policy.asked


def test_a_contained_gateway_is_answered_with_refusals() -> None:
    world = ExtMcpWorld()
    contained = Withdrawal("workload", str(GATEWAY), None, "why", "who", NOW)
    world.rights.withdrawals = Withdrawals.of([contained])
    assert reason(world.ask(world.message())) == "DPT-CONTAINED"


def test_an_unknown_method_is_refused() -> None:
    world = ExtMcpWorld()
    assert reason(world.ask(world.message("tools/delete", {}))) == "DPT-MCP-METHOD-UNKNOWN"


def test_params_that_are_not_those_of_the_method_are_refused() -> None:
    """The request says that it lists, and has the params of a call: or the other way round."""
    world = ExtMcpWorld()
    assert reason(world.ask(world.message("tools/list", READ))) == "DPT-MCP-PARAMS"
    assert reason(world.ask(world.message("tools/call", {"cursor": "1"}))) == "DPT-MCP-PARAMS"
    assert reason(world.ask(world.message("tools/call", None))) == "DPT-MCP-PARAMS"


def test_a_header_that_names_another_method_is_refused() -> None:
    world = ExtMcpWorld()
    message = world.message(headers=world.headers(**{"mcp-method": "tools/list"}))
    assert reason(world.ask(message)) == "DPT-MCP-HEADER-MISMATCH"


BREAKOUTS = [
    b'{"name":"a"},"method":"tools/list"',
    b'{"name":"a"}}{"jsonrpc":"2.0"}',
    b'{"name":"a"},"params":{"name":"b"}',
]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        *((raw, "DPT-JSON-MALFORMED") for raw in BREAKOUTS),
        (b"", "DPT-JSON-MALFORMED"),
        (b"[]", "DPT-MCP-BATCH"),
        (b'"text"', "DPT-MCP-ENVELOPE"),
        (b"null", "DPT-MCP-ENVELOPE"),
        (b'{"name":"echo","name":"secret"}', "DPT-JSON-DUPLICATE-KEY"),
        (b'{"name":"echo","n\\u0061me":"secret"}', "DPT-JSON-DUPLICATE-KEY"),
        (b'{"name":"echo","Name":"secret"}', "DPT-MCP-LOOKALIKE-KEY"),
        (b'\xef\xbb\xbf{"name":"echo"}', "DPT-BODY-ENCODING"),
        ('{"name":"echo"}'.encode("utf-16"), "DPT-BODY-ENCODING"),
        (b'{"name":"echo","arguments":{"n":NaN}}', "DPT-JSON-NUMBER"),
        (b'{"name":"echo","arguments":{"t":"\\ud800"}}', "DPT-JSON-SURROGATE"),
        (b'{"arguments":' + b'{"a":' * 70 + b"1" + b"}" * 70 + b',"name":"echo"}', "DPT-JSON-DEPTH"),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}', "DPT-MCP-PARAMS"),
    ],
)
def test_params_are_inspected_as_strictly_as_a_body(raw: bytes, code: str) -> None:
    world = ExtMcpWorld()
    result = world.ask(world.message(raw=raw))
    assert (reason(result), result.error.code) == (code, INVALID)
    assert not world.policy.asked


def test_params_that_are_too_long_are_refused_before_anybody_reads_them() -> None:
    world = ExtMcpWorld()
    raw = b'{"name":"read_ticket","arguments":{"ticket":"' + b"x" * (1 << 20) + b'"}}'
    assert reason(world.ask(world.message(raw=raw))) == "DPT-BODY-TOO-LARGE"
    assert not world.policy.asked


def test_what_described_the_clients_bytes_does_not_describe_what_the_gateway_read() -> None:
    world = ExtMcpWorld()
    sent = {"content-type": "text/plain", "content-encoding": "gzip", "content-length": "3"}
    assert world.ask(world.message(headers=world.headers(**sent))).WhichOneof("result") == "passed"


@pytest.mark.parametrize(("prefixed", "name"), [(False, "read_ticket"), (True, "tickets-target_read_ticket")])
def test_a_modern_call_names_its_tool_in_a_header_as_the_client_does(prefixed: bool, name: str) -> None:
    world = ExtMcpWorld(prefixed=prefixed)
    headers = world.headers(**MODERN_HEADERS, **{"mcp-name": name})
    assert (
        world.ask(world.message(params={**READ, "_meta": MODERN}, headers=headers)).WhichOneof("result")
        == "passed"
    )
    assert world.policy.asked[0]["resource"] == {"service": "tickets", "type": "tool", "name": name}


def test_a_header_that_names_another_tool_than_the_body_is_refused() -> None:
    world = ExtMcpWorld()
    headers = world.headers(**MODERN_HEADERS, **{"mcp-name": "delete_ticket"})
    message = world.message(params={**READ, "_meta": MODERN}, headers=headers)
    assert reason(world.ask(message)) == "DPT-MCP-HEADER-MISMATCH"


def test_a_tool_of_one_target_is_not_that_of_another() -> None:
    """Both targets have `read_ticket`; the policy knows which is which."""
    world = ExtMcpWorld(prefixed=True)
    for target in ("tickets-target", "more"):
        world.ask(world.message(targets=(target,)))
    world.ask(world.message("resources/read", {"uri": "file:///a"}, targets=("more",)))
    names = [query["resource"]["name"] for query in world.policy.asked]  # type: ignore[index]  # a question of ours
    assert names == ["tickets-target_read_ticket", "more_read_ticket", "more+file:///a"]


def test_a_prefix_breaks_no_value_that_is_no_name() -> None:
    world = ExtMcpWorld(prefixed=True)
    assert reason(world.ask(world.message(params={"name": ["a"]}))) == "DPT-MCP-PARAMS"


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("initialize", {}),
        ("ping", {}),
        ("logging/setLevel", {}),
        ("tools/list", {}),
        ("tools/list", {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list"}),
        ("server/discover", {"mcp-protocol-version": "2026-07-28", "mcp-method": "server/discover"}),
    ],
)
def test_what_is_asked_of_all_targets_needs_no_params(method: str, headers: dict[str, str]) -> None:
    world = ExtMcpWorld()
    result = world.ask(world.message(method, None, headers=world.headers(**headers)))
    assert result.WhichOneof("result") == "passed"


def test_a_subscription_whose_params_the_gateway_does_not_tell_is_refused() -> None:
    world = ExtMcpWorld()
    sent = {"mcp-protocol-version": "2026-07-28", "mcp-method": "subscriptions/listen"}
    message = world.message("subscriptions/listen", None, headers=world.headers(**sent))
    assert reason(world.ask(message)) == "DPT-MCP-PARAMS"


def test_several_targets_are_one_service_or_refused() -> None:
    """What stands for a caller has one audience."""
    world = ExtMcpWorld()
    one = world.ask(world.message("tools/list", None, targets=("tickets-target", "more")))
    assert one.WhichOneof("result") == "passed"
    assert len(world.records()) == 1
    several = world.ask(world.message("tools/list", None, targets=("tickets-target", "billing")))
    assert reason(several) == "DPT-SERVICE-UNKNOWN"
    assert (
        reason(world.ask(world.message("tools/list", None, targets=("more", "x")))) == "DPT-SERVICE-UNKNOWN"
    )


def test_a_service_outside_gets_nothing_of_ours() -> None:
    world = ExtMcpWorld()
    world.services = renamed(world.services, txn="none")
    result = world.ask(world.message())
    assert result.WhichOneof("result") == "passed"
    assert not set_headers(result)
    assert {"authorization", "txn-token", "cookie"} <= set(result.header_mutation.remove)


def test_a_proof_of_possession_counts_for_the_place_that_the_client_wrote() -> None:
    world = ExtMcpWorld()
    world.bearer = world.token(world.caller, binding=DpopBinding(KEY.kid))
    uri = "https://mcp.mesh.example/mcp"
    sent = {
        "authorization": f"DPoP {world.bearer}",
        "dpop": proof(world.bearer, htu=uri, iat=int(NOW.timestamp())),
    }
    assert world.ask(world.message(headers=world.headers(**sent))).WhichOneof("result") == "passed"
    assert reason(world.ask(world.message(headers=world.headers(**sent)))) == "DPT-REPLAYED"


@pytest.mark.parametrize("missing", [":method", ":path", ":authority"])
def test_a_gateway_that_does_not_say_where_the_request_was_sent_is_told_so(missing: str) -> None:
    world = ExtMcpWorld()
    headers = [(name, value) for name, value in world.headers() if name != missing]
    result = world.ask(world.message(headers=headers))
    assert (reason(result), result.error.code) == ("DPT-REQUEST-MALFORMED", INVALID)
    assert repr(missing) in result.error.reason


def test_a_request_of_another_http_method_carries_no_message() -> None:
    world = ExtMcpWorld()
    for method in ("GET", "DELETE"):
        sent = world.headers(**{":method": method})
        assert reason(world.ask(world.message(headers=sent))) == "DPT-MCP-HTTP-METHOD"


def unreadable() -> list[tuple[str, bytes]]:
    """Messages that are none, each with a word of the sentence that says why."""
    world = ExtMcpWorld()
    right = world.message().SerializeToString()
    wrong_peer = world.message(context={"peer": ["spiffe://mesh.example/x"]})
    long = world.message()
    long.headers.extend([pb.McpHeader(key="a", value=b"b")] * (MAX_HEADERS + 1))
    return [
        ("not a McpRequest", b"\xff\xff"),
        ("a message of", bytes(MAX_MESSAGE_BYTES + 1)),
        ("not known here", right + b"\x9a\x06\x01a"),
        ("metadata_context.peer", wrong_peer.SerializeToString()),
        ("service_names", pb.McpRequest(method="ping").SerializeToString()),
        ("service_names", world.message(targets=("billing", "billing")).SerializeToString()),
        ("service_names", world.message(targets=tuple(map(str, range(MAX_TARGETS + 1)))).SerializeToString()),
        ("not the name of a target", world.message(targets=("a\nb",)).SerializeToString()),
        ("not a method", world.message("").SerializeToString()),
        ("not a method", world.message("a" * 129).SerializeToString()),
        ("headers", long.SerializeToString()),
    ]


@pytest.mark.parametrize(("said", "data"), unreadable(), ids=range(11))
def test_what_cannot_be_read_is_refused_and_leaves_a_record(said: str, data: bytes) -> None:
    world = ExtMcpWorld()
    result = world.ask(data)
    assert (reason(result), result.error.code) == ("DPT-REQUEST-MALFORMED", INVALID)
    assert said in result.error.reason
    assert [record["code"] for record in world.records()] == ["DPT-REQUEST-MALFORMED"]


def test_a_stranger_is_not_told_what_is_wrong_with_its_message() -> None:
    world = ExtMcpWorld()
    result = world.ask(b"\xff\xff", WEB)
    assert reason(result) == "DPT-ASKER-UNKNOWN"
    assert "McpRequest" not in result.error.reason


def test_a_fault_is_a_refusal() -> None:
    world = ExtMcpWorld()
    service = world.service()

    async def broken(_data: bytes, _asker: object) -> bytes:
        raise ZeroDivisionError

    async def allowing(_data: bytes, _asker: object) -> bytes:
        return await service.check(world.request(world.bearer, world.caller), GATEWAY)

    for check, data in ((broken, world.message().SerializeToString()), (allowing, b"\xff")):
        told_of = asyncio.run(replace(service, check=check).check_request(data, GATEWAY))
        assert reason(pb.McpRequestResult.FromString(told_of)) == "DPT-INTERNAL"


def test_a_revocation_between_decision_and_answer_wins() -> None:
    world = ExtMcpWorld()

    def revoke() -> None:
        world.rights.epoch += 1
        world.rights.tasks[world.caller.task.id] = replace(world.caller.task, ended_at=NOW)

    world.policy.act = revoke
    result = world.ask(world.message())
    assert reason(result) == "DPT-WITHDRAWN"
    assert [record["kind"] for record in world.records()] == ["decision", "withdrawn"]


def test_a_call_that_waits_for_a_person_is_an_error() -> None:
    world = ExtMcpWorld()
    world.policy.answer = APPROVE
    assert reason(world.ask(world.message())) == "DPT-APPROVAL-REQUIRED"


def test_what_a_person_is_to_be_shown_is_in_the_error() -> None:
    """A refusal is no result to agentgateway: the URL is in the data of the error, and in its text."""
    asked = {
        "method": "elicitation/create",
        "params": {"mode": "url", "url": "https://a/1", "message": "look:"},
    }
    body = {"jsonrpc": "2.0", "id": 1, "result": {"inputRequests": {"deputy.approval": asked}}}
    response = authz.CheckResponse(status=authz.Status(code=7))
    response.denied_response.body = json.dumps(body)
    response.dynamic_metadata.update({"reason": "DPT-APPROVAL-REQUIRED", "decision_id": "d"})
    refusal = read_answer(response.SerializeToString())
    assert isinstance(refusal, Refusal)
    assert refusal.message == "look: https://a/1"
    assert refusal.data["approval"] == {"url": "https://a/1"}


@pytest.mark.parametrize("body", ["", "no JSON", "[]", '{"error":{}}', '{"result":{}}'])
def test_a_denial_whose_body_says_nothing_says_its_code(body: str) -> None:
    response = authz.CheckResponse(status=authz.Status(code=7))
    response.denied_response.body = body
    refusal = read_answer(response.SerializeToString())
    assert isinstance(refusal, Refusal)
    assert refusal.data["reason"] == "DPT-INTERNAL"


def test_all_that_envoy_would_set_is_set() -> None:
    """What is set is not removed: with a part of it, a client's own header would go on."""
    response = authz.CheckResponse(status=authz.Status(code=0))
    for name in ("txn-token", "x-mcp-authorized"):
        response.ok_response.headers.add().header.CopyFrom(authz.HeaderValue(key=name, value="ours"))
    response.status.SetInParent()
    allowed = read_answer(response.SerializeToString())
    assert isinstance(allowed, Allowed)
    passed = pb.McpRequestResult.FromString(request_passes(allowed))
    assert set_headers(passed) == {"txn-token": b"ours", "x-mcp-authorized": b"ours"}


def test_an_empty_answer_is_no_allow() -> None:
    for response in (authz.CheckResponse(), authz.CheckResponse(status=authz.Status())):
        assert isinstance(read_answer(response.SerializeToString()), Refusal)


def test_a_document_that_is_served_in_place_of_a_service_is_no_allow() -> None:
    world = ExtMcpWorld()
    path = "/.well-known/oauth-protected-resource/mcp"
    sent = world.headers(**{":path": path, ":method": "GET", ":authority": "tickets.mesh.example"})
    assert world.ask(world.message(headers=sent)).WhichOneof("result") == "error"


def test_who_is_overloaded_or_cannot_know_says_so() -> None:
    """The numbers that agentgateway makes of them tell a client whether to try again."""
    codes = {code: Refusal.of_code(code).code for code in ("DPT-OVERLOADED", "DPT-STALE", "DPT-OF-A-POLICY")}
    error = pb.AuthorizationError
    assert list(codes.values()) == [error.RESOURCE_EXHAUSTED, error.UNKNOWN, error.PERMISSION_DENIED]


@pytest.mark.parametrize(
    ("by_target", "prefixed"),
    [
        ({}, False),
        ({"a": "nothing"}, False),
        ({"a": "pages"}, False),
        ({"a": "stripped"}, False),
        ({"a_b": "tickets"}, True),
        ({"a+b": "tickets"}, True),
    ],
)
def test_targets_that_could_not_be_told_apart_are_refused(by_target: dict[str, str], prefixed: bool) -> None:
    services = Services.of(
        (
            Service("tickets", "https://t", Route("tickets", "mcp")),
            Service("pages", "https://p", Route("pages", "http")),
            Service("stripped", "https://s", Route("stripped", "mcp", tool_prefix="s_")),
        ),
        (),
        None,
    )
    with pytest.raises(ConfigError, match="agentgateway"):
        Targets.of(by_target, services, is_prefixed=prefixed)


@given(st.binary(max_size=512))
def test_any_bytes_are_answered_with_a_refusal(data: bytes) -> None:
    world = ExtMcpWorld()
    assert world.ask(data).WhichOneof("result") == "error"
    assert world.answer(data).WhichOneof("result") == "error"


@given(st.binary(max_size=256))
def test_any_params_are_refused_or_are_one_call_of_this_method(raw: bytes) -> None:
    world = ExtMcpWorld()
    world.ask(world.message(raw=raw))
    for query in world.policy.asked:
        assert query["action"] == {"protocol": "mcp", "method": "tools/call", "phase": "call"}


def test_no_secret_is_in_a_representation() -> None:
    world = ExtMcpWorld()
    asked = Asked.parse(world.message().SerializeToString())
    assert world.bearer not in repr(asked)
    assert "T-1" not in repr(asked)
    data = world.check(world.request(world.bearer, world.caller)).SerializeToString()
    allowed = read_answer(data)
    assert isinstance(allowed, Allowed)
    ((name, token),) = allowed.headers
    assert name == "txn-token"
    assert token.decode() not in repr(allowed)


def test_a_host_that_answers_in_our_place_refuses() -> None:
    codes = {"failed": "DPT-INTERNAL", "busy": "DPT-OVERLOADED", "stranger": "DPT-ASKER-UNKNOWN"}
    for why in get_args(Unasked):
        assert reason(pb.McpRequestResult.FromString(unasked_request(why))) == codes[why]
        assert reason(pb.McpResponseResult.FromString(unasked_result(why))) == codes[why]
