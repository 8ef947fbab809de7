"""What the callers of each socket may have.

- The shared socket knows processes by what the operator registered. A workload's process gets that workload's
  own SVID, never one of the tasks that it runs, however many those are.
- A workload's own socket gives that workload's SVID and nothing else; who reaches it was decided by whoever
  placed it there (SPIFFE Workload Endpoint section 5).
- A task's private socket gives that task's SVID and nothing else, to one uid. Its random path protects pods
  that share a uid from each other, but not users of one system, which lists the paths of its sockets to
  everybody (/proc/net/unix).
- A uid of an agent gets the one live task that was started for it.
- A workload that is contained has nothing, until it is released.
- A task is looked up at each use. One that is over, whose agent has expired or was retired, or whose workload
  may not host it any more, gives nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

from authz.broker.client import running
from authz.broker.deps import Broker
from authz.broker.refusal import refuse
from authz.codes import Code
from authz.errors import AuthenticationError
from authz.identity_service.agent_uids import AgentUids
from identity.caller import Hop, Task
from identity.entitlement import Entitlement, Peer
from identity.registration import Registration, Registrations
from identity.spiffe import SpiffeId, agent_task_id
from identity.withdrawal import Withdrawals


@dataclass(frozen=True, slots=True)
class RegisteredEntitlements:
    """The shared socket: registered workloads, and uids of agents with their one task."""

    registrations: Registrations
    agent_uids: AgentUids
    broker: Broker

    def of(self, peer: Peer) -> tuple[Entitlement, ...]:
        """Return what a process is registered for, the default first."""
        if peer.uid in self.registrations.agents:
            return _of_task(self.agent_uids.task_of(peer.uid), self.broker)
        found, withdrawals = self.registrations.of_peer(peer), self.broker.tasks.withdrawals
        return tuple(_entitlement(each) for each in found if not is_contained(each.spiffe_id, withdrawals))


@dataclass(frozen=True, slots=True)
class OneWorkload:
    """A socket of one workload; what selectors it has besides are asked for, too."""

    registration: Registration
    withdrawals: Callable[[], Withdrawals]

    def of(self, peer: Peer) -> tuple[Entitlement, ...]:
        """Return the workload's identity."""
        if not self.registration.matches(peer) or is_contained(
            self.registration.spiffe_id, self.withdrawals()
        ):
            return ()
        return (_entitlement(self.registration),)


@dataclass(frozen=True, slots=True)
class OneTask:
    """The private socket of one task, for one uid."""

    task_id: str
    uid: int
    broker: Broker

    def of(self, peer: Peer) -> tuple[Entitlement, ...]:
        """Return the task's identity, while there is one."""
        return _of_task(self.task_id, self.broker) if peer.uid == self.uid else ()


def running_task(task_id: str, broker: Broker) -> Task | None:
    """Return a task that may act now."""
    known = broker.tasks.task(task_id)
    if known is None:
        return None
    try:
        return running(Hop(known.agent, known.id), broker.tasks, broker.clock()).task
    except AuthenticationError:
        return None


def is_over(task_id: str, broker: Broker) -> bool:
    """Say whether a task will act no more; one that is contained may be released."""
    known = broker.tasks.task(task_id)
    if known is None:
        return True
    try:
        running(Hop(known.agent, known.id), broker.tasks, broker.clock())
    except AuthenticationError as error:
        return error.code is not Code.CONTAINED
    return False


def is_contained(workload: SpiffeId, withdrawals: Withdrawals) -> bool:
    """Say whether an operator stopped a workload."""
    return withdrawals.containment("workload", str(workload)) is not None


def one_workload(entitled: tuple[Entitlement, ...]) -> SpiffeId:
    """Return the one workload that a caller is.

    Raises:
        RefusedError: with PEER_MISSING, if it is none, or several: who starts a task must be one.
    """
    if not entitled:
        text = "no workload is registered for this process: an operator adds it to identity.workloads"
        raise refuse(Code.PEER_MISSING, text, description=text)
    if len(entitled) > 1:
        text = (
            f"this process is {len(entitled)} workloads, and a task is started by one: an operator "
            "gives each a uid or a socket of its own in identity.workloads"
        )
        raise refuse(Code.PEER_MISSING, text, description=text)
    return entitled[0].spiffe_id


def _of_task(task_id: str | None, broker: Broker) -> tuple[Entitlement, ...]:
    task = running_task(task_id, broker) if task_id is not None else None
    if task is None:
        return ()
    agent = broker.tasks.agent(task.agent)
    ends = [task.deadline, agent.expires_at if agent else None]
    return (
        Entitlement(
            spiffe_id=agent_task_id(broker.trust_domain, task.agent, task.id),
            hint=task.agent,
            not_after=min(end for end in ends if end is not None),
            task=task.id,
        ),
    )


def _entitlement(registration: Registration) -> Entitlement:
    return Entitlement(registration.spiffe_id, registration.hint, registration.dns_names)
