"""What the portability check knows of values: never less than what can occur, and it comes to an end."""

import copy
from typing import Any

import pytest

from authz.errors import PolicyLoadError
from authz.policy import portability
from authz.policy.embedded import syntax_trees
from authz.policy.modules import Module, Modules
from authz.policy.portability import NotPortableError, Portability, check_portability
from authz.policy.portability_types import ANY, ANY_JSON, NOTHING, SchemaReader, Type, join, of_json, scalar
from authz.policy.schema import schema

REGO = """package deputy
r contains [1] if { some x in input.l; every y in x { y == 1 } }
f(x) := x
"""
TREES = syntax_trees(Modules.of([Module("p.rego", REGO)]))


def _check(rego: str) -> object:
    return check_portability(syntax_trees(Modules.of([Module("p.rego", rego)])), {}, {})


def test_the_shipped_schema_types_the_question() -> None:
    question = SchemaReader(schema("input")).read()

    agent, agent_is_there = question.member("agent")
    human, _ = question.member("human")
    chain, _ = question.member("chain")
    assert agent_is_there
    assert agent.member("name") == (scalar("string"), True)
    assert agent.member("nothing") == (NOTHING, False)
    assert human.kinds == {"null", "object"}
    assert human.member("uri") == (scalar("string"), False)
    assert human.only({"object"}).member("uri") == (scalar("string"), True)
    assert chain.element().member("name") == (scalar("string"), True)
    assert question.member("phase")[0] == scalar("string")
    assert "set" not in question.all_kinds()


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, ANY_JSON),
        (True, ANY_JSON),
        ({"type": "integer"}, scalar("integer", "number")),
        ({"type": ["string", "null"]}, scalar("string", "null")),
        ({"enum": ["a", 1]}, scalar("string", "integer")),
        ({"const": None}, scalar("null")),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, scalar("string", "null")),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"type": "string"}}}, scalar("string")),
        ({"$ref": "#/$defs/none/deeper"}, ANY_JSON),
        ({"$ref": "#"}, ANY_JSON),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"$ref": "#/$defs/x"}}}, ANY_JSON),
    ],
)
def test_what_a_schema_leaves_open_is_open(document: Any, expected: Type) -> None:
    assert SchemaReader(document).read() == expected


def test_an_object_with_more_members_than_a_schema_names_is_open() -> None:
    closed = SchemaReader(
        {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    )
    typed = SchemaReader({"type": "object", "additionalProperties": {"type": "string"}})

    assert closed.read().member("b") == (NOTHING, False)
    assert typed.read().member("b") == (scalar("string"), False)
    assert SchemaReader({"type": "object"}).read().member("b") == (ANY_JSON, False)


def test_data_are_known_exactly_and_a_table_by_its_rows() -> None:
    rows = {f"row{number}": {"class": "read"} for number in range(100)}
    known = of_json({"few": {"a": 1, "b": 2.5}, "many": rows, "list": ["a", None]})

    assert known.member("few")[0].member("a") == (scalar("integer"), True)
    assert known.member("few")[0].member("b") == (scalar("number"), True)
    assert known.member("many")[0].member("row1") == (of_json({"class": "read"}), False)
    assert known.member("many")[0].element().member("class") == (scalar("string"), True)
    assert known.member("list")[0].element() == scalar("string", "null")
    assert of_json(2**53) == scalar("number")
    assert of_json([]).element() == NOTHING


def test_joining_loses_nothing() -> None:
    one, other = of_json({"a": 1, "b": "x"}), of_json({"a": "y"})

    both = join([one, other])
    assert both.member("a") == (scalar("integer", "string"), True)
    assert both.member("b") == (scalar("string"), False)
    assert join([one, ANY_JSON]).element() == ANY_JSON
    assert join([one, ANY]).element() == ANY
    assert join([Type(frozenset({"set"}), scalar("string")), ANY_JSON]).element() == ANY
    assert join([]) == NOTHING
    assert ANY.only({"array"}).element() == ANY
    assert ANY.only({"string"}) == scalar("string")


@pytest.mark.parametrize(
    "rego",
    [
        "package deputy\nf(x) := f([x])\nr := f(1)\n",
        "package deputy\nf(x) := [g(x)]\ng(x) := f([x])\nr := f(1)\n",
        "package deputy\nr := [r]\n",
    ],
)
def test_a_recursive_policy_ends_the_check(rego: str) -> None:
    """Both engines refuse recursion; the check only has to come back."""
    try:
        _check(rego)
    except PolicyLoadError as error:
        assert str(error)


def test_a_long_chain_of_rules_settles() -> None:
    links = "\n".join(f"r{number} := r{number + 1}" for number in range(150))

    assert _check(f'package deputy\n{links}\nr150 := "a"\nr := startswith(r0, "a")\n') == Portability("rvm")


def test_a_check_that_does_not_settle_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portability, "_MORE_ROUNDS", 0)
    monkeypatch.setattr(portability, "_ROUNDS_A_RULE", 1)

    with pytest.raises(PolicyLoadError, match="do not settle"):
        _check("package deputy\nr := [1]\n")


def test_many_findings_are_told_in_one_bounded_sentence() -> None:
    rules = "\n".join(f"r{number} := lower(input.s)" for number in range(50))

    with pytest.raises(NotPortableError) as caught:
        _check(f"package deputy\n{rules}\n")
    assert len(caught.value.findings) == 50
    assert "and 30 more" in str(caught.value)
    assert "p.rego:2: builtin 'lower'" in str(caught.value)
    assert "run the policy on OPA" in str(caught.value)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    return [path, *(found for key, item in items for found in _paths(item, (*path, key)))]


@pytest.mark.parametrize("junk", [None, 7, "Walrus", [], {}, {"Walrus": {"span": {"line": 1}}}])
def test_a_tree_that_nobody_knows_is_refused_never_believed(junk: object) -> None:
    """Whatever another regorus may write there: our sentence, and no other exception."""
    trees = [tree["ast"] for tree in TREES]
    for path in _paths(trees)[1:]:
        changed = copy.deepcopy(trees)
        place: Any = changed
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = junk
        try:
            check_portability([{"source": TREES[0]["source"], "ast": tree} for tree in changed], {}, {})
        except PolicyLoadError as error:
            assert str(error)
