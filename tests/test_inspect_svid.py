"""`inspect`: each rule has something that breaks it; nothing secret comes out, whatever goes in."""

import base64
import json
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from identity.authority import Authority
from identity.base64url import encode_base64url
from identity.bundle import encode_bundle
from identity.delegation import issue_delegation_token
from identity.inspect_svid import inspect_svid
from identity.inspection import MAX_INPUT, MAX_SHOWN, Inspection, InspectionError
from identity.keys import SigningKey
from identity.spiffe import agent_task_id
from tests.identity_world import NOW, OTHER_TD, TD, delegation, forge, header_of, ulid
from tests.test_x509_svid import CA, LEAF_KEY, OTHER_CA, TASK_ID, issue, uris, usage
from tests.test_x509_svid import forge as forge_certificate

AUTHORITY = Authority.generate(TD, NOW)
OTHER = Authority.generate(OTHER_TD, NOW)
BUNDLE = json.dumps(AUTHORITY.bundle()).encode()
OTHER_BUNDLE = json.dumps(OTHER.bundle()).encode()
CA_BUNDLE = json.dumps(encode_bundle([CA.certificate], [], 1)).encode()
SECONDS = int(NOW.timestamp())
HOUR = NOW + timedelta(hours=1)
AUDIENCE = "https://tickets.mesh.example"


def pem(*ders: bytes) -> bytes:
    certificates = (x509.load_der_x509_certificate(der) for der in ders)
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def look(data: bytes | str, **more: Any) -> Inspection:
    (found,) = inspect_svid(data.encode() if isinstance(data, str) else data, now=NOW, **more)
    return found


def outcomes(found: Inspection, rule: str) -> set[str]:
    return {one.outcome for one in found.findings if one.rule == rule}


def broken(found: Inspection) -> set[str]:
    return {one.rule for one in found.findings if one.outcome == "failed"}


def jwt_svid(**more: Any) -> str:
    return AUTHORITY.issue_jwt_svid(TASK_ID, AUDIENCE, NOW, 60, HOUR, **more)


def forged_jwt(header: dict[str, Any] | None = None, /, **claims: Any) -> str:
    key = AUTHORITY.jwt_key
    right = {"sub": str(TASK_ID), "aud": [AUDIENCE], "exp": SECONDS + 60, "iat": SECONDS}
    merged = {name: value for name, value in (right | claims).items() if value is not None}
    return forge(key, header_of(key, "JWT") | (header or {}), merged)


# X.509-SVIDs


def test_our_own_svid_breaks_no_rule_and_says_loudly_that_nothing_is_verified() -> None:
    found = look(pem(issue()))
    assert (found.kind, found.verification, broken(found)) == ("x509-svid", "not-verified", set())
    assert found.verdict.startswith("NOTHING IS VERIFIED")
    assert not found.is_refused
    assert {one.rule for one in found.findings} >= {
        *("ID-1", "ID-2", "ID-3", "ID-4", "ID-6"),
        *("X-1", "X-2", "X-3", "X-4", "X-5", "X-7", "X-8"),
    }
    assert dict(found.parts)["names"] == str(TASK_ID)
    assert all(one.section for one in found.findings)


def test_x7_it_verifies_with_the_bundle_of_its_own_trust_domain() -> None:
    """X-7."""
    found = look(pem(issue()), bundle=CA_BUNDLE)
    assert found.verification == "verified"
    assert "its own trust domain" in found.verdict
    assert look(pem(issue()), bundle=CA.certificate_pem()).verification == "verified"


@pytest.mark.parametrize("bundle", [BUNDLE, OTHER_BUNDLE, OTHER_CA.certificate_pem()])
def test_x7_other_roots_refuse_it(bundle: bytes) -> None:
    """X-7: roots of another authority, and of another trust domain."""
    found = look(pem(issue()), bundle=bundle)
    assert (found.verification, found.is_refused) == ("failed", True)


def test_x7_a_federated_authority_cannot_speak_for_us() -> None:
    """X-7: a name of ours, signed by another trust domain's authority, with that one's bundle."""
    der = forge_certificate(ca=OTHER_CA)
    found = look(pem(der), bundle=OTHER_CA.certificate_pem())
    assert found.verification == "failed"
    assert "another trust domain" in found.verdict


