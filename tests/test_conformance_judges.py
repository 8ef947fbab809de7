"""Cases about proofs, hops, details, transactions, resources: what is a pass, a finding, and nothing seen."""

from dataclasses import replace
from typing import Any

import pytest

from authz.conformance.case import Verdict, withheld
from authz.conformance.login import SecretLogin
from authz.conformance.message import Answer
from authz.conformance.signer import Signer
from authz.conformance.situation import ACCESS_TOKEN, Presented, Situation, resource_metadata_url
from tests.conformance_tokens import DETAIL, ISSUER, PARTNER, jwt, subject_token
from tests.test_conformance_cases import NO_JWT, OPAQUE, UNBOUND, answer, case, granted, judged, seen

NO = answer(400, error="invalid_request")
BROKEN = answer(500)
PROVED = answer(access_token="opaque", token_type="DPoP")
WITH_DETAILS = answer(access_token="opaque", authorization_details=[DETAIL])
CHAIN = {"act": {"iss": ISSUER, "sub": "agent-c", "act": {"iss": ISSUER, "sub": "agent-a"}}}
ALONE = Presented(subject_token(), ACCESS_TOKEN)
ACTED: dict[str, Any] = {"act": {"iss": ISSUER, "sub": "agent-a"}}
TXN_TYPE, JAG_TYPE = (f"urn:ietf:params:oauth:token-type:{name}" for name in ("txn_token", "id-jag"))
TXN = {"aud": "mesh.example", "scope": "a", "req_wl": "x", "txn": "t", "sub": "s"}
JAG = {"aud": PARTNER, "client_id": "x", "sub": "s"}


def typed(typ: str, **claims: Any) -> Answer:
    return answer(access_token=jwt(typ, **claims), issued_token_type=ACCESS_TOKEN)


def called(*statuses: int) -> list[Answer]:
    return [Answer.of(status, {}, b"") for status in statuses]


