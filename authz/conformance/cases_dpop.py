"""CA-05 and JW-09: proofs of possession at the token endpoint (RFC 9449 sections 4.3, 5, 8 and 11.1).

- Every proof but one trick is good: its key is the one given, or one that is made here.
- That a wrong one is refused says something only where the good one is taken: see CA-05/bound. The name of
  the error is looked at once, by TX-06/dpop-proof.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from cryptography.hazmat.primitives import serialization

from authz.conformance.case import EVERY, OURS, Case, Judge, Verdict, failed, passed, skipped
from authz.conformance.judge import claims_of, first_wrong, is_refusal, refused, short
from authz.conformance.message import Answer, Request
from authz.conformance.proof import Proof
from authz.conformance.signer import Signer, other_signer, own_signer, private_jwk
from authz.conformance.situation import Need, Profile, Situation
from authz.conformance.token import json_of
from identity.base64url import encode_base64url

# What changes a proof, by the name of the change.
Proofs = Mapping[str, Proof]
_FAR: Final = 3600
_SECRET: Final = b"deputy-conformance"
_AT_ONCE: Final = 6
_FOR_THE_ACTOR: Final = "the token is for the actor, who has another key"


def proved(situation: Situation, *proofs: Proof) -> Request:
    """Return the good request with these proofs."""
    return replace(situation.inputs.good, proofs=proofs)


def _wrong(change: Callable[[Signer], Proofs]) -> Callable[[Situation], Sequence[Request]]:
    def send(situation: Situation) -> Sequence[Request]:
        changed = change(situation.signer).items()
        return [proved(situation, proof).labelled(label) for label, proof in changed]

    return send


def _good(situation: Situation) -> Sequence[Request]:
    return (proved(situation, Proof(situation.signer)),)


def _bound(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    (answer,) = answers
    if situation.inputs.actor is not None:
        return skipped(_FOR_THE_ACTOR)
    if answer.unverified_token is None:
        return failed(answer.got)
    said = answer.members.get("token_type")
    if not isinstance(said, str) or said.lower() != "dpop":
        return failed(f"{answer.got}, of token_type {short(said)}")
    claims = claims_of(answer)
    cnf = claims.get("cnf")
    if claims and not (isinstance(cnf, dict) and cnf.get("jkt") == situation.signer.jkt):
        return failed(f"{answer.got}, not bound to the key of the proof")
    return passed(f"{answer.got}, of token_type DPoP")


def _methods(signer: Signer) -> Proofs:
    return {
        "no htm": Proof(signer, claims={"htm": None}),
        "GET": Proof(signer, claims={"htm": "GET"}),
        "post": Proof(signer, claims={"htm": "post"}),
    }


def _addresses(signer: Signer) -> Proofs:
    return {
        "no htu": Proof(signer, claims={"htu": None}),
        "another host": Proof(signer, claims={"htu": "https://deputy-conformance.invalid/token"}),
        "no address": Proof(signer, claims={"htu": "/token"}),
    }


def _other_paths(situation: Situation) -> Sequence[Request]:
    url = situation.inputs.token_endpoint.partition("?")[0]
    host = url.split("/", 3)[2]
    claims = {
        "a longer path": f"{url}/more",
        "another port": url.replace(host, f"{host.rpartition(':')[0] or host}:9", 1),
        "as a user of another host": url.replace(host, f"{host}@deputy-conformance.invalid", 1),
    }
    return [
        *_wrong(_addresses)(situation),
        *(
            proved(situation, Proof(situation.signer, claims={"htu": htu})).labelled(label)
            for label, htu in claims.items()
        ),
    ]


def _times(signer: Signer) -> Proofs:
    return {
        "no iat": Proof(signer, claims={"iat": None}),
        "a text": Proof(signer, claims={"iat": "now"}),
        "an hour old": Proof(signer, age=_FAR),
        "an hour ahead": Proof(signer, age=-_FAR),
    }


def _names(signer: Signer) -> Proofs:
    claims: Mapping[str, object] = {"no jti": None, "empty": "", "a number": 7}
    return {label: Proof(signer, claims={"jti": jti}) for label, jti in claims.items()}


def _headers(signer: Signer) -> Proofs:
    unknown: dict[str, object] = {"crit": ["deputy-conformance"], "deputy-conformance": 1}
    return {
        "no typ": Proof(signer, header={"typ": None}),
        "typ JWT": Proof(signer, header={"typ": "JWT"}),
        "typ at+jwt": Proof(signer, header={"typ": "at+jwt"}),
        "crit": Proof(signer, header=unknown),
    }


def _mac(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda data: hmac.digest(secret, data, hashlib.sha256)


def _algorithms(signer: Signer) -> Proofs:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = signer.private_key.public_key().public_bytes(serialization.Encoding.PEM, spki)
    return {
        "none": Proof(signer, header={"alg": "none"}, sign=lambda _: b""),
        "NONE": Proof(signer, header={"alg": "NONE"}, sign=lambda _: b""),
        "no alg": Proof(signer, header={"alg": None}),
        "another than the key's": Proof(signer, header={"alg": "ES384"}),
        "HS256, and the key as PEM for a secret": Proof(signer, header={"alg": "HS256"}, sign=_mac(pem)),
        "HS256, and the key as JWK for a secret": Proof(
            signer, header={"alg": "HS256"}, sign=_mac(json_of(signer.jwk))
        ),
    }


def _keys(signer: Signer) -> Proofs:
    symmetric = {"kty": "oct", "k": encode_base64url(_SECRET)}
    return {
        "no jwk": Proof(signer, header={"jwk": None}),
        # Never the key that was given: what is sent there would be its end.
        "with its private part": Proof(own_signer(), header={"jwk": private_jwk(own_signer())}),
        "symmetric": Proof(signer, header={"alg": "HS256", "jwk": symmetric}, sign=_mac(_SECRET)),
        "no object": Proof(signer, header={"jwk": "key"}),
    }


def _signatures(signer: Signer) -> Proofs:
    return {
        "of another key": Proof(signer, sign=other_signer().sign),
        "none": Proof(signer, sign=lambda _: b""),
    }


def _hashes(signer: Signer) -> Proofs:
    return {"ath": Proof(signer, claims={"ath": encode_base64url(hashlib.sha256(_SECRET).digest())})}


def _two(situation: Situation) -> Sequence[Request]:
    proof = Proof(situation.signer)
    return (proved(situation, proof, proof),)


def _twice(situation: Situation) -> Sequence[Request]:
    request = proved(situation, Proof(situation.signer, once="CA-05/replayed"))
    return (request.labelled("the first time"), request.labelled("the second time"))


def _once(_: Situation, answers: Sequence[Answer]) -> Verdict:
    first, second = answers
    if first.unverified_token is None:
        return skipped(f"the proof was refused: {first.got}")
    return first_wrong((second,), lambda each: not is_refusal(each))


def _together(situation: Situation, _: Sequence[Answer]) -> Sequence[Request]:
    proof = Proof(situation.signer, once="JW-09/at-once")
    return [proved(situation, proof)] * _AT_ONCE


def _one_of_them(_: Situation, answers: Sequence[Answer]) -> Verdict:
    before, *together = answers
    granted = sum(answer.unverified_token is not None for answer in together)
    if before.unverified_token is None or not granted:
        refusal = before if before.unverified_token is None else together[0]
        return skipped(f"no proof was taken: {refusal.got}")
    said = f"{granted} of {len(together)} granted"
    wrong = next((each for each in together if each.unverified_token is None and not is_refusal(each)), None)
    if wrong is not None:
        return failed(f"{said}, and {wrong.got}")
    return passed(said) if granted == 1 else failed(said)


def _nonces(signer: Signer) -> Proofs:
    return {
        "no nonce": Proof(signer, claims={"nonce": None}),
        "a nonce of nobody": Proof(signer, claims={"nonce": "deputy-conformance"}),
    }


def _nonce_asked(_: Situation, answers: Sequence[Answer]) -> Verdict:
    if answers[0].error != "use_dpop_nonce":
        return skipped("the server asks for no nonce")
    for answer in answers:
        if answer.error != "use_dpop_nonce" or not is_refusal(answer):
            return failed(answer.got)
        if not answer.headers.get("dpop-nonce"):
            return failed(f"{answer.got}, without DPoP-Nonce")
    return passed(answers[0].got)


def _case(
    name: str,
    title: str,
    send: Callable[[Situation], Sequence[Request]],
    judge: Judge | None = None,
    must: frozenset[Profile] = EVERY,
    *,
    expected: str = "a refusal",
) -> Case:
    return Case("CA-05", name, title, expected, send, judge or refused(), must, (Need.DPOP,))


CASES: Final = (
    _case(
        "bound", "the good request with a proof", _good, _bound,
        expected="a token of type DPoP, with the thumbprint of the key in cnf jkt",
    ),
    _case("method", "a proof for another method", _wrong(_methods)),
    _case("uri", "a proof for another URI", _other_paths),
    _case("time", "a proof whose iat is no time of now", _wrong(_times)),
    _case("name", "a proof without a name of its own (jti)", _wrong(_names)),
    _case("header", "a proof of another typ, or with an unknown crit", _wrong(_headers)),
    _case("algorithm", "a proof with none, or a public key for a secret", _wrong(_algorithms)),
    _case("key", "a proof whose jwk is private, symmetric or not there", _wrong(_keys)),
    _case("signature", "a proof with a signature that is not of its key", _wrong(_signatures)),
    _case("two-proofs", "two proofs in one request", _two),
    _case("hash", "a proof with ath, where no access token is sent", _wrong(_hashes), must=OURS),
    _case(
        "replayed", "one proof in two requests, one after the other", _twice, _once, OURS,
        expected="a refusal of the second one",
    ),
    _case(
        "nonce", "a proof without the nonce that the server asks for", _wrong(_nonces), _nonce_asked,
        expected="400 use_dpop_nonce, and a DPoP-Nonce",
    ),
    Case(
        "JW-09", "at-once", f"one proof in {_AT_ONCE} requests at once",
        "one token", _good, _one_of_them, OURS, (Need.DPOP,), _together, at_once=True,
    ),
)  # fmt: skip