LEAVES: list[tuple[str, dict[str, Any]]] = [
    ("X-1", {"names": (uris(), True)}),
    ("X-1", {"names": (uris(str(TASK_ID), "spiffe://mesh.example/other"), True)}),
    ("X-1", {"names": None}),
    ("X-2", {"names": (uris(str(TASK_ID)), False)}),
    ("X-3", {"constraints": None}),
    ("X-4", {"usage": None}),
    ("X-4", {"usage": (usage("digital_signature"), False)}),
    ("X-4", {"usage": (usage("digital_signature", "key_cert_sign"), True)}),
    ("X-4", {"usage": (usage("digital_signature", "crl_sign"), True)}),
    ("X-4", {"usage": (usage("key_agreement"), True)}),
    ("X-5", {"purpose": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)}),
    ("X-8", {"issuer": None}),
    ("ID-1", {"names": (uris("https://mesh.example/a"), True)}),
    ("ID-1", {"names": (uris("SPIFFE://mesh.example/a"), True)}),
    ("ID-1", {"names": (uris("spiffe://mesh.example/a?b"), True)}),
    ("ID-2", {"names": (uris("spiffe://mesh.example:80/a"), True)}),
    ("ID-2", {"names": (uris("spiffe://Mesh.example/a"), True)}),
    ("ID-3", {"names": (uris("spiffe://mesh.example/a/../b"), True)}),
    ("ID-3", {"names": (uris("spiffe://mesh.example/a%2fb"), True)}),
    ("ID-3", {"names": (uris("spiffe://mesh.example/a/"), True)}),
    ("ID-4", {"names": (uris("spiffe://mesh.example/" + "a" * 250), True)}),
    ("ID-6", {"names": (uris("spiffe://mesh.example"), True)}),
]


@pytest.mark.parametrize(("rule", "change"), LEAVES)
def test_a_leaf_that_breaks_a_rule_is_told_which(rule: str, change: dict[str, Any]) -> None:
    found = look(pem(forge_certificate(**change)), bundle=CA_BUNDLE)
    assert rule in broken(found)
    assert found.is_refused


@pytest.mark.parametrize("hours", [-1, 1])
def test_x7_a_leaf_out_of_its_time(hours: int) -> None:
    """X-7."""
    (found,) = inspect_svid(pem(issue()), now=NOW + timedelta(hours=hours))
    assert "X-7" in broken(found)


def test_x6_a_root_is_judged_as_one() -> None:
    """X-6."""
    found = look(CA.certificate_pem(), bundle=CA_BUNDLE)
    assert (found.kind, found.verification, broken(found)) == ("ca-certificate", "verified", set())
    assert look(CA.certificate_pem(), bundle=BUNDLE).verification == "failed"
    assert look(CA.certificate_pem()).verification == "not-verified"


ROOTS: list[tuple[str, dict[str, Any]]] = [
    ("X-6", {"usage": (usage("digital_signature"), True)}),
    ("X-6", {"usage": None}),
    ("X-6", {"names": None}),
    ("ID-6", {"names": (uris(str(TASK_ID)), True)}),
]


@pytest.mark.parametrize(("rule", "change"), ROOTS)
def test_x6_a_root_that_breaks_a_rule(rule: str, change: dict[str, Any]) -> None:
    """X-6, ID-6."""
    made = {"constraints": (x509.BasicConstraints(ca=True, path_length=0), True), **change}
    assert rule in broken(look(pem(forge_certificate(**made))))


def test_roots_side_by_side_are_no_chain() -> None:
    found = inspect_svid(CA.certificate_pem() + OTHER_CA.certificate_pem(), now=NOW)
    assert [one.kind for one in found] == ["ca-certificate", "ca-certificate"]


def test_x6_what_stands_behind_a_leaf_must_be_an_authority() -> None:
    """X-6."""
    found = look(pem(issue(), issue(spiffe_id=agent_task_id(TD, "triage", ulid(2)))))
    assert "X-6" in broken(found)
    assert look(pem(issue()) + CA.certificate_pem()).findings
    assert dict(look(pem(issue()) + CA.certificate_pem()).parts)["behind it, 1"]