@pytest.mark.parametrize(
    ("case_id", "answers", "outcome"),
    [
        ("CA-05/replayed", [NO, NO], "skip"),
        ("CA-05/replayed", [OPAQUE, BROKEN], "fail"),
        ("CA-05/nonce", [OPAQUE, OPAQUE], "skip"),
        ("CA-05/nonce", [answer(400, error="use_dpop_nonce"), NO], "fail"),
        ("JW-09/at-once", [NO, NO, NO], "skip"),
        ("JW-09/at-once", [OPAQUE, NO, NO], "skip"),
        ("JW-09/at-once", [OPAQUE, OPAQUE, NO], "pass"),
        ("JW-09/at-once", [OPAQUE, OPAQUE, BROKEN], "fail"),
        ("CA-05/resource", [NO], "skip"),
        ("CA-05/resource", [OPAQUE], "skip"),
        ("CA-05/resource", [PROVED, *called(404, 404)], "skip"),
        ("CA-05/resource", [PROVED, *called(200, 401, 400)], "pass"),
        ("CA-05/resource", [PROVED, *called(204, 401, 403)], "fail"),
        ("CA-06/pending", [NO], "fail"),
        ("CA-06/pending", [answer(auth_req_id="x"), NO, NO], "fail"),
        (
            "CA-06/pending",
            [
                answer(auth_req_id="x", expires_in=9),
                answer(400, error="slow_down"),
                answer(400, error="slow_down"),
            ],
            "pass",
        ),
        ("CA-06/pending", [answer(auth_req_id="x", expires_in=9), OPAQUE, OPAQUE], "fail"),
        ("CA-06/anonymous", [Answer.missing("closed")], "pass"),
        ("CA-06/anonymous", [Answer.missing("late")], "fail"),
        ("CA-03/replayed", [NO, NO], "skip"),
        ("CA-03/replayed", [OPAQUE, NO], "pass"),
        ("NR-04/told", [NO], "fail"),
        ("NR-04/told", [WITH_DETAILS], "pass"),
        ("NR-04/granted", [NO], "fail"),
        ("NR-04/granted", [OPAQUE], "skip"),
        ("NR-04/granted", [WITH_DETAILS], "pass"),
        ("NR-04/granted", [answer(access_token="x", authorization_details=[{**DETAIL, "more": 1}])], "pass"),
        ("NR-04/granted", [answer(access_token="x", authorization_details=[{"type": "other"}])], "fail"),
        ("NR-04/widened", [NO], "skip"),
        ("NR-04/widened", [OPAQUE, NO], "skip"),
        ("NR-04/widened", [WITH_DETAILS, BROKEN], "fail"),
        ("NR-04/widened", [WITH_DETAILS, OPAQUE], "skip"),
        ("NR-04/widened", [WITH_DETAILS, granted()], "fail"),
        ("NR-04/widened", [WITH_DETAILS, WITH_DETAILS], "pass"),
        ("NR-05/regained", [NO], "skip"),
        ("NR-05/regained", [answer(access_token="x", scope="a"), NO], "pass"),
        ("NR-05/regained", [answer(access_token="x", scope="a"), BROKEN], "fail"),
        ("NR-05/regained", [OPAQUE, OPAQUE], "fail"),  # no scope says: as requested
        ("NR-05/regained", [OPAQUE, answer(access_token="x", scope="tickets:read")], "pass"),
        ("ID-08/autonomous", [granted(sub="agent-a")], "pass"),
        ("ID-08/autonomous", [granted(sub="alice")], "fail"),
        ("ID-08/autonomous", [granted(sub="agent-a", **ACTED)], "fail"),
        ("CL-05/answer", [NO], "fail"),
        ("CL-05/answer", [answer(access_token="x", issued_token_type=ACCESS_TOKEN)], "fail"),
        (
            "CL-05/answer",
            [answer(access_token="x", issued_token_type=JAG_TYPE, token_type="N_A", refresh_token="y")],
            "fail",
        ),
        ("CL-05/claims", [NO], "fail"),
        ("CL-05/claims", [OPAQUE], "fail"),
        ("CL-05/claims", [typed("JWT", **JAG)], "fail"),
        ("CL-05/claims", [typed("oauth-id-jag+jwt", **JAG)], "pass"),
        ("CL-05/claims", [typed("oauth-id-jag+jwt", **{**JAG, "aud": [PARTNER, "x"]})], "fail"),
        ("CL-05/two-audiences", [typed("oauth-id-jag+jwt", **JAG)], "pass"),
        ("CL-05/two-audiences", [OPAQUE], "fail"),
        ("CL-05/not-here", [NO], "fail"),
        ("CL-02/answer", [NO], "fail"),
        ("CL-02/answer", [answer(access_token="x", issued_token_type=ACCESS_TOKEN)], "fail"),
        (
            "CL-02/answer",
            [answer(access_token="x", issued_token_type=TXN_TYPE, token_type="N_A", refresh_token="y")],
            "fail",
        ),
        ("CL-02/claims", [NO], "fail"),
        ("CL-02/claims", [OPAQUE], "fail"),
        ("CL-02/claims", [typed("JWT", **TXN)], "fail"),
        ("CL-02/claims", [typed("txntoken+jwt", **TXN)], "pass"),
        ("CL-02/claims", [typed("txntoken+jwt", **{**TXN, **ACTED, "iss": None})], "fail"),
        ("CL-02/claims", [typed("txntoken+jwt", **{**TXN, "aud": "other.example"})], "fail"),
        ("CL-07/transaction", [OPAQUE], "skip"),
        ("CL-03/no-inbound-token", [NO], "fail"),
        ("CL-03/no-credential", [NO], "fail"),
        ("CL-04/kept", [NO], "fail"),
        ("CL-04/kept", [typed("txntoken+jwt", **TXN), NO], "fail"),
        ("CL-04/kept", [typed("txntoken+jwt", **TXN), typed("txntoken+jwt", **TXN)], "pass"),
        (
            "CL-04/kept",
            [typed("txntoken+jwt", **TXN), typed("txntoken+jwt", **{**TXN, "scope": "a b"})],
            "fail",
        ),
        ("CL-04/regained", [NO], "fail"),
        ("CL-04/regained", [OPAQUE, NO], "pass"),
        ("CL-04/regained", [OPAQUE, BROKEN], "fail"),
        ("CL-04/regained", [OPAQUE, OPAQUE], "fail"),
        ("DM-02/published", [answer(404)], "fail"),
        ("DM-02/published", [answer(resource=f"{ISSUER}/api")], "pass"),
        ("DM-02/published", [answer(resource=f"{ISSUER}/api/")], "fail"),
        ("DM-02/servers", [answer(authorization_servers=[f"{ISSUER}/"])], "fail"),
        ("DM-02/challenge", [answer(200)], "fail"),
        ("JW-06/expired", [NO, NO], "skip"),
        ("JW-06/expired", [OPAQUE], "skip"),
        ("JW-06/expired", [OPAQUE, NO], "pass"),
        ("JW-06/expired", [OPAQUE, OPAQUE], "fail"),
        ("ID-07/unclassified", [answer(access_token="x", scope="a"), NO], "pass"),
        ("ID-07/unclassified", [answer(access_token="x", scope="a"), BROKEN], "fail"),
        ("ID-07/unclassified", [NO, NO], "skip"),
        ("ID-07/client-profile", [OPAQUE, NO], "pass"),
        ("ID-07/client-profile", [OPAQUE, BROKEN], "fail"),
    ],
)
def test_what_is_answered(case_id: str, answers: list[Answer], outcome: str) -> None:
    assert judged(case_id, seen(granted(scope="tickets:read tickets:write")), *answers) == outcome


