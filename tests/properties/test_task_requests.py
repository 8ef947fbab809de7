"""Whatever a caller puts into a task request: one answer with a status of ours, and one record."""

import asyncio
import os
from typing import Any

from grpclib.const import Status
from hypothesis import given
from hypothesis import strategies as st

from authz.identity_service.agent_uids import AgentUids
from authz.identity_service.doorway import Doorway
from authz.identity_service.entitlements import OneWorkload
from authz.identity_service.task_delivery import Deliveries
from authz.identity_service.task_service import SERVICE, TaskService
from identity.entitlement import Peer
from identity.keys import SigningKey
from identity.pb import task_pb2 as pb
from identity.withdrawal import Withdrawals
from tests.broker_fakes import MESH, broker_alone, csr_of
from tests.task_world import UID, registration

PEER = Peer(os.getpid(), UID, UID)
CSR = csr_of(SigningKey.generate().private_key)
REFUSALS = {
    Status.INVALID_ARGUMENT,
    Status.PERMISSION_DENIED,
    Status.UNAUTHENTICATED,
    Status.NOT_FOUND,
    Status.FAILED_PRECONDITION,
}


class FakeStream:
    """A call: its request, and what was answered."""

    metadata = None

    def __init__(self, request: Any) -> None:
        self.request = request
        self.status: Status | None = None

    async def recv_message(self) -> Any:
        return self.request

    async def send_message(self, message: Any) -> None:
        assert message.SerializeToString()
        assert self.status is None
        self.status = Status.OK

    async def send_trailing_metadata(self, *, status: Status, status_message: str, metadata: Any) -> None:
        assert self.status is None
        assert all(value.isascii() and value.isprintable() for value in metadata.values())
        assert status_message
        self.status = status


texts = st.text(max_size=80) | st.sampled_from(["triage", "nightly-report", "", CSR, "a.b.c", "e30.e30.e30"])
deliveries = st.builds(pb.Delivery, own_key=st.builds(pb.Delivery.OwnKey, csr=texts)) | st.builds(
    pb.Delivery,
    shared_socket=st.builds(pb.Delivery.SharedSocket, uid=st.integers(0, 2**32 - 1)),
)
numbers = st.integers(0, 2**32 - 1)
requests = (
    st.builds(pb.StartTaskRequest, agent=texts, id_token=texts, lifetime_seconds=numbers, delivery=deliveries)
    | st.builds(pb.StartTaskRequest, agent=texts)
    | st.builds(pb.RenewTaskRequest, task=texts, delivery=deliveries)
    | st.builds(pb.EndTaskRequest, task=texts)
)


@given(requests)
def test_any_request_has_one_answer_and_one_record(request: Any) -> None:
    world = broker_alone()
    door = Doorway(OneWorkload(registration(), Withdrawals), MESH, peer_of=lambda _: PEER)
    uids = AgentUids({4: "triage"}, lambda _: False)
    service = TaskService(world.broker, Deliveries(uids, None, "unix:///shared"), door)
    name = type(request).__name__.removesuffix("Request")
    stream = FakeStream(request)
    asyncio.run(service.__mapping__()[f"/{SERVICE}/{name}"].func(stream))
    assert stream.status in {Status.OK, *REFUSALS}
    (entry,) = world.sink.entries
    assert entry.fields["effect"] == ("allow" if stream.status is Status.OK else "deny")
    assert len(world.tasks.tasks) == (stream.status is Status.OK)
