"""What makes an ID token count (OpenID Connect Core section 3.1.3.7), beyond its signature.

- It is an ID token, not an access token of the same provider: where a provider marks the kind in a claim, the
  mark is read; `scope` and `client_id` are of access tokens.
- Every audience is a client that we know, and so is `azp`; with more than one audience `azp` must be there.
- The client is `azp`, or the one audience.
- It stands for a person, not for the client itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from authz.broker.person_token import Groups, PersonToken, check_auth_time, read_person_token
from identity.caller import OidcClient
from identity.errors import TokenAudienceError, TokenClaimsError, TokenIssuerError, TokenTypeError
from identity.jws import NO_TYPE, UnverifiedToken, check_times, verify
from identity.keys import KeySet

ID_TOKEN_TYPS: Final = frozenset({NO_TYPE, "jwt"})

# The claims by which some providers tell their kinds of token apart, and what they say in an ID token.
_KINDS: Final = {"typ": "ID", "token_use": "id"}
_NOT_OF_ID_TOKENS: Final = ("scope", "scp", "client_id")


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    """An OpenID Provider whose people we know, as configured; `audiences` are its clients that we know."""

    issuer: str
    audiences: frozenset[str]
    groups_claim: str = "groups"
    # The groups that its word counts for; None: all.
    groups: frozenset[str] | None = None
    ca_file: Path | None = None
    allow_loopback: bool = False
    allow_private: bool = False


def verify_id_token(
    token: UnverifiedToken, keys: KeySet, provider: IdentityProvider, now: datetime, leeway: int
) -> PersonToken:
    """Verify an ID token of a provider.

    Raises:
        TokenError: with the child that says what is wrong; expiry comes before audience.
    """
    claims = verify(token, keys, typ=ID_TOKEN_TYPS, header_members=None).claims
    check_times(claims, now, leeway)
    check_auth_time(claims, now, leeway)
    if claims.get("iss") != provider.issuer:
        raise TokenIssuerError("an ID token of another issuer")
    client = OidcClient(provider.issuer, _client_id(claims, provider.audiences))
    _check_kind(claims)
    said = Groups(provider.groups_claim, provider.groups)
    person = read_person_token(claims, "id_token", client, said, token.token_id)
    if person.human.subject == client.client_id:
        raise TokenClaimsError("an ID token of a client for itself: there is no person")
    return person


def _client_id(claims: Mapping[str, object], known: frozenset[str]) -> str:
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or not audiences or not all(_is_one(one, known) for one in audiences):
        raise TokenAudienceError("an ID token for a client that is not known here")
    authorized = claims.get("azp")
    if authorized is None and len(audiences) > 1:
        raise TokenClaimsError("an ID token for several clients that names none of them as its own")
    if authorized is not None and not _is_one(authorized, known):
        raise TokenAudienceError("an ID token that was issued to a client that is not known here")
    return str(audiences[0] if authorized is None else authorized)


def _is_one(client: object, known: frozenset[str]) -> bool:
    # A list or an object could not even be looked for.
    return isinstance(client, str) and client in known


def _check_kind(claims: Mapping[str, object]) -> None:
    for name, value in _KINDS.items():
        if claims.get(name, value) != value:
            raise TokenTypeError("another kind of token where an ID token is asked for")
    if any(name in claims for name in _NOT_OF_ID_TOKENS):
        raise TokenTypeError("an access token where an ID token is asked for")
