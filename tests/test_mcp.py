"""MCP: every row of the known bypasses, every method, both eras, and what real clients send.

The vectors say what each message is read as (tests/reader_vectors.py).
"""

import json
from pathlib import Path
from typing import Any

import pytest

from authz.approvals.prompt import INPUT
from authz.codes import Code
from authz.errors import InspectionError
from authz.form import Form
from authz.protocols.inspect import inspect
from authz.protocols.mcp_era import KNOWN_VERSIONS, decode_header
from authz.protocols.mcp_methods import NOTIFICATIONS, REQUESTS
from authz.protocols.mcp_params import _TYPES
from authz.protocols.members import fold
from authz.protocols.operation import Operation
from authz.protocols.route import Route
from identity.canonical import arguments_sha256, canonical_arguments
from tests import reader_vectors
from tests.check_requests import FILES, MCP_HEADERS, TICKETS, request
from tests.reader_vectors import Case, check_case, params_of

SPECIFICATION = Path(__file__).resolve().parents[2] / "shared" / "data" / "mcp"


def vectors() -> list[tuple[str, Case]]:
    """Return every case with the name of its file."""
    return reader_vectors.vectors("mcp")


def tool_call(name: str = "echo", **params: Any) -> bytes:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, **params}}
    return json.dumps(message).encode()


def refusal(body: bytes, route: Route = TICKETS, **parts: Any) -> InspectionError:
    with pytest.raises(InspectionError) as refused:
        inspect(request(body, **parts), route)
    return refused.value


@pytest.mark.parametrize("case", params_of("mcp"))
def test_message_is_read_as_the_vector_says(case: Case) -> None:
    check_case(case, TICKETS, MCP_HEADERS)


@pytest.mark.parametrize(
    "trick",
    [
        "routing-header-mismatch",
        "param-headers",
        "base64-header",
        "duplicate-keys",
        "escaped-keys",
        "lookalike-keys",
        "batch",
        "byte-order-mark",
        "utf-16-and-32",
        "content-encoding",
        "media-type",
        "not-a-number",
        "name-after-filter-limit",
        "filter-disagreement",
        "truncated-body",
        "chunked-body",
        "ids-and-numbers",
        "no-id",
        "ambiguous-path",
        "stream-and-session",
        "client-response",
    ],
)
def test_each_known_bypass_has_its_vectors(trick: str) -> None:
    """One file for each row of the table of known bypasses; without it a row would be forgotten quietly."""
    assert sum(stem == trick for stem, _ in vectors()) > 1


def test_refusals_name_codes_of_a_malformed_or_unknown_request() -> None:
    codes = {code.value: code for code in Code}
    refusals = {case["expect"] for _, case in vectors() if case["expect"].startswith("DPT-")}
    assert all(codes[text].form in {Form.MALFORMED, Form.REFUSED} for text in refusals)


def test_real_clients_are_never_refused() -> None:
    real = [case for stem, case in vectors() if stem.startswith("real-")]
    assert len(real) > 40
    assert not [case for case in real if case["expect"].startswith("DPT-")]


def test_refuses_json_that_nests_3000_deep() -> None:
    nested = b'{"text":' + b"[" * 3000 + b"]" * 3000 + b"}"
    assert refusal(tool_call().replace(b'"echo"', b'"echo","arguments":' + nested)).code == Code.JSON_DEPTH


def test_refuses_more_than_4096_keys() -> None:
    arguments = {f"key{number}": number for number in range(4097)}
    assert refusal(tool_call(arguments=arguments)).code == Code.JSON_KEYS


def test_arguments_and_their_hash_are_what_policy_and_token_see() -> None:
    arguments = {"ticket": "T-1", "count": 3, "deep": [{"a": None, "b": 1.5}]}
    operation = inspect(request(tool_call(arguments=arguments)), TICKETS)
    assert operation.arguments == arguments
    assert operation.arguments_sha256 == arguments_sha256(arguments)
    assert operation.canonical_arguments == canonical_arguments(arguments)
    assert operation.is_json_rpc


def test_absent_and_empty_arguments_hash_alike() -> None:
    absent = inspect(request(tool_call()), TICKETS)
    empty = inspect(request(tool_call(arguments={})), TICKETS)
    assert absent.arguments is None
    assert absent.arguments_sha256 == empty.arguments_sha256 == arguments_sha256(None)


def test_what_is_no_call_with_arguments_has_no_hash() -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a://b"}}'
    operation = inspect(request(body), TICKETS)
    assert (operation.arguments, operation.arguments_sha256) == (None, None)


def test_prefix_of_the_route_is_taken_off_the_tool() -> None:
    route = Route("tickets", "mcp", "tickets__")
    headers = (*MCP_HEADERS, ("mcp-name", "tickets__echo"))
    assert inspect(request(tool_call("tickets__echo"), headers=headers), route).resource_name == "echo"


@pytest.mark.parametrize(
    "name", ["echo", "tickets_echo", "Tickets__echo", "tickets__", "billing__tickets__echo"]
)
def test_tool_without_the_prefix_belongs_to_another_server(name: str) -> None:
    refused = refusal(tool_call(name), Route("tickets", "mcp", "tickets__"))
    assert (refused.code, refused.rpc_id) == (Code.TOOL_UNKNOWN, 1)


