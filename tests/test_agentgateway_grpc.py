"""ExtMcp over a real connection: paths and messages as agentgateway's client sends them."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import grpc

from authz.agentgateway.service import CHECK_REQUEST, CHECK_RESPONSE, SERVICE
from authz.pb import ext_mcp_pb2 as pb
from identity.spiffe import SpiffeId
from tests.extmcp_world import ExtMcpWorld
from tests.fakes import GATEWAY

Answer = Callable[[bytes, SpiffeId | None], Awaitable[bytes]]
Context = grpc.aio.ServicerContext[bytes, bytes]


def method(answer: Answer) -> "grpc.RpcMethodHandler[bytes, bytes]":
    async def behave(data: bytes, _context: Context) -> bytes:
        # Who asks is the host's to find out (authz/hosts/grpc.py).
        return await answer(data, GATEWAY)

    return grpc.unary_unary_rpc_method_handler(behave)


def test_a_list_goes_there_and_back_over_a_connection() -> None:
    world = ExtMcpWorld()
    world.policy.hidden = frozenset({"delete_ticket"})
    service = world.service()

    async def talk() -> pb.McpResponseResult:
        server = grpc.aio.server()
        methods = {
            CHECK_REQUEST: method(service.check_request),
            CHECK_RESPONSE: method(service.check_response),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                ask = channel.unary_unary(
                    "/agentgateway.dev.ext_mcp.ExtMcp/CheckRequest",
                    request_serializer=pb.McpRequest.SerializeToString,
                    response_deserializer=pb.McpRequestResult.FromString,
                )
                passed = await ask(world.message("tools/list", None))
                bring = channel.unary_unary(
                    "/agentgateway.dev.ext_mcp.ExtMcp/CheckResponse",
                    request_serializer=pb.McpResponse.SerializeToString,
                    response_deserializer=pb.McpResponseResult.FromString,
                )
                tools = {"tools": [{"name": "read_ticket"}, {"name": "delete_ticket"}]}
                result: pb.McpResponseResult = await bring(world.result_of(passed, tools))
                return result
        finally:
            await server.stop(None)

    assert [tool["name"] for tool in json.loads(asyncio.run(talk()).mutated)["tools"]] == ["read_ticket"]
