"""What a provider's token says of a person, once its signature, times and addressee were checked.

- The person is (issuer, subject); groups, `acr`, `amr` and `auth_time` come from the same token. The name
  of a group has no issuer in it, so a provider's word counts for those only that are configured for it.
- The client is the application that the token was issued to; whose agents may use it is not decided here.
- `may_act` names one actor by the whole of its pair (RFC 8693 section 4.4). A member that we do not know
  could narrow it, so it is refused.
- With `act` or `cnf` somebody else has a part in the token, which nothing here could honour (TX-08, TX-11).
- With `events` it tells of something that happened: a logout token or a security event, and no sign-in.
- Times of a sign-in lie not in the future: a withdrawal of all sign-ins until now would miss such a one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from identity.caller import Human, OidcClient
from identity.claims import integer_claim, text_claim
from identity.errors import HumanError, TokenClaimsError, TokenNotYetValidError, TokenTypeError
from identity.quick_init import quick_init

TokenKind = Literal["id_token", "access_token"]

MAX_TEXT: Final = 255

_OF_OTHERS: Final = ("act", "cnf")
_MAY_ACT: Final = frozenset({"iss", "sub"})


@dataclass(frozen=True, slots=True)
class MayAct:
    """Who may act for the person, as their provider says; without `iss` its namespace is not said."""

    iss: str | None
    sub: str

    @classmethod
    def parse(cls, value: object) -> "MayAct":
        """Read a `may_act`.

        Raises:
            TokenClaimsError: if it names nobody, or by more than `iss` and `sub`.
        """
        if not isinstance(value, dict) or not value.keys() <= _MAY_ACT:
            raise TokenClaimsError("a token whose may_act is not an object of iss and sub")
        iss = _short_text(value, "iss") if "iss" in value else None
        return cls(iss, _short_text(value, "sub"))


@dataclass(frozen=True, slots=True)
class Groups:
    """Where a provider says which groups a person is in, and those that its word counts for; None is all."""

    claim: str = "groups"
    known: frozenset[str] | None = None

    def read(self, claims: Mapping[str, object]) -> tuple[str, ...]:
        """Return the groups that count.

        Raises:
            TokenClaimsError: if the claim is not a list of texts.
        """
        said = _texts(claims, self.claim)
        return said if self.known is None else tuple(group for group in said if group in self.known)


@quick_init
@dataclass(frozen=True, slots=True)
class PersonToken:
    """A verified token of a person: who signed in, to which client, and when (seconds since 1970)."""

    kind: TokenKind
    human: Human
    client: OidcClient
    issued_at: int
    expires_at: int
    token_id: str
    may_act: MayAct | None = None
    sid: str | None = None

    @property
    def began(self) -> int:
        """When the sign-in behind it began, as far as it says: what a withdrawal up to a time takes back."""
        return min(self.issued_at, self.auth_time or self.issued_at)

    @property
    def auth_time(self) -> int | None:
        """When the person signed in, if the provider says."""
        return self.human.auth_time


def read_person_token(
    claims: Mapping[str, object],
    kind: TokenKind,
    client: OidcClient,
    groups: Groups,
    token_id: str,
) -> PersonToken:
    """Read what a verified token says of a person.

    Raises:
        TokenClaimsError: if a claim is missing, malformed, or names somebody who has a part in it.
        TokenTypeError: if it is about an event.
    """
    if "events" in claims:
        raise TokenTypeError("a logout token or a security event where a person's token is asked for")
    if any(name in claims for name in _OF_OTHERS):
        raise TokenClaimsError("a person's token in which somebody else has a part")
    return PersonToken(
        kind=kind,
        human=_human(claims, client.issuer, groups),
        client=client,
        issued_at=integer_claim(claims, "iat"),
        expires_at=integer_claim(claims, "exp"),
        token_id=token_id,
        may_act=MayAct.parse(claims["may_act"]) if "may_act" in claims else None,
        sid=_short_text(claims, "sid") if "sid" in claims else None,
    )


def check_auth_time(claims: Mapping[str, object], now: datetime, leeway: int) -> None:
    """Refuse a sign-in that is still to come.

    Raises:
        TokenClaimsError: if `auth_time` is not a whole number of seconds.
        TokenNotYetValidError: if it is after `now + leeway`.
    """
    if "auth_time" in claims and integer_claim(claims, "auth_time") > now.timestamp() + leeway:
        raise TokenNotYetValidError("a token whose auth_time is still to come")


def _human(claims: Mapping[str, object], issuer: str, said: Groups) -> Human:
    acr = claims.get("acr")
    if acr is not None and not isinstance(acr, str):
        raise TokenClaimsError("a person's token whose acr is not a text")
    auth_time = integer_claim(claims, "auth_time") if "auth_time" in claims else None
    groups, amr = said.read(claims), _texts(claims, "amr")
    try:
        return Human.parse(issuer, text_claim(claims, "sub"), groups, acr, auth_time, amr)
    except HumanError as error:
        raise TokenClaimsError(f"a token of somebody whom we cannot name: {error}") from error


def _texts(claims: Mapping[str, object], name: str) -> tuple[str, ...]:
    values = claims.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TokenClaimsError(f"a person's token whose {name} is not a list of texts")
    return tuple(values)


def _short_text(claims: Mapping[str, object], name: str) -> str:
    text = text_claim(claims, name)
    if len(text) > MAX_TEXT or not text.isprintable():
        raise TokenClaimsError(f"a token whose {name} is not at most {MAX_TEXT} printable characters")
    return text