@pytest.mark.parametrize(
    ("case_id", "situation", "answers", "outcome"),
    [
        ("CA-05/bound", seen(granted()), [PROVED], "skip"),  # the token is the actor's
        ("CA-05/bound", seen(granted(), actor=None), [NO], "fail"),
        ("CA-05/bound", seen(granted(), actor=None), [OPAQUE], "fail"),
        ("CA-05/bound", seen(granted(), actor=None), [PROVED], "pass"),  # opaque: nobody can see cnf
        ("CA-05/bound", seen(granted(), actor=None), [answer(access_token=jwt(), token_type="dpop")], "fail"),
        ("CL-08/bound", seen(granted(), actor=None, dpop_key=Signer.generate()), [], "fail"),
        ("NR-05/second-hop", seen(granted()), [OPAQUE], "pass"),
        ("NR-05/second-hop", seen(granted(sub="alice")), [granted(sub="bob")], "fail"),
        ("NR-05/second-hop", seen(granted(exp=9)), [granted(exp=10)], "fail"),
        ("NR-05/second-hop", seen(granted(exp=9)), [granted(exp=None)], "fail"),
        ("NR-05/second-hop", seen(granted(scope="a")), [granted(scope="a b")], "fail"),
        ("NR-05/second-hop", seen(granted(exp=9)), [granted(exp=8)], "pass"),
        ("ID-02/stable", seen(granted()), [], "skip"),
        ("ID-02/stable", seen(granted(**ACTED), again=granted()), [], "fail"),
        ("ID-02/instance", seen(granted(**ACTED), again=granted()), [], "skip"),
        ("ID-02/instance", seen(granted(**ACTED)), [], "fail"),
        ("ID-06/inner-presenter", seen(granted(**ACTED)), [NO], "skip"),
        ("ID-06/inner-presenter", seen(OPAQUE), [NO], "skip"),
        ("ID-06/inner-presenter", seen(granted(**CHAIN)), [NO], "pass"),
        ("ID-06/inner-presenter", seen(granted(**CHAIN)), [OPAQUE], "fail"),
        ("ID-07/not-inferred", seen(granted(), subject=NO_JWT), [], "skip"),
        ("ID-07/not-inferred", seen(granted(**CHAIN), subject=ALONE, actor=None), [], "fail"),
        ("DM-02/servers", seen(granted(), issuer=None), [answer(authorization_servers=[])], "skip"),
        (
            "DM-02/servers", seen(granted(), issuer=None, metadata={"issuer": "x"}),
            [answer(authorization_servers=["x"])], "pass",
        ),
    ],
)  # fmt: skip
def test_what_is_answered_here(
    case_id: str, situation: Situation, answers: list[Answer], outcome: str
) -> None:
    assert judged(case_id, situation, *answers) == outcome


