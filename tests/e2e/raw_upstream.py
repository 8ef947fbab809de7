"""A server that answers with the bytes of the test, or with events that never end."""

import contextlib
import socketserver
import threading
import time
from pathlib import Path
from typing import Final, Self

HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nmcp-session-id: s-1\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
EVENT: Final = (
    b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}\n\n'
)


def chunked(data: bytes) -> bytes:
    """One chunk of HTTP/1.1."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def answer(body: bytes, *headers: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """A whole answer; with a content type if there is one."""
    lines = [f"HTTP/1.1 {status}", *headers, f"content-length: {len(body)}"]
    lines += [f"content-type: {kind}"] if kind else []
    return "\r\n".join((*lines, "", "")).encode() + body


class RawUpstream(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Listens on a Unix socket; what comes of a request is up to the test."""

    daemon_threads = True
    # Envoy opens as many connections at once as there are requests.
    request_queue_size = 128

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Connection)
        # Of each request the head, and when its connection was closed by the other side.
        self.heads: list[bytes] = []
        self.closed_at: list[float] = []
        # The whole answer; empty stands for events without end, so many seconds apart, or one and silence.
        self.said = b""
        self.interval: float | None = 0.02
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """A connection that is reset is what the test wants."""


class _Connection(socketserver.StreamRequestHandler):
    server: RawUpstream

    def handle(self) -> None:
        while self._request():
            if self.server.said:
                self.wfile.write(self.server.said)
                continue
            try:
                self._stream()
            except OSError:
                self.server.closed_at.append(time.monotonic())
                return

    def _request(self) -> bool:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline(65536)
            if not line:
                return False
            head += line
        size = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                size = int(line.partition(b":")[2])
        self.rfile.read(size)
        self.server.heads.append(head)
        return True

    def _stream(self) -> None:
        self.wfile.write(HEAD + chunked(EVENT))
        while self.server.interval is not None:
            time.sleep(self.server.interval)
            self.wfile.write(chunked(EVENT))
        # Until the other side is gone.
        with contextlib.suppress(TimeoutError):
            if not self.rfile.read(1):
                raise OSError("closed")
