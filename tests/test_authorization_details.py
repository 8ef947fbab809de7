"""Authorization details, limits of single arguments, and the pointers to them: NR-04, RFC 9396, RFC 6901."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from identity.argument_limit import MAX_CHOICES, MAX_TEXT, ArgumentLimit
from identity.authorization_details import (
    MAX_DETAILS,
    MAX_LIMITS,
    Detail,
    Details,
    covers,
    details_json,
    joined,
    parse_details,
    refine,
)
from identity.canonical import arguments_sha256
from identity.errors import ExchangeError
from identity.json_pointer import ABSENT, MAX_POINTER, at, is_pointer

TICKETS, BILLING = "https://tickets.mesh.example", "https://billing.mesh.example"
PLAIN: Mapping[str, object] = {
    "type": "mcp_tool_call",
    "locations": [TICKETS],
    "actions": ["tools/call"],
    "tool": "close",
}


def limit(path: str = "/amount", **kind: object) -> ArgumentLimit:
    return ArgumentLimit.parse({"path": path, **kind})


def malformed(act: Any, *args: object) -> None:
    with pytest.raises(ExchangeError) as raised:
        act(*args)
    assert raised.value.error == "invalid_authorization_details"


# ---------------------------------------------------------------- details


def test_nr04_what_is_written_is_read() -> None:
    """NR-04: a token says what was granted, and nothing else."""
    value = [
        {**PLAIN, "args_sha256": "0" * 64, "limits": [{"path": "/a", "one_of": [1, "x", None, True]}]},
        {**PLAIN, "tool": "list"},
    ]
    assert details_json(parse_details(value)) == value
    assert parse_details([PLAIN, PLAIN]) == (Detail(TICKETS, "close"),)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        [],
        "x",
        [None],
        [[]],
        [dict(PLAIN)] * (MAX_DETAILS + 1),
        *[[{name: value for name, value in PLAIN.items() if name != left}] for left in PLAIN],
        [{**PLAIN, "other": 1}],
        [{**PLAIN, "type": "MCP_TOOL_CALL"}],
        [{**PLAIN, "actions": "tools/call"}],
        [{**PLAIN, "actions": []}],
        [{**PLAIN, "locations": TICKETS}],
        [{**PLAIN, "locations": [1]}],
        [{**PLAIN, "locations": [""]}],
        [{**PLAIN, "locations": ["https://a.example/\n"]}],
        [{**PLAIN, "locations": ["x" * 513]}],
        [{**PLAIN, "tool": 1}],
        [{**PLAIN, "tool": "a b"}],
        [{**PLAIN, "tool": "é"}],
        [{**PLAIN, "tool": "x" * 257}],
        [{**PLAIN, "args_sha256": "0" * 63}],
        [{**PLAIN, "args_sha256": "0" * 64 + "\n"}],
        [{**PLAIN, "args_sha256": 0}],
        [{**PLAIN, "limits": {}}],
        [{**PLAIN, "limits": [{"path": "/a", "max": 1}] * (MAX_LIMITS + 1)}],
        [{**PLAIN, "limits": [None]}],
    ],
)
def test_nr04_what_is_not_understood_is_refused(value: object) -> None:
    """NR-04: an unknown member could narrow, and no details at all would be no limit."""
    malformed(parse_details, value)


def test_nr04_a_call_is_covered_by_one_detail_alone() -> None:
    """NR-04: service, tool, hash and limits of one and the same detail."""
    details = (
        Detail(TICKETS, "close", None, (limit(max=10),)),
        Detail(TICKETS, "list", arguments_sha256({"page": 1})),
    )
    assert covers(details, TICKETS, "close", {"amount": 10})
    assert covers(details, TICKETS, "list", {"page": 1})
    for location, tool, arguments in (
        (TICKETS, "close", {"amount": 11}),
        (TICKETS, "close", {}),
        (TICKETS, "list", {"page": 2}),
        (TICKETS, "list", {"amount": 1}),
        (TICKETS, "open", {}),
        (BILLING, "close", {"amount": 1}),
        (f"{TICKETS}/", "close", {"amount": 1}),
    ):
        assert not covers(details, location, tool, arguments)
    assert covers(None, BILLING, "pay", {"amount": 10**9})


def test_long_arguments_are_hashed_once_however_many_hashes_a_token_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else one agent with 32 hashes and long arguments held up all calls for half a second each time."""
    hashed: list[Mapping[str, object] | None] = []

    def counted(arguments: Mapping[str, object] | None) -> str:
        hashed.append(arguments)
        return arguments_sha256(arguments)

    monkeypatch.setattr("identity.authorization_details.arguments_sha256", counted)
    many = tuple(Detail(TICKETS, "close", f"{number:064x}") for number in range(MAX_DETAILS))
    assert not covers(many, TICKETS, "close", {"amount": 1})
    assert len(hashed) == 1
    assert not covers(many, TICKETS, "open", {"amount": 1})
    assert covers((Detail(TICKETS, "close"),), TICKETS, "close", {"amount": 1})
    assert len(hashed) == 1


