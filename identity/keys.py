"""Keys that sign and keys that verify.

- We sign with ECDSA P-256 (ES256) only. SVIDs are verified with the nine algorithms of SPIFFE, tokens of
  providers of people with ES256 and RS256.
- A verification key carries its algorithm; a token cannot choose another one for it (RFC 8725 section 3.1).
  An RSA key of a SPIFFE bundle that names none has those of our list that are RSA's: SPIRE names none.
- A key is named by its RFC 7638 thumbprint when it is ours; a foreign `kid` is an opaque name in its own set.
- A set that holds a private or symmetric key is refused as a whole; a key of a kind that we do not use is
  left out.
- RSA keys have at least 2048 bits, an odd exponent of at least 3, and not the form that ROCA breaks.
- A private key cannot be printed; `reveal_pem` is the one way to see it.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from identity.base64url import Base64UrlError, decode_base64url, encode_base64url
from identity.errors import KeyMaterialError, TokenAlgorithmError, TokenSignatureError
from identity.signature_algorithms import (
    ECDSA_SCHEMES,
    PROVIDER_ALGORITHMS,
    RSA_SCHEMES,
    SIGNING_ALGORITHM,
    SVID_ALGORITHMS,
    Algorithm,
)
from identity.strict_json import Limits, StrictJsonError, loads

MAX_KEYS: Final = 100
MAX_SET_BYTES: Final = 256 * 1024
MAX_KID: Final = 255

_COORDINATE: Final = 32
_MIN_RSA_BITS: Final = 2048
# A longer modulus makes one verification cost many milliseconds, for whoever publishes the key.
_MAX_RSA_BITS: Final = 8192
_MIN_RSA_EXPONENT: Final = 3
_MAX_RSA_EXPONENT: Final = 2**32
_ES256: Final = ECDSA_SCHEMES[SIGNING_ALGORITHM].signature
_CURVES: Final[Mapping[object, Algorithm]] = MappingProxyType(
    {scheme.crv: algorithm for algorithm, scheme in ECDSA_SCHEMES.items()}
)
_SET_LIMITS: Final = Limits(depth=8, keys=20 * MAX_KEYS)
_SECRET_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key, its name and the algorithm that it verifies; only a foreign RSA key may have several."""

    kid: str
    algorithms: tuple[Algorithm, ...]
    public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey = field(repr=False)

    @classmethod
    def of(cls, public_key: ec.EllipticCurvePublicKey) -> "VerificationKey":
        """Name a P-256 key by its thumbprint (RFC 7638).

        Raises:
            KeyMaterialError: if the key is on another curve.
        """
        if not isinstance(public_key.curve, ec.SECP256R1):
            raise KeyMaterialError(f"not a P-256 key: {public_key.curve.name}")
        x, y = _coordinates(public_key)
        # The members in the order of their names (section 3.3); JSON's library takes longer than the hash.
        members = f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'
        kid = encode_base64url(hashlib.sha256(members.encode("ascii")).digest())
        return cls(kid, (SIGNING_ALGORITHM,), public_key)

    @classmethod
    def parse_jwk(
        cls, jwk: Mapping[str, object], accepted: Sequence[Algorithm] = SVID_ALGORITHMS
    ) -> "VerificationKey":
        """Read one public key of an issuer from whom these algorithms are accepted (RFC 7518 section 6).

        Raises:
            KeyMaterialError: if it is not a public key of one of them, with a `kid` that we accept.
        """
        if jwk.get("kty") == "oct" or _SECRET_MEMBERS & jwk.keys():
            raise KeyMaterialError("a private or symmetric key where a public one is published")
        kid, algorithms = jwk.get("kid"), _algorithms(jwk, accepted)
        if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID:
            raise KeyMaterialError(f"a key without a kid of at most {MAX_KID} characters")
        if not algorithms:
            raise KeyMaterialError(f"a key of a kind that we do not use: kid {kid!r}")
        try:
            return cls(kid, algorithms, _public_key(jwk, algorithms[0]))
        except (ValueError, Base64UrlError) as error:
            raise KeyMaterialError(f"a malformed key: kid {kid!r}") from error

    def jwk(self) -> dict[str, object]:
        """Return the public key as a JWK, without `use`, which is for the publisher to say."""
        if isinstance(self.public_key, ec.EllipticCurvePublicKey):
            members = _ec_members(self.public_key)
        else:
            numbers = self.public_key.public_numbers()
            members = {"kty": "RSA", "n": _uint(numbers.n), "e": _uint(numbers.e)}
        if len(self.algorithms) == 1:
            members["alg"] = self.algorithms[0]
        return {**members, "kid": self.kid}

    def verify(self, signature: bytes, data: bytes, algorithm: object = SIGNING_ALGORITHM) -> None:
        """Check a JWS signature over some bytes, by the algorithm that its header names; our own is ES256.

        Raises:
            TokenAlgorithmError: if that is not one of this key's; nothing is computed then.
            TokenSignatureError: if it is not a signature of this key.
        """
        if algorithm not in self.algorithms:
            raise TokenAlgorithmError(
                f"a token with an algorithm that is not the {' or '.join(self.algorithms)} of its key"
            )
        chosen = self.algorithms[self.algorithms.index(algorithm)]  # ours, not the header's
        ecdsa = ECDSA_SCHEMES.get(chosen)
        try:
            # The algorithms are those of the kind of key; to ask for its kind is to ask an abstract class.
            if ecdsa is not None:
                elliptic = cast("ec.EllipticCurvePublicKey", self.public_key)
                elliptic.verify(_der_signature(signature, ecdsa.size), data, ecdsa.signature)
            else:
                scheme = RSA_SCHEMES[chosen]
                rsa_key = cast("rsa.RSAPublicKey", self.public_key)
                rsa_key.verify(signature, data, scheme.padding, scheme.digest)
        except InvalidSignature as error:
            raise TokenSignatureError("a signature that is not of this key") from error