def test_other_kinds_of_key_are_named() -> None:
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for key, says in ((rsa_key, "RSA 2048"), (ec.generate_private_key(ec.SECP384R1()), "secp384r1")):
        der = forge_certificate(public_key=key.public_key())
        assert says in dict(look(pem(der)).parts)["key"]
    ed = ed25519.Ed25519PrivateKey.generate()
    assert dict(look(pem(forge_certificate(public_key=ed.public_key()))).parts)["key"] == "of another kind"


# Requests and keys


def request(key: Any) -> bytes:
    name = x509.Name([])
    made = x509.CertificateSigningRequestBuilder(name).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def test_a_certificate_request_proves_its_key_and_no_name() -> None:
    found = look(request(LEAF_KEY.private_key))
    assert (found.kind, found.verification, broken(found)) == ("certificate-request", "verified", set())
    assert "no authority has spoken" in found.verdict
    assert "CSR-2" in broken(look(request(ec.generate_private_key(ec.SECP384R1()))))


def test_a_certificate_request_with_a_wrong_signature() -> None:
    made = x509.load_pem_x509_csr(request(LEAF_KEY.private_key)).public_bytes(serialization.Encoding.DER)
    other = x509.load_pem_x509_csr(request(SigningKey.generate().private_key))
    changed = x509.load_der_x509_csr(
        made.replace(
            made[made.index(b"\x03\x42") + 3 :][:65],
            other.public_key().public_bytes(
                serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
            ),
        )
    )
    found = look(changed.public_bytes(serialization.Encoding.PEM))
    assert (found.verification, broken(found)) == ("failed", {"CSR-1"})


FORMS = [
    (serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    (serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()),
    (serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()),
    (serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"password")),
    (serialization.PrivateFormat.TraditionalOpenSSL, serialization.BestAvailableEncryption(b"password")),
]


@pytest.mark.parametrize(("form", "encryption"), FORMS)
def test_a_private_key_is_named_and_never_shown(form: Any, encryption: Any) -> None:
    data = LEAF_KEY.private_key.private_bytes(serialization.Encoding.PEM, form, encryption)
    found = look(data)
    assert found.kind == "private-key"
    assert "PRIVATE key" in found.what
    told = json.dumps(found.row()) + repr(found)
    secret = LEAF_KEY.private_key.private_numbers().private_value
    for line in data.splitlines()[1:-1]:
        assert len(line) < 20 or line.decode() not in told
    assert encode_base64url(secret.to_bytes(32)) not in told
    if isinstance(encryption, serialization.NoEncryption):
        assert LEAF_KEY.kid in told


def test_a_key_is_said_to_be_that_of_the_certificate_beside_it() -> None:
    leaf, key = inspect_svid(pem(issue()) + LEAF_KEY.reveal_pem(), now=NOW)
    assert (leaf.kind, key.kind) == ("x509-svid", "private-key")
    assert key.verdict == "it is the key of certificate 1 in this input"
    *_, stranger = inspect_svid(pem(issue()) + SigningKey.generate().reveal_pem(), now=NOW)
    assert stranger.verdict == "it is the key of no certificate in this input"


def test_a_damaged_private_key_is_not_quoted() -> None:
    lines = LEAF_KEY.reveal_pem().splitlines()
    found = look(b"\n".join([lines[0], lines[1][:-4], *lines[2:]]))
    assert dict(found.parts)["key"] == "damaged, or of a foreign form"
    assert lines[1][:20].decode() not in json.dumps(found.row())


