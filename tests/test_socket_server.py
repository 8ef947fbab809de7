"""The private socket against strangers: bad frames, floods, silence, and callers that are gone."""

import asyncio
import gc
import logging
import os
import resource
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # no stubs
from grpc_reflection.v1alpha import reflection_pb2  # type: ignore[import-untyped]  # no stubs
from grpclib.const import Cardinality, Handler
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from identity import socket_pace
from identity.entitlement import Peer
from identity.errors import (
    AttestationError,
    IssuanceUnavailableError,
    NotEntitledError,
    SocketError,
    TokenError,
)
from identity.feed import Feed
from identity.pb import workload_pb2 as pb
from identity.socket_connection import BoundedBuffer, SocketLimits
from identity.socket_log import FewLines, SeldomLog
from identity.socket_pace import Readers
from identity.socket_server import SocketServer, peer_of
from identity.workload_messages import standard_file
from tests.raw_http2 import GRPC, PREFACE, RawClient, frame, message
from tests.socket_world import SocketWorld, refusal

Serve = Callable[[Stream[Any, Any]], Awaitable[None]]
PATH = "/test.Service/Call"


class OneMethod:
    """A service of one method, on JWT-SVID messages."""

    def __init__(self, serve: Serve, cardinality: Cardinality = Cardinality.UNARY_UNARY) -> None:
        self.serve = serve
        self.cardinality = cardinality

    def __mapping__(self) -> Mapping[str, Handler]:
        return {PATH: Handler(self.serve, self.cardinality, pb.JWTSVID, pb.JWTSVID)}


async def echo(stream: Stream[Any, Any]) -> None:
    await stream.send_message(await stream.recv_message())


async def echo_all(stream: Stream[Any, Any]) -> None:
    async for each in stream:
        await stream.send_message(each)


@asynccontextmanager
async def serving(
    path: Path, serve: Serve = echo, cardinality: Cardinality = Cardinality.UNARY_UNARY, **limits: Any
) -> AsyncIterator[SocketServer]:
    server = SocketServer(SocketLimits(**limits))
    await server.listen(path, [OneMethod(serve, cardinality)])
    try:
        async with asyncio.timeout(60):
            yield server
    finally:
        await server.close()


async def eventually(holds: Callable[[], bool]) -> None:
    for _ in range(2000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


async def ask(path: Path, request: Any = None, **more: Any) -> Any:
    """Call with a real client."""
    # With a connection of its own: grpcio keeps those of earlier channels to the same path.
    options = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))
    async with grpc.aio.insecure_channel(f"unix:{path}", options=options) as channel:
        method = channel.unary_unary(
            PATH, request_serializer=pb.JWTSVID.SerializeToString, response_deserializer=pb.JWTSVID.FromString
        )
        return await method(request or pb.JWTSVID(hint="hello"), **more)


def attacked(path: Path, attack: Callable[[RawClient], Any], **serving_: Any) -> Any:
    """Run an attack against a server that then still answers a well-behaved client."""

    def run() -> Any:
        with RawClient(path) as raw:
            return attack(raw)

    async def main() -> Any:
        async with serving(path, **serving_):
            found = await asyncio.to_thread(run)
            if serving_.get("cardinality", Cardinality.UNARY_UNARY) is Cardinality.UNARY_UNARY:
                assert (await ask(path)).hint == "hello"
            return found

    return asyncio.run(main())


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "private" / "api.sock"


