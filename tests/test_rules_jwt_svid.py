"""JWT-SVIDs, rules J-1 to J-10, where other people's keys, tokens and readers are involved.

What one token of ours must be is in test_jwt_svid.py.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
import spiffe
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from spiffe.bundle.jwt_bundle.jwt_bundle import JwtBundle
from spiffe.errors import PySpiffeError

from identity.base64url import encode_base64url
from identity.bundle import Bundle, encode_bundle
from identity.delegation import issue_delegation_token
from identity.errors import (
    TokenAlgorithmError,
    TokenError,
    TokenIssuerError,
    TokenKeyError,
    TokenMalformedError,
    TokenSignatureError,
    TokenTypeError,
)
from identity.jws import UnverifiedToken
from identity.jwt_svid import JwtSvid, issue_jwt_svid, verify_jwt_svid
from identity.keys import KeySet
from identity.spiffe import agent_task_id
from identity.transaction import verify_transaction_token
from identity.wit_svid import issue_wit_svid
from tests.fakes import DOMAIN, World
from tests.fakes import ISSUER as WORLD_ISSUER
from tests.fakes import NOW as WORLD_NOW
from tests.identity_world import (
    AUDIENCE,
    NOW,
    OTHER_TD,
    SECONDS,
    STRANGER_KEY,
    SVID_KEY,
    SVID_KEYS,
    TD,
    TOKEN_KEY,
    delegation,
    forge,
    header_of,
    ulid,
)

TASK_ID, THEIR_TASK_ID = (agent_task_id(domain, "triage", ulid(1)) for domain in (TD, OTHER_TD))
CLAIMS = {"sub": str(THEIR_TASK_ID), "aud": [AUDIENCE], "iat": SECONDS, "exp": SECONDS + 60}
RSA_KEY, OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048), rsa.generate_private_key(65537, 2048)
KEYS: dict[str, Any] = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), RSA_KEY),
}


def published(alg: str, *, named: bool = True, key: Any = None) -> dict[str, object]:
    """Return the entry of a federated bundle, as another library writes it."""
    algorithm = jwt.get_algorithm_by_name(alg)
    public = json.loads(algorithm.to_jwk((key or KEYS[alg]).public_key()))
    entry = {name: value for name, value in public.items() if name != "key_ops"}
    return {**entry, "kid": "theirs", "use": "jwt-svid", **({"alg": alg} if named else {})}


def bundle_of(*entries: Mapping[str, object]) -> dict[Any, KeySet]:
    document = json.dumps({"keys": list(entries), "spiffe_sequence": 1}).encode()
    return {**SVID_KEYS, OTHER_TD: Bundle.parse(document, OTHER_TD).jwt_keys}


def signed(alg: str, key: Any = None, typ: str = "JWT", **claims: object) -> str:
    """Sign as another authority does, with another library."""
    headers = {"kid": "theirs", "typ": typ}
    return jwt.encode({**CLAIMS, **claims}, key or KEYS[alg], alg, headers=headers)


def check(text: str, bundles: Any = SVID_KEYS) -> JwtSvid:
    return verify_jwt_svid(UnverifiedToken.parse(text), bundles, audience=AUDIENCE, now=NOW, leeway=0)


def ours(**more: Any) -> str:
    end = NOW + timedelta(hours=1)
    return issue_jwt_svid(SVID_KEY, TASK_ID, audience=AUDIENCE, now=NOW, ttl=60, not_after=end, **more)


def test_j_1_refuses_an_extra_jose_header() -> None:
    """J-1: also one that changes nothing, and whatever its value."""
    claims = {**CLAIMS, "sub": str(TASK_ID)}
    for member in (
        "jku",
        "jwk",
        "x5u",
        "x5c",
        "x5t",
        "x5t#S256",
        "cty",
        "nonce",
        "iss",
        "url",
        "x-y",
        "ALG",
        "",
    ):
        values: list[object] = ["x", None, [], {}]
        for value in values:
            with pytest.raises(TokenMalformedError):
                check(forge(SVID_KEY, header_of(SVID_KEY, "JWT", **{member: value}), claims))
    for member in ("crit", "b64", "zip", "enc"):
        with pytest.raises(TokenMalformedError):
            check(forge(SVID_KEY, header_of(SVID_KEY, "JWT", **{member: ["x"]}), claims))


def test_j_1_refuses_other_serializations() -> None:
    """J-1: compact only; the JSON forms have places where nobody looks."""
    header, payload, signature = ours().split(".")
    flat = {"protected": header, "payload": payload, "signature": signature}
    general = {"payload": payload, "signatures": [{"protected": header, "signature": signature}]}
    for text in (json.dumps(flat), json.dumps(general), f"{ours()}.", f".{ours()}", f"{ours()}.{signature}"):
        with pytest.raises(TokenMalformedError):
            check(text)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("alg", KEYS)
def test_j_2_accepts_the_nine_algorithms_of_another_authority(alg: str, named: bool) -> None:
    """J-2: RS, ES and PS with 256, 384 and 512 bits, whether or not the bundle's key names its own."""
    bundles = bundle_of(published(alg, named=named))
    assert check(signed(alg), bundles).spiffe_id == THEIR_TASK_ID
    other = ec.generate_private_key(KEYS[alg].curve) if alg.startswith("ES") else OTHER_RSA_KEY
    with pytest.raises(TokenSignatureError):
        check(signed(alg, other), bundles)


