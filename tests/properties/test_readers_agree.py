"""A body that we accept is read alike by Python, Node and Go; where they would differ, it is refused.

- Each accepted body goes to `json.loads`, to a Node and to a Go process: all of it must be what we read.
- Go reads it a second time into structs, as servers do: each field must be what we read under that very name.
- The bodies are real messages of every protocol with up to four changes: spellings of texts, numbers of every
  size, members in other cases and twice, white space, encodings, or any bytes.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.errors import InspectionError, RequestError
from authz.protocols.inspect import inspect
from authz.protocols.operation import Operation
from authz.protocols.route import Route
from tests.check_requests import MCP_HEADERS, request
from tests.mutations import mutated
from tests.reader_vectors import body_of, vectors
from tests.readers import Reader, dump, go_reader, node_binary

_JSON: Final = (("content-type", "application/json"),)
ROUTES: Final = {name: Route("tickets", name) for name in ("mcp", "a2a", "llm")}
LLM: Final = {
    "/v1/chat/completions": {
        "model": "gpt-5",
        "messages": [{"role": "user", "content": "hello"}],
        "max_completion_tokens": 100,
        "stream": True,
        "n": 1,
        "tools": [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}],
    },
    "/v1/responses": {
        "model": "gpt-5",
        "input": [{"type": "message", "role": "user", "content": "hello"}],
        "max_output_tokens": 100,
        "tools": [
            {"type": "web_search"},
            {"type": "function", "name": "look_up", "parameters": {}},
            {"type": "mcp", "server_label": "x", "server_url": "https://tools.example/mcp"},
        ],
    },
    "/v1/messages": {
        "model": "claude-sonnet-5",
        "max_tokens": 2000,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "messages": [{"role": "user", "content": "hello"}],
        "tools": [{"name": "look_up", "input_schema": {"type": "object"}}],
        "mcp_servers": [{"type": "url", "url": "https://tools.example/mcp", "name": "x"}],
    },
}

Message = tuple[str, bytes, dict[str, Any]]


def _real() -> Iterator[Message]:
    """Every message of the vectors that has a body, and one for each API of a model."""
    for protocol in ROUTES:
        for _, case in vectors(protocol):
            if (
                case.get("method", "POST") == "POST"
                and body_of(case)[:1] not in {b"", b"\0"}
                and "pad" not in case
            ):
                parts: dict[str, Any] = {key: case[key] for key in ("path", "metadata") if key in case}
                fields = case.get("headers", MCP_HEADERS if protocol == "mcp" else _JSON)
                yield protocol, body_of(case), {**parts, "headers": [tuple(each) for each in fields]}
    for path, body in LLM.items():
        yield "llm", json.dumps(body).encode(), {"path": path, "headers": _JSON}


def accepted(message: Message) -> Operation | None:
    protocol, body, parts = message
    given = {"path": "/" if protocol == "a2a" else "/mcp", **parts}
    try:
        return inspect(request(body, **given), ROUTES[protocol])
    except (InspectionError, RequestError):
        return None


REAL: Final = list(_real())
ACCEPTED: Final = [message for message in REAL if accepted(message) is not None]


@pytest.fixture(scope="module")
def node() -> Iterator[Reader]:
    with Reader.started(node_binary(), "tests/node/reader.cjs") as reader:
        yield reader


@pytest.fixture(scope="module")
def go() -> Iterator[Reader]:
    with Reader.started(go_reader()) as reader:
        yield reader


# ---- what must hold


def check_as_everybody_reads(message: Message, operation: Operation, node: Reader, go: Reader) -> None:
    protocol, body, _ = message
    document = json.loads(body)
    check_operation(operation, document)
    whole = dump(document)
    assert node.read(protocol, body) == whole
    go_whole, *fields = go.read(protocol, body).split("\n")
    assert go_whole == whole
    if protocol == "llm" and fields[0].startswith("error "):
        # A server that knows the types of all members refuses this one; we know those that a decision needs.
        return
    read = dict(field.split("\t") for field in fields)
    for path, value in read.items():
        assert value == dump(at(document, path)), f"a Go struct reads another {path!r}"
    for path in _facts(document, protocol):
        assert at(document, path) in (None, []) or any(f"{key} ".startswith(f"{path} ") for key in read)


def check_operation(operation: Operation, document: Mapping[str, Any]) -> None:
    """What policy sees is what a plain reader finds in the message."""
    params = document.get("params", {})
    match operation.protocol:
        case "mcp":
            assert document.get("method", "client_response") == operation.method
            names = [params.get("name"), params.get("uri"), params.get("taskId")]
            reference = params.get("ref", {})
            names += [reference.get("name"), reference.get("uri")] if isinstance(reference, dict) else []
            names += params.get("notifications", {}).get("resourceSubscriptions", [])
            assert operation.phase != "call" or operation.resource_name in names
            assert operation.arguments in (None, params.get("arguments"), params.get("context"), {**params})
            assert "arguments" not in params or operation.arguments == params["arguments"]
        case "a2a":
            # A path of the REST binding has arguments too; an empty tenant is none (proto3).
            sent = {name: value for name, value in document.items() if (name, value) != ("tenant", "")}
            said = params if "jsonrpc" in document else {**(operation.arguments or {}), **sent}
            assert operation.arguments in (None, said)
        case _:
            assert operation.payload == document
            assert operation.resource_name == document["model"]
    assert operation.rpc_id is None or operation.rpc_id == document["id"]


def at(document: Any, path: str) -> Any:
    """What stands at a path of exact names."""
    for name in path.split(" "):
        document = document[int(name)] if isinstance(document, list) else document.get(name)
        if document is None:
            return None
    return document


def _facts(document: Mapping[str, Any], protocol: str) -> Iterator[str]:
    """The paths that a decision hangs on: Go must have found each that is there."""
    if protocol == "llm":
        yield from (
            "model",
            "max_tokens",
            "max_completion_tokens",
            "max_output_tokens",
            "thinking budget_tokens",
        )
    elif "jsonrpc" in document:
        yield from ("method", "id")
        if protocol == "mcp" and isinstance(document.get("params"), dict):
            yield from ("params name", "params uri", "params arguments", "params taskId")


# ---- changes


_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|[{}\[\],:]|true|false|null|\s+|.', re.DOTALL)
_ODD_NUMBERS: Final = """
    0 -0 -0.0 1.0 1e2 1E+2 -1.50 0.1 5e-324 1e-400 2e308 1e309 1e400 -1e999 0e999 1e15 1e16 1e21
    9007199254740991 9007199254740992 9007199254740993 -9007199254740993 9007199254740993.0
    9223372036854775807 18446744073709551616 123456789012345678901234567890 100000000000000000000.5
    1.7976931348623159e308 2.2250738585072011e-308 0.30000000000000004 0.0000000000000000000000000001
    01 1. +1 .5 0x10 NaN Infinity -Infinity 1_000 \u0661 - 1e
