"""The TLS of the clients that examine a server: their certificates, and two that nobody should believe.

- Both forgeries have the names of the client's own certificate and a new key. The stranger's is signed with
  that key; the issued one with the key of the client, whose certificate is no CA's, and comes after it.
- A key is never asked for in the terminal.
"""

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from authz.conformance.login import Certificate
from authz.errors import ConfigError

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def contexts(
    ca: Path | None, certificates: Mapping[Certificate, tuple[Path, Path]]
) -> Mapping[Certificate | None, ssl.SSLContext]:
    """Return a context for each certificate with its key, for the forgeries, and for none.

    Raises:
        ConfigError: if a file is not what it should be.
    """
    found: dict[Certificate | None, ssl.SSLContext] = {None: _context(ca)}
    for name, (cert, key) in certificates.items():
        found[name] = _context(ca)
        _load(found[name], cert, key)
    if "own" in certificates:
        for name, pem in forgeries(*certificates["own"]).items():
            found[name] = _context(ca)
            with TemporaryDirectory() as directory:
                file = Path(directory, "forged.pem")
                file.write_bytes(pem)
                _load(found[name], file, file)
    return found


def forgeries(cert: Path, key: Path) -> Mapping[Certificate, bytes]:
    """Return the PEM of each forgery: certificate, what stands behind it, and key.

    Raises:
        ConfigError: if the files are no certificate and its key.
    """
    text = cert.read_bytes()
    try:
        own = x509.load_pem_x509_certificates(text)
        signer = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (ValueError, TypeError, IndexError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"not a certificate and its key in PEM: {str(cert)!r}, {str(key)!r}") from error
    made = ec.generate_private_key(ec.SECP256R1())
    private = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    forged: dict[Certificate, bytes] = {"stranger": _copy(own[0], own[0].issuer, made, made) + private}
    if not isinstance(signer, Key):
        raise ConfigError(f"a key of a certificate that signs nothing here: {str(key)!r}")
    behind = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in own)
    forged["issued"] = _copy(own[0], own[0].subject, made, signer) + behind + private
    return forged


def _copy(own: x509.Certificate, issuer: x509.Name, key: Key, signer: Key) -> bytes:
    """Return a certificate with the names of another one."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(own.subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
    )
    for extension in own.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName | x509.KeyUsage | x509.BasicConstraints):
            builder = builder.add_extension(extension.value, extension.critical)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    made = builder.add_extension(identifier, critical=False).sign(
        signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    )
    return made.public_bytes(serialization.Encoding.PEM)


def _context(ca: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise ConfigError(f"no roots in PEM: {str(ca)!r}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _load(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        raise ConfigError(f"not a certificate and its key in PEM: {str(cert)!r}, {str(key)!r}") from error


def _no_password() -> str:
    """Answer instead of a person who would be asked in the terminal."""
    raise ConfigError("the key of a certificate is encrypted: decrypt it first")
