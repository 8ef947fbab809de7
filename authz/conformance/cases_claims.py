"""CL: what an issued token says about itself, its lifetime and whom it is bound to."""

from typing import Final

from authz.conformance.case import AGENTS, OURS, Case, skipped
from authz.conformance.cases_delegation import presented
from authz.conformance.judge import Claims, Found, good_claims, refused_token, short
from authz.conformance.login import CertificateLogin
from authz.conformance.message import Request
from authz.conformance.situation import ACCESS_TOKEN, Need, Profile, Situation
from authz.conformance.token import Jwt, actors
from identity.base64url import Base64UrlError, decode_base64url
from identity.errors import TokenError
from identity.signature_algorithms import SVID_ALGORITHMS

_REQUIRED: Final = ("iss", "exp", "aud", "sub", "client_id", "iat", "jti")  # RFC 9068 section 2.2
_SKEW: Final = 60  # seconds (JW-06)
_NEVER: Final = frozenset({"none", "hs256", "hs384", "hs512"})
_MIN_JTI: Final = 21  # characters of 6 bits, for 128 of them


def _is_access_token(situation: Situation) -> bool:
    return situation.good[0].members.get("issued_token_type") == ACCESS_TOKEN


def _typ(situation: Situation, _: Claims) -> Found:
    if not _is_access_token(situation):
        return skipped("what was issued is not an access token")
    typ = situation.issued.unverified_header.get("typ") if situation.issued else None
    said = typ.lower().removeprefix("application/") if isinstance(typ, str) else typ
    return None if said == "at+jwt" else f"typ {short(typ)}"


def _required(situation: Situation, claims: Claims) -> Found:
    if not _is_access_token(situation):
        return skipped("what was issued is not an access token")
    absent = [name for name in _REQUIRED if name not in claims]
    return f"no {', '.join(absent)}" if absent else None


def _issuer(situation: Situation, claims: Claims) -> Found:
    said = situation.inputs.issuer or situation.document.get("issuer")
    if said is None:
        return skipped("needs --issuer or --metadata")
    return (
        None
        if claims.get("iss") == said
        else f"iss {short(claims.get('iss'))}, and the server is {short(said)}"
    )


def _verifies(situation: Situation, _: Claims) -> Found:
    if situation.key_set is None:
        return skipped("needs metadata with a jwks_uri")
    token, key = situation.issued, situation.issuer_key
    if token is None or situation.issuer_jwk is None:
        return "a kid that the jwks_uri does not have"
    alg = token.unverified_header.get("alg")
    if key is None or (isinstance(alg, str) and alg not in SVID_ALGORITHMS and alg.lower() not in _NEVER):
        return skipped(f"a key or an algorithm that is not verified here: {short(alg)}")
    try:
        key.verify(decode_base64url(token.parts[2]), token.signing_input, alg)
    except (TokenError, Base64UrlError) as error:
        return str(error)
    return None


def _jti_unique(situation: Situation, claims: Claims) -> Found:
    again = situation.issued_again
    if again is None or "jti" not in claims:
        return skipped("the issued tokens have no jti")
    return "two tokens with one jti" if again.unverified_claims.get("jti") == claims["jti"] else None


def _jti_long(_: Situation, claims: Claims) -> Found:
    jti = claims.get("jti")
    if not isinstance(jti, str):
        return skipped("the issued token has no jti")
    return None if len(jti) >= _MIN_JTI else f"a jti of {len(jti)} characters"


def _txn(situation: Situation, claims: Claims) -> Found:
    subject = situation.subject
    if subject is None or "txn" not in subject.unverified_claims:
        return skipped("the subject token has no txn")
    return None if claims.get("txn") == subject.unverified_claims["txn"] else "another txn"


