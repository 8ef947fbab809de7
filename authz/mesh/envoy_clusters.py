"""The clusters of the Envoy configuration: Deputy, where secrets come from, and one for each service.

- Deputy is two clusters, one for decisions and one for answers, so that neither uses up what the other needs.
- Deputy's health checks, outlier detection and keepalive are those that were measured to lose no call when
  one of two Deputies is killed, and next to none when one hangs.
"""

from typing import Final

from authz.address import Address, TcpAddress, UnixAddress
from authz.mesh.envoy_parts import SECRETS_CLUSTER, TYPE, Json, cluster_name, envoy_address, tls
from authz.mesh.settings import EnvoySettings, Service
from identity.sds_secrets import OWN_ROOTS

DEPUTY_CLUSTER: Final = "deputy"
ANSWERS_CLUSTER: Final = "deputy-answers"
RETRY_ON: Final = "unavailable,cancelled,connect-failure,refused-stream,reset,deadline-exceeded"
# As many as Deputy takes (authz/hosts/ext_proc.py).
_MAX_ANSWERS: Final = 1024


def deputy_clusters(settings: EnvoySettings) -> list[Json]:
    """Return the cluster that is asked, and where answers are guarded that which they go through."""
    asked = _deputy(settings, DEPUTY_CLUSTER)
    if not settings.guards_answers:
        return [asked]
    breakers = {"thresholds": [{"max_requests": _MAX_ANSWERS}]}
    return [asked, {**_deputy(settings, ANSWERS_CLUSTER), "circuit_breakers": breakers}]


def _deputy(settings: EnvoySettings, name: str) -> Json:
    return {
        **plain_cluster(name, settings.deputy, "0.2s"),
        "transport_socket": tls(
            "UpstreamTlsContext",
            OWN_ROOTS,
            {"exact": str(settings.deputy_id)},
            least="TLSv1_2",
            protocols=["h2"],
            max_session_keys=0,
        ),
        "typed_extension_protocol_options": _http2(
            connection_keepalive={"interval": "1s", "timeout": "0.5s"}
        ),
        "health_checks": [
            {
                "timeout": "0.2s",
                "interval": "0.5s",
                # Its default of 60 s would leave a Deputy that started late unhealthy for a minute.
                "no_traffic_interval": "0.5s",
                "unhealthy_threshold": 1,
                "healthy_threshold": 1,
                "grpc_health_check": {},
            }
        ],
        "outlier_detection": {
            "consecutive_gateway_failure": 3,
            "enforcing_consecutive_gateway_failure": 100,
            "interval": "0.5s",
            "base_ejection_time": "5s",
            "max_ejection_percent": 50,
        },
    }


def secrets_cluster(settings: EnvoySettings) -> Json:
    """Return the cluster that secrets come from.

    The socket tells the authority who asks, so there is no TLS on it, which could not be had before secrets.
    """
    address = UnixAddress(str(settings.sds_socket))
    return {**plain_cluster(SECRETS_CLUSTER, (address,), "1s"), "typed_extension_protocol_options": _http2()}


def service_cluster(service: Service) -> Json:
    """Return the cluster that a service's calls go to."""
    cluster = plain_cluster(cluster_name(service), (service.upstream,), "1s")
    if service.transport == "http":
        return cluster
    return {**cluster, "typed_extension_protocol_options": _http2()}


def _http2(**options: object) -> Json:
    return {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": f"{TYPE}extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": options},
        }
    }


def plain_cluster(name: str, addresses: tuple[Address, ...], connect_timeout: str) -> Json:
    """Return what every cluster has."""
    endpoints = [{"endpoint": {"address": envoy_address(address)}} for address in addresses]
    by_name = any(isinstance(address, TcpAddress) and not address.is_ip for address in addresses)
    return {
        "name": name,
        "type": "STRICT_DNS" if by_name else "STATIC",
        "connect_timeout": connect_timeout,
        "per_connection_buffer_limit_bytes": 1024 * 1024,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }
