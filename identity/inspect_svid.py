"""What is in this file? Any PEM, JWT, SPIFFE bundle or JWK Set, explained rule by rule.

- At most 256 KiB and 32 PEM blocks; what is none of these is refused in one sentence that quotes nothing.
- A private key is named by its public part and never shown, in no form and no message.
- Certificates that follow each other are one chain; a key is said to be that of a certificate beside it.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from identity.certificate_authority import UNREADABLE
from identity.inspect_bundle import inspect_json
from identity.inspect_jwt import Asked, inspect_jwt, looks_like_jwt
from identity.inspect_keys import TrustMaterial
from identity.inspect_x509 import inspect_chain, inspect_request, key_name
from identity.inspection import MAX_INPUT, Inspection, InspectionError

_MAX_BLOCKS: Final = 32
# Linear: the body is of base64, white space and the few headers of an old form; no dash can be in it.
_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----([^-]*(?:-(?!----)[^-]*)*)-----END \1-----")


def inspect_svid(
    data: bytes, *, bundle: bytes | None = None, audience: str | None = None, now: datetime
) -> tuple[Inspection, ...]:
    """Explain everything in the input; `bundle` and `audience` are what it is verified with.

    Raises:
        InspectionError: if there is nothing that can be explained.
    """
    if len(data) > MAX_INPUT:
        raise InspectionError(f"longer than {MAX_INPUT} bytes: no certificate, token or bundle is")
    material = None if bundle is None else TrustMaterial.parse(bundle)
    if b"-----BEGIN" in data:
        return tuple(_inspect_pem(data, material, now))
    text = data.strip()
    if text.startswith(b"{"):
        return (inspect_json(text),)
    token = text.decode("ascii", "replace")
    token = token[7:].strip() if token[:7].lower() == "bearer " else token
    if looks_like_jwt(token):
        return (inspect_jwt(token, Asked(material, audience, now)),)
    raise InspectionError("neither PEM, nor a JWT, nor a SPIFFE bundle or JWK Set")


def _inspect_pem(data: bytes, material: TrustMaterial | None, now: datetime) -> Iterator[Inspection]:
    blocks = [(match[1].decode("ascii"), match[0]) for match in _BLOCK.finditer(data)]
    if not blocks:
        raise InspectionError("PEM without an end: the file is cut, or damaged")
    if len(blocks) > _MAX_BLOCKS:
        raise InspectionError(f"more than {_MAX_BLOCKS} PEM blocks")
    certificates = [_certificate(pem) for label, pem in blocks if label == "CERTIFICATE"]
    if certificates and _are_roots(certificates):
        for root in certificates:
            yield inspect_chain([root], material, now)
    elif certificates:
        yield inspect_chain(certificates, material, now)
    for label, pem in blocks:
        if label in {"CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"}:
            yield inspect_request(_request(pem))
        elif label.endswith("PRIVATE KEY"):
            yield _private_key(label, pem, certificates)
        elif label == "PUBLIC KEY":
            yield _public_key(pem)
        elif label != "CERTIFICATE":
            yield Inspection(
                "unknown", "PEM of a kind that is not known here", (), (), "not-signed", "not read"
            )


def _are_roots(certificates: Sequence[x509.Certificate]) -> bool:
    """Say whether these are roots side by side, as in a file of roots, and no chain."""
    return all(one.issuer == one.subject for one in certificates)


def _certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except UNREADABLE as error:
        raise InspectionError(
            "a certificate that cannot be read: it is damaged, or of a foreign form"
        ) from error


def _request(pem: bytes) -> x509.CertificateSigningRequest:
    try:
        return x509.load_pem_x509_csr(pem)
    except UNREADABLE as error:
        raise InspectionError("a certificate request that cannot be read") from error


def _private_key(label: str, pem: bytes, certificates: Sequence[x509.Certificate]) -> Inspection:
    what = "a PRIVATE key: keep it from everybody"
    if "ENCRYPTED" in label or b"ENCRYPTED" in pem[:200]:
        return _key(
            "private-key", "an encrypted PRIVATE key", "not read: it has a password", "nothing is known of it"
        )
    try:
        loader = (
            serialization.load_ssh_private_key
            if label.startswith("OPENSSH")
            else serialization.load_pem_private_key
        )
        public = loader(pem, None).public_key()
    except UNREADABLE:
        # Without the cause: its traceback would hold the key.
        return _key("private-key", what, "damaged, or of a foreign form", "nothing is known of it")
    owners = [number for number, one in enumerate(certificates, start=1) if _has_key(one, public)]
    verdict = (
        f"it is the key of certificate {owners[0]} in this input"
        if owners
        else "it is the key of no certificate in this input"
    )
    return _key("private-key", what, key_name(public), verdict)


def _public_key(pem: bytes) -> Inspection:
    try:
        name = key_name(serialization.load_pem_public_key(pem))
    except UNREADABLE:
        name = "damaged, or of a foreign form"
    return _key("public-key", "a public key", name, "a key by itself is signed by nobody")


def _key(kind: str, what: str, name: str, verdict: str) -> Inspection:
    return Inspection(kind, what, (("key", name),), (), "not-signed", verdict)


def _has_key(certificate: x509.Certificate, public: object) -> bool:
    try:
        return certificate.public_key() == public
    except UNREADABLE:
        return False