def test_a_public_key_and_pem_of_an_unknown_kind() -> None:
    public = LEAF_KEY.private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert LEAF_KEY.kid in dict(look(public).parts)["key"]
    assert look(public.replace(b"MFkw", b"AAAA")).kind == "public-key"
    assert look(b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n").kind == "unknown"


@pytest.mark.parametrize("label", ["CERTIFICATE", "CERTIFICATE REQUEST"])
def test_pem_that_cannot_be_read_is_one_error(label: str) -> None:
    with pytest.raises(InspectionError, match="cannot be read"):
        look(f"-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n")


# JWT-SVIDs


def test_our_own_jwt_svid_breaks_no_rule() -> None:
    found = look(jwt_svid())
    assert (found.kind, found.verification, broken(found)) == ("jwt-svid", "not-verified", set())
    assert {one.rule for one in found.findings} >= {"J-1", "J-2", "J-3", "J-4", "J-5", "J-6", "J-7"}
    verified = look(jwt_svid(), bundle=BUNDLE, audience=AUDIENCE)
    assert (verified.verification, broken(verified)) == ("verified", set())
    assert look(f"Bearer {jwt_svid()}\n").kind == "jwt-svid"


JWTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("J-1", {"jku": "https://evil.example"}, {}),
    ("J-2", {"alg": "none"}, {}),
    ("J-2", {"alg": "EdDSA"}, {}),
    ("J-2", {"alg": "HS256"}, {}),
    ("J-2", {"alg": ["ES256"]}, {}),
    ("J-3", {"typ": "dpop+jwt"}, {}),
    ("J-3", {"typ": 7}, {}),
    ("J-4", {"kid": ""}, {}),
    ("J-4", {"kid": 7}, {}),
    ("J-5", {}, {"sub": "spiffe://mesh.example"}),
    ("ID-1", {}, {"sub": "Spiffe://mesh.example/a"}),
    ("ID-3", {}, {"sub": "spiffe://mesh.example/a\n"}),
    ("J-6", {}, {"aud": None}),
    ("J-6", {}, {"aud": []}),
    ("J-6", {}, {"aud": ""}),
    ("J-6", {}, {"aud": [7]}),
    ("J-7", {}, {"exp": None}),
    ("J-7", {}, {"exp": SECONDS - 1}),
    ("J-7", {}, {"exp": "tomorrow"}),
    ("J-7", {}, {"exp": 2**60}),
    ("J-9", {}, {"iat": SECONDS + 60}),
    ("J-9", {}, {"nbf": SECONDS + 60}),
]


@pytest.mark.parametrize(("rule", "header", "claims"), JWTS)
def test_a_jwt_svid_that_breaks_a_rule_is_told_which(
    rule: str, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    found = look(forged_jwt(header, **claims))
    assert rule in broken(found)
    assert found.is_refused


def test_j9_the_audience_is_compared_only_with_one_that_was_given() -> None:
    """J-9."""
    assert outcomes(look(jwt_svid()), "J-9") == {"not-checked", "ok"}
    assert "J-9" in broken(look(jwt_svid(), audience="https://billing.mesh.example"))


def test_j10_only_the_keys_of_the_subjects_trust_domain_count() -> None:
    """J-10: our key, another trust domain's name, and the other way round."""
    stolen = forged_jwt(sub="spiffe://other.example/a")
    assert look(stolen, bundle=BUNDLE).verification == "failed"
    assert look(jwt_svid(), bundle=OTHER_BUNDLE).verification == "failed"


def test_a_wrong_signature_key_or_algorithm_is_refused() -> None:
    token = jwt_svid()
    head, claims, signature = token.split(".")
    flipped = f"{head}.{claims}.{signature[:-2]}{'A' if signature[-2] != 'A' else 'B'}{signature[-1]}"
    assert look(flipped, bundle=BUNDLE).verification == "failed"
    assert look(forged_jwt({"kid": "other"}), bundle=BUNDLE).verification == "failed"
    assert look(forged_jwt({"alg": "RS256"}), bundle=BUNDLE).verification == "failed"


def test_a_key_for_tokens_that_name_a_human_verifies_no_svid() -> None:
    forged = forge(
        AUTHORITY.token_key,
        header_of(AUTHORITY.token_key, "JWT"),
        {"sub": str(TASK_ID), "aud": [AUDIENCE], "exp": SECONDS + 60},
    )
    assert look(forged, bundle=BUNDLE).verification == "failed"


# Tokens that name a human


def test_a_delegation_token_is_explained_and_verified_with_the_token_keys() -> None:
    token = issue_delegation_token(AUTHORITY.token_key, delegation())
    jwks = json.dumps(AUTHORITY.token_jwks()).encode()
    found = look(token, bundle=jwks)
    assert (found.kind, found.verification, broken(found)) == ("delegation-token", "verified", set())
    assert look(token, bundle=BUNDLE).verification == "failed"


def test_sub_a_token_for_a_human_under_a_key_of_jwt_svids_is_an_impersonation() -> None:
    """The `sub` conflict."""
    token = issue_delegation_token(AUTHORITY.jwt_key, delegation())
    found = look(token, bundle=BUNDLE)
    assert "SUB" in broken(found)
    assert found.verification == "failed"


def test_a_delegation_token_without_actor_or_binding() -> None:
    key = AUTHORITY.token_key
    claims = {"sub": "x", "aud": "y", "exp": SECONDS + 60, "act": {"sub": "nobody"}}
    found = look(forge(key, header_of(key, "at+jwt"), claims))
    assert [one.outcome for one in found.findings if one.rule == "SUB"] == ["ok", "failed", "failed"]


@pytest.mark.parametrize(
    ("typ", "claims", "kind"),
    [
        ("txntoken+jwt", {"sub": "x"}, "transaction-token"),
        ("at+jwt", {"sub": "x"}, "access-token"),
        ("application/at+jwt", {"sub": "x", "act": {}}, "delegation-token"),
        (None, {"sub": "x", "iss": "https://idp.example"}, "jwt"),
        ("JWT", {"sub": 7}, "jwt"),
        (None, {}, "jwt"),
    ],
)
def test_kinds_of_token(typ: str | None, claims: dict[str, Any], kind: str) -> None:
    key = AUTHORITY.token_key
    assert look(forge(key, header_of(key, typ), claims)).kind == kind


# WIT-SVIDs


def wit(header: dict[str, Any] | None = None, **claims: Any) -> str:
    key = AUTHORITY.jwt_key
    holder = {**SigningKey.generate().public.jwk()}
    right = {"sub": str(TASK_ID), "exp": SECONDS + 60, "cnf": {"jwk": holder}}
    return forge(key, header_of(key, "wit+jwt") | (header or {}), right | claims)


WITS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("W-1", {"jku": "https://evil.example"}, {}),
    ("W-1", {"alg": "EdDSA"}, {}),
    ("W-2", {}, {"sub": "x"}),
    ("W-2", {}, {"sub": 7}),
    ("W-2", {}, {"exp": SECONDS - 1}),
    ("W-2", {}, {"cnf": {}}),
    ("W-2", {}, {"cnf": {"jwk": {"kty": "EC"}}}),
    ("W-3", {}, {"aud": "x"}),
    ("W-4", {}, {"iss": "https://mesh.example"}),
]


