"""Whatever bytes a server uses for a list, its reader gets exactly what is visible, in its order."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from authz.codes import Code
from tests.answers_world import EVENTS, JSON, AnswersWorld, Sent

LISTS = {
    "tools/list": ("tools", "name"),
    "resources/list": ("resources", "uri"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate"),
    "prompts/list": ("prompts", "name"),
}
NAMES = st.lists(st.sampled_from([f"n{number}" for number in range(12)]), max_size=12, unique=True)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8)
EXTRAS = st.dictionaries(st.sampled_from(["title", "description", "x", "y"]), SCALARS, max_size=3)
SPACES = st.sampled_from(["", "", " ", "\n", "\t", "\r\n "])


@st.composite
def _written(draw: st.DrawFn, value: Any) -> str:
    """Write a value in one of the ways that JSON has for it."""
    match value:
        case dict():
            members = [(name, draw(_written(part))) for name, part in value.items()]
            is_repeated: bool = draw(st.booleans())
            if members and is_repeated:
                # What stands first of two is not what counts.
                name = draw(st.sampled_from([name for name, _ in members]))
                members.insert(
                    0, (name, draw(st.sampled_from(["[]", "{}", '"secret"', '[{"name":"secret"}]'])))
                )
            parts = [
                draw(SPACES) + draw(_text(name)) + draw(SPACES) + ":" + draw(SPACES) + part + draw(SPACES)
                for name, part in members
            ]
            return "{" + ",".join(parts) + "}"
        case list():
            return "[" + ",".join(draw(SPACES) + draw(_written(part)) + draw(SPACES) for part in value) + "]"
        case str():
            return draw(_text(value))
        case _:
            return json.dumps(value)


@st.composite
def _text(draw: st.DrawFn, text: str) -> str:
    """Write a text, with as many escapes as somebody likes."""
    plain = json.dumps(text, ensure_ascii=draw(st.booleans()))
    if text and draw(st.booleans()):
        place = draw(st.integers(0, len(text) - 1))
        escaped = "".join(f"\\u{unit:04x}" for unit in _units(text[place]))
        plain = json.dumps(text[:place])[:-1] + escaped + json.dumps(text[place + 1 :])[1:]
    return plain


def _units(character: str) -> list[int]:
    data = character.encode("utf-16-be")
    return [int.from_bytes(data[start : start + 2]) for start in range(0, len(data), 2)]


@st.composite
def _chunks(draw: st.DrawFn, data: bytes) -> list[bytes]:
    places = sorted({0, len(data), *draw(st.lists(st.integers(0, len(data)), max_size=6))})
    return [data[start:end] for start, end in pairwise(places)]


@st.composite
def _event(draw: st.DrawFn, text: str) -> str:
    """Write a text as an event; where JSON has a line end, another `data` line may begin."""
    end = draw(st.sampled_from(["\n", "\r", "\r\n"]))
    lines = text.replace("\r\n", "\n").split("\n")
    data = end.join(draw(st.sampled_from(["data:", "data: "])) + line for line in lines)
    before = draw(
        st.sampled_from(["", ": secret" + end, "id: 1" + end, "event: message" + end, "data" + end])
    )
    return before + data + end + end


@settings(deadline=None)
@given(
    st.data(),
    st.sampled_from(sorted(LISTS)),
    NAMES,
    st.frozensets(st.sampled_from([f"n{i}" for i in range(12)])),
)
def test_the_answer_holds_exactly_what_is_visible(
    data: st.DataObject, method: str, names: list[str], hidden: frozenset[str]
) -> None:
    member, name = LISTS[method]
    elements = [{**data.draw(EXTRAS), name: each} for each in names]
    rpc_id = data.draw(st.integers(0, 2**53 - 1) | st.text("ab\u00e9", min_size=1, max_size=4))
    envelope = [("jsonrpc", "2.0"), ("id", rpc_id), ("result", {member: elements, "nextCursor": "c"})]
    text = data.draw(_written(dict(data.draw(st.permutations(envelope)))))
    world = AnswersWorld()
    world.policy.hidden = hidden | {"secret"}
    if data.draw(st.booleans()):
        chunks = data.draw(_chunks(text.encode()))
        message: Any = world.answer(*chunks, to=method, media_type=JSON).json
    else:
        chunks = data.draw(_chunks(data.draw(_event(text)).encode()))
        sent = world.answer(
            *chunks, to=data.draw(st.sampled_from([method, "stream_open"])), media_type=EVENTS
        )
        (message,) = sent.messages
    assert (message["id"], message["result"]["nextCursor"]) == (rpc_id, "c")
    assert message["result"][member] == [each for each in elements if each[name] not in hidden]


SEEDS = [
    b'{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"secret"},{"name":"read"}]}}',
    b'{"result":{"tools":[{"name":"secret","title":"a"}],"nextCursor":"c"},"jsonrpc":"2.0","id":"a"}',
    b'data: {"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"secret"}]}}\n\n',
    b'{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"no"}}',
]
PIECES = st.sampled_from(
    [b"\n", b"\r", b"\n\n", b"\\u0073", b"\xef\xbb\xbf", b"\xff", b"\x00", b"|"]
) | st.sampled_from(
    b'"|{|}|[|]|,|:|data:|NaN|1e999|"tools":|"result":|[{"name":"secret"}]|"name":"secret",'.split(b"|")
)


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(data)))
        data[start : start + draw(st.integers(0, 12))] = draw(PIECES | st.binary(max_size=3))
    return bytes(data)


@settings(deadline=None, max_examples=300)
@given(
    st.data(),
    _mutated() | st.binary(max_size=60),
    st.sampled_from([JSON, EVENTS]),
    st.sampled_from(["tools/list", "stream_open"]),
    st.sampled_from([200, 202, 400, 500]),
)
def test_whatever_is_sent_nothing_is_listed_that_is_hidden(
    data: st.DataObject, body: bytes, media_type: str, method: str, status: int
) -> None:
    """Any bytes become a list that was cut, an error, or nothing; never a fault of ours."""
    world = AnswersWorld()
    world.policy.hidden = frozenset({"secret"})
    sent = world.answer(*data.draw(_chunks(body)), to=method, media_type=media_type, status=status)
    assert sent.guard.problem is None or sent.guard.problem.code is Code.ANSWER_UNREADABLE
    for message in _messages(sent):
        assert "result" in message or "error" in message or "method" in message
        tools = message["result"].get("tools", []) if "result" in message else []
        assert all(each["name"] != "secret" for each in tools)


def _messages(sent: Sent) -> list[Any]:
    is_stream = dict(sent.head.set_headers).get("content-type") == EVENTS
    return sent.messages if is_stream else [json.loads(sent.body)] if sent.body else []