@pytest.mark.parametrize("alg", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_j_2_a_key_that_names_its_algorithm_verifies_no_other(alg: str) -> None:
    """J-2: the token's header does not choose between those that one key could do."""
    bundles = bundle_of(published(alg))
    for other in KEYS:
        if not other.startswith("ES") and other != alg:
            with pytest.raises(TokenAlgorithmError):
                check(signed(other), bundles)


@pytest.mark.parametrize("curve", ["ES256", "ES384", "ES512"])
def test_j_2_a_curve_has_one_algorithm(curve: str) -> None:
    """J-2: a header of another one is refused before anything is computed."""
    _, payload, signature = signed(curve).split(".")
    for other in {"ES256", "ES384", "ES512", "RS256", "PS512"} - {curve}:
        header = encode_base64url(json.dumps({"alg": other, "kid": "theirs", "typ": "JWT"}).encode())
        with pytest.raises(TokenAlgorithmError):
            check(f"{header}.{payload}.{signature}", bundle_of(published(curve)))


def test_j_2_and_j_9_refuse_a_key_of_eddsa_and_what_it_signed() -> None:
    """J-2, J-9: SPIFFE does not allow it; the key is left out of the bundle, the token not even read."""
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate()
    assert not list(bundle_of(published("EdDSA", key=key))[OTHER_TD])
    with pytest.raises(TokenAlgorithmError):
        check(signed("EdDSA", key), bundle_of(published("EdDSA", key=key)))


def test_j_3_type_is_a_media_type_in_any_case() -> None:
    """J-3: absent, `JWT` or `JOSE`; RFC 7515 lets a reader put `application/` before it."""
    claims = {**CLAIMS, "sub": str(TASK_ID)}
    for typ in (None, "JWT", "jwt", "JOSE", "application/jwt"):
        assert check(forge(SVID_KEY, header_of(SVID_KEY, typ), claims)).spiffe_id == TASK_ID
    for typ in ("at+jwt", "AT+JWT", "application/at+jwt", "jwt+jwt", "JWT "):
        with pytest.raises(TokenTypeError):
            check(forge(SVID_KEY, header_of(SVID_KEY, typ), claims))


@pytest.mark.parametrize("kid", ["", "other", None, 7, ["theirs"], "THEIRS", "theirs "])
def test_j_4_kid_names_exactly_one_key(kid: object) -> None:
    """J-4: no key is tried because it is the only one."""
    text = forge(SVID_KEY, {"alg": "ES256", "typ": "JWT", "kid": kid}, {**CLAIMS, "sub": str(TASK_ID)})
    with pytest.raises(TokenKeyError):
        check(text)


def test_j_5_subject_is_the_holder_and_never_a_person() -> None:
    """J-5: a token that is issued for a person is no SVID of that person, whatever signed it."""
    obo = issue_delegation_token(TOKEN_KEY, delegation())
    with pytest.raises(TokenTypeError):
        check(obo)
    claims = dict(UnverifiedToken.parse(obo).unverified_claims)
    person = f"spiffe://{TD.name}/user/lead"
    for changes in ({}, {"sub": person}, {"sub": str(TASK_ID)}):
        # The key of tokens is in no bundle: even with the right type and form there is nobody who vouches.
        with pytest.raises(TokenError):
            check(forge(TOKEN_KEY, header_of(TOKEN_KEY, "JWT"), {**claims, **changes, "aud": [AUDIENCE]}))
    entries = encode_bundle([], [SVID_KEY.public], 1)["keys"]
    assert isinstance(entries, list)
    assert TOKEN_KEY.kid not in {entry["kid"] for entry in entries}


def test_j_6_and_j_7_real_client_finds_audience_and_expiry() -> None:
    """J-6, J-7: PyPI `spiffe` reads what we issue, for the audience that it is for and no other."""
    domain = spiffe.TrustDomain(TD.name)
    trusted = JwtBundle(domain, {SVID_KEY.kid: SVID_KEY.private_key.public_key()})
    now = datetime.now(UTC)  # it has no clock as an argument
    end = now + timedelta(hours=1)
    text = issue_jwt_svid(SVID_KEY, TASK_ID, audience=AUDIENCE, now=now, ttl=60, not_after=end)
    read = spiffe.JwtSvid.parse_and_validate(text, trusted, {AUDIENCE})
    assert (str(read.spiffe_id), read.audience) == (str(TASK_ID), {AUDIENCE})
    with pytest.raises(PySpiffeError):
        spiffe.JwtSvid.parse_and_validate(text, trusted, {"other"})
    forged = forge(
        STRANGER_KEY, header_of(SVID_KEY, "JWT"), dict(UnverifiedToken.parse(text).unverified_claims)
    )
    with pytest.raises(PySpiffeError):
        spiffe.JwtSvid.parse_and_validate(forged, trusted, {AUDIENCE})


def test_j_8_claims_with_names_of_their_own_stay() -> None:
    """J-8: signed and let through, as go-spiffe does; none of them changes who it is."""
    claims: dict[str, Any] = {
        "act": {"sub": str(TASK_ID)},
        "https://x.example/a": [1],
        "groups": ["admin"],
        "email": "a@b",
    }
    found = check(signed("ES256", **claims), bundle_of(published("ES256")))
    assert found.spiffe_id == THEIR_TASK_ID


def test_j_9_refuses_wit_and_proof_as_bearer() -> None:
    """J-9: by the type, before any key is looked at."""
    public, end = STRANGER_KEY.private_key.public_key(), NOW + timedelta(hours=1)
    wit = issue_wit_svid(SVID_KEY, TASK_ID, public, now=NOW, ttl=60, not_after=end)
    with pytest.raises(TokenTypeError):
        check(wit)
    with pytest.raises(TokenTypeError):
        check(wit, {})


def test_j_10_keys_are_those_of_the_domain_in_the_subject() -> None:
    """J-10: a domain without a bundle, with an empty one, and with one that lost the key."""
    text = signed("ES256")
    assert check(text, bundle_of(published("ES256"))).spiffe_id == THEIR_TASK_ID
    with pytest.raises(TokenIssuerError):
        check(text)
    with pytest.raises(TokenKeyError):
        check(text, bundle_of())
    with pytest.raises(TokenKeyError):
        check(text, bundle_of({**published("ES256"), "kid": "new"}))
    with pytest.raises(TokenKeyError):
        check(text, bundle_of({**published("ES256"), "use": "wit-svid"}))


def test_j_10_a_federated_key_under_our_own_kid_forges_nothing() -> None:
    """J-10: two domains may call their keys alike; the subject says whose is meant."""
    entry = {**published("ES256"), "kid": SVID_KEY.kid}
    headers = {"kid": SVID_KEY.kid}
    forged = jwt.encode({**CLAIMS, "sub": str(TASK_ID)}, KEYS["ES256"], "ES256", headers=headers)
    with pytest.raises(TokenSignatureError):
        check(forged, bundle_of(entry))
    right = jwt.encode(CLAIMS, KEYS["ES256"], "ES256", headers=headers)
    assert check(right, bundle_of(entry)).spiffe_id == THEIR_TASK_ID


def test_two_tasks_never_share_a_jti() -> None:
    """The tokens that go upstream: each call of each task has its own; a JWT-SVID is named by its hash."""
    world = World()
    names: list[str] = []
    for _ in range(5):
        run = world.run("triage")
        for _ in range(3):
            response = world.check(world.request(world.token(run), run))
            (option,) = (part for part in response.ok_response.headers if part.header.key == "txn-token")
            token = verify_transaction_token(
                option.header.value,
                world.authority.token_keys,
                issuer=WORLD_ISSUER,
                trust_domain=DOMAIN,
                service="tickets",
                now=WORLD_NOW,
                leeway=0,
            )
            names.append(token.jti)
    assert len(set(names)) == len(names) == 15
    assert "jti" not in UnverifiedToken.parse(ours()).unverified_claims
    assert check(ours()).token_id != check(ours()).token_id  # the signature is another one each time