# ---------------------------------------------------------------- frames


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x00" * 1000,
        PREFACE + b"\xff" * 1000,
        PREFACE + frame(4) + frame(0, 0, 1, b"data of no stream"),
        PREFACE + frame(4) + frame(1, 4, 1, b"\xff\xff\xff\xff\xff\xff"),  # headers that HPACK cannot read
        PREFACE + frame(4) + frame(1, 4, 2, b"\x82"),  # an even stream
        PREFACE + frame(4) + frame(9, 4, 1, b"\x82"),  # CONTINUATION of nothing
        PREFACE + frame(4) + frame(8, 0, 0, struct.pack(">I", 2**31 - 1)) * 3,  # window overflow
        PREFACE + frame(4, 0, 0, struct.pack(">HI", 4, 2**32 - 1)),  # an initial window that is too large
        PREFACE + frame(4) + frame(6, 0, 0, b"short"),  # PING of a wrong size
        PREFACE + frame(4) + struct.pack(">I", 2**24 - 1)[1:] + b"\x00\x00\x00\x00\x00\x01",  # 16 MiB frame
        PREFACE + frame(4) + frame(7, 0, 0, b"\x00" * 8),  # GOAWAY
        PREFACE + frame(5, 4, 1, b"\x00\x00\x00\x02\x82"),  # PUSH_PROMISE by a client
    ],
    ids=lambda data: repr(data[-12:]),
)
def test_bad_frames_end_the_connection_and_nothing_else(
    path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    def attack(raw: RawClient) -> None:
        raw.socket.sendall(data)
        raw.socket.shutdown(socket.SHUT_WR)
        while raw.socket.recv(65536):
            pass

    with caplog.at_level(logging.INFO):
        attacked(path, attack)

    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    "headers",
    [
        [*GRPC],  # no path
        [(":path", PATH), *GRPC[1:]],  # no method
        [(":path", PATH), (":path", PATH), *GRPC],
        [(":path", PATH), *GRPC, ("x-name", "caf\xe9")],  # no ASCII
        [(":path", PATH), *GRPC, ("Upper", "case")],
        [(":path", PATH), *GRPC, ("connection", "close")],
        [(":path", PATH), *GRPC, ("x", "y" * 20_000)],  # more than 16 KiB
    ],
    ids=["no path", "no method", "two paths", "not ascii", "upper case", "hop by hop", "too large"],
)
def test_bad_headers_end_the_connection_without_a_traceback(
    path: Path, headers: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    def attack(raw: RawClient) -> bool:
        raw.http.config.validate_outbound_headers = False
        raw.http.config.normalize_outbound_headers = False
        raw.begin()
        while raw.http.remote_settings.max_header_list_size is None:
            raw.receive()
        raw.http.send_headers(1, [(name, value.encode("latin-1")) for name, value in headers])
        raw.flush()
        return raw.is_closed()

    with caplog.at_level(logging.INFO):
        assert attacked(path, attack)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("grpc-timeout", "soon")], "2"),
        ([("grpc-timeout", "0n")], "2"),
        ([("x-bin", "A")], "reset <ErrorCodes.PROTOCOL_ERROR: 1>"),
        ([("content-type", "text/html")], "0"),  # the first counts for us, and that is gRPC's
    ],
)
def test_bad_metadata_is_answered(
    path: Path, headers: list[tuple[str, str]], expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    def attack(raw: RawClient) -> str:
        raw.begin()
        return raw.result(raw.call(PATH, message(b""), *headers))

    with caplog.at_level(logging.INFO):
        found = attacked(path, attack)
    assert found in {expected, "4", "2"}
    assert not [record for record in caplog.records if record.exc_info]


def test_an_unknown_frame_is_ignored(path: Path) -> None:
    """RFC 9113 section 5.5."""

    def attack(raw: RawClient) -> str:
        raw.begin()
        raw.socket.sendall(frame(0xFA, 0, 0, b"grease"))
        return raw.result(raw.call(PATH, message(b"")))

    assert attacked(path, attack) == "0"


# ---------------------------------------------------------------- sizes


def test_a_message_that_is_too_large_is_refused_before_its_bytes_come(path: Path) -> None:
    def attack(raw: RawClient) -> str:
        raw.begin()
        return raw.result(raw.call(PATH, message(b"x", size=2**32 - 1), end=False))

    assert attacked(path, attack) == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])


