"""The whole corpus and random questions on random grants get one answer: embedded, on OPA, by `opa eval`."""

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from authz.errors import PolicyLoadError
from authz.policy.admission import portability
from authz.policy.embedded import EmbeddedPolicy, engine_version
from authz.policy.lock import PolicyLock
from authz.policy.modules import (
    Module,
    Modules,
    is_about_administration,
    shipped_lock,
    shipped_modules,
)
from authz.policy.names import asked_names, read_visible
from authz.policy.opa_check import Question, Report, check_policy, opa_version
from authz.policy.opa_questions import KINDS
from authz.policy.schema import Name, problems
from authz.policy.verdict import Verdict
from tests.policy.corpus import generated_cases
from tests.policy_corpus import GENERATED, as_grants, corpus
from tests.policy_questions import READ, demo_grants

MODULES = shipped_modules()
# In a module, because `opa eval` 1.22 loses a `with` inside a comprehension of the query itself.
BATCH = """package batch

answers := [decision |
	some asked in input
	decision := answer with input as asked.query with data.grants as asked.grants
]

answer := data.deputy.admin.decision if input.version == "deputy.admin/v1"

answer := data.deputy.visible if input.phase == "visible"

answer := data.deputy.decision if {
	input.version != "deputy.admin/v1"
	input.phase != "visible"
}
"""


@pytest.fixture(scope="module")
def report(opa_binary: Path) -> Report:
    return asyncio.run(check_policy(MODULES, corpus(), opa_binary))


def test_corpus_asks_what_a_call_could_ask() -> None:
    asked = corpus()

    assert len(asked) > GENERATED + 600
    about = [(question, _form(question)) for question in asked]
    assert [question.name for question, form in about if problems(form, question.query)] == []
    assert {form for _, form in about} == {"input", "admin"}


def _form(question: Question) -> Name:
    return "admin" if is_about_administration(question.query) else "input"


def test_every_question_has_one_answer_embedded_and_on_opa(report: Report) -> None:
    assert report.disagreements == ()
    assert report.cases == len(corpus())


@pytest.mark.full
def test_the_corpus_tells_effects_apart() -> None:
    """Else the test above could pass with a policy that always says the same."""
    effects = Counter(_verdict(question).effect for question in corpus() if not _is_of_a_list(question))

    assert set(effects) == {"allow", "approve", "deny"}
    assert min(effects.values()) > 15


def test_the_corpus_tells_lists_apart() -> None:
    """Some are shown whole, some in part, of some nothing, each kind for somebody."""
    parts: Counter[tuple[str, str]] = Counter()
    for question in filter(_is_of_a_list, corpus()):
        asked: Any = question.query["resource"]
        shown = _answered(question)
        assert isinstance(shown, frozenset)
        part = "nothing" if not shown else "some" if len(shown) < len(asked["names"]) else "all"
        parts[asked["type"], part] += 1

    assert {kind for kind, _ in parts} == set(KINDS)
    for kind in KINDS:
        # A method has one class, whatever it is called with; a tool and a model have each their own.
        part = "some" if kind in {"tool", "model"} else "all"
        assert min(parts[kind, part], parts[kind, "nothing"]) > 2, (kind, parts)


def test_the_corpus_tells_the_reasons_of_administration_apart() -> None:
    answers = [_verdict(question) for question in corpus() if _form(question) == "admin"]
    effects = Counter(answer.effect for answer in answers)
    rules = Counter((reason.rule, reason.msg) for answer in answers for reason in answer.reasons)

    assert set(effects) == {"allow", "deny"}
    assert min(effects.values()) > 500
    assert {rule for rule, _ in rules} == {
        "approves_own",
        "approves_unseen",
        "is_self",
        "owner_may",
        "permitted",
        "raises_own",
        "releases_own",
        "understood",
    }


@pytest.mark.full
def test_every_question_has_the_same_answer_by_opa_eval(opa_binary: Path, tmp_path: Path) -> None:
    """One process for all: each question brings its own grants along."""
    asked = [
        question for question in corpus() if question.name.startswith(("generated", "seed", "administration"))
    ]
    policy, told = tmp_path / "policy", tmp_path / "input.json"
    policy.mkdir()
    for module in MODULES.modules:
        (policy / module.name).write_text(module.text, "utf-8")
    cases = [{"grants": question.grants.data["grants"], "query": dict(question.query)} for question in asked]
    told.write_text(json.dumps(cases))
    (policy / "batch.rego").write_text(BATCH, "utf-8")
    options = ["--strict-builtin-errors", "--format=json", f"--data={policy}", f"--input={told}"]
    command = [str(opa_binary), "eval", *options, "data.batch.answers"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=100)
    (result,) = json.loads(done.stdout)["result"]
    answers = result["expressions"][0]["value"]

    assert len(answers) == len(asked)
    for question, answer in zip(asked, answers, strict=True):
        assert _read(answer, question) == _answered(question), question.name