def test_a_wit_svid_is_worth_nothing_without_its_key() -> None:
    """W-6."""
    found = look(wit())
    assert (found.kind, broken(found)) == ("wit-svid", set())
    assert outcomes(found, "W-6") == {"not-checked"}


@pytest.mark.parametrize(("rule", "header", "claims"), WITS)
def test_a_wit_svid_that_breaks_a_rule(rule: str, header: dict[str, Any], claims: dict[str, Any]) -> None:
    assert rule in broken(look(wit(header, **claims)))


def test_w3_a_wit_svid_is_verified_with_keys_for_wit_svids_only() -> None:
    """W-3: the key of JWT-SVIDs does not count."""
    assert look(wit(), bundle=BUNDLE).verification == "failed"
    bundle = encode_bundle(AUTHORITY.roots, [], 1, wit_keys=AUTHORITY.svid_keys)
    assert look(wit(), bundle=json.dumps(bundle).encode()).verification == "verified"


# Bundles and key sets


def test_our_own_bundle_breaks_no_rule() -> None:
    found = look(BUNDLE)
    assert (found.kind, found.verification, broken(found)) == ("spiffe-bundle", "not-signed", set())
    assert "root of mesh.example" in dict(found.parts)["key 1"]


def document(**changes: Any) -> bytes:
    return json.dumps({**AUTHORITY.bundle(), **changes}).encode()


ENTRIES: list[dict[str, Any]] = json.loads(BUNDLE)["keys"]
ROOT_ENTRY, JWT_ENTRY = ENTRIES
BUNDLES: list[tuple[str, bytes]] = [
    ("B-2", document(spiffe_sequence=-1)),
    ("B-2", document(spiffe_refresh_hint="60")),
    ("B-3", document(keys=[{**ROOT_ENTRY, "kid": "x"}])),
    ("B-3", document(keys=[{**ROOT_ENTRY, "x5c": []}])),
    ("B-3", document(keys=[{**ROOT_ENTRY, "x5c": ["AAAA"]}])),
    ("B-3", document(keys=[{name: value for name, value in JWT_ENTRY.items() if name != "kid"}])),
    ("B-3", document(keys=[JWT_ENTRY, JWT_ENTRY])),
    ("B-3", document(keys=[{**JWT_ENTRY, "d": "c2VjcmV0LXNlY3JldA"}])),
    ("B-3", document(keys=[{"kty": "oct", "k": "c2VjcmV0LXNlY3JldA"}])),
]