def test_a_message_of_the_largest_size_is_taken(path: Path) -> None:
    async def main() -> None:
        async with serving(path):
            largest = pb.JWTSVID(hint="x" * (64 * 1024 - 4))
            assert largest.ByteSize() == 64 * 1024
            assert await ask(path, largest) == largest
            largest.hint += "x"
            assert (await refusal(ask(path, largest)))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED

    asyncio.run(main())


def test_a_compressed_message_is_unimplemented(path: Path) -> None:
    async def main() -> None:
        async with serving(path):
            call = ask(path, pb.JWTSVID(hint="x" * 10_000), compression=grpc.Compression.Gzip)
            assert (await refusal(call))[0] is grpc.StatusCode.UNIMPLEMENTED

    asyncio.run(main())


@pytest.mark.parametrize("data", [message(b"x", size=10), b"\x00\x00", message(b"\xff\xff"), b""])
def test_a_message_that_is_cut_off_or_unreadable_is_invalid(path: Path, data: bytes) -> None:
    def attack(raw: RawClient) -> str:
        raw.begin()
        return raw.result(raw.call(PATH, data))

    # Without any message there is nothing to echo: that is a failure of the service of this test.
    assert attacked(path, attack) == ("3" if data else "13")


def test_empty_frames_are_not_kept() -> None:
    """A frame without data costs no window, so that a client could send them for ever."""

    async def main() -> None:
        acknowledged: list[int] = []
        buffer = BoundedBuffer(acknowledged.append, SocketLimits())
        for _ in range(1000):
            buffer.add(b"", 0)
        assert buffer._unacked.empty()
        buffer.add(b"ab", 2)
        buffer.add(b"", 0)
        buffer.add(b"c", 1)
        assert await buffer.read(3) == b"abc"
        assert acknowledged == [2, 1]

    asyncio.run(main())


def test_who_does_not_read_is_not_read_from(path: Path) -> None:
    """Each PING is answered; answers that nobody takes would pile up."""

    def attack(raw: RawClient) -> int:
        raw.begin()
        raw.socket.settimeout(0.5)
        sent, pings = 0, frame(6, 0, 0, b"12345678") * 1000
        try:
            while sent < 200_000_000:
                sent += raw.socket.send(pings)
        except TimeoutError:
            return sent
        return sent

    assert attacked(path, attack) < 20_000_000


# ---------------------------------------------------------------- counts and times


def test_streams_of_one_connection_are_bounded(path: Path) -> None:
    async def wait(stream: Stream[Any, Any]) -> None:
        request = await stream.recv_message()
        if request is None or request.hint == "":
            await asyncio.sleep(3600)
        await stream.send_message(pb.JWTSVID(hint="hello"))

    def attack(raw: RawClient) -> list[str]:
        raw.begin()
        streams = [raw.call(PATH, message(b""), end=False) for _ in range(5)]
        return [raw.result(stream) for stream in streams[3:]]

    refused = "reset <ErrorCodes.REFUSED_STREAM: 7>"
    assert attacked(path, attack, serve=wait, streams=3) == [refused, refused]


def test_calls_that_are_given_up_at_once_end_the_connection(path: Path) -> None:
    """CVE-2023-44487: to start and reset calls costs the client nothing."""

    def attack(raw: RawClient) -> bool:
        raw.begin()
        try:
            for _ in range(50):
                stream = raw.call(PATH, end=False)
                raw.http.reset_stream(stream)
                raw.flush()
        except (BrokenPipeError, ConnectionResetError):
            return True
        return raw.is_closed()

    assert attacked(path, attack, resets=10)


def test_who_asks_nothing_is_closed(path: Path) -> None:
    attacked(path, lambda raw: raw.is_closed(), request_seconds=0.2)


def test_who_only_greets_is_closed(path: Path) -> None:
    def attack(raw: RawClient) -> bool:
        raw.begin()
        return raw.is_closed()

    assert attacked(path, attack, request_seconds=0.2)


