"""The one flow: the bytes of a CheckRequest in, the bytes of a CheckResponse out.

- It always answers: an error is a denial whose code says that we cannot know. What it cannot begin without
  (the clock, randomness) is for the host to guard.
- The credential is read before the body: a stranger costs a token check and no parsing, and a malformed body
  is recorded with both principals.
- No record, no answer but a denial. No grant, no transaction token; where one serves several calls, each has
  its decision and its record. For a service outside none is made.
- A proxy that was contained gets no answer but a denial, whoever it says is calling.
- A proof of possession is counted once, when the token that it came with is bound; what a caller's details do
  not cover is refused before the policy is asked.
- The epoch is read before anything else and again after the record is written, and so is whom we trust: if
  rights were withdrawn or keys changed in between, this caller's are looked at again, and if they are not
  what they were, a second record says so and the answer is a denial. A revocation wins every race, and
  denies nobody else.
- What the policy does not deny is denied all the same in a session that somebody else opened, and for a tool
  that is not what was accepted. Who may not do it learns neither, and binds nothing.
- What waits for a person passes with their approval of this very call, which is used once: last of all
  before the record, so that nothing else is in doubt when it is.
- A replica, which follows what another process writes, decides by nothing that it read too long ago: it
  reads again, before and after, or says that it cannot know (STALE). What a token, or a run that began a
  moment ago, presupposes is read first.
- Time, randomness, keys, policy and log are arguments; hosts only move bytes.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, assert_never

from authz.answers.passage import Passage
from authz.approvals.key import Asked
from authz.approvals.port import Approvals
from authz.approvals.prompt import Prompt
from authz.audit import entry
from authz.audit.arguments import hmac_arguments
from authz.audit.strangers import Admission
from authz.authenticate import (
    Credential,
    Trust,
    bind,
    bind_with_proof,
    check_standing,
    code_of,
    verify,
)
from authz.codes import Code
from authz.decision import Allow, Decision, Deny, awaited, decide, denied, refused
from authz.denials.speech import speech_of
from authz.dpop import call_of
from authz.epochs import require_epoch
from authz.errors import AuditError, AuthenticationError, CodedError, InspectionError, StoreError
from authz.evidence import Evidence
from authz.flow import Flow
from authz.payload.call import classes_in_call
from authz.policy.query import check_query
from authz.protected_resource import find_document, metadata_uri, scopes_of
from authz.protocols.inspect import inspect
from authz.protocols.operation import Operation
from authz.request import Request
from authz.response import allow_response, deny_response, metadata_response, outside_response
from authz.services import Service
from authz.sessions.seen import owner_of, sessions_of
from identity.authorization_details import covers
from identity.caller import Caller
from identity.delegation import DelegationToken
from identity.dpop import DpopProof
from identity.errors import TokenError
from identity.spiffe import SpiffeId
from identity.transaction import TOOL_CALL, IssuedTransaction, TransactionToken
from identity.withdrawal import Standing

# What a replica may not have read yet, when a call arrives that is about it.
_NOT_KNOWN_YET: Final = frozenset({Code.TASK_UNKNOWN, Code.AGENT_UNKNOWN})


async def check(data: bytes, asker: SpiffeId | None, flow: Flow) -> bytes:
    """Decide one request; `asker` is the proxy that asks, None on a Unix socket."""
    now = flow.clock()
    epoch = flow.rights.epoch
    evidence = Evidence(flow.new_id(now), now, asker)
    try:
        opened = await _open(data, evidence, flow)
        document = find_document(opened.request, opened.service, opened.trust.issuer)
        if document is not None:
            return metadata_response(document)
        decision = await _decide(opened, evidence, flow)
    except CodedError as error:
        evidence.rpc_id = error.rpc_id if isinstance(error, InspectionError) else None
        decision = refused(error, flow.policy.revision)
    except StoreError as error:
        decision = denied(Code.STALE, str(error), flow.policy.revision)
    except Exception as error:  # noqa: BLE001 - whatever it is, Envoy must get a denial and the log a record
        decision = denied(Code.INTERNAL, f"{type(error).__name__} in the flow", flow.policy.revision)
    match decision:
        case Allow():
            return await _answer_allow(decision, epoch, evidence, flow)
        case Deny():
            return await _answer_deny(decision, evidence, flow)
        case _:
            assert_never(decision)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A request whose target is known, and whom to trust about it."""

    request: Request
    service: Service
    trust: Trust


async def _open(data: bytes, evidence: Evidence, flow: Flow) -> _Opened:
    if flow.following is not None:
        await flow.following.refresh()
    _check_asker(evidence.asker, flow)
    asker = flow.services.asker(evidence.asker)
    request = evidence.request = Request.parse(data)
    service = evidence.service = flow.services.target(request, asker)
    trust = evidence.trust = flow.trust()
    return _Opened(request, service, trust)