@dataclass(frozen=True, slots=True, eq=False)
class SigningKey:
    """A private P-256 key; its text never shows more than the public name."""

    private_key: ec.EllipticCurvePrivateKey = field(repr=False)
    public: VerificationKey

    @classmethod
    def generate(cls) -> "SigningKey":
        """Make a new key."""
        return cls.of(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def of(cls, private_key: ec.EllipticCurvePrivateKey) -> "SigningKey":
        """Wrap a P-256 key.

        Raises:
            KeyMaterialError: if the key is on another curve.
        """
        return cls(private_key, VerificationKey.of(private_key.public_key()))

    @classmethod
    def parse_pem(cls, pem: bytes) -> "SigningKey":
        """Read an unencrypted private key.

        Raises:
            KeyMaterialError: if it is not the PEM of a P-256 private key.
        """
        try:
            private_key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyMaterialError("not the PEM of an unencrypted private key") from error
        if not isinstance(private_key, ec.EllipticCurvePrivateKey):
            raise KeyMaterialError("not a P-256 private key")
        return cls.of(private_key)

    @property
    def kid(self) -> str:
        """The name of the key: the thumbprint of its public part."""
        return self.public.kid

    def reveal_pem(self) -> bytes:
        """Return the private key, as PKCS#8 PEM."""
        return self.private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def sign(self, data: bytes) -> bytes:
        """Return the raw ES256 signature, r and s of 32 bytes each (RFC 7518 section 3.4)."""
        r, s = decode_dss_signature(self.private_key.sign(data, _ES256))
        return r.to_bytes(_COORDINATE) + s.to_bytes(_COORDINATE)


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one issuer, by `kid`."""

    keys: Mapping[str, VerificationKey]

    @classmethod
    def of(cls, keys: Iterable[VerificationKey]) -> "KeySet":
        """Collect keys.

        Raises:
            KeyMaterialError: if two have one name, or there are too many.
        """
        by_kid: dict[str, VerificationKey] = {}
        for key in keys:
            if key.kid in by_kid:
                raise KeyMaterialError(f"two keys with one kid: {key.kid!r}")
            by_kid[key.kid] = key
        if len(by_kid) > MAX_KEYS:
            raise KeyMaterialError(f"more than {MAX_KEYS} keys in a set")
        return cls(MappingProxyType(by_kid))

    @classmethod
    def parse_jwks(cls, source: bytes | Mapping[str, object], use: str | None) -> "KeySet":
        """Read the keys of a JWK Set that are published for one use.

        With a `use` of None, those for signatures (`use` absent or `sig`) of a provider of people, or of our
        own; else those of SVIDs. Keys of another use, or of a kind that we do not use, are left out (B-3).

        Raises:
            KeyMaterialError: if the set is malformed, or any key in it is private, symmetric or malformed.
        """
        wanted = {None, "sig"} if use is None else {use}
        accepted = PROVIDER_ALGORITHMS if use is None else SVID_ALGORITHMS
        entries = list(
            jwks(parse_set(source, "key set", _SET_LIMITS) if isinstance(source, bytes) else source)
        )
        for jwk in entries:
            if jwk.get("kty") == "oct" or _SECRET_MEMBERS & jwk.keys():
                raise KeyMaterialError("a key set with a private or symmetric key")
        ours = (jwk for jwk in entries if jwk.get("use") in wanted and _algorithms(jwk, accepted))
        return cls.of(VerificationKey.parse_jwk(jwk, accepted) for jwk in ours)

    def get(self, kid: str) -> VerificationKey | None:
        """Return the key of a name."""
        return self.keys.get(kid)

    def __iter__(self) -> Iterator[VerificationKey]:
        return iter(self.keys.values())


def jwks(document: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """Return the entries of a JWK Set, of whatever kind.

    Raises:
        KeyMaterialError: if it is not a set of at most 100 objects.
    """
    keys = document.get("keys")
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise KeyMaterialError(f"not a key set with at most {MAX_KEYS} keys")
    for jwk in keys:
        if not isinstance(jwk, Mapping) or not isinstance(jwk.get("use", ""), str):
            raise KeyMaterialError("a key set with something that is not a key")
        yield jwk


def parse_set(data: bytes, what: str, limits: Limits) -> Mapping[str, object]:
    """Read the document of a JWK Set, or of something that is one and more: `what`.

    Raises:
        KeyMaterialError: if it is too long, or not one strict JSON object.
    """
    if len(data) > MAX_SET_BYTES:
        raise KeyMaterialError(f"a {what} longer than {MAX_SET_BYTES} bytes")
    try:
        value = loads(data, limits)
    except StrictJsonError as error:
        raise KeyMaterialError(f"a {what} that is not strict JSON: {error}") from error
    if not isinstance(value, dict):
        raise KeyMaterialError(f"a {what} that is not an object")
    return value


def _algorithms(jwk: Mapping[str, object], accepted: Sequence[Algorithm]) -> tuple[Algorithm, ...]:
    """Return the algorithms of a key; none, if it is of a kind that we do not use."""
    if jwk.get("key_ops", ["verify"]) != ["verify"]:
        return ()
    match jwk.get("kty"), jwk.get("crv"):
        case "EC", str(crv):
            # The curve says it (RFC 7518 section 3.4).
            own = [algorithm for name, algorithm in _CURVES.items() if name == crv]
        case "RSA", None:
            own = list(RSA_SCHEMES)
        case _:
            own = []
    named = jwk.get("alg")
    return tuple(algorithm for algorithm in own if algorithm in accepted and named in (None, algorithm))


def _public_key(
    jwk: Mapping[str, object], algorithm: Algorithm
) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    if (scheme := ECDSA_SCHEMES.get(algorithm)) is not None:
        x, y = _bytes(jwk, "x"), _bytes(jwk, "y")
        if len(x) != scheme.size or len(y) != scheme.size:
            raise ValueError(f"a coordinate that is not {scheme.size} bytes long")
        return ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), scheme.curve).public_key()
    n, e = int.from_bytes(_bytes(jwk, "n")), int.from_bytes(_bytes(jwk, "e"))
    if not _MIN_RSA_BITS <= n.bit_length() <= _MAX_RSA_BITS or not _MIN_RSA_EXPONENT <= e < _MAX_RSA_EXPONENT:
        raise ValueError("an RSA key of a size that we do not accept")
    if _has_roca_form(n):
        raise ValueError("an RSA key that ROCA breaks")
    return rsa.RSAPublicNumbers(e, n).public_key()


# The small primes modulo each of which a modulus of ROCA (CVE-2017-15361) is a power of 65537: its own primes
# are k*M + (65537^a mod M), with M the product of the first primes (Nemec and others, "The Return of
# Coppersmith's Attack", CCS 2017, section 2). A prime whose group 65537 generates in full says nothing; over
# these, a good modulus has that form with a chance of about 2^-28.
_ROCA_PRIMES: Final = (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
_ROCA_POWERS: Final = {
    prime: frozenset(pow(65537, power, prime) for power in range(prime)) for prime in _ROCA_PRIMES
}


def _has_roca_form(n: int) -> bool:
    return all(n % prime in powers for prime, powers in _ROCA_POWERS.items())


def _bytes(jwk: Mapping[str, object], member: str) -> bytes:
    text = jwk.get(member)
    if not isinstance(text, str):
        raise KeyMaterialError(f"a key without its member {member}")
    return decode_base64url(text)


def _ec_members(public_key: ec.EllipticCurvePublicKey) -> dict[str, object]:
    x, y = _coordinates(public_key)
    crv = next(s.crv for s in ECDSA_SCHEMES.values() if s.curve.name == public_key.curve.name)
    return {"crv": crv, "kty": "EC", "x": x, "y": y}


def _coordinates(public_key: ec.EllipticCurvePublicKey) -> tuple[str, str]:
    # 4, x and y, each as long as a number of the curve's field (SEC 1 section 2.3.3).
    point = public_key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    size = len(point) // 2
    return encode_base64url(point[1 : 1 + size]), encode_base64url(point[1 + size :])


def _uint(value: int) -> str:
    return encode_base64url(value.to_bytes((value.bit_length() + 7) // 8))


def _der_signature(signature: bytes, size: int) -> bytes:
    if len(signature) != 2 * size:
        raise TokenSignatureError(f"an ECDSA signature that is not {2 * size} bytes long")
    return encode_dss_signature(int.from_bytes(signature[:size]), int.from_bytes(signature[size:]))
