"""Parts that the listener and the clusters of the Envoy configuration share."""

from typing import Final

from authz.address import Address, UnixAddress
from authz.mesh.settings import EnvoySettings, Service

Json = dict[str, object]

TYPE: Final = "type.googleapis.com/envoy."
IDENTITY_SECRET: Final = "envoy"  # noqa: S105  # the name of a secret, not one
"""The name under which `write_sds` writes this Envoy's certificate, key and roots."""


def cluster_name(service: Service) -> str:
    """Return the name of a service's cluster."""
    # A prefix, so that no service can be named like Deputy's own cluster.
    return f"service-{service.name}"


def tls(
    context: str,
    settings: EnvoySettings,
    least: str,
    peer: Json,
    protocols: list[str],
    **options: object,
) -> Json:
    """Return a TLS socket that shows our certificate and asks for one that matches `peer`."""
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
                "tls_certificate_sds_secret_configs": [secret(settings, IDENTITY_SECRET)],
                "combined_validation_context": {
                    "default_validation_context": {"match_typed_subject_alt_names": [peer_matcher]},
                    "validation_context_sds_secret_config": secret(settings, f"{IDENTITY_SECRET}-bundle"),
                },
            },
        },
    }


def secret(settings: EnvoySettings, name: str) -> Json:
    """Return where a certificate or a bundle is read from, and again when the directory changes."""
    return {
        "name": name,
        "sds_config": {
            "resource_api_version": "V3",
            "path_config_source": {
                "path": str(settings.sds_directory / f"{name}.json"),
                "watched_directory": {"path": str(settings.sds_directory)},
            },
        },
    }


def envoy_address(address: Address) -> Json:
    """Return an address in Envoy's form."""
    if isinstance(address, UnixAddress):
        return {"pipe": {"path": address.path}}
    return {"socket_address": {"address": address.host, "port_value": address.port}}
