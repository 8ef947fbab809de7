"""Certificates, explained rule by rule (SPIFFE X509-SVID).

- A chain is one thing: its leaf is judged as an X.509-SVID, what stands behind it as signing certificates.
- Only `verify_x509_svid` says that a chain verifies, with the roots of the leaf's own trust domain (X-7).
- A certificate with an extension that cannot be read fails the rules that need it; nothing is guessed.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from identity.base64url import encode_base64url
from identity.certificate_authority import UNREADABLE
from identity.errors import CertificateError, KeyMaterialError
from identity.inspect_keys import TrustMaterial
from identity.inspection import (
    Finding,
    Inspection,
    Verification,
    judge,
    moment,
    shown,
    spiffe_id_findings,
    unchecked,
)
from identity.keys import VerificationKey
from identity.spiffe import SpiffeId
from identity.x509_svid import thumbprint, verify_x509_svid

NOTHING_VERIFIED: Final = "NOTHING IS VERIFIED: anybody can write this; name the keys with --bundle FILE"
_SVID: Final = "X509-SVID"
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def inspect_chain(
    certificates: Sequence[x509.Certificate], material: TrustMaterial | None, now: datetime
) -> Inspection:
    """Explain certificates in the order they came in, the leaf first."""
    first = certificates[0]
    is_authority = _is_authority(first)
    spiffe_id, findings = _authority_findings(first) if is_authority else _leaf_findings(first)
    findings = (*findings, *_times(first, now))
    for intermediate in certificates[1:]:
        findings = (*findings, *_signing_findings(intermediate, "an intermediate"))
    verification, verdict = _verification(certificates, spiffe_id, material, now, is_authority=is_authority)
    kind = "ca-certificate" if is_authority else "x509-svid" if spiffe_id else "certificate"
    return Inspection(kind, _what(kind, certificates), _parts(certificates), findings, verification, verdict)


def inspect_request(request: x509.CertificateSigningRequest) -> Inspection:
    """Explain a certificate request: it proves who holds a key, and says nothing else that counts."""
    try:
        is_signed, key = request.is_signature_valid, request.public_key()
    except UNREADABLE:
        is_signed, key = False, None
    is_p256 = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    findings = (
        judge(
            "CSR-1",
            "RFC 2986 4.2",
            holds=is_signed,
            ok="signed by the key that it is for, so whoever made it holds that key",
            failed="not signed by the key that it is for",
        ),
        judge(
            "CSR-2",
            "this authority",
            holds=is_p256,
            ok="the key is on P-256",
            failed="the key is not on P-256, so our authority refuses it",
        ),
        unchecked(
            "CSR-3", "this authority", "the names in it are ignored: who asks is attested, not believed"
        ),
    )
    parts = (("subject", shown(request.subject.rfc4514_string()) or "none"), ("key", key_name(key)))
    verification: Verification = "verified" if is_signed else "failed"
    verdict = "its own signature is right; no authority has spoken" if is_signed else "its signature is wrong"
    return Inspection(
        "certificate-request", "a certificate request (PKCS #10)", parts, findings, verification, verdict
    )


def key_name(key: object) -> str:
    """Name a public key: its kind, and the thumbprint that is its `kid` where it is one of ours."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        try:
            return f"ECDSA P-256, kid {VerificationKey.of(key).kid}"
        except KeyMaterialError:
            return f"ECDSA {key.curve.name}, sha256 {_fingerprint(key)}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size} bits, sha256 {_fingerprint(key)}"
    return "of another kind"


