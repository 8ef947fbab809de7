"""The ext_proc service on grpc.aio: one stream for each answer on its way to the caller.

- No stream ends with OK before Envoy has all that it needs: Envoy would let the rest of the answer pass. It
  is aborted, whatever fails, and Envoy (`failure_mode_allow: false`) answers 503, or resets what has begun.
- An open answer ends when its caller may have no more of it. That is looked at whenever rights are withdrawn,
  at most TICK_SECONDS later, and each second for what only time ends; nobody waits for the next byte.
- Streams are bounded: how many there are, how many one agent has, how long each lasts, in how many chunks it
  comes, and how much of all answers together is held while it is read; of that each service has its part, so
  that one that answers slowly keeps no other waiting.
- No part of an answer is logged. A status says a reason code, which Envoy writes to its access log.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn

import grpc

from authz.answers.admission import Admitted, Answers
from authz.answers.arrival import Arrival, Chunk, Trailers, parse_part
from authz.answers.guard import HeadersAnswer
from authz.answers.reply import body_reply, headers_reply, kept_reply, refusal, trailers_reply
from authz.codes import Code
from authz.errors import AnswerError, AuditError, AuthenticationError, CodedError, StoreError
from authz.pb.ext_proc_pb2 import DESCRIPTOR
from identity.errors import CertificateError
from identity.spiffe import SpiffeId

_LOG = logging.getLogger(__name__)

SERVICE: Final = DESCRIPTOR.services_by_name["ExternalProcessor"].full_name
METHOD: Final = "Process"
TICK_SECONDS: Final = 0.1
# What time alone ends is looked for this often.
_LOOK_SECONDS: Final = 1.0
# So many are looked at before others have their turn.
_AT_A_TIME: Final = 64
_FIRST_PART_SECONDS: Final = 5.0
_PASS: Final = HeadersAnswer("pass")

Context = grpc.aio.ServicerContext[bytes, bytes]
WhoAsks = Callable[[Context], SpiffeId | None]
"""Who brings an answer: the verified peer, None on a Unix socket or loopback without TLS."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of answers that are open at one time."""

    streams: int = 1024
    streams_of_agent: int = 256
    stream_seconds: float = 3600.0
    # One chunk of an answer that is written anew; Envoy sends what it has, twice its buffer at most.
    message_bytes: int = 5 << 20
    # Of one answer that is written anew: a server that writes byte by byte keeps us from everybody else.
    chunks: int = 1 << 16
    # Of answers that are written anew, while they are read.
    held_bytes: int = 64 << 20
    held_bytes_of_service: int = 16 << 20


@dataclass(eq=False, slots=True)
class _Open:
    """One open answer; `ended` is set when it must end."""

    admitted: Admitted
    asker: SpiffeId | None
    ended: "asyncio.Future[CodedError]"
    held: int = field(default=0)

    def end(self, error: CodedError) -> None:
        if not self.ended.done():
            self.ended.set_result(error)


