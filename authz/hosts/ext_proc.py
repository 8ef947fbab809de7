"""The ext_proc service on grpc.aio: one stream for each answer on its way to the caller.

- No stream ends with OK before Envoy has all that it needs: Envoy would let the rest of the answer pass. It
  is aborted, whatever fails, and Envoy (`failure_mode_allow: false`) answers 503, or resets what has begun.
- An open answer, or a call that goes on without one, ends when its caller may have no more of it. That is
  looked at whenever rights are withdrawn, at most TICK_SECONDS later, and each second for what only time
  ends; nobody waits for the next byte.
- Streams are bounded: how many there are, how many are open, how many of these one agent has and one person
  with it, how long each lasts, in how many chunks it comes.
- What is held while it is read is bounded, in all and in time. Each service has its part of it, and half of
  the process's time at most: one that answers slowly, or what is hard to read, keeps nobody else from an
  answer, or from a decision.
- No part of an answer is logged. A status says a reason code, which Envoy writes to its access log.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn

import grpc

from authz.answers import reply as replies
from authz.answers.admission import Admitted, Answers
from authz.answers.arrival import Arrival, Chunk, Departure, Part, Trailers, parse_part
from authz.answers.guard import HeadersAnswer
from authz.answers.reply import headers_reply, refusal
from authz.answers.room import Room, StreamLimits
from authz.answers.shares import Shares
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
# So much is read before others have their turn.
_SLICE_BYTES: Final = 8 << 10
# No longer than a proxy waits for us.
_MAX_WAIT_SECONDS: Final = 0.75
_PASS: Final = HeadersAnswer("pass")
_WATCH: Final = HeadersAnswer("watch")

Context = grpc.aio.ServicerContext[bytes, bytes]
WhoAsks = Callable[[Context], SpiffeId | None]
"""Who brings an answer: the verified peer, None on a Unix socket or loopback without TLS."""


@dataclass(eq=False, slots=True)
class _Open:
    """One open answer; `ended` is set when it must end."""

    admitted: Admitted
    asker: SpiffeId | None
    ended: "asyncio.Future[CodedError]"
    # A call that goes on, whose answer has not begun; whether the proxy will show the body of that.
    departure: Departure | None = None
    held: int = field(default=0)
    # Since when something is held.
    held_since: float = field(default=0.0)

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
        self._room = Room(limits)
        self._shares = Shares()
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
                self._require_progress(each)
                await self._require_standing(each)
            except CodedError as error:
                each.end(error)
            except Exception as error:  # noqa: BLE001 - what nobody foresaw must not keep the others from their turn
                _LOG.error("an open answer could not be looked at: %s", type(error).__name__)
                each.end(AnswerError(Code.INTERNAL, type(error).__name__))

    def _require_progress(self, each: _Open) -> None:
        now = asyncio.get_running_loop().time()
        if each.held and now - each.held_since > self._limits.held_seconds:
            raise AnswerError(Code.OVERLOADED, "a part of an answer is held for too long")

    async def _require_standing(self, each: _Open) -> None:
        self._answers.require_asker(each.asker)
        await each.admitted.guard.still_stands()

    async def _serve(self, context: Context) -> None:
        asker = self._who_asks(context)
        async with asyncio.timeout(_FIRST_PART_SECONDS):
            arrival = parse_part(await _read(context))
        if isinstance(arrival, Departure):
            await self._from_the_start(context, arrival, asker)
            return
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

    async def _from_the_start(self, context: Context, departure: Departure, asker: SpiffeId | None) -> None:
        """Look after a call whose caller may speak for long before there is an answer."""
        try:
            admitted = self._answers.admit(departure, asker)
        except CodedError as error:
            _LOG.warning("a call was ended: %s", error)
            await context.write(headers_reply(refusal(error), end_of_stream=True))
            return
        ended: asyncio.Future[CodedError] = asyncio.get_running_loop().create_future()
        await self._go_on(
            context, replies.departure_reply(), _Open(admitted, asker, ended, departure), _WATCH
        )

    async def _begin(self, context: Context, answer: _Open, arrival: Arrival) -> HeadersAnswer:
        """Say what becomes of the answer to a call that was looked after from its start."""
        departure, answer.departure = answer.departure, None
        if departure is None:
            raise AnswerError(Code.PASSAGE_MISSING, "a second beginning of one answer")
        said = _WATCH
        if not arrival.is_local:
            said = await answer.admitted.guard.on_headers(
                arrival.status, arrival.headers, end_of_stream=arrival.end_of_stream
            )
            if said.kind == "rewrite" and not departure.shows_body:
                raise AnswerError(Code.ANSWER_UNREADABLE, "the proxy does not show the body")
        await context.write(headers_reply(said, end_of_stream=arrival.end_of_stream))
        return _PASS if arrival.end_of_stream else said

    async def _go_on(self, context: Context, reply: bytes, answer: _Open, said: HeadersAnswer) -> None:
        owner = answer.admitted.passage.owner
        self._room.enter(owner)
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
            self._keep(answer, 0)
            self._room.leave(owner)

    async def _wait(self, context: Context, answer: _Open) -> None:
        """Let an answer flow beside us, until it is over or must be."""
        while (part := await _part_of(context, answer)) is not None:
            await self._require_standing(answer)
            match part:
                case Chunk(_, end):
                    # From a proxy whose mode nobody may change.
                    await context.write(replies.kept_reply())
                    if end:
                        return
                case Trailers():
                    await context.write(replies.trailers_reply())
                    return
                case Arrival():
                    said = await self._begin(context, answer, part)
                    if said.kind == "rewrite":
                        await self._rewrite(context, answer)
                    if said.kind != "watch":
                        return
                case Departure():
                    raise AnswerError(Code.PASSAGE_MISSING, "a second beginning of one call")

    async def _rewrite(self, context: Context, answer: _Open) -> None:
        guard, chunks = answer.admitted.guard, 0
        while (part := await _part_of(context, answer)) is not None:
            match part:
                case Chunk(body, end):
                    chunks += 1
                    if chunks > self._limits.chunks:
                        raise AnswerError(Code.OVERLOADED, "too many chunks of one answer")
                    written = await self._written(answer, body, end=end)
                    await context.write(replies.body_reply(written))
                    if end:
                        if guard.problem is not None:
                            _tell(answer.admitted)
                        return
                case Trailers():
                    # What is still held can go nowhere now.
                    if await guard.on_body(b"", end_of_stream=True):
                        raise AnswerError(Code.ANSWER_UNREADABLE, "trailers before the end of a list")
                    await context.write(replies.trailers_reply())
                    return
                case Arrival() | Departure():
                    raise AnswerError(Code.PASSAGE_MISSING, "a second beginning of one answer")

    async def _written(self, answer: _Open, body: bytes, *, end: bool) -> bytes:
        """Return what replaces a chunk; read in slices, between which others have their turn."""
        guard, written = answer.admitted.guard, []
        until = asyncio.get_running_loop().time() + _MAX_WAIT_SECONDS
        for start in range(0, len(body) or 1, _SLICE_BYTES):
            piece = body[start : start + _SLICE_BYTES]
            await self._wait_for_turn(answer.admitted.passage.service, until)
            self._answers.require_asker(answer.asker)
            begun = time.thread_time()
            try:
                is_last = end and start + _SLICE_BYTES >= len(body)
                written.append(await guard.on_body(piece, end_of_stream=is_last))
            finally:
                spent = time.thread_time() - begun
                self._shares.charge(answer.admitted.passage.service, spent, asyncio.get_running_loop().time())
            self._keep(answer, guard.held)
        return b"".join(written)

    async def _wait_for_turn(self, service: str, until: float) -> None:
        clock = asyncio.get_running_loop().time
        while (wait := self._shares.wait(service, clock())) > 0:
            if clock() + wait > until:
                raise AnswerError(Code.OVERLOADED, "the answers of one service take too long to be read")
            await asyncio.sleep(wait)
        await asyncio.sleep(0)

    def _keep(self, answer: _Open, held: int) -> None:
        """Count what is held.

        Raises:
            AnswerError: if it is too much.
        """
        more = held - answer.held
        if held and not answer.held:
            answer.held_since = asyncio.get_running_loop().time()
        answer.held = held
        self._room.hold(answer.admitted.passage.service, more)

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


async def _part_of(context: Context, answer: _Open) -> Part | None:
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
