"""The record of each SVID before it is handed out, and the registry's note of a task's newest certificate.

- No record, no SVID. A task that is over gets none, also where it ended while the record was written: then a
  second record says that nothing was handed out.
- A task's newest X.509-SVID is what its delegation tokens are bound to, so the registry has it first.
- Refusals on the sockets are a stranger's: some are recorded, the rest counted, and none fills the disk.
"""

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Final

from authz.audit import entry
from authz.audit.facts import DecisionFacts, Issued
from authz.audit.strangers import Admission
from authz.broker.deps import Broker
from authz.codes import Code
from authz.errors import AuditError, StoreError
from authz.identity_service.entitlements import OneTask, running_task
from authz.identity_service.newest_certificates import NewestCertificates
from identity.caller import Hop, Human, Task
from identity.entitlement import Entitlement, Entitlements, Issuance, Peer, SvidKind
from identity.errors import IssuanceUnavailableError, NotEntitledError

_METHODS: Final[dict[SvidKind, str]] = {
    "x509-svid": "workload-api/x509-svid",
    "jwt-svid": "workload-api/jwt-svid",
    "wit-svid": "workload-api/wit-svid",
}


class AuditRecorder:
    """Writes to the audit log and the registry; see `identity.entitlement.Recorder`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._newest = NewestCertificates(broker.tasks)

    async def issued(self, issuance: Issuance) -> None:
        """Record an issuance before it happens; for a task, note the certificate as its newest.

        Raises:
            IssuanceUnavailableError: if it cannot be recorded; nothing is issued then.
            NotEntitledError: if the task is over.
        """
        broker, now = self._broker, self._broker.clock()
        kind, entitlement, thumbprint = issuance.kind, issuance.entitlement, issuance.thumbprint
        task = self._task(entitlement)
        facts, decision_id = _facts(kind, entitlement, task), broker.new_id(now)
        issued = Issued(
            kind=kind,
            subject=str(entitlement.spiffe_id),
            expires_at=issuance.expires_at,
            audience=issuance.audience,
            token_id=issuance.token_id,
        )
        try:
            await broker.sink.append(entry.issuance(facts, issued, decision_id, now))
        except AuditError as error:
            raise IssuanceUnavailableError("an SVID cannot be recorded, so it is not issued") from error
        if task is None:
            return
        try:
            if kind == "x509-svid" and thumbprint is not None:
                await self._newest.note(task.id, thumbprint)
            self._task(entitlement)
        except (StoreError, NotEntitledError) as error:
            await self._withdraw(facts, decision_id, error)
            if isinstance(error, NotEntitledError):
                raise
            self._task(entitlement)
            raise IssuanceUnavailableError(
                "a task's certificate cannot be noted, so it is not issued"
            ) from error

    def _task(self, entitlement: Entitlement) -> Task | None:
        if entitlement.task is None:
            return None
        task = running_task(entitlement.task, self._broker)
        if task is None:
            raise NotEntitledError(f"a task that is over: {entitlement.task!r}")
        return task

    async def _withdraw(self, facts: DecisionFacts, decision_id: str, error: Exception) -> None:
        now = self._broker.clock()
        code = Code.TASK_ENDED if isinstance(error, NotEntitledError) else Code.INTERNAL
        denied = replace(facts, effect="deny", code=code.value, detail=str(error))
        try:
            await self._broker.sink.append(
                entry.withdrawn(denied, decision_id, self._broker.new_id(now), now)
            )
        except AuditError as failed:
            raise IssuanceUnavailableError("an SVID that was not issued cannot be recorded") from failed


class WatchedEntitlements:
    """The entitlements of one socket; a process that has none there leaves a record, or is counted."""

    def __init__(self, entitlements: Entitlements, broker: Broker) -> None:
        self._entitlements = entitlements
        self._broker = broker
        self._recording: set[asyncio.Task[None]] = set()

    def of(self, peer: Peer) -> tuple[Entitlement, ...]:
        """Return the identities of a caller."""
        entitled = self._entitlements.of(peer)
        if not entitled and not _was_entitled(self._entitlements, peer):
            self._refused(f"uid:{peer.uid}", f"no identity on this socket: pid {peer.pid}, gid {peer.gid}")
        return entitled

    def _refused(self, peer: str, why: str) -> None:
        broker, now = self._broker, self._broker.clock()
        if broker.strangers.admit(peer, now) is not Admission.RECORD:
            return
        facts = DecisionFacts(
            effect="deny", code=Code.PEER_MISSING.value, peer=peer, method="workload-api", detail=why
        )
        # The answer is a refusal whether or not it can be recorded, so it need not wait for the disk.
        recording = asyncio.get_running_loop().create_task(self._record(facts, peer, now))
        self._recording.add(recording)
        recording.add_done_callback(self._recording.discard)

    async def _record(self, facts: DecisionFacts, peer: str, now: datetime) -> None:
        try:
            await self._broker.sink.append(entry.stranger(facts, self._broker.new_id(now), now))
        except AuditError:
            self._broker.strangers.count(peer, now)


def _was_entitled(entitlements: Entitlements, peer: Peer) -> bool:
    """Say whether this is no stranger, but the process of a task that is over."""
    return isinstance(entitlements, OneTask) and entitlements.uid == peer.uid


def _facts(kind: SvidKind, entitlement: Entitlement, task: Task | None) -> DecisionFacts:
    facts = DecisionFacts(
        effect="allow",
        code=Code.ALLOWED.value,
        peer=str(task.workload if task else entitlement.spiffe_id),
        protocol="identity",
        method=_METHODS[kind],
        phase="lifecycle",
        resource_type="svid",
        resource_name=str(entitlement.spiffe_id),
    )
    if task is None:
        return facts
    return replace(
        facts,
        human=Human.parse_uri(task.human) if task.human else None,
        agent=task.agent,
        task=task.id,
        autonomous=task.human is None,
        chain=(Hop(task.agent, task.id),),
        detail=f"attested {task.origin}" if task.origin else "",
    )
