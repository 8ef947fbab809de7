"""What one approval is for: what its key holds, what a person is shown, and what is too long to be shown."""

import json
from dataclasses import replace
from typing import Any

import pytest

from authz.approvals.approval import Approval, Spent, key_json, summary
from authz.approvals.key import MAX_RESOURCE, Asked
from authz.approvals.place import page_of
from authz.approvals.prompt import INPUT, Prompt
from authz.approvals.shown import MAX_ARGUMENTS
from authz.codes import Code
from authz.decision import Allow, Deny, awaited, decide
from authz.errors import ApprovalError, InspectionError, StoreError
from authz.policy.verdict import Verdict
from authz.protocols.inspect import inspect
from authz.protocols.operation import Operation
from authz.protocols.route import Route
from authz.request import Request
from identity.caller import Caller, Hop
from identity.canonical import sha256_hex
from tests.approvals_world import ASKED, KEY, asked, later
from tests.check_requests import MCP_HEADERS, check_request
from tests.fakes import APPROVE, ISSUER, LEAD, NOW, SCOPES, World, agent

MCP = Route("billing", "mcp")
HTTP = Route("shop", "http")


def caller(**parts: Any) -> Caller:
    world = World()
    run = world.run("resolver")
    made = Caller(
        LEAD,
        agent("resolver"),
        run.task,
        (run.hop, Hop("triage", "01JD8Z7Y3M5E0QX2V9T4B6N8KC")),
        (agent("resolver"), agent("triage")),
        run.spiffe_id,
        "key",
        SCOPES,
        "id",
        "t",
        0,
    )
    return replace(made, **parts)


def ask(route: Route = MCP, **parts: Any) -> Asked:
    """What would be asked for by a request, read as the flow reads it."""
    request = Request.parse(check_request(**parts).SerializeToString())
    operation = inspect(request, route)
    return Asked.of(caller(), operation, request, service=route.service, revision="policy.data")


def call(arguments: object = None, *, rpc_id: int = 1, **more: Any) -> Asked:
    params = {"name": "delete_customer", **({} if arguments is None else {"arguments": arguments}), **more}
    body = {"jsonrpc": "2.0", "id": rpc_id, "method": "tools/call", "params": params}
    return ask(body=json.dumps(body).encode(), headers=[*MCP_HEADERS])


def http(path: str = "/v1/customers/7", method: str = "DELETE", **parts: Any) -> Asked:
    return ask(HTTP, path=path, method=method, **{"headers": [], "body": b"", **parts})


# ---------------------------------------------------------------- the key


def test_the_key_names_who_for_whom_in_which_run_what_and_by_which_policy() -> None:
    found = call({"customer": "C-1"})
    key = found.key
    assert (key.human, key.agent, key.via) == (LEAD.uri, "resolver", ("triage",))
    assert (key.service, key.action, key.resource) == ("billing", "tools/call", "delete_customer")
    assert key.revision == "policy.data"
    assert found.arguments == '{"customer":"C-1"}'
    assert key.arguments_sha256 == sha256_hex(found.arguments.encode())
    assert "C-1" not in repr(found)


def test_an_agent_for_nobody_asks_for_nobody() -> None:
    request = Request.parse(check_request(headers=[*MCP_HEADERS]).SerializeToString())
    found = Asked.of(caller(human=None), CALL, request, service="billing", revision="policy.data")
    assert found.key.human is None
    assert "for nobody but itself" in summary(found.key)


def test_the_same_call_written_in_another_way_is_the_same_call() -> None:
    assert call({"a": 1, "b": 2.0}) == call({"b": 2, "a": 1.0})
    assert call({}, rpc_id=1).key == call(None, rpc_id=2).key


@pytest.mark.parametrize("arguments", [{"customer": "C-2"}, {"customer": "C-1", "force": True}, {}, None])
def test_other_arguments_are_another_call(arguments: object) -> None:
    assert call(arguments).key.digest != call({"customer": "C-1"}).key.digest


# ---------------------------------------------------------------- the retry, and what proves nothing


