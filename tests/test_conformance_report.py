"""The checklist, its selection and its report, whose forms no answer of a hostile server can break."""

import json
import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.conformance.case import Case, failed, nothing, passed, skipped
from authz.conformance.checklist import CHECKLIST, select
from authz.conformance.judge import granted_scopes, of_claims, refused
from authz.conformance.login import (
    AssertionLogin,
    CertificateLogin,
    SecretLogin,
    SignedLogin,
    login_fields,
    login_headers,
)
from authz.conformance.message import Answer, Request, wire
from authz.conformance.report import VERSION, Report, Result
from authz.conformance.rules import NOT_OBSERVABLE, PARTLY, RULES
from authz.conformance.signer import own_signer
from authz.conformance.situation import ACCESS_TOKEN, Presented, Profile, Situation, endpoint_url
from authz.conformance.token import Jwt, actors
from authz.errors import ConfigError
from tests.conformance_inputs import inputs, worlds
from tests.conformance_tokens import ISSUER, NOW, TICKETS, jwt, subject_token
from tests.docs.blocks import ROOT
from tests.test_rules_are_named import IDS_OF_TOKENS

SECRET = "a-secret-that-no-report-shows"


def answer(status: int = 200, members: object = None, **headers: str) -> Answer:
    return Answer.of(status, {"Content-Type": "application/json", **headers}, json.dumps(members).encode())


def situation(good: Answer | None = None, **fields: Any) -> Situation:
    first = good or answer(
        members={"access_token": subject_token("agent-a"), "issued_token_type": ACCESS_TOKEN}
    )
    return replace(Situation(inputs(), Profile.DEPUTY, NOW, (first, first)), **fields)


def judged(case_id: str, *answers: Answer, **fields: Any) -> tuple[str, str]:
    (case,) = [each for each in CHECKLIST if each.id == case_id]
    verdict = case.judge(situation(**fields), answers)
    return verdict.outcome, verdict.got


# ---------------------------------------------------------------- the checklist


def test_no_two_cases_have_one_name() -> None:
    assert len({case.id for case in CHECKLIST}) == len(CHECKLIST) > 100


def test_a_rule_a_group_and_a_case_select() -> None:
    assert {case.rule for case in select(["tx-06"], ())} == {"TX-06"}
    assert {case.rule.partition("-")[0] for case in select(["TX", "CL"], ())} == {"TX", "CL"}
    assert [case.id for case in select(["TX-06/garbage"], ())] == ["TX-06/garbage"]
    assert "JW" not in {case.rule.partition("-")[0] for case in select((), ["JW"])}


@pytest.mark.parametrize(("only", "skip"), [(["TX-99"], []), ([], ["nothing"]), (["TX"], ["TX"]), ([""], [])])
def test_a_selection_of_nothing_is_refused(only: list[str], skip: list[str]) -> None:
    with pytest.raises(ConfigError):
        select(only, skip)


def test_every_case_says_what_is_sent_and_expected() -> None:
    for case in CHECKLIST:
        assert case.title, case.id
        assert case.expected, case.id
        assert case.name == case.name.lower(), case.id


# ---------------------------------------------------------------- the report


def report_of(*results: Result, problem: str | None = None) -> Report:
    return Report("https://as.example/token", Profile.RFC8693, results, problem)


def of_each_kind() -> Report:
    plain = Case("TX-06", "garbage", "a <subject> token", "400 & no more", nothing, refused())
    ours = replace(plain, name="ours", must=frozenset({Profile.DEPUTY}))
    return report_of(
        Result.of(plain, passed("400 invalid_request"), Profile.RFC8693),
        Result.of(plain, failed("200 with a token\x00\x1b[31m"), Profile.RFC8693),
        Result.of(ours, failed("no jti"), Profile.RFC8693),
        Result.of(plain, skipped("needs --wider-scope"), Profile.RFC8693),
    )


def test_a_broken_should_is_a_warning_and_no_finding() -> None:
    report = of_each_kind()

    assert dict(report.counts) == {"pass": 1, "fail": 1, "warning": 1, "skip": 1}
    assert report.has_findings
    assert not report_of(report.results[0], report.results[2], report.results[3]).has_findings
    assert report.summary() == "1 passed, 1 failed, 1 with a warning, 1 skipped (profile rfc8693)"


def test_the_shape_of_the_json() -> None:
    document = json.loads(json.dumps(of_each_kind().document()))

    members = {"version", "token_endpoint", "profile", "problem", "summary", "results", "rules"}
    assert set(document) == members
    assert document["version"] == VERSION == "deputy.conformance-report/v1"
    assert document["summary"] == {"pass": 1, "fail": 1, "warning": 1, "skip": 1}
    assert document["results"][2] == {
        "status": "warning",
        "rule": "TX-06",
        "case": "ours",
        "level": "should",
        "sent": "a <subject> token",
        "expected": "400 & no more",
        "got": "no jti",
    }