async def _decide(opened: _Opened, evidence: Evidence, flow: Flow) -> Decision:
    now = evidence.started
    request, service, trust = opened.request, opened.service, opened.trust
    flow.known.see(trust, flow.rights.epoch)
    credential = evidence.credential = verify(request, service, trust, now, flow.known)
    await _reach(credential, flow)
    caller, proof = await _bind(credential, request, trust, now, flow)
    if proof is not None:
        await flow.spend(
            proof, presenter=f"agent {caller.agent.name}", now=now, call=call_of(request, evidence.asker)
        )
    evidence.caller = caller
    operation = evidence.operation = inspect(request, service.route)
    if operation.arguments is not None and operation.canonical_arguments is not None:
        evidence.args_hmac = hmac_arguments(flow.arguments_key, operation.canonical_arguments)
    check_details(caller, operation, service)
    session_ids = sessions_of(request, operation)
    wanted = flow.policy.payload_classes(service.name)
    payload = evidence.payload = classes_in_call(operation, request, wanted)
    verdict = await flow.policy.decide(check_query(caller, operation, request, service.name, payload=payload))
    # Who may not do it binds nothing: else they could take the ids that a server will give to others.
    if verdict.effect != "deny" and flow.sessions is not None:
        for session_id in session_ids:
            await flow.sessions.bind(service.name, session_id, owner_of(caller), now)
    if verdict.effect != "deny" and flow.pins is not None and operation.method == TOOL_CALL:
        await flow.pins.require(service.name, operation.resource_name, service.pins)
    if verdict.effect == "approve" and flow.approvals is not None:
        asked = Asked.of(caller, operation, request, service=service.name, revision=verdict.revision)
        prompt = await _approve(asked, flow.approvals, evidence, flow)
        if prompt is not None:
            return awaited(verdict, prompt)
    decision = decide(
        verdict,
        caller,
        operation,
        service=service.name,
        decision_id=evidence.decision_id,
        now=now,
        approval=evidence.spent,
    )
    if isinstance(decision, Allow) and not service.is_outside:
        if flow.signed_names is not None:
            evidence.signed_names = await flow.signed_names.header(
                caller, operation, service, evidence.decision_id, now
            )
        evidence.issued = _issue(decision, caller, service, flow)
    return decision


async def _approve(asked: Asked, approvals: Approvals, evidence: Evidence, flow: Flow) -> Prompt | None:
    """Use a person's approval of this very call; where there is none, ask for it.

    Raises:
        ApprovalError: if it was denied, or cannot be known or asked for.
        AuthenticationError: with CONTAINED or REVOKED, if that of who approved counts no more.
    """
    now = flow.clock()
    call = call_of(evidence.request, evidence.asker) if evidence.request is not None else ""
    evidence.spent = await approvals.spend(asked.key, now, call)
    if evidence.spent is None:
        return await approvals.request(asked, now)
    check_standing(evidence.spent.standing, flow.rights)
    return None


def _check_asker(asker: SpiffeId | None, flow: Flow) -> None:
    """Refuse a contained proxy, which could say that anybody called.

    Raises:
        AuthenticationError: with CONTAINED.
    """
    if asker is not None:
        check_standing(Standing(workloads=(str(asker),)), flow.rights)


def check_details(caller: Caller, operation: Operation, service: Service) -> None:
    """Refuse a call that the authorization details of the token do not cover (RFC 9396).

    Raises:
        AuthenticationError: with DETAILS.
    """
    if caller.details is None or operation.phase != "call":
        return
    arguments = operation.arguments or {}
    is_tool = operation.method == TOOL_CALL
    if not is_tool or not covers(caller.details, service.audience, operation.resource_name, arguments):
        raise AuthenticationError(Code.DETAILS, f"{operation.method} {operation.resource_name[:128]!r}")


async def _reach(credential: Credential, flow: Flow) -> None:
    """Know what whoever issued the credential knew."""
    if not isinstance(credential, DelegationToken | TransactionToken):
        return
    min_epoch = credential.min_epoch or 0
    if flow.following is None:
        require_epoch(min_epoch, flow.rights.epoch)
    elif min_epoch > flow.rights.epoch:
        await flow.following.reach(min_epoch)


async def _bind(
    credential: Credential, request: Request, trust: Trust, now: datetime, flow: Flow
) -> tuple[Caller, DpopProof | None]:
    try:
        return bind_with_proof(credential, request, flow.rights, trust, now, flow.services)
    except AuthenticationError as error:
        # What another process wrote a moment ago is there, but not known here yet.
        if flow.following is None or error.code not in _NOT_KNOWN_YET:
            raise
        await flow.following.learn()
    return bind_with_proof(credential, request, flow.rights, trust, now, flow.services)


