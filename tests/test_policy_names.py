"""The question about a list of names, its bounds, and what an answer to it may say."""

import json
from typing import get_args

import pytest

from authz.errors import PolicyShapeError
from authz.policy.names import MAX_NAME, MAX_NAMES, asked_names, in_batches, read_visible
from authz.policy.query import WHO, Kind, caller_input, visible_query
from authz.policy.schema import problems
from tests.identity_world import caller
from tests.policy_questions import lists, question

# ---- the question


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_question_about_each_kind_fits_its_schema(kind: Kind) -> None:
    query = lists("a", "b", "a", kind=kind)

    assert problems("input", query) == ()
    assert query["resource"] == {"service": "tickets", "type": kind, "name": "tickets", "names": ["a", "b"]}
    assert query["action"]["phase"] == "call"


def test_names_are_there_where_a_list_is_asked_about_and_nowhere_else() -> None:
    query = lists("a")
    unnamed = {**query, "resource": {"service": "tickets", "type": "tool", "name": "tickets"}}

    assert problems("input", unnamed) == ("$.resource: lacks names",)
    assert problems("input", {**query, "phase": "check"})
    assert problems("input", lists(*map(str, range(MAX_NAMES + 1))))
    assert problems("input", lists("x" * (MAX_NAME + 1)))


def test_a_caller_is_the_same_after_a_way_through_json() -> None:
    who = caller_input(caller())

    assert json.loads(json.dumps(who)) == who
    assert tuple(who) == WHO
    assert problems("input", visible_query(who, "tickets", "mcp", "tool", ["a"])) == ()


@pytest.mark.parametrize(
    "query",
    [
        {},
        question(),
        {**lists("a"), "phase": "check"},
        {**lists("a"), "resource": None},
        {**lists("a"), "resource": {"names": "a"}},
        {**lists("a"), "resource": {"names": None}},
        {**lists("a"), "resource": {"names": ["a", 1]}},
        {**lists("a"), "resource": {"names": ["a", ["b"]]}},
        {**lists("a"), "resource": {"names": {"a": True}}},
        lists(*map(str, range(MAX_NAMES + 1))),
        lists("a", "x" * (MAX_NAME + 1)),
        lists("read_ticket", "\ud800"),
        lists("\ud83e", "\uddf0"),
    ],
)
def test_what_is_no_list_or_too_long_or_no_text_is_refused(query: dict[str, object]) -> None:
    with pytest.raises(PolicyShapeError):
        asked_names(query)


def test_the_longest_list_is_asked_about_in_batches_and_each_name_once() -> None:
    names = [f"{number}".ljust(MAX_NAME, "x") for number in range(MAX_NAMES)]
    for several in (names, names[:1], [], [name[:9] for name in names]):
        query = lists(*several)
        batches = list(in_batches(query, asked_names(query)))

        assert [name for _, batch in batches for name in batch] == list(dict.fromkeys(several))
        assert all(
            asked == {**query, "resource": {**query["resource"], "names": batch}} for asked, batch in batches
        )
        assert max(len(batch) for _, batch in batches) <= 512
        assert max(sum(map(len, batch)) for _, batch in batches) <= 16_384


# ---- the answer


@pytest.mark.parametrize(
    "answer", [None, True, "a", {"a": True}, ["b"], ["a", "a"], ["a", 1], [["a"]], ["a", "A"], ["a", ""]]
)
def test_an_answer_that_is_not_some_of_the_names_is_none(answer: object) -> None:
    with pytest.raises(PolicyShapeError):
        read_visible(answer, ["a", "c"])


@pytest.mark.parametrize("answer", [[], ["a"], ["c", "a"]])
def test_an_answer_is_some_of_the_names(answer: list[str]) -> None:
    assert read_visible(answer, ["a", "c"]) == frozenset(answer)
