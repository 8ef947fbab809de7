"""For whom a token is asked, and who will present it: each verified before it counts.

- The client is a running task, and exchanges what is its own: its person's sign-in, or the delegation token
  that is bound to it (TX-09, TX-11). A token that somebody found is refused.
- The sign-in is an ID token, or an access token whose audience is this broker, issued to an application that
  is registered for the agent.
- A client alone continues its own chain, for another service or with less; with an actor it hands on, and the
  new token is bound to the actor and to nobody else. No token loses its `act` on the way (TX-08).
- Every agent of the chain must be registered, its task alive, and nothing of it withdrawn.
"""

import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

from authz.authenticate import check_standing, live_agent, live_task
from authz.broker.basis import check_client
from authz.broker.client import Running, TaskClient, assertion_client
from authz.broker.deps import Broker
from authz.broker.evidence import Evidence
from authz.broker.person_token import PersonToken, TokenKind
from authz.broker.refusal import refuse
from authz.broker.token_request import TokenRequest
from authz.codes import Code
from authz.epochs import require_epoch
from authz.errors import StoreError
from identity.caller import Agent, Binding, DpopBinding, Hop, Human, KeyBinding, Task, WorkloadBinding
from identity.delegation import DelegationToken, verify_delegation_token
from identity.dpop import DpopProof
from identity.errors import TokenAudienceError
from identity.exchange import SignedIn
from identity.jws import UnverifiedToken
from identity.quick_init import quick_init
from identity.withdrawal import Standing


@quick_init
@dataclass(frozen=True, slots=True)
class Case:
    """One exchange that is asked for; `evidence` is filled in on the way."""

    request: TokenRequest
    client: TaskClient
    proof: DpopProof | None
    broker: Broker
    evidence: Evidence
    now: datetime


@dataclass(frozen=True, slots=True)
class Presenter:
    """Who will present the new token, the key that stands for it, and until when its proof of that counts."""

    running: Running
    thumbprint: str | None
    not_after: datetime


@quick_init
@dataclass(frozen=True, slots=True)
class Parties:
    """Whom the new token is for and who stands in its chain, the presenter first."""

    subject: SignedIn | DelegationToken
    # The sign-in itself, where the chain begins here.
    sign_in: PersonToken | None
    presenter: Presenter
    agents: tuple[Agent, ...]
    tasks: tuple[Task, ...]
    chain: tuple[Hop, ...]

    @property
    def human(self) -> Human:
        """The person that the chain acts for."""
        return self.subject.human

    @property
    def is_handed_on(self) -> bool:
        """Say whether somebody joins the chain who was not its presenter before."""
        return isinstance(self.subject, DelegationToken) and self.subject.chain[0] != self.chain[0]

    @property
    def not_after(self) -> datetime:
        """The end of whatever ends first."""
        ends = [task.deadline for task in self.tasks]
        return min(datetime.fromtimestamp(self.subject.expires_at, UTC), self.presenter.not_after, *ends)


async def find_parties(case: Case) -> Parties:
    """Verify everybody and everything that the request names.

    Raises:
        RefusedError, CodedError or TokenError: if somebody or something does not count.
    """
    request, client = case.request, case.client
    presenter = Presenter(client.running, client.thumbprint, client.not_after)
    subject_token = UnverifiedToken.parse(request.unverified_subject)
    if _is_ours(request, subject_token, case.broker):
        parties = _from_delegation(subject_token, presenter, case)
    else:
        parties = await _from_sign_in(subject_token, presenter, case)
    check_standing(_standing(parties), case.broker.tasks)
    return parties


def verify_subject(token: UnverifiedToken, broker: Broker, now: datetime) -> DelegationToken:
    """Verify a delegation token of ours, whichever of our services it is for.

    Raises:
        TokenError: if it is none: the broker is nobody's audience, and an unknown service's token no token.
    """
    unverified_audience = token.unverified_claims.get("aud")
    verified = verify_delegation_token(
        token,
        broker.authority.token_keys,
        issuer=broker.settings.issuer,
        audience=unverified_audience if isinstance(unverified_audience, str) else "",
        now=now,
        leeway=broker.settings.leeway,
        max_depth=broker.settings.max_depth,
    )
    if verified.audience not in broker.settings.audiences:
        raise TokenAudienceError("a delegation token for a service that is not known here")
    return verified