@pytest.mark.parametrize(
    "more",
    [
        {"_meta": {"progressToken": 7}},
        {"inputResponses": {INPUT: {"action": "accept"}}},
        {"inputResponses": {INPUT: {"action": "accept", "_meta": {}}}},
        {"inputResponses": {}},
    ],
)
def test_the_retry_of_a_call_is_the_same_call(more: dict[str, Any]) -> None:
    assert call({"customer": "C-1"}, **more) == call({"customer": "C-1"})


@pytest.mark.parametrize(
    "more",
    [
        {"inputResponses": {"account": {"action": "accept", "content": {"iban": "DE02"}}}},
        {"inputResponses": {INPUT: {"action": "accept", "content": {"iban": "DE02"}}}},
        {"inputResponses": {INPUT: "yes"}},
        {"task": {"ttl": 60000}},
        {"requestState": "what the server goes on with"},
        {"_meta": {"com.example/tenant": "acme"}},
        # A server may ask a question of its own by a name that anybody would choose.
        {"inputResponses": {"approval": {"action": "accept"}}},
        {"inputResponses": {"approval": {"action": "decline"}}},
    ],
)
def test_what_else_a_call_was_sent_with_is_shown_and_is_another_call(more: dict[str, Any]) -> None:
    """A server asks for an account after the approval: nobody approved that account."""
    plain, found = call({"customer": "C-1"}), call({"customer": "C-1"}, **more)
    assert found.key.digest != plain.key.digest
    assert json.loads(found.arguments) == {"arguments": {"customer": "C-1"}, **more}


def test_arguments_that_read_like_what_stands_beside_arguments_are_another_call() -> None:
    """An agent asks for a harmless call of that form, and makes the other one."""
    beside = call({"customer": "C-1"}, task={"ttl": 1})
    within = call({"arguments": {"customer": "C-1"}, "task": {"ttl": 1}})
    assert beside.arguments != within.arguments
    assert beside.key.digest != within.key.digest
    for name in ("arguments", "task", "inputResponses", "requestState", "_meta", "query"):
        assert json.loads(call({name: {"a": 1}}).arguments) == {"arguments": {name: {"a": 1}}}


