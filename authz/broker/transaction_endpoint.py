"""A transaction token, asked for before the call that it is for (CL-02, CL-04).

- An agent asks with the delegation token that it would present at `Check`, bound to it as there: it shows the
  key, or its workload, and not only a JWT-SVID, which is a bearer's. A service
  asks with the transaction token that it got, and is given one for the next call in its place: same `txn`,
  person and chain, the scopes narrower, never of one that has expired, and with who asked before in it.
- The question to the policy is that of `Check`, and so is everything that the token is issued against: no
  token comes of a rule that the call would not meet.
- Its audience is the trust domain; the service in it must be one that we protect.
- A service logs in with its certificate; a task is no service.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from authz.audit.facts import Issued
from authz.authenticate import caller_of, check_workload
from authz.broker.arrival import Arrival
from authz.broker.client import TaskClient, authenticate, check_client_id, workload_client
from authz.broker.deps import Broker
from authz.broker.evidence import Evidence
from authz.broker.form import Form
from authz.broker.login import still_logged_in
from authz.broker.parties import check_bound, is_proved, verify_subject
from authz.broker.refusal import RefusedError, malformed, oauth_error, refuse, refused_client
from authz.broker.reply import Outcome, Reply
from authz.broker.token_request import TXN_TOKEN
from authz.broker.transaction_request import TransactionRequest, UnverifiedCall
from authz.check import check_details
from authz.codes import Code
from authz.decision import Deny, decide
from authz.payload.call import classes_in_call
from authz.policy.query import check_query
from authz.protocols.mcp_target import tool
from authz.protocols.operation import Operation
from authz.protocols.route import Route
from authz.services import Service
from identity.authorization_details import refine
from identity.caller import Caller, WorkloadBinding
from identity.dpop import DpopProof
from identity.errors import ExchangeError, TokenAudienceError
from identity.jws import UnverifiedToken, token_id_of
from identity.scopes import format_scopes
from identity.spiffe import SpiffeId
from identity.transaction import TOOL_CALL, verify_passed_on


@dataclass(frozen=True, slots=True)
class Asked:
    """A transaction token that a client who logged in asks for; a service is its SPIFFE ID."""

    request: TransactionRequest
    client: TaskClient | SpiffeId
    proof: DpopProof | None = None


def ask_replacement(arrival: Arrival, form: Form, evidence: Evidence, broker: Broker, now: datetime) -> Asked:
    """Log a service in, then read what it asks for.

    Raises:
        RefusedError: if it is no workload, or the form is malformed.
    """
    try:
        svid = authenticate(arrival.chain, broker, now)
        evidence.peer = svid.spiffe_id
        client = workload_client(svid.spiffe_id)
    except Exception as error:
        raise refused_client(error) from error
    if arrival.proofs or "client_assertion" in form:
        raise malformed("a service logs in with its certificate, and with nothing else")
    return Asked(read(form), client)


def read(form: Form) -> TransactionRequest:
    """Read what is asked for.

    Raises:
        RefusedError: if the form is malformed.
    """
    try:
        return TransactionRequest.parse(form)
    except ExchangeError as error:
        raise malformed(error.description, oauth_error(error.error)) from error


async def decide_transaction(asked: Asked, evidence: Evidence, broker: Broker) -> Outcome:
    """Decide whether the call may be made, and issue the token for it.

    Raises:
        RefusedError, CodedError, TokenError or ExchangeError: if nothing is issued.
    """
    now, min_epoch, request = broker.clock(), broker.tasks.epoch, asked.request
    # 1. The client, the audience and the service, before any token is looked at.
    check_client_id(request.client_id, asked.client)
    if request.audience != broker.trust_domain.name:
        raise refuse(Code.SERVICE_UNKNOWN, f"audience {request.audience[:255]!r} is not the trust domain")
    service = broker.services.by_name.get(request.unverified_call.service)
    if service is None or service.route.protocol != "mcp":
        raise refuse(Code.SERVICE_UNKNOWN, f"service {request.unverified_call.service[:255]!r}")
    evidence.service = service.name
    # 2. Who stands behind the call, with no more than was asked for.
    caller = _narrowed(_caller(asked, service, evidence, broker, now), asked)
    # 3. The call, as `Check` decides it.
    operation = _operation(request.unverified_call, service)
    check_details(caller, operation, service)
    wanted = broker.policy.payload_classes(service.name)
    payload = classes_in_call(operation, None, wanted)
    verdict = await broker.policy.decide(check_query(caller, operation, None, service.name, payload=payload))
    evidence.revision = verdict.revision
    decision = decide(
        verdict, caller, operation, service=service.name, decision_id=evidence.decision_id, now=now
    )
    if isinstance(decision, Deny):
        raise RefusedError(decision)
    # 4. The token.
    issued = broker.transactions.issue(
        decision.grant, caller, now, broker.entropy, min_epoch=min_epoch if service.workloads else None
    )
    evidence.jti = issued.jti
    record = Issued(
        kind="transaction-token",
        subject=caller.human.uri if caller.human else caller.task.id,
        expires_at=datetime.fromtimestamp(issued.expires_at, UTC),
        audience=broker.trust_domain.name,
        token_id=token_id_of(issued.token),
        scopes=caller.scopes,
    )
    body = {
        "access_token": issued.token,
        "issued_token_type": TXN_TOKEN,
        "token_type": "N_A",
        "expires_in": issued.expires_at - issued.issued_at,
        "scope": format_scopes(caller.scopes),
        "decision_id": evidence.decision_id,
    }
    return Outcome(evidence.allowed(record, broker.clock()), Reply(200, body))


def _caller(asked: Asked, service: Service, evidence: Evidence, broker: Broker, now: datetime) -> Caller:
    """Return who stands behind the subject token, bound to the client."""
    subject = UnverifiedToken.parse(asked.request.unverified_subject)
    if isinstance(asked.client, SpiffeId):
        return _passed_on(subject, asked.client, evidence, broker, now)
    try:
        client = still_logged_in(asked.client, broker, now)
    except Exception as error:
        raise refused_client(error) from error
    token = verify_subject(subject, broker, now)
    evidence.human, evidence.token_id, evidence.txn = token.human, token.token_id, token.txn
    if token.audience != service.audience:
        raise TokenAudienceError("a delegation token for another service than the call is for")
    check_bound(token, client, asked.proof)
    if not is_proved(token.binding, client):
        # At `Check` the same token would not count, and what comes out of here is bound to nobody.
        raise refuse(Code.NOT_BOUND, "a call is made by whoever proves what its token is bound to")
    evidence.binding = token.binding
    # As at `Check`: who is bound by a workload comes as that workload.
    if isinstance(token.binding, WorkloadBinding):
        caller = caller_of(token, token.binding.workload, "workload", broker.tasks, now)
    else:
        caller = caller_of(token, client.spiffe_id, "key", broker.tasks, now)
    evidence.chain = caller.chain
    return replace(caller, expires_at=min(caller.expires_at, int(client.not_after.timestamp())))


def _passed_on(
    subject: UnverifiedToken, client: SpiffeId, evidence: Evidence, broker: Broker, now: datetime
) -> Caller:
    token = verify_passed_on(
        subject,
        broker.authority.token_keys,
        issuer=broker.settings.issuer,
        trust_domain=broker.trust_domain,
        now=now,
        leeway=broker.settings.leeway,
    )
    evidence.human, evidence.token_id, evidence.txn = token.human, token.token_id, token.txn
    evidence.chain, evidence.autonomous = token.chain, token.human is None
    check_workload(token, client, broker.services)
    evidence.binding = WorkloadBinding(client)
    return caller_of(token, client, "workload", broker.tasks, now)


def _narrowed(caller: Caller, asked: Asked) -> Caller:
    """Return the caller with no more than was asked for (NR-01, NR-04)."""
    wanted = asked.request.scopes
    if wanted is None and caller.scopes:
        raise malformed("scope is missing")
    scopes = caller.scopes & (wanted or frozenset())
    if caller.scopes and not scopes:
        raise refuse(Code.SCOPE_MISSING, "none of the scopes is held", oauth="invalid_scope")
    return replace(caller, scopes=scopes, details=refine(caller.details, asked.request.details))


def _operation(call: UnverifiedCall, service: Service) -> Operation:
    """Return the call as the protocol's reader would, with the tool's name as the policy knows it."""
    params = {"name": call.tool} | ({} if call.arguments is None else {"arguments": call.arguments})
    target = tool(params, Route(service.name, "mcp"))
    return Operation(
        protocol="mcp",
        method=TOOL_CALL,
        phase=target.phase,
        resource_type=target.resource_type,
        resource_name=target.name,
        arguments=target.arguments,
        arguments_sha256=target.arguments_sha256,
        canonical_arguments=target.canonical_arguments,
    )
