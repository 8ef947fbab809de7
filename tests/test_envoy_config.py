"""The Envoy configuration: one source, no drift, and a real Envoy accepts it."""

import json
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from authz.address import TcpAddress, UnixAddress
from authz.errors import ConfigError
from authz.mesh.envoy import default_settings, render, to_yaml
from authz.mesh.envoy_process import EnvoyProcess, find_envoy, write_private
from authz.mesh.names import Transport
from authz.mesh.settings import EnvoySettings, Service
from identity.spiffe import SpiffeId

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "mesh-config" / "envoy" / "envoy.yaml"


def here(settings: EnvoySettings, directory: Path) -> EnvoySettings:
    """The same settings with paths of ours, and a port that is free."""
    moved = replace(settings, run_directory=directory, listen=TcpAddress("127.0.0.1", 0))
    return replace(moved, sds_socket=directory / "sds.sock")


def validate(configuration: dict[str, Any], directory: Path) -> subprocess.CompletedProcess[str]:
    file = directory / "validate.json"
    file.write_text(json.dumps(configuration))
    command = [str(find_envoy()), "--mode", "validate", "-c", str(file), "--log-level", "warning"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def everything(value: object) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name, inner
            yield from everything(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from everything(inner)


def test_the_checked_in_file_is_what_the_generator_writes() -> None:
    """After a change: python tools/envoy_config.py."""
    assert FILE.read_text() == to_yaml(render(default_settings()))


def test_a_real_envoy_accepts_the_checked_in_file_without_a_word(tmp_path: Path) -> None:
    settings = default_settings()
    moved = here(settings, tmp_path)
    text = FILE.read_text().replace(str(settings.run_directory), str(moved.run_directory))
    done = validate(yaml.safe_load(text), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_a_real_envoy_accepts_every_kind_of_address(tmp_path: Path) -> None:
    settings = replace(
        here(default_settings(), tmp_path),
        listen=UnixAddress(f"{tmp_path}/listen.sock"[-100:]),
        deputy=(TcpAddress("deputy.mesh.example", 9191), TcpAddress("deputy-b.mesh.example", 9191)),
        services=(
            Service("a", TcpAddress("::1", 80)),
            Service("b", TcpAddress("b.example", 80)),
        ),
    )
    done = validate(render(settings), tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_mistyped_field_is_refused_so_validation_means_something(tmp_path: Path) -> None:
    configuration = json.loads(json.dumps(render(here(default_settings(), tmp_path))))
    configuration["static_resources"]["listeners"][0]["per_connection_buffer_limit_byte"] = 1
    assert validate(configuration, tmp_path).returncode != 0


def test_nothing_in_it_fails_open() -> None:
    found = list(everything(render(default_settings())))
    assert [value for name, value in found if name == "failure_mode_allow"] == [False, False]
    assert [value for name, value in found if name == "allow_partial_message"] == [False]
    assert [value for name, value in found if name == "require_client_certificate"] == [True]
    switches = {
        "filter_enabled",
        "failure_mode_allow_header_add",
        "observability_mode",
        "send_body_without_waiting_for_header_response",
        "disable_request_body_buffering",
    }
    assert switches.isdisjoint(name for name, _ in found)


def test_ext_authz_is_the_last_filter_before_the_router() -> None:
    """A filter in between could change what was checked. ext_proc, for answers, is shown no request."""
    (filters,) = [value for name, value in everything(render(default_settings())) if name == "http_filters"]
    names = [entry["name"].removeprefix("envoy.filters.http.") for entry in filters]
    assert names[-3:] == ["ext_authz", "ext_proc", "router"]
    assert [entry.get("disabled") for entry in filters] == [None, True, None]
    (routes,) = [value for name, value in everything(render(default_settings())) if name == "route_config"]
    assert routes["typed_per_filter_config"]["envoy.filters.http.ext_proc"]["overrides"] == {}
    mode = filters[-2]["typed_config"]["processing_mode"]
    assert {mode[name] for name in mode if name.startswith("request")} == {"SKIP", "NONE"}


def per_route(settings: EnvoySettings) -> dict[str, list[bool]]:
    """Of each route's name: whether the answers of such a route are guarded."""
    found: dict[str, list[bool]] = {}
    (hosts,) = [value for name, value in everything(render(settings)) if name == "virtual_hosts"]
    for route in (route for host in hosts for route in host["routes"]):
        disabled = route["typed_per_filter_config"].get("envoy.filters.http.ext_proc", {}).get("disabled")
        found.setdefault(route["name"], []).append(disabled is not True)
    return found


def test_answers_of_each_guarded_service_are_shown_and_of_no_other() -> None:
    """Of each service the second route is answered by Deputy alone."""
    assert per_route(default_settings()) == {"tickets": [True, False], "billing": [False, False]}


def test_without_a_guarded_service_there_is_no_ext_proc() -> None:
    services = tuple(replace(each, is_guarded=False) for each in default_settings().services)
    settings = replace(default_settings(), services=services)
    assert "ext_proc" not in json.dumps(render(settings))
    assert "deputy-answers" not in json.dumps(render(settings))


def test_answers_have_connections_of_their_own() -> None:
    """Open answers count against a cluster's limit of requests; decisions must not run into it."""
    static: Any = render(default_settings())["static_resources"]
    clusters = {cluster["name"]: cluster for cluster in static["clusters"]}
    answers = clusters["deputy-answers"]
    assert answers.pop("circuit_breakers") == {"thresholds": [{"max_requests": 1024}]}
    assert {**answers, "name": "deputy", "load_assignment": None} == {
        **clusters["deputy"],
        "load_assignment": None,
    }


def grpc_settings(*services: Service) -> EnvoySettings:
    return replace(default_settings(), services=services)


LEDGER = Service("ledger", UnixAddress("/run/ledger.sock"), "ledger.mesh.example", "grpc", is_guarded=True)


def test_grpc_is_found_by_its_host_and_its_paths_stay_as_they_are() -> None:
    configuration = render(grpc_settings(LEDGER))
    (hosts,) = [value for name, value in everything(configuration) if name == "virtual_hosts"]
    host, services = hosts
    assert host["domains"] == ["ledger.mesh.example", "ledger.mesh.example:8443"]
    (route,) = host["routes"]
    assert route["match"] == {"prefix": "/", "grpc": {}}
    assert "prefix_rewrite" not in route["route"]
    assert [each["match"]["prefix"] for each in services["routes"]] == [
        "/.well-known/oauth-protected-resource/ledger/"
    ]
    static: Any = configuration["static_resources"]
    (cluster,) = [cluster for cluster in static["clusters"] if cluster["name"] == "service-ledger"]
    assert "http2_protocol_options" in json.dumps(cluster)


@pytest.mark.parametrize(("transport", "unbuffered"), [("grpc", [True]), ("grpc_whole", [])])
def test_only_what_is_decided_by_its_path_is_decided_before_its_body(
    transport: Transport, unbuffered: list[bool]
) -> None:
    configuration = render(grpc_settings(replace(LEDGER, transport=transport)))
    found = [value for name, value in everything(configuration) if name == "disable_request_body_buffering"]
    assert found == unbuffered


def test_a_real_envoy_accepts_grpc(tmp_path: Path) -> None:
    done = validate(render(here(grpc_settings(LEDGER), tmp_path)), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_grpc_behind_a_unix_socket_has_no_port_in_its_name() -> None:
    settings = replace(grpc_settings(LEDGER), listen=UnixAddress("/run/listen.sock"))
    assert settings.authorities(LEDGER) == ("ledger.mesh.example",)


def test_refuses_grpc_without_a_host_of_its_own() -> None:
    with pytest.raises(ConfigError, match="needs a host of its own"):
        Service("ledger", UnixAddress("/a"), transport="grpc")
    with pytest.raises(ConfigError, match="one service"):
        grpc_settings(LEDGER, replace(LEDGER, name="books"))


def test_each_route_asks_about_the_service_that_it_leads_to() -> None:
    (hosts,) = [value for name, value in everything(render(default_settings())) if name == "virtual_hosts"]
    for route in hosts[0]["routes"]:
        check = route["typed_per_filter_config"]["envoy.filters.http.ext_authz"]["check_settings"]
        name = check["context_extensions"]["service"]
        if "direct_response" in route:
            # What only Deputy answers: who may ask no service, gets there no other answer.
            assert route["match"] == {"prefix": f"/.well-known/oauth-protected-resource/{name}/"}
            assert route["direct_response"] == {"status": 404}
            assert "route" not in route
        else:
            assert route["match"] == {"prefix": f"/{name}/"}
            assert route["route"]["cluster"] == f"service-{name}"


def contexts(settings: EnvoySettings) -> list[tuple[str, str, Any]]:
    """Each TLS socket: its certificate's name, its roots' name, and whom it accepts of those."""
    found = [value for name, value in everything(render(settings)) if name == "common_tls_context"]
    return [
        (
            context["tls_certificate_sds_secret_configs"][0]["name"],
            context["combined_validation_context"]["validation_context_sds_secret_config"]["name"],
            context["combined_validation_context"]["default_validation_context"][
                "match_typed_subject_alt_names"
            ][0]["matcher"],
        )
        for context in found
    ]


def test_deputy_is_believed_by_its_exact_id_and_our_own_roots_only() -> None:
    """Callers of each federated domain may connect; none of their CAs can stand for Deputy."""
    assert contexts(default_settings()) == [
        ("default", "ALL", {"prefix": "spiffe://"}),
        ("default", "ROOTCA", {"exact": "spiffe://mesh.example/deputy"}),
        ("default", "ROOTCA", {"exact": "spiffe://mesh.example/deputy"}),
    ]


def test_secrets_come_over_a_unix_socket_and_envoy_is_not_ready_without_them() -> None:
    configuration = render(default_settings())
    sources = [value for name, value in everything(configuration) if name == "sds_config"]
    assert len(sources) == 6
    for source in sources:
        assert source["initial_fetch_timeout"] == "0s"
        services = source["api_config_source"]["grpc_services"]
        assert services == [{"envoy_grpc": {"cluster_name": "sds"}}]
    static: Any = configuration["static_resources"]
    (cluster,) = [cluster for cluster in static["clusters"] if cluster["name"] == "sds"]
    addresses = [value for name, value in everything(cluster) if name == "address"]
    assert addresses == [{"pipe": {"path": "/run/deputy/envoy.sock"}}]
    assert "transport_socket" not in cluster


@pytest.mark.parametrize(
    "change",
    [
        {"services": ()},
        {"services": (Service("a", UnixAddress("/a")), Service("a", UnixAddress("/b")))},
        {"deputy": ()},
        {"deputy_id": SpiffeId.parse("spiffe://other.example/deputy")},
        {"sds_socket": Path("relative")},
        {"run_directory": Path("relative")},
        {"max_body_bytes": 0},
        {"max_body_bytes": 1024 * 1024 + 1},
        {"max_stream_seconds": 0},
        {"max_stream_seconds": 3601},
    ],
    ids=lambda change: next(iter(change)),
)
def test_settings_that_would_protect_nothing_or_everything_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(default_settings(), **change)


@pytest.mark.parametrize("name", ["", "Tickets", "a/b", "a\n", "-a", "a-", "a" * 64, "..", "a b", "\u017f"])
def test_a_service_name_is_a_dns_label(name: str) -> None:
    with pytest.raises(ConfigError):
        Service(name, UnixAddress("/a"))


@pytest.mark.parametrize("host", ["", "a b", "a\r\nx: y", "A", "a:", "a:123456", "*"])
def test_a_host_is_a_host(host: str) -> None:
    with pytest.raises(ConfigError):
        Service("a", UnixAddress("/a"), host)


# ---- the files and the process round it


def test_a_file_of_ours_is_for_this_user_only_and_whole(tmp_path: Path) -> None:
    file = tmp_path / "envoy.json"
    for data in (b"old", b"new"):
        assert write_private(file, data) == file
    assert file.read_bytes() == b"new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_an_envoy_that_cannot_start_is_an_error_that_says_why(tmp_path: Path) -> None:
    configuration = render(here(default_settings(), tmp_path))
    configuration["static_resources"] = {"listeners": [{"nonsense": 1}]}
    with pytest.raises(ConfigError, match="nonsense"):
        EnvoyProcess.start(configuration, tmp_path)


def test_an_envoy_without_admin_socket_is_not_started(tmp_path: Path) -> None:
    configuration = render(here(default_settings(), tmp_path))
    del configuration["admin"]
    with pytest.raises(ConfigError, match="admin socket"):
        EnvoyProcess.start(configuration, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_transaction_token_of_a_client_passes_only_where_services_pass_calls_on() -> None:
    """CL-03: removed before anybody sees it, unless an operator says that services call each other."""

    def removed(settings: EnvoySettings) -> set[object]:
        return {value for name, value in everything(render(settings)) if name == "remove"}

    closed, opened = default_settings(), replace(default_settings(), passes_on=True)
    assert removed(closed) - removed(opened) == {"txn-token"}
    assert removed(opened)
