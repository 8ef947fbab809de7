"""HTTP/2 by hand: what no well-behaved client sends."""

import contextlib
import socket
import struct
from pathlib import Path
from typing import Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GRPC = (
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
)


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Return one frame (RFC 9113 section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def message(payload: bytes, size: int | None = None, compressed: int = 0) -> bytes:
    """Return one gRPC message; `size` is what its prefix claims."""
    return bytes([compressed]) + struct.pack(">I", len(payload) if size is None else size) + payload


class RawClient:
    """A blocking client on a Unix socket that sends what it is told."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(str(path))
        self.http = H2Connection(H2Configuration(header_encoding="utf-8", validate_outbound_headers=False))
        self.events: list[Event] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def begin(self) -> None:
        self.http.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.http.data_to_send())

    def call(self, path: str, data: bytes = b"", *headers: tuple[str, str], end: bool = True) -> int:
        """Start a call and send data."""
        stream = int(self.http.get_next_available_stream_id())
        self.http.send_headers(stream, [(":path", path), *GRPC, *headers])
        if data or end:
            self.http.send_data(stream, data, end_stream=end)
        self.flush()
        return stream

    def receive(self) -> bool:
        """Read once; False at the end of the connection."""
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return False
        self.events += self.http.receive_data(data)
        with contextlib.suppress(OSError):
            self.flush()
        return bool(data)

    def result(self, stream: int) -> str:
        """Return the gRPC status of a call, or how else it ended."""
        while True:
            for event in self.events:
                match event:
                    case TrailersReceived(stream_id=of) | ResponseReceived(stream_id=of) if of == stream:
                        for name, value in event.headers:
                            if str(name) == "grpc-status":
                                return str(value)
                    case StreamReset(stream_id=of) if of == stream:
                        return f"reset {event.error_code!r}"
                    case ConnectionTerminated():
                        return "goaway"
            if not self.receive():
                return "closed"

    def messages(self, stream: int) -> int:
        return sum(isinstance(event, DataReceived) and event.stream_id == stream for event in self.events)

    def is_ended(self, stream: int) -> bool:
        return any(isinstance(event, StreamEnded) and event.stream_id == stream for event in self.events)

    def is_closed(self) -> bool:
        """Read until the server closes the connection."""
        while self.receive():
            pass
        return True
