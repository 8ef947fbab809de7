"""Cases of the checklist one by one: what each takes for a pass, a finding, and nothing to be seen."""

import json
from dataclasses import replace
from typing import Any

import pytest

from authz.conformance.case import Case
from authz.conformance.checklist import CHECKLIST
from authz.conformance.login import AssertionLogin, CertificateLogin, SecretLogin
from authz.conformance.message import Answer
from authz.conformance.situation import ACCESS_TOKEN, GRANT_TYPE, Need, Presented, Profile, Situation
from identity.jws import sign
from identity.keys import SigningKey
from tests.conformance_inputs import inputs
from tests.conformance_tokens import ISSUER, KEY, NOW, jwt, subject_token

OWN_CERTIFICATE = CertificateLogin("own", "o" * 43)
ACTED: dict[str, Any] = {"act": {"iss": ISSUER, "sub": "agent-a"}}


def case(case_id: str) -> Case:
    (found,) = [each for each in CHECKLIST if each.id == case_id]
    return found


def answer(status: int = 200, /, **members: object) -> Answer:
    return Answer.of(status, {"content-type": "application/json"}, json.dumps(members).encode())


def granted(**claims: Any) -> Answer:
    return answer(access_token=jwt(**claims), issued_token_type=ACCESS_TOKEN)


OPAQUE = answer(access_token="opaque", issued_token_type=ACCESS_TOKEN)


def seen(
    good: Answer, *, again: Answer | None = None, profile: Profile = Profile.DEPUTY, **fields: Any
) -> Situation:
    """What a run saw; `metadata` and `keys` are members of these documents."""
    metadata, keys = fields.pop("metadata", None), fields.pop("keys", None)
    return Situation(
        inputs(**fields),
        profile,
        NOW,
        (good, again or good),
        None if metadata is None else answer(**metadata),
        None if keys is None else answer(keys=keys),
    )


def judged(case_id: str, situation: Situation, *answers: Answer) -> str:
    return case(case_id).judge(situation, answers).outcome


UNBOUND = Presented(subject_token("agent-a"), ACCESS_TOKEN)
ELSEWHERE = Presented(
    subject_token("agent-a", iss="https://idp.example", txn=None, scope=None, exp=None), ACCESS_TOKEN
)
NO_JWT = Presented("opaque", ACCESS_TOKEN)
TYPED = answer(access_token=jwt(), issued_token_type="urn:ietf:params:oauth:token-type:jwt")
P256 = dict(KEY.public.jwk())


