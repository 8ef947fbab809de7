"""The Envoy configuration of the way out: one source, no drift, nothing but what is listed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from authz.address import TcpAddress, UnixAddress
from authz.errors import ConfigError
from authz.mesh.egress import default_egress_settings
from authz.mesh.envoy import render, to_yaml
from authz.mesh.outside import Outside, OutsideKey
from authz.mesh.settings import EnvoySettings, Service
from authz.outside import KEPT_INSIDE, KEPT_INSIDE_PREFIXES
from tests.test_envoy_config import ROOT, contexts, everything, here, per_route, validate

FILE = ROOT / "mesh-config" / "egress" / "envoy.yaml"
MODELS = Outside("models", "api.models.example")


def found(name: str, settings: EnvoySettings | None = None) -> list[Any]:
    return [
        value for each, value in everything(render(settings or default_egress_settings())) if each == name
    ]


def clusters() -> dict[str, Any]:
    (listed,) = found("clusters")
    return {
        cluster["name"].removeprefix("outside-"): cluster
        for cluster in listed
        if cluster["name"].startswith("outside-")
    }


def with_keys(directory: Path) -> EnvoySettings:
    """The checked-in settings with keys that are there, as Envoy demands."""
    moved = here(default_egress_settings(), directory)
    for outside in moved.outside:
        secret = {"name": f"outside-{outside.name}", "generic_secret": {"secret": {"inline_string": "sk-x"}}}
        kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
        (directory / f"{outside.name}.yaml").write_text(
            yaml.safe_dump({"resources": [{"@type": kind, **secret}]})
        )
    hosts = tuple(
        replace(each, key=replace(each.key, secret=directory / f"{each.name}.yaml")) if each.key else each
        for each in moved.outside
    )
    return replace(moved, outside=hosts)


def test_the_checked_in_file_is_what_the_generator_writes() -> None:
    """After a change: python tools/envoy_config.py."""
    assert FILE.read_text() == to_yaml(render(default_egress_settings()))


def test_a_real_envoy_accepts_it_without_a_word(tmp_path: Path) -> None:
    done = validate(render(with_keys(tmp_path)), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_envoy_whose_key_is_not_there_does_not_start(tmp_path: Path) -> None:
    settings = with_keys(tmp_path)
    (tmp_path / "models.yaml").unlink()
    assert validate(render(settings), tmp_path).returncode != 0


def test_nothing_in_it_fails_open() -> None:
    assert found("failure_mode_allow") == [False, False]
    assert found("allow_partial_message") == [False]
    assert found("require_client_certificate") == [True]
    assert found("allow_request_without_credential") == [False, False]
    assert found("filter_enabled") == found("disable_request_body_buffering") == []


def test_answers_of_each_guarded_host_are_shown_and_of_no_other() -> None:
    assert per_route(default_egress_settings()) == {"models": [True], "weather": [False], "nowhere": [False]}


def test_grpc_outside_is_decided_by_its_path() -> None:
    settings = replace(default_egress_settings(), outside=(replace(MODELS, transport="grpc"),))
    assert found("disable_request_body_buffering", settings) == [True]


def test_nothing_in_a_request_says_where_to_connect() -> None:
    text = FILE.read_text()
    for way in ("forward_proxy", "ORIGINAL_DST", "use_http_header", "cluster_header", "connect_matcher"):
        assert way not in text
    assert found("upgrade_configs") == found("upgrade_type") == found("internal_redirect_policy") == []


def test_each_host_leads_to_its_cluster_and_is_asked_about_as_its_service() -> None:
    (hosts,) = found("virtual_hosts")
    assert [host["domains"] for host in hosts] == [
        ["api.models.example", "api.models.example:443"],
        ["api.weather.example", "api.weather.example:443"],
        ["*"],
    ]
    for host in hosts[:-1]:
        (route,) = host["routes"]
        check = route["typed_per_filter_config"]["envoy.filters.http.ext_authz"]["check_settings"]
        assert check == {"context_extensions": {"service": host["name"]}}
        assert route["route"]["cluster"] == f"outside-{host['name']}"
        assert route["route"]["host_rewrite_literal"] == host["domains"][0]


def test_every_other_host_is_asked_about_and_leads_nowhere() -> None:
    """Deputy knows no service without a name: the refusal has a record."""
    (hosts,) = found("virtual_hosts")
    (route,) = hosts[-1]["routes"]
    check = route["typed_per_filter_config"]["envoy.filters.http.ext_authz"]["check_settings"]
    assert check == {"context_extensions": {"service": ""}}
    assert "route" not in route
    assert route["direct_response"] == {"status": 404}


def test_what_never_leaves_is_removed_here_once_more() -> None:
    for removed in found("request_headers_to_remove"):
        assert set(KEPT_INSIDE) < set(removed)
    assert len(found("request_headers_to_remove")) == 2


def test_what_begins_like_ours_is_removed_before_anything_reads_it() -> None:
    assert {each["key_matcher"]["prefix"] for each in found("remove_on_match")} == {
        *KEPT_INSIDE_PREFIXES,
        "x-envoy-",
    }


def test_an_answer_does_not_speak_as_deputy() -> None:
    for removed in found("response_headers_to_remove"):
        assert {"x-deputy-decision", "x-deputy-reason", "www-authenticate", "alt-svc"} == {*removed} - {
            "proxy-authenticate"
        }


def test_a_host_outside_is_known_by_its_name_and_sees_no_certificate_of_ours() -> None:
    for name, cluster in clusters().items():
        (tls,) = [value for each, value in everything(cluster) if each == "common_tls_context"]
        assert "tls_certificate_sds_secret_configs" not in tls
        (names,) = [value for each, value in everything(cluster) if each == "match_typed_subject_alt_names"]
        assert names == [{"san_type": "DNS", "matcher": {"exact": f"api.{name}.example"}}]
        (sni,) = [value for each, value in everything(cluster) if each == "sni"]
        assert sni == f"api.{name}.example"
        assert cluster["type"] == "STRICT_DNS"


def test_a_key_is_put_in_within_the_cluster_of_its_host() -> None:
    """In the listener it would be put into every request, whatever its host."""
    (listeners,) = found("listeners")
    assert "credential_injector" not in str(listeners)
    for name, cluster in clusters().items():
        (filters,) = [value for each, value in everything(cluster) if each == "http_filters"]
        assert [each["name"].rpartition(".")[2] for each in filters] == [
            "credential_injector",
            "upstream_codec",
        ]
        assert f"/etc/deputy-egress/{name}.yaml" in str(filters)


def test_deputy_is_believed_as_before_services() -> None:
    mesh = [value for value in found("common_tls_context") if "tls_certificate_sds_secret_configs" in value]
    inside = replace(
        default_egress_settings(), outside=(), services=(Service("a", UnixAddress("/a"), is_guarded=True),)
    )
    assert len(mesh) == len(contexts(inside)) == 3
    assert str(contexts(inside)[1][2]) in str(mesh[1])


def test_a_host_without_a_key_gets_none() -> None:
    settings = replace(default_egress_settings(), outside=(MODELS,))
    assert "credential_injector" not in str(render(settings))


def test_a_host_at_another_port_has_no_other_name() -> None:
    outside = Outside("models", "api.models.example", 8443)
    assert (outside.authority, outside.authorities) == (
        "api.models.example:8443",
        ("api.models.example:8443",),
    )
    assert outside.upstream == TcpAddress("api.models.example", 8443)


@pytest.mark.parametrize(
    "change",
    [
        {"outside": ()},
        {"outside": (MODELS, MODELS)},
        {"outside": (MODELS, Outside("other", "api.models.example"))},
        {"services": (Service("a", UnixAddress("/a")),)},
        {"outside_roots": Path("roots.pem")},
    ],
    ids=["none", "twice", "two-of-one-host", "both", "relative"],
)
def test_settings_with_two_readings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(default_egress_settings(), **change)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "*.models.example",
        "api.models.example.",
        "API.models.example",
        "api.models.example:443",
        "169.254.169.254",
        "0x7f.1",
        "[::1]",
        "a..b",
        "-a.example",
        "a_b.example",
        "a.example\n",
        f"{'a.' * 127}example",
        "b\u00fccher.example",
        "a@b.example",
    ],
)
def test_a_host_outside_is_a_whole_dns_name(host: str) -> None:
    with pytest.raises(ConfigError):
        Outside("models", host)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_is_a_port(port: int) -> None:
    with pytest.raises(ConfigError):
        Outside("models", "api.models.example", port)


def test_a_name_is_that_of_a_service() -> None:
    with pytest.raises(ConfigError):
        Outside("a/b", "api.models.example")


@pytest.mark.parametrize(
    "key",
    [
        {"secret": Path("key.yaml")},
        {"secret": Path("/key.pem")},
        {"secret": Path("/a b.yaml")},
        {"header": "host"},
        {"header": ":authority"},
        {"header": "X-Api-Key"},
        {"header": "a\r\nb"},
        {"prefix": "Bearer  "},
        {"prefix": "a\nb"},
    ],
    ids=str,
)
def test_a_key_is_a_file_and_a_header(key: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(OutsideKey(Path("/key.yaml")), **key)


def test_envoy_itself_tells_the_outside_nothing_about_the_caller() -> None:
    """It removes these headers as well; here it does not make them."""
    assert found("forward_client_cert_details") == ["SANITIZE"]
    assert found("set_current_client_cert_details") == []
    assert found("skip_xff_append") == found("suppress_envoy_headers") == [True]


def test_a_client_that_uses_it_as_its_proxy_is_on_https_for_everybody() -> None:
    assert found("scheme_header_transformation") == [{"scheme_to_overwrite": "https"}]
    assert found("normalize_path") == found("merge_slashes") == [True]
    assert found("max_stream_duration") == ["300s"]
