"""A private key that the run signs with: for proofs, for assertions of the client, for subject tokens.

- P-256 signs by ES256, RSA by RS256 or PS256; no other kind is needed to examine a server.
- What it signs is never a credential of ours, and no text of it shows a private part but `private_jwk`, whose
  secret is that of a key which is made here and counts nowhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from authz.errors import ConfigError
from identity.base64url import encode_base64url
from identity.jwk_thumbprint import jwk_thumbprint
from identity.keys import SigningKey, VerificationKey
from identity.signature_algorithms import RSA_SCHEMES, Algorithm

_PUBLIC: Final = ("kty", "crv", "x", "y", "n", "e")
_RSA: Final[Mapping[str, Algorithm]] = {"RS256": "RS256", "PS256": "PS256"}


@dataclass(frozen=True, slots=True, eq=False)
class Signer:
    """A private key and the algorithm that it signs by."""

    private_key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = field(repr=False)
    algorithm: Algorithm

    @classmethod
    def parse_pem(cls, pem: bytes, algorithm: object = None) -> "Signer":
        """Read an unencrypted key; `algorithm` chooses between those of an RSA key.

        Raises:
            ConfigError: if it is no P-256 or RSA key in PEM.
        """
        try:
            found = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigError("not the PEM of an unencrypted private key") from error
        if isinstance(found, rsa.RSAPrivateKey):
            return cls(found, _RSA["PS256" if algorithm == "PS256" else "RS256"])
        if isinstance(found, ec.EllipticCurvePrivateKey) and isinstance(found.curve, ec.SECP256R1):
            return cls(found, "ES256")
        raise ConfigError("a private key that is neither P-256 nor RSA")

    @classmethod
    def generate(cls) -> "Signer":
        """Make a key."""
        return cls(ec.generate_private_key(ec.SECP256R1()), "ES256")

    def sign(self, data: bytes) -> bytes:
        """Return the signature of a JWS."""
        if isinstance(self.private_key, ec.EllipticCurvePrivateKey):
            return SigningKey.of(self.private_key).sign(data)
        scheme = RSA_SCHEMES[self.algorithm]
        return self.private_key.sign(data, scheme.padding, scheme.digest)

    @property
    def jwk(self) -> dict[str, object]:
        """The members of the public key, and nothing else."""
        key = VerificationKey("-", (self.algorithm,), self.private_key.public_key())
        return {name: value for name, value in key.jwk().items() if name in _PUBLIC}

    @property
    def jkt(self) -> str:
        """The thumbprint of the public key (RFC 7638)."""
        return jwk_thumbprint(self.jwk)


@cache
def own_signer() -> Signer:
    """Return the key of this tool, which no server can know."""
    return Signer.generate()


@cache
def other_signer() -> Signer:
    """Return another one."""
    return Signer.generate()


def private_jwk(signer: Signer) -> dict[str, object]:
    """Return a key that is made here with its private part, for a server that must not take it."""
    numbers = signer.private_key.private_numbers()
    if isinstance(numbers, ec.EllipticCurvePrivateNumbers):
        return {**signer.jwk, "d": encode_base64url(numbers.private_value.to_bytes(32))}
    return private_jwk(own_signer())
