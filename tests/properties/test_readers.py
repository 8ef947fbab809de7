"""Any request is an operation or our own refusal, for every reader, and read as the laxest parser would."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from authz.errors import InspectionError
from authz.protocols.a2a_grpc import TABLES, is_grpc_path
from authz.protocols.a2a_methods import METHODS, OLD_METHODS
from authz.protocols.a2a_rest import FORMS
from authz.protocols.inspect import inspect
from authz.protocols.llm_members import APIS
from authz.protocols.operation import Operation
from authz.protocols.protobuf import ProtobufError, read_message
from authz.protocols.route import Route
from authz.request import Request
from identity.canonical import canonical_json, sha256_hex
from tests.check_requests import check_request
from tests.mutations import mutated
from tests.reader_vectors import Case, body_of, vectors

_ROUTES = {
    "a2a": Route("planner", "a2a"),
    "llm": Route("openai", "llm"),
    "grpc": Route("ledger", "grpc"),
    "http": Route("files", "http"),
}
_CASES = [(folder, case) for folder in ("a2a", "llm", "grpc") for _, case in vectors(folder)]
_HEADERS = {
    "a2a": [["content-type", "application/json"], ["a2a-version", "1.0"]],
    "llm": [["content-type", "application/json"]],
    "grpc": [["content-type", "application/grpc"]],
    "http": [["content-type", "application/json"]],
}
_PATHS = {
    "a2a": ["/", *(f"/{form.template}".replace("{id}", "t").replace("{taskId}", "t") for form in FORMS)],
    "llm": [*APIS, "/v1/models"],
    "grpc": ["/a.B/C"],
    "http": ["/x"],
}
_members = st.sampled_from(
    ["model", "messages", "input", "tools", "type", "name", "function", "id", "tenant", "message", "Model"]
) | st.text(max_size=6)
_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["function", "mcp", "gpt-5", "acme", "planner"]),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(_members, children, max_size=4),
    max_leaves=12,
)
_messages = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "id": st.integers(0, 9), "method": st.sampled_from([*METHODS, *OLD_METHODS])},
    optional={"params": st.dictionaries(_members, _values, max_size=5)},
)
_calls = st.fixed_dictionaries(
    {"model": st.just("gpt-5") | _values},
    optional=dict.fromkeys(("messages", "input", "tools", "max_tokens", "store", "functions"), _values),
)


def read(folder: str, body: bytes, **parts: Any) -> Operation | None:
    """Inspect by the route of a folder, and check what holds for every operation."""
    request = Request.parse(check_request(body, **parts).SerializeToString())
    try:
        operation = inspect(request, _ROUTES[folder])
    except InspectionError:
        return None
    assert operation.protocol == folder
    assert operation.resource_name
    assert (operation.arguments_sha256 is None) == (operation.canonical_arguments is None)
    assert operation.phase == "call" or operation.arguments is None
    return operation


def check_as_json_loads_reads_it(operation: Operation, path: str, body: bytes) -> None:
    """Compare with the laxest reader that we know."""
    if operation.protocol == "llm" and operation.phase == "call":
        document = json.loads(body)
        assert document["model"] == operation.resource_name
        assert operation.arguments_sha256 == sha256_hex(canonical_json(document))
    elif operation.protocol == "a2a" and operation.wire == "json_rpc":
        document = json.loads(body)
        known = METHODS if document["method"] in METHODS else OLD_METHODS
        assert known[document["method"]].name == operation.method
        assert document.get("params", {}) == operation.arguments
        assert document["id"] == operation.rpc_id
        assert operation.resource_name == (operation.arguments or {}).get("tenant", "") or "planner"
    elif operation.protocol == "a2a" and body and not is_grpc_path(path):
        arguments = operation.arguments or {}
        assert all(value in ("", arguments.get(name)) for name, value in json.loads(body).items())


@given(st.sampled_from(sorted(_ROUTES)), st.binary(max_size=300), st.data())
def test_any_body_is_an_operation_or_refused(folder: str, body: bytes, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(_PATHS[folder]))
    read(folder, body, path=path, headers=_HEADERS[folder])


@given(_messages)
def test_any_a2a_message_is_an_operation_or_refused(message: dict[str, Any]) -> None:
    body = json.dumps(message).encode()
    for version in ("1.0", "0.3"):
        headers = [["content-type", "application/json"], ["a2a-version", version]]
        operation = read("a2a", body, path="/", headers=headers)
        if operation is not None:
            check_as_json_loads_reads_it(operation, "/", body)


@given(st.sampled_from([*APIS]), _calls)
def test_any_call_of_a_model_is_an_operation_or_refused(path: str, call: dict[str, Any]) -> None:
    body = json.dumps(call).encode()
    operation = read("llm", body, path=path, headers=_HEADERS["llm"])
    if operation is not None:
        check_as_json_loads_reads_it(operation, path, body)


@given(st.data())
def test_any_change_of_a_known_request_is_refused_or_read_as_json_loads_does(data: st.DataObject) -> None:
    folder, case = data.draw(st.sampled_from(_CASES))
    body = data.draw(mutated(body_of(case)))
    path = case["path"]
    operation = read(folder, body, path=path, headers=case["headers"], method=case.get("method", "POST"))
    if operation is not None:
        check_as_json_loads_reads_it(operation, path, body)


@given(st.data())
def test_any_path_is_one_operation_or_refused(data: st.DataObject) -> None:
    """What is accepted has one spelling: no path with anything encoded, doubled or dotted gets through."""
    folder, case = data.draw(st.sampled_from(_CASES))
    path = "/" + data.draw(mutated(case["path"].encode())).decode("ascii", "ignore").lstrip("/")
    if not all("!" <= char <= "~" and char != "#" for char in path):
        return
    operation = read(
        folder, body_of(case), path=path, headers=case["headers"], method=case.get("method", "POST")
    )
    if operation is not None:
        assert not any(trick in path.partition("?")[0] for trick in ("%", "//", "/./", "/../", ";", "\\"))


_GRPC: list[Case] = [case for stem, case in vectors("a2a") if stem == "grpc"]


@given(st.sampled_from(sorted(TABLES)), st.binary(max_size=200) | st.sampled_from(_GRPC).map(body_of))
def test_any_bytes_are_protocol_buffers_or_refused(name: str, data: bytes) -> None:
    try:
        found = read_message(data.removeprefix(data[:5]), TABLES[name])
    except ProtobufError:
        return
    canonical_json(found)
