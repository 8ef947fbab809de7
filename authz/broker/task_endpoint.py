"""Tasks over HTTP: started by a workload, renewed, given JWT-SVIDs, ended (rules: task_decision.py).

- The private key never comes here: a certificate request proves its possession.
- A task renews its own certificate, or its workload does; only the task itself gets a JWT-SVID, for the
  broker or for a service that is known here.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from authz.audit.facts import Issued
from authz.broker.arrival import Arrival
from authz.broker.client import Attested, authenticate, workload_client
from authz.broker.deps import Broker
from authz.broker.evidence import Evidence
from authz.broker.query import START
from authz.broker.refusal import RefusedError, refuse
from authz.broker.reply import Outcome, Reply, answer
from authz.broker.task_decision import (
    Signed,
    TaskCase,
    decide_start,
    issued_svid,
    issued_task,
    own_running_task,
    own_task,
    sign_svid,
    task_id_of,
)
from authz.broker.task_request import JwtSvidRequest, RenewRequest, StartWithKey
from authz.codes import Code
from authz.form import Form
from identity.claims import lifetime
from identity.errors import CertificateError
from identity.jws import token_id_of

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
    """One request of one client."""

    arrival: Arrival
    case: TaskCase

    def client(self) -> Attested:
        """Return who holds the key of the connection."""
        svid = authenticate(self.arrival.chain, self.case.broker, self.case.now)
        return self.case.asked_by(Attested(svid.spiffe_id, svid=svid))


async def start_task(arrival: Arrival, broker: Broker) -> Reply:
    """Start a task (POST /tasks); this never raises."""

    async def start(visit: _Visit) -> Outcome:
        client, case = visit.client(), visit.case
        workload_client(client.spiffe_id)
        request = StartWithKey.parse(arrival.json_body())
        task = await decide_start(request.start, client, case)
        signed = sign_svid(task, request.public_key, case)
        return Outcome(
            case.evidence.allowed(issued_task(task, broker), broker.clock()),
            Reply(201, {"task": task.id, **_identity(signed, broker)}),
            lambda: broker.tasks.start_task(signed.task, case.now),
        )

    return await _answer(START, arrival, broker, start)


async def renew_svid(task_id: str, arrival: Arrival, broker: Broker) -> Reply:
    """Issue a new X.509-SVID (POST /tasks/{task}/svid); this never raises."""

    async def renew(visit: _Visit) -> Outcome:
        task = own_running_task(task_id, visit.client(), visit.case)
        request = RenewRequest.parse(arrival.json_body())
        signed = sign_svid(task, request.public_key, visit.case)
        newest = signed.task.thumbprint or ""
        return Outcome(
            visit.case.evidence.allowed(issued_svid(signed, broker), broker.clock()),
            Reply(200, _identity(signed, broker)),
            lambda: broker.tasks.set_thumbprint(task.id, newest),
        )

    return await _answer(RENEW, arrival, broker, renew)


async def issue_jwt_svid(task_id: str, arrival: Arrival, broker: Broker) -> Reply:
    """Issue a JWT-SVID (POST /tasks/{task}/jwt-svid); this never raises."""

    async def issue(visit: _Visit) -> Outcome:
        client, case = visit.client(), visit.case
        task = own_running_task(task_id, client, case, workload_too=False)
        audience = JwtSvidRequest.parse(arrival.json_body()).audience
        if audience != broker.settings.issuer and audience not in broker.settings.audiences:
            raise refuse(Code.SERVICE_UNKNOWN, f"audience {audience!r}")
        case.evidence.service = broker.settings.audiences.get(audience)
        if client.svid is None:
            raise CertificateError("a JWT-SVID for a client that proved no key")
        ttl, end = broker.settings.jwt_svid_seconds, min(task.deadline, client.svid.not_after)
        token = broker.authority.issue_jwt_svid(client.spiffe_id, audience, case.now, ttl, end)
        issued_at, expires_at = lifetime(case.now, ttl, int(end.timestamp()))
        issued = Issued(
            kind="jwt-svid",
            subject=str(client.spiffe_id),
            expires_at=datetime.fromtimestamp(expires_at, UTC),
            audience=audience,
            token_id=token_id_of(token),
        )
        body = {
            "jwt_svid": token,
            "expires_in": expires_at - issued_at,
            "decision_id": case.evidence.decision_id,
        }
        return Outcome(case.evidence.allowed(issued, broker.clock()), Reply(200, body))

    return await _answer(JWT_SVID, arrival, broker, issue)


async def end_task(task_id: str, arrival: Arrival, broker: Broker) -> Reply:
    """End a task (DELETE /tasks/{task}); this never raises."""

    async def end(visit: _Visit) -> Outcome:
        # An agent that has expired meanwhile does not keep its tasks from ending.
        task = own_task(task_id, visit.client(), visit.case)
        return Outcome(
            visit.case.evidence.ended(broker.clock()),
            Reply(204, None),
            lambda: broker.tasks.end_task(task.id, visit.case.now),
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
    visit = _Visit(arrival, TaskCase(broker, evidence, now))

    async def decide_visit() -> Outcome:
        return await decide(visit)

    return await answer(decide_visit, evidence, broker, error_reply)


def _identity(signed: Signed, broker: Broker) -> dict[str, object]:
    """Return what a client needs to be the task: its chain, and the roots to verify others with."""
    leaf = x509.load_der_x509_certificate(signed.der).public_bytes(serialization.Encoding.PEM)
    roots = [root.public_bytes(serialization.Encoding.PEM) for root in broker.authority.roots]
    return {
        "spiffe_id": str(task_id_of(signed.task, broker)),
        "certificate_chain": leaf.decode("ascii"),
        "bundle": b"".join(roots).decode("ascii"),
        "not_after": _text(signed.not_after),
        "deadline": _text(signed.task.deadline),
    }


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