def test_a_call_sent_elsewhere_is_another_call() -> None:
    """One service may be several tenants, by host or by path; a query may say more."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "delete_customer"}}
    parts: list[dict[str, Any]] = [
        {},
        {"path": "/acme/mcp"},
        {"path": "/mcp?tenant=acme"},
        {"host": "acme.mesh.example"},
        {"host": "tickets.mesh.example:9443"},
    ]
    found = [ask(body=json.dumps(body).encode(), headers=[*MCP_HEADERS], **each) for each in parts]
    assert len({each.key.digest for each in found}) == len(parts)
    assert found[1].key.address == "tickets.mesh.example:8443/acme/mcp"
    assert "acme" not in found[2].key.address
    assert json.loads(found[2].arguments) == {"query": "tenant=acme"}
    assert http(host="acme.example").key.digest != http().key.digest


def test_what_the_protocol_puts_into_meta_is_no_other_call() -> None:
    meta = {
        "io.modelcontextprotocol/clientInfo": {"name": "x", "version": "1"},
        "progressToken": 8,
        "traceparent": "00-1-2-01",
    }
    assert call({"a": 1}, _meta=meta) == call({"a": 1})


@pytest.mark.parametrize("header", ["a2a-extensions", "x-a2a-extensions", "anthropic-beta", "openai-beta"])
def test_extensions_asked_for_in_a_header_are_shown_and_make_another_call(header: str) -> None:
    operation = Operation("a2a", "SendMessage", "call", "agent", "x", canonical_arguments=b'{"a":1}')
    plain = Request.parse(check_request(headers=[]).SerializeToString())
    more = Request.parse(check_request(headers=[(header, "urn:x")]).SerializeToString())
    asked_for = [
        Asked.of(caller(), operation, each, service="billing", revision="") for each in (plain, more)
    ]
    assert asked_for[0].key.digest != asked_for[1].key.digest
    assert json.loads(asked_for[1].arguments) == {"arguments": {"a": 1}, "headers": {header: "urn:x"}}


def test_a_call_that_updates_a_task_is_its_content() -> None:
    def update(answer: str) -> Asked:
        params = {"taskId": "t-1", "inputResponses": {"q": {"action": "accept", "content": {"a": answer}}}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tasks/update", "params": params}
        return ask(body=json.dumps(body).encode(), headers=[*MCP_HEADERS])

    assert update("x").key.digest != update("y").key.digest
    assert '"x"' in update("x").arguments


def test_a_resource_is_its_name() -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "file:///a"}}
    found = ask(body=json.dumps(body).encode(), headers=[*MCP_HEADERS])
    assert (found.key.resource, found.arguments, found.key.arguments_sha256) == ("file:///a", "", "")


def test_a_stream_has_no_arguments() -> None:
    found = ask(method="GET", body=b"", headers=[("accept", "text/event-stream")])
    assert (found.key.action, found.arguments) == ("stream_open", "")


@pytest.mark.parametrize("protocol", ["a2a", "llm"])
def test_where_arguments_are_read_these_are_the_call(protocol: Any) -> None:
    request = Request.parse(check_request().SerializeToString())
    operation = Operation(protocol, "SendMessage", "call", "agent", "x", canonical_arguments=b'{"a":1}')
    found = Asked.of(caller(), operation, request, service="billing", revision="")
    assert (found.arguments, found.key.arguments_sha256) == ('{"a":1}', sha256_hex(b'{"a":1}'))


# ---------------------------------------------------------------- where nobody reads arguments


def test_of_plain_http_the_whole_request_is_the_call() -> None:
    """The policy sees the path; the query and the body would go through unseen."""
    found = http("/v1/customers?all=true")
    assert json.loads(found.arguments) == {"target": "/v1/customers?all=true"}
    digests = {
        each.key.digest
        for each in (
            found,
            http("/v1/customers"),
            http("/v1/customers?all=false"),
            http("/v1/customers", method="POST", body=b"a=1", headers=[("content-type", "text/plain")]),
            http("/v1/customers", method="POST", body=b"a=2", headers=[("content-type", "text/plain")]),
            http("/v1/customers", method="POST", body=b"a=2", headers=[("content-type", "text/csv")]),
        )
    }
    assert len(digests) == 6


@pytest.mark.parametrize(
    ("method", "headers", "is_whole"),
    [
        ("POST", [], False),
        ("PUT", [("content-length", "7")], False),
        ("POST", [("content-length", "0")], True),
        ("DELETE", [("content-length", "7")], False),
        ("DELETE", [], True),
        ("GET", [("content-length", "0")], True),
    ],
)
def test_a_body_that_the_proxy_kept_to_itself_is_approved_by_nobody(
    method: str, headers: list[tuple[str, str]], is_whole: bool
) -> None:
    """Where a proxy sends no bodies, one approval would be for any of them."""
    if is_whole:
        assert json.loads(http(method=method, headers=headers).arguments) == {"target": "/v1/customers/7"}
    else:
        assert size_of(lambda: http(method=method, headers=headers)) is Code.APPROVAL_SIZE


def test_a_message_of_grpc_that_the_proxy_kept_to_itself_is_approved_by_nobody() -> None:
    route, parts = Route("ledger", "grpc"), {"path": "/ledger.v1.Ledger/Pay", "method": "POST"}
    headers = [("content-type", "application/grpc")]
    assert size_of(lambda: ask(route, **parts, headers=headers, body=b"")) is Code.APPROVAL_SIZE
    assert "body" in ask(route, **parts, headers=headers, body=b"\0\0\0\0\1x").arguments


def test_a_body_that_is_decoded_in_another_way_is_another_call() -> None:
    """A zlib stream can be of letters alone: approved as a text, it is sent again as what it unpacks to."""
    text: dict[str, Any] = {"method": "PUT", "body": b"D0Up0IZUnnnnnnnnnnnnnnnnnnnUU5nnnnnn3SUUnUUU"}
    plain, packed = http(**text), http(**{**text, "headers": [("content-encoding", "deflate")]})
    assert plain.key.digest != packed.key.digest
    assert json.loads(packed.arguments)["content_encoding"] == "deflate"


def test_what_is_no_text_is_shown_as_base64() -> None:
    found = http(method="POST", body=b"\xff\x00")
    assert json.loads(found.arguments)["body_base64"] == "/wA="
    as_text = http(method="POST", body=b'{"body_base64":"/wA="}')
    assert as_text.key.digest != found.key.digest


# ---------------------------------------------------------------- what cannot be shown


def size_of(act: Any) -> Code:
    with pytest.raises(ApprovalError) as refused:
        act()
    return refused.value.code


def test_what_is_too_long_to_be_shown_cannot_be_asked_for() -> None:
    """Nobody reads a megabyte; what stands behind the first page would be approved unseen."""
    assert len(call({"t": "x" * (MAX_ARGUMENTS - 8)}).arguments) == MAX_ARGUMENTS
    assert size_of(lambda: call({"t": "x" * (MAX_ARGUMENTS - 7)})) is Code.APPROVAL_SIZE
    assert size_of(lambda: call({"t": "x" * (8 * MAX_ARGUMENTS)})) is Code.APPROVAL_SIZE
    assert size_of(lambda: http(method="POST", body=b"x" * MAX_ARGUMENTS)) is Code.APPROVAL_SIZE
    assert size_of(lambda: http(method="POST", body=b"\xff" * MAX_ARGUMENTS)) is Code.APPROVAL_SIZE


def test_a_name_that_is_too_long_to_be_shown_cannot_be_asked_for() -> None:
    request = Request.parse(check_request(headers=[*MCP_HEADERS]).SerializeToString())
    operation = Operation("mcp", "resources/read", "call", "resource", "x" * (MAX_RESOURCE + 1))
    code = size_of(lambda: Asked.of(caller(), operation, request, service="billing", revision=""))
    assert code is Code.APPROVAL_SIZE


def test_what_two_readers_would_read_differently_cannot_be_asked_for() -> None:
    body = b'{"params": {"task": {"ttl": 9007199254740993}}}'
    request = replace(Request.parse(check_request().SerializeToString()), body=body)
    operation = Operation("mcp", "tools/call", "call", "tool", "x", rpc_id=3)
    with pytest.raises(InspectionError) as refused:
        Asked.of(caller(), operation, request, service="billing", revision="")
    assert (refused.value.code, refused.value.rpc_id) == (Code.JSON_NUMBER, 3)


@pytest.mark.parametrize("body", [b"[1]", b"{}", b'{"params": 7}', b'{"params": {"inputResponses": 7}}'])
def test_a_message_without_params_has_nothing_beside_its_name(body: bytes) -> None:
    request = replace(Request.parse(check_request().SerializeToString()), body=body)
    operation = Operation("mcp", "ping", "lifecycle", "server", "billing")
    assert Asked.of(caller(), operation, request, service="billing", revision="").arguments == ""


def test_a_sentence_for_a_person_is_one_line_whatever_the_agent_wrote() -> None:
    found = summary(asked(resource="x\n\u202e\x1b[2K" + "y" * 500).key)
    assert found.isprintable()
    assert len(found) < 400


def test_a_sentence_for_a_person_says_that_a_name_goes_on() -> None:
    """What stands behind the 128th character would be approved by who believes that there is nothing."""
    told = summary(asked(resource="file:///reports/" + "x" * 200 + "/../../etc/shadow").key)
    assert "characters more]" in told


@pytest.mark.parametrize("character", ["\u3164", "\ufe0f", "\U000e0101", "\u2800", "\u034f", "\u115f"])
def test_what_nobody_sees_is_marked(character: str) -> None:
    told = summary(asked(resource=f"file:///a{character}b").key)
    assert character not in told
    assert "\N{REPLACEMENT CHARACTER}" in told


# ---------------------------------------------------------------- the word of a person, and the decision


@pytest.mark.parametrize(
    ("by", "parts"),
    [
        (LEAD.uri, [("human", LEAD.uri)]),
        ("spiffe://mesh.example/ns/ci/sa/deploy", [("workload", "spiffe://mesh.example/ns/ci/sa/deploy")]),
        ("uid:1000", []),
    ],
)
def test_an_approval_rests_on_who_gave_it(by: str, parts: list[tuple[str, str]]) -> None:
    standing = Spent("01", by, NOW).standing
    assert list(standing) == parts
    if parts and parts[0][0] == "human":
        assert standing.issued_at == int(NOW.timestamp())


def test_what_is_open_ends_with_its_time_and_then_shows_nothing() -> None:
    approval = Approval("01", KEY, "approved", NOW, later(300), "uid:1", NOW, "", ASKED.arguments)
    assert approval.at(later(299.999)) is approval
    over = approval.at(later(300))
    assert (over.state, over.arguments, over.decided_by) == ("expired", None, "uid:1")
    used = replace(approval, state="used")
    assert used.at(later(300)) is used


def row(**parts: object) -> dict[str, object]:
    at = int(NOW.timestamp() * 1000)
    whole: dict[str, object] = {
        "id": "01JD8Z7Y3M5E0QX2V9T4B6N8KA",
        "key": key_json(KEY),
        "key_sha256": KEY.digest,
        "state": "pending",
        "requested_at": at,
        "expires_at": at + 1000,
        "decided_by": None,
        "decided_at": None,
        "reason": "",
        "arguments": ASKED.arguments,
    }
    return {**whole, **parts}


def test_what_was_written_is_read_again() -> None:
    found = Approval.parse(row(), NOW)
    assert (found.key, found.arguments, found.state) == (KEY, ASKED.arguments, "pending")
    assert Approval.parse(row(), later(1)).state == "expired"


@pytest.mark.parametrize(
    ("member", "value"),
    [
        *[
            (member, b"x")
            for member in ("id", "key", "key_sha256", "state", "decided_by", "reason", "arguments")
        ],
        *[(member, "x") for member in ("id", "key", "state", "requested_at", "expires_at", "decided_at")],
        ("expires_at", 10**18),
        ("arguments", ""),
        ("key", '{"via": [], "human": {}}'),
    ],
)
def test_what_was_not_written_by_us_is_an_error(member: str, value: object) -> None:
    with pytest.raises(StoreError):
        Approval.parse(row(**{member: value}), NOW)


def test_the_page_is_below_the_issuer() -> None:
    assert page_of(ISSUER, "01") == f"{ISSUER}/approvals/01"
    assert page_of(f"{ISSUER}/deputy/", "01") == f"{ISSUER}/deputy/approvals/01"


CALL = Operation(
    "mcp", "tools/call", "call", "tool", "delete_customer", {"a": 1}, "0" * 64, 7, wire="json_rpc"
)


def decided(effect: str, approval: Spent | None) -> Allow | Deny:
    verdict = Verdict.parse({**APPROVE, "effect": effect}, "policy.data")
    return decide(verdict, caller(), CALL, service="billing", decision_id="01", now=NOW, approval=approval)


def test_an_approval_allows_what_is_to_be_approved_and_the_grant_names_it() -> None:
    allow = decided("approve", Spent("02", LEAD.uri, NOW))
    assert isinstance(allow, Allow)
    assert (allow.grant.approval, allow.grant.resource) == ("02", "delete_customer")


def test_without_an_approval_it_is_denied() -> None:
    assert decided("approve", None).code == "DPT-APPROVAL-REQUIRED"


def test_an_approval_allows_nothing_that_the_policy_denies() -> None:
    assert isinstance(decided("deny", Spent("02", LEAD.uri, NOW)), Deny)


def test_a_denial_that_waits_says_where_the_person_decides() -> None:
    prompt = Prompt("02", f"{ISSUER}/approvals/02", "agent resolver asks")
    deny = awaited(Verdict.parse(APPROVE, "policy.data"), prompt)
    assert (deny.code, deny.approval, bool(deny)) == ("DPT-APPROVAL-REQUIRED", prompt, False)
