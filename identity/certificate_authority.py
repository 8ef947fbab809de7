"""The certificate authority of one trust domain (SPIFFE X509-SVID section 3.2).

- The certificate is self-signed, names `spiffe://<trust domain>` and may sign leaves only: no CA below it.
- It is on P-256 and has a critical key usage of `keyCertSign` and `cRLSign`, so it cannot authenticate
  anybody.
- An expired authority signs nothing; what it signs never outlives it.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from identity.errors import CertificateError, KeyMaterialError, SpiffeIdError
from identity.keys import SigningKey
from identity.spiffe import SpiffeId, TrustDomain

# The clock of whoever verifies may be a little behind ours.
BACKDATE: Final = timedelta(seconds=10)
DEFAULT_LIFETIME: Final = timedelta(days=1)

# All that reading a foreign certificate or request can raise; some are no children of ValueError.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    # What cryptography still reads and will not for long, where warnings are errors.
    CryptographyDeprecationWarning,
)

SIGNS_CERTIFICATES: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
_SIGNS: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
_BOTH_SIDES: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
_NOT_A_CA: Final = x509.BasicConstraints(ca=False, path_length=None)
_NO_NAME: Final = x509.Name([])


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """A CA certificate and its key; `leaf` is what all certificates below it have in common."""

    trust_domain: TrustDomain
    certificate: x509.Certificate
    key: SigningKey
    leaf: x509.CertificateBuilder = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make once what every leaf needs."""
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.private_key.public_key())
        leaf = (
            x509.CertificateBuilder(self.certificate.subject, _NO_NAME)
            .add_extension(_NOT_A_CA, critical=True)
            .add_extension(_SIGNS, critical=True)
            .add_extension(_BOTH_SIDES, critical=False)
            .add_extension(issuer, critical=False)
        )
        object.__setattr__(self, "leaf", leaf)

    @classmethod
    def generate(
        cls, trust_domain: TrustDomain, now: datetime, lifetime: timedelta = DEFAULT_LIFETIME
    ) -> "CertificateAuthority":
        """Make a new authority."""
        return cls.certify(SigningKey.generate(), trust_domain, now, lifetime)

    @classmethod
    def certify(
        cls, key: SigningKey, trust_domain: TrustDomain, now: datetime, lifetime: timedelta
    ) -> "CertificateAuthority":
        """Make an authority of a key, wherever that key is kept."""
        serial = x509.random_serial_number()
        public_key = key.private_key.public_key()
        # The number makes the names of two authorities of one trust domain differ.
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Deputy"),
                x509.NameAttribute(NameOID.SERIAL_NUMBER, f"{serial:x}"),
            ]
        )
        uri = x509.UniformResourceIdentifier(str(trust_domain.spiffe_id))
        certificate = (
            x509.CertificateBuilder(name, name, public_key, serial)
            .not_valid_before(now.replace(microsecond=0) - BACKDATE)
            .not_valid_after(now.replace(microsecond=0) + lifetime)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(SIGNS_CERTIFICATES, critical=True)
            .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public_key), critical=False)
            .sign(key.private_key, hashes.SHA256())
        )
        return cls(trust_domain, certificate, key)

    @classmethod
    def parse_pem(cls, certificate_pem: bytes, key_pem: bytes) -> "CertificateAuthority":
        """Read an authority that `generate` made.

        Raises:
            CertificateError: if the certificate is not that of a trust domain's authority.
            KeyMaterialError: if the key is malformed, or is not the certificate's.
        """
        key = SigningKey.parse_pem(key_pem)
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem)
            public_key = certificate.public_key()
        except UNREADABLE as error:
            raise CertificateError("not the PEM of a certificate that we can read") from error
        if public_key != key.private_key.public_key():
            raise KeyMaterialError("a key that is not that of its certificate")
        return cls(authority_domain(certificate), certificate, key)

    @property
    def not_after(self) -> datetime:
        """The end of the authority, and so of all that it signs."""
        return self.certificate.not_valid_after_utc

    def certificate_pem(self) -> bytes:
        """Return the certificate, which is public."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def load_certificate(der: bytes) -> x509.Certificate:
    """Read a foreign certificate.

    Raises:
        UNREADABLE: one of these, if it is malformed or its number is not positive (RFC 5280 section 4.1.2.2).
    """
    certificate = x509.load_der_x509_certificate(der)
    if certificate.serial_number < 1:
        raise ValueError("a serial number that is not positive")
    return certificate


def authority_domain(certificate: x509.Certificate) -> TrustDomain:
    """Return the trust domain whose authority a certificate is (X509-SVID section 3.2).

    Raises:
        CertificateError: if it is not a CA certificate that names exactly one trust domain.
    """
    try:
        extensions = certificate.extensions
        is_ca = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
        spiffe_id = SpiffeId.parse(uri)
    except (*UNREADABLE, SpiffeIdError) as error:
        raise CertificateError("not the certificate of a trust domain's authority") from error
    if not is_ca or not usage.critical or not usage.value.key_cert_sign or spiffe_id.path:
        raise CertificateError("a certificate that may not sign for a trust domain")
    return spiffe_id.trust_domain


def check_root(certificate: x509.Certificate, trust_domain: TrustDomain) -> None:
    """Refuse what is no root of a trust domain: it names that domain, or none at all (X-6).

    An authority may stand below another that has never heard of SPIFFE; then its root has no such name. One
    with the name of another trust domain is that one's, and speaks for nobody here.

    Raises:
        CertificateError: if it may not sign certificates, or names another trust domain.
    """
    try:
        parts = {type(part.value): part.value for part in certificate.extensions}
    except UNREADABLE as error:
        raise CertificateError("a root that we cannot read") from error
    constraints, usage = parts.get(x509.BasicConstraints), parts.get(x509.KeyUsage)
    if not isinstance(constraints, x509.BasicConstraints) or not constraints.ca:
        raise CertificateError("a root that is no CA certificate")
    if not isinstance(usage, x509.KeyUsage) or not usage.key_cert_sign:
        raise CertificateError("a root that may not sign certificates")
    names = parts.get(x509.SubjectAlternativeName)
    if isinstance(names, x509.SubjectAlternativeName):
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        if any(uri != str(trust_domain.spiffe_id) for uri in uris if uri.lower().startswith("spiffe:")):
            raise CertificateError(f"a root of another trust domain than {trust_domain.name!r}")
