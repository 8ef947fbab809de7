"""Transaction tokens: one allowed call, for the one service behind the proxy.

- Claims and type are those of draft-ietf-oauth-transaction-tokens-10.
- It is issued against a `Grant` only, and only if the grant was made for this very caller.
- It names the human, the agents, the task, the peer, the service, the action, the tool and the hash of its
  arguments.
- For an autonomous agent `sub` is the agent's task and there is no `act` (ID-08); an agent of another trust
  domain keeps its ID there, and acts for nobody.
- It lives for seconds, and never beyond the end of the task or of the credential that it stands for (CL-07).
- It is no credential: nothing accepts it in `Authorization`, and its type keeps it from being a delegation
  token.
- A claim that we do not know is refused: it could be one that narrows.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from identity.actor_chain import encode_act, parse_act
from identity.caller import MAX_DEPTH, Caller, Hop, Human
from identity.claims import MIN_ENTROPY, integer_claim, lifetime, new_token_name, text_claim, token_name_claim
from identity.errors import (
    HumanError,
    SpiffeIdError,
    TokenAudienceError,
    TokenClaimsError,
    TokenIssuerError,
)
from identity.grant import Grant
from identity.jws import UnverifiedToken, VerifiedToken, check_times, sign, verify
from identity.keys import KeySet, SigningKey
from identity.qualified_name import hop_of, task_id_of
from identity.scopes import ScopeError, format_scopes, parse_scopes
from identity.spiffe import SpiffeId, TrustDomain

TRANSACTION_TYP: Final = "txntoken+jwt"
TOOL_CALL: Final = "tools/call"

_REQUIRED: Final = frozenset({"iss", "iat", "exp", "aud", "txn", "sub", "scope", "req_wl", "jti", "tctx"})
_CONTEXT_REQUIRED: Final = frozenset({"service", "action", "task", "decision_id"})
_CONTEXT_OPTIONAL: Final = frozenset({"tool", "resource", "args_sha256"})
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Transaction:
    """What a transaction token says; times are in seconds since 1970."""

    issuer: str
    trust_domain: TrustDomain
    human: Human | None
    chain: tuple[Hop, ...]
    scopes: frozenset[str]
    requester: SpiffeId
    service: str
    action: str
    resource: str
    arguments_sha256: str | None
    decision_id: str
    txn: str
    jti: str
    issued_at: int
    expires_at: int

    @property
    def tool(self) -> str | None:
        """The tool that is called, if one is."""
        return self.resource if self.action == TOOL_CALL else None

    def to_claims(self) -> dict[str, object]:
        """Return the claims of the token."""
        claims: dict[str, object] = {
            "iss": self.issuer,
            "iat": self.issued_at,
            "exp": self.expires_at,
            "aud": self.trust_domain.name,
            "txn": self.txn,
            "scope": format_scopes(self.scopes),
            "req_wl": str(self.requester),
            "jti": self.jti,
            "tctx": self._context(),
        }
        if self.human is None:
            return claims | {"sub": str(task_id_of(self.chain[0], self.trust_domain))}
        act = encode_act(self.chain, self.issuer, self.trust_domain)
        return claims | {"sub": self.human.uri, "act": act}

    def _context(self) -> dict[str, object]:
        context: dict[str, object] = {
            "service": self.service,
            "action": self.action,
            "task": self.chain[0].task,
            "decision_id": self.decision_id,
        }
        if self.resource:
            context["resource" if self.tool is None else "tool"] = self.resource
        if self.arguments_sha256 is not None:
            context["args_sha256"] = self.arguments_sha256
        return context


@dataclass(frozen=True, slots=True)
class TransactionToken(Transaction):
    """A verified transaction token."""

    token_id: str

    @classmethod
    def parse(cls, verified: VerifiedToken) -> "TransactionToken":
        """Read the claims of a verified token.

        Raises:
            TokenClaimsError: if a claim is missing, malformed, unknown or at odds with another.
            ChainError: if the chain is too deep, or visits somebody twice.
        """
        claims = verified.claims
        if claims.keys() - {"act"} != _REQUIRED:
            raise TokenClaimsError("a transaction token without a claim, or with one that we do not know")
        context = _context(claims["tctx"])
        try:
            trust_domain, human, chain = _principals(claims)
            requester = SpiffeId.parse(text_claim(claims, "req_wl"))
            scopes = parse_scopes(text_claim(claims, "scope")) if claims["scope"] != "" else frozenset[str]()
        except (SpiffeIdError, HumanError, ScopeError) as error:
            raise TokenClaimsError(f"a transaction token with a malformed claim: {error}") from error
        if context["task"] != chain[0].task:
            raise TokenClaimsError("a transaction token whose task is not that of its chain")
        return cls(
            issuer=text_claim(claims, "iss"),
            trust_domain=trust_domain,
            human=human,
            chain=chain,
            scopes=scopes,
            requester=requester,
            service=context["service"],
            action=context["action"],
            resource=context.get("tool", context.get("resource", "")),
            arguments_sha256=context.get("args_sha256"),
            decision_id=context["decision_id"],
            txn=token_name_claim(claims, "txn"),
            jti=token_name_claim(claims, "jti"),
            issued_at=integer_claim(claims, "iat"),
            expires_at=integer_claim(claims, "exp"),
            token_id=verified.token_id,
        )


@dataclass(frozen=True, slots=True)
class IssuedTransaction:
    """A signed transaction token, and the name that its record gives it."""

    token: str = field(repr=False)
    jti: str


@dataclass(frozen=True, slots=True)
class TransactionIssuer:
    """Issues transaction tokens of one issuer, each for `ttl` seconds; `key` says which key signs now."""

    key: Callable[[], SigningKey]
    issuer: str
    trust_domain: TrustDomain
    ttl: int

    def issue(
        self, grant: Grant, caller: Caller, now: datetime, entropy: Callable[[int], bytes]
    ) -> IssuedTransaction:
        """Sign what stands for the caller upstream, for the one action that the grant allows.

        Raises:
            TokenClaimsError: if the grant is another caller's, or old.
            TokenExpiredError: if the task or the credential is over.
        """
        _check_grant(grant, caller, now, self.ttl)
        not_after = min(caller.expires_at, int(caller.task.deadline.timestamp()))
        issued_at, expires_at = lifetime(now, self.ttl, not_after)
        transaction = Transaction(
            issuer=self.issuer,
            trust_domain=self.trust_domain,
            human=caller.human,
            chain=caller.chain,
            scopes=grant.scopes,
            requester=caller.peer,
            service=grant.service,
            action=grant.action,
            resource=grant.resource,
            arguments_sha256=grant.arguments_sha256,
            decision_id=grant.decision_id,
            txn=caller.txn,
            jti=new_token_name(entropy(MIN_ENTROPY)),
            issued_at=issued_at,
            expires_at=expires_at,
        )
        return IssuedTransaction(sign(self.key(), TRANSACTION_TYP, transaction.to_claims()), transaction.jti)


def verify_transaction_token(
    text: str,
    keys: KeySet,
    *,
    issuer: str,
    trust_domain: TrustDomain,
    service: str,
    now: datetime,
    leeway: int,
) -> TransactionToken:
    """Verify a transaction token on behalf of the service that it was sent to.

    Raises:
        TokenError: the child that says which rule spoke, in the order form, type, key, algorithm, signature,
            time, issuer, audience, claims, service.
    """
    verified = verify(UnverifiedToken.parse(text), keys, typ=frozenset({TRANSACTION_TYP}))
    check_times(verified.claims, now, leeway)
    if verified.claims.get("iss") != issuer:
        raise TokenIssuerError("a transaction token of another issuer")
    if verified.claims.get("aud") != trust_domain.name:
        raise TokenAudienceError("a transaction token of another trust domain")
    token = TransactionToken.parse(verified)
    if token.service != service:
        raise TokenAudienceError("a transaction token for another service")
    return token


def _check_grant(grant: Grant, caller: Caller, now: datetime, ttl: int) -> None:
    human = caller.human.uri if caller.human else None
    if (grant.human, grant.agent, grant.task) != (human, caller.agent.name, caller.task.id):
        raise TokenClaimsError("a grant that was made for another caller")
    if not grant.scopes <= caller.scopes:
        raise TokenClaimsError("a grant with a scope that its caller does not have")
    if now - grant.granted_at > timedelta(seconds=ttl):
        raise TokenClaimsError("a grant that is older than what it allows may live")


def _principals(claims: Mapping[str, object]) -> tuple[TrustDomain, Human | None, tuple[Hop, ...]]:
    subject, own = text_claim(claims, "sub"), TrustDomain.parse(text_claim(claims, "aud"))
    if "act" in claims:
        trust_domain, chain = parse_act(claims["act"], text_claim(claims, "iss"), MAX_DEPTH)
        if trust_domain != own:
            raise TokenClaimsError("a transaction token for a person with agents of another trust domain")
        return own, Human.parse_uri(subject), chain
    hop = hop_of(SpiffeId.parse(subject), own)
    if hop is None:
        raise TokenClaimsError("a transaction token without actor whose subject is not an agent's task")
    return own, None, (hop,)


def _context(context: object) -> dict[str, str]:
    if not isinstance(context, dict) or not context.keys() >= _CONTEXT_REQUIRED:
        raise TokenClaimsError("a transaction token without its context")
    if not context.keys() <= _CONTEXT_REQUIRED | _CONTEXT_OPTIONAL:
        raise TokenClaimsError("a transaction token with a context that we do not know")
    texts = {name: text_claim(context, name) for name in context}
    if ("tool" in texts) != (texts["action"] == TOOL_CALL) or {"tool", "resource"} <= texts.keys():
        raise TokenClaimsError("a transaction token whose tool does not fit its action")
    if "args_sha256" in texts and not _SHA256.fullmatch(texts["args_sha256"]):
        raise TokenClaimsError("a transaction token with a malformed hash of arguments")
    return texts
