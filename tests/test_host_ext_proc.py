"""The ext_proc host: an answer passes as was decided, or its stream is aborted; none ends with OK early."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import pytest

from authz.answers.admission import Admitted, Answers
from authz.answers.arrival import Arrival, Departure
from authz.answers.guard import Guard, GuardPorts, HeadersAnswer
from authz.answers.passage import Passage
from authz.answers.room import StreamLimits
from authz.codes import Code
from authz.errors import AnswerError, AuthenticationError, StoreError
from authz.headers import Headers
from authz.hosts.ext_proc import METHOD, SERVICE
from authz.hosts.grpc import GrpcHost, Limits
from authz.pb import ext_proc_pb2 as pb
from authz.services import Asker, Services
from identity.spiffe import SpiffeId
from tests.fakes import World
from tests.test_answers_envoy import departing, shown
from tests.test_host_grpc import DENIALS, LOCAL, allow

SECONDS = 30


class FakeGuard(Guard):
    """Does what the test says, and counts what it was shown."""

    def __init__(self, passage: Passage, script: "Script", ports: GuardPorts, world: World) -> None:
        service = world.services.by_name["tickets"]
        super().__init__(passage, service, ports)
        self.script = script
        self.kept = 0

    async def on_headers(self, status: int, headers: Headers, *, end_of_stream: bool) -> HeadersAnswer:
        self.script.shown.append(status)
        if isinstance(self.script.on_headers, Exception):
            raise self.script.on_headers
        return self.script.on_headers

    async def on_body(self, chunk: bytes, *, end_of_stream: bool) -> bytes:
        self.script.shown.append(chunk)
        if isinstance(self.script.on_body, Exception):
            raise self.script.on_body
        written = self.script.on_body(chunk, end_of_stream)
        # What a comment says is neither sent on nor kept.
        self.kept = 0 if written or end_of_stream else self.kept + len(chunk) * (chunk[:1] != b":")
        return written

    @property
    def held(self) -> int:
        return self.kept

    async def still_stands(self) -> None:
        if self.script.stands is not None:
            raise self.script.stands


@dataclass
class Script:
    on_headers: HeadersAnswer | Exception = field(default_factory=lambda: HeadersAnswer("pass"))
    on_body: Callable[[bytes, bool], bytes] | Exception = lambda chunk, _: chunk.upper()
    stands: Exception | None = None
    shown: list[object] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeAnswers(Answers):
    """Knows whose each answer is by the name of its script."""

    world: World
    passage: Passage
    scripts: dict[str, Script]

    def admit(self, arrival: Arrival | Departure, asker: SpiffeId | None) -> Admitted:
        name = arrival.unverified_passage
        if name not in self.scripts:
            raise AnswerError(Code.PASSAGE_MISSING, "nobody's")
        flow = self.flow
        agent, _, service = name.partition("@")
        standing = replace(self.passage.standing, agents=(agent,))
        passage = replace(self.passage, standing=standing, service=service or self.passage.service)
        ports = GuardPorts(flow.policy, flow.rights, flow.clock)
        return Admitted(passage, FakeGuard(passage, self.scripts[name], ports, self.world))


Stream = Any


@dataclass
class Answering:
    """A host, and a client of it."""

    world: World
    host: GrpcHost
    channel: grpc.aio.Channel

    def stream(self) -> Stream:
        return self.channel.stream_stream(f"/{SERVICE}/{METHOD}")(timeout=SECONDS)

    async def begin(self, passage: str = "triage", **more: Any) -> tuple[Stream, pb.ProcessingResponse]:
        stream = self.stream()
        return stream, await tell(stream, shown(passage=passage, **more))


async def tell(stream: Stream, message: pb.ProcessingRequest) -> pb.ProcessingResponse:
    await stream.write(message.SerializeToString())
    return await heard(stream)


async def heard(stream: Stream) -> pb.ProcessingResponse:
    data = await stream.read()
    assert isinstance(data, bytes), await stream.code()
    return pb.ProcessingResponse.FromString(data)


async def ended(stream: Stream) -> tuple[grpc.StatusCode, str]:
    return await stream.code(), await stream.details()


def chunk(body: bytes, *, end: bool = False) -> pb.ProcessingRequest:
    return pb.ProcessingRequest(response_body=pb.HttpBody(body=body, end_of_stream=end))


TRAILERS = pb.ProcessingRequest(response_trailers=pb.HttpTrailers())


def _world() -> tuple[World, Passage]:
    """A world, and a passage of it."""
    world = World()
    services = tuple(replace(service, is_guarded=True) for service in world.services.by_name.values())
    local = Asker(SpiffeId.parse("spiffe://mesh.example/local"), frozenset({"tickets"}))
    world.services = Services.of(services, tuple(world.services.askers.values()), local)
    run = world.run("triage")
    response = world.check(world.request(world.token(run), run))
    return world, Passage.parse(response.dynamic_metadata.fields["passage"].string_value)


@asynccontextmanager
async def answering(
    world: World, passage: Passage, limits: StreamLimits, scripts: dict[str, Script]
) -> AsyncIterator[Answering]:
    answers = FakeAnswers(flow=world.flow(), world=world, passage=passage, scripts=scripts)
    bounds = Limits(drain_seconds=0, grace_seconds=1, streams=limits)
    host = GrpcHost(allow, denials=DENIALS, listen=LOCAL, limits=bounds, answers=answers)
    address = await host.start()
    async with grpc.aio.insecure_channel(str(address)) as channel:
        try:
            yield Answering(world, host, channel)
        finally:
            await host.stop()


def play(
    doing: Callable[[Answering], Awaitable[None]], limits: StreamLimits | None = None, **scripts: Script
) -> None:
    world, passage = _world()

    async def played() -> None:
        made = answering(world, passage, limits or StreamLimits(), scripts)
        async with asyncio.timeout(SECONDS), made as running:
            await doing(running)

    asyncio.run(played())


WATCH = HeadersAnswer("watch")
REWRITE = HeadersAnswer("rewrite")
DENIED = grpc.StatusCode.PERMISSION_DENIED


def test_an_answer_that_passes_is_told_so() -> None:
    async def doing(made: Answering) -> None:
        stream, response = await made.begin()
        assert response.WhichOneof("response") == "response_headers"
        assert response.mode_override.response_body_mode == pb.ProcessingMode.NONE
        assert await stream.read() is grpc.aio.EOF

    play(doing, triage=Script())


def test_an_answer_of_nobody_is_replaced() -> None:
    async def doing(made: Answering) -> None:
        for passage in ("", "stranger"):
            _, response = await made.begin(passage)
            assert response.immediate_response.status.code == 503

    play(doing)


def test_what_envoy_made_itself_passes_without_a_passage() -> None:
    """A denial of ours is one: to its client it comes as we wrote it."""

    async def doing(made: Answering) -> None:
        _, response = await made.begin("", details="ext_authz_denied", status=b"403")
        assert response.WhichOneof("response") == "response_headers"
        assert response.mode_override.response_body_mode == pb.ProcessingMode.NONE

    play(doing)


def test_a_call_that_speaks_on_ends_when_its_caller_is_stopped_though_nothing_was_answered() -> None:
    async def doing(made: Answering) -> None:
        stream = made.stream()
        assert (await tell(stream, departing("triage"))).WhichOneof("response") == "request_headers"
        made.world.rights.epoch += 1
        script.stands = AuthenticationError(Code.CONTAINED, "stopped")
        assert await ended(stream) == (DENIED, Code.CONTAINED)

    script = Script()
    play(doing, triage=script)


@pytest.mark.parametrize("kind", ["pass", "watch"])
def test_the_answer_to_a_call_that_was_looked_after_from_its_start_is_looked_at(kind: str) -> None:
    async def doing(made: Answering) -> None:
        stream = made.stream()
        await tell(stream, departing("triage"))
        response = await tell(stream, shown())
        assert response.WhichOneof("response") == "response_headers"
        if kind == "watch":
            assert (await tell(stream, TRAILERS)).WhichOneof("response") == "response_trailers"
        assert await stream.read() is grpc.aio.EOF
        # Nobody begins twice.
        stream = made.stream()
        for _ in range(2):
            await stream.write(departing("triage").SerializeToString())
        await heard(stream)
        assert await ended(stream) == (DENIED, Code.PASSAGE_MISSING)

    play(doing, triage=Script(replace(WATCH, kind=kind)))  # type: ignore[arg-type]  # of the literal


def test_a_second_answer_to_one_call_is_none() -> None:
    async def doing(made: Answering) -> None:
        stream = made.stream()
        await tell(stream, departing("triage"))
        await tell(stream, shown())
        await stream.write(shown().SerializeToString())
        assert await ended(stream) == (DENIED, Code.PASSAGE_MISSING)

    play(doing, triage=Script(WATCH))


def test_a_list_in_answer_to_such_a_call_is_written_anew_where_it_is_shown() -> None:
    async def doing(made: Answering) -> None:
        stream = made.stream()
        await tell(stream, departing("triage"))
        await tell(stream, shown())
        response = await tell(stream, chunk(b"a", end=True))
        assert response.response_body.response.body_mutation.body == b"A"
        stream = made.stream()
        hidden = departing("triage")
        hidden.protocol_config.response_body_mode = pb.ProcessingMode.NONE
        await tell(stream, hidden)
        await stream.write(shown().SerializeToString())
        assert await ended(stream) == (DENIED, Code.ANSWER_UNREADABLE)

    play(doing, triage=Script(REWRITE))


def test_what_envoy_answers_itself_to_such_a_call_passes() -> None:
    async def doing(made: Answering) -> None:
        stream = made.stream()
        await tell(stream, departing("triage"))
        response = await tell(stream, shown(details="response_timeout", end_of_stream=True))
        assert response.WhichOneof("response") == "response_headers"
        assert await stream.read() is grpc.aio.EOF

    script = Script(AnswerError(Code.ANSWER_UNREADABLE, "it is nobody's"))
    play(doing, triage=script)
    assert script.shown == []


def test_a_call_of_nobody_goes_no_further() -> None:
    async def doing(made: Answering) -> None:
        response = await tell(made.stream(), departing("nobody's"))
        assert response.immediate_response.status.code == 503

    play(doing)


def test_a_list_that_is_not_shown_is_replaced() -> None:
    """A proxy that may ignore what it is asked for would pass the list as it is."""

    async def doing(made: Answering) -> None:
        _, response = await made.begin(body_mode=pb.ProcessingMode.NONE)
        assert response.immediate_response.status.code == 503

    play(doing, triage=Script(REWRITE))


def test_chunks_of_what_is_watched_pass_as_they_are() -> None:
    """A proxy whose mode nobody may change sends them all."""
    script = Script(WATCH)

    async def doing(made: Answering) -> None:
        stream, _ = await made.begin()
        for _ in range(3):
            kept = await tell(stream, chunk(b"a"))
            assert kept.WhichOneof("response") == "response_body"
            assert not kept.response_body.response.HasField("body_mutation")
        script.stands = AuthenticationError(Code.CONTAINED, "agent 'triage'")
        await stream.write(chunk(b"b").SerializeToString())
        assert await ended(stream) == (DENIED, Code.CONTAINED)

    play(doing, triage=script)


def test_a_list_is_replaced_chunk_by_chunk() -> None:
    async def doing(made: Answering) -> None:
        stream, response = await made.begin()
        assert response.mode_override.response_body_mode == pb.ProcessingMode.STREAMED
        first = await tell(stream, chunk(b"a"))
        assert first.response_body.response.body_mutation.clear_body
        last = await tell(stream, chunk(b"b", end=True))
        assert last.response_body.response.body_mutation.body == b"AB"
        assert await stream.read() is grpc.aio.EOF

    held: list[bytes] = []

    def whole(body: bytes, end: bool) -> bytes:
        held.append(body)
        return b"".join(held).upper() if end else b""

    play(doing, triage=Script(REWRITE, whole))


def test_an_open_answer_ends_when_rights_are_withdrawn_and_others_go_on() -> None:
    script, other = Script(WATCH), Script(WATCH)

    async def doing(made: Answering) -> None:
        stream, _ = await made.begin()
        others, _ = await made.begin("resolver")
        script.stands = AuthenticationError(Code.CONTAINED, "agent 'triage'")
        made.world.rights.epoch += 1
        assert await ended(stream) == (DENIED, Code.CONTAINED)
        (record,) = [each for each in made.world.records() if each["kind"] == "withdrawn"]
        assert (record["code"], record["agent"]) == (Code.CONTAINED, "triage")
        assert (await tell(others, TRAILERS)).WhichOneof("response") == "response_trailers"
        assert await others.read() is grpc.aio.EOF

    play(doing, triage=script, resolver=other)


def test_an_open_answer_ends_by_time_alone() -> None:
    """Nothing moves the epoch when a task reaches its deadline."""
    script = Script(WATCH)

    async def doing(made: Answering) -> None:
        stream, _ = await made.begin()
        script.stands = AuthenticationError(Code.TASK_ENDED, "deadline")
        assert await ended(stream) == (DENIED, Code.TASK_ENDED)

    play(doing, triage=script)


def test_a_list_that_is_held_ends_when_rights_are_withdrawn() -> None:
    script = Script(REWRITE, lambda *_: b"")

    async def doing(made: Answering) -> None:
        stream, _ = await made.begin()
        await tell(stream, chunk(b"a"))
        script.stands = AuthenticationError(Code.CONTAINED, "agent 'triage'")
        made.world.rights.epoch += 1
        assert await ended(stream) == (DENIED, Code.CONTAINED)

    play(doing, triage=script)


def test_a_withdrawal_between_the_headers_and_the_watch_is_seen() -> None:
    async def doing(made: Answering) -> None:
        stream = made.stream()
        await stream.write(shown(passage="triage").SerializeToString())
        assert await ended(stream) == (DENIED, Code.CONTAINED)

    play(doing, triage=Script(WATCH, stands=AuthenticationError(Code.CONTAINED, "")))


def test_a_guard_that_fails_when_it_is_looked_at_ends_its_own_answer_only() -> None:
    script, other = Script(WATCH), Script(WATCH)

    async def doing(made: Answering) -> None:
        stream, _ = await made.begin()
        others, _ = await made.begin("resolver")
        script.stands = ValueError("a bug")
        made.world.rights.epoch += 1
        assert await ended(stream) == (DENIED, Code.INTERNAL)
        assert (await tell(others, TRAILERS)).WhichOneof("response") == "response_trailers"

    play(doing, triage=script, resolver=other)


@pytest.mark.parametrize(
    "error", [ValueError("a body"), SystemExit(), AnswerError(Code.ANSWER_UNREADABLE, "x")]
)
def test_whatever_fails_in_a_body_aborts(error: Exception) -> None:
    async def doing(made: Answering) -> None:
        stream, _ = await made.begin()
        await stream.write(chunk(b"a").SerializeToString())
        status, details = await ended(stream)
        assert status is not grpc.StatusCode.OK
        assert "a body" not in details

    play(doing, triage=Script(REWRITE, error))


def test_whatever_fails_with_the_headers_aborts_or_replaces() -> None:
    async def doing(made: Answering) -> None:
        stream = made.stream()
        await stream.write(shown(passage="triage").SerializeToString())
        assert await ended(stream) == (grpc.StatusCode.INTERNAL, Code.INTERNAL)
        _, response = await made.begin("resolver")
        assert response.immediate_response.status.code == 503

    failed = AnswerError(Code.ANSWER_UNREADABLE, "x")
    play(doing, triage=Script(ValueError("a bug")), resolver=Script(failed))


@pytest.mark.parametrize(
    "message",
    [b"\xff", b"", chunk(b"a").SerializeToString(), TRAILERS.SerializeToString(), b"\x22\x00"],
)
def test_what_does_not_begin_with_headers_is_aborted(message: bytes) -> None:
    async def doing(made: Answering) -> None:
        stream = made.stream()
        await stream.write(message)
        assert await ended(stream) == (DENIED, Code.PASSAGE_MISSING)

    play(doing, triage=Script())


def test_a_stream_that_ends_before_it_begins_is_no_answer() -> None:
    async def doing(made: Answering) -> None:
        stream = made.stream()
        await stream.done_writing()
        assert (await ended(stream))[0] is DENIED

    play(doing)


@pytest.mark.parametrize(
    ("said", "part"),
    [(WATCH, shown(passage="triage")), (REWRITE, shown(passage="triage"))],
)
def test_a_part_that_was_never_asked_for_aborts(said: HeadersAnswer, part: pb.ProcessingRequest) -> None:
    async def doing(made: Answering) -> None:
        stream, _ = await made.begin()
        await stream.write(part.SerializeToString())
        assert await ended(stream) == (DENIED, Code.PASSAGE_MISSING)

    play(doing, triage=Script(said))


def test_what_is_held_when_trailers_come_is_lost_with_its_answer() -> None:
    """It can go nowhere any more, and without it the answer would be another."""

    async def doing(made: Answering) -> None:
        stream, _ = await made.begin()
        await tell(stream, chunk(b"a"))
        await stream.write(TRAILERS.SerializeToString())
        assert await ended(stream) == (DENIED, Code.ANSWER_UNREADABLE)

    play(doing, triage=Script(REWRITE, lambda _, end: b"held" if end else b""))


def test_trailers_pass_when_nothing_is_held() -> None:
    async def doing(made: Answering) -> None:
        stream, _ = await made.begin()
        await tell(stream, chunk(b"a"))
        assert (await tell(stream, TRAILERS)).WhichOneof("response") == "response_trailers"

    play(doing, triage=Script(REWRITE, lambda chunk, _: chunk))


def test_more_answers_than_are_looked_after_at_once_are_refused_at_once() -> None:
    async def doing(made: Answering) -> None:
        stream, _ = await made.begin()
        assert await ended(made.stream()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Code.OVERLOADED)
        await tell(stream, TRAILERS)
        assert await stream.read() is grpc.aio.EOF
        await made.begin()

    play(doing, StreamLimits(streams=1), triage=Script(WATCH))


def test_one_agent_cannot_take_all_open_answers() -> None:
    async def doing(made: Answering) -> None:
        await made.begin()
        stream = made.stream()
        await stream.write(shown(passage="triage").SerializeToString())
        assert await ended(stream) == (DENIED, Code.OVERLOADED)
        await made.begin("resolver")

    play(doing, StreamLimits(streams_of_agent=1), triage=Script(WATCH), resolver=Script(WATCH))


def holding() -> Script:
    return Script(REWRITE, lambda *_: b"")


def test_what_is_held_of_all_answers_is_bounded() -> None:
    async def doing(made: Answering) -> None:
        first, _ = await made.begin()
        await tell(first, chunk(b"a" * 60))
        second, _ = await made.begin()
        await second.write(chunk(b"a" * 60).SerializeToString())
        assert await ended(second) == (DENIED, Code.OVERLOADED)
        # What the second one held is free again.
        await tell(first, chunk(b"a" * 40))
        await tell(first, chunk(b"", end=True))
        third, _ = await made.begin()
        await tell(third, chunk(b"a" * 100))

    play(doing, StreamLimits(held_bytes=100), triage=holding())


def test_a_service_that_never_ends_its_answers_leaves_room_for_others() -> None:
    async def doing(made: Answering) -> None:
        for _ in range(3):
            slow, _ = await made.begin("triage@slow")
            await tell(slow, chunk(b"a" * 13))
        slow, _ = await made.begin("triage@slow")
        await slow.write(chunk(b"a" * 13).SerializeToString())
        assert await ended(slow) == (DENIED, Code.OVERLOADED)
        other, _ = await made.begin("triage@other")
        await tell(other, chunk(b"a" * 40))

    script = Script(REWRITE, lambda *_: b"")
    limits = StreamLimits(held_bytes=100, held_bytes_of_service=40)
    play(doing, limits, **{"triage@slow": script, "triage@other": script})


def test_comments_without_end_are_not_counted_as_held() -> None:
    """What is not sent on is not kept either; else one long stream would refuse the lists of everybody."""

    async def doing(made: Answering) -> None:
        stream, _ = await made.begin()
        for _ in range(20):
            await tell(stream, chunk(b": nothing that is sent on."))

    play(doing, StreamLimits(held_bytes=100), triage=holding())


def test_a_part_that_never_ends_is_held_for_a_while_only() -> None:
    async def doing(made: Answering) -> None:
        stream, _ = await made.begin()
        await tell(stream, chunk(b'{"result":'))
        assert await ended(stream) == (DENIED, Code.OVERLOADED)

    play(doing, StreamLimits(held_seconds=0.1), triage=holding())


def test_a_service_that_takes_all_the_time_is_refused_and_others_have_their_turn() -> None:
    """Each part takes half a second of the process; a proxy would give up waiting for the next."""

    def slowly(chunk: bytes, _: bool) -> bytes:
        begun = time.thread_time()
        while time.thread_time() - begun < 0.5:
            pass
        return chunk

    async def doing(made: Answering) -> None:
        stream, _ = await made.begin()
        await tell(stream, chunk(b"a"))
        await stream.write(chunk(b"a").SerializeToString())
        assert await ended(stream) == (DENIED, Code.OVERLOADED)

    play(doing, triage=Script(REWRITE, slowly))


def test_a_large_chunk_is_read_in_slices_between_which_others_have_their_turn() -> None:
    async def doing(made: Answering) -> None:
        stream, _ = await made.begin()
        response = await tell(stream, chunk(b"a" * 100_000, end=True))
        assert response.response_body.response.body_mutation.body == b"A" * 100_000

    script = Script(REWRITE)
    play(doing, triage=script)
    assert max(len(each) for each in script.shown if isinstance(each, bytes)) <= 8 << 10


def test_an_answer_lasts_no_longer_than_it_may() -> None:
    async def doing(made: Answering) -> None:
        stream, _ = await made.begin()
        assert await ended(stream) == (grpc.StatusCode.DEADLINE_EXCEEDED, Code.OVERLOADED)

    play(doing, StreamLimits(stream_seconds=0.2), triage=Script(WATCH))


def test_open_answers_end_when_the_process_stops() -> None:
    async def doing(made: Answering) -> None:
        stream, _ = await made.begin()
        await made.host.stop()
        status, _ = await ended(stream)
        assert status is not grpc.StatusCode.OK

    play(doing, triage=Script(WATCH))


def test_a_client_that_is_gone_leaves_nothing_open() -> None:
    async def doing(made: Answering) -> None:
        for _ in range(5):
            stream, _ = await made.begin()
            stream.cancel()
        # The same place is taken again as soon as each was noticed.
        while True:
            stream = made.stream()
            await stream.write(shown(passage="triage").SerializeToString())
            if isinstance(await stream.read(), bytes):
                return
            await asyncio.sleep(0.01)

    play(doing, StreamLimits(streams=5), triage=Script(WATCH))


class Lost:
    """What a replica follows; it can be read until it cannot."""

    def __init__(self) -> None:
        self.is_lost = False

    async def refresh(self) -> None:
        if self.is_lost:
            raise StoreError("the state cannot be read")

    async def reach(self, min_epoch: int) -> None:
        raise AssertionError(min_epoch)

    async def learn(self) -> None:
        raise AssertionError


def test_open_answers_of_a_replica_end_when_it_cannot_know_more() -> None:
    """With the real guard: what was withdrawn meanwhile would not be seen."""
    world, passage = _world()
    lost = Lost()

    async def doing() -> None:
        answers = Answers(replace(world.flow(), following=lost))
        limits = Limits(drain_seconds=0, grace_seconds=1)
        host = GrpcHost(allow, denials=DENIALS, listen=LOCAL, limits=limits, answers=answers)
        async with grpc.aio.insecure_channel(str(await host.start())) as channel:
            made = Answering(world, host, channel)
            stream, response = await made.begin(passage.encode())
            assert response.mode_override.response_trailer_mode == pb.ProcessingMode.SEND
            lost.is_lost = True
            assert await ended(stream) == (DENIED, Code.STALE)
            await host.stop()

    asyncio.run(asyncio.wait_for(doing(), SECONDS))


def test_without_guarded_answers_there_is_no_such_service() -> None:
    async def doing() -> None:
        host = GrpcHost(allow, denials=DENIALS, listen=LOCAL, limits=Limits(drain_seconds=0))
        address = await host.start()
        try:
            async with grpc.aio.insecure_channel(str(address)) as channel:
                stream: Stream = channel.stream_stream(f"/{SERVICE}/{METHOD}")(timeout=SECONDS)
                assert await stream.code() is grpc.StatusCode.UNIMPLEMENTED
        finally:
            await host.stop()

    asyncio.run(doing())
