"""SPIFFE bundles: with what the SVIDs of one trust domain are verified (SPIFFE Trust Domain and Bundle).

- An entry for X.509-SVIDs holds one CA certificate in `x5c` and no `kid`; one for JWT-SVIDs has a `kid`; one
  for WIT-SVIDs has a `kid` that no other entry of whatever use has (B-3).
- Keys of another use or kind are left out; a private key, or one that is malformed, refuses the bundle.
- A bundle without keys is a bundle: everything is revoked (B-1).
- Keys of delegation and transaction tokens are never in a bundle.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from identity.certificate_authority import UNREADABLE, check_root, load_certificate
from identity.errors import CertificateError, KeyMaterialError
from identity.keys import KeySet, VerificationKey, jwks, parse_set
from identity.spiffe import TrustDomain
from identity.strict_json import Limits

X509_USE: Final = "x509-svid"
JWT_USE: Final = "jwt-svid"
WIT_USE: Final = "wit-svid"
REFRESH_HINT: Final = 60

# The sequence number may be as large as 64 bits hold (B-2).
LIMITS: Final = Limits(depth=8, integer=2**64 - 1)
_NO_KEYS: Final = KeySet.of(())


@dataclass(frozen=True, slots=True)
class Bundle:
    """What verifies the SVIDs of one trust domain."""

    trust_domain: TrustDomain
    roots: tuple[x509.Certificate, ...]
    jwt_keys: KeySet
    sequence: int | None
    refresh_hint: int | None
    wit_keys: KeySet = _NO_KEYS

    @classmethod
    def parse(cls, data: bytes, trust_domain: TrustDomain) -> "Bundle":
        """Read the bundle that was fetched for a trust domain; the document does not say whose it is.

        Raises:
            KeyMaterialError: if the bundle is malformed, or holds anything private.
            CertificateError: if a root is not an authority's certificate, or is that of another trust domain.
        """
        document = parse_set(data, "bundle", LIMITS)
        jwt_keys = KeySet.parse_jwks(document, JWT_USE)
        wit_keys = KeySet.parse_jwks(document, WIT_USE)
        _check_names(wit_keys, [entry.get("kid") for entry in jwks(document)])
        roots = tuple(_root(entry) for entry in jwks(document) if entry.get("use") == X509_USE)
        for root in roots:
            check_root(root, trust_domain)
        sequence, hint = _number(document, "spiffe_sequence"), _number(document, "spiffe_refresh_hint")
        return cls(trust_domain, roots, jwt_keys, sequence, hint, wit_keys)


def encode_bundle(
    roots: Sequence[x509.Certificate],
    jwt_keys: Iterable[VerificationKey],
    sequence: int,
    refresh_hint: int = REFRESH_HINT,
    *,
    wit_keys: Iterable[VerificationKey] = (),
) -> dict[str, object]:
    """Return the bundle document of a trust domain.

    Raises:
        CertificateError: if a root is not on P-256.
        KeyMaterialError: if a key of WIT-SVIDs has the name of another key.
    """
    jwt_set, wit_set = KeySet.of(jwt_keys), KeySet.of(wit_keys)
    _check_names(wit_set, [*jwt_set.keys, *wit_set.keys])
    return {
        "keys": [_encode_root(root) for root in roots]
        + [{**key.jwk(), "use": JWT_USE} for key in jwt_set]
        + [{**key.jwk(), "use": WIT_USE} for key in wit_set],
        "spiffe_sequence": sequence,
        "spiffe_refresh_hint": refresh_hint,
    }


def _check_names(wit_keys: KeySet, names: Sequence[object]) -> None:
    """Refuse a key of WIT-SVIDs whose name another entry has too (WIT-SVID section 6.1)."""
    for kid in wit_keys.keys:
        if names.count(kid) != 1:
            raise KeyMaterialError(f"two keys with one kid, one of them for WIT-SVIDs: {kid!r}")


def _encode_root(root: x509.Certificate) -> dict[str, object]:
    public_key = root.public_key()
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise CertificateError("a root of ours that is not on P-256")
    key = VerificationKey.of(public_key).jwk()
    der = root.public_bytes(serialization.Encoding.DER)
    # Such an entry has no `kid` (B-3): a root is found by the path, not by a name.
    members = {name: key[name] for name in ("kty", "crv", "x", "y")}
    return {**members, "use": X509_USE, "x5c": [base64.b64encode(der).decode("ascii")]}


def _root(entry: Mapping[str, object]) -> x509.Certificate:
    match entry.get("x5c"):
        case [str(text)] if "kid" not in entry:
            pass
        case _:
            raise CertificateError("a root that is not exactly one certificate without a kid")
    try:
        # Standard base64 here, not base64url (RFC 7517 section 4.7).
        return load_certificate(base64.b64decode(text, validate=True))
    except UNREADABLE as error:
        raise CertificateError("a root that is not a certificate") from error


def _number(document: Mapping[str, object], name: str) -> int | None:
    value = document.get(name)
    if name in document and (type(value) is not int or value < 0):
        raise KeyMaterialError(f"a bundle whose {name} is not a whole number")
    return value if type(value) is int else None
