"""What a list names, and the same list with only what its reader could use."""

import json
from typing import Any

import pytest

from authz.answers.json_answer import read_object, write
from authz.answers.known_lists import MAX_CHARS, MAX_LIST_CHARS, Asked, KnownLists
from authz.answers.listing import Listing, read_models, read_result
from authz.answers.rpc_answer import RpcList, read_answer
from authz.codes import Code
from authz.errors import AnswerError
from authz.policy.names import MAX_NAME, MAX_NAMES
from authz.policy.query import Kind
from authz.protocols.route import Route
from tests.answers_world import names_in, response, tools

ROUTE = Route("tickets", "mcp")


def _read(result: dict[str, object], route: Route = ROUTE, *, declares: bool = True) -> Listing:
    return read_result(result, route, declares=declares)


def _only(listing: Listing, **visible: set[str]) -> Any:
    kinds: dict[Kind, set[str]] = dict(visible)  # type: ignore[assignment]  # the tests name kinds
    return json.loads(listing.only(kinds))


@pytest.mark.parametrize(
    ("member", "name", "kind"),
    [
        ("tools", "name", "tool"),
        ("resources", "uri", "resource"),
        ("resourceTemplates", "uriTemplate", "resource_template"),
        ("prompts", "name", "prompt"),
    ],
)
def test_each_list_of_mcp_is_named_and_cut(member: str, name: str, kind: str) -> None:
    elements = [{name: each, "title": each.upper()} for each in ("one", "two", "three")]
    listing = _read({member: elements, "nextCursor": "c2", "_meta": {"a": 1}})
    assert [(each.kind, each.names) for each in listing.lists] == [(kind, ("one", "two", "three"))]
    cut = _only(listing, **{kind: {"three", "one", "other"}})
    assert cut == {member: [elements[0], elements[2]], "nextCursor": "c2", "_meta": {"a": 1}}


def test_a_kind_that_nothing_is_said_of_is_not_visible() -> None:
    assert _only(_read(tools("a", "b")), resource={"a"}) == {"tools": []}


def test_a_result_with_several_lists_is_cut_in_each() -> None:
    result = {**tools("a", "b"), "prompts": [{"name": "a"}, {"name": "b"}]}
    cut = _only(_read(result), tool={"a"}, prompt={"b"})
    assert names_in(cut) == ["a"]
    assert names_in(cut, "prompts") == ["b"]


def test_the_prefix_of_a_gateway_is_not_the_policys() -> None:
    listing = _read(tools("tickets__read", "billing__read", "read"), Route("tickets", "mcp", "tickets__"))
    assert listing.lists[0].names == ("read",)
    assert names_in(_only(listing, tool={"read"})) == ["tickets__read"]
    assert [each.name for each in listing.declared] == ["read"]


@pytest.mark.parametrize(
    "element",
    [
        {},
        {"name": 7},
        {"name": None},
        {"name": ["a"]},
        {"name": ""},
        {"name": "a b"},
        {"name": "a\u0000"},
        {"name": "re\u0430d"},  # a Cyrillic letter
        {"name": "a\n"},
        {"name": "a" * 129},
        {"Name": "a"},
        {"name": "a", "Name": "secret"},
        {"name": "a", "na\u200bme": "secret"},
        {"name": "a", "de\u017fcription": "twice"},
    ],
)
def test_what_no_call_could_name_is_taken_out(element: dict[str, object]) -> None:
    listing = _read({"tools": [element, {"name": "b"}]})
    assert listing.lists[0].names == ("b",)
    assert names_in(_only(listing, tool={"a", "b", "secret", ""})) == ["b"]


@pytest.mark.parametrize("uri", ["", "file:///a\r\nb", "x" * 2049, "a\u2028b"])
def test_a_uri_that_no_call_could_name_is_taken_out(uri: str) -> None:
    assert _read({"resources": [{"uri": uri}, {"uri": "file:///b"}]}).lists[0].names == ("file:///b",)


def test_a_name_that_is_too_long_to_be_asked_about_costs_no_other_one() -> None:
    resources = [{"uri": "x" * (MAX_NAME + 1)}, {"uri": "x" * MAX_NAME}]
    assert [len(name) for name in _read({"resources": resources}).lists[0].names] == [MAX_NAME]


def test_a_tool_that_is_listed_in_two_ways_is_not_listed() -> None:
    """Nobody could say which of the two is called, nor which of them a person accepted."""
    twice = [
        {"name": "a", "inputSchema": {"type": "object"}},
        {"name": "b"},
        {"name": "a", "inputSchema": {"type": "object", "properties": {"secret": {}}}},
    ]
    assert _read({"tools": twice}).lists[0].names == ("b",)


def test_a_tool_that_is_listed_twice_alike_is_listed_once() -> None:
    listing = _read(tools("a", "b", "a"))
    assert names_in(_only(listing, tool={"a", "b"})) == ["a", "b"]


