"""Servers of each protocol that Deputy reads; they count what ran, and nothing else says that it did."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import uvicorn
from google.protobuf.wrappers_pb2 import StringValue
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]  # it has no stubs
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.e2e.services import until

HOST: Final = "servers.local"
LEDGER: Final = "ledger.v1.Ledger"
DESK: Final = "lf.a2a.v1.A2AService"
EVENTS: Final = 3


@dataclass
class Ran:
    """What ran, in its order; a stream goes on when its client has seen the beginning."""

    calls: list[str] = field(default_factory=list)
    # Parts of uploads, whether or not the upload has come to its end.
    heard: int = 0
    first_event_read: threading.Event = field(default_factory=threading.Event)

    def take(self) -> list[str]:
        """Return what ran since the last time."""
        taken, self.calls = self.calls, []
        return taken


class Ledger:
    """A gRPC server on a Unix socket, with an agent of A2A, and with reflection as people leave it on."""

    def __init__(self, path: Path, ran: Ran) -> None:
        self._ran = ran
        self._server = grpc.server(ThreadPoolExecutor(4))
        coding: dict[str, Any] = {
            "request_deserializer": StringValue.FromString,
            "response_serializer": StringValue.SerializeToString,
        }
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Get": grpc.unary_unary_rpc_method_handler(self._get, **coding),
            "Delete": grpc.unary_unary_rpc_method_handler(self._delete, **coding),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch, **coding),
            "Chat": grpc.stream_stream_rpc_method_handler(self._chat, **coding),
            "Import": grpc.stream_unary_rpc_method_handler(self._import, **coding),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(LEDGER, methods),))
        agent = {name: self._asked(name) for name in ("GetTask", "CancelTask")}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(DESK, agent),))
        reflection.enable_server_reflection((LEDGER, reflection.SERVICE_NAME), self._server)
        self._server.add_insecure_port(f"unix:{path}")

    def _asked(self, name: str) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """One method of an A2A agent, whose messages are nobody's here."""

        def answer(request: bytes, _: grpc.ServicerContext) -> bytes:
            self._ran.calls.append(name)
            return request

        return grpc.unary_unary_rpc_method_handler(answer)

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait(30)

    def _get(self, request: StringValue, _: grpc.ServicerContext) -> StringValue:
        self._ran.calls.append(f"Get {request.value}")
        return request

    def _delete(self, request: StringValue, _: grpc.ServicerContext) -> StringValue:
        self._ran.calls.append(f"Delete {request.value}")
        return request

    def _watch(self, request: StringValue, _: grpc.ServicerContext) -> Iterator[StringValue]:
        self._ran.calls.append(f"Watch {request.value}")
        for number in range(EVENTS):
            yield StringValue(value=f"{request.value} {number}")
            assert number or self._ran.first_event_read.wait(60)

    def _import(self, requests: Iterator[StringValue], _: grpc.ServicerContext) -> StringValue:
        values = []
        for request in requests:
            self._ran.heard += 1
            values.append(request.value)
        self._ran.calls.append(f"Import {' '.join(values)}")
        return StringValue(value=str(len(values)))

    def _chat(self, requests: Iterator[StringValue], _: grpc.ServicerContext) -> Iterator[StringValue]:
        for request in requests:
            self._ran.calls.append(f"Chat {request.value}")
            yield request


class WebServers:
    """An A2A agent, the API of two providers of models and an MCP server, on one Unix socket."""

    def __init__(self, path: Path, ran: Ran, *, has_streams: bool = False) -> None:
        """`has_streams`: MCP answers are streams of events, and there are sessions."""
        self._ran, self._has_streams = ran, has_streams
        config = uvicorn.Config(self._app(), uds=str(path), log_level="critical", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)

    def start(self) -> None:
        self._thread.start()
        until(lambda: self._server.started)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)

    def _app(self) -> Starlette:
        security = TransportSecuritySettings(allowed_hosts=[HOST])
        app = _tools(self._ran).streamable_http_app(
            json_response=not self._has_streams,
            stateless_http=not self._has_streams,
            transport_security=security,
        )
        app.router.routes.extend(
            [
                Route("/v1/chat/completions", self._model, methods=["POST"]),
                Route("/v1/responses", self._model, methods=["POST"]),
                Route("/v1/messages", self._model, methods=["POST"]),
                Route("/v1/files", self._rest, methods=["POST"]),
                Route("/", self._json_rpc, methods=["POST"]),
                Route("/{rest:path}", self._rest, methods=["GET", "POST", "DELETE"]),
            ]
        )
        return app

    async def _json_rpc(self, request: Request) -> Response:
        """What the agent does: the method that the body names, in any version, for any tenant."""
        asked = json.loads(await request.body())
        method, tenant = asked["method"], asked["params"].get("tenant", "")
        self._ran.calls.append(f"{method} {tenant}".strip())
        answer = {"jsonrpc": "2.0", "id": asked["id"], "result": {"message": {"messageId": "m-2"}}}
        if method in {"SendStreamingMessage", "message/stream"}:
            return self._stream(answer)
        return JSONResponse(answer)

    async def _rest(self, request: Request) -> Response:
        self._ran.calls.append(f"{request.method} {request.url.path}")
        return JSONResponse({"path": request.url.path})

    async def _model(self, request: Request) -> Response:
        asked = json.loads(await request.body())
        self._ran.calls.append(f"{request.url.path} {asked['model']}")
        answer = {"model": asked["model"], "choices": [{"message": {"content": "hello"}}]}
        return self._stream(answer) if asked.get("stream") else JSONResponse(answer)

    def _stream(self, answer: dict[str, Any]) -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            for number in range(EVENTS):
                yield f"data: {json.dumps(answer | {'part': number})}\n\n"
                if number == 0:
                    assert await asyncio.to_thread(self._ran.first_event_read.wait, 60)

        return StreamingResponse(events(), media_type="text/event-stream")


def _tools(ran: Ran) -> MCPServer:
    server = MCPServer("docs", log_level="CRITICAL")

    @server.tool()
    def read_page(path: str) -> str:
        """Read a page."""
        ran.calls.append(f"read_page {path}")
        return path

    @server.tool()
    def find_order(order: str) -> str:
        """Find an order."""
        ran.calls.append(f"find_order {order}")
        return order

    @server.tool()
    def tag_page(tags: list[str]) -> str:
        """Tag a page."""
        ran.calls.append(f"tag_page {' '.join(tags)}")
        return ",".join(tags)

    @server.tool()
    def drop_pages() -> str:
        """Do what nobody may."""
        ran.calls.append("drop_pages")
        return "gone"

    return server
