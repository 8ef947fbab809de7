"""The two forged certificates of an examination: whose names they have, and who signed them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from authz.commands.conformance_tls import contexts, forgeries
from authz.errors import ConfigError

URI = x509.UniformResourceIdentifier("spiffe://mesh.example/agent/triage")
KEYS: dict[str, Any] = {
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "RSA": rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}


def written(folder: Path, key: Any, encryption: Any = None) -> tuple[Path, Path]:
    """A certificate of an agent, and its key."""
    now, name = datetime.now(UTC), x509.Name([])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([URI]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    made = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    cert, file = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(Encoding.PEM))
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    return cert, file


@pytest.mark.parametrize("kind", KEYS)
def test_ca02_a_forgery_has_the_names_of_the_client_and_its_key_as_issuer(kind: str, tmp_path: Path) -> None:
    """CA-02: only a server that takes a leaf for a CA believes it."""
    cert, key = written(tmp_path, KEYS[kind])
    forged, behind = x509.load_pem_x509_certificates(forgeries(cert, key)["issued"])

    assert behind == x509.load_pem_x509_certificate(cert.read_bytes())
    names = forged.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [URI]
    forged.verify_directly_issued_by(behind)
    assert forged.public_key() != behind.public_key()


def test_ca02_the_stranger_vouches_for_itself(tmp_path: Path) -> None:
    """CA-02: the same names, and a key that nobody knows."""
    cert, key = written(tmp_path, KEYS["P-256"])
    (forged,) = x509.load_pem_x509_certificates(forgeries(cert, key)["stranger"])

    forged.verify_directly_issued_by(forged)
    assert forged.public_key() != KEYS["P-256"].public_key()


def test_each_certificate_has_a_connection_of_its_own(tmp_path: Path) -> None:
    pair = written(tmp_path, KEYS["P-256"])

    assert contexts(None, {"own": pair}).keys() == {None, "own", "stranger", "issued"}
    assert contexts(None, {"other": pair}).keys() == {None, "other"}


def test_nobody_is_asked_for_a_password(tmp_path: Path) -> None:
    pair = written(tmp_path, KEYS["P-256"], BestAvailableEncryption(b"secret"))

    with pytest.raises(ConfigError, match="is encrypted"):
        contexts(None, {"own": pair})


def test_what_is_no_certificate_is_named(tmp_path: Path) -> None:
    cert, key = written(tmp_path, KEYS["P-256"])
    for file in (cert, key):
        content = file.read_bytes()
        file.write_bytes(b"no PEM")
        with pytest.raises(ConfigError, match="not a certificate and its key in PEM"):
            forgeries(cert, key)
        file.write_bytes(content)