def test_a_request_that_never_comes_is_not_waited_for(path: Path) -> None:
    def attack(raw: RawClient) -> str:
        raw.begin()
        return raw.result(raw.call(PATH, message(b"x", size=10)[:7], end=False))

    assert attacked(path, attack, request_seconds=0.2) == str(grpc.StatusCode.DEADLINE_EXCEEDED.value[0])


def test_only_the_first_message_is_owed() -> None:
    """A stream of requests may rest for as long as it likes."""

    async def main() -> None:
        buffer = BoundedBuffer(lambda _: None, SocketLimits(request_seconds=0.01))
        buffer.add(b"first message", 13)
        assert await buffer.read(5) == b"first"
        assert await buffer.read(8) == b" message"
        reading = asyncio.create_task(buffer.read(6))
        end = asyncio.get_running_loop().time() + 0.02
        await eventually(lambda: asyncio.get_running_loop().time() > end)
        buffer.add(b"second", 6)
        assert await reading == b"second"
        late = BoundedBuffer(lambda _: None, SocketLimits(request_seconds=0.01))
        with pytest.raises(GRPCError, match="no request came"):
            await late.read(5)

    asyncio.run(main())


def test_an_idle_connection_is_closed_and_the_client_comes_back(path: Path) -> None:
    def attack(raw: RawClient) -> tuple[str, bool]:
        raw.begin()
        return raw.result(raw.call(PATH, message(b""))), raw.is_closed()

    assert attacked(path, attack, request_seconds=0.1, idle_seconds=0.1) == ("0", True)


@pytest.mark.parametrize("limits", [{"connections": 2}, {"connections_per_uid": 2}])
def test_connections_are_bounded_in_all_and_by_user(path: Path, limits: dict[str, Any]) -> None:
    def run() -> str:
        with RawClient(path) as first, RawClient(path) as second, RawClient(path) as third:
            for raw in (first, second):
                raw.begin()
                assert raw.result(raw.call(PATH, message(b""))) == "0"
            assert third.is_closed()
        for _ in range(1000):
            with RawClient(path) as again:
                try:
                    again.begin()
                    if (found := again.result(again.call(PATH, message(b"")))) == "0":
                        return found
                except (BrokenPipeError, ConnectionResetError):
                    continue
        return "closed"

    async def main() -> None:
        async with serving(path, **limits):
            assert await asyncio.to_thread(run) == "0"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("files", "in_all", "of_one_user"),
    [(1024, 256, 192), (256, 1, 1), (4096, 1024, 768), (100_000, 4096, 3072), (-1, 4096, 3072)],
)
def test_connections_leave_files_for_the_rest_of_the_process_and_for_other_users(
    monkeypatch: pytest.MonkeyPatch, files: int, in_all: int, of_one_user: int
) -> None:
    """Where files are few, the bound of one user would be beyond that of all, and so be none."""
    assert resource.RLIM_INFINITY == -1
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    server = SocketServer()
    assert (server._most, server._most_per_uid) == (in_all, of_one_user)


@pytest.mark.parametrize("limits", [{"calls": 3}, {"calls_per_uid": 3}])
@pytest.mark.parametrize("method", [PATH, "/grpc.health.v1.Health/Watch"])
def test_calls_are_bounded_in_all_and_by_user_over_all_connections(
    path: Path, method: str, limits: dict[str, Any]
) -> None:
    """A hundred streams on each of thousands of connections were gigabytes, for a stranger to ask for."""

    async def wait(stream: Stream[Any, Any]) -> None:
        await stream.recv_message()
        await asyncio.sleep(3600)

    def run() -> list[str]:
        with RawClient(path) as first, RawClient(path) as second:
            for raw in (first, second):
                raw.begin()
            calls = [raw.call(method, message(b""), end=False) for raw in (first, first, second, second)]
            return [second.result(calls[3])]

    async def main() -> None:
        async with serving(path, wait, **limits) as server:
            assert await asyncio.to_thread(run) == ["reset <ErrorCodes.REFUSED_STREAM: 7>"]
            await eventually(lambda: not server._calls_by_uid and not server._by_uid)

    asyncio.run(main())


