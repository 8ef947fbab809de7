"""What the names of Envoy's Secret Discovery Service mean, and the secrets that they stand for.

- The names are SPIRE's: `default` and each SPIFFE ID of the caller are certificates with their keys; `ROOTCA`
  is the roots of our own trust domain; `spiffe://<trust domain>` one domain; `ALL` every domain.
- `ALL` and the name of a trust domain are SPIFFE validators: Envoy then takes the roots of the domain that
  the leaf names, so a CA of one domain can never vouch for an ID of another (X-7). The roots of two domains
  are never in one list. `ROOTCA` is plain roots, for any matcher of Envoy; no foreign root is in them.
- A domain without roots trusts nobody: Envoy keeps the last secret when one is withdrawn, so it is given a
  root whose key no longer exists. A validation context is never empty, which Envoy would read as anybody.
- A version is a hash of what is public in the secret: the same content has the same version in every process.
- A private key is in the body of a certificate's secret and nowhere else; no text of ours shows a body.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.any_pb2 import Any as AnyMessage

from identity.bundle import Bundle
from identity.certificate_authority import CertificateAuthority
from identity.entitlement import Entitlement, HeldSvid
from identity.errors import SpiffeIdError
from identity.pb import sds_pb2 as pb
from identity.spiffe import SpiffeId, TrustDomain
from identity.trust_bundles import TrustBundles

DEFAULT_SVID: Final = "default"
OWN_ROOTS: Final = "ROOTCA"
EVERY_DOMAIN: Final = "ALL"

_TYPES: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
SECRET_TYPE: Final = f"{_TYPES}Secret"
_VALIDATOR_TYPE: Final = f"{_TYPES}SPIFFECertValidatorConfig"
_VALIDATOR: Final = "envoy.tls.cert_validator.spiffe"
_TEN_YEARS: Final = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class NamedSecret:
    """A secret as Envoy reads it; its text shows the name and the version only."""

    name: str
    version: str
    body: AnyMessage = field(repr=False)


@dataclass(frozen=True, slots=True)
class Roots:
    """The trust domains that a name stands for; `plain` leaves it to Envoy's matchers which IDs are meant."""

    bundles: tuple[Bundle, ...]
    plain: bool = False


def meaning(
    name: str, entitlements: Sequence[Entitlement], bundles: TrustBundles
) -> Entitlement | Roots | None:
    """Return what a name stands for, or None if it is not one that this caller may use."""
    if name == DEFAULT_SVID:
        return entitlements[0] if entitlements else None
    if name == OWN_ROOTS:
        return Roots((bundles.own,), plain=True)
    if name == EVERY_DOMAIN:
        return Roots(tuple(bundles.all.values()))
    for trust_domain, bundle in bundles.all.items():
        if name == str(trust_domain.spiffe_id):
            return Roots((bundle,))
    return next((mine for mine in entitlements if name == str(mine.spiffe_id)), None)


def every_name(entitlements: Sequence[Entitlement], bundles: TrustBundles) -> tuple[str, ...]:
    """Return what a caller gets that names nothing: each of its IDs, and each trust domain."""
    ids = [str(mine.spiffe_id) for mine in entitlements]
    return tuple(dict.fromkeys(ids + [str(domain.spiffe_id) for domain in bundles.all]))


def trust_domain_of(name: str) -> TrustDomain | None:
    """Return the trust domain that a name is the ID of, known or not."""
    try:
        spiffe_id = SpiffeId.parse(name)
    except SpiffeIdError:
        return None
    return None if spiffe_id.path else spiffe_id.trust_domain


def certificate_secret(name: str, held: HeldSvid) -> NamedSecret:
    """Return an SVID with its key."""
    chain = _pem(map(x509.load_der_x509_certificate, held.chain))
    certificate = pb.TlsCertificate(
        certificate_chain=_inline(chain), private_key=_inline(held.key.reveal_pem())
    )
    return _named(pb.Secret(name=name, tls_certificate=certificate), chain)


def roots_secret(name: str, roots: Roots, nobody: x509.Certificate) -> NamedSecret:
    """Return what verifies the SVIDs of some trust domains; `nobody` stands for roots that there are not."""
    if roots.plain:
        (bundle,) = roots.bundles
        context = pb.CertificateValidationContext(trusted_ca=_inline(_pem(bundle.roots or (nobody,))))
    else:
        # An unknown domain is refused, so one without roots is left out, but for the last one.
        known = [bundle for bundle in roots.bundles if bundle.roots] or roots.bundles[:1]
        context = _validator((bundle.trust_domain, bundle.roots or (nobody,)) for bundle in known)
    return _validation(name, context)


def nobody_secret(name: str, trust_domain: TrustDomain, nobody: x509.Certificate) -> NamedSecret:
    """Return what a trust domain becomes that was trusted and is not any more."""
    return _validation(name, _validator([(trust_domain, (nobody,))]))


def nobody_root(now: datetime) -> x509.Certificate:
    """Make a root that has signed nothing and never will: its key is gone when this returns."""
    return CertificateAuthority.generate(
        TrustDomain.parse("nobody.invalid"), now, lifetime=_TEN_YEARS
    ).certificate


def _validator(
    domains: Iterable[tuple[TrustDomain, Sequence[x509.Certificate]]],
) -> pb.CertificateValidationContext:
    config = pb.SPIFFECertValidatorConfig(
        trust_domains=[
            pb.SPIFFECertValidatorConfig.TrustDomain(name=domain.name, trust_bundle=_inline(_pem(roots)))
            for domain, roots in domains
        ]
    )
    validator = pb.TypedExtensionConfig(
        name=_VALIDATOR,
        typed_config=AnyMessage(type_url=_VALIDATOR_TYPE, value=config.SerializeToString()),
    )
    return pb.CertificateValidationContext(custom_validator_config=validator)


def _validation(name: str, context: pb.CertificateValidationContext) -> NamedSecret:
    return _named(pb.Secret(name=name, validation_context=context), context.SerializeToString())


def _named(secret: pb.Secret, public: bytes) -> NamedSecret:
    body = AnyMessage(type_url=SECRET_TYPE, value=secret.SerializeToString())
    return NamedSecret(secret.name, hashlib.sha256(public).hexdigest()[:32], body)


def _inline(pem: bytes) -> pb.DataSource:
    return pb.DataSource(inline_bytes=pem)


def _pem(certificates: Iterable[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
