"""A2A: every method in every binding, its older names, and what could be read as two things."""

import json
from typing import Any

import pytest

from authz.codes import Code
from authz.errors import InspectionError
from authz.form import Form
from authz.policy.grants_service import A2A_METHODS
from authz.protocols.a2a_grpc import TABLES
from authz.protocols.a2a_methods import METHODS, OLD_METHODS
from authz.protocols.a2a_rest import FORMS
from authz.protocols.inspect import inspect
from authz.protocols.operation import Operation
from authz.protocols.route import Route
from identity.canonical import arguments_sha256, canonical_arguments
from tests import reader_vectors
from tests.check_requests import request
from tests.reader_vectors import Case, check_case, params_of, summary, vectors

PLANNER = Route("planner", "a2a")
JSON = ("content-type", "application/json")
HEADERS = (JSON, ("a2a-version", "1.0"))
MESSAGE = {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "hunter2"}]}


def body_of(method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": "a", "method": method, "params": params}).encode()


def read(body: bytes, route: Route = PLANNER, path: str = "/", **parts: Any) -> Operation:
    return inspect(request(body, path=path, **{"headers": HEADERS, **parts}), route)


def refusal(body: bytes, route: Route = PLANNER, path: str = "/", **parts: Any) -> InspectionError:
    with pytest.raises(InspectionError) as refused:
        read(body, route, path, **parts)
    return refused.value


@pytest.mark.parametrize("case", params_of("a2a"))
def test_message_is_read_as_the_vector_says(case: Case) -> None:
    check_case(case, PLANNER, HEADERS)


def test_refusals_name_codes_of_a_malformed_or_unknown_request() -> None:
    codes = {code.value: code for code in Code}
    refusals = {case["expect"] for _, case in vectors("a2a") if case["expect"].startswith("DPT-")}
    assert all(codes[text].form in {Form.MALFORMED, Form.REFUSED} for text in refusals)


def test_every_method_is_read_in_every_binding_that_has_it() -> None:
    """A method without a vector would be one that nobody tried."""
    read_as: dict[str, set[str]] = {stem: set() for stem, _ in vectors("a2a")}
    for stem, case in vectors("a2a"):
        read_as[stem].add(case["expect"].partition(" ")[2].partition(" ")[0])
    assert set(METHODS) <= read_as["json-rpc"]
    assert {method.name for method in OLD_METHODS.values()} <= read_as["older-names"]
    assert {form.name for form in FORMS} <= read_as["rest"] | read_as["push-configurations"]
    assert set(METHODS) == set(TABLES)
    assert set(METHODS) <= read_as["grpc"]


def test_the_grants_know_the_same_methods() -> None:
    """A method that only one of them knew could be granted and never called, or called and never granted."""
    assert set(METHODS) == set(A2A_METHODS)


def test_arguments_and_their_hash_are_what_policy_and_token_see() -> None:
    operation = read(body_of("SendMessage", message=MESSAGE))
    assert operation.arguments == {"message": MESSAGE}
    assert operation.canonical_arguments == canonical_arguments({"message": MESSAGE})
    assert operation.arguments_sha256 == arguments_sha256({"message": MESSAGE})
    assert (operation.protocol, operation.wire, operation.rpc_id) == ("a2a", "json_rpc", "a")


def test_one_operation_is_one_operation_in_json_rpc_and_http() -> None:
    over_rpc = read(body_of("GetTask", tenant="acme", id="t1", historyLength=3))
    over_http = read(b"", path="/acme/tasks/t1?historyLength=3", method="GET")
    assert summary(over_rpc) == summary(over_http)
    assert over_rpc.arguments_sha256 == over_http.arguments_sha256
    assert (over_rpc.wire, over_http.wire) == ("json_rpc", "http")


def test_one_operation_is_one_operation_in_json_rpc_and_grpc() -> None:
    case = next(case for stem, case in vectors("a2a") if stem == "grpc")
    over_grpc = read(reader_vectors.body_of(case), path=case["path"], headers=case["headers"])
    over_rpc = read(body_of("SendMessage", **case["arguments"]))
    assert summary(over_rpc) == summary(over_grpc)
    assert over_rpc.arguments_sha256 == over_grpc.arguments_sha256
    assert over_grpc.wire == "grpc"


def grpc_refusal(message: bytes, name: str = "CancelTask") -> InspectionError:
    body = b"\0" + len(message).to_bytes(4) + message
    headers = (("content-type", "application/grpc"), ("a2a-version", "1.0"))
    return refusal(body, path=f"/lf.a2a.v1.A2AService/{name}", headers=headers)


def test_refuses_protocol_buffers_that_nest_3000_deep() -> None:
    value = b"\x08\x00"
    for _ in range(3000):
        inner = b"\x0a" + _varint(len(value)) + value
        value = b"\x32" + _varint(len(inner)) + inner
    entry = b"\x0a\x01k\x12" + _varint(len(value)) + value
    metadata = b"\x0a" + _varint(len(entry)) + entry
    message = b"\x12\x02t1\x1a" + _varint(len(metadata)) + metadata
    assert "nested too deep" in grpc_refusal(message).detail


def test_refuses_more_than_4096_fields() -> None:
    message = b"\x3a\x00" * 4096
    sent = b"\x12" + _varint(len(message)) + message
    assert "too many values" in grpc_refusal(sent, "SendMessage").detail


def _varint(number: int) -> bytes:
    low = number & 0x7F
    return bytes([low]) if number < 0x80 else bytes([low | 0x80]) + _varint(number >> 7)


def test_representation_shows_no_message() -> None:
    assert "hunter2" not in repr(read(body_of("SendMessage", message=MESSAGE)))


def test_refusal_quotes_no_params_and_no_header_value() -> None:
    secret = "hunter2"  # not a name of anything
    for body, parts in (
        (body_of("SendMessage", message={**MESSAGE, "role": secret}), {}),
        (body_of("GetTask", id=f"{secret}/"), {}),
        (body_of("GetTask", id="t1"), {"headers": (JSON, ("a2a-version", secret))}),
        (body_of("GetTask", id="t1"), {"headers": (*HEADERS, ("a2a-extensions", secret))}),
        (body_of("GetTask", id="t1"), {"path": f"/?token={secret}"}),
    ):
        refused = refusal(body, **parts)
        assert secret not in str(refused)


def test_paths_of_the_route_are_the_only_ones() -> None:
    route = Route("planner", "a2a", paths=frozenset({"/agents/planner"}))
    card = "/agents/planner/.well-known/agent-card.json"
    assert read(body_of("GetTask", id="t1"), route, "/agents/planner").method == "GetTask"
    assert read(body_of("GetTask", id="t1"), route, "/agents/planner/").method == "GetTask"
    assert read(b"", route, "/agents/planner/tasks/t1", method="GET").resource_name == "planner"
    assert read(b"", route, "/agents/planner/acme/tasks/t1", method="GET").resource_name == "acme"
    assert read(b"", route, card, method="GET").phase == "lifecycle"
    for path in ("/", "/agents", "/agents/planner2", "/agents/planner/x", "/.well-known/agent-card.json"):
        assert refusal(body_of("GetTask", id="t1"), route, path).code == Code.A2A_METHOD_UNKNOWN
    for path in ("/tasks/t1", "/.well-known/agent-card.json", "/agents/other/tasks/t1"):
        assert refusal(b"", route, path, method="GET").code == Code.A2A_METHOD_UNKNOWN


def test_grpc_at_the_root_is_another_agent_where_this_one_is_not_there() -> None:
    case = next(case for stem, case in vectors("a2a") if stem == "grpc")
    asked = {"path": case["path"], "headers": case["headers"]}
    body = reader_vectors.body_of(case)
    elsewhere = Route("planner", "a2a", paths=frozenset({"/agents/planner"}))
    both = Route("planner", "a2a", paths=frozenset({"", "/agents/planner"}))
    assert refusal(body, elsewhere, **asked).code == Code.A2A_METHOD_UNKNOWN
    assert read(body, both, **asked).method == "SendMessage"


def test_the_longest_path_of_the_route_counts() -> None:
    """Of `/a` and `/a/b`, a message to `/a/b/…` is for the second, not for the first one's tenant `b`."""
    route = Route("planner", "a2a", paths=frozenset({"/a", "/a/b"}))
    assert read(b"", route, "/a/b/tasks/t1", method="GET").resource_name == "planner"
    assert read(b"", route, "/a/c/tasks/t1", method="GET").resource_name == "c"
    assert read(body_of("GetTask", id="t1"), route, "/a/b").resource_name == "planner"


@pytest.mark.parametrize("path", ["/", "/acme", "/v1", "/tasks/t1", "/rpc", "/.well-known/x"])
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def test_no_other_http_method_means_anything(method: str, path: str) -> None:
    assert refusal(b"", path=path, method=method).code == Code.A2A_METHOD_UNKNOWN


def test_refuses_more_than_4096_members() -> None:
    metadata = {f"key{number}": number for number in range(4097)}
    assert refusal(body_of("CancelTask", id="t1", metadata=metadata)).code == Code.JSON_KEYS


def test_refuses_json_that_nests_3000_deep() -> None:
    nested = b"[" * 3000 + b"]" * 3000
    body = body_of("CancelTask", id="t1", metadata={"a": 1}).replace(b"1}}", nested + b"}}")
    assert refusal(body).code == Code.JSON_DEPTH


def test_refuses_names_that_cost_much_to_fold() -> None:
    members = {"\ufdfa" * 1024 + str(number): 1 for number in range(5)}
    assert refusal(body_of("GetTask", id="t1", **members)).code == Code.A2A_PARAMS