def test_who_never_reads_holds_no_connection_that_was_closed(path: Path) -> None:
    """A task's socket goes with its task; what was left to send kept the connection and its files."""

    async def pour(stream: Stream[Any, Any]) -> None:
        await stream.recv_message()
        while True:
            await stream.send_message(pb.JWTSVID(hint="x" * 60_000))

    def begin(raw: RawClient) -> None:
        raw.begin()
        raw.http.increment_flow_control_window(2**30)
        raw.http.update_settings({4: 2**30})  # SETTINGS_INITIAL_WINDOW_SIZE
        raw.call(PATH, message(b""))

    async def main() -> None:
        many = Cardinality.UNARY_STREAM
        async with serving(path, pour, many, request_seconds=0.2) as server:
            with RawClient(path) as raw:
                await asyncio.to_thread(begin, raw)
                await eventually(lambda: bool(server._calls_by_uid))
                (connection,) = server._listeners[path].connections
                await eventually(lambda: not connection.connection.write_ready.is_set())
                await server.close_socket(path)
                await eventually(lambda: not server._by_uid)

    asyncio.run(main())


def test_who_floods_is_read_in_turn_with_other_users_and_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty connections full of PINGs held the loop, and with it each decision, for seconds."""
    monkeypatch.setattr(socket_pace, "_SECONDS_AT_A_TIME", 0.0)
    taken: list[str] = []

    def flood(name: str, pieces: int) -> Callable[[], bool]:
        left = iter(range(pieces - 1, -1, -1))

        def take() -> bool:
            taken.append(name)
            return next(left) > 0

        return take

    async def main() -> None:
        readers = Readers()
        for name in ("a", "b", "c"):
            readers.come(1, flood(name, 3))
        readers.come(2, flood("other", 2))
        while len(taken) < 11:
            seen = len(taken)
            await asyncio.sleep(0)
            assert len(taken) <= seen + 1, "the loop has its turn after each piece"
        readers.come(2, flood("late", 1))
        await asyncio.sleep(0)
        assert not readers._users

    asyncio.run(main())
    assert taken == ["a", "other", "b", "other", "c", "a", "b", "c", "a", "b", "c", "late"]


def test_what_was_sent_in_pieces_is_read_in_order_and_whole(path: Path) -> None:
    async def main() -> None:
        serves = serving(path, echo_all, Cardinality.STREAM_STREAM)
        async with serves, grpc.aio.insecure_channel(f"unix:{path}") as channel:
            method = channel.stream_stream(
                PATH,
                request_serializer=pb.JWTSVID.SerializeToString,
                response_deserializer=pb.JWTSVID.FromString,
            )
            hints = [f"{number} " * 5000 for number in range(20)]
            call = method(iter([pb.JWTSVID(hint=hint) for hint in hints]))
            assert [answer.hint async for answer in call] == hints

    asyncio.run(main())


def test_who_leaves_before_the_answers_fills_no_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """There is a line of asyncio for each write to a connection that is gone."""

    def run() -> None:
        for _ in range(20):
            with RawClient(path) as raw:
                raw.begin()
                for _ in range(50):
                    stream = int(raw.http.get_next_available_stream_id())
                    raw.http.send_headers(stream, [(":path", PATH), *GRPC])
                    raw.http.send_data(stream, message(b""), end_stream=True)
                raw.flush()

    async def main() -> None:
        async with serving(path) as server:
            await asyncio.to_thread(run)
            await eventually(lambda: not server._by_uid)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert not [record for record in caplog.records if record.name == "asyncio"]


def test_what_strangers_cause_is_logged_seldom(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = SeldomLog(logging.getLogger("identity.test"), lambda: now[0])
    for _ in range(5):
        log.warning("refused: %s", "somebody")
    now[0] = 10.0
    log.warning("refused: %s", "somebody")
    assert [record.getMessage() for record in caplog.records] == [
        "refused: somebody (and 0 more since the last line)",
        "refused: somebody (and 4 more since the last line)",
    ]


def test_lines_that_differ_fill_no_log_either(caplog: pytest.LogCaptureFixture) -> None:
    """A caller asks for other unknown secrets on one stream after the other."""
    now = [0.0]
    log = FewLines(logging.getLogger("identity.test"), lambda: now[0], lines=2)
    for number in range(5):
        log.warning("left out: %d", number)
    now[0] = 10.0
    log.warning("left out: %d", 5)
    assert [record.getMessage() for record in caplog.records] == [
        "left out: 0",
        "left out: 1",
        "3 more lines than the log takes in a while",
        "left out: 5",
    ]


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AttestationError("a caller that is gone"), grpc.StatusCode.PERMISSION_DENIED),
        (NotEntitledError("not yours"), grpc.StatusCode.PERMISSION_DENIED),
        (IssuanceUnavailableError("later"), grpc.StatusCode.UNAVAILABLE),
        (TokenError("hush"), grpc.StatusCode.INTERNAL),
        (RuntimeError("hush"), grpc.StatusCode.INTERNAL),
        (TimeoutError("hush"), grpc.StatusCode.INTERNAL),
    ],
)
def test_a_failure_is_a_status_and_never_a_traceback(
    path: Path, error: Exception, code: grpc.StatusCode, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(stream: Stream[Any, Any]) -> None:
        await stream.recv_message()
        raise error

    async def main() -> None:
        async with serving(path, fail):
            found, details = await refusal(ask(path))
            assert found is code
            assert "hush" not in details

    with caplog.at_level(logging.DEBUG):
        asyncio.run(main())
    mine = [record for record in caplog.records if record.name.startswith(("identity", "grpclib"))]
    assert not [record for record in mine if record.exc_info or "hush" in record.getMessage()]


def test_who_is_calling_is_said_by_the_kernel(path: Path) -> None:
    found: list[Peer] = []

    async def note(stream: Stream[Any, Any]) -> None:
        found.append(peer_of(stream))
        await echo(stream)

    async def main() -> None:
        async with serving(path, note):
            await ask(path)

    asyncio.run(main())
    assert found == [Peer(os.getpid(), os.getuid(), os.getgid())]


HALF_DEAD = """
import os, sys
from pathlib import Path
from tests.raw_http2 import RawClient, message
raw = RawClient(Path(sys.argv[1]))
# Before there are two of us, who would both answer the server's first frames.
raw.begin()
raw.call(sys.argv[2], message(b""), ("workload.spiffe.io", "true"))
if os.fork():
    sys.stdin.readline()
    os._exit(0)
