"""Explanations: the engine's own verdict and words, facts that are true, and ways that were tried."""

import asyncio
import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from authz.codes import Code
from authz.policy.embedded import EmbeddedPolicy
from authz.policy.explain import Explanation, Way, Who, code_of, explain, explain_refusal
from authz.policy.explain_changes import changed, kind_of, sets_to_try, trials
from authz.policy.explain_facts import carried, fact
from authz.policy.explain_question import Question, listing, within
from authz.policy.explain_where import where
from authz.policy.grants import Grants
from authz.policy.modules import Module, Modules, shipped_modules
from authz.policy.schema import problems
from authz.policy.verdict import Reason, Verdict
from identity.canonical import canonical_json, sha256_hex
from tests.policy.corpus import Case, generated_cases, grants, load_cases, question

REGO = Path(__file__).resolve().parent.parent / "authz" / "policy" / "rego"
CASES = [*load_cases(), *generated_cases(7, 150)]
MODULES = shipped_modules()
_ENGINES: dict[bytes, EmbeddedPolicy] = {}

Json = Mapping[str, Any]


def ask(query: Json, data: Json) -> Verdict:
    canonical = canonical_json(data)
    if canonical not in _ENGINES:
        _ENGINES[canonical] = EmbeddedPolicy(MODULES, Grants(canonical, sha256_hex(canonical)))
    return asyncio.run(_ENGINES[canonical].decide(query))


def of(case: Case) -> tuple[Question, Verdict]:
    data: Any = case.data
    return Question(case.query, data["grants"]), ask(case.query, case.data)


def is_readable(case: Case) -> bool:
    return not problems("input", case.query)


READABLE = [case for case in CASES if is_readable(case)]


def demo(who: Json, what: Json) -> tuple[Question, Verdict]:
    query: Any = question(who, what)
    data: Any = grants("demo")
    return Question(query, data["grants"]), ask(query, data)


def helpful(asked: Question, verdict: Verdict) -> list[Way]:
    """The smallest ways that help, as the command finds them."""
    for sets in sets_to_try(trials(asked, verdict)):
        found = []
        for tried in sets:
            other = changed(asked, tried)
            effect = ask(other.query, {"grants": other.grants}).effect
            if effect not in {"deny", verdict.effect}:
                found.append(Way(tuple(trial.change for trial in tried), effect))
        if found:
            return found
    return []


def explained(who: Json, what: Json) -> Explanation:
    asked, verdict = demo(who, what)
    ways = helpful(asked, verdict)
    return explain(asked, verdict, MODULES, shipped=True, ways=ways, policy={"revision": "r"})


REFUND_TOO_MUCH: Json = {"tool": "refund", "args": {"amount": 500}}
LEAD: Json = {
    "human": "lead",
    "agent": "resolver",
    "service": "billing",
    "ceilings": {"resolver": "contributor"},
}


def test_the_corpus_is_large_enough_to_mean_something() -> None:
    assert len(READABLE) > 200
    assert len({reason.rule for case in READABLE for reason in of(case)[1].reasons}) >= 9


def test_every_reason_is_explained_with_place_and_facts() -> None:
    for case in READABLE:
        asked, verdict = of(case)
        found = explain(asked, verdict, MODULES, shipped=True, ways=(), policy={})
        json.dumps(found.to_json())
        for condition in found.conditions:
            assert condition.at is not None, (case.name, condition)
            if verdict.effect != "allow" and condition.code not in {"DPT-DENIED", "DPT-POLICY-SHAPE"}:
                assert condition.wanted, (case.name, condition)
                assert condition.actual, (case.name, condition)


def test_what_the_question_is_read_as_is_what_the_policy_reads() -> None:
    for case in READABLE:
        asked, verdict = of(case)
        codes = {reason.code for reason in verdict.reasons}
        if asked.is_call and asked.listed is not None and verdict.effect != "allow":
            assert (asked.operation is None) == ("DPT-TOOL-UNKNOWN" in codes), case.name
        for reason in verdict.reasons:
            if reason.rule == "human_has":
                assert f" of {asked.extent}, so" in reason.msg, case.name


def test_limits_are_read_as_the_policy_reads_them() -> None:
    for case in READABLE:
        asked, verdict = of(case)
        told = {
            reason.msg
            for reason in verdict.reasons
            if reason.rule == "within" and reason.audience == "operator"
        }
        limits = asked.operation["limits"] if asked.operation else []
        broken = {
            f"the argument {limit['pointer']} must be {limit['text']}"
            for limit in limits
            if limit["kind"] != "matches" and not within(limit, asked.argument(limit["path"]))
        }
        patterns = {
            f"the argument {limit['pointer']} must be {limit['text']}"
            for limit in limits
            if limit["kind"] == "matches"
        }
        if verdict.effect == "deny" and asked.query["phase"] == "check":
            assert told - patterns == broken, case.name


