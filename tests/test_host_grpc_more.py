"""Other gateways on the listener of Check: the same peers, the same bounds, a refusal of their own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc

from authz.agentgateway.service import (
    CHECK_REQUEST,
    CHECK_RESPONSE,
    SERVICE,
    ExtMcp,
    unasked_request,
    unasked_result,
)
from authz.hosts.grpc import GrpcHost, Method
from authz.pb import ext_mcp_pb2 as pb
from identity.spiffe import SpiffeId
from tests.e2e.ca import Leaf, TestCa
from tests.extmcp_world import ExtMcpWorld, reason
from tests.fakes import GATEWAY
from tests.test_host_grpc import DENIALS, LOCAL, PROMPT, allow, deputy_tls, running

Call = Callable[..., Awaitable[bytes]]


def methods(service: ExtMcp) -> dict[str, dict[str, Method]]:
    return {
        SERVICE: {
            CHECK_REQUEST: Method(service.check_request, unasked_request),
            CHECK_RESPONSE: Method(service.check_response, unasked_result),
        }
    }


@asynccontextmanager
async def asked(ca: TestCa, leaf: Leaf, service: ExtMcp) -> AsyncIterator[tuple[Call, Call]]:
    host = GrpcHost(
        allow, denials=DENIALS, listen=LOCAL, tls=deputy_tls(ca), limits=PROMPT, more=methods(service)
    )
    credentials = grpc.ssl_channel_credentials(ca.bundle, leaf.key, leaf.certificate)
    async with running(host) as to, grpc.aio.secure_channel(to, credentials) as channel:
        yield (
            channel.unary_unary(f"/{SERVICE}/{CHECK_REQUEST}"),
            channel.unary_unary(f"/{SERVICE}/{CHECK_RESPONSE}"),
        )


def test_a_gateway_asks_with_its_certificate_and_gets_its_list_cut() -> None:
    world, ca = ExtMcpWorld(), TestCa.create()
    world.policy.hidden = frozenset({"delete_ticket"})

    async def talk() -> bytes:
        async with asked(ca, ca.issue(str(GATEWAY)), world.service()) as (request, result):
            passed = pb.McpRequestResult.FromString(
                await request(world.message("tools/list", None).SerializeToString())
            )
            tools = {"tools": [{"name": "read_ticket"}, {"name": "delete_ticket"}]}
            answer = await result(world.result_of(passed, tools).SerializeToString())
            return pb.McpResponseResult.FromString(answer).mutated

    mutated = asyncio.run(talk())
    assert b"read_ticket" in mutated
    assert b"delete_ticket" not in mutated


def test_another_certificate_is_no_gateways() -> None:
    world, ca = ExtMcpWorld(), TestCa.create()

    async def talk(leaf: Leaf) -> pb.McpRequestResult:
        async with asked(ca, leaf, world.service()) as (request, _):
            return pb.McpRequestResult.FromString(await request(world.message().SerializeToString()))

    web = asyncio.run(talk(ca.issue("spiffe://mesh.example/ns/shop/sa/web")))
    nobody = asyncio.run(talk(ca.issue("https://mesh.example/nobody")))
    assert reason(web) == reason(nobody) == "DPT-ASKER-UNKNOWN"


def test_a_fault_is_a_refusal_of_its_own() -> None:
    world, ca = ExtMcpWorld(), TestCa.create()

    async def broken(_data: bytes, _asker: SpiffeId | None) -> bytes:
        raise ZeroDivisionError

    async def talk() -> tuple[bytes, bytes]:
        service = replace(world.service(), check=broken)
        async with asked(ca, ca.issue(str(GATEWAY)), service) as (request, result):
            return await request(b"\xff"), await result(b"\xff")

    request, result = asyncio.run(talk())
    assert reason(pb.McpRequestResult.FromString(request)) == "DPT-INTERNAL"
    assert reason(pb.McpResponseResult.FromString(result)) == "DPT-INTERNAL"


def test_too_much_at_once_is_a_refusal_of_its_own() -> None:
    for result in (
        pb.McpRequestResult.FromString(unasked_request("busy")),
        pb.McpResponseResult.FromString(unasked_result("busy")),
    ):
        assert (reason(result), result.error.code) == (
            "DPT-OVERLOADED",
            pb.AuthorizationError.RESOURCE_EXHAUSTED,
        )
