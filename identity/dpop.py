"""DPoP proofs: whoever presents a token holds its key (RFC 9449).

- A proof is a JWS of type `dpop+jwt` whose header carries the public key: EC or RSA, one of the nine
  algorithms that are on our list, no private or symmetric part, no member that we do not know. RSA keys have
  2048 to 4096 bits. A `kid` is an opaque name and chooses nothing; every other header member, `jku`, `x5u`
  and `x5c` among them, is refused.
- It is for one method, exactly, and one URI, compared in its normal form without query and fragment (section
  4.3, 9; identity/http_uri.py).
- It counts from 60 s before now to 30 s after, by `iat`; where it says `exp` or `nbf`, these count too.
- `jti` is 16 to 128 printable characters. That it was never seen before is not known here: `replay_key` and
  `replay_until` are for the one who keeps count (authz/replay.py). The key is part of the name, so nobody can
  spend another's.
- With an access token, `ath` must be its hash; without one, a proof with `ath` was made for another request.
- Where nonces are asked for, the proof holds one of those that count now (section 8).
- `jkt` is the thumbprint of the key. A proof says nothing about a token without `cnf.jkt` (CA-05).
"""

import hashlib
import hmac
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from identity.base64url import encode_base64url
from identity.claims import integer_claim
from identity.errors import (
    DpopError,
    DpopReason,
    KeyMaterialError,
    TokenAlgorithmError,
    TokenError,
    TokenSignatureError,
)
from identity.http_uri import HttpUri, HttpUriError
from identity.jwk_thumbprint import jwk_thumbprint
from identity.jws import UnverifiedToken
from identity.keys import VerificationKey
from identity.signature_algorithms import SVID_ALGORITHMS, Algorithm

PROOF_TYP: Final = "dpop+jwt"
PROOF_HEADER: Final = "dpop"
# dpop_signing_alg_values_supported (RFC 9449 section 5.1).
PROOF_ALGORITHMS: Final[tuple[Algorithm, ...]] = SVID_ALGORITHMS
PROOF_SECONDS: Final = 60
LEEWAY: Final = 30

_HEADER: Final = frozenset({"typ", "alg", "jwk", "kid"})
# `ext` is what browsers' WebCrypto adds.
_KEY_MEMBERS: Final = frozenset({"kty", "crv", "x", "y", "n", "e", "alg", "use", "key_ops", "kid", "ext"})
_MAX_KEY_TEXT: Final = 1024
_MAX_RSA_BITS: Final = 4096
_MAX_KID: Final = 255
_JTI: Final = re.compile(r"[\x21-\x7e]{16,128}")
_REASONS: Final[Mapping[type[TokenError], DpopReason]] = {
    TokenAlgorithmError: "algorithm",
    TokenSignatureError: "signature",
}


@dataclass(frozen=True, slots=True)
class DpopProof:
    """A proof that was verified for one request; only `verify` makes it."""

    jkt: str
    jti: str
    issued_at: int
    key: VerificationKey = field(repr=False)
    # From this second on the proof is too old everywhere, so that its name can be forgotten.
    replay_until: int

    @property
    def replay_key(self) -> str:
        """The name of the proof among all proofs of all keys."""
        return f"{self.jkt} {self.jti}"

    @classmethod
    def verify(
        cls,
        unverified_proof: str,
        *,
        method: str,
        targets: Collection[HttpUri],
        now: datetime,
        access_token: str | None = None,
        nonces: Collection[str] | None = None,
        window: int = PROOF_SECONDS,
        leeway: int = LEEWAY,
    ) -> "DpopProof":
        """Verify the value of the one `DPoP` header of a request (section 4.3).

        `targets` are the URIs that the client may have written for this request: more than one where the
        scheme that it used is not known. `nonces` are those that count now, None where none is asked for.

        Raises:
            DpopError: with the reason; nothing else.
        """
        try:
            token = UnverifiedToken.parse(unverified_proof)
            key, jkt = _key(token)
            key.verify(token.signature, token.signing_input, token.header["alg"])
            claims = token.unverified_claims  # and from here on verified
            issued_at = _issued_at(claims, now, window, leeway)
        except TokenError as error:
            raise DpopError(_REASONS.get(type(error), "malformed"), f"not a proof: {error}") from error
        if claims.get("htm") != method:
            raise DpopError("method", f"a proof for another method: {_shown(claims.get('htm'))}")
        _check_target(claims.get("htu"), targets)
        jti = claims.get("jti")
        if not isinstance(jti, str) or not _JTI.fullmatch(jti):
            raise DpopError("jti", "a proof whose jti is not 16 to 128 printable characters")
        _check_token(claims, access_token)
        _check_nonce(claims.get("nonce"), nonces)
        return cls(jkt, jti, issued_at, key, issued_at + window + 1)

    def require_key(self, jkt: str) -> None:
        """Refuse another key than the one that a token is bound to (section 7.1).

        Raises:
            DpopError: if it is another one.
        """
        if not hmac.compare_digest(self.jkt.encode("ascii"), jkt.encode("utf-8", "surrogatepass")):
            raise DpopError("binding", "a proof of another key than the token's")