raw.socket.settimeout(30)
print(raw.result(1), raw.messages(1), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("rpc", ["FetchX509SVID", "FetchX509Bundles"])
def test_a_socket_peer_that_dies_mid_call_gets_nothing(path: Path, rpc: str) -> None:
    """The caller dies while its SVID is made; a child of it holds the connection open and reads."""

    async def main() -> None:
        world = SocketWorld()
        world.recorder.gate = asyncio.Event()
        async with world.served(path):
            command = [sys.executable, "-c", HALF_DEAD, str(path), f"/SpiffeWorkloadAPI/{rpc}"]
            with subprocess.Popen(  # noqa: ASYNC220  # the test waits for it by looking
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            ) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                await eventually(lambda: bool(world.entitlements.asked))
                assert world.entitlements.asked[0].pid == process.pid
                process.stdin.write("\n")
                process.stdin.flush()
                await eventually(lambda: process.poll() is not None)
                world.recorder.gate.set()
                world.rotate()
                status, messages = (await asyncio.to_thread(process.stdout.readline)).split()
        assert status == str(grpc.StatusCode.PERMISSION_DENIED.value[0])
        # The bundles it got while it lived; what changed then is not told.
        assert messages == ("0" if rpc == "FetchX509SVID" else "1")

    asyncio.run(main())


# ---------------------------------------------------------------- sockets


def test_a_socket_is_private_from_its_birth_and_gone_at_the_end(path: Path) -> None:
    async def main() -> None:
        async with serving(path) as server:
            assert mode_of(path) == 0o660
            assert mode_of(path.parent) == 0o700
            with pytest.raises(SocketError, match="two services"):
                await server.listen(path, [OneMethod(echo)])
            with pytest.raises(SocketError, match="somebody listens"):
                await SocketServer().listen(path, [OneMethod(echo)])
            await server.close_socket(path)
            await server.close_socket(path)
        with pytest.raises(FileNotFoundError):
            mode_of(path)

    asyncio.run(main())


def test_closing_a_socket_ends_its_calls(path: Path) -> None:
    """A task that ends takes its socket along, and whoever is on it."""

    async def wait(stream: Stream[Any, Any]) -> None:
        await stream.recv_message()
        await asyncio.sleep(3600)

    async def main() -> None:
        async with serving(path, wait) as server:
            call = asyncio.create_task(refusal(ask(path)))
            await eventually(lambda: server._by_uid.total() == 1)
            await server.close_socket(path)
            assert (await call)[0] in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
            await eventually(lambda: not server._by_uid)

    asyncio.run(main())


def test_the_socket_of_another_is_not_removed(path: Path) -> None:
    def replace() -> None:
        path.unlink()
        path.write_text("another's")

    async def main() -> None:
        async with serving(path) as server:
            await asyncio.to_thread(replace)
            await server.close_socket(path)
            assert await asyncio.to_thread(path.read_text) == "another's"
            with pytest.raises(SocketError, match="something else"):
                await server.listen(path, [OneMethod(echo)])

    asyncio.run(main())


def test_a_stale_socket_is_replaced(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))

    async def main() -> None:
        async with serving(path):
            assert (await ask(path)).hint == "hello"

    asyncio.run(main())