def _lifetime(situation: Situation, claims: Claims) -> Found:
    actor = situation.inputs.actor
    behind = {"subject": situation.subject, "actor": Jwt.read(actor.unverified_token) if actor else None}
    ends = {
        name: token.unverified_claims["exp"]
        for name, token in behind.items()
        if token is not None and type(token.unverified_claims.get("exp")) is int
    }
    exp = claims.get("exp")
    if not ends or not isinstance(exp, int):
        return skipped("neither subject nor actor token is a JWT with exp, or the issued one has none")
    longer = {name: exp - end for name, end in ends.items() if isinstance(end, int) and exp > end}
    return ", ".join(f"{seconds} s longer than the {name} token" for name, seconds in longer.items()) or None


def _no_future(situation: Situation, claims: Claims) -> Found:
    for name in ("iat", "nbf"):
        said = claims.get(name)
        if isinstance(said, int | float) and said > situation.now + _SKEW:
            return f"{name} is {int(said - situation.now)} s in the future"
    return None


def _expired(situation: Situation) -> tuple[Request, ...]:
    subject = situation.inputs.expired_subject
    return () if subject is None else (presented(situation, subject),)


def _bound(situation: Situation, claims: Claims) -> Found:
    login, cnf = situation.inputs.login, claims.get("cnf")
    if situation.inputs.dpop_key is not None and situation.inputs.actor is None:
        is_bound = isinstance(cnf, dict) and cnf.get("jkt") == situation.inputs.dpop_key.jkt
        return None if is_bound else "a token that is not bound to the key of its proof"
    if not isinstance(login, CertificateLogin):
        return skipped("the client has no certificate")
    if situation.inputs.actor is not None:
        return skipped("the token is for the actor, whose certificate is not known here")
    subject = situation.subject
    if cnf is None and subject is not None and "cnf" in subject.unverified_claims:
        return skipped("the subject token is bound, and this one is not: see TX-11")
    if not isinstance(cnf, dict) or "x5t#S256" not in cnf:
        told = situation.document.get("tls_client_certificate_bound_access_tokens") is True
        must = told or situation.profile is not Profile.RFC8693
        return "a token without cnf x5t#S256" if must else skipped("the server does not promise bound tokens")
    return None if cnf["x5t#S256"] == login.thumbprint else "bound to another certificate"


def _one_binding(_: Situation, claims: Claims) -> Found:
    cnf = claims.get("cnf")
    if not isinstance(cnf, dict):
        return skipped("the issued token is not bound")
    return None if len(cnf) == 1 else f"cnf with {len(cnf)} members"


def _no_inner_binding(_: Situation, claims: Claims) -> Found:
    if not actors(claims):
        return skipped("the issued token has no act")
    return "cnf within act" if any("cnf" in actor for actor in actors(claims)) else None


CASES: Final = (
    good_claims("CL-01", "typ", "an access token of typ at+jwt", _typ, AGENTS),
    good_claims("CL-01", "claims", f"an access token with {', '.join(_REQUIRED)}", _required, AGENTS),
    good_claims("CL-01", "issuer", "iss is the issuer of the metadata", _issuer),
    good_claims("CL-01", "signature", "a signature of a key of the jwks_uri", _verifies),
    good_claims("CL-06", "jti-unique", "a jti that no other token has", _jti_unique),
    good_claims("CL-06", "jti-long", "a jti of 128 bits", _jti_long, OURS),
    good_claims("CL-06", "txn-kept", "the txn of the subject token", _txn, AGENTS),
    good_claims("CL-07", "lifetime", "an exp not after those of subject and actor token", _lifetime, OURS),
    good_claims("CL-07", "no-future", "iat and nbf that are not in the future", _no_future),
    Case(
        "CL-07", "expired-subject", "a subject token that has expired",
        "400 invalid_request (actor-profile: or invalid_grant)", _expired, refused_token(),
        needs=(Need.EXPIRED,),
    ),
    good_claims(
        "CL-08", "bound", "cnf x5t#S256 of the client's certificate, or jkt of its proof", _bound, AGENTS
    ),
    good_claims("CL-08", "one-binding", "one member in cnf", _one_binding, OURS),
    good_claims("CL-08", "no-inner-binding", "no cnf within act", _no_inner_binding, AGENTS),
)  # fmt: skip