def _read(answer: object, question: Question) -> object:
    if _is_of_a_list(question):
        return read_visible(answer, asked_names(question.query))
    return Verdict.parse(answer, _embedded(question).revision)


def _is_of_a_list(question: Question) -> bool:
    return question.query.get("phase") == "visible"


def _answered(question: Question) -> Verdict | frozenset[str]:
    if _is_of_a_list(question):
        return asyncio.run(_embedded(question).visible(question.query))
    return _verdict(question)


def _verdict(question: Question) -> Verdict:
    return asyncio.run(_embedded(question).decide(question.query))


def _embedded(question: Question) -> EmbeddedPolicy:
    digest = question.grants.digest
    if digest not in _POLICIES:
        runtime = portability(MODULES, question.grants).runtime
        _POLICIES[digest] = EmbeddedPolicy(MODULES, question.grants, runtime)
    return _POLICIES[digest]


_POLICIES: dict[str, EmbeddedPolicy] = {}


def test_the_lock_of_the_shipped_policy_is_current(report: Report) -> None:
    """If it is not: `make policy-lock`."""
    data = shipped_lock()

    assert data is not None
    assert PolicyLock.parse(data) == report.lock()


def test_a_report_names_what_the_lock_is_about(report: Report, opa_binary: Path) -> None:
    assert report.policy == MODULES.digest
    assert (report.regorus, report.opa) == (engine_version(), opa_version(opa_binary))
    assert report.runtimes == ("rvm",)


@pytest.mark.full
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("seed", range(100, 110))
def test_many_generated_questions_have_one_answer(seed: int, opa_binary: Path) -> None:
    cases = generated_cases(seed, 2_000)
    asked = [Question(case.name, as_grants(case.data), case.query) for case in cases]

    assert asyncio.run(check_policy(MODULES, asked, opa_binary)).disagreements == ()


# ---- what the comparison finds


def _asked(query: Mapping[str, object] = READ) -> list[Question]:
    return [Question("the question", demo_grants(), query)]


def _policy(text: str) -> Modules:
    return Modules.of([Module("p.rego", f"package deputy\n{text}\n")])


def test_a_disagreement_is_found_and_gives_no_lock(opa_binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the walk keeps out is let in here, to see that the comparison would find it, too."""
    allow = 'decision := {"effect": "allow", "reasons": [], "obligations": {}}'
    wrong = _policy(f"{allow} if not input.task.id in input.none")
    with pytest.raises(PolicyLoadError, match="'not' over something"):
        asyncio.run(check_policy(wrong, _asked(), opa_binary))
    monkeypatch.setattr("authz.policy.opa_check.portability", lambda *_: portability(MODULES, demo_grants()))

    found = asyncio.run(check_policy(wrong, _asked(), opa_binary))

    (disagreement,) = found.disagreements
    assert disagreement.opa == "a failure"
    assert "effect='allow'" in disagreement.embedded
    with pytest.raises(PolicyLoadError, match="disagree on 1 of 1 questions, first on the question: emb"):
        found.lock()


def test_two_failures_are_one_answer(opa_binary: Path) -> None:
    undefined = _policy('decision := {"effect": "allow"} if input.phase == "never"')

    assert asyncio.run(check_policy(undefined, _asked(), opa_binary)).disagreements == ()


def test_nothing_asked_proves_nothing(opa_binary: Path) -> None:
    with pytest.raises(PolicyLoadError, match="nothing was asked"):
        asyncio.run(check_policy(MODULES, [], opa_binary)).lock()


@pytest.mark.parametrize("script", [None, "#!/bin/sh\nexit 1\n", "#!/bin/sh\necho 'Version 1'\n"])
def test_a_binary_that_is_no_opa_is_said(script: str | None, tmp_path: Path) -> None:
    binary = tmp_path / "opa"
    if script is not None:
        binary.write_text(script)
        binary.chmod(0o700)
    with pytest.raises(PolicyLoadError, match="is no OPA"):
        opa_version(binary)
