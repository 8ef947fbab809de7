"""Transaction tokens: one allowed call, for the one service behind the proxy.

- Claims and type are those of draft-ietf-oauth-transaction-tokens-10.
- It is issued against a `Grant` only, and only if the grant was made for this very caller.
- It names the human, the agents, the task, the peer, the service, the action, the tool and the hash of its
  arguments.
- For an autonomous agent `sub` is the agent's task and there is no `act` (ID-08); an agent of another trust
  domain keeps its ID there, and acts for nobody.
- It lives for seconds, and never beyond the end of the task or of the credential that it stands for (CL-07).
- It is no access token: nothing accepts it in `Authorization`, and its type keeps it from being a delegation
  token. The service that it was made for may pass the call on with it, if the token says so.
- The call of an agent that acts for nobody is not passed on: it has no scopes, and was meant for one service.
- One that may be passed on holds what the next decision takes: the person's groups and sign-in, the grants,
  the only tools, the tokens that it came of. Others hold none of it: what nobody asks for is not
  told (CL-03).
- `req_wl` is who asked for it; who asked before stays in the context, in the order of the calls, and their
  number is limited (CL-04).
- Without the hash of arguments it names no call of a tool, unless it says that it serves all calls of one.
- A claim that we do not know is refused: it could be one that narrows.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from identity.actor_chain import encode_act, parse_act
from identity.authorization_details import Details, details_json
from identity.caller import MAX_DEPTH, MAX_REQUESTERS, Caller, Hop, Human
from identity.claims import MIN_ENTROPY, integer_claim, lifetime, new_token_name, text_claim, token_name_claim
from identity.delegation import MAX_PARENTS, details_claim, grants_claim, human_claims, parents_claim
from identity.errors import (
    ChainError,
    SpiffeIdError,
    TokenAudienceError,
    TokenClaimsError,
    TokenExpiredError,
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
# Of a token that may be passed on; `min_epoch` says that it is one.
_ONWARD: Final = frozenset(
    {"groups", "acr", "auth_time", "grants", "authorization_details", "min_epoch", "parents"}
)
_CONTEXT_REQUIRED: Final = frozenset({"service", "action", "task", "decision_id"})
_CONTEXT_OPTIONAL: Final = frozenset({"tool", "resource", "args_sha256", "per"})
_REQUESTERS: Final = "requesters"
PER_TOOL: Final = "tool"
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
    # Who asked before `requester`, the first one first.
    requesters: tuple[SpiffeId, ...] = ()
    # It serves all calls of its tool, so it has no hash of arguments.
    per_tool: bool = False
    # The withdrawals that were known; None where it must not be passed on, and then all below is empty.
    min_epoch: int | None = None
    # The tokens that it came of: those of the exchanges, then one of each call.
    parents: tuple[str, ...] = ()
    grants: tuple[str, ...] = ()
    details: Details | None = None

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
            **self._onward(),
        }
        if self.human is None:
            return claims | {"sub": str(task_id_of(self.chain[0], self.trust_domain))}
        act = encode_act(self.chain, self.issuer, self.trust_domain)
        return claims | {"sub": self.human.uri, "act": act}

    def _onward(self) -> dict[str, object]:
        human, details = self.human, self.details
        if self.min_epoch is None or human is None:
            return {}
        optional: dict[str, object] = {
            "groups": list(human.groups),
            "acr": human.acr,
            "auth_time": human.auth_time,
            "grants": list(self.grants),
            "parents": list(self.parents),
            "authorization_details": details_json(details) if details is not None else None,
        }
        return {
            "min_epoch": self.min_epoch,
            **{name: value for name, value in optional.items() if value not in (None, [])},
        }

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
        if self.per_tool:
            context["per"] = PER_TOOL
        if self.requesters:
            context[_REQUESTERS] = [str(requester) for requester in self.requesters]
        return context


@dataclass(frozen=True, slots=True)
class TransactionToken(Transaction):
    """A verified transaction token."""

    token_id: str = field(kw_only=True)

    @classmethod
    def parse(cls, verified: VerifiedToken) -> "TransactionToken":
        """Read the claims of a verified token.

        Raises:
            TokenClaimsError: if a claim is missing, malformed, unknown or at odds with another.
            ChainError: if the chain is too deep, or visits somebody twice.
        """
        claims = verified.claims
        is_onward = claims.keys() >= {"min_epoch", "act"}
        if claims.keys() - {"act"} - (_ONWARD if is_onward else frozenset()) != _REQUIRED:
            raise TokenClaimsError("a transaction token without a claim, or with one that we do not know")
        requesters, context = _context(claims["tctx"])
        try:
            trust_domain, human, chain = _principals(claims)
            earlier = tuple(SpiffeId.parse(text) for text in requesters)
            requester = SpiffeId.parse(text_claim(claims, "req_wl"))
            scopes = parse_scopes(text_claim(claims, "scope")) if claims["scope"] != "" else frozenset[str]()
        except (SpiffeIdError, ScopeError) as error:
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
            requesters=earlier,
            per_tool="per" in context,
            min_epoch=integer_claim(claims, "min_epoch") if is_onward else None,
            parents=parents_claim(claims, MAX_PARENTS + MAX_REQUESTERS + 1),
            grants=grants_claim(claims),
            details=details_claim(claims),
            token_id=verified.token_id,
        )


@dataclass(frozen=True, slots=True)
class IssuedTransaction:
    """A signed transaction token, and the name that its record gives it."""

    token: str = field(repr=False)
    jti: str
    issued_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class TransactionIssuer:
    """Issues transaction tokens of one issuer, each for `ttl` seconds; `key` says which key signs now."""

    key: Callable[[], SigningKey]
    issuer: str
    trust_domain: TrustDomain
    ttl: int

    def issue(
        self,
        grant: Grant,
        caller: Caller,
        now: datetime,
        entropy: Callable[[int], bytes],
        *,
        min_epoch: int | None = None,
        per_tool: bool = False,
    ) -> IssuedTransaction:
        """Sign what stands for the caller upstream, for the one action that the grant allows.

        With `min_epoch`, the withdrawals that are known, its service may pass the call on. `per_tool` leaves
        the arguments open, and only where the action is the call of a tool.

        Raises:
            TokenClaimsError: if the grant is another caller's, or old.
            TokenExpiredError: if the task or the credential is over.
            ChainError: if too many have passed the call on.
        """
        _check_grant(grant, caller, now, self.ttl)
        if len(caller.requesters) > MAX_REQUESTERS:
            raise ChainError("depth", f"a call that was passed on more than {MAX_REQUESTERS} times")
        is_per_tool = per_tool and grant.action == TOOL_CALL
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
            arguments_sha256=None if is_per_tool else grant.arguments_sha256,
            decision_id=grant.decision_id,
            txn=caller.txn,
            jti=new_token_name(entropy(MIN_ENTROPY)),
            issued_at=issued_at,
            expires_at=expires_at,
            requesters=caller.requesters,
            per_tool=is_per_tool,
            # Who acts for nobody has no scopes that would bound what others do with the call.
            min_epoch=min_epoch if caller.human is not None else None,
            parents=caller.parents if caller.jti is None else (*caller.parents, caller.jti),
            grants=caller.grants,
            details=caller.details,
        )
        token = sign(self.key(), TRANSACTION_TYP, transaction.to_claims())
        return IssuedTransaction(token, transaction.jti, issued_at, expires_at)


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
    unverified = UnverifiedToken.parse(text)
    token = _verified(unverified, keys, issuer=issuer, trust_domain=trust_domain, now=now, leeway=leeway)
    if token.service != service:
        raise TokenAudienceError("a transaction token for another service")
    return token


def verify_passed_on(
    unverified: UnverifiedToken,
    keys: KeySet,
    *,
    issuer: str,
    trust_domain: TrustDomain,
    now: datetime,
    leeway: int,
) -> TransactionToken:
    """Verify a transaction token that somebody passes a call on with; who that is, is the caller's to check.

    Raises:
        TokenError: as `verify_transaction_token`; for `exp` no leeway counts (CL-04), and the token must be
            one that may be passed on.
    """
    token = _verified(unverified, keys, issuer=issuer, trust_domain=trust_domain, now=now, leeway=leeway)
    if token.expires_at <= now.timestamp():
        raise TokenExpiredError("a transaction token that has expired is not passed on")
    if token.min_epoch is None:
        raise TokenClaimsError("a transaction token that must not be passed on")
    return token


def _verified(
    unverified: UnverifiedToken,
    keys: KeySet,
    *,
    issuer: str,
    trust_domain: TrustDomain,
    now: datetime,
    leeway: int,
) -> TransactionToken:
    verified = verify(unverified, keys, typ=frozenset({TRANSACTION_TYP}))
    check_times(verified.claims, now, leeway)
    if verified.claims.get("iss") != issuer:
        raise TokenIssuerError("a transaction token of another issuer")
    if verified.claims.get("aud") != trust_domain.name:
        raise TokenAudienceError("a transaction token of another trust domain")
    return TransactionToken.parse(verified)


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
        return own, human_claims(claims, subject), chain
    hop = hop_of(SpiffeId.parse(subject), own)
    if hop is None:
        raise TokenClaimsError("a transaction token without actor whose subject is not an agent's task")
    return own, None, (hop,)


def _context(context: object) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the earlier requesters, and the texts of the context."""
    if not isinstance(context, dict) or not context.keys() >= _CONTEXT_REQUIRED:
        raise TokenClaimsError("a transaction token without its context")
    if not context.keys() <= _CONTEXT_REQUIRED | _CONTEXT_OPTIONAL | {_REQUESTERS}:
        raise TokenClaimsError("a transaction token with a context that we do not know")
    texts = {name: text_claim(context, name) for name in context if name != _REQUESTERS}
    is_call = texts["action"] == TOOL_CALL
    if ("tool" in texts) != is_call or {"tool", "resource"} <= texts.keys():
        raise TokenClaimsError("a transaction token whose tool does not fit its action")
    if "args_sha256" in texts and not _SHA256.fullmatch(texts["args_sha256"]):
        raise TokenClaimsError("a transaction token with a malformed hash of arguments")
    if "per" in texts and (texts["per"] != PER_TOOL or not is_call or "args_sha256" in texts):
        raise TokenClaimsError("a transaction token for more than one call, of what is not one tool")
    return _requesters(context), texts


def _requesters(context: Mapping[str, object]) -> tuple[str, ...]:
    if _REQUESTERS not in context:
        return ()
    requesters = context[_REQUESTERS]
    if not isinstance(requesters, list) or not 1 <= len(requesters) <= MAX_REQUESTERS:
        raise TokenClaimsError(f"a transaction token whose requesters are not 1 to {MAX_REQUESTERS}")
    if not all(isinstance(requester, str) for requester in requesters):
        raise TokenClaimsError("a transaction token with a requester that is not text")
    return tuple(requesters)
