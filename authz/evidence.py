"""What is known about a call so far, for its record.

- The flow fills this in as it goes, so that a refusal at any step leaves a record of all that was known.
- It is the one mutable value of the flow, and nobody decides by it.
- Agents are named as they would be registered: those of other trust domains with their domain.
- A verified credential that is not bound to its presenter still names its owner: theft leaves both names.
"""

from dataclasses import dataclass, field
from datetime import datetime

from authz.approvals.approval import Spent
from authz.audit.facts import DecisionFacts
from authz.authenticate import Credential, Trust
from authz.decision import Allow, Decision, Deny
from authz.protocols.operation import Operation
from authz.request import Request
from authz.services import Service
from identity.caller import Caller, Hop, Human
from identity.delegation import DelegationToken
from identity.jwt_svid import JwtSvid
from identity.qualified_name import hop_of
from identity.spiffe import SpiffeId
from identity.transaction import IssuedTransaction, TransactionToken


@dataclass(slots=True)
class Evidence:
    """Gathered by `check`, step by step."""

    decision_id: str
    started: datetime
    asker: SpiffeId | None
    request: Request | None = None
    service: Service | None = None
    trust: Trust | None = None
    credential: Credential | None = None
    caller: Caller | None = None
    operation: Operation | None = None
    rpc_id: str | int | None = None
    args_hmac: str | None = None
    payload: tuple[str, ...] = ()
    spent: Spent | None = None
    issued: IssuedTransaction | None = None
    signed_names: str | None = field(default=None, repr=False)

    @property
    def of_stranger(self) -> bool:
        """Say whether nobody was authenticated."""
        return self.caller is None

    @property
    def peer(self) -> str:
        """Name the peer for limits: its identity, or the proxy that speaks for it."""
        if self.request is not None and self.request.peer is not None:
            return str(self.request.peer)
        return f"via {self.asker}" if self.asker else "unknown"

    def facts(self, decision: Decision, now: datetime, txn_jti: str | None) -> DecisionFacts:
        """Return all that is known, as the record takes it."""
        human, chain = self._principals()
        request, operation, caller = self.request, self.operation, self.caller
        return DecisionFacts(
            effect="allow" if decision else "deny",
            code=decision.code,
            codes=decision.codes if isinstance(decision, Deny) else (),
            rule=decision.rule if isinstance(decision, Deny) else "",
            human=human,
            agent=chain[0].agent if chain else None,
            task=chain[0].task if chain else None,
            autonomous=caller is not None and caller.human is None,
            chain=chain,
            peer=str(request.peer) if request and request.peer else None,
            asker=str(self.asker) if self.asker else None,
            binding=caller.binding if caller else None,
            protocol=operation.protocol if operation else None,
            method=operation.method if operation else None,
            phase=operation.phase if operation else None,
            service=self.service.name if self.service else None,
            resource_type=operation.resource_type if operation else None,
            resource_name=operation.resource_name if operation else None,
            args_hmac=self.args_hmac,
            payload=self.payload,
            approval=self._approval(decision),
            policy=decision.revision or None,
            token_id=self.credential.token_id if self.credential else None,
            txn=caller.txn if caller else None,
            txn_jti=txn_jti if isinstance(decision, Allow) else None,
            request_id=request.http_id if request else None,
            latency_us=int((now - self.started).total_seconds() * 1_000_000),
            detail=decision.detail if isinstance(decision, Deny) else "",
        )

    def _approval(self, decision: Decision) -> str | None:
        """Name the approval that was used, whatever came of it; else the one that is asked for."""
        if self.spent is not None:
            return self.spent.id
        return decision.approval.id if isinstance(decision, Deny) and decision.approval else None

    def _principals(self) -> tuple[Human | None, tuple[Hop, ...]]:
        if self.caller is not None:
            return self.caller.human, self.caller.chain
        match self.credential:
            case DelegationToken() | TransactionToken() as token:
                return token.human, token.chain
            case JwtSvid() as svid if self.trust is not None:
                hop = hop_of(svid.spiffe_id, self.trust.trust_domain)
                return None, (hop,) if hop else ()
            case _:
                return None, ()
