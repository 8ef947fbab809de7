"""The JSON Schemas: they load, they say where something does not fit, and never what it was."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from authz.errors import PolicyLoadError
from authz.policy import schema
from tests.policy.corpus import load_cases

SCHEMAS = Path(schema.__file__).parent / "schemas"
DOCS = Path(__file__).resolve().parent.parent / "docs/reference"


def test_every_schema_file_is_known_and_loads() -> None:
    assert sorted(path.stem for path in SCHEMAS.iterdir()) == sorted(get_args(schema.Name))
    for name in get_args(schema.Name):
        assert schema.schema(name)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_a_missing_schema_is_an_error_at_load() -> None:
    with pytest.raises(PolicyLoadError, match="cannot be used"):
        schema.schema("no-such")  # type: ignore[arg-type]  # what is tested


def test_every_member_of_a_question_is_required_and_no_other_is_known() -> None:
    query = dict(load_cases()[0].query)
    assert schema.problems("input", query) == ()
    for name in query:
        assert schema.problems("input", {key: query[key] for key in query if key != name}) == (
            f"$: lacks {name}",
        )
    assert "has unknown members" in schema.problems("input", {**query, "now": 1})[0]


def test_a_problem_names_the_place_and_not_the_value() -> None:
    query = {**load_cases()[0].query, "binding": "secret-value", "arguments": ["secret-value"]}
    problems = schema.problems("input", query)
    assert len(problems) == 2
    assert "secret-value" not in json.dumps(problems)
    assert problems[0] == '$.arguments: must fit type ["object", "null"]'


def _members(value: object) -> set[str]:
    """Return the names of all properties of a schema, at any depth."""
    if isinstance(value, list):
        return set().union(*map(_members, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    named = value.get("properties", {})
    return set(named).union(*(_members(inner) for inner in value.values()))


@pytest.mark.parametrize(
    ("name", "page"),
    [("input", "policy-input"), ("result", "policy-input"), ("admin", "policy-input"), ("grants", "grants")],
)
def test_every_member_is_described_in_the_reference(name: schema.Name, page: str) -> None:
    text = re.sub("```.*?```", "", (DOCS / f"{page}.md").read_text("utf-8"), flags=re.DOTALL)
    described = set(re.findall(r"[A-Za-z0-9_]+", " ".join(re.findall(r"`[^`]+`", text))))
    assert _members(schema.schema(name)) - described == set()