def test_representation_shows_no_arguments() -> None:
    operation = inspect(request(tool_call(arguments={"password": "hunter2"})), TICKETS)
    assert "hunter2" not in repr(operation)


def test_refusal_quotes_no_body_and_no_header_value() -> None:
    secret = "hunter2"  # not a name of anything
    for parts in (
        {"headers": (("content-type", secret),)},
        {"headers": (*MCP_HEADERS, ("content-encoding", secret))},
        {"headers": (*MCP_HEADERS, ("mcp-name", secret))},
        {"headers": (*MCP_HEADERS, ("mcp-protocol-version", secret))},
    ):
        assert secret not in str(refusal(tool_call(arguments={"a": secret}), **parts))
    assert secret not in str(refusal(tool_call(arguments={"a": secret}) + b"x"))


def test_refusal_quotes_control_characters_away() -> None:
    refused = refusal(b'{"jsonrpc":"2.0","id":1,"method":"a\\n\\u001b[31mb"}')
    assert refused.code == Code.MCP_METHOD_UNKNOWN
    assert refused.detail.isprintable()


def test_every_member_of_every_method_has_a_type() -> None:
    for method in [*REQUESTS.values(), *NOTIFICATIONS.values()]:
        assert method.params.members.names <= _TYPES.keys()
        assert method.params.required <= method.params.members.names


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("Name", "name"),
        ("param\u017f", "params"),
        ("name\x00", "name"),
        ("na\u200bme", "name"),
        ("\ufeffname", "name"),
        ("\uff2eAME", "name"),
        ("name\u00a0", "name"),
        ("tas\u212a", "task"),
    ],
)
def test_lookalikes_fold_to_the_name(name: str, folded: str) -> None:
    assert fold(name) == folded


@pytest.mark.parametrize("where", ["arguments", "_meta"])
def test_refuses_names_that_cost_much_to_fold(where: str) -> None:
    members = {"\ufdfa" * 1024 + str(number): 1 for number in range(5)}
    params: dict[str, Any] = {where: members}
    assert refusal(tool_call(**params)).code == Code.MCP_PARAMS


@pytest.mark.parametrize("value", [1, 1.5, [], "a"])
def test_refuses_more_than_16384_values(value: object) -> None:
    inspect(request(tool_call(arguments={"a": [value] * 16_000})), TICKETS)
    assert refusal(tool_call(arguments={"a": [[value] * 8192, [value] * 8192]})).code == Code.JSON_KEYS


def test_refuses_more_than_16384_values_with_few_commas() -> None:
    nested = b"[" * 50 + b"]" * 50
    body = tool_call().replace(b'"echo"', b'"echo","arguments":{"a":[' + b",".join([nested] * 400) + b"]}")
    assert refusal(body).code == Code.JSON_KEYS


def test_commas_in_a_text_are_no_values() -> None:
    assert inspect(request(tool_call(arguments={"csv": "," * 100_000})), TICKETS).arguments_sha256


def test_sentinel_is_decoded_or_equals_nothing() -> None:
    assert decode_header("echo") == "echo"
    assert decode_header("=?base64?w6k=?=") == "é"
    assert decode_header("=?base64??=") == ""
    assert decode_header("=?base64?w6k?=") is None
    assert decode_header("=?base64?w6l=?=") is None


def _specification(name: str) -> Path:
    path = SPECIFICATION / name
    if not path.exists():
        pytest.skip(f"the MCP schemas are not beside the project: no {path}")
    return path


@pytest.mark.parametrize("version", sorted(KNOWN_VERSIONS - {"2024-11-05"}))
def test_knows_each_method_of_the_schema_with_each_member(version: str) -> None:
    schema = json.loads(_specification(f"schema-{version}.json").read_text("utf-8"))
    definitions = schema.get("$defs") or schema["definitions"]
    for union, known in (("ClientRequest", REQUESTS), ("ClientNotification", NOTIFICATIONS)):
        members = definitions[union].get("anyOf", [definitions[union]])
        for message in (_resolve(definitions, member) for member in members):
            method = message["properties"]["method"]["const"]
            params = _resolve(definitions, message["properties"].get("params", {}))
            names = {name for part in _parts(definitions, params) for name in part.get("properties", {})}
            required = {name for part in _parts(definitions, params) for name in part.get("required", ())}
            assert names <= known[method].params.members.names, method
            assert known[method].params.required <= required, method


