"""Whatever a stranger sends to a private socket: the server lives, says nothing of it, and serves on."""

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hpack import Encoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from identity.executable import ExecutableReading
from identity.socket_connection import SocketLimits
from tests.raw_http2 import GRPC, PREFACE, RawClient, frame, message
from tests.socket_world import SocketWorld

FRAMES = st.lists(
    st.builds(
        frame,
        st.integers(0, 12),
        st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x2D, 0xFF]),
        st.sampled_from([0, 1, 2, 3, 2**31 - 1]),
        st.binary(max_size=64),
    ),
    max_size=8,
).map(b"".join)
# A call that is well-formed, with anything behind it.
CALL = frame(
    1,
    4,
    1,
    Encoder().encode(
        [(":path", "/SpiffeWorkloadAPI/FetchX509SVID"), *GRPC, ("workload.spiffe.io", "true")], huffman=False
    ),
)


class Lines(logging.Handler):
    """All that is logged."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Lines]]:
    path = tmp_path_factory.mktemp("frames") / "private" / "api.sock"
    started, stopped, lines = threading.Event(), asyncio.Event(), Lines()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with SocketWorld().served(path, SocketLimits(), seconds=3600):
            started.set()
            await stopped.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    root = logging.getLogger()
    root.addHandler(lines)
    thread.start()
    try:
        assert started.wait(10)
        yield path, lines
    finally:
        loops[0].call_soon_threadsafe(stopped.set)
        thread.join(20)
        root.removeHandler(lines)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.one_of(st.binary(max_size=256), FRAMES, FRAMES.map(lambda frames: CALL + frames)), st.booleans())
def test_any_bytes_leave_the_server_alive_and_silent(
    served: tuple[Path, Lines], data: bytes, is_polite: bool
) -> None:
    path, lines = served
    lines.records.clear()
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.settimeout(10)
        stranger.connect(str(path))
        try:
            stranger.sendall((PREFACE + frame(4) if is_polite else b"") + data)
            stranger.shutdown(socket.SHUT_WR)
            while stranger.recv(65536):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
    with RawClient(path) as client:
        client.begin()
        call = client.call("/grpc.health.v1.Health/Check", message(b""))
        assert client.result(call) == "0"
    assert not [record for record in lines.records if record.exc_info]
    assert not [
        record for record in lines.records if repr(data)[2:-1] in record.getMessage() and len(data) > 8
    ]


@given(st.lists(st.binary(max_size=40)), st.integers(0, 200))
def test_an_executable_says_the_same_however_it_is_read(pieces: list[bytes], cut: int) -> None:
    content = b"".join(pieces)
    whole, parts = ExecutableReading("/opt/agent"), ExecutableReading("/opt/agent")
    whole.feed(content)
    parts.feed(content[:cut])
    parts.feed(content[cut:])
    assert whole.sha256() == parts.sha256()
