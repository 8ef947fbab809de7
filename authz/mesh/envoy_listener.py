"""The listener of the Envoy configuration: who may connect, how a request is read, whom it is shown to.

The guarantees are listed in envoy.py.
"""

from typing import Final

from authz.answers.arrival import EXT_AUTHZ
from authz.mesh.egress import outside_hosts
from authz.mesh.envoy_answers import answers_filter, guarded, guarded_calls, unguarded
from authz.mesh.envoy_clusters import DEPUTY_CLUSTER, RETRY_ON
from authz.mesh.envoy_parts import TYPE, Json, ask_about, cluster_name, envoy_address, tls
from authz.mesh.names import Transport
from authz.mesh.settings import EnvoySettings, Service
from authz.outside import KEPT_INSIDE_PREFIXES, OUR_PREFIX
from authz.protected_resource import WELL_KNOWN_RESOURCE
from identity.sds_secrets import EVERY_DOMAIN

LISTENER: Final = "agents"

# Who may connect; whether they may call is for Deputy to say. Of each trust domain that we federate with, it
# is what its own roots signed: the SPIFFE validator sees to that, and the prefix asks for an ID at all. Never
# ask for one ID here: a matcher is content with any ID of a leaf, and the validator looks at the first.
_CALLERS: Final[Json] = {"prefix": "spiffe://"}

# What a client must not say: our own headers, the identity that only a Linkerd proxy may state, where the
# request came from, and orders to Envoy (CVE-2024-45806).
_REMOVED_HEADERS: Final = ("l5d-client-id", "forwarded", "x-real-ip")
# A service that passes a call on shows the token that it got; Deputy always puts another one in its place.
_TRANSACTION: Final = "txn-token"
_REMOVED_PREFIXES: Final = (OUR_PREFIX, "x-envoy-", "x-forwarded-")
_METADATA_NAMESPACES: Final = ("envoy.filters.http.mcp", "mcp_proxy")
# What a server is told about who calls, and what one outside is not.
_WAY_IN: Final[Json] = {
    "forward_client_cert_details": "SANITIZE_SET",
    "set_current_client_cert_details": {"uri": True},
}
_WAY_OUT: Final[Json] = {
    "forward_client_cert_details": "SANITIZE",
    "skip_xff_append": True,
    # A client that uses us as its proxy writes http://; on the way out it is always TLS.
    "scheme_header_transformation": {"scheme_to_overwrite": "https"},
}
_ACCESS_LOG: Final = {
    "time": "%START_TIME%",
    "peer": "%DOWNSTREAM_PEER_URI_SAN%",
    "method": "%REQ(:METHOD)%",
    # As it was checked, without the query, which may hold secrets.
    "path": "%PATH(NQ:ORIG_OR_PATH)%",
    "service": "%ROUTE_NAME%",
    "status": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "milliseconds": "%DURATION%",
    "request_bytes": "%BYTES_RECEIVED%",
    "response_bytes": "%BYTES_SENT%",
    "request_id": "%STREAM_ID%",
    # The key that joins this line with Deputy's audit record; a request ID could be forged inside the mesh.
    "decision_id": "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:decision_id)%",
}


def listener(settings: EnvoySettings) -> Json:
    """Return the listener that agents connect to."""
    return {
        "name": LISTENER,
        "address": envoy_address(settings.listen),
        "per_connection_buffer_limit_bytes": 1024 * 1024,
        "filter_chains": [
            {
                "transport_socket_connect_timeout": "5s",
                "transport_socket": tls(
                    "DownstreamTlsContext",
                    EVERY_DOMAIN,
                    _CALLERS,
                    least="TLSv1_3",
                    protocols=["h2", "http/1.1"],
                    require_client_certificate=True,
                    # A resumed session is not verified again, so it could outlive a certificate of minutes.
                    disable_stateless_session_resumption=True,
                    disable_stateful_session_resumption=True,
                ),
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": _connection_manager(settings),
                    }
                ],
            }
        ],
    }


def _connection_manager(settings: EnvoySettings) -> Json:
    return {
        "@type": f"{TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": LISTENER,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "use_remote_address": True,
        # By default every private address is "internal", and in a mesh that is everybody: let nobody be.
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        **(_WAY_OUT if settings.outside else _WAY_IN),
        "early_header_mutation_extensions": [_remove_client_headers(settings)],
        "max_request_headers_kb": 32,
        "request_headers_timeout": "5s",
        "request_timeout": "30s",
        "stream_idle_timeout": "300s",
        "common_http_protocol_options": {
            "headers_with_underscores_action": "REJECT_REQUEST",
            "max_headers_count": 100,
            "idle_timeout": "300s",
            # TLS looks at a certificate once a connection, so a connection must not live much longer.
            "max_connection_duration": "300s",
            "max_stream_duration": f"{settings.max_stream_seconds}s",
        },
        "http2_protocol_options": {
            "max_concurrent_streams": 256,
            "initial_stream_window_size": 65536,
            "initial_connection_window_size": 1024 * 1024,
        },
        "access_log": [_access_log(settings)],
        "route_config": _routes(settings),
        "http_filters": [
            {"name": EXT_AUTHZ, "typed_config": _ext_authz(settings)},
            *([answers_filter()] if settings.guards_answers else []),
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{TYPE}extensions.filters.http.router.v3.Router",
                    **({"suppress_envoy_headers": True} if settings.outside else {}),
                },
            },
        ],
    }


