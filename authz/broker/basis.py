"""Why an agent may act for a person at all: the person said so, to us or to their provider (TX-07, TX-10).

- A client that logs in is not yet a client that may act for this person. Either the person's token has a
  `may_act` that names this very agent, or the person made a grant to it.
- A `may_act` that names somebody else forbids what a grant would allow.
- Whoever the work is handed on to is named in the grant that it came of, or has a grant of its own.
- Of several grants the one that gives most of what is asked for counts; they are never added up, so that a
  revoked one takes all of its own with it.
- The person's token was issued to an application that is registered for the agent; another application's
  token was meant for somebody else.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from authz.broker.person_token import MayAct, PersonToken
from authz.broker.refusal import refuse
from authz.codes import Code
from identity.authorization_details import Details
from identity.caller import Agent, OidcClient
from identity.consent import Consent
from identity.delegation import DelegationToken
from identity.errors import ConsentError
from identity.quick_init import quick_init
from identity.spiffe import TrustDomain, agent_id


@quick_init
@dataclass(frozen=True, slots=True)
class Basis:
    """What a person lets an agent do; None where the basis itself does not limit it."""

    scopes: frozenset[str] | None = None
    details: Details | None = None
    not_after: datetime | None = None
    grant_id: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a basis is looked for: services by name, each with its audience, the token's own first."""

    services: tuple[tuple[str, str], ...]
    scopes: frozenset[str] | None
    now: datetime


def check_client(client: OidcClient, agent: Agent) -> None:
    """Refuse a person's token that was issued to an application of somebody else.

    Raises:
        RefusedError: with CLIENT_UNREGISTERED.
    """
    if client not in agent.clients:
        raise refuse(
            Code.CLIENT_UNREGISTERED,
            f"client {client.client_id!r} of {client.issuer!r} is none of agent {agent.name!r}",
        )


def names(may_act: MayAct, agent: Agent, issuer: str, ours: tuple[str, TrustDomain]) -> bool:
    """Say whether a `may_act` of a token of this issuer names an agent: the whole pair, and nobody else.

    An agent is known by our name for it, in our namespace, or as an application of its own at the issuer.
    """
    our_issuer, trust_domain = ours
    pair = (may_act.iss or issuer, may_act.sub)
    return pair == (our_issuer, str(agent_id(trust_domain, agent.name))) or OidcClient(*pair) in agent.clients


def sign_in_basis(token: PersonToken, agent: Agent, consents: Iterable[Consent], wanted: Wanted) -> Basis:
    """Return what the grants of a person who signed in let this agent do.

    Raises:
        RefusedError: with CONSENT_MISSING.
    """
    return _granted(token.human.uri, agent.name, consents, wanted)


def handover_basis(
    subject: DelegationToken,
    actor: Agent,
    origin: Consent | None,
    consents: Iterable[Consent],
    wanted: Wanted,
) -> Basis:
    """Return why the work may be handed on to this agent; `origin` is the grant that the subject began with.

    Raises:
        RefusedError: with CONSENT_MISSING.
    """
    if origin is not None and origin.is_live(wanted.now) and actor.name in origin.delegates_to:
        return Basis(not_after=origin.expires_at)
    return _granted(subject.human.uri, actor.name, consents, wanted)


def _granted(human: str, agent: str, consents: Iterable[Consent], wanted: Wanted) -> Basis:
    live = [
        consent
        for consent in consents
        if (consent.human, consent.agent) == (human, agent) and consent.is_live(wanted.now)
    ]
    given: list[tuple[int, datetime, str, Basis]] = []
    for consent in live:
        scopes, details = _held(consent, wanted)
        if scopes:
            basis = Basis(scopes, details, consent.expires_at, consent.id)
            given.append((len(scopes), consent.expires_at, consent.id, basis))
    if given:
        return max(given, key=lambda each: each[:3])[3]
    # Where the person granted something on this service, it is the scopes that ask for too much (NR-01).
    is_other = any(_held(consent, replace(wanted, scopes=None))[0] for consent in live)
    detail = f"no grant of {human!r} to {agent!r} holds what is asked for"
    raise refuse(Code.CONSENT_MISSING, detail, oauth="invalid_scope" if is_other else None)


def _held(consent: Consent, wanted: Wanted) -> tuple[frozenset[str], Details | None]:
    """Return what a grant gives of the wanted services; without the token's own service that is nothing."""
    scopes: set[str] = set()
    tools: list[Details | None] = []
    for number, (service, audience) in enumerate(wanted.services):
        prefix = f"{service}:"
        of_it = {scope for scope in consent.scopes if scope.startswith(prefix)}
        if wanted.scopes is not None:
            of_it &= wanted.scopes
        details: Details | None = None
        try:
            details = consent.details_for(service, audience)
        except ConsentError:
            of_it = set()
        if number == 0 and not of_it:
            return frozenset(), None
        scopes |= of_it
        tools.append(details if of_it else None)
    limited = tuple(detail for each in tools if each is not None for detail in each)
    return frozenset(scopes), limited or None