def test_a_way_was_allowed_by_the_engine() -> None:
    found = explained(LEAD, {"tool": "refund", "args": {"amount": 500}})
    (way,) = found.would_allow
    assert way.effect == "allow"
    assert way.changes[0].kind == "argument"
    assert way.changes[0].what == "/amount at least 0 and at most 100, such as 100 in place of 500"


def test_a_missing_argument_is_proposed_within_its_limits() -> None:
    found = explained(LEAD, {"tool": "refund"})
    assert "in place of null" in found.would_allow[0].changes[0].what


def test_a_grant_to_the_persons_group_is_a_way() -> None:
    found = explained({**LEAD, "human": "clerk"}, {"tool": "refund", "args": {"amount": 5}})
    (way,) = found.would_allow
    assert (way.changes[0].kind, way.effect) == ("grant", "allow")
    assert "clerk under humans.groups" in way.changes[0].what
    (condition,) = found.conditions
    assert condition.actual == "group clerk has nothing on billing"


def test_a_person_without_groups_is_granted_by_name() -> None:
    found = explained({**LEAD, "groups": []}, {"tool": "refund", "args": {"amount": 5}})
    assert "https://idp.mesh.example#lead under humans.subjects" in found.would_allow[0].changes[0].what


def test_two_conditions_are_met_by_two_changes() -> None:
    who = {**LEAD, "scopes": ["billing:read"]}
    found = explained(who, {"tool": "refund", "args": {"amount": 500}})
    assert [sorted(change.kind for change in way.changes) for way in found.would_allow] == [
        ["argument", "token"]
    ]


def test_approval_is_named_and_not_claimed() -> None:
    found = explained(LEAD, {"tool": "delete_customer"})
    kinds = {way.changes[0].kind: way.effect for way in found.would_allow}
    assert (found.effect, kinds) == ("approve", {"grant": "allow", "approval": None})


def test_a_chain_is_shown_from_the_person_to_the_presenter() -> None:
    who = {**LEAD, "service": "tickets", "chain": ["resolver", "triage"]}
    found = explained({**who, "ceilings": {"triage": "observer"}}, {"tool": "close_ticket"})
    assert found.who.chain == ("triage", "resolver")
    kinds = {way.changes[0].kind for way in found.would_allow}
    assert kinds == {"token", "grant"}


def test_what_cannot_be_made_up_is_not_tried() -> None:
    found = explained(LEAD, {"tool": "no_such_tool"})
    (way,) = found.would_allow
    assert (way.effect, way.changes[0].kind) == (None, "grant")
    assert found.to_json()["would_allow"][0]["tried"] is False


def test_an_allow_says_what_carried_it() -> None:
    found = explained(LEAD, {"tool": "refund", "args": {"amount": 40}})
    rules = [condition.rule for condition in found.conditions]
    assert rules == [
        "human_has",
        "hop_has",
        "scope_held",
        "arguments_within",
        "arguments_within",
        "binding_strong",
    ]
    assert "/amount is 40, which is at most 100" in [condition.message for condition in found.conditions]
    assert found.would_allow == ()


@pytest.mark.parametrize(
    ("ask_for", "rules"), [("exchange", {"human_has", "hop_has"}), ("task", {"human_known", "agents_known"})]
)
def test_an_allow_of_the_broker_says_what_carried_it(ask_for: str, rules: set[str]) -> None:
    asked, verdict = demo(LEAD, {"ask": ask_for})
    assert verdict.effect == "allow"
    assert {rule for rule, _ in carried(asked)} == rules


def test_nobody_has_nothing() -> None:
    asked, _ = demo({**LEAD, "human": None}, {"tool": "get_invoice"})
    assert asked.sources() == {}


def test_an_autonomous_allow_names_nobody() -> None:
    who = {"human": None, "agent": "nightly-report", "autonomous": True, "service": "tickets"}
    found = explained(who, {"tool": "read_ticket"})
    assert (found.effect, found.who.human) == ("allow", None)
    assert found.conditions[0].rule == "human_named"


def test_of_another_policy_nothing_is_claimed_but_its_own_words() -> None:
    asked, verdict = demo(LEAD, {"tool": "refund", "args": {"amount": 500}})
    found = explain(asked, verdict, MODULES, shipped=False, ways=(), policy={})
    assert {(condition.wanted, condition.actual) for condition in found.conditions} == {(None, None)}
    allowed = explain(asked, Verdict("allow"), MODULES, shipped=False, ways=(), policy={})
    assert [condition.rule for condition in allowed.conditions] == ["decision"]


