"""Any body is an operation or our own refusal, and what is accepted is read alike by everybody."""

import base64
import json
import random
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.errors import InspectionError, RequestError
from authz.protocols.inspect import inspect
from authz.protocols.mcp_methods import NOTIFICATIONS, REQUESTS
from authz.protocols.mcp_params import _TYPES
from authz.protocols.operation import Operation
from authz.request import Request
from identity.canonical import canonical_json, sha256_hex
from tests.check_requests import FILES, MCP_HEADERS, TICKETS, check_request
from tests.mutations import mutated
from tests.reader_vectors import body_of, vectors
from tests.readers import node_binary

_SMALL = [(stem, case) for stem, case in vectors("mcp") if "pad" not in case]
_REAL = [case for stem, case in _SMALL if stem.startswith("real-")]

_names = st.sampled_from([*_TYPES, "id", "method", "params", "jsonrpc", "Name", "name\0"]) | st.text(
    max_size=8
)
_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["echo", "ref/prompt", "2026-07-28"]),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(_names, children, max_size=4),
    max_leaves=12,
)
_messages = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0") | _values},
    optional={
        "id": st.integers(0, 9) | _values,
        "method": st.sampled_from([*REQUESTS, *NOTIFICATIONS]) | _values,
        "params": st.dictionaries(st.sampled_from([*_TYPES]), _values, max_size=5) | _values,
        "result": _values,
        "error": _values,
        "extra": _values,
    },
)


def read(body: bytes, **parts: Any) -> Operation | None:
    """Inspect as MCP, and check what holds for every operation."""
    request = Request.parse(check_request(body, **parts).SerializeToString())
    try:
        operation = inspect(request, TICKETS)
    except InspectionError as error:
        assert error.rpc_id is None or type(error.rpc_id) in {int, str}
        return None
    assert operation.protocol == "mcp"
    assert (operation.phase == "call") == (operation.resource_type != "server")
    assert operation.resource_name
    return operation


def check_as_json_loads_reads_it(body: bytes, operation: Operation) -> None:
    """Compare with the laxest reader that we know."""
    message = json.loads(body)
    assert message.get("method", operation.method) == operation.method
    params = message.get("params", {})
    if operation.resource_type == "tool":
        assert params["name"] == operation.resource_name
    if operation.arguments_sha256 is not None:
        assert params.get("arguments") == operation.arguments
        assert operation.arguments_sha256 == sha256_hex(canonical_json(params.get("arguments", {})))
    if operation.rpc_id is not None:
        assert message["id"] == operation.rpc_id


@given(st.binary(max_size=300))
def test_any_body_is_an_operation_or_refused(body: bytes) -> None:
    read(body)


@given(_messages)
def test_any_message_is_an_operation_or_refused_and_read_as_json_loads_does(message: dict[str, Any]) -> None:
    body = json.dumps(message).encode()
    operation = read(body)
    if operation is not None:
        check_as_json_loads_reads_it(body, operation)


@given(st.data())
def test_any_change_of_a_known_body_is_refused_or_read_as_json_loads_does(data: st.DataObject) -> None:
    _, case = data.draw(st.sampled_from(_SMALL))
    body = data.draw(mutated(body_of(case)))
    operation = read(body, method=case.get("method", "POST"), headers=_headers(case))
    if operation is not None and operation.method not in {"stream_open", "session_end"}:
        check_as_json_loads_reads_it(body, operation)


@given(st.data())
def test_any_change_of_a_real_check_request_is_an_operation_or_refused(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(_REAL))
    message = check_request(
        body_of(case),
        method=case.get("method", "POST"),
        headers=_headers(case),
        metadata=case.get("metadata"),
    )
    changed = data.draw(mutated(message.SerializeToString()))
    try:
        request = Request.parse(changed)
    except RequestError:
        return
    for route in (TICKETS, FILES):
        try:
            operation = inspect(request, route)
        except InspectionError:
            continue
        assert operation.protocol == route.protocol
        if operation.method == "tools/call":
            check_as_json_loads_reads_it(request.body, operation)


def _headers(case: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in case.get("headers", MCP_HEADERS)]


_NODE = r"""
const { createHash } = require("node:crypto");
const lines = require("node:fs").readFileSync(0, "latin1").trim().split("\n");
const canonical = (value) => {
  if (Array.isArray(value)) return "[" + value.map(canonical).join(",") + "]";
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const names = Object.keys(value).sort();
  return "{" + names.map((name) => JSON.stringify(name) + ":" + canonical(value[name])).join(",") + "}";
};
for (const line of lines) {
  const message = JSON.parse(new TextDecoder().decode(Buffer.from(line, "base64")));
  const params = message.params ?? {};
  const hash = createHash("sha256").update(canonical(params.arguments ?? {}), "utf8").digest("hex");
  console.log(JSON.stringify([message.method ?? null, message.id ?? null, params.name ?? null, hash]));
}
"""


@pytest.mark.full
def test_node_reads_every_accepted_body_as_we_do() -> None:
    accepted = list(_accepted_bodies(random.Random(20260728), 20_000))
    assert sum(operation.arguments is not None for _, operation in accepted) > 500
    lines = b"\n".join(base64.b64encode(body) for body, _ in accepted)
    answer = subprocess.run(
        [node_binary(), "-e", _NODE], input=lines, capture_output=True, check=True, timeout=60
    )
    for line, (body, operation) in zip(answer.stdout.splitlines(), accepted, strict=True):
        method, rpc_id, name, digest = json.loads(line)
        assert method == (None if operation.method == "client_response" else operation.method), body
        assert operation.rpc_id in {None, rpc_id}, body
        if operation.resource_type == "tool":
            assert (name, digest) == (operation.resource_name, operation.arguments_sha256), body


def _accepted_bodies(chance: random.Random, tries: int) -> Any:
    """Change bodies of the vectors, and keep those that are still accepted."""
    posts = [(body_of(case), _headers(case)) for _, case in _SMALL if case.get("method", "POST") == "POST"]
    values = [
        b"1e21",
        b"-0",
        b"0.1",
        b"1E-7",
        b'"\\u00e9\\ud83d\\ude00"',
        b"[]",
        b"{}",
        b"null",
        b"true",
        b"-1.50",
        b"5e-324",
    ]
    members = [
        b'"\\u0061":',
        b'"__proto__":',
        b'"\xc3\xa9":',
        b'"\xf0\x9f\x98\x80":',
        b'"\xee\x80\x80":',
        b'"10":',
        b'"9":',
    ]
    for _ in range(tries):
        body, headers = chance.choice(posts)
        at = body.find(b'"arguments":{')
        if at >= 0 and chance.random() < 0.7:
            added = b",".join(
                member + chance.choice(values) for member in chance.sample(members, chance.randint(1, 5))
            )
            rest = body[at + 13 :]
            body = body[: at + 13] + added + (b"" if rest.startswith(b"}") else b",") + rest
        else:
            cut = chance.randrange(len(body) + 1)
            body = body[:cut] + bytes([chance.randrange(256)]) + body[cut + chance.randrange(2) :]
        operation = read(body, headers=headers)
        if operation is not None:
            yield body, operation
