"""Tasks over gRPC (`deputy.identity.v1.TaskService`), on the sockets that workloads call.

- Who calls is said by the kernel or the cluster, never by the message (authz/identity_service/doorway.py).
- The rules are those of authz/broker/task_decision.py, as over HTTP: same question to the policy, same
  record.
- A socket, or a uid, is prepared before the task exists, when it gives nothing yet; it counts once the task
  is recorded and stored, and is gone if that fails.
- Who gives up a call to start a task has none: it is ended.
- No message and no record holds the person's token.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from google.protobuf.message import Message
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from authz.broker.client import Attested
from authz.broker.deps import Broker
from authz.broker.evidence import Evidence
from authz.broker.query import START
from authz.broker.refusal import malformed
from authz.broker.reply import Outcome, Reply, answer
from authz.broker.task_decision import TaskCase, decide_start, issued_task, own_running_task, own_task
from authz.broker.task_request import StartRequest
from authz.identity_service.doorway import Arrived, Doorway
from authz.identity_service.task_answer import (
    end_reply,
    is_given,
    refusal_reply,
    renew_reply,
    send_reply,
    start_reply,
)
from authz.identity_service.task_delivery import Delivered, Deliveries
from identity.caller import Task
from identity.pb import task_pb2 as pb

SERVICE: Final = pb.DESCRIPTOR.services_by_name["TaskService"].full_name
RENEW: Final = "tasks/renew"
END: Final = "tasks/end"
# A longer one is not even parsed.
MAX_TOKEN: Final = 8192

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Call:
    """One call; `delivered` is what was prepared for it last."""

    case: TaskCase
    delivered: list[Delivered] = field(default_factory=list)


Decide = Callable[[_Call, Arrived], Awaitable[Outcome]]


class TaskService:
    """The servicer of one socket."""

    def __init__(self, broker: Broker, deliveries: Deliveries, doorway: Doorway) -> None:
        """Take the broker's rules and ports, how tasks get their identities, and who may come."""
        self._broker = broker
        self._deliveries = deliveries
        self._doorway = doorway
        self._working: set[asyncio.Task[Any]] = set()

    def __mapping__(self) -> Mapping[str, Handler]:
        """Return the methods by their gRPC paths."""
        unary = Cardinality.UNARY_UNARY
        return {
            f"/{SERVICE}/StartTask": Handler(self._start, unary, pb.StartTaskRequest, pb.StartTaskResponse),
            f"/{SERVICE}/RenewTask": Handler(self._renew, unary, pb.RenewTaskRequest, pb.RenewTaskResponse),
            f"/{SERVICE}/EndTask": Handler(self._end, unary, pb.EndTaskRequest, pb.EndTaskResponse),
        }

    async def _start(self, stream: Stream[pb.StartTaskRequest, pb.StartTaskResponse]) -> None:
        request = await _received(stream)

        async def decide(call: _Call, arrived: Arrived) -> Outcome:
            wish = StartRequest.of(request.agent, _token(request.id_token), request.lifetime_seconds or None)
            task = await decide_start(wish, arrived.client, call.case)
            delivered = await self._deliver(request.delivery, task, call, arrived)
            return Outcome(
                call.case.evidence.allowed(issued_task(task, self._broker), self._broker.clock()),
                start_reply(delivered, call.case),
                lambda: self._broker.tasks.start_task(delivered.task, call.case.now),
            )

        async def give_up(call: _Call) -> None:
            await self._end_abandoned(call.delivered[-1].task)

        await self._answer(START, stream, decide, give_up)

    async def _renew(self, stream: Stream[pb.RenewTaskRequest, pb.RenewTaskResponse]) -> None:
        request = await _received(stream)

        async def decide(call: _Call, arrived: Arrived) -> Outcome:
            task = own_running_task(request.task, arrived.client, call.case)
            delivered = await self._deliver(request.delivery, task, call, arrived)
            return Outcome(
                call.case.evidence.allowed(delivered.issued(self._broker), self._broker.clock()),
                renew_reply(delivered, call.case),
                lambda: delivered.note(self._broker),
            )

        await self._answer(RENEW, stream, decide)

    async def _end(self, stream: Stream[pb.EndTaskRequest, pb.EndTaskResponse]) -> None:
        request = await _received(stream)

        async def decide(call: _Call, arrived: Arrived) -> Outcome:
            return self._decide_end(request.task, arrived.client, call.case)

        await self._answer(END, stream, decide)

    def _decide_end(self, task_id: str, client: Attested, case: TaskCase) -> Outcome:
        # An agent that has expired meanwhile does not keep its tasks from ending.
        task = own_task(task_id, client, case)
        return Outcome(
            case.evidence.ended(self._broker.clock()),
            end_reply(case),
            lambda: self._broker.tasks.end_task(task.id, case.now),
            withdraws=True,
        )

    async def _end_abandoned(self, task: Task) -> None:
        case = self._case(END)
        client = case.asked_by(Attested(task.workload, task.origin))

        async def decide() -> Outcome:
            return self._decide_end(task.id, client, case)

        await answer(decide, case.evidence, self._broker, refusal_reply)

    async def _deliver(self, wish: pb.Delivery, task: Task, call: _Call, arrived: Arrived) -> Delivered:
        # A decision that is made again prepares again.
        while call.delivered:
            await call.delivered.pop().drop()
        delivered = await self._deliveries.prepare(wish, task, arrived.peer, call.case)
        call.delivered.append(delivered)
        return delivered

    async def _answer(
        self,
        method: str,
        stream: Stream[Any, Any],
        decide: Decide,
        give_up: Callable[[_Call], Awaitable[None]] | None = None,
    ) -> None:
        """Decide, and answer; what has begun comes to its end, whether or not the caller waits for it."""
        call = _Call(self._case(method))
        deciding = self._hold(self._decide(call, stream, decide))
        try:
            reply = await asyncio.shield(deciding)
        except asyncio.CancelledError:
            if give_up is not None:
                self._hold(_after(deciding, give_up, call))
            raise
        await send_reply(stream, reply)

    async def _decide(self, call: _Call, stream: Stream[Any, Any], decide: Decide) -> Reply:
        async def decide_call() -> Outcome:
            return await decide(call, await self._doorway.arrive(stream, call.case))

        reply = await answer(decide_call, call.case.evidence, self._broker, refusal_reply)
        for delivered in call.delivered:
            await (self._deliveries.keep(delivered) if is_given(reply) else delivered.drop())
        return reply

    def _case(self, method: str) -> TaskCase:
        now = self._broker.clock()
        return TaskCase(
            self._broker, Evidence("issuance", method, self._broker.new_id(now), now, "uid:?"), now
        )

    def _hold(self, work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        """Run something that no caller can stop; the loop itself holds its tasks weakly only."""
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return task


async def _after(
    deciding: "asyncio.Task[Reply]", give_up: Callable[[_Call], Awaitable[None]], call: _Call
) -> None:
    if is_given(await deciding):
        await give_up(call)


async def _received(stream: Stream[Any, Any]) -> Any:  # noqa: ANN401  # the message type of the method
    request = await stream.recv_message()
    if not isinstance(request, Message):
        raise GRPCError(Status.INVALID_ARGUMENT, "a call without a message")
    return request


def _token(text: str) -> str | None:
    if len(text) > MAX_TOKEN:
        raise malformed(f"id_token is longer than {MAX_TOKEN} bytes")
    return text or None