def _key(token: UnverifiedToken) -> tuple[VerificationKey, str]:
    """Return the key that the proof carries, and its thumbprint."""
    if token.typ != PROOF_TYP:
        raise DpopError("type", f"a token of type {token.typ[:64]!r} where 'dpop+jwt' is asked for")
    unknown = token.header.keys() - _HEADER
    if unknown or not _is_text(token.header.get("kid", ""), _MAX_KID):
        raise DpopError("malformed", "a proof with a header member beyond typ, alg, jwk and an opaque kid")
    jwk = token.header.get("jwk")
    if not isinstance(jwk, dict) or not jwk.keys() <= _KEY_MEMBERS:
        raise DpopError("key", "a proof without a key that has the members of a public one only")
    if not isinstance(jwk.get("ext", False), bool) or jwk.get("use", "sig") != "sig":
        raise DpopError("key", "a proof with a key that is for something else")
    if jwk.get("key_ops", ["verify"]) != ["verify"] or not _is_text(jwk.get("kid", ""), _MAX_KID):
        raise DpopError("key", "a proof with a key that is for something else, or has no name that is text")
    members = {name: jwk[name] for name in ("kty", "crv", "x", "y", "n", "e", "alg") if name in jwk}
    if not all(_is_text(value, _MAX_KEY_TEXT) for value in members.values()):
        raise DpopError("key", f"a proof with a key member that is no text of {_MAX_KEY_TEXT} characters")
    return _public_key(tuple(members.items()))


@lru_cache(maxsize=256)  # an agent keeps its key; what is refused is not kept
def _public_key(members: tuple[tuple[str, str], ...]) -> tuple[VerificationKey, str]:
    try:
        key = VerificationKey.parse_jwk({**dict(members), "kid": "-"}, PROOF_ALGORITHMS)
        jkt = jwk_thumbprint(key.jwk())
    except KeyMaterialError as error:
        raise DpopError("key", f"a proof with a key that we do not accept: {error}") from error
    if isinstance(key.public_key, rsa.RSAPublicKey) and key.public_key.key_size > _MAX_RSA_BITS:
        # A stranger brings this key, and its size is our work.
        raise DpopError("key", f"a proof with an RSA key of more than {_MAX_RSA_BITS} bits")
    return VerificationKey(jkt, key.algorithms, key.public_key), jkt


def _issued_at(claims: Mapping[str, object], now: datetime, window: int, leeway: int) -> int:
    """Check the times (section 11.1)."""
    seconds, issued_at = now.timestamp(), integer_claim(claims, "iat")
    if seconds - issued_at > window:
        raise DpopError("expired", f"a proof that is older than {window} s")
    if issued_at - seconds > leeway:
        raise DpopError("future", f"a proof from more than {leeway} s in the future")
    if "exp" in claims and integer_claim(claims, "exp") <= seconds - leeway:
        raise DpopError("expired", "a proof that says that it has expired")
    if "nbf" in claims and integer_claim(claims, "nbf") - seconds > leeway:
        raise DpopError("future", "a proof that says that it is not valid yet")
    return issued_at


def _check_target(unverified_htu: object, targets: Collection[HttpUri]) -> None:
    if not isinstance(unverified_htu, str):
        raise DpopError("uri", "a proof without htu")
    try:
        target = HttpUri.parse(unverified_htu)
    except HttpUriError as error:
        raise DpopError("uri", f"a proof whose htu does not count: {error}") from error
    if target not in targets:
        raise DpopError("uri", f"a proof for another URI: {str(target)[:255]!r}")


def _check_token(claims: Mapping[str, object], access_token: str | None) -> None:
    if access_token is None:
        if "ath" in claims:
            raise DpopError("token", "a proof for a request with an access token, and here is none")
        return
    digest = hashlib.sha256(access_token.encode("utf-8", "surrogatepass")).digest()
    if not _is_equal(claims.get("ath"), encode_base64url(digest)):
        raise DpopError("token", "a proof without the hash of this access token")


def _check_nonce(said: object, nonces: Collection[str] | None) -> None:
    if nonces is not None and not any(_is_equal(said, nonce) for nonce in nonces):
        raise DpopError("nonce", "a proof without a nonce that we gave lately")


def _is_equal(said: object, wanted: str) -> bool:
    return isinstance(said, str) and hmac.compare_digest(
        said.encode("utf-8", "surrogatepass"), wanted.encode("ascii")
    )


def _is_text(value: object, limit: int) -> bool:
    return isinstance(value, str) and len(value) <= limit


def _shown(value: object) -> str:
    return repr(value[:32]) if isinstance(value, str) else "none"