class AnswerStreams:
    """All open answers of one process."""

    def __init__(self, answers: Answers, who_asks: WhoAsks, limits: StreamLimits) -> None:
        """Take the flow of answers; `watch` must run beside it."""
        self._answers = answers
        self._who_asks = who_asks
        self._limits = limits
        self._count = 0
        self._held = 0
        self._held_of: Counter[str] = Counter()
        self._of_agent: Counter[str] = Counter()
        self._open: set[_Open] = set()
        self._is_over = False
        # When the watch looked at all of them, and at which epoch.
        self._looked_at, self._epoch = float("-inf"), -1

    @property
    def open_count(self) -> int:
        """Count the answers that are watched or written anew."""
        return len(self._open)

    def service(self) -> grpc.GenericRpcHandler:
        """Return the service, for a server to add."""
        process: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self.process)
        return grpc.method_handlers_generic_handler(SERVICE, {METHOD: process})

    async def process(self, _: object, context: Context) -> None:
        """Serve one stream: `ExternalProcessor/Process`."""
        if self._is_over or self._count >= self._limits.streams:
            await _abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, Code.OVERLOADED)
        self._count += 1
        try:
            async with asyncio.timeout(self._limits.stream_seconds):
                await self._serve(context)
        except CodedError as error:
            await _abort(context, grpc.StatusCode.PERMISSION_DENIED, error.code)
        except CertificateError:
            await _abort(context, grpc.StatusCode.PERMISSION_DENIED, Code.ASKER_UNKNOWN)
        except TimeoutError:
            await _abort(context, grpc.StatusCode.DEADLINE_EXCEEDED, Code.OVERLOADED)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the outermost guard: every failure ends the answer
            # No traceback: its text could quote the answer.
            _LOG.error("an answer could not be looked at: %s", type(error).__name__)
            await _abort(context, grpc.StatusCode.INTERNAL, Code.INTERNAL)
        finally:
            self._count -= 1

    async def watch(self) -> NoReturn:
        """End what must end, until it is cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                await self._tick()
            except Exception as error:  # noqa: BLE001 - without the watch, nothing that is open would end
                _LOG.error("open answers could not be looked at: %s", type(error).__name__)

    async def _tick(self) -> None:
        if not self._open:
            return
        flow, now = self._answers.flow, asyncio.get_running_loop().time()
        is_known = True
        if flow.following is not None:
            try:
                await flow.following.refresh()
            except StoreError:
                is_known = False  # each is told why by its guard
        epoch = flow.rights.epoch
        if is_known and epoch == self._epoch and now - self._looked_at < _LOOK_SECONDS:
            return
        self._epoch, self._looked_at = epoch, now
        await self._look()

    def end_all(self) -> None:
        """End each open answer, and take no more."""
        self._is_over = True
        for each in self._open:
            each.end(AnswerError(Code.OVERLOADED, "the process stops"))

    async def _look(self) -> None:
        for number, each in enumerate(tuple(self._open)):
            if number % _AT_A_TIME == 0:
                await asyncio.sleep(0)
            try:
                await self._require_standing(each)
            except CodedError as error:
                each.end(error)
            except Exception as error:  # noqa: BLE001 - what nobody foresaw must not keep the others from their turn
                _LOG.error("an open answer could not be looked at: %s", type(error).__name__)
                each.end(AnswerError(Code.INTERNAL, type(error).__name__))

    async def _require_standing(self, each: _Open) -> None:
        self._answers.require_asker(each.asker)
        await each.admitted.guard.still_stands()

    async def _serve(self, context: Context) -> None:
        asker = self._who_asks(context)
        async with asyncio.timeout(_FIRST_PART_SECONDS):
            arrival = parse_part(await _read(context))
        if not isinstance(arrival, Arrival):
            raise AnswerError(Code.PASSAGE_MISSING, "a part of an answer whose beginning nobody saw")
        admitted = None
        if arrival.is_local:
            said = _PASS
        else:
            try:
                admitted = self._answers.admit(arrival, asker)
                said = await admitted.guard.on_headers(
                    arrival.status, arrival.headers, end_of_stream=arrival.end_of_stream
                )
                if said.kind == "rewrite" and not arrival.shows_body:
                    raise AnswerError(Code.ANSWER_UNREADABLE, "the proxy does not show the body")
            except CodedError as error:
                _LOG.warning("an answer was refused: %s", error)
                said = refusal(error, admitted.passage.decision_id if admitted is not None else "")
        if admitted is not None and admitted.guard.problem is not None:
            _tell(admitted)
        reply = headers_reply(said, end_of_stream=arrival.end_of_stream)
        if admitted is None or arrival.end_of_stream or said.kind in {"pass", "refuse"}:
            await context.write(reply)
            return
        await self._go_on(
            context, reply, _Open(admitted, asker, asyncio.get_running_loop().create_future()), said
        )

    async def _go_on(self, context: Context, reply: bytes, answer: _Open, said: HeadersAnswer) -> None:
        agent = answer.admitted.passage.standing.agents[0]
        if self._of_agent[agent] >= self._limits.streams_of_agent:
            raise AnswerError(Code.OVERLOADED, "too many open answers of one agent")
        self._of_agent[agent] += 1
        # From here on the watch sees it: what was withdrawn since it was looked at is seen at the next tick.
        self._open.add(answer)
        try:
            await self._require_standing(answer)
            await context.write(reply)
            await (self._rewrite if said.kind == "rewrite" else self._wait)(context, answer)
        except AuthenticationError as error:
            await self._record(answer, error)
            raise
        finally:
            self._open.discard(answer)
            self._count_held(answer, 0)
            self._of_agent[agent] -= 1
            if not self._of_agent[agent]:
                del self._of_agent[agent]

    async def _wait(self, context: Context, answer: _Open) -> None:
        """Let an answer flow beside us, until it is over or must be."""
        while (part := await _part_of(context, answer)) is not None:
            await self._require_standing(answer)
            match part:
                case Chunk(_, end):
                    # From a proxy whose mode nobody may change.
                    await context.write(kept_reply())
                    if end:
                        return
                case Trailers():
                    await context.write(trailers_reply())
                    return
                case Arrival():
                    raise AnswerError(Code.PASSAGE_MISSING, "a second beginning of one answer")

    async def _rewrite(self, context: Context, answer: _Open) -> None:
        guard, chunks = answer.admitted.guard, 0
        while (part := await _part_of(context, answer)) is not None:
            match part:
                case Chunk(body, end):
                    chunks += 1
                    if chunks > self._limits.chunks:
                        raise AnswerError(Code.OVERLOADED, "too many chunks of one answer")
                    self._answers.require_asker(answer.asker)
                    written = await guard.on_body(body, end_of_stream=end)
                    self._hold(answer, len(body) - len(written), over=end)
                    await context.write(body_reply(written))
                    if end:
                        if guard.problem is not None:
                            _tell(answer.admitted)
                        return
                case Trailers():
                    # What is still held can go nowhere now.
                    if await guard.on_body(b"", end_of_stream=True):
                        raise AnswerError(Code.ANSWER_UNREADABLE, "trailers before the end of a list")
                    await context.write(trailers_reply())
                    return
                case Arrival():
                    raise AnswerError(Code.PASSAGE_MISSING, "a second beginning of one answer")

    def _hold(self, answer: _Open, more: int, *, over: bool) -> None:
        self._count_held(answer, 0 if over else max(0, answer.held + more))
        of_service = self._held_of[answer.admitted.passage.service]
        if self._held > self._limits.held_bytes or of_service > self._limits.held_bytes_of_service:
            raise AnswerError(Code.OVERLOADED, "too much of all answers is held")

    def _count_held(self, answer: _Open, held: int) -> None:
        self._held += held - answer.held
        self._held_of[answer.admitted.passage.service] += held - answer.held
        answer.held = held

    async def _record(self, answer: _Open, error: AuthenticationError) -> None:
        passage = answer.admitted.passage
        _LOG.info("the answer to decision %s was ended: %s", passage.decision_id, error.code)
        try:
            await self._answers.flow.sink.append(self._answers.ended(passage, error, answer.asker))
        except AuditError as unwritten:
            _LOG.error("that an answer was ended is not recorded: %s", unwritten.code)


def _tell(admitted: Admitted) -> None:
    """Say why an answer was replaced; what is in it is told to nobody."""
    problem = admitted.guard.problem
    code = problem.code if problem is not None else ""
    _LOG.warning("the answer to decision %s was replaced: %s", admitted.passage.decision_id, code)


async def _part_of(context: Context, answer: _Open) -> Arrival | Chunk | Trailers | None:
    """Return the next part, None at the end of the stream.

    Raises:
        CodedError: if it must end before.
    """
    reading = asyncio.ensure_future(_next(context))
    waited: set[asyncio.Future[object]] = {reading, answer.ended}  # type: ignore[arg-type]  # only waited for
    try:
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        reading.cancel()
        raise
    if answer.ended.done():
        # The reading ends with the call, which is aborted next.
        reading.add_done_callback(_forget)
        raise answer.ended.result()
    data = reading.result()
    return None if data is None else parse_part(data)


def _forget(reading: asyncio.Task[bytes | None]) -> None:
    if not reading.cancelled():
        reading.exception()


async def _next(context: Context) -> bytes | None:
    data: object = await context.read()
    return data if isinstance(data, bytes) else None


async def _read(context: Context) -> bytes:
    data = await _next(context)
    if data is None:
        raise AnswerError(Code.PASSAGE_MISSING, "a stream without anything")
    return data


def _abort(context: Context, status: grpc.StatusCode, code: Code) -> Awaitable[NoReturn]:
    return context.abort(status, code.value)