def test_a_socket_whose_owner_is_too_busy_to_answer_is_not_taken_over(path: Path) -> None:
    path.parent.mkdir(mode=0o700)

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
            busy.bind(str(path))
            busy.listen(0)
            waiting.connect(str(path))
            with pytest.raises(SocketError, match="in use"):
                await SocketServer().listen(path, [OneMethod(echo)])

    asyncio.run(main())


@pytest.mark.parametrize(
    ("directory", "mode", "is_fine"),
    [
        (0o700, 0o660, True),
        (0o750, 0o660, True),
        (0o755, 0o660, False),
        (0o755, 0o666, True),
        (0o711, 0o666, True),
        (0o770, 0o666, False),
        (0o777, 0o666, False),
        (0o1777, 0o666, False),
    ],
)
def test_nobody_else_may_write_where_the_socket_is(
    tmp_path: Path, directory: int, mode: int, is_fine: bool
) -> None:
    path = tmp_path / "dir" / "api.sock"
    path.parent.mkdir()
    path.parent.chmod(directory)

    async def main() -> None:
        server = SocketServer()
        await server.listen(path, [OneMethod(echo)], mode=mode, gid=os.getgid())
        assert mode_of(path) == mode
        await server.close()

    if is_fine:
        asyncio.run(main())
    else:
        with pytest.raises(SocketError, match="open to others"):
            asyncio.run(main())


def test_a_path_that_is_too_long_is_said(tmp_path: Path) -> None:
    with pytest.raises(SocketError, match="longer than 107"):
        asyncio.run(SocketServer().listen(tmp_path / ("a" * 120), [OneMethod(echo)]))