FOLLOWED = [
    "CA-05/resource", "CA-06/pending", "NR-04/widened", "NR-05/regained", "CL-05/not-here",
    "CL-03/no-credential", "CL-04/kept", "CL-04/regained",
]  # fmt: skip


@pytest.mark.parametrize("case_id", FOLLOWED)
def test_nothing_follows_a_refusal(case_id: str) -> None:
    follow = case(case_id).follow

    assert follow is not None
    assert follow(seen(granted(), scope="a b"), [NO]) == ()


def test_no_token_is_sent_to_a_resource_that_is_not_bound_to_a_proof() -> None:
    follow = case("CA-05/resource").follow

    assert follow is not None
    assert follow(seen(granted()), [OPAQUE]) == ()
    sent = follow(seen(granted()), [PROVED])
    assert {request.endpoint for request in sent} == {"resource"}
    assert all(request.login is None for request in sent)


def test_a_case_of_another_login_sends_nothing() -> None:
    bare = seen(granted(), login=SecretLogin("a", "b"), subject=NO_JWT)
    for case_id in (
        "CA-02/issued-by-leaf",
        "CA-02/client-id",
        "CA-03/names",
        "CA-03/replayed",
        "JW-06/expired",
    ):
        assert case(case_id).send(bare) == ()
        assert case(case_id).lacks(bare) is not None


def test_one_scope_is_not_made_less() -> None:
    one = seen(granted(scope="a"), scope="a")

    assert case("NR-05/regained").send(one) == ()
    assert case("CL-04/regained").send(one) == ()


def test_a_detail_is_changed_in_each_member_that_can_be() -> None:
    detail = {"type": "t", "locations": ["x"], "tool": "y", "limit": 7, "mixed": [1]}
    follow = case("NR-04/widened").follow

    assert follow is not None
    labels = [request.label for request in follow(seen(granted(), details=(detail,)), [WITH_DETAILS])]
    assert labels == [
        "without details",
        *("no locations", "one more of locations", "no tool", "another tool", "no limit", "no mixed"),
    ]


def test_a_token_without_act_has_no_profile_of_an_actor() -> None:
    signed = seen(granted(), subject=UNBOUND)
    plain = replace(signed, inputs=replace(signed.inputs, subject=Presented(jwt(sub="alice"), ACCESS_TOKEN)))

    assert [request.label for request in case("ID-07/client-profile").send(plain)] == ["as it was"]
    assert [request.label for request in case("ID-07/unclassified").send(plain)] == ["as it was"]


def test_the_metadata_of_a_resource_is_where_rfc_9728_says() -> None:
    assert (
        resource_metadata_url("https://a.example/mcp/")
        == "https://a.example/.well-known/oauth-protected-resource/mcp"
    )
    assert resource_metadata_url(None) is None
    assert (
        seen(granted()).endpoint("resource_metadata") == f"{ISSUER}/.well-known/oauth-protected-resource/api"
    )


@pytest.mark.parametrize("issued", ["opaque", jwt()])
def test_what_a_case_was_issued_is_not_in_its_verdict(issued: str) -> None:
    said = withheld(Verdict("fail", f"aud '{issued}'"), seen(granted()), [answer(access_token=issued)])
    assert (issued in said.got) == (len(issued) < 8)
