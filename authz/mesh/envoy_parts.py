"""Parts that the listener and the clusters of the Envoy configuration share."""

from typing import Final

from authz.address import Address, UnixAddress
from authz.mesh.names import Transport
from authz.mesh.settings import Service
from identity.sds_secrets import DEFAULT_SVID

Json = dict[str, object]

TYPE: Final = "type.googleapis.com/envoy."
SECRETS_CLUSTER: Final = "sds"


def cluster_name(service: Service) -> str:
    """Return the name of a service's cluster."""
    # A prefix, so that no service can be named like Deputy's own cluster.
    return f"service-{service.name}"


def tls(
    context: str,
    roots: str,
    peer: Json,
    *,
    least: str,
    protocols: list[str],
    **options: object,
) -> Json:
    """Return a TLS socket that shows our certificate and asks for one of these roots that matches `peer`."""
    peer_matcher = {"san_type": "URI", "matcher": peer}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{TYPE}extensions.transport_sockets.tls.v3.{context}",
            **options,
            "common_tls_context": {
                "alpn_protocols": protocols,
                "tls_params": {
                    "tls_minimum_protocol_version": least,
                    "tls_maximum_protocol_version": "TLSv1_3",
                },
                "tls_certificate_sds_secret_configs": [secret(DEFAULT_SVID)],
                "combined_validation_context": {
                    "default_validation_context": {"match_typed_subject_alt_names": [peer_matcher]},
                    "validation_context_sds_secret_config": secret(roots),
                },
            },
        },
    }


def secret(name: str) -> Json:
    """Return where a certificate or roots come from, and again whenever they change."""
    source: Json = {
        "resource_api_version": "V3",
        # Not ready without its secrets, however long that takes: until then nobody is served.
        "initial_fetch_timeout": "0s",
        "api_config_source": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": True,
            "grpc_services": [{"envoy_grpc": {"cluster_name": SECRETS_CLUSTER}}],
        },
    }
    return {"name": name, "sds_config": source}


def envoy_address(address: Address) -> Json:
    """Return an address in Envoy's form."""
    if isinstance(address, UnixAddress):
        return {"pipe": {"path": address.path}}
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def ask_about(service: str, transport: Transport = "http") -> Json:
    """Return what makes a route ask Deputy about a service."""
    settings: Json = {"context_extensions": {"service": service}}
    if transport == "grpc":
        # Decided by the path: a stream that waits for answers has no end that one could wait for.
        settings["disable_request_body_buffering"] = True
    return {
        "envoy.filters.http.ext_authz": {
            "@type": f"{TYPE}extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
            "check_settings": settings,
        }
    }