def test_the_shape_of_junit() -> None:
    suite = ET.fromstring(of_each_kind().junit())

    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": str(4 + len(NOT_OBSERVABLE)),
        "failures": "1",
        "errors": "0",
        "skipped": str(1 + len(NOT_OBSERVABLE)),
    }
    good, bad, warned, left_out, *unseen = suite.findall("testcase")
    assert [case.get("classname") for case in unseen] == list(NOT_OBSERVABLE)
    assert (good.get("classname"), list(good)) == ("TX-06", [])
    failure = bad.find("failure")
    assert failure is not None
    assert failure.get("message") == "expected: 400 & no more; got: 200 with a token??[31m"
    assert warned.findtext("system-out") == "warning: expected: 400 & no more; got: no jti"
    missing = left_out.find("skipped")
    assert missing is not None
    assert missing.get("message") == "needs --wider-scope"


def test_a_run_that_does_not_count_is_an_error_of_junit() -> None:
    suite = ET.fromstring(report_of(problem="refused by now").junit())

    assert suite.get("errors") == "1"
    assert suite.find("testcase/error") is not None


# ---------------------------------------------------------------- logins and the wire


def test_each_login_is_sent_in_its_own_place() -> None:
    own = Request((("grant_type", "x"),), SecretLogin("a b", "c:d&e"))
    post = Request((), SecretLogin("a", "b c", "post"))
    signed = Request((), AssertionLogin("x.y.z", "urn:t", "a"))
    shown = Request((), CertificateLogin("own", "o" * 43, "a"))
    signs = Request((), SignedLogin("a", own_signer(), "https://as.example"))

    assert dict(wire(own).headers)["Authorization"] == "Basic YStiOmMlM0FkJTI2ZQ=="
    assert wire(post).body == b"client_id=a&client_secret=b+c"
    assert wire(signed).body == b"client_assertion=x.y.z&client_assertion_type=urn%3At&client_id=a"
    assert wire(shown).body == wire(signs).body == b"client_id=a"
    assert login_fields(CertificateLogin("own", "o" * 43)) == login_headers(None) == ()
    assert login_fields(AssertionLogin("x", None)) == (("client_assertion", "x"),)


def test_no_secret_and_no_token_is_in_a_repr() -> None:
    given = inputs(SecretLogin("a", SECRET), subject=Presented(SECRET, ACCESS_TOKEN))
    shown = repr([given, given.good, wire(given.good), AssertionLogin(SECRET, None), answer(members=SECRET)])

    assert SECRET not in shown


def test_a_login_goes_to_the_host_of_the_token_endpoint_only() -> None:
    document = {"introspection_endpoint": "https://as.example/introspect", "revocation_endpoint": "http://["}

    assert (
        endpoint_url("https://as.example/token", document, "introspection") == "https://as.example/introspect"
    )
    assert endpoint_url("https://as.example:8443/token", document, "introspection") is None
    assert endpoint_url("http://as.example/token", document, "introspection") is None
    assert endpoint_url("https://as.example/token", document, "revocation") is None
    assert endpoint_url("https://as.example/token", {"introspection_endpoint": 7}, "introspection") is None


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize(
    "text", ["", "a.b", "a.b.c", "e30.e30", "é.e30.x", "bm8.e30.", "W10.e30.", "e30.W10."]
)
def test_what_is_no_jwt_is_opaque(text: str) -> None:
    assert Jwt.read(text) is None


def test_a_chain_is_read_without_recursion_and_whatever_it_holds() -> None:
    deep: dict[str, object] = {}
    for _ in range(20_000):
        deep = {"sub": "a", "act": deep}

    assert len(actors({"act": deep})) == 20_001
    assert actors({"act": "alice"}) == ()


@pytest.mark.parametrize("error", ["", 'a"b', "x" * 65, "line\nbreak", 7, None, ["invalid_request"]])
def test_an_error_that_oauth_does_not_know_is_none(error: object) -> None:
    assert answer(400, {"error": error}).got == "400 without an OAuth error"


def test_a_status_of_5xx_a_redirect_and_silence_are_no_refusals() -> None:
    judge = refused("invalid_request")
    refusals = [
        answer(500, {"error": "invalid_request"}),
        answer(302),
        Answer.missing("late"),
        Answer.missing("long"),
    ]

    assert judge(situation(), [answer(400, {"error": "invalid_request"})]).outcome == "pass"
    for each in refusals:
        assert judge(situation(), [each]).outcome == "fail"


def test_a_refusal_that_carries_a_token_is_none() -> None:
    both = answer(400, {"error": "invalid_request", "access_token": "x"})

    assert refused()(situation(), [both]).outcome == "fail"


def test_a_scope_that_is_absent_is_the_one_that_was_requested() -> None:
    opaque = answer(members={"access_token": "x"})

    assert granted_scopes(opaque, "a b") == {"a", "b"}
    assert granted_scopes(answer(members={"access_token": "x", "scope": ["a"]}), "a b") == {"a"}


def test_an_opaque_token_is_skipped_where_its_claims_count() -> None:
    opaque = answer(members={"access_token": "opaque"})

    assert of_claims(lambda *_: None)(situation(opaque), ()).outcome == "skip"