def test_a_resource_may_be_listed_twice() -> None:
    listing = _read({"resources": [{"uri": "a", "name": "x"}, {"uri": "a", "name": "y"}]})
    assert names_in(_only(listing, resource={"a"}), "resources") == ["x", "y"]


@pytest.mark.parametrize("value", [None, {}, "a", 7, True, ["a"], [{"name": "a"}, 7], [[{"name": "a"}]]])
@pytest.mark.parametrize("member", ["tools", "resources", "resourceTemplates", "prompts"])
def test_what_is_no_list_of_objects_cannot_be_read(member: str, value: object) -> None:
    with pytest.raises(AnswerError) as caught:
        _read({member: value})
    assert caught.value.code is Code.ANSWER_UNREADABLE


def test_refuses_4097_names() -> None:
    assert len(_read(tools(*map(str, range(MAX_NAMES)))).lists[0].names) == MAX_NAMES
    with pytest.raises(AnswerError, match="more than 4096"):
        _read(tools(*map(str, range(MAX_NAMES + 1))))


@pytest.mark.parametrize("name", ["Tools", "TOOLS", "tool\u017f", "to ols", "tools\u0000", "\uff54ools"])
def test_look_alikes_of_a_list_cannot_be_read(name: str) -> None:
    with pytest.raises(AnswerError, match="look-alike"):
        _read({**tools("a"), name: [{"name": "secret"}]})


def test_a_list_that_must_be_there_is() -> None:
    with pytest.raises(AnswerError, match="without 'tools'"):
        read_result({"content": []}, ROUTE, "tools", declares=False)
    assert read_result({"content": []}, ROUTE, declares=False).lists == ()


@pytest.mark.parametrize(
    "more",
    [{"ttlMs": 1000}, {"cacheScope": "public"}, {"resultType": "complete"}, {"cacheScope": ["a", "list"]}],
)
def test_a_result_that_may_be_kept_is_the_callers_alone(more: dict[str, object]) -> None:
    assert _only(_read({**tools("a"), **more}))["cacheScope"] == "private"


def test_a_result_of_the_older_era_is_not_marked() -> None:
    assert "cacheScope" not in _only(_read(tools("a")))


def test_a_tool_that_cannot_be_hashed_is_taken_out_where_hashes_are_asked_for() -> None:
    result: dict[str, object] = {"tools": [{"name": "a", "inputSchema": {"maximum": 2**60}}, {"name": "b"}]}
    assert _read(result).lists[0].names == ("b",)
    assert [each.name for each in _read(result).declared] == ["b"]
    assert _read(result, declares=False).lists[0].names == ("a", "b")
    assert _read(result, declares=False).declared == ()


def test_an_element_that_cannot_be_written_is_taken_out() -> None:
    result = read_object('{"tools":[{"name":"a","x":1e999},{"name":"b"}]}')
    assert _read(result, declares=False).lists[0].names == ("b",)


def test_models_are_named_by_their_id() -> None:
    listing = read_models(
        {"object": "list", "data": [{"id": "gpt-5", "object": "model"}, {"id": "org/m:1"}]},
        Route("models", "llm"),
    )
    assert [(each.kind, each.names) for each in listing.lists] == [("model", ("gpt-5", "org/m:1"))]
    assert _only(listing, model={"org/m:1"}) == {"object": "list", "data": [{"id": "org/m:1"}]}


def test_models_that_no_call_could_name_are_taken_out() -> None:
    listing = read_models({"data": [{"id": "a b"}, {"id": ""}, {"id": 7}, {}, {"id": "m"}]}, ROUTE)
    assert listing.lists[0].names == ("m",)


def test_what_stands_beside_the_models_is_left_out() -> None:
    """Some servers list them a second time, as `models`."""
    listing = read_models({"data": [{"id": "m"}], "models": [{"name": "secret"}], "x": "secret"}, ROUTE)
    assert _only(listing, model={"m"}) == {"data": [{"id": "m"}]}


def test_the_first_and_the_last_model_are_named_only_to_go_on() -> None:
    page: dict[str, object] = {"data": [{"id": "m"}], "first_id": "secret", "last_id": "other"}
    cut = _only(read_models({**page, "has_more": False}, ROUTE), model={"m"})
    assert (cut["first_id"], cut["last_id"]) == (None, None)
    cut = _only(read_models({**page, "has_more": True}, ROUTE), model={"m"})
    assert (cut["first_id"], cut["last_id"], cut["has_more"]) == ("secret", "other", True)


def test_a_list_of_models_without_models_cannot_be_read() -> None:
    with pytest.raises(AnswerError, match="no list of models"):
        read_models({"object": "list"}, ROUTE)


# What was read a moment ago


def test_the_same_text_is_read_once() -> None:
    known, asked = KnownLists(), Asked(required="tools")
    first = read_answer(response(tools("a", "b"), 1), asked, known)
    again = read_answer(response(tools("a", "b"), "other"), asked, known)
    assert isinstance(first, RpcList)
    assert isinstance(again, RpcList)
    assert again.listing is first.listing
    assert (first.id, again.id) == (1, "other")