def _issue(allow: Allow, caller: Caller, service: Service, flow: Flow) -> IssuedTransaction:
    """Issue what stands for the caller upstream, or take what was issued for the same a moment ago."""
    now, epoch = flow.clock(), flow.rights.epoch
    min_epoch = epoch if service.workloads else None
    try:
        is_for_several = service.txn == "per_tool" and allow.grant.approval is None
        if not is_for_several or allow.grant.action != TOOL_CALL:
            return flow.transactions.issue(allow.grant, caller, now, flow.entropy, min_epoch=min_epoch)
        flow.reused.see(flow.trust(), epoch)
        issued = flow.reused.find(allow.grant, caller, allow.revision, now)
        if issued is None:
            issued = flow.transactions.issue(
                allow.grant, caller, now, flow.entropy, min_epoch=min_epoch, per_tool=True
            )
            flow.reused.keep(allow.grant, caller, allow.revision, issued)
    except TokenError as error:
        # A credential that passed only by the clock's leeway has no time left to lend.
        raise AuthenticationError(code_of(error), str(error)) from error
    return issued


async def _answer_allow(allow: Allow, epoch: int, evidence: Evidence, flow: Flow) -> bytes:
    try:
        request, service, issued = evidence.request, evidence.service, evidence.issued
        if request is None or service is None or (issued is None) != service.is_outside:
            raise ValueError("an allow without a transaction token, or one for somebody outside")
        now = flow.clock()
        facts = evidence.facts(allow, now, issued.jti if issued is not None else None)
        await flow.sink.append(entry.decision(facts, evidence.decision_id, now))
        moved = await _moved(epoch, evidence, flow)
        if moved is not None:
            await flow.sink.append(entry.withdrawn(facts, evidence.decision_id, flow.new_id(now), now))
            return _denial(denied(moved), evidence)
        names, passage = request.headers.names(), _passage(allow, evidence, service)
        if issued is None:
            return outside_response(allow, names, passage)
        return allow_response(allow, issued.token, names, passage, evidence.signed_names)
    except AuditError as error:
        return _denial(refused(error), evidence)
    except Exception:  # noqa: BLE001 - as in `check`
        return _denial(denied(Code.INTERNAL), evidence)


def _passage(allow: Allow, evidence: Evidence, service: Service) -> Passage | None:
    """Say whose call the answer is to, where somebody reads it."""
    caller, operation = evidence.caller, evidence.operation
    if not service.is_guarded or caller is None or operation is None:
        return None
    return Passage.of(caller, operation, service=service, decision_id=allow.grant.decision_id)


async def _moved(epoch: int, evidence: Evidence, flow: Flow) -> Code | None:
    """Say why an allow counts no more: rights were withdrawn, or whether they were cannot be known."""
    try:
        if flow.following is not None:
            await flow.following.refresh()
    except StoreError:
        return Code.STALE
    # Nothing waits between this look and the answer.
    is_moved = flow.rights.epoch != epoch or flow.trust() is not evidence.trust
    return Code.WITHDRAWN if is_moved and not _still_stands(evidence, flow) else None


def _still_stands(evidence: Evidence, flow: Flow) -> bool:
    request, service, caller = evidence.request, evidence.service, evidence.caller
    if request is None or service is None or caller is None:
        return False
    trust, now = flow.trust(), flow.clock()
    try:
        _check_asker(evidence.asker, flow)
        if evidence.spent is not None:
            check_standing(evidence.spent.standing, flow.rights)
        again = bind(verify(request, service, trust, now), request, flow.rights, trust, now, flow.services)
    except CodedError:
        return False
    return again.chain_agents == caller.chain_agents


async def _answer_deny(deny: Deny, evidence: Evidence, flow: Flow) -> bytes:
    try:
        await _record_denial(deny, evidence, flow)
    except AuditError as error:
        deny = refused(error)
    except Exception:  # noqa: BLE001 - as in `check`
        deny = denied(Code.INTERNAL)
    return _denial(deny, evidence)


def _denial(deny: Deny, evidence: Evidence) -> bytes:
    """Answer in the words of the one who asked, in the form that the service chose."""
    request, service, trust = evidence.request, evidence.service, evidence.trust
    if request is None or service is None:
        return deny_response(deny, evidence.decision_id, evidence.operation, evidence.rpc_id)
    return deny_response(
        deny,
        evidence.decision_id,
        evidence.operation,
        evidence.rpc_id,
        speech=speech_of(service.route.protocol, request, evidence.operation),
        denials=service.denials,
        resource_metadata=metadata_uri(trust.issuer, service.audience) if trust is not None else "",
        scopes=scopes_of(service.name),
    )


async def _record_denial(deny: Deny, evidence: Evidence, flow: Flow) -> None:
    """Record a denial; strangers get few and short records, so that nobody can fill the disk."""
    now = flow.clock()
    facts = evidence.facts(deny, now, None)
    if not evidence.of_stranger:
        await flow.sink.append(entry.decision(facts, evidence.decision_id, now))
        return
    # A budget of its own, so that a thief does not hide the theft behind refusals that say nothing.
    is_theft = evidence.credential is not None
    peer = f"unbound {evidence.peer}" if is_theft else evidence.peer
    if flow.strangers.admit(peer, now) is Admission.RECORD:
        make = entry.unbound if is_theft else entry.stranger
        await flow.sink.append(make(facts, evidence.decision_id, now))
