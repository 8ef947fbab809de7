"""The shipped policy on the real OPA: the whole corpus, in one process, and what holds of every answer."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from authz.codes import Code
from authz.payload.classes import PAYLOAD_CLASSES
from authz.policy import schema
from authz.policy.grants_service import CLASSES
from authz.policy.verdict import Reason, Verdict
from tests.policy.corpus import Case, facts, generated_cases, load_cases, never, question
from tests.policy.model import expected

ROOT = Path(__file__).resolve().parent.parent
REGO = ROOT / "authz/policy/rego"
GENERATED = 1500

# One process for all cases; data that many cases share are sent once.
_HARNESS = """package harness
answers := [answer |
	some case in input.cases
	answer := data.deputy.decision with input as case.query with data.grants as input.data[case.data].grants
]
"""


def ask_opa(opa: Path, cases: list[Case], directory: Path) -> list[Any]:
    """Let one OPA answer all cases."""
    data: dict[str, Any] = {}
    for case in cases:
        data.setdefault(json.dumps(case.data, sort_keys=True), case.data)
    index = {text: number for number, text in enumerate(data)}
    content = {
        "data": list(data.values()),
        "cases": [
            {"data": index[json.dumps(case.data, sort_keys=True)], "query": case.query} for case in cases
        ],
    }
    harness = directory / "harness.rego"
    harness.write_text(_HARNESS)
    options = ["--strict-builtin-errors", "--format", "raw", "--stdin-input"]
    done = subprocess.run(
        [opa, "eval", *options, "--data", REGO, "--data", harness, "data.harness.answers"],
        input=json.dumps(content),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr + done.stdout[:2000]
    answers: list[Any] = json.loads(done.stdout)
    assert len(answers) == len(cases)
    return answers


@pytest.fixture(scope="module")
def answered(opa_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Case, Any]]:
    cases = [*load_cases(), *generated_cases(20_261_121, GENERATED)]
    return list(zip(cases, ask_opa(opa_binary, cases, tmp_path_factory.mktemp("opa")), strict=True))


def _codes(answer: Any) -> list[str]:
    return [reason["code"] for reason in answer["reasons"]]


def test_gives_the_expected_answer_on_every_case(answered: list[tuple[Case, Any]]) -> None:
    wrong = [
        f"{case.name}: wanted {case.effect} {case.code}, got {answer['effect']} {_codes(answer)}"
        for case, answer in answered
        if answer["effect"] != case.effect or (case.code is not None and _codes(answer)[:1] != [case.code])
    ]
    assert wrong == []


def test_gives_the_expected_reasons_and_obligations(answered: list[tuple[Case, Any]]) -> None:
    for case, answer in answered:
        if case.codes is not None:
            assert _codes(answer) == list(case.codes), case.name
        if case.obligations is not None:
            assert answer["obligations"] == case.obligations, case.name
        if answer["effect"] == "allow":
            assert bool(answer["obligations"]) == (case.query["phase"] == "exchange"), case.name


def test_agrees_with_the_model_on_every_reason_that_comes_first(answered: list[tuple[Case, Any]]) -> None:
    for case, answer in answered:
        assert (answer["effect"], next(iter(_codes(answer)), None)) == expected(case.data, case.query), (
            case.name
        )


def test_the_corpus_is_large_and_two_sided() -> None:
    written, generated = load_cases(), generated_cases(1, 400)
    assert len(written) >= 100
    assert len({case.name for case in written}) == len(written)
    assert {case.code for case in written} >= {
        "DPT-SERVICE-UNKNOWN",
        "DPT-TOOL-UNKNOWN",
        "DPT-HUMAN-REQUIRED",
        "DPT-HUMAN-NOT-GRANTED",
        "DPT-AGENT-NOT-GRANTED",
        "DPT-AGENT-TIER",
        "DPT-CHAIN-NARROWED",
        "DPT-SCOPE-MISSING",
        "DPT-ARGUMENT-LIMIT",
        "DPT-PAYLOAD",
        "DPT-BINDING-WEAK",
        "DPT-APPROVAL-REQUIRED",
    }
    assert sum(case.effect == "allow" for case in generated) > len(generated) // 10


def test_generated_cases_are_the_same_for_the_same_seed() -> None:
    assert generated_cases(7, 40) == generated_cases(7, 40)
    assert generated_cases(7, 40) != generated_cases(8, 40)


def test_every_question_and_every_answer_fits_its_schema(answered: list[tuple[Case, Any]]) -> None:
    for case, answer in answered:
        assert schema.problems("input", case.query) == (), case.name
        assert schema.problems("result", answer) == (), case.name


def test_every_answer_parses(answered: list[tuple[Case, Any]]) -> None:
    for case, answer in answered:
        verdict = Verdict.parse(answer, "a.b")
        assert verdict.effect == case.effect
        assert verdict.effect != "allow" or verdict.reasons == ()


def test_nothing_that_may_never_be_is_allowed(answered: list[tuple[Case, Any]]) -> None:
    matched = dict.fromkeys(range(len(never())), 0)
    for case, answer in answered:
        described = facts(case)
        for number, forbidden in enumerate(never()):
            if all(described[name] == value for name, value in forbidden.items()):
                matched[number] += 1
                assert answer["effect"] == "deny", (case.name, forbidden)
    assert all(matched.values()), "an invariant that no case touches proves nothing"


def test_the_main_reason_is_for_the_agent(answered: list[tuple[Case, Any]]) -> None:
    for case, answer in answered:
        if answer["effect"] != "allow":
            assert answer["reasons"][0]["audience"] == "agent", case.name


def test_an_agent_reads_of_no_tier_no_limit_and_no_other_agent(answered: list[tuple[Case, Any]]) -> None:
    grants = {"lead", "clerk", "reader", "writer", "observer", "contributor", "operator", "cleaner", "asker"}
    for case, answer in answered:
        if case.name.startswith("generated"):
            continue
        query: Any = case.query
        others = {hop["name"] for hop in query["chain"]} - {query["agent"]["name"]}
        for reason in answer["reasons"]:
            # An operator is a tier of these grants, and also who runs Deputy.
            told = f"{reason['msg']} {reason['fix'].replace('an operator', '')}"
            words = set(re.findall(r"[\w-]+", told))
            if reason["audience"] == "agent":
                assert not words & (grants | others | {"100", "1000", "EUR", "CHF"}), (case.name, reason)


def test_every_fix_names_who_can_make_it_and_nothing_of_the_inside(answered: list[tuple[Case, Any]]) -> None:
    who = re.compile(r"\b(an operator|the person|a person|the owner of this one|whoever runs the agent)\b")
    inside = re.compile(
        r"\b(tier|ceiling|rego|data\.grants|input\.|rule|regex|pattern|chain)\b", re.IGNORECASE
    )
    fixes = {
        (reason["code"], reason["fix"])
        for _, answer in answered
        for reason in answer["reasons"]
        if reason["audience"] == "agent"
    }
    assert len({code for code, _ in fixes}) >= 12
    for code, fix in fixes:
        assert who.search(fix), (code, fix)
        assert not inside.search(fix), (code, fix)


def test_a_refusal_never_says_what_was_found_only_of_which_class(answered: list[tuple[Case, Any]]) -> None:
    told = {
        (reason["msg"], reason["fix"])
        for _, answer in answered
        for reason in answer["reasons"]
        if reason["code"] == "DPT-PAYLOAD"
    }
    classes = "|".join(PAYLOAD_CLASSES)
    services = "ledger|alpha|beta|gamma"
    for msg, fix in told:
        assert re.fullmatch(
            rf"what is sent holds data of the class ({classes}), which may not go to ({services})", msg
        )
        assert re.fullmatch(
            rf"leave it out, or an operator changes what may go to ({services}) in grants\.yaml", fix
        )
    assert len(told) > 3


def test_a_word_of_the_callers_stands_in_no_sentence_but_where_the_grants_have_it(
    opa_binary: Path, tmp_path: Path
) -> None:
    """A model or a method of gRPC that is not listed is not named, whatever it is called."""
    who = {"human": "lead", "agent": "admin", "service": "ledger"}
    data = load_cases()[0].data
    asks = [
        {"model": "no-such-model"},
        {"grpc": "/no.Such/Method"},
        {"a2a": "GetTask", "tenant": "no-such-tenant"},
    ]
    cases = [Case(str(ask), data, question(who, ask), "deny") for ask in asks]
    answers = ask_opa(opa_binary, cases, tmp_path)
    assert [answer["reasons"][0]["msg"] for answer in answers] == [
        "this model is not listed for ledger",
        "this method on this path is not listed for ledger",
        "the method GetTask is not listed for ledger",
    ]


def test_every_code_and_every_rule_that_is_named_exists(answered: list[tuple[Case, Any]]) -> None:
    source = "".join(path.read_text() for path in REGO.glob("*.rego") if not path.name.endswith("_test.rego"))
    assert set(re.findall(r'"(DPT-[A-Z-]+)"', source)) <= {code.value for code in Code}
    heads = set(re.findall(r"^([a-z_]+)\b", source, re.MULTILINE))
    for _, answer in answered:
        for reason in answer["reasons"]:
            assert Reason.parse(reason).rule in heads


def test_rego_and_parser_know_the_same_classes() -> None:
    assert f"classes := {json.dumps(CLASSES)}" in (REGO / "decision.rego").read_text()


def test_rego_passes_opa_check_fmt_and_its_own_tests(opa_binary: Path) -> None:
    for arguments in (["check", "--strict"], ["fmt", "--list", "--fail"], ["test"]):
        done = subprocess.run(
            [opa_binary, *arguments, REGO], capture_output=True, text=True, check=False, timeout=100
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.full
def test_agrees_with_the_model_on_many_more_cases(opa_binary: Path, tmp_path: Path) -> None:
    for seed in range(10):
        cases = generated_cases(seed, 2_000)
        for case, answer in zip(cases, ask_opa(opa_binary, cases, tmp_path), strict=True):
            assert (answer["effect"], next(iter(_codes(answer)), None)) == (case.effect, case.code), case.name