def test_nr04_refining_takes_the_limits_of_both() -> None:
    """NR-04: each granted one refines one that was held."""
    held: Details = (Detail(TICKETS, "close", None, (limit(max=10),)), Detail(TICKETS, "list"))
    wanted: Details = (Detail(TICKETS, "close", None, (limit(min=5),)),)
    assert refine(held, wanted) == (Detail(TICKETS, "close", None, (limit(max=10), limit(min=5))),)
    assert refine(None, wanted) == wanted
    assert refine(held, None) == held
    assert refine(None, None) is None
    assert refine(held, held) == held


def test_nr04_refining_never_widens() -> None:
    """NR-04: another tool, service or hash; one bad among good ones; or no room for both limits."""
    digest = Detail(TICKETS, "close", "0" * 64)
    for held, wanted in (
        ((Detail(TICKETS, "close"),), (Detail(TICKETS, "open"),)),
        ((Detail(TICKETS, "close"),), (Detail(BILLING, "close"),)),
        ((digest,), (Detail(TICKETS, "close", "1" * 64),)),
        ((digest,), (digest, Detail(TICKETS, "open"))),
        (
            (Detail(TICKETS, "close", None, tuple(limit(max=number) for number in range(MAX_LIMITS))),),
            (Detail(TICKETS, "close", None, (limit(min=1),)),),
        ),
    ):
        malformed(refine, held, wanted)
    assert refine((Detail(TICKETS, "close"),), (digest,)) == (digest,)
    assert refine((digest,), (Detail(TICKETS, "close"),)) == (digest,)


def test_nr04_pairs_are_bounded() -> None:
    """NR-04: many held and many wanted of one tool would multiply."""
    held = tuple(Detail(TICKETS, "close", None, (limit(max=number),)) for number in range(8))
    wanted = tuple(Detail(TICKETS, "close", None, (limit(min=number),)) for number in range(8))
    malformed(refine, held, wanted)
    malformed(joined, held, wanted)


