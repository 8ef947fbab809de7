"""JW-01 to JW-04: tricks with the header of a token; each is a changed copy of the given subject token.

- No key of anybody is needed: what is signed anew is signed with a key that is made here, or with what
  everybody knows.
- A refusal proves little about how it came about; a token that is issued, or a server that falls over,
  proves that the rule is broken.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Final

from cryptography.hazmat.primitives import serialization

from authz.conformance.case import Case
from authz.conformance.cases_delegation import presented
from authz.conformance.judge import refused
from authz.conformance.message import Request
from authz.conformance.situation import ACCESS_TOKEN, TOKEN_TYPE, Need, Presented, Situation
from authz.conformance.token import Jwt, json_of
from identity.base64url import encode_base64url
from identity.keys import SigningKey, VerificationKey

# What changes a token, by the name of the change.
Changes = Mapping[str, Jwt]
_FAR_URL: Final = "https://deputy-conformance.invalid/keys"
_KIDS: Final = {
    "a path": "../../../../../../dev/null",
    "SQL": "x' UNION SELECT 'key'-- ",
    "NUL": "\x00",
    "10,000 characters": "k" * 10_000,
    "another key": "deputy-conformance-unknown",
    "empty": "",
}
_ALGORITHMS: Final = ("RS256", "PS256", "ES256", "ES384", "ES256K", "RS1", "EdDSA")
_TYPES: Final = (
    "at+jwt", "txntoken+jwt", "oauth-id-jag+jwt", "dpop+jwt", "secevent+jwt", "logout+jwt",
    "token-introspection+jwt", "JWE", "",
)  # fmt: skip


@cache
def _own_key() -> SigningKey:
    """The key of this tool, which no server can know."""
    return SigningKey.generate()


def changed(change: Callable[[Jwt], Changes]) -> Callable[[Situation], Sequence[Request]]:
    """Send changed copies of the subject token."""

    def send(situation: Situation) -> Sequence[Request]:
        token = situation.subject
        if token is None:
            return ()
        good = situation.inputs.good
        copies = change(token).items()
        return [good.with_("subject_token", copy.text).labelled(label) for label, copy in copies]

    return send


def _mac(token: Jwt, secret: bytes) -> Jwt:
    return token.signed(hmac.digest(secret, token.signing_input, hashlib.sha256))


def _resigned(token: Jwt, **header: object) -> Jwt:
    copy = token.adding(alg="ES256", **header)
    return copy.signed(_own_key().sign(copy.signing_input))


def _unsigned(token: Jwt) -> Changes:
    spellings = ("none", "None", "NONE", "nOnE", "none ")
    empty = {f"alg {name!r}": token.adding(alg=name).with_signature("") for name in spellings}
    return {**empty, "alg 'none' with a signature": token.adding(alg="none")}


def _stripped(token: Jwt) -> Changes:
    headless = {name: value for name, value in token.unverified_header.items() if name != "alg"}
    return {
        "no signature": token.with_signature(""),
        "no alg": token.with_header(headless),
        "alg null": token.adding(alg=None),
        "a list of alg": token.adding(alg=["none"]),
    }


def _public_key_as_secret(situation: Situation) -> Sequence[Request]:
    token, key = situation.subject, situation.subject_key
    if token is None or key is None:
        return ()
    copy = token.adding(alg="HS256")
    return [
        situation.inputs.good.with_("subject_token", _mac(copy, secret).text).labelled(label)
        for label, secret in _secrets(key).items()
    ]


def _secrets(key: VerificationKey) -> Mapping[str, bytes]:
    """Return the forms of a public key that a careless verifier takes for a secret."""
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = key.public_key.public_bytes(serialization.Encoding.PEM, spki)
    return {
        "the key as PEM": pem,
        "the key as PEM without its last line end": pem.rstrip(),
        "the key as DER": key.public_key.public_bytes(serialization.Encoding.DER, spki),
        "the key as JWK": json_of(key.jwk()),
    }


def _weak_secrets(token: Jwt) -> Changes:
    copy = token.adding(alg="HS256")
    return {f"a secret of {secret!r}": _mac(copy, secret) for secret in (b"", b"secret", b"\x00")}


def _another_algorithm(token: Jwt) -> Changes:
    own = token.unverified_header.get("alg")
    return {name: token.adding(alg=name) for name in _ALGORITHMS if name != own}


def _foreign_key(token: Jwt) -> Changes:
    nameless = {name: value for name, value in token.unverified_header.items() if name != "kid"}
    return {
        "with the kid of the issuer": _resigned(token),
        "without a kid": _resigned(token.with_header(nameless)),
    }


def _embedded_key(token: Jwt) -> Changes:
    public = _own_key().public
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    der = public.public_key.public_bytes(serialization.Encoding.DER, spki)
    return {
        "jwk": _resigned(token, jwk=public.jwk(), kid=public.kid),
        "jku": _resigned(token, jku=_FAR_URL, kid=public.kid),
        "x5u": _resigned(token, x5u=_FAR_URL, kid=public.kid),
        "x5c": _resigned(token, x5c=[encode_base64url(der)], kid=public.kid),
    }


def _kids(token: Jwt) -> Changes:
    numbers = {"a number": token.adding(kid=7), "an object": token.adding(kid={"a": "b"})}
    return {**{label: token.adding(kid=kid) for label, kid in _KIDS.items()}, **numbers}


def _null_secret(token: Jwt) -> Changes:
    """The file that a kid leads to is empty, so its content is a secret that everybody knows."""
    return {"a path, and HS256": _mac(token.adding(alg="HS256", kid=_KIDS["a path"]), b"")}


def _critical(token: Jwt) -> Changes:
    return {
        "unknown": token.adding(crit=["deputy-conformance"], **{"deputy-conformance": 1}),
        "empty": token.adding(crit=[]),
        "a registered member": token.adding(crit=["alg"]),
        "no list": token.adding(crit="exp"),
        "b64": token.adding(crit=["b64"], b64=False),
        "b64 without crit": token.adding(b64=False),
    }


def _compressed(token: Jwt) -> Changes:
    return {"zip": token.adding(zip="DEF")}


def _encrypted(situation: Situation) -> Sequence[Request]:
    header = encode_base64url(json_of({"alg": "dir", "enc": "A128GCM", "zip": "DEF"}))
    # An empty key, and not a byte that was ever encrypted.
    token = (
        f"{header}..{encode_base64url(bytes(12))}.{encode_base64url(bytes(64))}.{encode_base64url(bytes(16))}"
    )
    return (situation.inputs.good.with_("subject_token", token),)


def _types(token: Jwt) -> Changes:
    own = token.unverified_header.get("typ")
    return {repr(typ): token.adding(typ=typ) for typ in _TYPES if typ != own}


def _as_another(situation: Situation) -> Sequence[Request]:
    """Present tokens that are true as what they are not: these signatures are good."""
    inputs, good = situation.inputs, situation.inputs.good
    found = []
    if inputs.actor is not None:
        as_subject = presented(situation, Presented(inputs.actor.unverified_token, inputs.subject.kind))
        as_actor = good.with_("actor_token", inputs.subject.unverified_token)
        found += [
            as_subject.labelled("the actor as the subject"),
            as_actor.labelled("the subject as the actor"),
        ]
    issued = situation.good[0].unverified_token
    if issued and inputs.subject.kind in {ACCESS_TOKEN, f"{TOKEN_TYPE}jwt"}:
        found.append(presented(situation, Presented(issued, f"{TOKEN_TYPE}id_token")).labelled("an ID token"))
    elif issued:
        found.append(
            presented(situation, Presented(issued, inputs.subject.kind)).labelled("of the subject's type")
        )
    return found


def _case(rule: str, name: str, title: str, change: Callable[[Jwt], Changes]) -> Case:
    return Case(rule, name, title, "a refusal", changed(change), refused(), needs=(Need.JWT_SUBJECT,))


CASES: Final = (
    _case("JW-01", "alg-none", "the subject token with alg none, in all spellings", _unsigned),
    _case("JW-01", "no-signature", "the subject token without signature or alg", _stripped),
    Case(
        "JW-01", "hs256-public-key", "the subject token with HS256, and the public key for a secret",
        "a refusal", _public_key_as_secret, refused(), needs=(Need.JWT_SUBJECT, Need.SUBJECT_KEY),
    ),
    _case("JW-01", "hs256-weak", "the subject token with HS256, and a secret that is guessed", _weak_secrets),
    _case("JW-01", "another-alg", "the subject token with an alg that is not the key's", _another_algorithm),
    _case("JW-01", "foreign-key", "the subject token, signed with a key of nobody", _foreign_key),
    _case("JW-02", "embedded-key", "the subject token, signed with a key in its header", _embedded_key),
    _case("JW-02", "kid", "the subject token with a kid that is no key of the issuer", _kids),
    _case("JW-02", "kid-path", "the subject token, signed with a file that kid names", _null_secret),
    _case("JW-03", "crit", "the subject token with crit or b64", _critical),
    _case("JW-03", "zip", "the subject token with zip", _compressed),
    Case("JW-03", "jwe", "a JWE for a subject token", "a refusal", _encrypted, refused()),
    _case("JW-04", "typ", "the subject token with the typ of another kind", _types),
    Case(
        "JW-04", "another-kind", "a good token in the place of another kind",
        "a refusal", _as_another, refused(), needs=(Need.JWT_ISSUED,),
    ),
)  # fmt: skip
