"""WIT-SVIDs: which agent holds which key (SPIFFE WIT-SVID, incubating).

- The header holds `alg`, `kid` and `typ`, which is `wit+jwt`, and nothing else (section 2).
- `cnf.jwk` is the holder's public key, with the one algorithm that proves possession of it (section 3.2).
- There is no `aud`, and no `iss` that OpenID Connect Discovery could resolve: it is no bearer token, and
  nothing that expects one may take it for one (sections 3.7, 3.8 and 7.1).
- `iat` limits nothing, `nbf` does (section 3.6); `jti` names the token in records and is never used against
  replay: two processes of one workload may hold the same one (section 3.3).
- What is verified here is unproven: `workload_proof` alone makes a caller of it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from identity.base64url import encode_base64url
from identity.claims import integer_claim, lifetime, text_claim, workload_claim
from identity.errors import (
    KeyMaterialError,
    TokenAudienceError,
    TokenClaimsError,
    TokenIssuerError,
)
from identity.jws import BARE_HEADER, UnverifiedToken, check_times, check_type, sign, verify
from identity.keys import KeySet, SigningKey, VerificationKey
from identity.signature_algorithms import SVID_ALGORITHMS
from identity.spiffe import SpiffeId, TrustDomain

WIT_TYP: Final = "wit+jwt"

_WIT: Final = frozenset({WIT_TYP})
# The holder's key needs no name: nothing chooses it but the token that it stands in.
_HOLDER: Final = "cnf"
_VALIDITY: Final = ("exp", "nbf")
_DISCOVERABLE: Final = ("https:", "http:")


@dataclass(frozen=True, slots=True)
class UnprovenWit:
    """A WIT-SVID that its trust domain signed; who presents it has yet to prove that they hold `holder`."""

    spiffe_id: SpiffeId
    holder: VerificationKey
    expires_at: int
    token_id: str

    @property
    def hash(self) -> str:
        """The SHA-256 of the token's text, as a proof names it (`wth`)."""
        return encode_base64url(bytes.fromhex(self.token_id))


def issue_wit_svid(
    key: SigningKey,
    spiffe_id: SpiffeId,
    public_key: ec.EllipticCurvePublicKey,
    *,
    now: datetime,
    ttl: int,
    not_after: datetime,
) -> str:
    """Sign a WIT-SVID of the holder of a P-256 key, for `ttl` seconds and never beyond `not_after`.

    Raises:
        TokenClaimsError: if the ID has no path.
        TokenExpiredError: if no time is left.
        KeyMaterialError: if the holder's key is on another curve.
    """
    if not spiffe_id.path:
        raise TokenClaimsError("a WIT-SVID without a path in its ID")
    holder = VerificationKey.of(public_key)
    issued_at, expires_at = lifetime(now, ttl, int(not_after.timestamp()))
    # What tells two of our WIT-SVIDs apart; tokens that share it are one token, signed twice.
    name = hashlib.sha256(f"{spiffe_id} {holder.kid} {issued_at} {expires_at}".encode("ascii"))
    claims = {
        "sub": str(spiffe_id),
        "cnf": {"jwk": {member: value for member, value in holder.jwk().items() if member != "kid"}},
        "jti": encode_base64url(name.digest()),
        "iat": issued_at,
        "exp": expires_at,
    }
    return sign(key, WIT_TYP, claims)


def verify_wit_svid(
    token: UnverifiedToken, bundles: Mapping[TrustDomain, KeySet], *, now: datetime, leeway: int
) -> UnprovenWit:
    """Verify a WIT-SVID with the `wit-svid` keys of the trust domain that it names.

    Raises:
        TokenError: the child that says which rule spoke, in the order type, issuer, header, key, algorithm,
            signature, time, claims.
    """
    check_type(token, _WIT)
    # The unverified subject chooses the keys; they then prove it, or nothing is believed.
    unverified_id = workload_claim(token.unverified_claims, "WIT-SVID")
    keys = bundles.get(unverified_id.trust_domain)
    if keys is None:
        raise TokenIssuerError(f"no keys of the trust domain {unverified_id.trust_domain.name!r}")
    verified = verify(token, keys, typ=_WIT, header_members=BARE_HEADER)
    claims = verified.claims
    check_times({name: claims[name] for name in _VALIDITY if name in claims}, now, leeway)
    if "aud" in claims:
        raise TokenAudienceError("a WIT-SVID with an audience")
    if "iss" in claims and text_claim(claims, "iss").lower().startswith(_DISCOVERABLE):
        raise TokenIssuerError("a WIT-SVID with an issuer that OpenID Connect Discovery could resolve")
    if "jti" in claims:
        text_claim(claims, "jti")
    return UnprovenWit(
        workload_claim(claims, "WIT-SVID"), _holder(claims), integer_claim(claims, "exp"), verified.token_id
    )


def _holder(claims: Mapping[str, object]) -> VerificationKey:
    """Return the key of `cnf.jwk` (RFC 7800 section 3.2)."""
    match claims.get("cnf"):
        case {"jwk": dict(jwk), **others} if not others and jwk.get("alg") in SVID_ALGORITHMS:
            try:
                return VerificationKey.parse_jwk({**jwk, "kid": _HOLDER})
            except KeyMaterialError as error:
                raise TokenClaimsError(f"a WIT-SVID whose key is not one that we accept: {error}") from error
    raise TokenClaimsError("a WIT-SVID without exactly one key of an algorithm on our list")