def check_bound(subject: DelegationToken, client: TaskClient, proof: DpopProof | None) -> None:
    """Refuse a token of somebody else: who exchanges is its presenter, and proves it (TX-09, TX-11).

    Raises:
        RefusedError: with NOT_BOUND, or DPOP_MISSING where the proof of its key is missing.
        DpopError: if the proof is of another key.
    """
    match subject.binding:
        case KeyBinding(thumbprint):
            is_bound = hmac.compare_digest(thumbprint.encode(), (client.thumbprint or "").encode())
        case WorkloadBinding(workload):
            is_bound = workload == client.running.task.workload
        case DpopBinding(jkt):
            if proof is None:
                raise refuse(Code.DPOP_MISSING, "the subject token is bound to a key of proofs")
            proof.require_key(jkt)
            is_bound = True
        case _:
            assert_never(subject.binding)
    if not is_bound or subject.chain[0] != client.running.hop:
        raise refuse(Code.NOT_BOUND, "the subject token is bound to another than the client")


def is_proved(binding: Binding, client: TaskClient) -> bool:
    """Say whether the client, whose token this is, has shown what the token is bound to.

    A JWT-SVID shows no key: who has only that is given what nobody but the task can use, and nothing else.
    """
    match binding:
        case KeyBinding():
            return client.shown == "key"
        case WorkloadBinding():
            return client.shown != "neither"
        case DpopBinding():
            return True  # `check_bound` asks for the proof
        case _:
            assert_never(binding)


def _is_ours(request: TokenRequest, token: UnverifiedToken, broker: Broker) -> bool:
    unverified_issuer = token.unverified_claims.get("iss")
    return request.subject_kind == "access_token" and unverified_issuer == broker.settings.issuer


async def _from_sign_in(token: UnverifiedToken, presenter: Presenter, case: Case) -> Parties:
    """The person's own sign-in, for the task that was started for this person."""
    task = presenter.running.task
    if case.request.unverified_actor is not None:
        text = "a person's token is exchanged by the agent itself, without an actor"
        raise refuse(Code.REQUEST_MALFORMED, text, description=text)
    kind: TokenKind = "id_token" if case.request.subject_kind == "id_token" else "access_token"
    person = await case.broker.people.verify(token, kind, case.now)
    case.evidence.human, case.evidence.token_id = person.human, person.token_id
    check_client(person.client, presenter.running.agent)
    if task.human is None or task.human != person.human.uri:
        raise refuse(Code.TASK_MISMATCH, f"task {task.id!r} is for somebody else")
    return Parties(
        subject=SignedIn(person.human, person.expires_at, case.broker.new_token_name(), person.began),
        sign_in=person,
        presenter=presenter,
        agents=(presenter.running.agent,),
        tasks=(task,),
        chain=(presenter.running.hop,),
    )


def _from_delegation(token: UnverifiedToken, presenter: Presenter, case: Case) -> Parties:
    """The client's own delegation token: continued by itself, or handed on to the actor."""
    tasks, now = case.broker.tasks, case.now
    subject = verify_subject(token, case.broker, now)
    case.evidence.human, case.evidence.token_id = subject.human, subject.token_id
    case.evidence.txn = subject.txn
    check_bound(subject, case.client, case.proof)
    try:
        require_epoch(subject.min_epoch, tasks.epoch)
    except StoreError as error:
        raise refuse(Code.STALE, str(error)) from error
    agents = tuple(live_agent(tasks, hop.agent, now) for hop in subject.chain)
    runs = tuple(live_task(tasks, hop, subject.human, now) for hop in subject.chain)
    if case.request.unverified_actor is None:
        return Parties(subject, None, presenter, agents, runs, subject.chain)
    actor = _actor(case.request.unverified_actor, subject, case)
    hop = actor.running.hop
    return Parties(
        subject,
        None,
        actor,
        (actor.running.agent, *agents),
        (actor.running.task, *runs),
        (hop, *subject.chain),
    )


def _actor(unverified_actor: str, subject: DelegationToken, case: Case) -> Presenter:
    client = assertion_client(unverified_actor, case.broker, case.now)
    if client.running.task.human != subject.human.uri:
        text = f"task {client.running.task.id!r} of the actor is not for this person"
        raise refuse(Code.TASK_MISMATCH, text)
    if client.running.hop == case.client.running.hop:
        raise refuse(Code.CHAIN_CYCLE, "the client delegates to itself")
    return Presenter(client.running, client.thumbprint, client.not_after)


def _standing(parties: Parties) -> Standing:
    subject = parties.subject
    token = subject if isinstance(subject, DelegationToken) else None
    signed_in_at = subject.human.auth_time
    return Standing(
        human=subject.human.uri,
        agents=tuple([hop.agent for hop in parties.chain]),
        tasks=tuple([hop.task for hop in parties.chain]),
        workloads=tuple([str(task.workload) for task in parties.tasks]),
        txn=subject.txn,
        jti=token.jti if token else None,
        grants=token.grants if token else (),
        issued_at=subject.issued_at if signed_in_at is None else min(subject.issued_at, signed_in_at),
        parents=token.parents if token else (),
    )
