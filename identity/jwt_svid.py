"""JWT-SVIDs: which agent, never for whom (SPIFFE JWT-SVID).

- The header holds `alg`, `kid` and `typ` and nothing else; `typ` is `JWT`, `JOSE` or absent (sections 2 and
  2.3).
- `sub` is the SPIFFE ID of the holder, with a path; its trust domain chooses the keys, and no other keys are
  tried.
- `aud` holds exactly one audience, the one that is asked for; `exp` must be there (sections 3.2 and 3.3).
- We issue for a minute or so, and never beyond the end of what stands behind it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from identity.claims import integer_claim, lifetime, workload_claim
from identity.errors import TokenAudienceError, TokenClaimsError, TokenIssuerError
from identity.jws import BARE_HEADER, NO_TYPE, UnverifiedToken, check_times, check_type, sign, verify
from identity.keys import KeySet, SigningKey
from identity.quick_init import quick_init
from identity.spiffe import SpiffeId, TrustDomain

SVID_TYPS: Final = frozenset({NO_TYPE, "jwt", "jose"})


@quick_init
@dataclass(frozen=True, slots=True)
class JwtSvid:
    """A verified JWT-SVID; its times are in seconds since 1970, and it need not say when it was issued."""

    spiffe_id: SpiffeId
    expires_at: int
    token_id: str
    issued_at: int | None = None


def issue_jwt_svid(
    key: SigningKey,
    spiffe_id: SpiffeId,
    *,
    audience: str,
    now: datetime,
    ttl: int,
    not_after: datetime,
    issuer: str | None = None,
) -> str:
    """Sign a JWT-SVID for one audience, for `ttl` seconds and never beyond `not_after`.

    The `issuer` is for those who find the keys by OpenID Connect Discovery; SPIFFE does not ask for it.

    Raises:
        TokenClaimsError: if the ID has no path or the audience is empty.
        TokenExpiredError: if no time is left.
    """
    if not spiffe_id.path or not audience:
        raise TokenClaimsError("a JWT-SVID without a path in its ID or without an audience")
    issued_at, expires_at = lifetime(now, ttl, int(not_after.timestamp()))
    claims: dict[str, object] = {
        "sub": str(spiffe_id),
        "aud": [audience],
        "iat": issued_at,
        "exp": expires_at,
    }
    if issuer is not None:
        claims["iss"] = issuer
    return sign(key, "JWT", claims)


def verify_jwt_svid(
    token: UnverifiedToken,
    bundles: Mapping[TrustDomain, KeySet],
    *,
    audience: str,
    now: datetime,
    leeway: int,
) -> JwtSvid:
    """Verify a JWT-SVID with the keys of the trust domain that it names.

    Raises:
        TokenError: the child that says which rule spoke, in the order type, issuer, header, key, algorithm,
            signature, time, audience.
    """
    check_type(token, SVID_TYPS)
    # The unverified subject chooses the keys; they then prove it, or nothing is believed (J-10).
    unverified_id = workload_claim(token.unverified_claims, "JWT-SVID")
    keys = bundles.get(unverified_id.trust_domain)
    if keys is None:
        raise TokenIssuerError(f"no keys of the trust domain {unverified_id.trust_domain.name!r}")
    verified = verify(token, keys, typ=SVID_TYPS, header_members=BARE_HEADER)
    check_times(verified.claims, now, leeway)
    if verified.claims.get("aud") not in (audience, [audience]):
        raise TokenAudienceError("a JWT-SVID for another audience, or for more than one")
    return JwtSvid(
        # What was read of the unverified claims: the signature is over the very bytes that they came from.
        spiffe_id=unverified_id,
        expires_at=integer_claim(verified.claims, "exp"),
        token_id=verified.token_id,
        issued_at=integer_claim(verified.claims, "iat") if "iat" in verified.claims else None,
    )
