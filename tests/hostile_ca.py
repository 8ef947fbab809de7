"""A CA of a trust domain that signs whatever it is told: names of others, CAs below it, CAs of others.

It shares no code with identity/, so that a mistake there cannot hide in both.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from identity.bundle import Bundle
from identity.keys import KeySet
from identity.spiffe import TrustDomain

_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class Peer:
    """A certificate chain and the key of its leaf, PEM."""

    chain: bytes
    key: bytes

    @property
    def leaf(self) -> bytes:
        """The first certificate, DER."""
        return x509.load_pem_x509_certificate(self.chain).public_bytes(serialization.Encoding.DER)

    @property
    def ders(self) -> tuple[bytes, ...]:
        """The whole chain, DER."""
        certificates = x509.load_pem_x509_certificates(self.chain)
        return tuple(each.public_bytes(serialization.Encoding.DER) for each in certificates)


@dataclass(frozen=True, slots=True)
class HostileCa:
    """A CA; `above` are the certificates between it and a root."""

    domain: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    above: tuple[x509.Certificate, ...] = ()

    @classmethod
    def root(cls, domain: str, lifetime: timedelta = timedelta(hours=1)) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(domain, _ca(domain, key, None, lifetime), key)

    @classmethod
    def lookalike(cls, domain: str, of: "HostileCa", *, names_its_key: bool) -> Self:
        """A root that calls itself as another root does, and outlives it."""
        key, identifier = ec.generate_private_key(ec.SECP256R1()), None
        if names_its_key:
            identifier = of.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder(of.certificate.subject, of.certificate.subject, key.public_key(), 7)
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(days=300))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
        )
        if identifier is not None:
            builder = builder.add_extension(identifier, critical=False)
        return cls(domain, builder.sign(key, hashes.SHA256()), key)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(_PEM)

    @property
    def bundle(self) -> Bundle:
        return Bundle(TrustDomain.parse(self.domain), (self.certificate,), KeySet.of(()), None, None)

    def below(self, domain: str | None = None, lifetime: timedelta = timedelta(hours=1)) -> "HostileCa":
        """A CA that this one signed, with the name of its own trust domain or of any other."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _ca(domain or self.domain, key, self, lifetime)
        return HostileCa(domain or self.domain, certificate, key, (certificate, *self.above))

    def vouched_for_by(self, other: "HostileCa") -> "HostileCa":
        """The same CA with a certificate that another one signed for it."""
        crossed = _ca(self.domain, self.key, other, timedelta(hours=1), self.certificate.subject)
        return HostileCa(self.domain, self.certificate, self.key, (crossed, *other.above))

    def issue(self, uri: str, lifetime: timedelta = timedelta(minutes=10)) -> Peer:
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri), x509.DNSName("localhost")]
        leaf = (
            x509.CertificateBuilder(
                self.certificate.subject, x509.Name([]), key.public_key(), x509.random_serial_number()
            )
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        chain = b"".join(each.public_bytes(_PEM) for each in (leaf, *self.above))
        pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return Peer(chain, key.private_bytes(_PEM, pkcs8, plain))


def _ca(
    domain: str,
    key: ec.EllipticCurvePrivateKey,
    by: HostileCa | None,
    lifetime: timedelta,
    name: x509.Name | None = None,
) -> x509.Certificate:
    now, serial = datetime.now(UTC), x509.random_serial_number()
    subject = name or x509.Name([x509.NameAttribute(x509.NameOID.SERIAL_NUMBER, f"{serial:x}")])
    issuer, signer = (subject, key) if by is None else (by.certificate.subject, by.key)
    uri = x509.UniformResourceIdentifier(f"spiffe://{domain}")
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), serial)
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
