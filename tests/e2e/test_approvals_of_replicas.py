"""One word of a person, an authority and two replicas: whoever of them is asked, it counts once."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import grpc
import pytest

from authz.approvals.approval import Approval
from authz.check import check
from authz.codes import Code
from authz.pb import ext_authz_pb2 as pb
from tests.bench.grants import grants_yaml
from tests.bench.load import METHOD
from tests.bench.place import GATEWAY, LEAD, Place, open_place
from tests.fakes import reason
from tests.replica_processes import ReplicaProcess

pytestmark = pytest.mark.e2e
WAITS = Code.APPROVAL_REQUIRED.value


@dataclass
class Machine:
    """The authority, open in this process, its replicas, and a call that waits for a person."""

    place: Place
    replicas: list[ReplicaProcess]
    call: bytes
    streams: "count[int]" = field(default_factory=lambda: count(1))

    def asked(self) -> bytes:
        """The call as Envoy asks about it, each time in a stream of its own."""
        message = pb.CheckRequest.FromString(self.call)
        message.attributes.request.http.id = str(next(self.streams))
        return message.SerializeToString()

    async def at(self, replica: int, data: bytes | None = None) -> str:
        """The reason that a replica gives; empty for an allow."""
        async with grpc.aio.insecure_channel(self.replicas[replica].target) as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
            return reason(pb.CheckResponse.FromString(await call(data or self.asked(), timeout=30)))

    async def at_authority(self) -> str:
        return reason(pb.CheckResponse.FromString(await check(self.asked(), GATEWAY, self.place.parts.flow)))

    def waiting(self) -> list[Approval]:
        found = self.place.parts.memories.requests.newest(self.place.parts.clock())
        return [each for each in found if each.state == "pending"]

    def approve(self) -> None:
        (waiting,) = self.waiting()
        parts = self.place.parts
        parts.memories.requests.decide(waiting.id, "approved", LEAD.uri, "", parts.clock())


@asynccontextmanager
async def machine() -> AsyncIterator[Machine]:
    home = Path(tempfile.mkdtemp(prefix="dpt-"))  # a short one: the path of a socket has 107 bytes
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        place = await stack.enter_async_context(open_place(home / "p"))
        grants = json.loads(grants_yaml())
        grants["tiers"]["contributor"] = {"allow": ["write"], "approve": ["read", "destroy"]}
        (place.directory / "grants.yaml").write_text(json.dumps(grants))
        await place.parts.policy.reload()
        replicas = [ReplicaProcess(place.directory, f"r{number}").start() for number in range(2)]
        for replica in replicas:
            stack.callback(replica.stop)
        for replica in replicas:
            await asyncio.to_thread(replica.wait)
        (call,) = place.calls(place.presenter(), 1)
        yield Machine(place, replicas, call)


def test_one_approval_is_one_call_wherever_it_is_asked_for_and_made() -> None:
    async def play() -> None:
        async with machine() as made:
            # Asked for at one, known at all, once.
            assert [await made.at(0), await made.at(1), await made.at_authority()] == [WAITS] * 3
            assert len(made.waiting()) == 1
            made.approve()
            # Of many at once, at both, one passes.
            answers = await asyncio.gather(*(made.at(number % 2) for number in range(16)))
            assert answers.count("") == 1
            # A file that is busy for too long is no approval.
            assert set(answers) <= {"", WAITS, Code.APPROVAL_UNKNOWN.value}
            assert [await made.at(0), await made.at(1), await made.at_authority()] == [WAITS] * 3

            # What a proxy asks twice about one stream is one call, at whichever replica it asks again.
            made.approve()
            repeated = made.asked()
            assert [await made.at(0, repeated), await made.at(1, repeated)] == ["", ""]
            assert await made.at(0) == WAITS

            # A word that is given while nobody is there counts for the next replica, and once.
            made.approve()
            made.replicas[0].stop()
            made.replicas[0].start()
            await asyncio.to_thread(made.replicas[0].wait)
            assert [await made.at(0), await made.at(0), await made.at(1)] == ["", WAITS, WAITS]

    asyncio.run(play())
