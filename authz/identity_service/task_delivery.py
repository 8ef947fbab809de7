"""How a task gets its identity: a socket of its own, a key of its own, or a uid on the shared socket.

- A task has one of them at a time; a renewal with another takes the place of what there was.
- What is prepared gives nothing yet. It counts once the task is recorded and stored; else it is dropped.
- Which uid may come is the caller's own, or one that the operator listed for the agent. One that the kernel
  could not translate is that of many, so it gets no socket.
"""

from dataclasses import dataclass, field
from typing import assert_never

from cryptography.hazmat.primitives import serialization

from authz.audit.facts import Issued
from authz.broker.deps import Broker
from authz.broker.refusal import malformed, refuse
from authz.broker.task_decision import Signed, TaskCase, issued_svid, issued_task, sign_svid, task_id_of
from authz.broker.task_request import public_key_of
from authz.codes import Code
from authz.identity_service.agent_uids import AgentUids, UidClaim
from authz.identity_service.task_sockets import TaskSocket, TaskSockets
from identity.caller import Task
from identity.entitlement import Peer
from identity.errors import SocketError
from identity.pb import task_pb2 as pb
from identity.registration import OVERFLOW_UID

Held = Signed | TaskSocket | UidClaim


@dataclass(frozen=True, slots=True, eq=False)
class Delivered:
    """What is prepared for a task: where its identity is, and what the caller is told of it."""

    task: Task
    held: Held = field(repr=False)
    identity: pb.Identity = field(repr=False)

    def issued(self, broker: Broker) -> Issued:
        """Describe it for the record."""
        match self.held:
            case Signed():
                return issued_svid(self.held, broker)
            case TaskSocket() | UidClaim():
                return issued_task(self.task, broker)
            case _:
                assert_never(self.held)

    def note(self, broker: Broker) -> None:
        """Note the certificate of a task that runs already as its newest.

        Raises:
            StoreError: if the task is over, or it cannot be written.
        """
        if isinstance(self.held, Signed) and self.task.thumbprint is not None:
            broker.tasks.set_thumbprint(self.task.id, self.task.thumbprint)

    async def drop(self) -> None:
        """Take it back: nothing was started, or renewed."""
        if not isinstance(self.held, Signed):
            await self.held.drop()


@dataclass(frozen=True, slots=True)
class Deliveries:
    """All ways in which tasks get their identities; `shared` is the address of the shared socket."""

    uids: AgentUids
    sockets: TaskSockets | None = None
    shared: str | None = None

    async def prepare(self, wish: pb.Delivery, task: Task, peer: Peer, case: TaskCase) -> Delivered:
        """Prepare what a caller asked for.

        Raises:
            RefusedError: if it cannot be had.
        """
        match wish.WhichOneof("how"):
            case "own_key":
                return _signed(task, wish.own_key.csr, case)
            case "shared_socket":
                return self._shared(task, wish.shared_socket.uid, case)
            case "private_socket" | None:
                wished = wish.private_socket
                return await self._private(
                    task, wished.uid if wished.HasField("uid") else peer.uid, peer, case
                )
            case _:
                raise malformed("delivery is of a kind that does not exist here")

    async def keep(self, delivered: Delivered) -> None:
        """Let it be the one way to the task's identity."""
        task_id = delivered.task.id
        if not isinstance(delivered.held, UidClaim):
            self.uids.release(task_id)
        if not isinstance(delivered.held, TaskSocket) and self.sockets is not None:
            await self.sockets.release(task_id)
        if not isinstance(delivered.held, Signed):
            await delivered.held.keep()

    def _shared(self, task: Task, uid: int, case: TaskCase) -> Delivered:
        if self.shared is None:
            raise malformed("there is no shared socket here: ask for a private socket, or send a key")
        claim = self.uids.claim(uid, task.agent, task.id)
        return Delivered(task, claim, _identity(task, case, endpoint_socket=self.shared))

    async def _private(self, task: Task, uid: int, peer: Peer, case: TaskCase) -> Delivered:
        if self.sockets is None:
            raise malformed("there are no private sockets here: an operator sets identity.task_sockets")
        if uid == OVERFLOW_UID:
            raise malformed(f"uid {uid} may be anybody's: send a key, or run as a user of your own")
        if uid != peer.uid:
            self.uids.check_agent(uid, task.agent)
        try:
            socket = await self.sockets.make(task, uid)
        except SocketError as error:
            raise refuse(Code.INTERNAL, str(error)) from error
        return Delivered(task, socket, _identity(task, case, endpoint_socket=socket.address))


def _signed(task: Task, csr: str, case: TaskCase) -> Delivered:
    signed = sign_svid(task, public_key_of(csr), case)
    roots = [root.public_bytes(serialization.Encoding.DER) for root in case.broker.authority.roots]
    identity = _identity(task, case, certificate_chain=[signed.der], not_after=signed.not_after, bundle=roots)
    return Delivered(signed.task, signed, identity)


def _identity(task: Task, case: TaskCase, **more: object) -> pb.Identity:
    return pb.Identity(spiffe_id=str(task_id_of(task, case.broker)), deadline=task.deadline, **more)  # type: ignore[arg-type]  # fields of the message