@pytest.mark.parametrize(("rule", "data"), BUNDLES)
def test_a_bundle_that_breaks_a_rule(rule: str, data: bytes) -> None:
    found = look(data)
    assert rule in broken(found)
    assert "c2VjcmV0" not in json.dumps(found.row())


def test_b1_a_bundle_without_keys_revokes_everything() -> None:
    """B-1."""
    found = look(document(keys=[]))
    assert not found.is_refused
    assert any("everything of this trust domain is revoked" in one.sentence for one in found.findings)


def test_b3_a_key_of_another_use_is_left_out_by_readers() -> None:
    """B-3."""
    assert "not-checked" in outcomes(look(document(keys=[{"kty": "EC", "use": "future"}])), "B-3")


@pytest.mark.parametrize(
    "data", [b'{"keys": [], "keys": []}', b'{"keys": {}}', b'{"a": 1}', b'{"keys": [7]}']
)
def test_b7_json_of_two_readings_or_of_another_form_is_one_error(data: bytes) -> None:
    """B-7."""
    with pytest.raises(InspectionError):
        look(data)


def test_a_key_set_of_tokens_is_no_bundle() -> None:
    assert look(json.dumps(AUTHORITY.token_jwks()).encode()).kind == "jwk-set"


def test_a_private_jwk_is_named_and_never_shown() -> None:
    jwk = {**AUTHORITY.jwt_key.public.jwk(), "d": "c2VjcmV0LXNlY3JldC1zZWNyZXQ"}
    found = look(json.dumps(jwk).encode())
    assert (found.kind, dict(found.parts)["key"]) == ("private-key", f"ES256, kid {AUTHORITY.jwt_key.kid}")
    assert "c2VjcmV0" not in json.dumps(found.row())
    assert look(json.dumps(AUTHORITY.jwt_key.public.jwk()).encode()).kind == "public-key"
    assert "symmetric" in dict(look(b'{"kty": "oct", "k": "c2VjcmV0"}').parts)["key"]
    assert "do not use" in dict(look(b'{"kty": "OKP"}').parts)["key"]


# What to verify with


BAD_BUNDLES = [
    b"",
    b"{",
    b"[]",
    b'{"keys": [{"kty": "oct", "k": "x"}]}',
    b"-----BEGIN CERTIFICATE-----\n",
    b'{"keys": [{"kty": "EC", "use": "x509-svid"}]}',
    b'{"keys": [{"kty": "EC", "use": "x509-svid", "x5c": ["AAAA"]}]}',
    CA.certificate_pem() + OTHER_CA.certificate_pem(),
    CA.certificate_pem() * 33,
    b" " * (MAX_INPUT + 1),
]


@pytest.mark.parametrize("bundle", BAD_BUNDLES, ids=range(len(BAD_BUNDLES)))
def test_a_bundle_that_cannot_be_used_is_an_error_and_never_nothing(bundle: bytes) -> None:
    with pytest.raises(InspectionError):
        look(pem(issue()), bundle=bundle)


def test_a_name_that_no_bundle_can_speak_for_is_refused() -> None:
    found = look(pem(forge_certificate(names=None)), bundle=CA_BUNDLE)
    assert (found.kind, found.verification) == ("certificate", "failed")


# Hostile input


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 100,
        b"x" * (MAX_INPUT + 1),
        b"-----BEGIN CERTIFICATE-----",
        CA.certificate_pem() * 33,
        b"-----BEGIN " + b"-----BEGIN " * 20_000,
        b"eyJ.." + b"a" * 9000,
        b"eyJ.a.b",
        b"eyJh.e30.!",
        b"eyJhIjoxfQ.e30.A",
        b"eyJhIjoxfQ.W10.AA",
        b"eyJhIjoxfQ.AA.AA",
        b"eyJhbGciOiJkaXIifQ.a.b.c.d",
        ("eyJ" + "A" * 9000 + ".A.A").encode(),
    ],
)
def test_what_is_nothing_is_one_error_that_quotes_nothing(data: bytes) -> None:
    with pytest.raises(InspectionError) as caught:
        look(data)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


