"""Tasks: started by a workload, renewed, given JWT-SVIDs, ended.

- A workload may start a task of an agent that it may host, for a person who signed in, or for nobody where
  the agent is autonomous. The policy is asked, too.
- The private key never comes here: a certificate request proves its possession.
- A task renews its own certificate, or its workload does; only the task itself gets a JWT-SVID, for the
  broker or for a service that is known here.
- Nothing issued outlives the task.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from authz.audit.facts import Issued
from authz.authenticate import live_agent
from authz.broker.arrival import Arrival
from authz.broker.client import authenticate, check_newest, running, workload_client
from authz.broker.deps import Broker
from authz.broker.evidence import Evidence
from authz.broker.query import START, task_query
from authz.broker.refusal import RefusedError, refuse, refused_by_policy
from authz.broker.reply import Outcome, Reply, answer
from authz.broker.task_request import JwtSvidRequest, RenewRequest, StartRequest
from authz.codes import Code
from authz.form import Form
from identity.caller import Agent, Hop, Human, Task
from identity.claims import lifetime
from identity.errors import AgentNameError
from identity.jws import UnverifiedToken
from identity.names import parse_ulid
from identity.spiffe import SpiffeId, agent_task_id, parse_agent_task
from identity.x509_svid import X509Svid, thumbprint

RENEW = "tasks/svid"
JWT_SVID = "tasks/jwt-svid"
END = "tasks/end"

_STATUS = {Form.MALFORMED: 400, Form.TOKEN: 401, Form.UNAVAILABLE: 503}
_STATUS_OF_CODE = {
    Code.BODY_TOO_LARGE.value: 413,
    Code.TASK_UNKNOWN.value: 404,
    Code.TASK_ENDED.value: 410,
    # The client is known, and may not: that is no matter of logging in again.
    Code.TASK_MISMATCH.value: 403,
    Code.NOT_BOUND.value: 403,
    Code.AGENT_HOST.value: 403,
    Code.AGENT_UNKNOWN.value: 403,
    Code.AGENT_EXPIRED.value: 403,
    Code.HUMAN_MISSING.value: 403,
}


@dataclass(frozen=True, slots=True)
class _Visit:
    """One request of one client; `evidence` is filled in on the way."""

    arrival: Arrival
    broker: Broker
    evidence: Evidence
    now: datetime

    def client(self) -> X509Svid:
        """Return the verified certificate of the client."""
        svid = authenticate(self.arrival.certificate, self.broker, self.now)
        self.evidence.peer = svid.spiffe_id
        return svid


async def start_task(arrival: Arrival, broker: Broker) -> Reply:
    """Start a task (POST /tasks); this never raises."""
    return await _answer(START, arrival, broker, _start)


async def renew_svid(task_id: str, arrival: Arrival, broker: Broker) -> Reply:
    """Issue a new X.509-SVID (POST /tasks/{task}/svid); this never raises."""

    async def renew(visit: _Visit) -> Outcome:
        _, task = _own_task(task_id, visit, workload_too=True)
        running(Hop(task.agent, task.id), broker.tasks, visit.now)
        request = RenewRequest.parse(arrival.json_body())
        der = broker.authority.issue_task_svid(
            task, request.public_key, visit.now, broker.settings.x509_svid_seconds
        )
        new_thumbprint = thumbprint(der)
        return Outcome(
            visit.evidence.allowed(_issued_svid(task, der, broker), broker.clock()),
            Reply(200, _identity(task, der, broker)),
            lambda: broker.tasks.set_thumbprint(task.id, new_thumbprint),
        )

    return await _answer(RENEW, arrival, broker, renew)


async def issue_jwt_svid(task_id: str, arrival: Arrival, broker: Broker) -> Reply:
    """Issue a JWT-SVID (POST /tasks/{task}/jwt-svid); this never raises."""

    async def issue(visit: _Visit) -> Outcome:
        svid, task = _own_task(task_id, visit, workload_too=False)
        running(Hop(task.agent, task.id), broker.tasks, visit.now)
        audience = JwtSvidRequest.parse(arrival.json_body()).audience
        if audience != broker.settings.issuer and audience not in broker.settings.audiences:
            raise refuse(Code.SERVICE_UNKNOWN, f"audience {audience!r}")
        visit.evidence.service = broker.settings.audiences.get(audience)
        ttl, end = broker.settings.jwt_svid_seconds, min(task.deadline, svid.not_after)
        token = broker.authority.issue_jwt_svid(svid.spiffe_id, audience, visit.now, ttl, end)
        issued_at, expires_at = lifetime(visit.now, ttl, int(end.timestamp()))
        issued = Issued(
            kind="jwt-svid",
            subject=str(svid.spiffe_id),
            expires_at=datetime.fromtimestamp(expires_at, UTC),
            audience=audience,
            token_id=hashlib.sha256(token.encode("ascii")).hexdigest(),
        )
        body = {
            "jwt_svid": token,
            "expires_in": expires_at - issued_at,
            "decision_id": visit.evidence.decision_id,
        }
        return Outcome(visit.evidence.allowed(issued, broker.clock()), Reply(200, body))

    return await _answer(JWT_SVID, arrival, broker, issue)


async def end_task(task_id: str, arrival: Arrival, broker: Broker) -> Reply:
    """End a task (DELETE /tasks/{task}); this never raises."""

    async def end(visit: _Visit) -> Outcome:
        # An agent that has expired meanwhile does not keep its tasks from ending.
        _, task = _own_task(task_id, visit, workload_too=True)
        return Outcome(
            visit.evidence.ended(broker.clock()),
            Reply(204, None),
            lambda: broker.tasks.end_task(task.id, visit.now),
            withdraws=True,
        )

    return await _answer(END, arrival, broker, end)


def error_reply(refusal: RefusedError, decision_id: str) -> Reply:
    """Return a refusal: one sentence, its code, and what to do about it."""
    deny = refusal.deny
    body = {"error": refusal.description, "code": deny.code, "decision_id": decision_id}
    if deny.form is not Form.MALFORMED:
        body["fix"] = deny.fix
    return Reply(_STATUS_OF_CODE.get(deny.code, _STATUS.get(deny.form, 403)), body)


async def _answer(
    method: str, arrival: Arrival, broker: Broker, decide: Callable[[_Visit], Awaitable[Outcome]]
) -> Reply:
    now = broker.clock()
    evidence = Evidence("issuance", method, broker.new_id(now), now, arrival.source)
    visit = _Visit(arrival, broker, evidence, now)

    async def decide_visit() -> Outcome:
        return await decide(visit)

    return await answer(decide_visit, evidence, broker, error_reply)


async def _start(visit: _Visit) -> Outcome:
    broker, evidence, now = visit.broker, visit.evidence, visit.now
    workload = workload_client(visit.client())
    request = StartRequest.parse(visit.arrival.json_body())
    agent = live_agent(broker.tasks, request.agent, now)
    task_id = broker.new_id(now)
    evidence.chain = (Hop(agent.name, task_id),)
    if workload not in agent.hosts:
        raise refuse(Code.AGENT_HOST, f"{str(workload)!r} may not host {agent.name!r}")
    human = await _human(request, agent, visit)
    verdict = await broker.policy.decide(task_query(human, agent, task_id, workload))
    evidence.revision = verdict.revision
    if verdict.effect != "allow":
        raise refused_by_policy(verdict)
    seconds = min(request.lifetime_seconds or broker.settings.task_seconds, broker.settings.task_seconds)
    task = Task(
        id=task_id,
        agent=agent.name,
        human=human.uri if human else None,
        workload=workload,
        started_at=now,
        deadline=now + timedelta(seconds=seconds),
    )
    der = broker.authority.issue_task_svid(task, request.public_key, now, broker.settings.x509_svid_seconds)
    started = replace(task, thumbprint=thumbprint(der))
    issued = Issued(kind="task", subject=str(_id_of(task, broker)), expires_at=task.deadline)
    return Outcome(
        evidence.allowed(issued, broker.clock()),
        Reply(201, {"task": task_id, **_identity(task, der, broker)}),
        lambda: broker.tasks.start_task(started, now),
    )


async def _human(request: StartRequest, agent: Agent, visit: _Visit) -> Human | None:
    if request.unverified_subject is None:
        if not agent.autonomous:
            raise refuse(Code.HUMAN_MISSING, f"agent {agent.name!r} is not autonomous")
        visit.evidence.autonomous = True
        return None
    token = await visit.broker.people.verify(UnverifiedToken.parse(request.unverified_subject), visit.now)
    visit.evidence.human, visit.evidence.token_id = token.human, token.token_id
    return token.human


def _own_task(task_id: str, visit: _Visit, *, workload_too: bool) -> tuple[X509Svid, Task]:
    """Return the client and the live task, which is the client itself or was started by it."""
    svid = visit.client()
    try:
        task = visit.broker.tasks.task(parse_ulid(task_id))
    except AgentNameError as error:
        raise refuse(Code.TASK_UNKNOWN, str(error)) from error
    if task is None:
        raise refuse(Code.TASK_UNKNOWN, f"task {task_id!r}")
    visit.evidence.chain = (Hop(task.agent, task.id),)
    visit.evidence.human = Human.parse_uri(task.human) if task.human else None
    visit.evidence.autonomous = task.human is None
    is_itself = parse_agent_task(svid.spiffe_id) == (task.agent, task.id)
    if not is_itself and not (workload_too and svid.spiffe_id == task.workload):
        raise refuse(Code.TASK_MISMATCH, f"task {task_id!r} is not that of {str(svid.spiffe_id)!r}")
    if not task.is_live(visit.now):
        raise refuse(Code.TASK_ENDED, f"task {task_id!r}")
    if is_itself:
        check_newest(svid, task)
    return svid, task


def _id_of(task: Task, broker: Broker) -> SpiffeId:
    return agent_task_id(broker.authority.trust_domain, task.agent, task.id)


def _issued_svid(task: Task, der: bytes, broker: Broker) -> Issued:
    return Issued(kind="x509-svid", subject=str(_id_of(task, broker)), expires_at=_not_after(der))


def _identity(task: Task, der: bytes, broker: Broker) -> dict[str, object]:
    """Return what a client needs to be the task: its chain, and the roots to verify others with."""
    leaf = x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)
    roots = [root.public_bytes(serialization.Encoding.PEM) for root in broker.authority.roots]
    return {
        "spiffe_id": str(_id_of(task, broker)),
        "certificate_chain": leaf.decode("ascii"),
        "bundle": b"".join(roots).decode("ascii"),
        "not_after": _text(_not_after(der)),
        "deadline": _text(task.deadline),
    }


def _not_after(der: bytes) -> datetime:
    return x509.load_der_x509_certificate(der).not_valid_after_utc


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