def test_what_was_read_for_another_prefix_is_another_list() -> None:
    known, text = KnownLists(), response(tools("x__a", "b"))
    plain = read_answer(text, Asked(), known)
    prefixed = read_answer(text, Asked("x__"), known)
    assert isinstance(plain, RpcList)
    assert isinstance(prefixed, RpcList)
    assert plain.listing.lists[0].names == ("x__a", "b")
    assert prefixed.listing.lists[0].names == ("a",)


@pytest.mark.parametrize(
    "text",
    [
        '{"jsonrpc":"2.0","id":1,"result":{"tools":[]},"result":{"tools":[{"name":"b"}]}}',
        '{"result":{"tools":[]},"result":{"tools":[{"name":"b"}]},"jsonrpc":"2.0","id":1}',
        '{"jsonrpc":"2.0","id":2,"result":{"tools":[]},"id":1,"result":{"tools":[{"name":"b"}]}}',
        ' {"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"b"}]}}\n',
        '{"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "b"}]}}',
        '{"id":1,"jsonrpc":"2.0","result":{"tools":[{"name":"b"}]}}',
    ],
)
def test_a_text_that_is_written_otherwise_is_read_whole(text: str) -> None:
    known = KnownLists()
    for _ in range(2):
        answer = read_answer(text, Asked(required="tools"), known)
        assert isinstance(answer, RpcList)
        assert answer.id == 1
        assert answer.listing.lists[0].names == ("b",)


@pytest.mark.parametrize("rpc_id", [0, -7, 2**53 - 1, 10**14, "", "a", "\u00e9", "quo\\te", 'x"y'])
@pytest.mark.parametrize("is_last", [True, False])
def test_the_id_comes_back_as_it_was(rpc_id: object, *, is_last: bool) -> None:
    head, tail = {"jsonrpc": "2.0", "id": rpc_id}, {"result": tools("a")}
    text = json.dumps({**tail, **head} if is_last else {**head, **tail}, separators=(",", ":"))
    if rpc_id == "":
        with pytest.raises(AnswerError, match="without id"):
            read_answer(text, Asked(), KnownLists())
        return
    for known in (KnownLists(),) * 2:
        answer = read_answer(text, Asked(), known)
        assert isinstance(answer, RpcList)
        assert json.loads(answer.written(b"{}")) == {"jsonrpc": "2.0", "id": rpc_id, "result": {}}


def test_what_is_known_is_bounded() -> None:
    known = KnownLists()
    listing = _read(tools("a"))
    texts = [f"{number:06}" + "x" * (MAX_LIST_CHARS // 2) for number in range(20)]
    for text in texts:
        known.keep(Asked(), text, listing)
        known.keep(Asked(), text, listing)
        assert known.find(Asked(), texts[0]) is listing
    kept = [text for text in texts if known.find(Asked(), text) is not None]
    assert sum(map(len, kept)) <= MAX_CHARS
    assert kept[0] == texts[0]
    assert kept[-1] == texts[-1]
    known.keep(Asked(), "x" * (MAX_LIST_CHARS + 1), listing)
    assert known.find(Asked(), "x" * (MAX_LIST_CHARS + 1)) is None


# The JSON of it


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "7",
        "[]",
        '[{"a":1}]',
        "{",
        "{} {}",
        '{"a":NaN}',
        '{"a":Infinity}',
        '{"a":-Infinity}',
        "\ufeff{}",
        "{'a':1}",
        '{"a":1,}',
        '{"a":"\n"}',
        '{"a":"\\ud800"}',
        '{"\\uDFFF":1}',
        '{"a":' + "9" * 5000 + "}",
        '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"a":' * 100_000,
    ],
)
def test_refuses_what_readers_would_read_in_different_ways(text: str) -> None:
    with pytest.raises(AnswerError) as caught:
        read_object(text)
    assert caught.value.code is Code.ANSWER_UNREADABLE


def test_refuses_a_million_values() -> None:
    assert read_object('{"a":[' + ",".join("1" * 1000) + "]}")
    with pytest.raises(AnswerError, match="values"):
        read_object('{"a":[' + ",".join("1" * 600_000) + "]}")
    # So many characters of one text are no values.
    assert read_object('{"a":"' + "x" * 600_000 + '"}')


def test_of_a_member_that_is_named_twice_the_last_one_is_written() -> None:
    assert write(read_object('{"a":1,"a":2}')) == b'{"a":2}'


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert json.loads(write(read_object('{"a":"\\ud83d\\ude00"}'))) == {"a": "\U0001f600"}


def test_what_is_written_is_ascii() -> None:
    assert write({"a": "\u2028\x85\x7f\u00e9"}) == b'{"a":"\\u2028\\u0085\\u007f\\u00e9"}'


def test_refuses_to_write_a_number_that_overflows() -> None:
    with pytest.raises(AnswerError, match="out of range"):
        write(read_object('{"a":1e999}'))