def _remove_client_headers(settings: EnvoySettings) -> Json:
    names = _REMOVED_HEADERS if settings.passes_on else (_TRANSACTION, *_REMOVED_HEADERS)
    removals: list[Json] = [{"remove": name} for name in names]
    prefixes = {*_REMOVED_PREFIXES, *(KEPT_INSIDE_PREFIXES if settings.outside else ())}
    removals += [{"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in sorted(prefixes)]
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {
            "@type": f"{TYPE}extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": removals,
        },
    }


def _ext_authz(settings: EnvoySettings) -> Json:
    return {
        "@type": f"{TYPE}extensions.filters.http.ext_authz.v3.ExtAuthz",
        "stat_prefix": "deputy",
        "transport_api_version": "V3",
        "grpc_service": {
            "envoy_grpc": {
                "cluster_name": DEPUTY_CLUSTER,
                "retry_policy": {"num_retries": 1, "retry_on": RETRY_ON},
            },
            "timeout": "0.25s",
        },
        "failure_mode_allow": False,
        "status_on_error": {"code": "ServiceUnavailable"},
        "with_request_body": {
            "max_request_bytes": settings.max_body_bytes,
            "allow_partial_message": False,
            "pack_as_bytes": True,
        },
        "clear_route_cache": False,
        "include_peer_certificate": True,
        "include_tls_session": True,
        "encode_raw_headers": True,
        "validate_mutations": True,
        # Not even Deputy may send a request elsewhere: path, host and method are as they were checked.
        "decoder_header_mutation_rules": {"disallow_system": True, "disallow_is_error": True},
        "metadata_context_namespaces": list(_METADATA_NAMESPACES),
    }


def _routes(settings: EnvoySettings) -> Json:
    every = {"typed_per_filter_config": guarded()} if settings.guards_answers else {}
    if settings.outside:
        return {"name": "outside", "virtual_hosts": outside_hosts(settings), **every}
    passes = unguarded() if settings.guards_answers else {}
    routes: list[Json] = []
    hosts: list[Json] = []
    for service in settings.services:
        asked = ask_about(service.name, service.transport) | (
            _guarded(service.transport) if service.is_guarded else passes
        )
        if service.transport == "http":
            routes.append(_route(service, asked))
        else:
            hosts.append(_grpc_host(service, settings.authorities(service), asked))
        routes.append(_metadata_route(service, ask_about(service.name) | passes))
    hosts.append({"name": "services", "domains": ["*"], "routes": routes})
    return {"name": "services", "virtual_hosts": hosts, **every}


def _guarded(transport: Transport) -> Json:
    # Of others the whole request is there before anybody is asked; a stream of gRPC goes on.
    return guarded_calls() if transport == "grpc" else {}


def _route(service: Service, asked: Json) -> Json:
    return {
        "name": service.name,
        "match": {"prefix": f"/{service.name}/"},
        "route": {
            "cluster": cluster_name(service),
            "prefix_rewrite": "/",
            "host_rewrite_literal": service.host,
            # The answer of a tool may be a long stream; `max_stream_duration` bounds it.
            "timeout": "0s",
        },
        "typed_per_filter_config": asked,
    }


def _grpc_host(service: Service, authorities: tuple[str, ...], asked: Json) -> Json:
    """Find gRPC by its host: its paths are those of its methods, and are passed on as they are."""
    route = {
        "name": service.name,
        "match": {"prefix": "/", "grpc": {}},
        "route": {
            "cluster": cluster_name(service),
            "host_rewrite_literal": service.host,
            "timeout": "0s",
        },
        "typed_per_filter_config": asked,
    }
    return {"name": service.name, "domains": list(authorities), "routes": [route]}


def _metadata_route(service: Service, asked: Json) -> Json:
    """Ask Deputy for the metadata of a service (RFC 9728 section 3.1), and lead nowhere else."""
    return {
        "name": service.name,
        "match": {"prefix": f"{WELL_KNOWN_RESOURCE}/{service.name}/"},
        "direct_response": {"status": 404},
        "typed_per_filter_config": asked,
    }


def _access_log(settings: EnvoySettings) -> Json:
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": f"{TYPE}extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(settings.access_log),
            "log_format": {"json_format": dict(_ACCESS_LOG)},
        },
    }