def _fingerprint(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> str:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(
        key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return encode_base64url(digest.finalize())


def _what(kind: str, certificates: Sequence[x509.Certificate]) -> str:
    behind = f", with {len(certificates) - 1} certificate(s) behind it" if len(certificates) > 1 else ""
    return {
        "ca-certificate": "the certificate of an authority: it signs others and authenticates nobody",
        "x509-svid": "an X.509-SVID: which workload holds a key",
        "certificate": "a certificate that is no X.509-SVID",
    }[kind] + behind


def _parts(certificates: Sequence[x509.Certificate]) -> tuple[tuple[str, str], ...]:
    first = certificates[0]
    try:
        key: object = first.public_key()
    except UNREADABLE:
        key = None
    der = first.public_bytes(serialization.Encoding.DER)
    parts = [
        ("names", ", ".join(shown(name) for name in _names(first)) or "none"),
        ("subject", shown(first.subject.rfc4514_string()) or "empty"),
        ("issuer", shown(first.issuer.rfc4514_string()) or "empty"),
        ("serial", f"{first.serial_number:x}"),
        ("valid", f"{moment(first.not_valid_before_utc)} to {moment(first.not_valid_after_utc)}"),
        ("key", key_name(key)),
        ("x5t#S256", thumbprint(der)),
    ]
    for number, behind in enumerate(certificates[1:], start=1):
        parts.append((f"behind it, {number}", shown(behind.subject.rfc4514_string()) or "empty subject"))
    return tuple(parts)


def _names(certificate: x509.Certificate) -> Iterator[str]:
    names = _extension(certificate, x509.SubjectAlternativeName)
    if names is not None:
        for name in list(names.value)[:16]:
            yield str(name.value)


def _uris(certificate: x509.Certificate) -> list[str]:
    names = _extension(certificate, x509.SubjectAlternativeName)
    return [] if names is None else names.value.get_values_for_type(x509.UniformResourceIdentifier)


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> x509.Extension[_Extension] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except UNREADABLE:
        return None


def _is_authority(certificate: x509.Certificate) -> bool:
    constraints = _extension(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.value.ca


def _leaf_findings(leaf: x509.Certificate) -> tuple[SpiffeId | None, tuple[Finding, ...]]:
    uris = _uris(leaf)
    names = _extension(leaf, x509.SubjectAlternativeName)
    critical = names is not None and names.critical
    findings = [
        judge(
            "X-1",
            f"{_SVID} 2",
            holds=len(uris) == 1,
            ok="exactly one URI name",
            failed=f"{len(uris)} URI names where exactly one is asked for",
        ),
        judge(
            "X-2",
            f"{_SVID} 3.1",
            holds=bool(leaf.subject.rdns) or critical,
            ok="the subject is not empty, or no reader may overlook the name",
            failed="the subject is empty and the names are not critical, so a reader may overlook them",
        ),
        judge(
            "X-3",
            f"{_SVID} 4.1",
            holds=_extension(leaf, x509.BasicConstraints) is not None,
            ok="it says that it is no authority",
            failed="no basic constraints: some clients refuse a leaf without them",
        ),
        *_leaf_usage(leaf),
        judge(
            "X-8",
            "RFC 5280 4.2.1.1",
            holds=_extension(leaf, x509.AuthorityKeyIdentifier) is not None,
            ok="it names the key that signed it, as strict verifiers ask",
            failed="it does not name the key that signed it: strict verifiers refuse it",
        ),
    ]
    if len(uris) != 1:
        return None, (*findings, unchecked("ID-1", "SPIFFE-ID 2", "there is not one name to judge"))
    spiffe_id, of_name = spiffe_id_findings(uris[0], of_leaf=True)
    return spiffe_id, (*of_name, *findings)


def _leaf_usage(leaf: x509.Certificate) -> Iterator[Finding]:
    usage = _extension(leaf, x509.KeyUsage)
    right = (
        usage is not None
        and usage.critical
        and usage.value.digital_signature
        and not usage.value.key_cert_sign
        and not usage.value.crl_sign
    )
    yield judge(
        "X-4",
        f"{_SVID} 4.3",
        holds=right,
        ok="its key signs and certifies nothing, and that is critical",
        failed="the key usage is missing, not critical, not for signatures, or certifies others",
    )
    purposes = _extension(leaf, x509.ExtendedKeyUsage)
    both = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    yield judge(
        "X-5",
        f"{_SVID} 4.4",
        holds=purposes is None or both <= set(purposes.value),
        ok="good for both sides of a connection",
        failed="good for one side of a connection only",
    )


def _authority_findings(root: x509.Certificate) -> tuple[SpiffeId | None, tuple[Finding, ...]]:
    uris = _uris(root)
    findings = list(_signing_findings(root, "it"))
    findings.append(
        judge(
            "X-6",
            f"{_SVID} 3.2",
            holds=len(uris) == 1,
            ok="it names its trust domain",
            failed=f"{len(uris)} URI names, where the trust domain should stand",
        )
    )
    if len(uris) != 1:
        return None, tuple(findings)
    spiffe_id, of_name = spiffe_id_findings(uris[0], of_leaf=False)
    pathless = judge(
        "ID-6",
        f"{_SVID} 3.2",
        holds=spiffe_id is not None and not spiffe_id.path,
        ok="its name has no path: it is that of a trust domain",
        failed="the name of an authority must have no path",
    )
    return spiffe_id, (*of_name, pathless, *findings)


def _signing_findings(certificate: x509.Certificate, who: str) -> Iterator[Finding]:
    usage = _extension(certificate, x509.KeyUsage)
    yield judge(
        "X-6",
        f"{_SVID} 4.1",
        holds=_is_authority(certificate),
        ok=f"{who} says that it is an authority",
        failed=f"{who} does not say that it is an authority",
    )
    yield judge(
        "X-6",
        f"{_SVID} 4.3",
        holds=usage is not None and usage.critical and usage.value.key_cert_sign,
        ok=f"{who} may sign certificates, and that is critical",
        failed=f"{who} may not sign certificates, or that is not critical",
    )


def _times(certificate: x509.Certificate, now: datetime) -> Iterator[Finding]:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    when = "is to come" if now < start else "has passed"
    yield judge(
        "X-7",
        "RFC 5280 4.1.2.5",
        holds=start <= now <= end,
        ok=f"valid now, until {moment(end)}",
        failed=f"not valid now: its time {when} ({moment(start)} to {moment(end)})",
    )


def _verification(
    certificates: Sequence[x509.Certificate],
    spiffe_id: SpiffeId | None,
    material: TrustMaterial | None,
    now: datetime,
    *,
    is_authority: bool,
) -> tuple[Verification, str]:
    if material is None:
        return "not-verified", NOTHING_VERIFIED
    if is_authority:
        if certificates[0] in material.roots:
            return "verified", "it is a root of the bundle that was given"
        return "failed", "it is no root of the bundle that was given"
    if spiffe_id is None:
        return "failed", "it names no SPIFFE ID, so no bundle speaks for it"
    chain = [one.public_bytes(serialization.Encoding.DER) for one in certificates]
    domain = material.trust_domain or spiffe_id.trust_domain
    try:
        verify_x509_svid(chain, material.roots, domain, now)
    except CertificateError as error:
        return "failed", f"it does not verify with the roots of {domain.name!r} (X-7): {error}"
    return "verified", f"it verifies with the roots of {domain.name!r}, its own trust domain (X-7)"
