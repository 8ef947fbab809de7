"""Token exchange: what a new presenter may be given, at most (RFC 8693).

- Rights only narrow: requested, of the subject, and allowed by policy, all three (NR-01); none left is an
  error.
- `sub` and `txn` stay over all hops (ID-01, CL-06); inherited actors are copied unchanged (ID-05).
- The new token ends no later than the subject's, the task's deadline and the largest lifetime (CL-07).
- A presenter that is already outermost continues; another one is put before the chain, within the depth
  limit, and never one that was there before somebody else (ID-04, ID-05).
- Of the tools that the subject is limited to, the person granted and the request names, what all three
  allow is left (NR-04).
- It names the token that it was exchanged from, and those that this one names, so that what takes back one of
  them takes back all that came of it (CA-07).
- There is no unbound token: a binding is an argument that cannot be left out (TX-11).

Whether the presenter may act for the human is the policy's to say, and who may exchange is the broker's.
"""

from dataclasses import dataclass
from datetime import datetime

from identity.actor_chain import check_chain
from identity.authorization_details import Details, joined, refine
from identity.caller import Binding, Hop, Human
from identity.claims import lifetime
from identity.delegation import MAX_PARENTS, Delegation, DelegationToken
from identity.errors import ExchangeError, TokenExpiredError
from identity.quick_init import quick_init
from identity.spiffe import TrustDomain


@quick_init
@dataclass(frozen=True, slots=True)
class SignedIn:
    """A human who just signed in: the start of a chain. `txn` names all that comes of it."""

    human: Human
    expires_at: int
    txn: str
    issued_at: int = 0


Subject = SignedIn | DelegationToken


@quick_init
@dataclass(frozen=True, slots=True)
class Terms:
    """What the broker gives a presenter at most; no part of it widens what the subject has."""

    issuer: str
    trust_domain: TrustDomain
    audience: str
    allowed_scopes: frozenset[str]
    presenter: Hop
    binding: Binding
    task_deadline: datetime
    max_ttl: int
    max_depth: int
    # What the person granted: the grant, and its tools where it is limited to some.
    grant_id: str | None = None
    allowed_details: Details | None = None
    # What the request names, and the withdrawals that are known now.
    requested_details: Details | None = None
    min_epoch: int = 0


def narrow(
    subject: Subject, terms: Terms, requested_scopes: frozenset[str] | None, now: datetime, jti: str
) -> Delegation:
    """Return what the presenter is given; `requested_scopes` is None where the request names none (NR-02).

    Raises:
        ExchangeError: if nothing is left to give.
        ChainError: if the chain would be too deep, or visit somebody twice.
    """
    not_after = min(subject.expires_at, int(terms.task_deadline.timestamp()))
    try:
        issued_at, expires_at = lifetime(now, terms.max_ttl, not_after)
    except TokenExpiredError as error:
        raise ExchangeError("invalid_request", "the subject token or the task has expired") from error
    return Delegation(
        issuer=terms.issuer,
        trust_domain=terms.trust_domain,
        human=subject.human,
        audience=terms.audience,
        scopes=_scopes(subject, terms, requested_scopes),
        chain=_chain(subject, terms),
        binding=terms.binding,
        txn=subject.txn,
        jti=jti,
        issued_at=issued_at,
        expires_at=expires_at,
        grants=_grants(subject, terms),
        details=_details(subject, terms),
        min_epoch=terms.min_epoch,
        parents=_parents(subject),
    )


def _scopes(subject: Subject, terms: Terms, requested: frozenset[str] | None) -> frozenset[str]:
    scopes = terms.allowed_scopes
    if isinstance(subject, DelegationToken):
        scopes &= subject.scopes
    if requested is not None:
        scopes &= requested
    if not scopes:
        raise ExchangeError("invalid_scope", "none of the requested scopes can be granted")
    return scopes


def _grants(subject: Subject, terms: Terms) -> tuple[str, ...]:
    held = subject.grants if isinstance(subject, DelegationToken) else ()
    return tuple(dict.fromkeys((*held, terms.grant_id))) if terms.grant_id is not None else held


def _parents(subject: Subject) -> tuple[str, ...]:
    if not isinstance(subject, DelegationToken):
        return ()
    parents = (*subject.parents, subject.jti)
    if len(parents) > MAX_PARENTS:
        raise ExchangeError("invalid_request", f"a token is exchanged at most {MAX_PARENTS} times in a row")
    return parents


def _details(subject: Subject, terms: Terms) -> Details | None:
    held = subject.details if isinstance(subject, DelegationToken) else None
    # What the person granted may name more tools than the subject has; only the request may not.
    return refine(joined(held, terms.allowed_details), terms.requested_details)


def _chain(subject: Subject, terms: Terms) -> tuple[Hop, ...]:
    chain: tuple[Hop, ...] = (terms.presenter,)
    if isinstance(subject, DelegationToken):
        if (subject.issuer, subject.trust_domain) != (terms.issuer, terms.trust_domain):
            raise ExchangeError("invalid_request", "the subject token is of another issuer or trust domain")
        continues = subject.chain[0] == terms.presenter
        chain = subject.chain if continues else (terms.presenter, *subject.chain)
    check_chain(chain, terms.max_depth)
    return chain