def test_a_trial_leaves_question_and_grants_as_they_are() -> None:
    asked, verdict = demo({**LEAD, "human": "clerk"}, {"tool": "delete_customer", "binding": "workload"})
    before = copy.deepcopy((dict(asked.query), dict(asked.grants)))
    for trial in trials(asked, verdict):
        changed(asked, (trial,))
    assert (dict(asked.query), dict(asked.grants)) == before


def test_trials_are_few() -> None:
    for case in READABLE:
        asked, verdict = of(case)
        assert sum(len(sets) for sets in sets_to_try(trials(asked, verdict))) <= 40, case.name


def test_an_unlisted_service_is_told_with_those_that_are() -> None:
    found = explained({**LEAD, "service": "wiki"}, {"tool": "read"})
    assert found.code == "DPT-SERVICE-UNKNOWN"
    assert (found.conditions[0].wanted, found.conditions[0].actual) == (
        "wiki under services",
        "there are billing, tickets",
    )


def test_limits_that_no_value_meets_are_not_tried() -> None:
    data: Any = copy.deepcopy(dict(grants("demo")))
    limits = data["grants"]["services"]["billing"]["tools"]["refund"]["limits"]
    limits.append({**limits[0], "kind": "one_of", "value": ["x"], "text": 'one of ["x"]'})
    asked = Question(question(LEAD, {"tool": "refund", "args": {"amount": 5}}), data["grants"])
    verdict = ask(asked.query, data)
    assert verdict.reasons[0].code == "DPT-ARGUMENT-LIMIT"
    assert trials(asked, verdict) == ()


def test_arguments_with_similar_names_are_not_confused() -> None:
    data: Any = copy.deepcopy(dict(grants("demo")))
    limits = data["grants"]["services"]["billing"]["tools"]["refund"]["limits"]
    other = {"pointer": "/amount of", "path": ["arguments", "amount of"], "kind": "max", "value": 1}
    limits.append({**other, "text": "at most 1"})
    asked = Question(
        question(LEAD, {"tool": "refund", "args": {"amount": 5, "amount of": 5}}), data["grants"]
    )
    verdict = ask(asked.query, data)
    facts = [fact(reason, asked) for reason in verdict.reasons]
    assert [found.wanted for found in facts if found] == ["/amount of at most 1"] * 2


def test_a_reason_that_names_no_limit_of_ours_has_no_facts() -> None:
    asked, _ = demo(LEAD, REFUND_TOO_MUCH)
    assert fact(Reason("DPT-ARGUMENT-LIMIT", "another sentence", "within", "fix", "agent"), asked) is None
    assert fact(Reason("DPT-OWN", "no", "a_rule_of_their_own", "fix", "agent"), asked) is None


def test_for_a_limit_that_is_not_ours_nothing_is_tried() -> None:
    asked, _ = demo(LEAD, REFUND_TOO_MUCH)
    reason = Reason("DPT-ARGUMENT-LIMIT", "another policy's words", "within", "f", "agent")
    assert trials(asked, Verdict("deny", (reason,))) == ()


def test_facts_are_short_whatever_the_arguments_hold() -> None:
    asked, verdict = demo(LEAD, {"tool": "refund", "args": {"amount": "x" * 100_000}})
    found = fact(verdict.reasons[0], asked)
    assert found is not None
    assert len(found.actual) < 300


def test_a_code_of_the_policys_own_is_a_matter_of_policy() -> None:
    assert kind_of("DPT-REFUND-FRIDAY") == "policy"
    assert kind_of(Code.TOKEN_EXPIRED.value) == "token"
    assert kind_of(Code.MCP_BATCH.value) == "request"
    assert kind_of(Code.ASKER_UNKNOWN.value) == "config"


def test_a_rule_that_is_not_found_has_no_place() -> None:
    assert where("no_such_rule", MODULES) is None
    assert where("", MODULES) is None
    assert where("a b(", MODULES) is None


def test_the_place_of_a_rule_is_its_definition() -> None:
    found = where("within", MODULES)
    assert found is not None
    name, line = found.split(":")
    assert (REGO / name).read_text("utf-8").splitlines()[int(line) - 1].startswith("within(")


def test_the_deciding_package_comes_first() -> None:
    modules = Modules.of(
        [
            Module("a.rego", "package other\n\nlimit := 1\n"),
            Module("b.rego", "package deputy\n\n\nlimit := 2\n"),
        ]
    )
    assert where("data.deputy.limit", modules) == "b.rego:4"
    assert where("limit", modules) == "b.rego:4"