def test_secrets_inside_claims_are_not_shown() -> None:
    inner = jwt_svid()
    found = look(
        forged_jwt(
            actor_token=inner,
            note=f"see {inner}",
            pem=LEAF_KEY.reveal_pem().decode(),
            nested={"deep": [inner], "jwk": {"kty": "EC", "d": "c2VjcmV0LXNlY3JldA"}},
            long="x" * 2000,
        )
    )
    told = json.dumps(found.row())
    assert LEAF_KEY.reveal_pem().decode().splitlines()[1] not in told
    assert inner.split(".")[1] not in told
    assert inner.split(".")[2] not in told
    assert "c2VjcmV0" not in told
    assert all(len(value) <= MAX_SHOWN + 40 for _, value in found.parts)


def test_the_signature_is_never_shown() -> None:
    token = jwt_svid()
    assert token.rpartition(".")[2] not in json.dumps(look(token, bundle=BUNDLE).row())
    assert token.rpartition(".")[2] not in repr(look(token))


def test_claims_without_end_are_bounded() -> None:
    found = look(forged_jwt({}, **{f"claim{number}": number for number in range(300)}))
    assert len(found.parts) < 80
    deep: Any = "x"
    for _ in range(20):
        deep = [deep]
    assert "..." in dict(look(forged_jwt(deep=deep)).parts)["deep"]


@given(st.binary(max_size=200))
def test_any_bytes_are_explained_or_refused(data: bytes) -> None:
    with suppress(InspectionError):
        inspect_svid(data, now=NOW)


@given(
    st.binary(max_size=120),
    st.sampled_from(["CERTIFICATE", "PRIVATE KEY", "CERTIFICATE REQUEST", "PUBLIC KEY"]),
)
def test_any_pem_is_explained_or_refused(data: bytes, label: str) -> None:
    text = f"-----BEGIN {label}-----\n{base64.b64encode(data).decode()}\n-----END {label}-----\n"
    with suppress(InspectionError):
        inspect_svid(text.encode(), now=NOW)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_NAMES = st.sampled_from(["sub", "aud", "exp", "nbf", "iat", "act", "cnf", "iss", "jti"])


@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "typ", "jwk", "crit"]), _JSON, max_size=5),
    st.dictionaries(_NAMES, _JSON, max_size=9),
)
def test_any_token_is_explained(header: dict[str, Any], claims: dict[str, Any]) -> None:
    header = {"a": 1} | header  # so that it begins as a token does
    parts = [encode_base64url(json.dumps(part).encode()) for part in (header, claims)]
    found = inspect_svid(f"{parts[0]}.{parts[1]}.AAAA".encode(), bundle=BUNDLE, audience="x", now=NOW)
    assert json.dumps([one.row() for one in found])


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["kty", "use", "kid", "x5c", "crv", "x", "d"]), _JSON), max_size=4
    )
)
def test_any_key_set_is_explained_or_refused(keys: list[dict[str, Any]]) -> None:
    with suppress(InspectionError):
        inspect_svid(json.dumps({"keys": keys}).encode(), now=NOW)


EC_KEY = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"  # id-ecPublicKey (RFC 5480 section 2.1.1)
NO_KEY = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x7f"


def as_pem(label: str, der: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n{base64.b64encode(der).decode()}\n-----END {label}-----\n".encode()


def test_a_key_that_nobody_can_read_is_named_so() -> None:
    leaf = as_pem("CERTIFICATE", issue().replace(EC_KEY, NO_KEY))
    found, key = inspect_svid(leaf + LEAF_KEY.reveal_pem(), now=NOW)
    assert dict(found.parts)["key"] == "of another kind"
    assert "no certificate" in key.verdict
    csr = x509.load_pem_x509_csr(request(LEAF_KEY.private_key)).public_bytes(serialization.Encoding.DER)
    assert broken(look(as_pem("CERTIFICATE REQUEST", csr.replace(EC_KEY, NO_KEY)))) == {"CSR-1", "CSR-2"}


def test_b2_numbers_may_be_missing() -> None:
    """B-2: SHOULD, not MUST."""
    data = json.dumps({"keys": ENTRIES}).encode()
    assert outcomes(look(data), "B-2") == {"not-checked"}
