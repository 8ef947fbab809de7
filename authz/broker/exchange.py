"""The decision of a token exchange: who is given what, for whom (RFC 8693).

- The client is a running task, and exchanges what is its own: the ID token of its task's person, or the
  delegation token that is bound to it (TX-09, TX-11). A token that somebody found is refused.
- Who is delegated to proves itself with a JWT-SVID for the broker, runs a task for the same person, and gets
  a token that is bound to it and to nobody else.
- Every agent of the chain must still be registered and its task alive; the policy is asked before anything is
  issued; nothing given outlives what stands behind it (CL-07).
"""

import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

from authz.authenticate import live_agent, live_task
from authz.broker.client import Running, TaskClient, running
from authz.broker.deps import Broker
from authz.broker.evidence import Evidence
from authz.broker.query import exchange_query
from authz.broker.refusal import refuse, refused_by_policy
from authz.broker.token_request import TokenRequest
from authz.codes import Code
from identity.actor_chain import check_chain
from identity.caller import Agent, Binding, DpopBinding, Hop, KeyBinding, Task, WorkloadBinding
from identity.delegation import Delegation, DelegationToken, verify_delegation_token
from identity.errors import TokenAudienceError, TokenClaimsError, TokenExpiredError
from identity.exchange import SignedIn, Terms, narrow
from identity.jws import UnverifiedToken
from identity.jwt_svid import verify_jwt_svid
from identity.spiffe import agent_id, parse_agent_task


@dataclass(frozen=True, slots=True)
class Case:
    """One exchange that is asked for; `evidence` is filled in on the way."""

    request: TokenRequest
    client: TaskClient
    broker: Broker
    evidence: Evidence
    now: datetime


@dataclass(frozen=True, slots=True)
class _Presenter:
    """Who will present the new token, and until when its proof of that counts."""

    running: Running
    thumbprint: str
    not_after: datetime


@dataclass(frozen=True, slots=True)
class _Parties:
    """Whom the new token is for and who stands in its chain, the presenter first."""

    subject: SignedIn | DelegationToken
    presenter: _Presenter
    agents: tuple[Agent, ...]
    tasks: tuple[Task, ...]
    chain: tuple[Hop, ...]

    @property
    def not_after(self) -> datetime:
        """The end of whatever ends first."""
        ends = (task.deadline for task in self.tasks)
        return min(datetime.fromtimestamp(self.subject.expires_at, UTC), self.presenter.not_after, *ends)


async def decide_exchange(case: Case) -> Delegation:
    """Decide what the client, or the actor that it names, is given.

    Raises:
        RefusedError, CodedError, TokenError or ExchangeError: if nothing is.
    """
    broker, evidence, request = case.broker, case.evidence, case.request
    # 1. The client is who it says; its own name in the form is checked, never used.
    _check_client_id(case)
    # 2. The service, before any token is looked at.
    service = evidence.service = broker.settings.audiences.get(request.audience)
    if service is None:
        raise refuse(Code.SERVICE_UNKNOWN, f"audience {request.audience[:255]!r}")
    # 3. The subject is the client's own; the presenter is the client or the actor.
    actor = request.unverified_actor
    parties = await _own(case) if actor is None else _delegated(case, actor)
    binding = evidence.binding = _binding(request, parties.presenter)
    evidence.chain, evidence.txn = parties.chain, parties.subject.txn
    # 4. What no policy could allow.
    if parties.not_after <= case.now:
        raise TokenExpiredError("a subject or actor token that has expired")
    max_depth = min(broker.settings.max_depth, *(agent.max_depth for agent in parties.agents))
    check_chain(parties.chain, max_depth)
    # 5. The policy, with the whole chain.
    allowed = await _ask_policy(case, parties, binding, service)
    # 6. What is left of everything.
    terms = Terms(
        issuer=broker.settings.issuer,
        trust_domain=broker.authority.trust_domain,
        audience=request.audience,
        allowed_scopes=allowed,
        presenter=parties.presenter.running.hop,
        binding=binding,
        task_deadline=parties.not_after,
        max_ttl=broker.settings.delegation_token_seconds,
        max_depth=max_depth,
    )
    return narrow(parties.subject, terms, request.scopes, case.now, broker.new_token_name())


async def _ask_policy(case: Case, parties: _Parties, binding: Binding, service: str) -> frozenset[str]:
    """Return the scopes that the policy allows; a policy that names none allows none (NR-02)."""
    verdict = await case.broker.policy.decide(
        exchange_query(
            human=parties.subject.human,
            agents=parties.agents,
            task=parties.presenter.running.task,
            peer=case.client.svid.spiffe_id,
            binding=binding,
            scopes=_asked(case.request, parties.subject),
            service=service,
        )
    )
    case.evidence.revision = verdict.revision
    if verdict.effect != "allow":
        raise refused_by_policy(verdict)
    return frozenset(verdict.obligations.get("scopes", ()))


