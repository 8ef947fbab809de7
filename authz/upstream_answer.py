"""What the Workload API of another authority answered, read again by our own rules before it counts.

- Our serving identity is an X.509-SVID that the roots of its own trust domain vouch for now, and its key is
  the one that came with it.
- Its trust domain is not the one of our tasks: two authorities of one name could each sign the other's
  identities.
- A bundle of our own trust domain is left out, whoever sends it: what we trust there is ours to say.
- A root is a CA certificate that names its trust domain, or none: SPIRE may stand below a CA that has never
  heard of SPIFFE. A bundle with a root that names another trust domain is refused.
- Keys of JWT-SVIDs are those that say so or say nothing (SPIRE says nothing); a set with a private key is
  refused (A-5).
- One bundle that is refused costs the others nothing.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from identity.bundle import JWT_USE, LIMITS, Bundle
from identity.certificate_authority import UNREADABLE, check_root, load_certificate
from identity.errors import CertificateError, IdentityError
from identity.keys import KeySet, jwks, parse_set
from identity.spiffe import TrustDomain
from identity.x509_svid import X509Svid, leaf_spiffe_id, verify_x509_svid

MAX_DOMAINS: Final = 100
MAX_ROOTS: Final = 100

_PEM: Final = serialization.Encoding.PEM
_DER: Final = serialization.Encoding.DER
_NO_KEYS: Final = KeySet.of(())

Roots = Mapping[TrustDomain, tuple[x509.Certificate, ...]]
JwtKeys = Mapping[TrustDomain, KeySet]

_Given = TypeVar("_Given")
_Read = TypeVar("_Read")


class SameTrustDomainError(CertificateError):
    """The other authority is of our own trust domain."""


@dataclass(frozen=True, slots=True)
class ServingIdentity:
    """An X.509-SVID to present as a server, with its chain and its key as PEM."""

    svid: X509Svid
    chain: bytes
    key: bytes = field(repr=False)

    @property
    def dns_names(self) -> frozenset[str]:
        """The DNS names in it."""
        names = self.svid.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return frozenset(names.get_values_for_type(x509.DNSName))


def serving_identity(
    chain: Sequence[x509.Certificate], key: object, roots: Roots, own: TrustDomain, now: datetime
) -> ServingIdentity:
    """Verify the X.509-SVID that another authority gave us.

    Raises:
        SameTrustDomainError: if it is of the trust domain `own`, which is that of our tasks.
        CertificateError: if its roots do not vouch for it now, or the key is not its.
    """
    ders = [certificate.public_bytes(_DER) for certificate in chain]
    if not ders:
        raise CertificateError("no certificate")
    domain = leaf_spiffe_id(ders[0]).trust_domain
    if domain == own:
        raise SameTrustDomainError(f"an identity of {domain.name!r}, our own trust domain")
    svid = verify_x509_svid(ders, roots.get(domain, ()), domain, now)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise CertificateError("a key that is neither of an elliptic curve nor RSA")
    if key.public_key() != svid.certificate.public_key():
        raise CertificateError("a key that is not that of its certificate")
    pem = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return ServingIdentity(svid, b"".join(certificate.public_bytes(_PEM) for certificate in chain), pem)


def read_roots(
    given: Mapping[str, Collection[x509.Certificate]], own: TrustDomain
) -> tuple[Roots, tuple[str, ...]]:
    """Return the roots of each trust domain but our own, and a sentence for each bundle that was refused."""
    return _each(given, own, _roots)


def read_jwt_keys(given: Mapping[str, bytes], own: TrustDomain) -> tuple[JwtKeys, tuple[str, ...]]:
    """Return the keys of each trust domain but our own, and a sentence for each set that was refused."""
    return _each(given, own, _jwt_keys)


def bundles_of(roots: Roots, jwt_keys: JwtKeys) -> Mapping[TrustDomain, Bundle]:
    """Join what is known of each trust domain."""
    domains = sorted({*roots, *jwt_keys})
    return {
        domain: Bundle(domain, roots.get(domain, ()), jwt_keys.get(domain, _NO_KEYS), None, None)
        for domain in domains
    }


def _each(
    given: Mapping[str, _Given], own: TrustDomain, read: Callable[[_Given, TrustDomain], _Read]
) -> tuple[dict[TrustDomain, _Read], tuple[str, ...]]:
    found: dict[TrustDomain, _Read] = {}
    refused = [f"{len(given)} bundles: only {MAX_DOMAINS} count"] if len(given) > MAX_DOMAINS else []
    for name in sorted(given)[:MAX_DOMAINS]:
        try:
            domain = TrustDomain.parse(name.removeprefix("spiffe://"))
            if domain != own:
                found[domain] = read(given[name], domain)
        except IdentityError as error:
            refused.append(f"the bundle of {name[:255]!r}: {error}")
    return found, tuple(refused)


def _roots(certificates: Collection[x509.Certificate], domain: TrustDomain) -> tuple[x509.Certificate, ...]:
    if len(certificates) > MAX_ROOTS:
        raise CertificateError(f"more than {MAX_ROOTS} roots")
    # The client gives a set; a fixed order lets one see that nothing changed.
    ders = sorted(certificate.public_bytes(_DER) for certificate in certificates)
    return tuple(_root(der, domain) for der in ders)


def _root(der: bytes, domain: TrustDomain) -> x509.Certificate:
    try:
        root = load_certificate(der)
    except UNREADABLE as error:
        raise CertificateError("a root that we cannot read") from error
    check_root(root, domain)
    return root


def _jwt_keys(document: bytes, _domain: TrustDomain) -> KeySet:
    value = parse_set(document, "key set", LIMITS)
    # A private key refuses the set, whatever it is said to be for.
    KeySet.parse_jwks(value, JWT_USE)
    ours = [{**entry, "use": JWT_USE} for entry in jwks(value) if entry.get("use") in {None, JWT_USE}]
    return KeySet.parse_jwks({"keys": ours}, JWT_USE)