@pytest.mark.parametrize(
    ("case_id", "situation", "outcome"),
    [
        # What is issued as something else than an access token need not be one (RFC 9068).
        ("CL-01/typ", seen(TYPED), "skip"),
        ("CL-01/claims", seen(TYPED), "skip"),
        ("CL-01/issuer", seen(granted(), issuer=None), "skip"),
        ("CL-01/issuer", seen(granted(), issuer=None, metadata={"issuer": ISSUER}), "pass"),
        ("CL-01/signature", seen(granted()), "skip"),
        ("CL-01/signature", seen(granted(), keys=[]), "fail"),
        ("CL-01/signature", seen(granted(), keys=[{**P256, "kid": "another"}]), "fail"),
        ("CL-01/signature", seen(granted(), keys=[{"kty": "OKP", "crv": "Ed25519", "kid": KEY.kid}]), "skip"),
        ("CL-06/jti-unique", seen(granted(jti=None)), "skip"),
        ("CL-06/jti-unique", seen(granted(), again=OPAQUE), "skip"),
        ("CL-06/jti-long", seen(granted(jti=None)), "skip"),
        ("CL-06/txn-kept", seen(granted(), subject=NO_JWT), "skip"),
        ("CL-07/lifetime", seen(granted(), subject=NO_JWT, actor=None), "skip"),
        ("CL-07/lifetime", seen(granted(), subject=ELSEWHERE, actor=None), "skip"),
        ("CL-07/lifetime", seen(granted(exp=None)), "skip"),
        ("CL-08/bound", seen(granted(), login=OWN_CERTIFICATE, actor=None, subject=UNBOUND), "fail"),
        (
            "CL-08/bound",
            seen(granted(), login=OWN_CERTIFICATE, actor=None, subject=UNBOUND, profile=Profile.RFC8693),
            "skip",
        ),
        (
            "CL-08/bound",
            seen(
                granted(),
                login=OWN_CERTIFICATE,
                actor=None,
                subject=UNBOUND,
                profile=Profile.RFC8693,
                metadata={"tls_client_certificate_bound_access_tokens": True},
            ),
            "fail",
        ),
        ("CL-08/no-inner-binding", seen(granted()), "skip"),
        ("ID-01/not-inverted", seen(granted()), "skip"),
        ("ID-01/not-inverted", seen(granted(**ACTED, sub="agent-a"), subject=NO_JWT), "fail"),
        ("ID-01/not-inverted", seen(granted(**ACTED, sub="alice"), subject=NO_JWT), "pass"),
        ("ID-01/sub-kept", seen(granted(sub="x"), subject=ELSEWHERE), "skip"),
        ("ID-03/namespace", seen(granted()), "skip"),
        ("ID-04/not-truncated", seen(granted(**ACTED), subject=NO_JWT), "skip"),
        ("ID-05/unchanged", seen(granted(**ACTED), subject=NO_JWT), "skip"),
        ("ID-05/unchanged", seen(granted(**ACTED)), "skip"),  # hops are missing: ID-04 says so
        ("ID-09/client-id", seen(granted(sub="alice")), "fail"),
        ("ID-09/client-id", seen(granted(sub="alice", azp="agent-a", **ACTED)), "pass"),
        ("NR-03/audience", seen(granted(aud="x"), targets=()), "skip"),
        ("NR-03/audience", seen(granted(aud=["https://tickets.example"])), "pass"),
        ("NR-03/one-audience", seen(granted(), targets=(("audience", "a"), ("audience", "b"))), "skip"),
        ("NR-03/one-audience", seen(granted()), "skip"),
        ("TX-05/expires-in-true", seen(granted()), "skip"),
        ("TX-05/scope-told", seen(granted(), scope=None), "fail"),
        ("TX-05/scope-told", seen(granted(scope="tickets:read")), "fail"),
        ("TX-11/never-unbound", seen(granted(), subject=UNBOUND), "skip"),
        ("DM-01/issuer", seen(granted(), issuer=None, metadata={"issuer": ""}), "fail"),
        ("DM-01/auth-methods", seen(granted(), metadata={"issuer": "x"}), "fail"),
        (
            "DM-01/auth-methods",
            seen(
                granted(),
                metadata={"token_endpoint_auth_methods_supported": ["none"]},
                profile=Profile.RFC8693,
            ),
            "pass",
        ),
        ("DM-01/https", seen(granted(), metadata={"token_endpoint": "https://["}), "fail"),
        ("DM-01/https", seen(granted(), metadata={"token_endpoint": 7}), "fail"),
        ("DM-01/keys", seen(granted(), metadata={"issuer": "x"}), "fail"),
        ("DM-01/keys", seen(granted(), metadata={"jwks_uri": "x"}), "fail"),
        ("DM-01/keys", seen(granted(), metadata={"jwks_uri": "x"}, keys="none"), "fail"),
        ("DM-01/keys", seen(granted(), metadata={"jwks_uri": "x"}, keys=[]), "fail"),
        ("DM-01/keys", seen(granted(), metadata={"jwks_uri": "x"}, keys=[P256, P256]), "fail"),
        ("DM-01/members", seen(granted(), metadata={}), "skip"),
    ],
)
def test_what_is_published_and_issued(case_id: str, situation: Situation, outcome: str) -> None:
    assert judged(case_id, situation) == outcome


def test_a_token_without_a_kid_is_verified_with_the_only_key() -> None:
    other = SigningKey.generate()
    signed = sign(KEY, "at+jwt", {"iss": ISSUER})
    nameless = {**P256}
    del nameless["kid"]

    good = answer(access_token=signed, issued_token_type=ACCESS_TOKEN)
    assert judged("CL-01/signature", seen(good, keys=[P256])) == "pass"
    assert (
        judged("CL-01/signature", seen(good, keys=[{**dict(other.public.jwk()), "kid": KEY.kid}])) == "fail"
    )
    assert seen(good, keys=[nameless]).issuer_jwk is None


