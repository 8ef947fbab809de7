"""What makes a person's access token count (RFC 9068), beyond its signature.

- Its only audience is this broker: one that another service received, or could have, opens nothing here.
- It says that it is an access token: by its type `at+jwt`, or, as Keycloak does, by the claim `typ: Bearer`.
  A token of type `JWT` that does not say so could be an ID token, so it is refused.
- It was issued to a client that we know; `azp` and `client_id` name the same one.
- A person signed in for it: the provider says when (`auth_time`) or in which session (`sid`). One that a
  client got for itself (RFC 6749 section 4.4) has neither; `sub` is then the client, or an account for it.
- It is bound to nobody else's key: no proof of it is taken here (TX-11).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from authz.broker.id_token import IdentityProvider
from authz.broker.person_token import Groups, PersonToken, check_auth_time, read_person_token
from identity.caller import OidcClient
from identity.claims import text_claim
from identity.errors import TokenAudienceError, TokenClaimsError, TokenIssuerError, TokenTypeError
from identity.jws import UnverifiedToken, check_times, verify
from identity.keys import KeySet

ACCESS_TOKEN_TYP: Final = "at+jwt"  # noqa: S105 - a media type, no secret
ACCESS_TOKEN_TYPS: Final = frozenset({ACCESS_TOKEN_TYP, "jwt"})

# What some providers say in an access token, in claims of theirs.
_KINDS: Final = {"typ": "Bearer", "token_use": "access"}
_CLIENTS: Final = ("azp", "client_id")


def verify_person_access_token(
    token: UnverifiedToken,
    keys: KeySet,
    provider: IdentityProvider,
    *,
    audience: str,
    now: datetime,
    leeway: int,
) -> PersonToken:
    """Verify an access token that a provider issued for this broker to a client, for a person.

    Raises:
        TokenError: with the child that says what is wrong; expiry comes before audience.
    """
    claims = verify(token, keys, typ=ACCESS_TOKEN_TYPS, header_members=None).claims
    check_times(claims, now, leeway)
    check_auth_time(claims, now, leeway)
    if claims.get("iss") != provider.issuer:
        raise TokenIssuerError("an access token of another issuer")
    if claims.get("aud") not in (audience, [audience]):
        raise TokenAudienceError("an access token that is not for this broker alone")
    _check_kind(claims, token.typ)
    client = OidcClient(provider.issuer, _client_id(claims, provider.audiences))
    said = Groups(provider.groups_claim, provider.groups)
    person = read_person_token(claims, "access_token", client, said, token.token_id)
    _check_that_a_person_signed_in(person)
    return person


def _check_kind(claims: Mapping[str, object], typ: str) -> None:
    for name, value in _KINDS.items():
        if claims.get(name, value) != value:
            raise TokenTypeError("another kind of token where an access token is asked for")
    if typ != ACCESS_TOKEN_TYP and "typ" not in claims:
        raise TokenTypeError("a token that does not say that it is an access token")


def _client_id(claims: Mapping[str, object], known: frozenset[str]) -> str:
    names = [text_claim(claims, claim) for claim in _CLIENTS if claim in claims]
    if not names or names[0] != names[-1]:
        raise TokenClaimsError("an access token that does not name one client")
    if names[0] not in known:
        raise TokenAudienceError("an access token that was issued to a client that is not known here")
    return names[0]


def _check_that_a_person_signed_in(token: PersonToken) -> None:
    if token.human.subject == token.client.client_id or (token.auth_time is None and token.sid is None):
        raise TokenClaimsError("an access token of a client for itself: no person signed in")
