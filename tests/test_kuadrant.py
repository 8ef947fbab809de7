"""Kuadrant's `x-mcp-authorized`: what a caller could use, as its broker reads it (ADR 0023)."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives import serialization

from authz.config import parse_config
from authz.config_agentgateway import AgentgatewayConfig
from authz.config_kuadrant import KuadrantConfig
from authz.errors import ConfigError, PolicyShapeError, PolicyUnavailableError
from authz.kuadrant.capabilities import GatewayServer, listed
from authz.kuadrant.key_file import load_list_key
from authz.kuadrant.lists import AuthorizedLists
from authz.kuadrant.token import MAX_TOKEN, SECONDS
from authz.policy.embedded import EmbeddedPolicy
from authz.policy.grants import Grants
from authz.policy.modules import shipped_modules
from authz.protocols.operation import Operation
from authz.protocols.route import Route
from authz.services import Service
from identity.authorization_details import Detail
from identity.caller import Caller, WorkloadBinding
from identity.keys import SigningKey
from tests.docs.blocks import blocks_of
from tests.fakes import ISSUER, LEAD, NOW, RUNNER, SCOPES, FakePolicy, World
from tests.service_files import GRANTS, config_text

AUDIENCE = "https://mcp.mesh.example"
GATEWAY = Service("gateway", AUDIENCE, Route("gateway", "mcp"))
KEY = SigningKey.generate()
LIST = Operation("mcp", "tools/list", "list", "server", "gateway")


class NamingPolicy(FakePolicy):
    """A fake policy that knows names."""

    def __init__(self, **names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names

    def tool_names(self, service: str) -> tuple[str, ...]:
        return self.names.get(service, ())


def public_pem(key: SigningKey = KEY) -> bytes:
    """What the gateway is given."""
    return key.private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def as_the_broker_reads(
    token: str, pem: bytes, *, verify_exp: bool = False
) -> dict[str, dict[str, list[str]]]:
    """Do what internal/broker/filtered_tools_handler.go does: ES256, one claim that is a text of JSON."""
    options: Any = {"verify_aud": False, "verify_exp": verify_exp, "verify_iat": False}
    claims = jwt.decode(token, pem, algorithms=["ES256"], options=options)
    text = claims["allowed-capabilities"]
    assert isinstance(text, str)
    found: dict[str, dict[str, list[str]]] = json.loads(text)
    return found


def server(name: str = "ns/a", service: str = "gateway", **more: Any) -> GatewayServer:
    return GatewayServer(name, service, AUDIENCE, **more)


def lists(policy: Any, *servers: GatewayServer) -> AuthorizedLists:
    return AuthorizedLists({"gateway": servers}, KEY, ISSUER, policy)


def caller() -> Caller:
    world = World()
    run = world.run("triage")
    agent = world.rights.agents["triage"]
    return Caller(
        human=LEAD,
        agent=agent,
        task=run.task,
        chain=(run.hop,),
        chain_agents=(agent,),
        peer=RUNNER,
        binding="workload",
        scopes=SCOPES,
        token_id="j" * 22,
        txn="t" * 22,
        expires_at=int(NOW.timestamp()) + 300,
    )


def header(made: AuthorizedLists, operation: Operation = LIST, service: Service = GATEWAY) -> str | None:
    return asyncio.run(made.header(caller(), operation, service, "decision", NOW))


def names(made: AuthorizedLists, operation: Operation = LIST) -> Mapping[str, Mapping[str, list[str]]]:
    token = header(made, operation)
    assert token is not None
    return as_the_broker_reads(token, public_pem())


def test_a_list_is_told_what_its_caller_could_use_of_each_server() -> None:
    policy = NamingPolicy(gateway=("a_greet", "a_time", "b_sum", "a_"), tickets=("read", "delete"))
    policy.hidden = frozenset({"a_time", "delete"})
    made = lists(
        policy,
        server("mcp-test/a", "gateway", prefix="a_"),
        server("mcp-test/b", "gateway", prefix="b_"),
        server("mcp-test/c", "tickets"),
    )
    expected = {"mcp-test/a": ["greet"], "mcp-test/b": ["sum"], "mcp-test/c": ["read"]}
    assert names(made) == {"tools": expected}
    assert [query["phase"] for query in policy.asked] == ["visible"] * 3


def test_names_of_the_operator_are_asked_about_too() -> None:
    policy = NamingPolicy(gateway=("a_greet",))
    policy.hidden = frozenset({"a_secret", "hidden", "secret.example"})
    made = lists(
        policy,
        server(
            prefix="a_",
            tools=("more", "secret"),
            prompts=("review",),
            resources=("files.example", "secret.example"),
        ),
    )
    assert names(made)["tools"]["ns/a"] == ["greet", "more"]
    assert names(made, replace(LIST, method="prompts/list")) == {"prompts": {"ns/a": ["review"]}}
    assert names(made, replace(LIST, method="resources/list")) == {"resources": {"ns/a": ["files.example"]}}


def test_a_narrow_credential_is_shown_the_tools_that_it_is_for() -> None:
    """A token with authorization details is for these tools of this service, and for nothing else there."""
    made = lists(
        NamingPolicy(gateway=("a_greet", "a_time")),
        server(prefix="a_", prompts=("review",)),
        server("ns/b", "b"),
    )
    elsewhere = Detail("https://tickets.mesh.example", "a_time")
    narrow = replace(caller(), details=(Detail(AUDIENCE, "a_greet"), elsewhere))

    def shown(method: str) -> Any:
        token = asyncio.run(made.header(narrow, replace(LIST, method=method), GATEWAY, "decision", NOW))
        assert token is not None
        return as_the_broker_reads(token, public_pem())

    assert shown("tools/list") == {"tools": {"ns/a": ["greet"], "ns/b": []}}
    assert shown("prompts/list") == {"prompts": {"ns/a": [], "ns/b": []}}


@pytest.mark.parametrize("method", ["tools/list", "prompts/list", "resources/list"])
def test_who_could_use_nothing_is_shown_nothing(method: str) -> None:
    """A kind that is missing would take nothing out."""
    (member,) = names(lists(NamingPolicy(), server()), replace(LIST, method=method)).values()
    assert member == {"ns/a": []}


def test_what_the_brokers_own_tools_tell_of_is_cut_as_its_lists_are() -> None:
    call = Operation("mcp", "tools/call", "call", "tool", "discover_tools")
    assert listed(call) == listed(replace(call, resource_name="select_tools")) == "tools"
    assert listed(replace(call, resource_name="read_ticket")) is None


@pytest.mark.parametrize(
    "operation",
    [
        replace(LIST, method="initialize", phase="lifecycle"),
        replace(LIST, method="resources/templates/list"),
        replace(LIST, method="tasks/list"),
        Operation("http", "tools/list", "call", "path", "/tools/list"),
    ],
)
def test_nothing_else_gets_a_header(operation: Operation) -> None:
    assert header(lists(NamingPolicy(), server()), operation) is None


def test_no_other_service_gets_a_header() -> None:
    made = lists(NamingPolicy(), server())
    assert header(made, service=Service("tickets", AUDIENCE, Route("tickets", "mcp"))) is None


def test_the_token_is_for_one_request_and_names_nobody() -> None:
    token = header(lists(NamingPolicy(), server()))
    assert token is not None
    assert jwt.get_unverified_header(token) == {
        "alg": "ES256",
        "typ": "mcp-authorized+jwt",
        "kid": KEY.public.kid,
    }
    claims = jwt.decode(
        token, public_pem(), algorithms=["ES256"], audience=AUDIENCE, options={"verify_exp": False}
    )
    seconds = int(NOW.timestamp())
    assert claims == {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "jti": "decision",
        "iat": seconds,
        "exp": seconds + SECONDS,
        "allowed-capabilities": '{"tools":{"ns/a":[]}}',
    }


def test_a_token_that_is_over_counts_no_more() -> None:
    late = asyncio.run(
        lists(NamingPolicy(), server()).header(caller(), LIST, GATEWAY, "decision", NOW - timedelta(days=365))
    )
    assert late is not None
    with pytest.raises(jwt.ExpiredSignatureError):
        as_the_broker_reads(late, public_pem(), verify_exp=True)


def test_another_key_signs_no_list() -> None:
    token = header(lists(NamingPolicy(), server()))
    assert token is not None
    with pytest.raises(jwt.InvalidSignatureError):
        as_the_broker_reads(token, public_pem(SigningKey.generate()))


def test_a_token_of_ours_for_a_call_is_no_list_to_the_broker() -> None:
    """The keys are others; and even if they were not, the claim is missing."""
    world = World()
    token = world.token(world.run("triage"), binding=WorkloadBinding(RUNNER))
    with pytest.raises(jwt.InvalidSignatureError):
        as_the_broker_reads(token, public_pem())
    with pytest.raises(KeyError):
        as_the_broker_reads(token, public_pem(world.authority.token_key))


@pytest.mark.parametrize("name", ['a","b', "a\\", "caf\u00e9", "a\u2028b", "]}"])
def test_a_name_breaks_out_of_no_text(name: str) -> None:
    made = lists(NamingPolicy(), server(prompts=(name,)))
    assert names(made, replace(LIST, method="prompts/list")) == {"prompts": {"ns/a": [name]}}


def test_a_policy_that_cannot_say_is_an_error_and_no_header() -> None:
    policy = NamingPolicy(gateway=("greet",))
    policy.answer = PolicyUnavailableError("slow")
    with pytest.raises(PolicyUnavailableError):
        header(lists(policy, server()))


def test_names_that_fit_into_no_header_are_an_error() -> None:
    policy = NamingPolicy(gateway=tuple(f"{number:0100d}" for number in range(MAX_TOKEN // 100)))
    with pytest.raises(PolicyShapeError, match="fit into a header"):
        header(lists(policy, server()))


def test_the_shipped_policy_says_what_a_caller_could_use() -> None:
    policy = EmbeddedPolicy(shipped_modules(), Grants.parse(GRANTS.read_bytes()))
    assert len(policy.tool_names("tickets")) > 1
    made = lists(policy, server("ns/tickets", "tickets"))
    shown = names(made)["tools"]["ns/tickets"]
    assert "read_ticket" in shown
    assert set(shown) < set(policy.tool_names("tickets"))


def test_the_key_is_in_no_representation() -> None:
    made = lists(NamingPolicy(), server())
    assert "SigningKey" not in repr(made)


def config(*gateways: object) -> KuadrantConfig:
    return KuadrantConfig.model_validate_json(json.dumps({"key": "k.pem", "gateways": gateways}))


def gateway(service: str, *servers: object) -> dict[str, object]:
    return {"service": service, "servers": servers}


def test_the_configuration_names_the_servers_behind_a_gateway(tmp_path: Path) -> None:
    services = parse_config(config_text().encode(), tmp_path).to_services()
    servers = ({"name": "ns/a", "prefix": "a_"}, {"name": "ns/b", "service": "billing"})
    assert config(gateway("tickets", *servers)).to_gateways(services) == {
        "tickets": (
            GatewayServer("ns/a", "tickets", "https://tickets.mesh.example", prefix="a_"),
            GatewayServer("ns/b", "billing", "https://billing.mesh.example"),
        )
    }


A = {"name": "ns/a"}


@pytest.mark.parametrize(
    "gateways",
    [
        [gateway("nothing", A)],
        [gateway("pages", A)],
        [gateway("outside", A)],
        [gateway("tickets", {**A, "service": "nothing"})],
        [gateway("tickets", A, A)],
        [gateway("tickets", A), gateway("tickets", A)],
    ],
)
def test_a_gateway_that_could_be_none_or_another_is_refused(gateways: list[object], tmp_path: Path) -> None:
    text = config_text().replace(
        "agents:\n",
        '  pages: {audience: "https://pages.mesh.example", protocol: http}\n'
        '  outside: {audience: "https://outside.example", txn: none}\n'
        "agents:\n",
    )
    services = parse_config(text.encode(), tmp_path).to_services()
    with pytest.raises(ConfigError, match="kuadrant"):
        config(*gateways).to_gateways(services)


def targets(*names: tuple[str, str], prefixed: bool = False) -> AgentgatewayConfig:
    listed_ = [{"name": name, "service": service} for name, service in names]
    return AgentgatewayConfig.model_validate({"targets": listed_, "prefixed": prefixed})


def test_the_configuration_of_agentgateway_becomes_targets(tmp_path: Path) -> None:
    services = parse_config(config_text().encode(), tmp_path).to_services()
    made = targets(("a", "tickets"), ("b", "tickets"), prefixed=True).to_targets(services)
    assert made.service(("a", "b")) == "tickets"
    assert made.is_prefixed
    for wrong in (targets(("a", "nothing")), targets(("a", "tickets"), ("a", "billing"))):
        with pytest.raises(ConfigError, match="agentgateway"):
            wrong.to_targets(services)


def test_the_key_is_read_as_openssl_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    for format_ in (serialization.PrivateFormat.TraditionalOpenSSL, serialization.PrivateFormat.PKCS8):
        pem = KEY.private_key.private_bytes(serialization.Encoding.PEM, format_, serialization.NoEncryption())
        path.write_bytes(pem)
        assert load_list_key(path).public.kid == KEY.public.kid


def test_a_key_that_is_none_is_refused_without_a_word_of_it(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    with pytest.raises(ConfigError, match=r"kuadrant\.key"):
        load_list_key(path)
    path.write_text("s3cret")
    with pytest.raises(ConfigError) as caught:
        load_list_key(path)
    assert "s3cret" not in str(caught.value)


def section(page: str, name: str) -> Any:
    """Return a section of the configuration that a how-to shows, and the services beside it."""
    blocks = [block.text for block in blocks_of(page) if block.language == "yaml"]
    (found,) = [part for text in blocks for part in yaml.safe_load_all(text) if name in part]
    return found[name], found["services"]


@pytest.mark.parametrize(
    ("page", "name"),
    [("docs/how-to/kuadrant.md", "kuadrant"), ("docs/how-to/agentgateway.md", "agentgateway")],
)
def test_the_how_to_shows_a_configuration_that_is_read(page: str, name: str, tmp_path: Path) -> None:
    shown, services = section(page, name)
    made = yaml.safe_load(config_text())
    made["services"] |= services
    known = parse_config(yaml.safe_dump(made).encode(), tmp_path).to_services()
    if name == "kuadrant":
        assert KuadrantConfig.model_validate_json(json.dumps(shown)).to_gateways(known)
    else:
        assert AgentgatewayConfig.model_validate(shown).to_targets(known).services