@pytest.mark.parametrize(
    ("case_id", "situation", "answers", "outcome"),
    [
        ("TX-07/impersonation", seen(OPAQUE, subject=NO_JWT), [OPAQUE], "skip"),
        ("TX-08/subject-act", seen(granted()), [granted(**ACTED)], "fail"),  # it lost one of two
        ("TX-08/subject-act", seen(granted(), subject=NO_JWT), [granted()], "skip"),
        ("TX-12/override", seen(granted()), [OPAQUE], "pass"),
        ("TX-12/override", seen(granted()), [answer(500)], "fail"),
        (
            "TX-12/client-id",
            seen(granted(), login=SecretLogin("a", "b", "post")),
            [answer(401, error="invalid_client")],
            "skip",
        ),
        ("TX-06/authorization-details", seen(granted(), profile=Profile.RFC8693), [granted()], "skip"),
        ("TX-06/dpop-proof", seen(granted(), profile=Profile.RFC8693), [granted()], "skip"),
        ("TX-06/no-echo", seen(granted()), [answer(500)], "fail"),
        ("TX-06/garbage", seen(granted()), [answer(400, error="invalid_grant")], "fail"),
        (
            "TX-06/garbage",
            seen(granted(), profile=Profile.ACTOR),
            [answer(400, error="invalid_grant")],
            "pass",
        ),
        ("TX-06/garbage", seen(granted()), [answer(401, error="invalid_request")], "fail"),
        ("NR-01/part-of-a-scope", seen(OPAQUE, scope=None), [], "skip"),
        ("NR-01/wider-scope", seen(granted()), [OPAQUE], "fail"),  # no scope says: as requested
        ("NR-01/wider-scope", seen(granted()), [answer(400, error="invalid_request")], "fail"),
        ("NR-02/scope-omitted", seen(granted(), subject=ELSEWHERE), [granted()], "skip"),
        ("NR-02/scope-omitted", seen(granted()), [answer(400, error="invalid_scope")], "pass"),
        ("NR-02/scope-omitted", seen(granted()), [answer(500)], "fail"),
        ("NR-03/second-target", seen(granted()), [answer(500)], "fail"),
        ("NR-03/second-target", seen(granted()), [granted(aud="https://tickets.example")], "pass"),
        ("CA-04/challenge", seen(granted(), login=OWN_CERTIFICATE), [answer(401)], "skip"),
        ("CA-04/challenge", seen(granted()), [granted()], "fail"),
        ("CA-04/no-login", seen(granted()), [Answer.missing("closed")], "pass"),
        ("CA-04/no-login", seen(granted()), [Answer.missing("late")], "fail"),
        ("JW-05/one-mib", seen(granted()), [Answer.missing("closed")], "pass"),
        ("JW-05/one-mib", seen(granted()), [Answer.missing("late")], "fail"),
        ("JW-01/alg-none", seen(granted()), [Answer.missing("closed")], "fail"),
        ("CA-07/introspect", seen(granted(), actor=None), [answer(active=False)], "fail"),
        ("CA-07/introspect", seen(granted()), [answer(active=False)], "skip"),
        ("CA-07/introspect", seen(granted()), [answer(401)], "fail"),
        ("CA-07/revoke", seen(granted()), [answer(active=False), answer(), answer(active=False)], "skip"),
        ("CA-07/revoke", seen(granted()), [answer(active=True), answer(503), answer(active=True)], "fail"),
    ],
)
def test_what_is_answered(case_id: str, situation: Situation, answers: list[Answer], outcome: str) -> None:
    assert judged(case_id, situation, *answers) == outcome


def test_a_case_that_lacks_its_input_sends_nothing() -> None:
    bare = seen(granted(), subject=NO_JWT)
    bare = replace(
        bare,
        inputs=replace(
            bare.inputs,
            second_subject=None,
            ungranted_subject=None,
            expired_subject=None,
            other_audience=None,
        ),
    )
    for each in CHECKLIST:
        if each.needs and set(each.needs) & {
            Need.JWT_SUBJECT,
            Need.UNGRANTED,
            Need.SECOND_SUBJECT,
            Need.EXPIRED,
        }:
            assert not any("opaque" not in str(request.form) for request in each.send(bare)), each.id
            assert each.lacks(bare) is not None, each.id
    for name in ("CA-01/forged", "CA-01/untyped", "CA-01/wrong-audience"):
        assert case(name).send(bare) == ()


def test_an_opaque_assertion_is_replaced_by_garbage() -> None:
    opaque = seen(granted(), login=AssertionLogin("opaque", "urn:t"))

    (request,) = case("CA-01/forged").send(opaque)
    assert request.label == "no JWT"


def test_the_issued_token_is_presented_as_the_kind_that_the_subject_has() -> None:
    identity = Presented(jwt(typ="JWT"), "urn:ietf:params:oauth:token-type:id_token")
    (request,) = case("JW-04/another-kind").send(seen(granted(), subject=identity, actor=None))

    assert request.one("subject_token_type") == identity.kind
    assert case("JW-04/another-kind").send(seen(answer(), subject=identity, actor=None)) == []


def test_a_signature_without_unused_bits_has_one_text_in_this_way() -> None:
    whole = Presented(".".join([*subject_token("agent-a").split(".")[:2], "A" * 88]), ACCESS_TOKEN)
    labels = {request.label for request in case("JW-05/base64").send(seen(granted(), subject=whole))}

    assert labels == {"a line end", "a space within", "a character of no alphabet", "a fourth part"}


def test_the_good_request_names_what_it_was_told_to() -> None:
    request = inputs(requested_type="urn:x", targets=(("resource", "https://a.example"),)).good

    assert request.one("grant_type") == GRANT_TYPE
    assert request.one("requested_token_type") == "urn:x"
    assert request.one("resource") == "https://a.example"
