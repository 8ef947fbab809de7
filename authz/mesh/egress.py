"""What is different in the Envoy that agents leave the mesh through: routes by host, clusters with real TLS.

- A host that is not listed is refused by Deputy, so it is recorded, and never resolved: no route leads there.
- One cluster a host, with its name as SNI and as the one name that its certificate may have. Nothing in a
  request says where to connect.
- It shows no certificate of ours, and the key for a host is put in within its cluster: it reaches no other.
- What Deputy removes is removed here once more, whatever was configured there.
- An answer cannot speak as Deputy, send clients to log in elsewhere, or offer another way past this Envoy.
"""

from pathlib import Path
from typing import Final

from authz.address import TcpAddress
from authz.mesh.envoy_answers import guarded_calls, unguarded
from authz.mesh.envoy_clusters import plain_cluster
from authz.mesh.envoy_parts import TYPE, Json, ask_about
from authz.mesh.outside import Outside, OutsideKey
from authz.mesh.settings import EnvoySettings
from authz.outside import KEPT_INSIDE
from authz.response import DECISION_HEADER, REASON_HEADER
from identity.spiffe import SpiffeId, TrustDomain

NOWHERE: Final = "nowhere"

# What Envoy itself adds to a request, besides what nobody may send.
_OF_ENVOY: Final = (
    "x-forwarded-proto",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    # The agent's address.
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-original-path",
    "x-envoy-auth-partial-body",
)
_NOT_FROM_OUTSIDE: Final = (
    DECISION_HEADER,
    REASON_HEADER,
    "www-authenticate",
    "proxy-authenticate",
    "alt-svc",
)


def outside_hosts(settings: EnvoySettings) -> list[Json]:
    """Return the virtual hosts: one for each host outside, and one that leads nowhere."""
    hosts = [_virtual_host(outside, guards=settings.guards_answers) for outside in settings.outside]
    nowhere = {
        "name": NOWHERE,
        "match": {"prefix": "/"},
        # Deputy knows no service without a name, so this answer is never given.
        "direct_response": {"status": 404},
        "typed_per_filter_config": ask_about("") | (unguarded() if settings.guards_answers else {}),
    }
    return [*hosts, {"name": NOWHERE, "domains": ["*"], "routes": [nowhere]}]


def _virtual_host(outside: Outside, *, guards: bool) -> Json:
    passes = unguarded() if guards and not outside.is_guarded else {}
    if outside.is_guarded and outside.transport == "grpc":
        passes = guarded_calls()
    route = {
        "name": outside.name,
        "match": {"prefix": "/"},
        "route": {
            "cluster": _name(outside),
            "host_rewrite_literal": outside.authority,
            # The answer of a model may be a long stream; `max_stream_duration` bounds it.
            "timeout": "0s",
        },
        "request_headers_to_remove": [*KEPT_INSIDE, *_OF_ENVOY],
        "response_headers_to_remove": list(_NOT_FROM_OUTSIDE),
        "typed_per_filter_config": ask_about(outside.name, outside.transport) | passes,
    }
    return {"name": outside.name, "domains": list(outside.authorities), "routes": [route]}


def outside_cluster(outside: Outside, roots: Path) -> Json:
    """Return the cluster of a host outside."""
    name = {"san_type": "DNS", "matcher": {"exact": outside.host}}
    tls = {
        "@type": f"{TYPE}extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": outside.host,
        "max_session_keys": 0,
        "common_tls_context": {
            "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_2",
                "tls_maximum_protocol_version": "TLSv1_3",
            },
            "validation_context": {
                "trusted_ca": {"filename": str(roots)},
                "match_typed_subject_alt_names": [name],
            },
        },
    }
    return {
        **plain_cluster(_name(outside), (outside.upstream,), "5s"),
        "dns_lookup_family": "ALL",
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPE}extensions.upstreams.http.v3.HttpProtocolOptions",
                # HTTP/2 where the host has it; gRPC needs it.
                "auto_config": {"http_protocol_options": {}, "http2_protocol_options": {}},
                "http_filters": [*_inject(outside), _codec()],
            }
        },
    }


def default_egress_settings() -> EnvoySettings:
    """Return the settings of the checked-in file: a model, and an API of plain HTTP."""
    trust_domain = TrustDomain.parse("mesh.example")
    keys = Path("/etc/deputy-egress")
    return EnvoySettings(
        trust_domain=trust_domain,
        listen=TcpAddress("0.0.0.0", 8444),  # noqa: S104  # mTLS; the listener is what agents are to reach
        deputy=(TcpAddress("127.0.0.1", 9191),),
        deputy_id=SpiffeId.parse("spiffe://mesh.example/deputy"),
        outside=(
            Outside("models", "api.models.example", key=OutsideKey(keys / "models.yaml"), is_guarded=True),
            Outside("weather", "api.weather.example", key=OutsideKey(keys / "weather.yaml", "x-api-key", "")),
        ),
        sds_socket=Path("/run/deputy/egress.sock"),
        run_directory=Path("/run/deputy-egress"),
    )


def _name(outside: Outside) -> str:
    return f"outside-{outside.name}"


def _inject(outside: Outside) -> list[Json]:
    """Put the key in; without it the request is refused, not sent."""
    key = outside.key
    if key is None:
        return []
    source = {"path": str(key.secret), "watched_directory": {"path": str(key.secret.parent)}}
    generic = {
        "@type": f"{TYPE}extensions.http.injected_credentials.generic.v3.Generic",
        "credential": {
            "name": _name(outside),
            "sds_config": {"resource_api_version": "V3", "path_config_source": source},
        },
        "header": key.header,
        "header_value_prefix": key.prefix,
    }
    injector = {
        "@type": f"{TYPE}extensions.filters.http.credential_injector.v3.CredentialInjector",
        "overwrite": True,
        "allow_request_without_credential": False,
        "credential": {"name": "envoy.http.injected_credentials.generic", "typed_config": generic},
    }
    return [{"name": "envoy.filters.http.credential_injector", "typed_config": injector}]


def _codec() -> Json:
    return {
        "name": "envoy.filters.http.upstream_codec",
        "typed_config": {"@type": f"{TYPE}extensions.filters.http.upstream_codec.v3.UpstreamCodec"},
    }