def test_nr04_what_a_person_granted_may_name_more() -> None:
    """NR-04: joined is within both, and nothing in both is an error, never "no limit"."""
    held: Details = (Detail(TICKETS, "close"), Detail(TICKETS, "list"))
    assert joined(held, (Detail(TICKETS, "list"), Detail(TICKETS, "open"))) == (Detail(TICKETS, "list"),)
    assert joined(None, held) == joined(held, None) == joined(held, held) == held
    assert joined(None, None) is None
    malformed(joined, held, (Detail(TICKETS, "open"),))


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("kind", "inside", "outside"),
    [
        ({"equals": 1}, [1, 1.0], [True, "1", None, 2, [1], {}]),
        ({"equals": True}, [True], [1, "true", False]),
        ({"equals": "x"}, ["x"], ["X", ["x"], {"x": 1}]),
        ({"equals": None}, [None], [0, "", False]),
        ({"one_of": [1, "x", None]}, [1, "x", None], [2, True, "", []]),
        ({"prefix": "/a/"}, ["/a/", "/a/b"], ["/a", "/b", None, ["/a/"]]),
        ({"max": 10}, [10, -5, 9.5], [11, 10.5, True, "5", None, [5]]),
        ({"min": 0}, [0, 5.5], [-1, False, "5", None]),
        ({"max": 1.5}, [1, 1.5], [2]),
        ({"equals": 1.5}, [1.5], [1, "1.5"]),
    ],
)
def test_a_limit_compares_by_json_type(
    kind: dict[str, object], inside: list[object], outside: list[object]
) -> None:
    held = ArgumentLimit.parse({"path": "/amount", **kind})
    assert all(held.allows({"amount": value}) for value in inside)
    assert not any(held.allows({"amount": value}) for value in outside)
    assert not held.allows({})
    assert ArgumentLimit.parse(held.to_json()) == held


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"path": "/a"},
        {"max": 1},
        {"path": 1, "max": 1},
        {"path": "/a", "max": 1, "min": 0},
        {"path": "/a", "pattern": ".*"},
        {"path": "a", "max": 1},
        {"path": "/~2", "max": 1},
        {"path": "/" + "x" * MAX_POINTER, "max": 1},
        {"path": "/a", "max": "1"},
        {"path": "/a", "max": True},
        {"path": "/a", "max": None},
        {"path": "/a", "min": float("inf")},
        {"path": "/a", "min": float("nan")},
        {"path": "/a", "equals": float("nan")},
        {"path": "/a", "equals": []},
        {"path": "/a", "equals": {}},
        {"path": "/a", "equals": "x" * (MAX_TEXT + 1)},
        {"path": "/a", "prefix": ""},
        {"path": "/a", "prefix": 1},
        {"path": "/a", "prefix": "x" * (MAX_TEXT + 1)},
        {"path": "/a", "one_of": []},
        {"path": "/a", "one_of": "x"},
        {"path": "/a", "one_of": [[]]},
        {"path": "/a", "one_of": [1] * (MAX_CHOICES + 1)},
    ],
)
def test_a_limit_that_is_not_one_of_ours(value: object) -> None:
    malformed(ArgumentLimit.parse, value)


def test_a_limit_of_the_whole_is_no_limit_of_a_member() -> None:
    assert not limit("", equals=1).allows({"": 1})
    assert limit("/", equals=1).allows({"": 1})


# ---------------------------------------------------------------- pointers


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        ("", "whole"),
        ("/a", 1),
        ("/", 2),
        ("/b/0", "x"),
        ("/b/1", "y"),
        ("/b/2", ABSENT),
        ("/b/-", ABSENT),
        ("/b/01", ABSENT),
        ("/b/-1", ABSENT),
        ("/b/1e0", ABSENT),
        ("/b/\u0660", ABSENT),
        ("/b/9999999999", ABSENT),
        ("/c~1d", 3),
        ("/e~0f", 4),
        ("/e~01", 5),
        ("/a/b", ABSENT),
        ("/missing", ABSENT),
        ("/null", None),
        ("/b/0/0", ABSENT),
    ],
)
def test_a_pointer_leads_to_one_place(pointer: str, found: object) -> None:
    value = {"a": 1, "": 2, "b": ["x", "y"], "c/d": 3, "e~f": 4, "e~1": 5, "null": None}
    assert is_pointer(pointer)
    assert at(value, pointer) == (value if found == "whole" else found)
    assert json.loads(json.dumps(value)) == value


@pytest.mark.parametrize("pointer", ["a", "a/b", "#/a", "/~", "/~2", "/a~", "/\x00", "/\n", "/" * 257])
def test_what_is_no_pointer(pointer: str) -> None:
    assert not is_pointer(pointer)


def test_what_is_absent_is_not_null() -> None:
    assert repr(ABSENT) == "ABSENT"
    assert ABSENT is not None
