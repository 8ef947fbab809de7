"""`deputy.yaml`: every key, and every way of getting it wrong."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from authz.config import MAX_CONFIG_BYTES, Config, load_config, parse_config
from authz.config_problems import properties_at
from authz.errors import ConfigError
from identity.spiffe import SpiffeId

HOME = Path("/srv/deputy")
GATEWAY = "spiffe://mesh.example/ns/mesh/sa/gateway"
RUNNER = "spiffe://mesh.example/ns/agents/sa/runner"

Json = dict[str, Any]


def minimal() -> Json:
    return {
        "trust_domain": "mesh.example",
        "data_dir": "data",
        "check": {"callers": [{"id": GATEWAY, "may_ask": ["tickets"]}]},
        "broker": {"issuer": "https://broker.mesh.example"},
        "services": {"tickets": {"audience": "https://tickets.mesh.example"}},
    }


def full() -> Json:
    """Every key, none of them with its default."""
    return {
        "trust_domain": "mesh.example",
        "data_dir": "/var/lib/deputy",
        "check": {
            "listen": "[::1]:9000",
            "callers": [{"id": GATEWAY, "may_ask": ["tickets", "billing"]}],
            "max_concurrent": 7,
        },
        "broker": {
            "issuer": "https://broker.mesh.example:8443/deputy",
            "listen": "0.0.0.0:9443",
            "names": ["broker.mesh.example"],
            "dpop_nonces": True,
            "assertion_targets": [
                {
                    "issuer": "https://login.partner.example",
                    "service": "billing",
                    "clients": [{"agent": "triage", "id": "partner-triage"}],
                }
            ],
        },
        "policy": {
            "engine": "opa",
            "grants": "policy/grants.yaml",
            "rego": "policy/rego",
            "opa": {
                "url": "https://opa.mesh.example:8181",
                "ca": "tls/ca.pem",
                "certificate": "tls/cert.pem",
                "key": "/etc/deputy/key.pem",
                "timeout_ms": 20,
            },
        },
        "services": {
            "tickets": {
                "audience": "https://tickets.mesh.example/api",
                "protocol": "http",
                "tool_prefix": "tickets__",
                "hosts": ["Tickets.Mesh.Example", "[2001:DB8::1]"],
                "destinations": ["spiffe://mesh.example/ns/tickets/sa/proxy"],
                "workloads": ["spiffe://mesh.example/ns/tickets/sa/server"],
                "txn": "per_tool",
                "denials": "http",
                "answers": "guarded",
                "pins": "require",
            },
            "billing": {"audience": "https://billing.mesh.example"},
        },
        "approvals": {"pending_seconds": 900, "granted_seconds": 60},
        "providers": [
            {
                "issuer": "http://127.0.0.1:8080/realms/staff",
                "audiences": ["runner"],
                "groups_claim": "roles",
                "groups": ["support"],
                "ca_file": "tls/idp.pem",
                "allow_loopback": True,
                "allow_private": True,
            }
        ],
        "agents": [
            {
                "name": "triage",
                "owner": "support-team",
                "sponsor": "head-of-support",
                "purpose": "sorts and reads tickets",
                "ceiling": "observer",
                "autonomous": True,
                "hosts": [RUNNER],
                "max_depth": 2,
                "expires_at": "2027-01-01T00:00:00+01:00",
                "sandbox": "gvisor",
                "clients": [{"issuer": "http://127.0.0.1:8080/realms/staff", "id": "runner"}],
            }
        ],
        "audit": {"segment_bytes": 65_536, "durable": True, "refusals_per_second": 3},
        "events": {
            "transmitters": [
                {
                    "issuer": "http://127.0.0.1:8080/realms/staff",
                    "audience": "https://broker.mesh.example:8443/deputy/events",
                    "issuers": ["http://127.0.0.1:8080/realms/staff"],
                    "jwks_uri": "http://127.0.0.1:8080/keys",
                    "bearer_file": "secrets/transmitter",
                    "ca_file": "tls/transmitter.pem",
                    "allow_loopback": True,
                    "allow_private": True,
                }
            ],
            "receivers": [
                {
                    "url": "http://127.0.0.1:8090/events",
                    "audience": "https://siem.example",
                    "issuers": ["http://127.0.0.1:8080/realms/staff"],
                    "bearer_file": "secrets/receiver",
                    "ca_file": "tls/receiver.pem",
                    "allow_loopback": True,
                    "allow_private": True,
                }
            ],
        },
        "agentgateway": {"targets": [{"name": "billing", "service": "billing"}], "prefixed": True},
        "kuadrant": {
            "key": "kuadrant/key.pem",
            "gateways": [
                {
                    "service": "billing",
                    "servers": [
                        {
                            "name": "mcp-test/billing",
                            "service": "billing",
                            "prefix": "billing_",
                            "tools": ["pay"],
                            "prompts": ["remind"],
                            "resources": ["billing.mesh.example"],
                        }
                    ],
                }
            ],
        },
        "replica": {"of": "/var/lib/authority"},
        "limits": {
            "delegation_depth": 2,
            "clock_leeway_seconds": 0,
            "delegation_token_seconds": 60,
            "transaction_token_seconds": 10,
            "jwt_svid_seconds": 30,
            "x509_svid_seconds": 120,
            "task_seconds": 600,
        },
        "identity": {
            "socket": "unix:///run/deputy/api.sock",
            "task_sockets": "tasks",
            "workloads": [
                {
                    "id": RUNNER,
                    "socket": "unix:///run/deputy/runner/api.sock",
                    "uid": 1000,
                    "gid": 1001,
                    "executable_sha256": "0" * 64,
                    "dns_names": ["runner.mesh.example"],
                    "hint": "internal",
                }
            ],
            "agent_uids": [{"uid": 2000, "agent": "triage"}],
            "key_seconds": 7200,
            "publish_seconds": 30,
            "refresh_hint_seconds": 20,
            "jwt_issuer": "https://oidc.mesh.example",
            "jwt_audiences": ["sts.cloud.example"],
            "wit_svid": True,
            "bundle_endpoint": {
                "listen": "0.0.0.0:8443",
                "profile": "https_web",
                "certificate": "tls/web.pem",
                "key": "tls/web-key.pem",
            },
            "upstream": {"workload_api": "unix:///run/spire/agent.sock", "start_seconds": 5},
            "kubernetes": {
                "api_server": "https://10.0.0.1:6443",
                "ca": "k8s/ca.crt",
                "token": "k8s/token",
                "audience": "deputy",
            },
            "pkcs11": {
                "module": "/usr/lib/softhsm/libsofthsm2.so",
                "token_label": "deputy",
                "pin_file": "hsm/pin",
            },
        },
    }


def parse(value: object) -> Config:
    # Through JSON, so that nothing is written as an alias of something else.
    return parse_config(yaml.safe_dump(json.loads(json.dumps(value))).encode(), HOME)


def refusal(value: object) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(value)
    return str(caught.value)


def at(value: Json, path: str) -> tuple[Any, Any]:
    """Return the container and the last step of a dotted path; numbers are places in lists."""
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place: Any = value
    for step in steps:
        place = place[step]
    return place, last


def with_value(path: str, new: object, base: Json | None = None) -> Json:
    value = full() if base is None else base
    place, last = at(value, path)
    place[last] = new
    return value


def without(path: str) -> Json:
    value = full()
    place, last = at(value, path)
    del place[last]
    return value


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
    for step, below in pairs:
        here = f"{path}.{step}".removeprefix(".")
        if isinstance(below, Mapping | list):
            yield from leaves(below, here)
        else:
            yield here, below


def mappings(value: Any, path: str = "") -> Iterator[str]:
    """Every place that has keys of its own; the names of services are no keys of ours."""
    if isinstance(value, Mapping):
        if path != "services":
            yield path
        for step, below in value.items():
            yield from mappings(below, f"{path}.{step}".removeprefix("."))
    elif isinstance(value, list):
        for number, below in enumerate(value):
            yield from mappings(below, f"{path}.{number}")


# What is right


def test_the_smallest_configuration_has_defaults() -> None:
    config = parse(minimal())
    assert (config.check.listen, config.broker.listen) == ("127.0.0.1:9191", "127.0.0.1:9192")
    assert (config.policy.engine, config.policy.grants) == ("embedded", HOME / "grants.yaml")
    assert config.limits.delegation_token_seconds == 300
    assert config.agents == []


def test_every_key_is_read() -> None:
    given_ = {path for path, _ in leaves(full())}
    schema = Config.model_json_schema()

    def keys(part: Json, path: str) -> Iterator[str]:
        part = schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        forms = [form for form in part.get("anyOf", []) if form.get("type") != "null"]
        part = forms[0] if forms else part
        part = schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        if part.get("type") == "array":
            yield from keys(part["items"], f"{path}.0")
        elif "properties" in part:
            for name, below in part["properties"].items():
                yield from keys(below, f"{path}.{name}".removeprefix("."))
        elif "patternProperties" in part or isinstance(part.get("additionalProperties"), dict):
            (below,) = [*part.get("patternProperties", {}).values()] or [part["additionalProperties"]]
            yield from keys(below, f"{path}.tickets")
        else:
            yield path

    # `local_may_ask` goes with a Unix socket, and `paths` with MCP, which this one has not.
    assert set(keys(schema, "")) - given_ == {"check.local_may_ask.0", "services.tickets.paths.0"}
    parse(full())


def test_every_value_reaches_the_parts() -> None:
    config = parse(full())
    service = config.to_services().by_name["tickets"]
    assert (service.audience, service.route.protocol, service.route.tool_prefix) == (
        "https://tickets.mesh.example/api",
        "http",
        "tickets__",
    )
    assert service.hosts == {"tickets.mesh.example", "[2001:db8::1]"}
    (agent,) = config.to_agents()
    assert agent.expires_at == datetime(2026, 12, 31, 23, tzinfo=UTC)
    assert (agent.name, agent.autonomous, agent.max_depth, agent.sandbox) == ("triage", True, 2, "gvisor")
    assert agent.hosts == {SpiffeId.parse(RUNNER)}
    asker = config.to_services().asker(SpiffeId.parse(GATEWAY))
    assert asker.may_ask == {"tickets", "billing"}


def test_relative_paths_are_relative_to_the_file() -> None:
    config = parse(full())
    assert config.data_dir == Path("/var/lib/deputy")
    assert config.policy.grants == HOME / "policy" / "grants.yaml"
    assert config.policy.rego == HOME / "policy" / "rego"
    assert config.providers[0].ca_file == HOME / "tls" / "idp.pem"
    opa = config.policy.opa
    assert opa is not None
    assert (opa.ca, opa.certificate, opa.key) == (
        HOME / "tls" / "ca.pem",
        HOME / "tls" / "cert.pem",
        Path("/etc/deputy/key.pem"),
    )


def test_the_directory_of_the_file_counts_and_not_the_one_that_we_are_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "deputy.yaml").write_text(yaml.safe_dump(minimal()))
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("etc/deputy.yaml")).data_dir == tmp_path / "etc" / "data"


def test_paths_of_the_endpoint_count_with_and_without_the_last_slash() -> None:
    value = minimal()
    value["services"]["tickets"]["paths"] = ["/", "/tickets/v1.2/mcp"]
    assert parse(value).to_services().by_name["tickets"].route.paths == {"", "/tickets/v1.2/mcp"}


@pytest.mark.parametrize("path", ["mcp", "/mcp/", "//mcp", "/a/../b", "/a?b", "/%6dcp", "/a;b", "", "/."])
def test_a_path_that_no_request_can_have_is_refused(path: str) -> None:
    value = minimal()
    value["services"]["tickets"]["paths"] = [path]
    with pytest.raises(ConfigError, match="a path such as /mcp"):
        parse(value)


def test_paths_of_plain_http_stand_in_the_grants() -> None:
    value = minimal()
    value["services"]["tickets"] |= {"protocol": "http", "paths": ["/files"]}
    with pytest.raises(ConfigError, match="paths belong to mcp, a2a and llm"):
        parse(value)


def test_a_service_is_no_audience_of_the_brokers_assertions() -> None:
    """Else the JWT-SVID by which an actor proves itself to the broker would be a credential for a call."""
    value = minimal()
    value["services"]["tickets"]["audience"] = value["broker"]["issuer"]
    with pytest.raises(ConfigError, match="stands 2 times"):
        parse(value)


def test_a_unix_socket_takes_a_local_asker() -> None:
    value = minimal()
    value["check"] = {"listen": "unix:///run/deputy/check.sock", "local_may_ask": ["tickets"]}
    services = parse(value).to_services()
    assert services.asker(None).may_ask == {"tickets"}


# What is wrong


@pytest.mark.parametrize("path", [path for path, _ in leaves(full())])
@pytest.mark.parametrize("wrong", [[1], {"a": 1}, None, 1.5, -1, "", "\x1b[31m", True], ids=repr)
def test_a_wrong_value_is_refused_by_name_or_was_right(path: str, wrong: object) -> None:
    value = with_value(path, wrong)
    _, right = next(item for item in leaves(full()) if item[0] == path)
    try:
        parse(value)
    except ConfigError as error:
        assert path.split(".", maxsplit=1)[0] in str(error)
        assert str(error).isprintable()
    else:
        # What is optional may be null or empty; a type is never bent.
        assert wrong is None or type(wrong) is type(right)


@pytest.mark.parametrize("path", list(mappings(full())))
def test_an_unknown_key_is_refused_at_every_level(path: str) -> None:
    value = with_value(f"{path}.zzzz_42".removeprefix("."), 1)
    message = refusal(value)
    assert "zzzz_42: unknown key; known here: " in message


@pytest.mark.parametrize(
    ("path", "meant"),
    [("audit.durabel", "durable"), ("policy.opa.timeout", "timeout_ms"), ("service", "services")],
)
def test_an_unknown_key_is_told_with_the_one_that_is_meant(path: str, meant: str) -> None:
    assert f"did you mean {meant!r}?" in refusal(with_value(path, 1))


REQUIRED = [
    "trust_domain",
    "data_dir",
    "broker",
    "broker.issuer",
    "services",
    "services.tickets.audience",
    "check.callers.0.id",
    "check.callers.0.may_ask",
    "providers.0.issuer",
    "providers.0.audiences",
    *(f"agents.0.{key}" for key in ("name", "owner", "sponsor", "purpose", "ceiling", "hosts")),
]


@pytest.mark.parametrize("path", REQUIRED)
def test_a_missing_key_is_named(path: str) -> None:
    assert f"{path.replace('.0', '[0]')}: is missing" in refusal(without(path))


@pytest.mark.parametrize(
    "path", ["services", "check.callers.0.may_ask", "broker.names", "providers.0.audiences", "agents.0.hosts"]
)
def test_an_empty_list_is_no_pass(path: str) -> None:
    empty: object = {} if path == "services" else []
    refusal(with_value(path, empty))


WRONG = [
    ("check.listen", "127.0.0.1", "not an address"),
    ("check.listen", "127.0.0.1:99999", "not an address"),
    ("check.listen", "unix://relative.sock", "not the absolute path"),
    ("check.max_concurrent", "7", "must be a whole number"),
    ("check.max_concurrent", 0, "must be at least 1"),
    ("check.callers.0.id", "gateway", "must be a SPIFFE ID"),
    ("check.callers.0.may_ask", ["unheard-of"], "unknown services: unheard-of"),
    ("broker.issuer", "http://broker.mesh.example", "must be an https URL"),
    ("broker.issuer", "https://broker.mesh.example?x=1", "must be an https URL"),
    ("broker.issuer", "https://broker.mesh.example\n", "must be an https URL"),
    ("broker.listen", "unix:///run/broker.sock", "must be 'host:port'"),
    ("data_dir", "~/deputy", "must be a path, written out"),
    ("policy.engine", "rego", "must be 'embedded' or 'opa'"),
    ("policy.engine", "embedded", "policy.opa goes with engine: opa"),
    ("policy.opa.url", "http://opa:8181", "must be 'unix:///absolute/path' or 'https://host:port'"),
    ("policy.opa.ca", None, "https takes ca, certificate and key"),
    ("policy.opa.url", "unix:///run/opa.sock", "belong to https"),
    ("policy.opa.timeout_ms", 0, "must be at least 1"),
    ("services.tickets.audience", "tickets", "must be an https URL"),
    ("services.tickets.protocol", "soap", "must be 'mcp', 'a2a', 'llm', 'http' or 'grpc'"),
    ("services.tickets.tool_prefix", "a b", "must be at most 64 of"),
    ("services.tickets.hosts.0", "tickets.mesh.example:8443", "must be a host without its port"),
    ("services.tickets.hosts.0", "[::1]:8443", "must be a host without its port"),
    ("services.tickets.hosts.0", "https://tickets.mesh.example", "must be a host name"),
    ("services.tickets.hosts.0", "tickets.mesh.example/api", "must be a host name"),
    ("services.tickets.hosts", [], "hosts and destinations go together"),
    ("services.tickets.destinations", [], "hosts and destinations go together"),
    ("services.tickets.destinations.0", "https://mesh.example", "must be a SPIFFE ID"),
    ("services.tickets.txn", "none", "with txn: none the service gets none"),
    ("services.tickets.txn", "never", "must be 'per_call', 'per_tool' or 'none'"),
    ("providers.0.issuer", "http://idp.mesh.example", "must be an https URL"),
    ("providers.0.issuer", "https://idp.mesh.example#x", "must be an https URL"),
    ("providers.0.allow_loopback", False, "needs allow_loopback: true"),
    ("agents.0.name", "Triage", "agents[0].name"),
    ("agents.0.hosts.0", "runner", "must be a SPIFFE ID"),
    ("agents.0.max_depth", 9, "must be at most 8"),
    ("agents.0.expires_at", "2027-01-01T00:00:00", "its zone"),
    ("agents.0.expires_at", "soon", "must be a time"),
    ("agents.0.expires_at", 1_800_000_000, "must be a time"),
    ("agents.0.owner", "x" * 256, "must have at most 255 characters"),
    ("audit.durable", "yes", "must be true or false"),
    ("audit.durable", 1, "must be true or false"),
    ("audit.segment_bytes", 1024, "must be at least 65536"),
    ("limits.clock_leeway_seconds", 61, "must be at most 60"),
    ("limits.delegation_token_seconds", 301, "must be at most 300"),
    ("limits.delegation_depth", True, "must be a whole number"),
    ("trust_domain", "Mesh.Example", "trust_domain"),
    ("trust_domain", "spiffe://mesh.example", "trust_domain"),
]


@pytest.mark.parametrize(
    ("path", "wrong", "says"), WRONG, ids=[f"{path}={wrong!r:.30}" for path, wrong, _ in WRONG]
)
def test_a_mistake_is_told_with_its_place(path: str, wrong: object, says: str) -> None:
    assert says in refusal(with_value(path, wrong))


@pytest.mark.parametrize("name", ["Tickets", "tick_ets", "-tickets", "t" * 64, "tickets\n", ""])
def test_a_service_has_a_plain_name(name: str) -> None:
    value = minimal()
    value["services"][name] = {"audience": "https://other.mesh.example"}
    assert "(the name): must be a name of 1 to 63" in refusal(value)


def test_what_stands_twice_is_refused() -> None:
    value = full()
    value["agents"].append(dict(value["agents"][0], purpose="another"))
    assert "agents: 'triage' stands 2 times" in refusal(value)
    value = full()
    value["check"]["callers"].append({"id": GATEWAY, "may_ask": ["billing"]})
    assert f"check.callers: {GATEWAY!r} stands 2 times" in refusal(value)
    value = full()
    value["services"]["billing"]["audience"] = value["services"]["tickets"]["audience"]
    assert "audience: 'https://tickets.mesh.example/api' stands 2 times" in refusal(value)
    value = full()
    value["providers"].append(dict(value["providers"][0], audiences=["other"]))
    assert "providers: 'http://127.0.0.1:8080/realms/staff' stands 2 times" in refusal(value)


def test_one_host_behind_one_destination_means_one_service() -> None:
    value = full()
    tickets = value["services"]["tickets"]
    value["services"]["billing"] |= {
        "hosts": ["tickets.mesh.example"],
        "destinations": tickets["destinations"],
    }
    assert "host behind one destination: 'tickets.mesh.example behind spiffe" in refusal(value)
    value["services"]["billing"]["destinations"] = ["spiffe://mesh.example/ns/billing/sa/proxy"]
    parse(value)


@pytest.mark.parametrize(
    ("check", "right"),
    [
        ({"listen": "127.0.0.1:1", "callers": [{"id": GATEWAY, "may_ask": ["tickets"]}]}, True),
        ({"listen": "unix:///run/d.sock", "local_may_ask": ["tickets"]}, True),
        ({"listen": "unix:///run/d.sock", "callers": [{"id": GATEWAY, "may_ask": ["tickets"]}]}, False),
        ({"listen": "127.0.0.1:1", "local_may_ask": ["tickets"]}, False),
        ({"listen": "127.0.0.1:1"}, False),
        ({"listen": "unix:///run/d.sock"}, False),
        ({}, False),
    ],
)
def test_a_socket_has_local_askers_and_an_address_has_callers(check: Json, right: bool) -> None:
    value = {**minimal(), "check": check}
    if right:
        parse(value)
    else:
        assert "a Unix socket takes check.local_may_ask, host:port takes check.callers" in refusal(value)


# The file


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("- a\n", "not a mapping"),
        ("5\n", "not a mapping"),
        ("trust_domain: a\ntrust_domain: b\n", "line 2: the key 'trust_domain' stands twice"),
        ("trust_domain: !!python/name:os.system x\n", "tags are not accepted"),
        ("trust_domain: !secret x\n", "tags are not accepted"),
        ("a: &a 1\nb: *a\n", "the anchor 'a'"),
        ("a: 1\n---\nb: 2\n", "a second document"),
        ("audit: {durable: yes}\n", "line 1: 'yes' is read differently"),
        ("a: [\n", "not YAML"),
        ("\ta: 1\n", "not YAML"),
        ("a: \x01\n", "not YAML"),
    ],
)
def test_yaml_has_one_reading(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text.encode(), HOME)
    assert says in str(caught.value)


def test_a_file_that_is_not_utf8_or_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deputy.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(path)
    path.write_bytes(b"#" * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than"):
        load_config(path)


def test_a_file_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory; see 'deputy config schema'"):
        load_config(tmp_path / "deputy.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path)


def test_all_that_is_wrong_is_told_at_once_but_not_without_end() -> None:
    value = {**minimal(), "trust_domain": 5, "data_dir": 5}
    message = refusal(value)
    assert "trust_domain: must be text" in message
    assert "data_dir: must be a path" in message
    assert "and 40 more" in refusal({**minimal(), **{f"k{number}": 1 for number in range(50)}})


SECRET = "hunter2-swordfish"


@pytest.mark.parametrize("path", [path for path, _ in leaves(full())])
def test_a_secret_in_the_wrong_place_is_not_repeated(path: str) -> None:
    value = with_value(path, {"password": SECRET})
    assert SECRET not in refusal(value)


def test_a_url_with_a_password_is_not_repeated() -> None:
    for path in ("broker.issuer", "policy.opa.url", "providers.0.issuer", "services.tickets.audience"):
        assert SECRET not in refusal(with_value(path, f"https://me:{SECRET}@host.example"))
    assert SECRET not in refusal({**minimal(), "password": SECRET})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_any_value_anywhere_is_a_configuration_or_our_error(value: object) -> None:
    for path in ("services", "check", "agents.0", "policy.opa", "providers"):
        try:
            parse(with_value(path, value))
        except ConfigError as error:
            assert str(error).isprintable()


def test_the_configuration_cannot_be_changed_after_it_was_read() -> None:
    config = parse(minimal())
    with pytest.raises(ValueError, match="frozen"):
        config.trust_domain = "other.example"


def test_a_place_that_does_not_exist_has_no_keys() -> None:
    schema = Config.model_json_schema()
    assert properties_at(("nowhere", 0, "below"), schema) == {}
    assert "audience" in properties_at(("services", "any-name"), schema)


def test_every_key_is_described() -> None:
    schema = Config.model_json_schema()
    for part in [schema, *schema["$defs"].values()]:
        for name, member in part.get("properties", {}).items():
            assert member.get("description"), name
