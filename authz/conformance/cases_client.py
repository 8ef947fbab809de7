"""CA-01 and CA-04: how a client logs in, and how it cannot."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from authz.conformance.case import AGENTS, Case, Verdict, failed, passed, skipped
from authz.conformance.cases_types import GARBAGE, corrupted
from authz.conformance.judge import first_wrong, is_refusal, refused, refused_login
from authz.conformance.login import (
    JWT_BEARER,
    AssertionLogin,
    CertificateLogin,
    Login,
    SecretLogin,
    SignedLogin,
    basic,
)
from authz.conformance.message import Answer, Request
from authz.conformance.signer import own_signer
from authz.conformance.situation import Need, Situation
from authz.conformance.token import Jwt
from identity.base64url import encode_base64url

_STRANGER: Final = "deputy-conformance-stranger"


def _logged_in(situation: Situation, login: Login) -> Request:
    return replace(situation.inputs.good, login=login)


def _forged(situation: Situation) -> Sequence[Request]:
    login = situation.inputs.login
    if not isinstance(login, AssertionLogin):
        return ()
    token = Jwt.read(login.assertion)
    if token is None:
        return (_logged_in(situation, replace(login, assertion=GARBAGE)).labelled("no JWT"),)
    unsigned = token.with_header({**token.unverified_header, "alg": "none"}).with_signature("")
    claims = {**token.unverified_claims, "sub": f"{token.unverified_claims.get('sub')}-other"}
    changed = {
        "another signature": corrupted(token),
        "no signature": unsigned,
        "another sub": token.with_claims(claims),
    }
    return [
        _logged_in(situation, replace(login, assertion=each.text)).labelled(label)
        for label, each in changed.items()
    ]


def _untyped(situation: Situation) -> Sequence[Request]:
    login = situation.inputs.login
    if not isinstance(login, AssertionLogin):
        return ()
    return (
        _logged_in(situation, replace(login, assertion_type=None)).labelled("no type"),
        _logged_in(situation, replace(login, assertion_type="urn:deputy:unknown")).labelled(
            "an unknown type"
        ),
    )


def _for_another(situation: Situation) -> Sequence[Request]:
    login = situation.inputs.other_audience
    return () if login is None else (_logged_in(situation, login),)


def _two_logins(situation: Situation) -> Sequence[Request]:
    good, login = situation.inputs.good, situation.inputs.login
    authorization = replace(good, headers=(("Authorization", basic(_STRANGER, GARBAGE)),))
    asserted = good.adding("client_assertion_type", JWT_BEARER).adding("client_assertion", GARBAGE)
    secret = good.adding("client_secret", GARBAGE)
    match login:
        case SecretLogin(client_id, own, "post"):
            authorization = replace(good, headers=(("Authorization", basic(client_id, own)),))
            several = (authorization.labelled("its own Basic"), asserted.labelled("an assertion"))
        case SecretLogin():
            several = (asserted.labelled("an assertion"), secret.labelled("a client_secret in the form"))
        case AssertionLogin() | SignedLogin():
            several = (authorization.labelled("Basic"), secret.labelled("a client_secret in the form"))
        case _:
            several = (authorization.labelled("Basic"), asserted.labelled("an assertion"))
    return several


def _nobody(situation: Situation) -> Sequence[Request]:
    good, login = situation.inputs.good, situation.inputs.login
    named = good if login.client_id is None else good.with_("client_id", login.client_id)
    return (replace(named, login=None),)


def _wrong(situation: Situation) -> Sequence[Request]:
    match situation.inputs.login:
        case SecretLogin() as login:
            return (
                _logged_in(situation, replace(login, secret=GARBAGE)).labelled("another secret"),
                _logged_in(situation, replace(login, client_id=_STRANGER)).labelled("another client"),
                _logged_in(situation, replace(login, secret="")).labelled("an empty secret"),
            )
        case CertificateLogin() as login:
            # A copy of the names in the client's certificate, with a key of ours, signed by itself.
            return (_logged_in(situation, replace(login, certificate="stranger")),)
        case SignedLogin() as login:
            return (_logged_in(situation, replace(login, signer=own_signer())),)
        case AssertionLogin() as login:
            token = encode_base64url(b'{"alg":"none"}')
            return (_logged_in(situation, replace(login, assertion=f"{token}.{token}.")),)


def _challenge(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    """RFC 6749 section 5.2: who tried the header is told which scheme to use."""
    login = situation.inputs.login
    if not isinstance(login, SecretLogin) or login.method != "basic":
        return skipped("the client does not log in with the Authorization header")
    answer = answers[0]
    if not is_refusal(answer):
        return failed(answer.got)
    if "www-authenticate" not in answer.headers:
        return failed(f"{answer.got}, without WWW-Authenticate")
    return passed(answer.got)


def _both_refused(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    allowed = {"invalid_request", "invalid_client"}
    del situation
    return first_wrong(answers, lambda each: not is_refusal(each) or each.error not in allowed)


CASES: Final = (
    Case(
        "CA-01", "forged", "a client assertion that was changed",
        "401 invalid_client", _forged, refused_login(), needs=(Need.ASSERTION,),
    ),
    Case(
        "CA-01", "untyped", "a client assertion without its type, or with an unknown one",
        "a refusal", _untyped, refused(), needs=(Need.ASSERTION,),
    ),
    Case(
        "CA-01", "wrong-audience", "a client assertion for another audience",
        "401 invalid_client", _for_another, refused_login(), needs=(Need.OTHER_AUDIENCE,),
    ),
    Case(
        "CA-04", "two-logins", "a second way to log in beside the good one",
        "invalid_request", _two_logins, _both_refused, AGENTS,
    ),
    Case(
        "CA-04", "no-login", "the good request of a client that does not log in",
        "401 invalid_client, or no TLS", _nobody, refused_login(), AGENTS,
    ),
    Case(
        "CA-04", "wrong-login", "a secret, certificate or assertion that is not the client's",
        "401 invalid_client, or no TLS", _wrong, refused_login(),
    ),
    Case(
        "CA-04", "challenge", "another secret in the Authorization header",
        "401 with WWW-Authenticate", _wrong, _challenge,
    ),
)  # fmt: skip