# ---------------------------------------------------------------- a server may answer anything

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
ANSWERED = ("access_token", "error", "scope", "expires_in", "issued_token_type", "token_type", "active")
PUBLISHED = ("issuer", "jwks_uri", "keys", "grant_types_supported", "x_endpoint")
METHODS = "token_endpoint_auth_methods_supported"
NAMES = st.sampled_from((*ANSWERED, *PUBLISHED, METHODS))
ABOUT = ("iss", "sub", "aud", "act", "cnf", "exp", "iat", "nbf", "jti", "txn", "scope", "client_id", "azp")
CLAIM = st.sampled_from(ABOUT)
WORLDS = list(worlds().values())


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    members = draw(st.dictionaries(NAMES, JSON, max_size=5))
    if draw(st.booleans()):
        claims: dict[str, Any] = draw(st.dictionaries(CLAIM, JSON, max_size=6))
        members["access_token"] = jwt(**claims)
    return answer(draw(st.sampled_from([200, 400, 401, 500])), members)


@given(st.data())
def test_any_answer_gets_a_verdict_that_is_fit_for_a_report(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(CHECKLIST))
    profile = data.draw(st.sampled_from(Profile))
    two = (data.draw(answers()), data.draw(answers()))
    held = Situation(
        data.draw(st.sampled_from(WORLDS)), profile, NOW, two, data.draw(answers()), data.draw(answers())
    )
    if case.lacks(held) is not None:
        return
    sent = case.send(held)
    for request in sent:
        wire(request)
    if sent or case.send is nothing:
        given_first = [data.draw(answers()) for _ in sent]
        # As the runner does it: a second stage is asked for by what the first was answered with.
        more = case.follow(held, given_first) if case.follow is not None else ()
        verdict = case.judge(held, [*given_first, *(data.draw(answers()) for _ in more)])
        result = Result.of(case, verdict, profile)
        ET.fromstring(Report(f"{ISSUER}/token", profile, (result,)).junit())
        json.dumps(result.row())
        assert len(verdict.got) < 1000


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer(body: bytes) -> None:
    assert Answer.of(200, {}, body).got
    assert TICKETS not in Answer.of(200, {}, body).got


# ---------------------------------------------------------------- no rule is forgotten


def test_every_rule_has_a_case_or_a_reason_why_nobody_can_see_it() -> None:
    seen = {case.rule for case in CHECKLIST}

    assert list(RULES) == IDS_OF_TOKENS
    assert seen | NOT_OBSERVABLE.keys() == set(RULES)
    assert not seen & NOT_OBSERVABLE.keys()
    assert PARTLY.keys() <= seen


def test_a_report_says_something_of_every_rule() -> None:
    rows = {str(row["rule"]): row for row in of_each_kind().rules()}

    assert list(rows) == IDS_OF_TOKENS
    assert rows["TX-06"] == {
        "rule": "TX-06",
        "title": "the names of errors",
        "status": "fail",
        "cases": 4,
        "unseen": None,
    }
    assert (rows["JW-08"]["status"], rows["JW-08"]["unseen"]) == ("not observable", NOT_OBSERVABLE["JW-08"])
    assert (rows["NR-05"]["status"], rows["NR-05"]["unseen"]) == ("not run", PARTLY["NR-05"])
    text = of_each_kind().unseen()
    assert all(f"{rule} ({RULES[rule]}) is not observable from outside" in text for rule in NOT_OBSERVABLE)
    assert "Not run: TX-01," in text


def test_a_report_of_all_rules_leaves_none_out() -> None:
    results = tuple(Result.of(case, passed("as expected"), Profile.DEPUTY) for case in CHECKLIST)
    report = report_of(*results)

    assert "Not run" not in report.unseen()
    assert {row["status"] for row in report.rules()} == {"pass", "not observable"}


def test_the_worst_result_of_a_rule_is_its_own() -> None:
    kinds = of_each_kind().results
    warned, skipped_one = report_of(kinds[0], kinds[2]), report_of(kinds[3])

    assert [row["status"] for row in warned.rules() if row["rule"] == "TX-06"] == ["warning"]
    assert [row["status"] for row in skipped_one.rules() if row["rule"] == "TX-06"] == ["skip"]


@pytest.mark.parametrize("rule", NOT_OBSERVABLE)
def test_a_rule_that_nobody_can_see_is_not_selected_in_silence(rule: str) -> None:
    with pytest.raises(ConfigError, match=f"{rule} is not observable: .*"):
        select([rule.lower()], ())


def test_the_how_to_names_every_rule_with_its_cases() -> None:
    page = (ROOT / "docs/how-to/conformance.md").read_text("utf-8")
    table = page.partition("<!-- rules -->")[2].partition("<!-- end -->")[0]
    rows = re.findall(r"^\| ([A-Z]{2}-\d\d) \| ([^|]+) \| ([^|]+) \| ([^|]*)\|$", table, re.MULTILINE)
    assert [(rule, title, cases, why.strip()) for rule, title, cases, why in rows] == [
        (
            rule,
            title,
            ", ".join(case.name for case in CHECKLIST if case.rule == rule) or "none",
            NOT_OBSERVABLE.get(rule, PARTLY.get(rule, "")),
        )
        for rule, title in RULES.items()
    ]