async def _own(case: Case) -> _Parties:
    """The person's ID token, for the task that was started for this person."""
    client, task = case.client, case.client.running.task
    unverified = UnverifiedToken.parse(case.request.unverified_subject)
    token = await case.broker.people.verify(unverified, "id_token", case.now)
    case.evidence.human, case.evidence.token_id = token.human, token.token_id
    if task.human is None or task.human != token.human.uri:
        raise refuse(Code.TASK_MISMATCH, f"task {task.id!r} is for somebody else")
    return _Parties(
        subject=SignedIn(token.human, token.expires_at, case.broker.new_token_name()),
        presenter=_Presenter(client.running, client.svid.thumbprint, client.svid.not_after),
        agents=(client.running.agent,),
        tasks=(task,),
        chain=(client.running.hop,),
    )


def _delegated(case: Case, unverified_actor: str) -> _Parties:
    """The client's own delegation token, handed on to the actor."""
    tasks, now = case.broker.tasks, case.now
    subject = _verify_subject(case.request.unverified_subject, case.broker, now)
    case.evidence.human, case.evidence.token_id = subject.human, subject.token_id
    case.evidence.txn = subject.txn
    _check_bound(subject, case.client)
    inner_agents = tuple(live_agent(tasks, hop.agent, now) for hop in subject.chain)
    inner_tasks = tuple(live_task(tasks, hop, subject.human, now) for hop in subject.chain)
    presenter = _verify_actor(unverified_actor, case.broker, now)
    actor = presenter.running
    if actor.task.human != subject.human.uri:
        raise refuse(Code.TASK_MISMATCH, f"task {actor.task.id!r} of the actor is not for this person")
    if actor.hop == case.client.running.hop:
        raise refuse(Code.CHAIN_CYCLE, "the client delegates to itself")
    return _Parties(
        subject=subject,
        presenter=presenter,
        agents=(actor.agent, *inner_agents),
        tasks=(actor.task, *inner_tasks),
        chain=(actor.hop, *subject.chain),
    )


def _verify_subject(unverified_text: str, broker: Broker, now: datetime) -> DelegationToken:
    unverified = UnverifiedToken.parse(unverified_text)
    # Whichever service it is for, it must be one of ours: the broker is nobody's audience.
    unverified_audience = unverified.unverified_claims.get("aud")
    token = verify_delegation_token(
        unverified,
        broker.authority.token_keys,
        issuer=broker.settings.issuer,
        audience=unverified_audience if isinstance(unverified_audience, str) else "",
        now=now,
        leeway=broker.settings.leeway,
        max_depth=broker.settings.max_depth,
    )
    if token.audience not in broker.settings.audiences:
        raise TokenAudienceError("a delegation token for a service that is not known here")
    return token


def _check_bound(subject: DelegationToken, client: TaskClient) -> None:
    """TX-09 and TX-11: the one who exchanges is the presenter, and proves it with the key of its task."""
    match subject.binding:
        case KeyBinding(thumbprint):
            is_bound = hmac.compare_digest(thumbprint.encode(), client.svid.thumbprint.encode())
        case WorkloadBinding(workload):
            is_bound = workload == client.running.task.workload
        case DpopBinding():
            is_bound = False
        case _:
            assert_never(subject.binding)
    if not is_bound or subject.chain[0] != client.running.hop:
        raise refuse(Code.NOT_BOUND, "the subject token is bound to another than the client")


def _verify_actor(unverified_text: str, broker: Broker, now: datetime) -> _Presenter:
    authority = broker.authority
    svid = verify_jwt_svid(
        UnverifiedToken.parse(unverified_text),
        {authority.trust_domain: authority.svid_keys},
        audience=broker.settings.issuer,
        now=now,
        leeway=broker.settings.leeway,
    )
    named = parse_agent_task(svid.spiffe_id)
    if named is None:
        raise TokenClaimsError("an actor token that is not of an agent's task")
    actor = running(Hop(*named), broker.tasks, now)
    if actor.task.thumbprint is None:
        raise refuse(Code.NOT_BOUND, f"task {actor.task.id!r} of the actor has no key to bind to")
    return _Presenter(actor, actor.task.thumbprint, datetime.fromtimestamp(svid.expires_at, UTC))


def _binding(request: TokenRequest, presenter: _Presenter) -> Binding:
    if request.binding == "workload":
        return WorkloadBinding(presenter.running.task.workload)
    return KeyBinding(presenter.thumbprint)


def _asked(request: TokenRequest, subject: SignedIn | DelegationToken) -> frozenset[str]:
    held = subject.scopes if isinstance(subject, DelegationToken) else None
    if request.scopes is None:
        return held or frozenset()
    return request.scopes if held is None else request.scopes & held


def _check_client_id(case: Case) -> None:
    client_id, hop = case.request.client_id, case.client.running.hop
    stable_id = agent_id(case.broker.authority.trust_domain, hop.agent)
    if client_id is not None and client_id not in {
        hop.agent,
        str(stable_id),
        str(case.client.svid.spiffe_id),
    }:
        raise refuse(
            Code.TASK_MISMATCH,
            f"client_id {client_id[:255]!r} is not the client",
            oauth="invalid_client",
            description="client_id names another than the certificate",
        )