"""
_NUMBERS = st.one_of(
    st.sampled_from(_ODD_NUMBERS.split()),
    st.integers().map(str),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(repr),
    st.from_regex(r"\A-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?\Z"),
)
_ODD_VALUES: Final = r"""
    null true "" {} [] [[]] "\u0000" "\ud83d\ude00" "\ud83d" "\udc00\ud800"
"""
_VALUES = st.one_of(
    _NUMBERS,
    st.sampled_from(_ODD_VALUES.split()),
    st.text(max_size=6).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.text(max_size=6).map(json.dumps),
    st.integers(1, 70).map(lambda depth: "[" * depth + "]" * depth),
)
_ODD_NAMES: Final = """
    method id params name uri arguments model max_tokens jsonrpc _meta __proto__ constructor toString
    Name NAME param\u017f to\u212aens \\u0061 10 9 length
"""
_NAMES = st.one_of(
    st.sampled_from(_ODD_NAMES.split()),
    st.text(max_size=4).map(lambda text: json.dumps(text)[1:-1]),
)
_SPACES = st.sampled_from(
    [" ", "\t", "\r\n", "\n", "\x0b", "\x0c", "\xa0", "\u2028", "\ufeff", "\x00", "\x85", "/**/", "//\n", ","]
)


def _escaped(text: str, place: int) -> str:
    if text[place] in '"\\' or "\\" in text:
        return text
    return (
        f"{text[:place]}\\u{ord(text[place]):04x}{text[place + 1 :]}" if ord(text[place]) < 0x10000 else text
    )


_SPELLINGS: Final[tuple[Callable[[str, int], str], ...]] = (
    _escaped,
    lambda text, place: text[:place] + text[place].swapcase() + text[place + 1 :],
    lambda text, _: text.upper(),
    lambda text, _: text.replace("s", "\u017f", 1).replace("k", "\u212a", 1),
    lambda text, place: text[:place] + "\\u0000" + text[place:],
    lambda text, place: text[:place] + "\\ud83d\\ude00" + text[place:],
    lambda text, place: text[:place] + "\\ud83d" + text[place:],
    lambda text, place: text[:place] + "\u0301\u00e9\U0001f600" + text[place:],
    lambda text, place: text[:place] + "\u200b\x7f" + text[place:],
    lambda text, place: text[:place] + "\\/\\b" + text[place:],
    lambda text, place: text[:place] + "\x01\n" + text[place:],
    lambda text, place: text[:place] + "\\x41\\'" + text[place:],
)


@st.composite
def changed(draw: st.DrawFn) -> Message:
    """A real message with a few changes."""
    of = draw(st.sampled_from(sorted(ROUTES)))
    known = [message for message in draw(st.sampled_from([ACCEPTED, REAL])) if message[0] == of]
    protocol, body, parts = draw(st.sampled_from(known))
    if draw(st.integers(0, 9)) == 0:
        return protocol, draw(mutated(body)), parts
    try:
        tokens = _TOKENS.findall(body.decode())
    except UnicodeDecodeError:
        return protocol, body, parts
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(tokens) - 1))
        near = [token for token in tokens[place : place + 12] if len(token) > 2 and token[0] == '"']
        names = _NAMES | _respelt(st.sampled_from(near or ['"name"']))
        tokens[place] = draw(_changed_token(tokens[place], names))
    text = "".join(tokens)
    return protocol, draw(st.sampled_from(_ENCODINGS))(text), parts


def _respelt(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Texts with one character in another way; without their quotes."""
    spellings, places = st.sampled_from(_SPELLINGS), st.integers(0, 60)
    return st.builds(
        lambda text, spell, place: spell(text, 1 + place % (len(text) - 2))[1:-1], texts, spellings, places
    )


