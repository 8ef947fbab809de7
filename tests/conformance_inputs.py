"""Who runs the checklist in the tests: clients of each kind, with all that any case needs."""

from typing import Any

from authz.conformance.login import AssertionLogin, CertificateLogin, SecretLogin, SignedLogin
from authz.conformance.situation import ACCESS_TOKEN, Inputs, Presented
from tests.conformance_tokens import (
    CLIENT_KEY,
    DETAIL,
    FIRST,
    ISSUER,
    JWT,
    JWT_BEARER,
    KEY,
    MESH,
    NOW,
    OTHER,
    OWN,
    PARTNER,
    PROOF_KEY,
    SECRETS,
    SERVICE,
    THUMBPRINTS,
    TICKETS,
    actor_token,
    assertion,
    signer_of,
    subject_token,
)

SECRET = SecretLogin(OWN, SECRETS[OWN])
POST = SecretLogin(OWN, SECRETS[OWN], "post")


def inputs(login: Any = SECRET, **fields: Any) -> Inputs:
    """Everything that any case needs, for a client that passes on a token of two hops."""
    plain: dict[str, Any] = {
        "token_endpoint": f"{ISSUER}/token",
        "login": login,
        "subject": Presented(subject_token(OWN, FIRST), ACCESS_TOKEN),
        "actor": Presented(actor_token(), JWT),
        "targets": (("audience", TICKETS),),
        "scope": "tickets:read tickets:write",
        "issuer": ISSUER,
        "other_login": SecretLogin(OTHER, SECRETS[OTHER]),
        "second_subject": Presented(subject_token(OWN, cnf={"x5t#S256": "z" * 43}), ACCESS_TOKEN),
        "ungranted_subject": Presented(subject_token(OWN, sub="mallory"), ACCESS_TOKEN),
        "expired_subject": Presented(subject_token(OWN, exp=NOW - 3600), ACCESS_TOKEN),
        "wider_scope": "tickets:admin",
        "subject_signer": signer_of(KEY),
        "details": (DETAIL,),
        "id_jag_audience": PARTNER,
        "txn_audience": MESH,
        "service_login": SecretLogin(SERVICE, SECRETS[SERVICE]),
        "protected_resource": f"{ISSUER}/api",
        "login_hint": "alice",
    }
    return Inputs(**{**plain, **fields})


def worlds() -> dict[str, Inputs]:
    """The clients from whose side the checklist is run; each case has something to see in one of them."""
    certificate = CertificateLogin("own", THUMBPRINTS[OWN], OWN)
    bound = subject_token(OWN, FIRST, cnf={"x5t#S256": THUMBPRINTS[OWN]})
    proved = subject_token(OWN, FIRST, cnf={"jkt": PROOF_KEY.jkt})
    return {
        "secret": inputs(),
        "post": inputs(POST),
        "first hop": inputs(subject=Presented(subject_token(), ACCESS_TOKEN)),
        "assertion": inputs(
            AssertionLogin(assertion(), JWT_BEARER),
            other_audience=AssertionLogin(assertion(audience="https://elsewhere.example"), JWT_BEARER),
        ),
        "signed": inputs(SignedLogin(OWN, signer_of(CLIENT_KEY), ISSUER, CLIENT_KEY.kid)),
        "certificate": inputs(
            certificate,
            subject=Presented(bound, ACCESS_TOKEN),
            actor=None,
            other_login=CertificateLogin("other", THUMBPRINTS[OTHER], OTHER),
        ),
        "alone": inputs(actor=None),
        "proof": inputs(subject=Presented(proved, ACCESS_TOKEN), actor=None, dpop_key=PROOF_KEY),
    }
