"""What the portability check admits means the same embedded as on a real OPA; the rest is refused by name.

- tests/vectors/rego_constructs holds one construct a case. Expected values stand nowhere: the real OPA gives
  them, with strict builtin errors, for every input.
- Random programs combine the same constructs in every way; those that are admitted are asked, too.
"""

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from authz.errors import CodedError, PolicyLoadError, PolicyShapeError
from authz.policy.embedded import EmbeddedPolicy, syntax_trees
from authz.policy.grants import Grants
from authz.policy.modules import Module, Modules
from authz.policy.portability import NotPortableError, Portability, check_portability
from authz.policy.portability_builtins import BUILTINS
from identity.canonical import canonical_json, sha256_hex
from tests.real_opa import RealOpa
from tests.rego_programs import DATA, SCHEMA, Programs

VECTORS = Path(__file__).parent / "vectors" / "rego_constructs"
POOL = json.loads((VECTORS / "inputs.json").read_text("utf-8"))
UNDEFINED, ERROR = object(), object()
Json = Any  # what vectors hold; the tests are the check


@dataclass(frozen=True, slots=True)
class Construct:
    """One case: the Rego below the package line, and what the check must say of it."""

    name: str
    rego: str
    expect: str
    because: list[tuple[int, str]]


def _constructs() -> Iterator[Construct]:
    for path in sorted(VECTORS.glob("*.json")):
        for case in json.loads(path.read_text("utf-8")).get("cases", []):
            because = [(line, construct) for line, construct in case.get("because", [])]
            rego = "\n".join(["package deputy", *case["rego"], ""])
            yield Construct(f"{path.stem}: {case['construct']}", rego, case["expect"], because)


CONSTRUCTS = list(_constructs())
ADMITTED = [case for case in CONSTRUCTS if case.expect in {"rvm", "engine"}]
REFUSED = [case for case in CONSTRUCTS if case.expect == "refused"]


def _modules(rego: str) -> Modules:
    # The engine is asked for data.deputy.decision; the cases call it r.
    return Modules.of([Module("c.rego", rego), Module("d.rego", "package deputy\ndecision := r\n")])


def _check(rego: str, data: Json, schema: Json) -> Portability:
    return check_portability(syntax_trees(Modules.of([Module("c.rego", rego)])), data, schema)


def _embedded(rego: str, data: Json, runtime: Json) -> EmbeddedPolicy:
    canonical = canonical_json(data)
    return EmbeddedPolicy(_modules(rego), Grants(canonical, sha256_hex(canonical)), runtime)


def _ask(policy: EmbeddedPolicy, query: Json) -> object:
    try:
        return policy.evaluate(query)
    except PolicyShapeError:
        return UNDEFINED
    except CodedError:
        return ERROR


def _on_opa(opa: RealOpa, query: Json) -> object:
    status, answer = opa.ask("deputy/r", query)
    if status != 200:
        return ERROR
    return answer.get("result", UNDEFINED)


def _differences(
    opa: RealOpa, policy: EmbeddedPolicy, queries: list[Json]
) -> list[tuple[Json, object, object]]:
    answers = [(query, _on_opa(opa, query), _ask(policy, query)) for query in queries]
    return [(query, there, here) for query, there, here in answers if not _is_same(there, here)]


def _is_same(one: object, other: object) -> bool:
    """Compare JSON values; Python holds True for 1, and JSON does not."""
    match one, other:
        case (list(), list()):
            return len(one) == len(other) and all(map(_is_same, one, other))
        case (dict(), dict()):
            return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
        case _:
            return isinstance(one, bool) == isinstance(other, bool) and one == other


@pytest.fixture(scope="module")
def opa(opa_binary: Path) -> Iterator[RealOpa]:
    with RealOpa.start(opa_binary) as running:
        yield running


def test_vectors_cover_what_the_design_names() -> None:
    assert len(CONSTRUCTS) > 400
    assert len({case.name for case in CONSTRUCTS}) == len(CONSTRUCTS)
    assert min(len(ADMITTED), len(REFUSED)) > 200


@pytest.mark.parametrize("name", [*BUILTINS, "sprintf"])
def test_each_admitted_builtin_is_proven_by_a_vector(name: str) -> None:
    assert any(f"{name}(" in case.rego for case in ADMITTED)


