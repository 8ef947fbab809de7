"""Who stands at the door of a socket: which workload, and which instance of it.

- The kernel says which process called, and the socket's entitlements which workload that is. It must be one:
  a task is started by somebody, not by one of several.
- A pod may bring its ServiceAccount token instead, where the cluster is configured. Then the pod is the
  instance, and a pod that takes its place is another one. A token that does not count is a refusal; the uid
  is not asked for instead.
- The cluster answers so many questions at a time, and those of one user are at most a quarter of them: who
  asks with tokens of their own making keeps no pod of another user from being seen.
- Until that is known, a refusal is that of a stranger with a uid.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from grpclib.server import Stream

from authz.broker.client import Attested
from authz.broker.refusal import RefusedError, refuse
from authz.broker.task_decision import TaskCase
from authz.codes import Code
from authz.identity_service.entitlements import one_workload
from identity.entitlement import Entitlements, Peer
from identity.errors import AttestationError, IssuanceUnavailableError
from identity.kubernetes import MAX_AT_ONCE, MAX_WAITING
from identity.pod_identity import PodIdentity
from identity.socket_server import peer_of
from identity.spiffe import TrustDomain

_AUTHORIZATION: Final = "authorization"
_BEARER: Final = "bearer "
_PODS_OF_A_USER: Final = (MAX_AT_ONCE + MAX_WAITING) // 4


class Pods(Protocol):
    """Says which pod holds a ServiceAccount token."""

    async def attest(self, token: str) -> PodIdentity:
        """Ask the cluster.

        Raises:
            AttestationError: if it does not say so for sure.
            IssuanceUnavailableError: if it cannot be asked now.
        """


@dataclass(frozen=True, slots=True)
class Arrived:
    """A caller, and the process that called."""

    client: Attested
    peer: Peer


@dataclass(frozen=True, slots=True)
class Doorway:
    """What tells the callers of one socket apart; `mesh` is the trust domain of pods' identities."""

    entitlements: Entitlements
    mesh: TrustDomain
    pods: Pods | None = None
    peer_of: Callable[[Stream[Any, Any]], Peer] = peer_of
    _asking: Counter[int] = field(default_factory=Counter, init=False, repr=False)

    async def arrive(self, stream: Stream[Any, Any], case: TaskCase) -> Arrived:
        """Say who calls.

        Raises:
            RefusedError: with PEER_MISSING, if that cannot be said for sure.
        """
        try:
            peer = self.peer_of(stream)
            case.evidence.source = f"uid:{peer.uid}"
            tokens = stream.metadata.getall(_AUTHORIZATION, []) if stream.metadata is not None else []
            client = await self._pod(tokens, peer.uid) if tokens else self._process(peer)
        except AttestationError as error:
            raise _unsure(str(error)) from error
        except IssuanceUnavailableError as error:
            text = "the cluster cannot be asked whose token this is: try again later"
            raise refuse(Code.PROVIDER_UNAVAILABLE, str(error), description=text) from error
        return Arrived(case.asked_by(client), peer)

    def _process(self, peer: Peer) -> Attested:
        return Attested(one_workload(self.entitlements.of(peer)), origin=f"uid:{peer.uid}")

    async def _pod(self, tokens: list[Any], uid: int) -> Attested:
        if self.pods is None:
            raise AttestationError("a ServiceAccount token, where identity.kubernetes is not configured")
        token = tokens[0]
        if len(tokens) > 1 or not isinstance(token, str) or not token.lower().startswith(_BEARER):
            raise AttestationError("authorization is not one Bearer token")
        if self._asking[uid] >= _PODS_OF_A_USER:
            raise IssuanceUnavailableError(f"too many tokens of uid {uid} are asked about at a time")
        self._asking[uid] += 1
        try:
            pod = await self.pods.attest(token[len(_BEARER) :])
        finally:
            self._asking[uid] -= 1
            if not self._asking[uid]:
                del self._asking[uid]
        return Attested(pod.workload(self.mesh), origin=f"pod:{pod.pod_uid}")


def _unsure(detail: str) -> RefusedError:
    text = "who calls cannot be said for sure, so nothing is issued"
    return refuse(Code.PEER_MISSING, detail, description=text)
