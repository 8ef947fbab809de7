"""Each vendor's token is told by its claims, and mapped to our words or refused with the rule.

The vectors hold the claims as the vendors document them, with the page in `source`.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from identity.dialect import ABOUT, Dialect, detect
from identity.dialect_actors import read_actors
from identity.dialect_caller import NormalisedCaller, judge_token
from identity.dialect_findings import Finding, Judged

VECTORS = Path(__file__).parent / "vectors" / "dialects"
HEADER = {"alg": "ES256", "kid": "k1"}


def judge(
    claims: Any, typ: str = "at+jwt", now: int | None = None
) -> tuple[Dialect, NormalisedCaller | None, tuple[Finding, ...]]:
    """Judge claims as those of a token of that type, ten seconds after it was issued."""
    at = (
        now
        if now is not None
        else claims.get("iat", claims.get("nbf", claims.get("exp", 1_750_000_000))) + 10
    )
    actors = read_actors(claims)
    dialect = detect(typ.lower(), claims, actors)
    moment = datetime.fromtimestamp(at, UTC)
    return dialect, *judge_token(Judged(typ.lower(), HEADER | {"typ": typ}, claims, dialect, actors, moment))


def vectors() -> Iterator[Any]:
    for path in sorted(VECTORS.glob("*.json")):
        for case in json.loads(path.read_text("utf-8"))["cases"]:
            yield pytest.param(case, id=f"{path.stem}: {case['comment']}")


@pytest.mark.parametrize("case", list(vectors()))
def test_a_documented_token_is_read_as_its_vendor_means_it(case: Any) -> None:
    dialect, caller, findings = judge(case["claims"], case["typ"])
    expect = case["expect"]
    errors = [finding.rule for finding in findings if finding.severity == "error"]
    warned = {finding.rule for finding in findings if finding.severity == "warning"}
    assert dialect == expect["dialect"]
    assert next(iter(errors), None) == expect["refused"]
    assert set(expect["warns"]) <= warned
    if expect["refused"] is not None:
        assert caller is None
        return
    assert caller is not None
    assert (caller.human and [caller.human.issuer, caller.human.subject]) == expect["human"]
    assert [[one.iss, one.sub, one.instance] for one in caller.chain] == expect["chain"]
    assert caller.presenter == caller.chain[0]
    assert (caller.audience, sorted(caller.scopes)) == (expect["audience"], expect["scopes"])
    assert caller.expires_at == case["claims"]["exp"]


def test_every_vector_names_where_it_is_documented() -> None:
    files = sorted(VECTORS.glob("*.json"))
    assert len(files) >= 9
    for path in files:
        document = json.loads(path.read_text("utf-8"))
        assert document["source"].startswith("https://"), path.name
        assert document["comment"], path.name


def test_every_dialect_but_our_own_has_a_vector() -> None:
    seen = {
        case["expect"]["dialect"]
        for path in VECTORS.glob("*.json")
        for case in json.loads(path.read_text("utf-8"))["cases"]
    }
    assert seen == {dialect.value for dialect in Dialect} - {"deputy"}


def test_every_dialect_says_what_it_is_and_where_that_is_written() -> None:
    assert ABOUT.keys() == set(Dialect)
    page = (Path(__file__).parent.parent / "docs" / "reference" / "dialects.md").read_text("utf-8")
    for dialect, about in ABOUT.items():
        assert about.title, dialect
        assert about.source, dialect
        assert f"| `{dialect.value}` |" in page, f"{dialect} is not in docs/reference/dialects.md"