@pytest.mark.parametrize("case", CONSTRUCTS, ids=lambda case: case.name)
def test_says_what_the_construct_can_run_on(case: Construct) -> None:
    if case.expect == "unreadable":
        with pytest.raises(PolicyLoadError, match=r"cannot read the policy: .*c\.rego:[0-9]+"):
            _check(case.rego, POOL["data"], POOL["schema"])
        return
    if case.expect == "refused":
        with pytest.raises(NotPortableError) as caught:
            _check(case.rego, POOL["data"], POOL["schema"])
        found = [(finding.line, finding.construct) for finding in caught.value.findings]
        assert found == case.because
        assert all(f"c.rego:{line}: {construct}" in str(caught.value) for line, construct in found)
        return
    found_here = _check(case.rego, POOL["data"], POOL["schema"])
    reasons = [(reason.line, reason.construct) for reason in found_here.reasons]
    assert (found_here.runtime, reasons) == (case.expect, case.because)


@pytest.mark.parametrize("case", ADMITTED, ids=lambda case: case.name)
def test_admitted_construct_gives_the_answer_of_opa(case: Construct, opa: RealOpa) -> None:
    opa.load("c.rego", case.rego, POOL["data"])

    assert _differences(opa, _embedded(case.rego, POOL["data"], case.expect), POOL["inputs"]) == []


def test_simple_patterns_match_alike(opa: RealOpa) -> None:
    choose = random.Random(20261121)
    atoms = [
        "a",
        "B",
        "7",
        "_",
        "é"[:0],
        "-",
        "/",
        "\\.",
        "\\$",
        "[a-z]",
        "[^a-z]",
        "[A-Z0-9-]",
        "[_./:@]",
        "[^0-9a]",
    ]
    counts = ["", "", "", "*", "+", "?", "{2}", "{0}", "{12}"]
    patterns = [
        choose.choice(["", "^"])
        + "".join(choose.choice(atoms) + choose.choice(counts) for _ in range(choose.randrange(1, 5)))
        + choose.choice(["", "$"])
        for _ in range(300)
    ]
    patterns = [item for item in patterns if not re.search(r"(^|\^)[*+?{]|[*+?}][*+?{]", item)]
    calls = ", ".join(f"regex.match(`{item}`, input.s)" for item in patterns[:60])
    letters = "aBz7_-/.$@é\n \u017f\u212a"
    texts = ["".join(choose.choice(letters) for _ in range(choose.randrange(14))) for _ in range(150)]
    rego = f"package deputy\nr := [{calls}]\n".replace(", regex", ",\n  regex")

    assert _check(rego, {}, POOL["schema"]).runtime == "rvm"
    assert opa.load("c.rego", rego, {})
    assert _differences(opa, _embedded(rego, {}, "rvm"), [{"s": text, "l": []} for text in texts]) == []


def _random_programs(opa: RealOpa, seeds: range, runtime: str) -> None:
    asked = 0
    for seed in seeds:
        programs = Programs(seed)

        def admits(rego: str) -> bool:
            try:
                return _check(rego, DATA, SCHEMA).runtime in {"rvm", runtime}
            except PolicyLoadError:
                return False

        rego = programs.module(admits)
        if rego is None or not opa.load("c.rego", rego, DATA):
            continue  # OPA's compiler finds more than we do; what it refuses never runs
        found = _check(rego, DATA, SCHEMA).runtime
        assert (_differences(opa, _embedded(rego, DATA, found), programs.inputs(15)), rego) == ([], rego)
        asked += 1
    assert asked > len(seeds) / 4


@pytest.mark.parametrize(("runtime", "first"), [("rvm", 0), ("rvm", 1_000), ("engine", 2_000)])
def test_random_programs_that_are_admitted_give_the_answers_of_opa(
    runtime: str, first: int, opa: RealOpa
) -> None:
    _random_programs(opa, range(first, first + 25), runtime)


@pytest.mark.full
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize(("runtime", "first"), [("rvm", 10_000), ("engine", 20_000)])
def test_many_random_programs_that_are_admitted_give_the_answers_of_opa(
    runtime: str, first: int, opa: RealOpa
) -> None:
    _random_programs(opa, range(first, first + 1_500), runtime)
