"""What is known about a request to the broker so far, for its record.

- An endpoint fills this in as it goes, so that a refusal at any step leaves a record of all that was known.
- It is the one mutable value of the broker, and nobody decides by it.
- Until the client's certificate counts, the request is a stranger's: few and short records.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from authz.audit.entry import Entry, exchange, issuance, registry, stranger, withdrawn
from authz.audit.facts import DecisionFacts, Issued, RegistryFacts
from authz.codes import Code
from authz.decision import Deny
from identity.caller import Binding, Hop, Human, WorkloadBinding
from identity.spiffe import SpiffeId

Kind = Literal["exchange", "issuance"]


@dataclass(slots=True)
class Evidence:
    """Gathered by an endpoint, step by step."""

    kind: Kind
    method: str
    decision_id: str
    started: datetime
    source: str  # the network address or the uid, for the limits of strangers
    peer: SpiffeId | None = None
    human: Human | None = None
    chain: tuple[Hop, ...] = ()
    autonomous: bool = False
    binding: Binding | None = None
    service: str | None = None
    token_id: str | None = None
    txn: str | None = None
    jti: str | None = None
    revision: str | None = None
    origin: str | None = None  # the process instance that was attested

    @property
    def of_stranger(self) -> bool:
        """Say whether nobody was authenticated."""
        return self.peer is None

    def allowed(self, issued: Issued, now: datetime) -> Entry:
        """Record that something was issued."""
        make = exchange if self.kind == "exchange" else issuance
        return make(self._facts(None, now), issued, self.decision_id, now)

    def told(self, now: datetime) -> Entry:
        """Record that somebody was told of a token that counts; nothing was issued."""
        return exchange(self._facts(None, now), None, self.decision_id, now)

    def ended(self, now: datetime) -> Entry:
        """Record that a task was ended by its own, or by its workload."""
        facts = RegistryFacts(
            change="task-ended",
            agent=self.chain[0].agent,
            task=self.chain[0].task,
            human=self.human,
            by=str(self.peer),
            detail=self._attested(),
        )
        return registry(facts, self.decision_id, now)

    def refused(self, deny: Deny, now: datetime) -> Entry:
        """Record that nothing was issued, and why."""
        facts = self._facts(deny, now)
        if self.of_stranger:
            return stranger(facts, self.decision_id, now)
        return (exchange if self.kind == "exchange" else issuance)(facts, None, self.decision_id, now)

    def withdrawn(self, deny: Deny, record_id: str, now: datetime) -> Entry:
        """Record that what was recorded as issued was not handed out."""
        return withdrawn(self._facts(deny, now), self.decision_id, record_id, now)

    def _facts(self, deny: Deny | None, now: datetime) -> DecisionFacts:
        first = self.chain[0] if self.chain else None
        return DecisionFacts(
            # A denial is falsy, so it is compared with None.
            effect="allow" if deny is None else "deny",
            code=deny.code if deny is not None else Code.ALLOWED.value,
            codes=deny.codes if deny is not None else (),
            rule=deny.rule if deny is not None else "",
            human=self.human,
            agent=first.agent if first else None,
            task=first.task if first else None,
            autonomous=self.autonomous,
            chain=self.chain,
            peer=str(self.peer) if self.peer else self.source,
            binding=_kind_of(self.binding),
            protocol="token" if self.kind == "exchange" else "identity",
            method=self.method,
            phase="lifecycle",
            service=self.service,
            resource_type="server" if self.kind == "exchange" else "task",
            resource_name=self.service if self.kind == "exchange" else (first.task if first else None),
            policy=self.revision,
            token_id=self.token_id,
            txn=self.txn,
            txn_jti=self.jti,
            latency_us=int((now - self.started).total_seconds() * 1_000_000),
            detail="; ".join(filter(None, (deny.detail if deny is not None else "", self._attested()))),
        )

    def _attested(self) -> str:
        return f"attested {self.origin}" if self.origin else ""


def _kind_of(binding: Binding | None) -> str | None:
    if binding is None:
        return None
    return "workload" if isinstance(binding, WorkloadBinding) else "key"
