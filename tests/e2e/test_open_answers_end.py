"""Streams that are open when their caller is stopped end; those of others go on."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, Final

import grpc
import httpx2
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from authz.codes import Code
from tests.e2e.answers_world import SECONDS, AnswersWorld, answers_world
from tests.e2e.protocol_servers import LEDGER
from tests.e2e.services import until

pytestmark = pytest.mark.e2e
TIMES: Final = 50
A2A: Final = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "SendStreamingMessage",
    "params": {"message": {"messageId": "m-1", "role": "ROLE_USER", "parts": [{"text": "hi"}]}},
}
CHAT: Final = {"model": "small-1", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
TOOL: Final = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "read_page", "arguments": {}},
}


@pytest.fixture(scope="module")
def running() -> Iterator[AnswersWorld]:
    with answers_world() as made:
        yield made


@pytest.fixture
def world(running: AnswersWorld) -> Iterator[AnswersWorld]:
    running.feed.interval = 0.02
    yield running
    running.release()


class Reader:
    """A client that reads one stream in a thread of its own."""

    def __init__(self, world: AnswersWorld, service: str, who: str) -> None:
        self._world, self._service, self._who = world, service, who
        self.chunks = 0
        self.last_at = self.over_at = 0.0
        self.failed: Exception | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        until(lambda: self.chunks > 0 or not self._thread.is_alive())
        assert self._thread.is_alive(), self.failed

    def _request(self) -> dict[str, Any]:
        if self._service == "get":
            return {"method": "GET", "url": self._world.url("feed")}
        message = {"feed": TOOL, "planner": A2A, "models": CHAT}[self._service]
        path = {"feed": "/mcp", "planner": "", "models": "/v1/chat/completions"}[self._service]
        headers = {"a2a-version": "1.0"} if self._service == "planner" else {}
        url = self._world.url(self._service, path or "/")
        return {"method": "POST", "url": url, "json": message, "headers": headers}

    def _read(self) -> None:
        service = "feed" if self._service == "get" else self._service
        try:
            with self._world.http(service, self._who) as http, http.stream(**self._request()) as response:
                assert response.status_code == httpx2.codes.OK, response.read()
                for _ in response.iter_bytes():
                    self.chunks += 1
                    self.last_at = time.monotonic()
        except httpx2.TransportError as error:
            self.failed = error
        self.over_at = time.monotonic()

    def join(self) -> None:
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "it did not end"

    @property
    def goes_on(self) -> bool:
        return self._thread.is_alive()


@pytest.mark.parametrize("interval", [0.02, None], ids=["it flows", "it is silent"])
@pytest.mark.parametrize("service", ["feed", "get", "planner", "models"])
def test_an_open_stream_ends_when_its_agent_is_contained_and_that_of_another_goes_on(
    world: AnswersWorld, service: str, interval: float | None
) -> None:
    """MCP (an answer, and the stream of a session), A2A, a model; whether anything flows or not."""
    world.feed.interval = interval
    stopped, other = Reader(world, service, "triage"), Reader(world, service, "resolver")
    closed, records = len(world.feed.closed_at), len(world.records("withdrawn"))
    world.contain("triage")
    stopped.join()
    # The client is told that it was not the end, and the server that nobody listens.
    assert stopped.failed is not None
    until(lambda: len(world.feed.closed_at) > closed)
    assert len(world.feed.closed_at) == closed + 1
    (record,) = world.records("withdrawn")[records:]
    assert (record["agent"], record["code"]) == ("triage", Code.CONTAINED)
    assert other.goes_on
    chunks = other.chunks
    if interval is not None:
        until(lambda: other.chunks > chunks)
    world.contain("resolver")
    other.join()


def test_a_stream_of_grpc_ends_when_its_agent_is_contained_and_that_of_another_goes_on(
    world: AnswersWorld,
) -> None:
    with world.channel("triage") as channel, world.channel("resolver") as others:
        (said, answers), (also_said, also) = chat(channel), chat(others)
        world.contain("triage")
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        assert caught.value.code() is not grpc.StatusCode.OK
        also_said.put(StringValue(value="b"))
        assert next(also).value == "b"
        also_said.put(None)
        assert list(also) == []
        said.put(None)


def test_a_caller_that_only_speaks_is_stopped_though_the_server_has_said_nothing(world: AnswersWorld) -> None:
    """An upload has no answer before its end, so there is none that could be ended."""
    said: SimpleQueue[StringValue | None] = SimpleQueue()
    with world.channel("triage") as channel:
        upload: Any = channel.stream_unary(
            f"/{LEDGER}/Import",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=StringValue.FromString,
        )
        assert upload(iter([StringValue(value="a")]), timeout=SECONDS).value == "1"
        heard, records = world.ran.heard, len(world.records("withdrawn"))
        call = upload.future(iter(said.get, None), timeout=SECONDS)
        said.put(StringValue(value="a"))
        until(lambda: world.ran.heard > heard)
        world.contain("triage")
        assert call.exception(timeout=SECONDS).code() is not grpc.StatusCode.OK
        said.put(None)
    (record,) = world.records("withdrawn")[records:]
    assert (record["agent"], record["code"]) == ("triage", Code.CONTAINED)


def chat(channel: grpc.Channel) -> tuple["SimpleQueue[StringValue | None]", Any]:
    """A call that waits for the next word of its client."""
    said: SimpleQueue[StringValue | None] = SimpleQueue()
    echo: Any = channel.stream_stream(
        f"/{LEDGER}/Chat",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )
    answers = echo(iter(said.get, None), timeout=SECONDS)
    said.put(StringValue(value="a"))
    assert next(answers).value == "a"
    return said, answers


def test_an_answer_of_grpc_keeps_its_trailers(world: AnswersWorld) -> None:
    with world.channel() as channel:
        get: Any = channel.unary_unary(
            f"/{LEDGER}/Get",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=StringValue.FromString,
        )
        answer, call = get.with_call(StringValue(value="a"), timeout=SECONDS)
    assert (answer.value, call.code()) == ("a", grpc.StatusCode.OK)


def test_the_access_log_says_why_a_stream_was_ended(world: AnswersWorld) -> None:
    reader = Reader(world, "feed", "triage")
    world.contain("triage")
    reader.join()
    until(lambda: any(Code.CONTAINED in str(line["details"]) for line in world.logged()))


def test_a_stream_outlives_the_connection_that_it_came_by(world: AnswersWorld) -> None:
    """Connections to Deputy end after seconds for new calls; what is open on one goes on."""
    reader = Reader(world, "feed", "resolver")
    # `GrpcLimits.connection_seconds` is 10, and the grace after it 5 where no answers are guarded.
    begun = time.monotonic()
    until(lambda: time.monotonic() - begun > 17 or not reader.goes_on)
    chunks = reader.chunks
    until(lambda: reader.chunks > chunks)
    world.contain("resolver")
    reader.join()


def test_the_time_to_the_last_byte_is_measured(
    world: AnswersWorld, record_property: Callable[[str, object], None]
) -> None:
    readers = [Reader(world, "feed", "triage") for _ in range(TIMES)]
    contained = time.monotonic()
    world.contain("triage")
    for reader in readers:
        reader.join()
    taken = [max(0.0, reader.last_at - contained) for reader in readers]
    half, most = statistics.median(taken), max(taken)
    record_property("last_byte_p50_seconds", f"{half:.3f}")
    record_property("last_byte_max_seconds", f"{most:.3f}")
    print(
        f"the last byte of {TIMES} streams came {half:.3f} s after containment (median), {most:.3f} s at most"
    )
