"""Any bytes are a certificate, a request, a key set or a bundle that we accept, or our error."""

import base64
import json
from contextlib import suppress
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from hypothesis import given
from hypothesis import strategies as st

from identity.authority import Authority
from identity.bundle import Bundle
from identity.certificate_authority import CertificateAuthority
from identity.errors import IdentityError
from identity.keys import KeySet, SigningKey
from identity.spiffe import agent_task_id
from identity.x509_svid import issue_x509_svid, leaf_spiffe_id, parse_csr, verify_x509_svid
from tests.identity_world import NOW, TD, ulid

AUTHORITY = Authority.generate(TD, NOW)
CA = AUTHORITY.ca
KEY = SigningKey.generate()
TASK_ID = agent_task_id(TD, "triage", ulid(1))
LEAF = issue_x509_svid(
    ca=CA,
    spiffe_id=TASK_ID,
    public_key=KEY.private_key.public_key(),
    not_after=NOW + timedelta(minutes=5),
    now=NOW,
)
CSR = (
    x509.CertificateSigningRequestBuilder(x509.Name([]))
    .sign(KEY.private_key, hashes.SHA256())
    .public_bytes(serialization.Encoding.DER)
)
DOCUMENT = json.dumps(AUTHORITY.bundle()).encode()


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """Change, cut or double some bytes."""
    change = st.tuples(st.integers(0, len(data) - 1), st.binary(max_size=2), st.integers(0, 3))

    def apply(changes: list[tuple[int, bytes, int]]) -> bytes:
        changed = data
        for position, put, cut in changes:
            changed = changed[:position] + put + changed[position + cut :]
        return changed

    return st.lists(change, min_size=1, max_size=3).map(apply)


@given(st.binary(max_size=64) | mutated(LEAF))
def test_any_certificate_is_ours_or_our_error(der: bytes) -> None:
    with suppress(IdentityError):
        leaf_spiffe_id(der)
    try:
        verify_x509_svid([der], [CA.certificate], TD, NOW)
    except IdentityError:
        return
    # What verifies says what was signed: all else in it is covered by the signature.
    assert x509.load_der_x509_certificate(der).tbs_certificate_bytes in LEAF


@given(mutated(CSR))
def test_any_request_gives_the_key_of_its_maker_or_our_error(der: bytes) -> None:
    try:
        pem = x509.load_der_x509_csr(der).public_bytes(serialization.Encoding.PEM)
    except ValueError:
        return
    try:
        assert parse_csr(pem) == KEY.private_key.public_key()
    except IdentityError:
        return


@given(st.binary(max_size=64) | mutated(KEY.reveal_pem()) | mutated(CA.certificate_pem()))
def test_any_pem_is_ours_or_our_error(pem: bytes) -> None:
    for read in (
        parse_csr,
        SigningKey.parse_pem,
        lambda data: CertificateAuthority.parse_pem(data, KEY.reveal_pem()),
    ):
        try:
            read(pem)
        except IdentityError:
            continue


@given(st.binary(max_size=64) | mutated(DOCUMENT))
def test_any_document_is_a_bundle_and_a_key_set_or_our_error(data: bytes) -> None:
    for use in (None, "jwt-svid"):
        try:
            KeySet.parse_jwks(data, use)
        except IdentityError:
            continue
    try:
        Bundle.parse(data, TD)
    except IdentityError:
        return


@given(st.data())
def test_any_root_of_a_bundle_is_an_authority_or_our_error(data: st.DataObject) -> None:
    der = data.draw(mutated(CA.certificate.public_bytes(serialization.Encoding.DER)))
    entry = {"kty": "EC", "use": "x509-svid", "x5c": [base64.b64encode(der).decode()]}
    try:
        bundle = Bundle.parse(json.dumps({"keys": [entry]}).encode(), TD)
    except IdentityError:
        return
    try:
        verify_x509_svid([LEAF], bundle.roots, TD, NOW)
    except IdentityError:
        return


@given(
    st.recursive(
        st.none() | st.integers(-5, 5) | st.text(max_size=3),
        lambda parts: (
            st.lists(parts, max_size=2)
            | st.dictionaries(
                st.sampled_from(
                    ["kty", "crv", "x", "y", "n", "e", "kid", "use", "alg", "key_ops", "x5c", "d"]
                ),
                parts,
            )
        ),
        max_leaves=10,
    )
)
def test_any_entry_is_a_key_or_our_error(entry: object) -> None:
    data = json.dumps({"keys": [entry]}).encode()
    for use in (None, "jwt-svid"):
        try:
            KeySet.parse_jwks(data, use)
        except IdentityError:
            continue
    try:
        Bundle.parse(data, TD)
    except IdentityError:
        return