# ---------------------------------------------------------------- health and reflection


def test_health_says_whether_anything_can_be_issued(path: Path) -> None:
    async def main() -> None:
        world, known = SocketWorld(), health_pb2.HealthCheckResponse
        async with world.served(path) as client:
            stub = health_pb2_grpc.HealthStub(client.channel)
            for name in ("", "SpiffeWorkloadAPI"):
                answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
                assert answer.status == known.SERVING
            unknown = health_pb2.HealthCheckRequest(service="unknown")
            assert (await refusal(stub.Check(unknown)))[0] is grpc.StatusCode.NOT_FOUND
            assert (await anext(aiter(stub.Watch(unknown)))).status == known.SERVICE_UNKNOWN
            watched = aiter(stub.Watch(health_pb2.HealthCheckRequest()))
            assert (await anext(watched)).status == known.SERVING
            world.is_ready = False
            world.live.feed.publish()
            assert (await anext(watched)).status == known.NOT_SERVING

    asyncio.run(main())


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_e5_reflection_shows_the_names_of_the_standard(path: Path, version: str) -> None:
    """E-5: gRPC reflection, v1 and v1alpha, with the names that the standard has."""

    async def main() -> None:
        asked = reflection_pb2.ServerReflectionRequest
        questions = [
            asked(list_services=""),
            asked(file_containing_symbol="SpiffeWorkloadAPI"),
            asked(file_containing_symbol="X509SVIDResponse"),
            asked(file_by_filename="google/protobuf/struct.proto"),
            asked(file_containing_symbol="deputy.wire.workload.X509SVIDResponse"),
            asked(all_extension_numbers_of_type="X509SVIDResponse"),
            asked(),
        ]
        async with SocketWorld().served(path) as client:
            method = client.channel.stream_stream(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                request_serializer=asked.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            answers = [answer async for answer in method(iter(questions))]
        assert [service.name for service in answers[0].list_services_response.service] == [
            "SpiffeWorkloadAPI",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        ]
        for answer in answers[1:3]:
            files = [
                FileDescriptorProto.FromString(data)
                for data in answer.file_descriptor_response.file_descriptor_proto
            ]
            assert [file.name for file in files] == ["workload.proto", "google/protobuf/struct.proto"]
            assert files[0].package == ""
            assert b"deputy" not in files[0].SerializeToString()
            assert len(files[0].service[0].method) == 7
        assert answers[3].HasField("file_descriptor_response")
        assert [answer.error_response.error_code for answer in answers[4:]] == [5, 5, 3]

    asyncio.run(main())


MODULES = [
    "authz.hosts.grpc",
    "identity.socket_server",
    "identity.workload_api",
    "identity.sds",
    "spiffe",
    "authz.pb.ext_authz_pb2",
]


@pytest.mark.parametrize("first", MODULES)
def test_all_message_names_fit_into_one_process(first: str) -> None:
    """grpcio, grpclib and `spiffe` have messages of one name; one process has one registry of names."""
    order = [first, *(name for name in MODULES if name != first)]
    program = "\n".join(f"import {name}" for name in order)
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_a_closed_server_leaves_nothing_behind(path: Path) -> None:
    async def main() -> None:
        server = SocketServer(changes=Feed())
        await server.listen(path, [OneMethod(echo)], files=[standard_file()])
        await ask(path)
        await server.close()

    asyncio.run(main())
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        asyncio.run(main())
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_the_directory_of_a_socket_for_everyone_lets_everyone_pass(path: Path) -> None:
    """It is made so, whatever the umask; nobody else may write there."""

    async def main() -> None:
        server = SocketServer()
        before = os.umask(0o077)
        try:
            await server.listen(path, [OneMethod(echo)], mode=0o666)
        finally:
            os.umask(before)
        assert mode_of(path.parent) == 0o755
        await server.close()

    asyncio.run(main())
