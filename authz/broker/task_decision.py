"""What may be done with a task, and what is signed for it, whichever way the question came.

- A workload may start a task of an agent that it may host, for a person who signed in, or for nobody where
  the agent is autonomous. The policy is asked, too. Nothing is registered in advance: the identity comes to
  be when it is asked for.
- A task is renewed and ended by itself, or by the workload that started it. Where the process instance that
  started it was seen (a uid, a pod), another instance of the same workload is refused.
- The HTTP endpoint (mTLS) and the gRPC service (Unix socket) are shells over this: one rule, one record.
- A person's sign-in counts for an agent whose application it was made through, and for no other.
- What is contained starts nothing, and renews nothing: an agent, a workload, a person.
- Nothing that is signed outlives the task.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from authz.audit.facts import Issued
from authz.authenticate import check_standing, live_agent
from authz.broker.basis import check_client
from authz.broker.client import Attested, check_newest, running, workload_client
from authz.broker.deps import Broker
from authz.broker.evidence import Evidence
from authz.broker.person_token import PersonToken
from authz.broker.query import task_query
from authz.broker.refusal import refuse, refused_by_policy
from authz.broker.task_request import StartRequest
from authz.codes import Code
from identity.caller import Agent, Hop, Human, Task
from identity.errors import AgentNameError
from identity.jws import UnverifiedToken
from identity.names import parse_ulid
from identity.spiffe import SpiffeId, agent_task_id, parse_agent_task
from identity.withdrawal import Standing
from identity.x509_svid import thumbprint


@dataclass(frozen=True, slots=True)
class TaskCase:
    """One question about a task; `evidence` is filled in on the way."""

    broker: Broker
    evidence: Evidence
    now: datetime

    def asked_by(self, client: Attested) -> Attested:
        """Note who asks; from here on it is no stranger's question."""
        self.evidence.peer, self.evidence.origin = client.spiffe_id, client.origin
        return client


@dataclass(frozen=True, slots=True)
class Signed:
    """An X.509-SVID that was signed for a task, and the task that knows it as its newest."""

    der: bytes
    task: Task

    @property
    def not_after(self) -> datetime:
        """When it ends."""
        return x509.load_der_x509_certificate(self.der).not_valid_after_utc


async def decide_start(request: StartRequest, client: Attested, case: TaskCase) -> Task:
    """Decide whether this workload may start a task of this agent for this person; the task is not stored.

    Raises:
        RefusedError, CodedError or TokenError: if it may not.
    """
    broker, evidence, now = case.broker, case.evidence, case.now
    workload = workload_client(client.spiffe_id)
    agent = live_agent(broker.tasks, request.agent, now)
    task_id = broker.new_id(now)
    evidence.chain = (Hop(agent.name, task_id),)
    if workload not in agent.hosts:
        raise refuse(Code.AGENT_HOST, f"{str(workload)!r} may not host {agent.name!r}")
    token = await _human(request, agent, case)
    human = token.human if token else None
    verdict = await broker.policy.decide(task_query(human, agent, task_id, workload))
    evidence.revision = verdict.revision
    if verdict.effect != "allow":
        raise refused_by_policy(verdict)
    _check_standing(token, agent, workload, case)
    seconds = min(request.lifetime_seconds or broker.settings.task_seconds, broker.settings.task_seconds)
    return Task(
        id=task_id,
        agent=agent.name,
        human=human.uri if human else None,
        workload=workload,
        started_at=now,
        deadline=now + timedelta(seconds=seconds),
        origin=client.origin,
    )


def own_task(task_id: str, client: Attested, case: TaskCase, *, workload_too: bool = True) -> Task:
    """Return the live task, which is the client itself or was started by it.

    Raises:
        RefusedError: if it is unknown, over, or somebody else's.
    """
    task = _known_task(task_id, case)
    case.evidence.chain = (Hop(task.agent, task.id),)
    case.evidence.human = Human.parse_uri(task.human) if task.human else None
    case.evidence.autonomous = task.human is None
    is_itself = client.svid is not None and parse_agent_task(client.spiffe_id) == (task.agent, task.id)
    if not is_itself and not (workload_too and _started(client, task)):
        raise refuse(Code.TASK_MISMATCH, f"task {task_id!r} is not that of {str(client.spiffe_id)!r}")
    if not task.is_live(case.now):
        raise refuse(Code.TASK_ENDED, f"task {task_id!r}")
    if is_itself and client.svid is not None:
        check_newest(client.svid, task)
    return task


def own_running_task(task_id: str, client: Attested, case: TaskCase, *, workload_too: bool = True) -> Task:
    """Return the task as `own_task` does, if its agent may still run there.

    Raises:
        RefusedError or AuthenticationError: if not.
    """
    task = own_task(task_id, client, case, workload_too=workload_too)
    running(Hop(task.agent, task.id), case.broker.tasks, case.now)
    return task


def sign_svid(task: Task, public_key: ec.EllipticCurvePublicKey, case: TaskCase) -> Signed:
    """Sign an X.509-SVID of a task for a key whose possession was proven."""
    ttl = case.broker.settings.x509_svid_seconds
    der = case.broker.authority.issue_task_svid(task, public_key, case.now, ttl)
    return Signed(der, replace(task, thumbprint=thumbprint(der)))


def task_id_of(task: Task, broker: Broker) -> SpiffeId:
    """Return the SPIFFE ID of a task."""
    return agent_task_id(broker.trust_domain, task.agent, task.id)


def issued_task(task: Task, broker: Broker) -> Issued:
    """Describe, for the record, a task that was started or handed out anew."""
    return Issued(kind="task", subject=str(task_id_of(task, broker)), expires_at=task.deadline)


def issued_svid(signed: Signed, broker: Broker) -> Issued:
    """Describe, for the record, a certificate of a task."""
    return Issued(kind="x509-svid", subject=str(task_id_of(signed.task, broker)), expires_at=signed.not_after)


def _check_standing(token: PersonToken | None, agent: Agent, workload: SpiffeId, case: TaskCase) -> None:
    """Refuse to start what was stopped: the agent, the workload, the person, or their sign-in."""
    standing = Standing(
        human=token.human.uri if token else None,
        agents=(agent.name,),
        workloads=(str(workload),),
        issued_at=token.began if token else None,
    )
    check_standing(standing, case.broker.tasks)


async def _human(request: StartRequest, agent: Agent, case: TaskCase) -> PersonToken | None:
    if request.unverified_subject is None:
        if not agent.autonomous:
            text = "this agent acts for a person: send the person's ID token with the request"
            raise refuse(Code.HUMAN_MISSING, f"agent {agent.name!r} is not autonomous", description=text)
        case.evidence.autonomous = True
        return None
    unverified = UnverifiedToken.parse(request.unverified_subject)
    token = await case.broker.people.verify(unverified, "id_token", case.now)
    case.evidence.human, case.evidence.token_id = token.human, token.token_id
    check_client(token.client, agent)
    return token


def _known_task(task_id: str, case: TaskCase) -> Task:
    try:
        task = case.broker.tasks.task(parse_ulid(task_id))
    except AgentNameError as error:
        raise refuse(Code.TASK_UNKNOWN, str(error)) from error
    if task is None:
        raise refuse(Code.TASK_UNKNOWN, f"task {task_id!r}")
    return task


def _started(client: Attested, task: Task) -> bool:
    """Say whether the client is the workload, and the instance of it, that started the task."""
    return client.spiffe_id == task.workload and task.origin in {None, client.origin}
