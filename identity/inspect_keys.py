"""The keys that `inspect` verifies with: what somebody named with `--bundle`, read leniently as to its form.

- A SPIFFE bundle, a JWK Set or PEM roots; a set that holds anything private is refused.
- A key is used only for what it is published for; a root only for its own trust domain.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from identity.bundle import JWT_USE, X509_USE
from identity.certificate_authority import UNREADABLE, authority_domain, load_certificate
from identity.errors import CertificateError, KeyMaterialError
from identity.inspection import MAX_INPUT, InspectionError
from identity.keys import KeySet, jwks
from identity.spiffe import TrustDomain
from identity.strict_json import Limits, StrictJsonError, loads

WIT_USE: Final = "wit-svid"
LIMITS: Final = Limits(depth=16, integer=2**64 - 1)
_MAX_ROOTS: Final = 32


@dataclass(frozen=True, slots=True)
class TrustMaterial:
    """Roots and keys; `trust_domain` is None where nothing in them says whose they are."""

    trust_domain: TrustDomain | None
    roots: tuple[x509.Certificate, ...]
    keys: Mapping[str, KeySet]

    @classmethod
    def parse(cls, data: bytes) -> "TrustMaterial":
        """Read a bundle, a JWK Set, or PEM certificates.

        Raises:
            InspectionError: if it is none of them.
        """
        if len(data) > MAX_INPUT:
            raise InspectionError(f"the bundle is longer than {MAX_INPUT} bytes")
        try:
            roots, keys = _of_pem(data) if b"-----BEGIN" in data else _of_json(data)
            domains = {authority_domain(root) for root in roots}
        except (KeyMaterialError, CertificateError, StrictJsonError, *UNREADABLE) as error:
            raise InspectionError(f"the bundle cannot be used: {error}") from error
        if len(domains) > 1:
            raise InspectionError("the bundle holds roots of several trust domains; give that of one")
        return cls(domains.pop() if domains else None, roots, keys)


def _of_pem(data: bytes) -> tuple[tuple[x509.Certificate, ...], Mapping[str, KeySet]]:
    certificates = x509.load_pem_x509_certificates(data)
    if len(certificates) > _MAX_ROOTS:
        raise KeyMaterialError(f"more than {_MAX_ROOTS} certificates")
    return tuple(certificates), {}


def _of_json(data: bytes) -> tuple[tuple[x509.Certificate, ...], Mapping[str, KeySet]]:
    document = loads(data, LIMITS)
    if not isinstance(document, dict):
        raise KeyMaterialError("not a JWK Set")
    entries = list(jwks(document))
    roots = tuple(root_of(entry) for entry in entries if entry.get("use") == X509_USE)
    keys = {use: KeySet.parse_jwks(document, use) for use in (JWT_USE, WIT_USE)}
    return roots, {**keys, "sig": KeySet.parse_jwks(document, None)}


def root_of(entry: Mapping[str, object]) -> x509.Certificate:
    """Return the certificate of a root's entry.

    Raises:
        CertificateError: if it is not exactly one.
    """
    match entry.get("x5c"):
        case [str(text)]:
            try:
                return load_certificate(base64.b64decode(text, validate=True))
            except UNREADABLE as error:
                raise CertificateError("a root that is not a certificate") from error
    raise CertificateError("a root that is not exactly one certificate")
