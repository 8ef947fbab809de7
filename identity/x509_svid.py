"""X.509-SVIDs: which workload or agent's task holds a key (SPIFFE X509-SVID).

- A leaf has exactly one URI name, a SPIFFE ID with a path; it is no CA and its key only signs (sections 2 to
  4).
- A leaf is verified with the roots of its own trust domain only; a root of another can never vouch for it.
- Path validation is `cryptography.x509.verification`; nothing of it is written here (X-8).
- The names in a certificate request are ignored: it proves who holds the key and says nothing else.
- A leaf never outlives the authority that signed it, nor the time that its caller gives.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from identity.base64url import encode_base64url
from identity.certificate_authority import (
    BACKDATE,
    UNREADABLE,
    CertificateAuthority,
    load_certificate,
)
from identity.errors import CertificateError, SpiffeIdError
from identity.spiffe import SpiffeId, TrustDomain

MAX_CHAIN: Final = 4
MAX_CERTIFICATE: Final = 16 * 1024

_BOTH_SIDES: Final = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@dataclass(frozen=True, slots=True)
class X509Svid:
    """A verified X.509-SVID; `thumbprint` is what a token of its holder is bound to."""

    spiffe_id: SpiffeId
    thumbprint: str
    not_after: datetime
    certificate: x509.Certificate = field(repr=False)


def issue_x509_svid(
    *,
    ca: CertificateAuthority,
    spiffe_id: SpiffeId,
    public_key: ec.EllipticCurvePublicKey,
    not_after: datetime,
    now: datetime,
    dns_names: Sequence[str] = (),
) -> bytes:
    """Sign a leaf, as DER; `dns_names` may hold IP addresses too, for servers that are found by one.

    Raises:
        CertificateError: if the ID is not of the authority's trust domain, or no time is left.
    """
    if spiffe_id.trust_domain != ca.trust_domain or not spiffe_id.path:
        raise CertificateError(
            f"an ID that the authority of {ca.trust_domain.name!r} may not sign: {spiffe_id}"
        )
    start, end = now.replace(microsecond=0), min(not_after, ca.not_after).replace(microsecond=0)
    if end <= start:
        raise CertificateError("no time is left to issue a certificate for")
    names = x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier(str(spiffe_id)), *map(_name, dns_names)]
    )
    certificate = (
        ca.leaf.public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - BACKDATE)
        .not_valid_after(end)
        .add_extension(names, critical=True)  # critical, because the subject is empty
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .sign(ca.key.private_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.DER)


def verify_x509_svid(
    chain: Sequence[bytes], roots: Sequence[x509.Certificate], trust_domain: TrustDomain, now: datetime
) -> X509Svid:
    """Verify a chain of DER certificates, leaf first, with the roots of one trust domain.

    Raises:
        CertificateError: if the leaf is not an X.509-SVID of that trust domain.
    """
    if not roots:
        raise CertificateError(f"no roots of the trust domain {trust_domain.name!r}")
    if not 1 <= len(chain) <= MAX_CHAIN:
        raise CertificateError(f"a chain of {len(chain)} certificates where 1 to {MAX_CHAIN} are allowed")
    leaf, *intermediates = [_certificate(der) for der in chain]
    spiffe_id = _leaf_id(leaf)
    if spiffe_id.trust_domain != trust_domain:
        raise CertificateError(f"an X.509-SVID of another trust domain: {str(spiffe_id)!r}")
    verifier = PolicyBuilder().store(Store(list(roots))).time(now).max_chain_depth(1).build_client_verifier()
    try:
        verifier.verify(leaf, intermediates)
    except (VerificationError, *UNREADABLE) as error:
        raise CertificateError(
            f"an X.509-SVID that its trust domain did not sign, or not for now: {error}"
        ) from error
    return X509Svid(spiffe_id, thumbprint(chain[0]), leaf.not_valid_after_utc, leaf)


def leaf_spiffe_id(der: bytes) -> SpiffeId:
    """Return the SPIFFE ID of a peer's certificate whose chain a TLS library has verified already.

    Raises:
        CertificateError: if it is not an X.509-SVID's leaf.
    """
    return _leaf_id(_certificate(der))


def thumbprint(der: bytes) -> str:
    """Return the base64url SHA-256 of a certificate: `x5t#S256` (RFC 8705 section 3.1)."""
    return encode_base64url(hashlib.sha256(der).digest())


def parse_csr(pem: bytes) -> ec.EllipticCurvePublicKey:
    """Return the P-256 key of a certificate request, if whoever made it holds the key.

    Raises:
        CertificateError: if the request is malformed, for another kind of key, or not signed by its key.
    """
    try:
        csr = x509.load_pem_x509_csr(pem[:MAX_CERTIFICATE])
        public_key, is_signed = csr.public_key(), csr.is_signature_valid
    except UNREADABLE as error:
        raise CertificateError("not the PEM of a certificate request that we can read") from error
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(
        public_key.curve, ec.SECP256R1
    ):
        raise CertificateError("a certificate request for a key that is not P-256")
    if not is_signed:
        raise CertificateError("a certificate request that is not signed by its key")
    return public_key


def _certificate(der: bytes) -> x509.Certificate:
    try:
        if len(der) <= MAX_CERTIFICATE:
            return load_certificate(der)
    except UNREADABLE as error:
        raise CertificateError("not a certificate that we can read") from error
    raise CertificateError(f"a certificate longer than {MAX_CERTIFICATE} bytes")


def _leaf_id(leaf: x509.Certificate) -> SpiffeId:
    try:
        extensions = leaf.extensions
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName)
        uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
        purposes = [part.value for part in extensions if isinstance(part.value, x509.ExtendedKeyUsage)]
        is_unnamed = not leaf.subject.rdns
    except UNREADABLE as error:
        raise CertificateError("a certificate without an extension of an X.509-SVID") from error
    # a leaf signs for itself and for nobody else.
    if constraints.ca or usage.value.key_cert_sign or usage.value.crl_sign:
        raise CertificateError("a certificate that may sign others, where a leaf is asked for")
    if not usage.critical or not usage.value.digital_signature:
        raise CertificateError("a certificate whose key may not sign, or that does not say so critically")
    # both sides, if any.
    if any(side not in purpose for purpose in purposes for side in _BOTH_SIDES):
        raise CertificateError("a certificate for one side of a connection only")
    # one name that counts, and no reader may overlook it.
    if len(uris) != 1 or (is_unnamed and not names.critical):
        raise CertificateError(f"a certificate with {len(uris)} URI names, or one that may be overlooked")
    return _leaf_name(uris[0])


def _leaf_name(uri: str) -> SpiffeId:
    try:
        spiffe_id = SpiffeId.parse(uri)
    except SpiffeIdError as error:
        raise CertificateError(f"a certificate whose name is not a SPIFFE ID: {error}") from error
    if not spiffe_id.path:
        raise CertificateError("a leaf with the name of a whole trust domain")
    return spiffe_id


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)
