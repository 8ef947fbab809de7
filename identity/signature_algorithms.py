"""The algorithms that we verify, each a constant of ours (RFC 7518 sections 3.3 to 3.5).

- SVIDs may be signed with nine: ECDSA, RSASSA-PKCS1-v1_5 and RSASSA-PSS, each with SHA-256, SHA-384 and
  SHA-512 (JWT-SVID section 2.1). No `none`, no secret shared by two, no EdDSA: SPIFFE does not have it.
- A curve has one algorithm, and an algorithm one curve.
- The salt of a PSS signature is as long as its hash (section 3.5).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

Algorithm = Literal["ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]

# What we sign with, all of it.
SIGNING_ALGORITHM: Final[Algorithm] = "ES256"
# What an SVID may be signed with, by whatever authority.
SVID_ALGORITHMS: Final[tuple[Algorithm, ...]] = (
    "ES256",
    "ES384",
    "ES512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
)
# What providers of people sign with.
PROVIDER_ALGORITHMS: Final[tuple[Algorithm, ...]] = ("ES256", "RS256")


@dataclass(frozen=True, slots=True)
class EcdsaScheme:
    """How a key on one curve signs; `size` is that of a coordinate, in bytes."""

    crv: str
    curve: ec.EllipticCurve
    size: int
    signature: ec.ECDSA


@dataclass(frozen=True, slots=True)
class RsaScheme:
    """How an RSA key signs."""

    padding: padding.AsymmetricPadding
    digest: hashes.HashAlgorithm


def _pss(digest: hashes.HashAlgorithm) -> RsaScheme:
    return RsaScheme(padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH), digest)


ECDSA_SCHEMES: Final[Mapping[Algorithm, EcdsaScheme]] = MappingProxyType(
    {
        "ES256": EcdsaScheme("P-256", ec.SECP256R1(), 32, ec.ECDSA(hashes.SHA256())),
        "ES384": EcdsaScheme("P-384", ec.SECP384R1(), 48, ec.ECDSA(hashes.SHA384())),
        "ES512": EcdsaScheme("P-521", ec.SECP521R1(), 66, ec.ECDSA(hashes.SHA512())),
    }
)
RSA_SCHEMES: Final[Mapping[Algorithm, RsaScheme]] = MappingProxyType(
    {
        "RS256": RsaScheme(padding.PKCS1v15(), hashes.SHA256()),
        "RS384": RsaScheme(padding.PKCS1v15(), hashes.SHA384()),
        "RS512": RsaScheme(padding.PKCS1v15(), hashes.SHA512()),
        "PS256": _pss(hashes.SHA256()),
        "PS384": _pss(hashes.SHA384()),
        "PS512": _pss(hashes.SHA512()),
    }
)
