"""Workload proof tokens: who presents a WIT-SVID holds its key (draft-ietf-wimse-wpt-01).

- The key and its one algorithm are those of the WIT-SVID; the proof's header chooses nothing.
- A proof is for one audience, the target URI without query and fragment. The audience that is accepted comes
  from the configuration, never from `Host` or `X-Forwarded-Host`.
- It lives for minutes at most, and no longer than its WIT-SVID.
- Every token of the request that says for whom it is made is covered by its hash: `ath` an access token,
  `tth` a transaction token, `oth` the others by the name of their header. A hash of a token that is not in
  the request refuses the proof too: it was made for another request.
- Who answers HTTP answers a proof that is refused with 400, not 401. `proof_id` is for those who also count
  each proof once.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from identity.base64url import encode_base64url
from identity.claims import integer_claim, new_token_name, text_claim
from identity.errors import (
    TokenAudienceError,
    TokenClaimsError,
    TokenExpiredError,
    TokenMalformedError,
)
from identity.jws import BARE_HEADER, UnverifiedToken, check_times, check_type, sign
from identity.keys import SigningKey, VerificationKey
from identity.spiffe import SpiffeId
from identity.wit_svid import UnprovenWit

PROOF_TYP: Final = "wpt+jwt"
PROOF_HEADER: Final = "workload-proof-token"
WIT_HEADER: Final = "workload-identity-token"
MAX_PROOF_SECONDS: Final = 300
LEEWAY: Final = 30

_PROOF: Final = frozenset({PROOF_TYP})
_MAX_NAME: Final = 255
_NO_OTHERS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ProvenWorkload:
    """Who holds the key of a WIT-SVID, shown by a proof for one request."""

    spiffe_id: SpiffeId
    holder: VerificationKey
    proof_id: str
    expires_at: int


def issue_workload_proof(
    key: SigningKey,
    wit: str,
    *,
    audience: str,
    now: datetime,
    ttl: int,
    entropy: bytes,
    access_token: str | None = None,
    transaction_token: str | None = None,
    other_tokens: Mapping[str, str] = _NO_OTHERS,
) -> str:
    """Sign a proof that the holder of a WIT-SVID makes one request; `other_tokens` are by lower-case header.

    Raises:
        ValueError: if the lifetime is not between 1 and 300 seconds, or there is too little entropy.
    """
    if not 0 < ttl <= MAX_PROOF_SECONDS:
        raise ValueError(f"a lifetime of a proof that is not between 1 and {MAX_PROOF_SECONDS} s: {ttl}")
    claims: dict[str, object] = {
        "aud": audience,
        "exp": int(now.timestamp()) + ttl,
        "jti": new_token_name(entropy),
        "wth": _hash(wit),
        **_hashes(access_token, transaction_token, other_tokens),
    }
    return sign(key, PROOF_TYP, claims)


def verify_workload_proof(
    wit: UnprovenWit,
    proof: str,
    *,
    audience: str,
    now: datetime,
    access_token: str | None = None,
    transaction_token: str | None = None,
    other_tokens: Mapping[str, str] = _NO_OTHERS,
    leeway: int = LEEWAY,
) -> ProvenWorkload:
    """Verify the proof of one request (draft-ietf-wimse-wpt-01 section 2).

    The tokens are those that the request carries and that will count; another may not influence anything.

    Raises:
        ValueError: if the audience that is accepted has a query or a fragment.
        TokenError: the child that says which rule spoke.
    """
    if not audience or "?" in audience or "#" in audience:
        raise ValueError(f"not a target URI without query and fragment: {audience!r}")
    token = UnverifiedToken.parse(proof)
    # 1. The type, and a header that chooses nothing.
    check_type(token, _PROOF)
    if not token.header.keys() <= BARE_HEADER:
        raise TokenMalformedError("a proof with a header member beyond alg, kid and typ")
    # 2. The algorithm and the key are those of the WIT-SVID.
    wit.holder.verify(token.signature, token.signing_input, token.header["alg"])
    claims = token.unverified_claims  # and from here on verified
    # 3. The audience, exactly.
    if claims.get("aud") not in (audience, [audience]):
        raise TokenAudienceError("a proof for another audience, or for more than one")
    # 4. The time, of both.
    check_times(claims, now, leeway)
    expires_at, latest = integer_claim(claims, "exp"), now.timestamp() + MAX_PROOF_SECONDS + leeway
    if expires_at > latest:
        raise TokenClaimsError(f"a proof for longer than {MAX_PROOF_SECONDS} s")
    if wit.expires_at <= now.timestamp() - leeway:
        raise TokenExpiredError("a proof whose WIT-SVID has expired")
    # 5. The WIT-SVID that it was made for, and every other token of the request.
    if not _is_equal(claims.get("wth"), wit.hash):
        raise TokenClaimsError("a proof that was made with another WIT-SVID")
    _check_hashes(claims, _hashes(access_token, transaction_token, other_tokens))
    name = text_claim(claims, "jti")
    if len(name) > _MAX_NAME:
        raise TokenClaimsError(f"a proof with a jti longer than {_MAX_NAME} characters")
    return ProvenWorkload(wit.spiffe_id, wit.holder, name, min(expires_at, wit.expires_at))


def _hashes(
    access_token: str | None, transaction_token: str | None, other_tokens: Mapping[str, str]
) -> dict[str, object]:
    """Return the claims that cover the tokens of a request."""
    hashes: dict[str, object] = {}
    if access_token is not None:
        hashes["ath"] = _hash(access_token)
    if transaction_token is not None:
        hashes["tth"] = _hash(transaction_token)
    if other_tokens:
        hashes["oth"] = {name: _hash(value.strip(" ")) for name, value in other_tokens.items()}
    return hashes


def _check_hashes(claims: Mapping[str, object], expected: Mapping[str, object]) -> None:
    """Refuse a proof unless it covers the tokens of the request, and no others."""
    for name in ("ath", "tth"):
        is_said = name in claims
        if is_said != (name in expected) or (is_said and not _is_equal(claims[name], expected[name])):
            raise TokenClaimsError(f"a proof whose {name} does not fit the request")
    # An entry that we do not understand refuses the proof, and so does a token that is not covered.
    said, wanted = claims.get("oth", {}), expected.get("oth", {})
    match said, wanted:
        case dict(), dict() if said.keys() == wanted.keys():
            if all(_is_equal(said[name], wanted[name]) for name in wanted):
                return
    raise TokenClaimsError("a proof whose oth does not fit the request")


def _hash(text: str) -> str:
    return encode_base64url(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())


def _is_equal(said: object, wanted: object) -> bool:
    return (
        isinstance(said, str)
        and isinstance(wanted, str)
        and hmac.compare_digest(said.encode("utf-8", "surrogatepass"), wanted.encode("ascii"))
    )
