"""Delegation tokens: for whom, by which agents, bound to which presenter (RFC 8693, RFC 9068).

- `sub` is the human over all hops; `act` holds the agents, the presenter outermost; `client_id` is the
  presenter.
- A token is always bound, by exactly one member of `cnf`: the certificate of the presenter, the key of its
  proofs (DPoP), or its workload.
- `grants` names the grants of the person that it came of, `authorization_details` the only tools that it is
  for, `min_epoch` the withdrawals that were known when it was issued: who knows fewer reads them first.
- `parents` names the tokens that it was exchanged from, the first one first: who takes one of them back takes
  back this one, too. Their number is limited, and none is ever left out.
- `aud` is one text, the one service; a list is refused, also a list of one.
- A claim that we do not know is refused: it could be one that narrows.
- The keys are never those of SVIDs: a token with the `sub` of somebody else, signed by such a key, would be
  an SVID.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, assert_never

from identity.actor_chain import encode_act, parse_act
from identity.authorization_details import Details, details_json, parse_details
from identity.base64url import Base64UrlError, decode_base64url
from identity.caller import MAX_DEPTH, Binding, DpopBinding, Hop, Human, KeyBinding, WorkloadBinding
from identity.claims import integer_claim, text_claim, token_name_claim
from identity.errors import (
    AgentNameError,
    ExchangeError,
    HumanError,
    SpiffeIdError,
    TokenAudienceError,
    TokenClaimsError,
    TokenIssuerError,
)
from identity.jws import UnverifiedToken, VerifiedToken, check_times, sign, verify
from identity.keys import KeySet, SigningKey
from identity.names import parse_ulid
from identity.quick_init import quick_init
from identity.scopes import ScopeError, format_scopes, parse_scopes
from identity.spiffe import SpiffeId, TrustDomain

DELEGATION_TYP: Final = "at+jwt"

_REQUIRED: Final = frozenset(
    {"iss", "sub", "aud", "client_id", "scope", "iat", "exp", "jti", "txn", "cnf", "act", "task"}
)
_OPTIONAL: Final = frozenset(
    {
        "groups",
        "acr",
        "amr",
        "auth_time",
        "sub_profile",
        "grants",
        "authorization_details",
        "min_epoch",
        "parents",
    }
)
# How often a token may be exchanged for the next one; each of them stands in it.
MAX_PARENTS: Final = 16
USER: Final = "user"
_DIGEST_BYTES: Final = 32


@quick_init
@dataclass(frozen=True, slots=True)
class Delegation:
    """What a delegation token says; times are in seconds since 1970."""

    issuer: str
    trust_domain: TrustDomain
    human: Human
    audience: str
    scopes: frozenset[str]
    chain: tuple[Hop, ...]
    binding: Binding
    txn: str
    jti: str
    issued_at: int
    expires_at: int
    grants: tuple[str, ...] = ()
    details: Details | None = None
    min_epoch: int = 0
    parents: tuple[str, ...] = ()

    @property
    def client_id(self) -> str:
        """The agent that presents the token."""
        return self.chain[0].agent

    def to_claims(self) -> dict[str, object]:
        """Return the claims of the token."""
        claims: dict[str, object] = {
            "iss": self.issuer,
            "sub": self.human.uri,
            "sub_profile": USER,
            "aud": self.audience,
            "client_id": self.client_id,
            "scope": format_scopes(self.scopes),
            "iat": self.issued_at,
            "exp": self.expires_at,
            "jti": self.jti,
            "txn": self.txn,
            "cnf": _encode_binding(self.binding),
            "act": encode_act(self.chain, self.issuer, self.trust_domain),
            "task": self.chain[0].task,
            "min_epoch": self.min_epoch,
        }
        human = self.human
        if human.groups:
            claims["groups"] = list(human.groups)
        if human.acr is not None:
            claims["acr"] = human.acr
        if human.amr:
            claims["amr"] = list(human.amr)
        if human.auth_time is not None:
            claims["auth_time"] = human.auth_time
        if self.grants:
            claims["grants"] = list(self.grants)
        if self.details is not None and (details := details_json(self.details)):
            claims["authorization_details"] = details
        if self.parents:
            claims["parents"] = list(self.parents)
        return claims


@quick_init
@dataclass(frozen=True, slots=True)
class DelegationToken(Delegation):
    """A verified delegation token; it is not bound to the peer that sent it yet."""

    token_id: str = field(kw_only=True)

    @classmethod
    def parse(cls, verified: VerifiedToken, max_depth: int = MAX_DEPTH) -> "DelegationToken":
        """Read the claims of a verified token.

        Raises:
            TokenClaimsError: if a claim is missing, malformed, unknown or at odds with another.
            ChainError: if the chain is too deep, or visits somebody twice.
        """
        return _read(verified, max_depth)


def issue_delegation_token(key: SigningKey, delegation: Delegation) -> str:
    """Sign a delegation, which `identity.exchange.narrow` made.

    Raises:
        TokenMalformedError: if the token would be longer than we accept ourselves.
    """
    return sign(key, DELEGATION_TYP, delegation.to_claims())


def verify_delegation_token(
    token: UnverifiedToken,
    keys: KeySet,
    *,
    issuer: str,
    audience: str,
    now: datetime,
    leeway: int,
    max_depth: int,
) -> DelegationToken:
    """Verify a delegation token; whom it is bound to is the caller's to check.

    Raises:
        TokenError: the child that says which rule spoke, in the order type, key, algorithm, signature, time,
            issuer, audience, claims, chain.
    """
    verified = verify(token, keys, typ=frozenset({DELEGATION_TYP}))
    check_times(verified.claims, now, leeway)
    if verified.claims.get("iss") != issuer:
        raise TokenIssuerError("a delegation token of another issuer")
    if verified.claims.get("aud") != audience:
        raise TokenAudienceError("a delegation token for another audience")
    return DelegationToken.parse(verified, max_depth)


def _read(verified: VerifiedToken, max_depth: int) -> DelegationToken:
    claims = verified.claims
    if not _REQUIRED <= claims.keys() <= _REQUIRED | _OPTIONAL:
        raise TokenClaimsError("a delegation token without a claim, or with one that we do not know")
    issuer = text_claim(claims, "iss")
    human = human_claims(claims, text_claim(claims, "sub"))
    scopes, binding = _scopes(claims), _binding(claims["cnf"])
    issued_at, expires_at = integer_claim(claims, "iat"), integer_claim(claims, "exp")
    txn, jti = token_name_claim(claims, "txn"), token_name_claim(claims, "jti")
    trust_domain, chain = parse_act(claims["act"], issuer, max_depth)
    if (claims["client_id"], claims["task"]) != (chain[0].agent, chain[0].task):
        raise TokenClaimsError("a delegation token whose client or task is not the presenter of its chain")
    if claims.get("sub_profile", USER) != USER:
        raise TokenClaimsError("a delegation token that is not for a person")
    return DelegationToken(
        issuer=issuer,
        trust_domain=trust_domain,
        human=human,
        audience=text_claim(claims, "aud"),
        scopes=scopes,
        chain=chain,
        binding=binding,
        txn=txn,
        jti=jti,
        issued_at=issued_at,
        expires_at=expires_at,
        grants=grants_claim(claims),
        details=details_claim(claims),
        min_epoch=integer_claim(claims, "min_epoch") if "min_epoch" in claims else 0,
        parents=parents_claim(claims),
        token_id=verified.token_id,
    )


def _encode_binding(binding: Binding) -> dict[str, object]:
    match binding:
        case KeyBinding(thumbprint):
            return {"x5t#S256": thumbprint}
        case DpopBinding(jkt):
            return {"jkt": jkt}
        case WorkloadBinding(workload):
            return {"workload": str(workload)}
        case _:
            assert_never(binding)


def _binding(cnf: object) -> Binding:
    match cnf if isinstance(cnf, dict) and len(cnf) == 1 else None:
        case {"x5t#S256": str(thumbprint)}:
            return KeyBinding(_digest(thumbprint))
        case {"jkt": str(jkt)}:
            return DpopBinding(_digest(jkt))
        case {"workload": str(workload)}:
            try:
                return WorkloadBinding(SpiffeId.parse(workload))
            except SpiffeIdError as error:
                raise TokenClaimsError(f"a token bound to what is not a workload: {error}") from error
        case _:
            raise TokenClaimsError("a token that is not bound by exactly one of x5t#S256, jkt and workload")


def _digest(thumbprint: str) -> str:
    try:
        if len(decode_base64url(thumbprint)) == _DIGEST_BYTES:
            return thumbprint
    except Base64UrlError as error:
        raise TokenClaimsError("a thumbprint that is not base64url") from error
    raise TokenClaimsError("a thumbprint that is not a SHA-256")


def details_claim(claims: Mapping[str, object]) -> Details | None:
    """Return the authorization details of a token, None where it has none.

    Raises:
        TokenClaimsError: if they are malformed: they narrow, so they are not passed over.
    """
    if "authorization_details" not in claims:
        return None
    try:
        return parse_details(claims["authorization_details"])
    except ExchangeError as error:
        raise TokenClaimsError(f"a token with malformed authorization details: {error}") from error


def grants_claim(claims: Mapping[str, object]) -> tuple[str, ...]:
    """Return the grants of the person that a token came of.

    Raises:
        TokenClaimsError: if they are not the ids of at most one grant for each hop.
    """
    grants = _texts(claims, "grants")
    if len(grants) > MAX_DEPTH:
        raise TokenClaimsError("a token of more grants than a chain has agents")
    try:
        return tuple(parse_ulid(grant) for grant in grants)
    except AgentNameError as error:
        raise TokenClaimsError("a token whose grant is not named by a ULID") from error


def parents_claim(claims: Mapping[str, object], most: int = MAX_PARENTS) -> tuple[str, ...]:
    """Return the names of the tokens that a token was exchanged from.

    Raises:
        TokenClaimsError: if they are malformed, or more than we issue.
    """
    parents = _texts(claims, "parents")
    if len(parents) > most:
        raise TokenClaimsError("a token that was exchanged more often than we do it")
    return tuple(token_name_claim({"parents": parent}, "parents") for parent in parents)


def _texts(claims: Mapping[str, object], name: str) -> tuple[str, ...]:
    texts = claims.get(name, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise TokenClaimsError(f"a token whose {name} are not a list of texts")
    return tuple(texts)


def human_claims(claims: Mapping[str, object], uri: str) -> Human:
    """Return the person of a token, with what it says of their sign-in.

    Raises:
        TokenClaimsError: if a claim is malformed.
    """
    groups, amr = _texts(claims, "groups"), _texts(claims, "amr")
    acr = text_claim(claims, "acr") if "acr" in claims else None
    auth_time = integer_claim(claims, "auth_time") if "auth_time" in claims else None
    try:
        return Human.parse_uri(uri, groups, acr, auth_time, amr)
    except HumanError as error:
        raise TokenClaimsError(f"a token that is not for a person: {error}") from error


def _scopes(claims: Mapping[str, object]) -> frozenset[str]:
    try:
        return parse_scopes(text_claim(claims, "scope"))
    except ScopeError as error:
        raise TokenClaimsError(f"a delegation token with malformed scopes: {error}") from error
