"""What makes an ID token count (OpenID Connect Core section 3.1.3.7), beyond its signature.

- It is an ID token, not an access token of the same provider: where a provider marks the kind in a claim, the
  mark is read; `scope` and `client_id` are of access tokens.
- Every audience is a client that we know, and so is `azp`; with more than one audience `azp` must be there.
- It stands for a person alone: with `act`, `may_act` or `cnf` it says that somebody else has a part in it,
  which nothing here could honour (TX-08, TX-11). Such a token is refused.
- The person is (issuer, subject); groups, `acr` and `auth_time` come from the same token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from identity.caller import Human
from identity.claims import integer_claim, text_claim
from identity.errors import HumanError, TokenAudienceError, TokenClaimsError, TokenIssuerError, TokenTypeError
from identity.jws import NO_TYPE, UnverifiedToken, check_times, verify
from identity.keys import KeySet

_TYPS: Final = frozenset({NO_TYPE, "jwt"})
# The claims by which some providers tell their kinds of token apart, and what they say in an ID token.
_KINDS: Final = {"typ": "ID", "token_use": "id"}
_NOT_OF_ID_TOKENS: Final = ("scope", "scp", "client_id")
_OF_OTHERS: Final = ("act", "may_act", "cnf")


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    """An OpenID Provider whose people we know, as configured."""

    issuer: str
    audiences: frozenset[str]
    groups_claim: str = "groups"
    ca_file: Path | None = None
    allow_loopback: bool = False


@dataclass(frozen=True, slots=True)
class IdToken:
    """A verified ID token: who signed in, and until when that counts (seconds since 1970)."""

    human: Human
    expires_at: int
    token_id: str


def verify_id_token(
    token: UnverifiedToken, keys: KeySet, provider: IdentityProvider, now: datetime, leeway: int
) -> IdToken:
    """Verify an ID token of a provider.

    Raises:
        TokenError: with the child that says what is wrong; expiry comes before audience.
    """
    claims = verify(token, keys, typ=_TYPS, header_members=None).claims
    check_times(claims, now, leeway)
    if claims.get("iss") != provider.issuer:
        raise TokenIssuerError("an ID token of another issuer")
    _check_audience(claims, provider.audiences)
    _check_kind(claims)
    integer_claim(claims, "iat")
    return IdToken(_human(claims, provider), integer_claim(claims, "exp"), token.token_id)


def _check_audience(claims: Mapping[str, object], known: frozenset[str]) -> None:
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or not audiences or not all(one in known for one in audiences):
        raise TokenAudienceError("an ID token for a client that is not known here")
    authorized = claims.get("azp")
    if authorized is None and len(audiences) > 1:
        raise TokenClaimsError("an ID token for several clients that names none of them as its own")
    if authorized is not None and authorized not in known:
        raise TokenAudienceError("an ID token that was issued to a client that is not known here")


def _check_kind(claims: Mapping[str, object]) -> None:
    for name, value in _KINDS.items():
        if claims.get(name, value) != value:
            raise TokenTypeError("another kind of token where an ID token is asked for")
    if any(name in claims for name in _NOT_OF_ID_TOKENS):
        raise TokenTypeError("an access token where an ID token is asked for")
    if any(name in claims for name in _OF_OTHERS):
        raise TokenClaimsError("an ID token in which somebody else has a part")


def _human(claims: Mapping[str, object], provider: IdentityProvider) -> Human:
    groups = claims.get(provider.groups_claim, [])
    acr = claims.get("acr")
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise TokenClaimsError("an ID token whose groups are not a list of texts")
    if acr is not None and not isinstance(acr, str):
        raise TokenClaimsError("an ID token whose acr is not a text")
    auth_time = integer_claim(claims, "auth_time") if "auth_time" in claims else None
    try:
        return Human.parse(provider.issuer, text_claim(claims, "sub"), tuple(groups), acr, auth_time)
    except HumanError as error:
        raise TokenClaimsError(f"an ID token of somebody whom we cannot name: {error}") from error
