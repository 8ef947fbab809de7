"""A host outside of the mesh: HTTPS with a CA of its own; it keeps what it got, and whom it saw."""

import json
import ssl
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

from tests.e2e.ca import Leaf, TestCa

EVENTS = tuple(b'data: {"part":%d}\n\n' % number for number in range(3))
MODELS = b'{"object":"list","data":[{"id":"small-1","object":"model"},{"id":"large-1","object":"model"}]}'


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that goes away is no error here."""


@dataclass
class Got:
    """One request as it arrived."""

    server_name: str | None
    certificate: dict[str, Any] | None
    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each.lower() == name]


@dataclass
class OutsideHost:
    """Speaks HTTP/1.1 at one port, and gRPC at another; asks for a certificate and would take any of ours."""

    leaf: Leaf
    mesh: TestCa
    got: list[Got] = field(default_factory=list)
    rpcs: list[dict[str, str | bytes]] = field(default_factory=list)
    # The rest of a stream is sent when the client has seen its beginning.
    first_event_read: threading.Event = field(default_factory=threading.Event)
    answer_headers: tuple[tuple[str, str], ...] = ()

    def start(self) -> None:
        host = self
        names: dict[int, str | None] = {}

        class Speaks(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._keep(b"")
                self._answer(MODELS if self.path == "/v1/models" else b'{"today":"rain"}')

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self._keep(body)
                if json.loads(body).get("stream"):
                    self._stream()
                else:
                    self._answer(b'{"choices":[{"message":{"content":"hello"}}]}')

            def log_message(self, *_: object) -> None:
                pass

            def _keep(self, body: bytes) -> None:
                assert isinstance(self.connection, ssl.SSLSocket)
                host.got.append(
                    Got(
                        names.get(id(self.connection)),
                        self.connection.getpeercert(),
                        self.requestline,
                        list(self.headers.items()),
                        body,
                    )
                )

            def _head(self, *headers: tuple[str, str]) -> None:
                self.send_response(200)
                for name, value in (*headers, *host.answer_headers):
                    self.send_header(name, value)
                self.end_headers()

            def _answer(self, body: bytes) -> None:
                self._head(("content-type", "application/json"), ("content-length", str(len(body))))
                self.wfile.write(body)

            def _stream(self) -> None:
                self._head(("content-type", "text/event-stream"), ("transfer-encoding", "chunked"))
                for number, event in enumerate(EVENTS):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
                    self.wfile.flush()
                    assert number or host.first_event_read.wait(30)
                self.wfile.write(b"0\r\n\r\n")

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.mesh.bundle.decode())
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.leaf.certificate + self.leaf.key)
            file.flush()
            context.load_cert_chain(file.name)

        def named(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            names[id(connection)] = name

        context.sni_callback = named
        self._server = _Server(("127.0.0.1", 0), Speaks)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self._rpc = grpc.server(ThreadPoolExecutor(2))
        method: Any = grpc.unary_unary_rpc_method_handler(self._get)
        self._rpc.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("ledger.v1.Ledger", {"Get": method}),)
        )
        credentials = grpc.ssl_server_credentials([(self.leaf.key, self.leaf.certificate)])
        self.rpc_port = self._rpc.add_secure_port("127.0.0.1:0", credentials)
        self._rpc.start()

    def _get(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.rpcs.append(dict(context.invocation_metadata()))
        return request

    def stop(self) -> None:
        self.first_event_read.set()
        self._server.shutdown()
        self._thread.join(30)
        self._server.server_close()
        self._rpc.stop(0).wait(10)
