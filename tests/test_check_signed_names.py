"""`x-mcp-authorized` in the flow: what a client says goes, what we sign goes to a gateway alone."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from authz.errors import PolicyUnavailableError
from authz.flow import Flow
from authz.kuadrant.capabilities import GatewayServer
from authz.kuadrant.lists import AuthorizedLists
from authz.parts import open_parts
from authz.pb import ext_authz_pb2 as pb
from authz.policy.port import Query
from identity.errors import TokenTypeError
from identity.transaction import verify_transaction_token
from tests.check_requests import MCP_HEADERS
from tests.extmcp_world import renamed
from tests.fakes import DENY, DOMAIN, ISSUER, NOW, TICKETS, World, reason
from tests.service_files import ServiceFiles
from tests.test_kuadrant import KEY, NamingPolicy, as_the_broker_reads, public_pem

NAME = "x-mcp-authorized"
FORGED = (NAME, "forged")
LIST = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()


class SlowPolicy(NamingPolicy):
    """Cannot say what could be used."""

    async def visible(self, query: Query) -> frozenset[str]:
        raise PolicyUnavailableError("slow")


class GatewayWorld(World):
    """Tickets is a gateway with one server behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.signing_key = KEY
        self.naming = NamingPolicy(tickets=("read_ticket", "delete_ticket"))
        self.naming.hidden = frozenset({"delete_ticket"})
        self.policy = self.naming

    def flow(self) -> Flow:
        lists = AuthorizedLists(
            {"tickets": (GatewayServer("ns/a", "tickets", TICKETS),)}, self.signing_key, ISSUER, self.naming
        )
        return replace(super().flow(), signed_names=lists)

    def ask(self, body: bytes = LIST, *more: tuple[str, str]) -> pb.CheckResponse:
        run = self.run("triage")
        headers = [*MCP_HEADERS, ("authorization", f"Bearer {self.token(run)}"), *more]
        return self.check(self.request(None, run, body=body, headers=headers))


def values(response: pb.CheckResponse) -> list[str]:
    return [each.header.value for each in response.ok_response.headers if each.header.key == NAME]


def test_a_gateway_is_told_what_the_caller_of_a_list_could_use() -> None:
    response = GatewayWorld().ask(LIST, FORGED)
    (token,) = values(response)
    assert as_the_broker_reads(token, public_pem()) == {"tools": {"ns/a": ["read_ticket"]}}
    # Envoy removes after it has set.
    assert NAME not in response.ok_response.headers_to_remove
    (option,) = [each for each in response.ok_response.headers if each.header.key == NAME]
    assert option.append_action == pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


@pytest.mark.parametrize("is_gateway", [True, False])
@pytest.mark.parametrize("txn", ["per_call", "per_tool", "none"])
def test_what_a_client_says_in_its_place_never_goes_on(txn: str, is_gateway: bool) -> None:
    world = GatewayWorld() if is_gateway else World()
    world.services = renamed(world.services, txn=txn)
    run = world.run("triage")
    headers = [*MCP_HEADERS, ("authorization", f"Bearer {world.token(run)}"), FORGED]
    response = world.check(world.request(None, run, headers=headers))
    assert response.HasField("ok_response")
    assert NAME in response.ok_response.headers_to_remove
    assert values(response) == []


@pytest.mark.parametrize("is_ours", [False, True])
def test_the_names_are_no_credential_whoever_sees_them(is_ours: bool) -> None:
    """Not even where the operator took a key for it that signs our tokens."""
    world = GatewayWorld()
    world.signing_key = world.authority.token_key if is_ours else KEY
    (token,) = values(world.ask(LIST))
    run = world.run("triage")
    assert reason(world.check(world.request(token, run))) == "DPT-TOKEN-TYPE"
    headers = [*MCP_HEADERS, ("txn-token", token)]
    assert reason(world.check(world.request(None, run, headers=headers))) == "DPT-TOKEN-TYPE"
    with pytest.raises(TokenTypeError):
        verify_transaction_token(
            token,
            world.authority.token_keys,
            issuer=ISSUER,
            trust_domain=DOMAIN,
            service="tickets",
            now=NOW,
            leeway=0,
        )


def test_a_policy_that_cannot_say_denies_the_list_with_a_record() -> None:
    world = GatewayWorld()
    world.naming = SlowPolicy(tickets=("read_ticket",))
    response = world.ask()
    assert reason(response) == "DPT-POLICY-UNAVAILABLE"
    assert [record["effect"] for record in world.records()] == ["deny"]


def test_a_list_that_is_denied_is_not_told_of() -> None:
    world = GatewayWorld()
    world.policy.answer = DENY
    assert NAME not in str(world.ask())


def test_deputy_yaml_says_which_services_are_such_gateways(tmp_path: Path) -> None:
    (tmp_path / "service").mkdir(mode=0o700)
    key = tmp_path / "service" / "lists.pem"
    key.write_bytes(KEY.reveal_pem())
    more = """
kuadrant:
  key: lists.pem
  gateways: [{service: tickets, servers: [{name: mcp-test/tickets}]}]
agentgateway:
  targets: [{name: tickets, service: tickets}]
"""
    files = ServiceFiles(tmp_path / "service", more)

    async def play() -> None:
        async with open_parts(files.config(), lambda: NOW, World().entropy) as parts:
            lists = parts.flow.signed_names
            assert isinstance(lists, AuthorizedLists)
            assert lists.gateways == {"tickets": (GatewayServer("mcp-test/tickets", "tickets", TICKETS),)}
            assert "read_ticket" in lists.policy.tool_names("tickets")

    asyncio.run(play())