def test_a_refusal_before_the_policy_is_explained_by_its_code() -> None:
    who = Who(None, (), (), "spiffe://mesh.example/x", None)
    found = explain_refusal("DPT-TOKEN-EXPIRED", "expired at 1", who, {}, {}, ("asked now",))
    assert (found.effect, found.conditions[0].actual) == ("deny", "expired at 1")
    assert found.would_allow[0].changes[0].kind == "token"
    assert found.to_json()["replay"] == {"exact": False, "because": ["asked now"]}


def test_the_shape_is_versioned() -> None:
    found = explained(LEAD, {"tool": "refund", "args": {"amount": 500}}).to_json()
    assert found["version"] == "deputy.explanation/v1"
    assert sorted(found) == [
        "code",
        "conditions",
        "effect",
        "obligations",
        "policy",
        "replay",
        "sentence",
        "version",
        "what",
        "who",
        "would_allow",
    ]
    assert sorted(found["conditions"][0]) == ["actual", "at", "audience", "code", "message", "rule", "wanted"]


def test_a_verdict_without_reasons_has_a_code() -> None:
    assert code_of(Verdict("allow")) == "DPT-ALLOWED"
    own = Verdict("deny", (Reason("DPT-OWN", "no", "r", "f", "agent"),))
    assert code_of(own) == "DPT-OWN"


def test_a_long_list_is_cut() -> None:
    assert listing(f"n{number:02}" for number in range(20)).endswith("and 8 more")
    assert listing([]) == "nothing"


# ---- agents, models, gRPC, and what is sent


FIELDS = '["id", "total", 7, true]'
LEDGER: Json = {"human": "lead", "agent": "admin", "service": "ledger"}


def ledger(what: Json, who: Json = LEDGER) -> Explanation:
    query: Any = question(who, what)
    data: Any = grants("full")
    asked, verdict = Question(query, data["grants"]), ask(query, data)
    return explain(asked, verdict, MODULES, shipped=True, ways=helpful(asked, verdict), policy={})


@pytest.mark.parametrize(
    ("what", "wanted", "actual"),
    [
        (
            {"a2a": "GetTask", "tenant": "globex"},
            'GetTask, for the tenant "globex", under services.ledger.a2a',
            "there is CancelTask, GetTask, SendMessage, SendStreamingMessage, for the tenants acme, ledger",
        ),
        (
            {"model": "gpt-5"},
            '"gpt-5" under services.ledger.models',
            "there is gpt-4o, meta-llama/Llama-3.1-8B",
        ),
        (
            {"grpc": "/ledger.v1.Ledger/Drop"},
            '"/ledger.v1.Ledger/Drop" under services.ledger.grpc',
            "there is /ledger.v1.Ledger/Get, /ledger.v1.Ledger/Put",
        ),
    ],
)
def test_what_is_not_listed_is_told_with_what_is(what: Json, wanted: str, actual: str) -> None:
    (condition,) = ledger(what).conditions
    assert (condition.code, condition.wanted, condition.actual) == ("DPT-TOOL-UNKNOWN", wanted, actual)


def test_data_that_may_not_go_there_are_told_by_their_class() -> None:
    found = ledger({"a2a": "SendMessage", "payload": ["email", "secret"]})
    (condition,) = found.conditions
    assert (condition.wanted, condition.actual) == ("nothing of secret", "found email, secret")
    (way,) = found.would_allow
    assert (way.effect, way.changes[0].kind, way.changes[0].what) == (
        "allow",
        "argument",
        "the same without secret",
    )


def test_an_allow_says_what_was_found_where_there_are_rules() -> None:
    found = ledger({"a2a": "SendMessage", "payload": ["email"]})
    messages = {condition.rule: condition.message for condition in found.conditions}
    assert messages["payload_passes"] == "nothing is sent that may not go there; found email"


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (
            {"order": "ORD-0042", "fields": ["id", "secret"]},
            f'/fields a list of nothing but {FIELDS}, such as ["id"] in place of ["id", "secret"]',
        ),
        (
            {"order": "ORD-0042"},
            f'/fields a list of nothing but {FIELDS}, such as ["id"] in place of null',
        ),
    ],
)
def test_a_list_is_proposed_with_what_may_stay(args: Json, what: str) -> None:
    (way,) = ledger({"tool": "find", "args": args}).would_allow
    assert (way.effect, way.changes[0].what) == ("allow", what)


def test_a_text_that_would_match_is_not_guessed() -> None:
    (way,) = ledger({"tool": "fetch", "args": {"path": "docs/../secret"}}).would_allow
    assert (way.effect, way.changes[0].kind) == (None, "argument")
    (way,) = ledger({"tool": "note", "args": {"text": "re:<b>"}}).would_allow
    assert way.changes[0].what == (
        '/text text that matches "[^<>]{0,50}" and text that begins with "re:", '
        'such as "re:" in place of "re:<b>"'
    )