def _resolve(definitions: Case, node: Case) -> Case:
    return definitions[node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def _parts(definitions: Case, node: Case) -> list[Case]:
    return [node, *(_resolve(definitions, part) for part in node.get("allOf", ()))]


def test_reads_every_client_message_among_the_examples_of_the_specification() -> None:
    read = 0
    for path in sorted(_specification("examples-2026-07-28").glob("*/*.json")):
        message = json.loads(path.read_text("utf-8"))
        if not isinstance(message, dict) or message.get("method") not in {**REQUESTS, **NOTIFICATIONS}:
            continue
        params = message["params"]
        name = params.get("name", params.get("uri"))
        headers = [*MCP_HEADERS, ("mcp-protocol-version", "2026-07-28"), ("mcp-method", message["method"])]
        mirrored = message["method"] in {"tools/call", "resources/read", "prompts/get"}
        body = json.dumps(message).encode()
        operation = inspect(
            request(body, headers=[*headers, ("mcp-name", name)] if mirrored else headers), TICKETS
        )
        assert operation.method == message["method"]
        assert operation.rpc_id == message.get("id")
        read += 1
    assert read > 10


@pytest.mark.parametrize("path", ["/customers/42", "/metrics", "/", "/mcp/customers/42", "/mcpx", "/x?/mcp"])
@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_no_endpoint_beside_mcp_is_reached_as_a_stream_a_session_or_a_ping(method: str, path: str) -> None:
    """On a server with a REST API too, DELETE /customers/42 is no end of a session."""
    body = b'{"jsonrpc":"2.0","id":1,"method":"ping"}' if method == "POST" else b""
    assert refusal(body, method=method, path=path).code == Code.SERVICE_UNKNOWN


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/mcp?a=b", "/tickets/mcp", "/tickets/v1/mcp/"])
def test_mcp_is_where_the_path_ends_in_mcp(path: str) -> None:
    assert inspect(request(tool_call(), path=path), TICKETS).resource_name == "echo"


def test_paths_of_the_route_are_the_only_ones() -> None:
    route = Route("tickets", "mcp", paths=frozenset({"/sse", "/messages"}))
    assert inspect(request(tool_call(), path="/messages/?session_id=x"), route).resource_name == "echo"
    for path in ("/mcp", "/x/messages", "/messages/x", "/"):
        assert refusal(tool_call(), route, path=path).code == Code.SERVICE_UNKNOWN


@pytest.mark.parametrize("route", [TICKETS, FILES], ids=["mcp", "http"])
@pytest.mark.parametrize(
    "name",
    [
        "upgrade",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-url",
        "x-rewrite-url",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_no_header_turns_the_request_into_another(method: str, name: str, route: Route) -> None:
    """A GET that the server runs as DELETE, and a stream that turns into a WebSocket nobody looks into."""
    body = tool_call() if method == "POST" else b""
    headers = (*MCP_HEADERS, (name, "websocket"))
    refused = refusal(body, route, method=method, headers=headers)
    assert (refused.code, name in refused.detail) == (Code.REQUEST_MALFORMED, True)


@pytest.mark.parametrize(
    "name",
    [
        *("mcp_session_id", "mcp-session_id", "mcp_param_path", "content_type", "content_encoding"),
        *("proxy_authorization", "x_mcp_authorized", "txn_token", "x_deputy_decision"),
    ],
)
def test_a_header_with_underscores_is_not_taken_for_ours(name: str) -> None:
    """WSGI and CGI call both by one name: the session of another, or what only we may say."""
    refused = refusal(tool_call(), TICKETS, headers=(*MCP_HEADERS, (name, "a")))
    assert (refused.code, name in refused.detail) == (Code.REQUEST_MALFORMED, True)


def test_other_names_may_have_underscores() -> None:
    headers = (*MCP_HEADERS, ("x_request_id", "a"))
    assert inspect(request(tool_call(), headers=headers), TICKETS).resource_name == "echo"


def _modern(capabilities: object, **params: Any) -> Operation:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    }
    headers = (("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "echo"))
    return inspect(request(tool_call(_meta=meta, **params), headers=(*MCP_HEADERS, *headers)), TICKETS)


@pytest.mark.parametrize(
    ("capabilities", "shows"),
    [
        ({"elicitation": {"url": {}}}, True),
        ({"elicitation": {"form": {}, "url": {}}}, True),
        ({}, False),
        ({"elicitation": {}}, False),
        ({"elicitation": {"form": {}}}, False),
        ({"elicitation": {"url": True}}, False),
        ({"elicitation": {"url": None}}, False),
        ({"elicitation": []}, False),
        ({"Elicitation": {"url": {}}}, False),
    ],
)
def test_url_is_elicited_only_where_the_client_declares_it(capabilities: object, shows: bool) -> None:
    assert _modern(capabilities).elicits_urls is shows


@pytest.mark.parametrize(
    ("answer", "shows"), [("accept", True), ("decline", False), ("cancel", False), ("refuse", True)]
)
def test_a_person_who_did_not_want_to_look_is_not_asked_again(answer: str, shows: bool) -> None:
    """`accept` proves nothing, so whoever says it is asked again; who declines would be asked without end."""
    answers = {INPUT: {"action": answer}}
    assert _modern({"elicitation": {"url": {}}}, inputResponses=answers).elicits_urls is shows


def test_no_client_of_the_legacy_era_is_asked_to_show_a_url() -> None:
    """Its capabilities stood in a handshake that we did not see; a `_meta` that says so proves nothing."""
    meta: dict[str, object] = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"url": {}}}}
    assert not inspect(request(tool_call(_meta=meta)), TICKETS).elicits_urls