def _changed_token(token: str, names: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    if token.startswith('"') and len(token) > 2:
        spelt = _respelt(st.just(token)).map('"{}"'.format)
        return spelt | spelt | _VALUES
    if token == "{":
        return st.builds('{{"{}":{},'.format, names, _VALUES)
    if token == "}":
        return st.builds(',"{}":{}}}'.format, names, _VALUES)
    if token in {"[", "]", ":", ","}:
        return st.builds(
            lambda space, after: token + space if after else space + token, _SPACES, st.booleans()
        )
    return _VALUES


# Mostly as it is.
_ENCODINGS: Final[tuple[Callable[[str], bytes], ...]] = (
    *[lambda text: text.encode("utf-8", "surrogatepass")] * 12,
    lambda text: text.encode("utf-8-sig", "surrogatepass"),
    lambda text: text.encode("utf-16", "surrogatepass"),
    lambda text: text.encode("utf-32-le", "surrogatepass"),
    lambda text: text.encode("latin-1", "replace"),
)


# ---- the search


@settings(max_examples=settings.default.max_examples * 10)  # type: ignore[union-attr]  # conftest.py has loaded one
@given(message=changed())
def test_what_we_accept_python_node_and_go_read_alike(message: Message, node: Reader, go: Reader) -> None:
    operation = accepted(message)
    if operation is not None:
        check_as_everybody_reads(message, operation, node, go)


def test_every_known_message_that_we_accept_is_read_alike(node: Reader, go: Reader) -> None:
    assert {protocol for protocol, _, _ in ACCEPTED} == {"mcp", "a2a", "llm"}
    assert len(ACCEPTED) > 100
    for message in ACCEPTED:
        operation = accepted(message)
        assert operation is not None
        check_as_everybody_reads(message, operation, node, go)


def call(params: str, envelope: str = '"id":1') -> bytes:
    return f'{{"jsonrpc":"2.0",{envelope},"method":"tools/call","params":{{{params}}}}}'.encode()


def chat(path: str, **more: Any) -> Message:
    return "llm", json.dumps({**LLM[path], **more}).encode(), {"path": path, "headers": _JSON}


_CALLS: Final = {
    "a member in another case": call('"name":"echo","Name":"secret"'),
    "a member with a long s": call('"name":"echo"},"param\u017f":{"name":"secret"'),
    "an integer that a double cannot hold": call('"name":"echo","arguments":{"n":9007199254740993}'),
    "an id that a double cannot hold": call('"name":"echo"', '"id":9007199254740993'),
    "a number that overflows": call('"name":"echo","arguments":{"n":1e400}'),
    "no number": call('"name":"echo","arguments":{"n":NaN}'),
    "half a character": call('"name":"echo","arguments":{"t":"\\ud800"}'),
    "a byte order mark": b"\xef\xbb\xbf" + call('"name":"echo"'),
    "UTF-16": call('"name":"echo"').decode().encode("utf-16"),
    "UTF-32": call('"name":"echo"').decode().encode("utf-32-le"),
    "bytes that are no UTF-8": call('"name":"echo","arguments":{"t":"\xff"}').decode().encode("latin-1"),
}
DISPUTED: Final[dict[str, Message]] = {
    **{name: ("mcp", body, {}) for name, body in _CALLS.items()},
    "a model in another case": chat("/v1/responses", Model="gpt-5-pro"),
    "a budget in another case": chat("/v1/messages", thinking={"budget_tokens": 1, "Budget_Tokens": 90_000}),
    "skills in another case": chat("/v1/messages", container={"id": "c", "Skills": [{"type": "anthropic"}]}),
    "a tool's name in another case": chat("/v1/messages", tools=[{"name": "look_up", "Name": "delete"}]),
}


@pytest.mark.parametrize("message", DISPUTED.values(), ids=DISPUTED)
def test_what_the_readers_dispute_is_refused(message: Message, node: Reader, go: Reader) -> None:
    """The readers do differ, so the search can find it; and we refuse."""
    protocol, body, _ = message
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    whole, *fields = go.read(protocol, body).split("\n")
    agreed = {dump(document), node.read(protocol, body), whole} == {whole}
    alike = agreed and all(
        value == dump(at(document, path)) for path, value in (field.split("\t") for field in fields)
    )
    assert not alike
    assert accepted(message) is None
