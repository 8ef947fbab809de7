"""The configuration of an Envoy that asks Deputy before every call: the one source of it.

- Fails closed: no answer of Deputy, a late one, an error or another server in its place is 503, never a pass.
- Both callers are on TLS: a client without an X.509-SVID of the trust domain, or of one that it federates
  with, fails the handshake; Envoy believes only a Deputy with the exact SPIFFE ID that the settings name.
- No CA speaks for another trust domain than its own; Deputy is verified with the roots of our own alone.
- Paths have one reading: normalised, slashes merged, escaped slashes refused, before any route or check.
- A body is seen whole or refused with 413; headers reach Deputy as raw bytes, each of them.
- What clients say in our names, or to Envoy, is removed before anything reads it.
- Answers of services that are guarded go through Deputy, too (envoy_answers.py).
- No route without a check, and a request for no service is 404 without one.
- Nothing changes while it runs but certificates; the admin interface is a Unix socket of mode 0600.

`python tools/envoy_config.py` writes mesh-config/envoy/envoy.yaml and mesh-config/egress/envoy.yaml; tests
keep them identical with this.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml

from authz.address import TcpAddress, UnixAddress
from authz.mesh.egress import outside_cluster
from authz.mesh.envoy_clusters import deputy_clusters, secrets_cluster, service_cluster
from authz.mesh.envoy_listener import LISTENER, listener
from authz.mesh.envoy_parts import TYPE, Json
from authz.mesh.settings import EnvoySettings, Service
from identity.spiffe import SpiffeId, TrustDomain

__all__ = ["LISTENER", "default_settings", "render", "to_yaml"]

_HEAD: Final = "# Written by tools/envoy_config.py; README.md beside it says what to change for a service.\n"


def render(settings: EnvoySettings) -> Json:
    """Return Envoy's bootstrap configuration."""
    return {
        "node": {"id": "deputy-egress" if settings.outside else "deputy-envoy", "cluster": "deputy"},
        "admin": {"address": {"pipe": {"path": str(settings.admin_socket), "mode": 0o600}}},
        "static_resources": {
            "listeners": [listener(settings)],
            "clusters": [
                secrets_cluster(settings),
                *deputy_clusters(settings),
                *(service_cluster(service) for service in settings.services),
                *(outside_cluster(outside, settings.outside_roots) for outside in settings.outside),
            ],
        },
        "overload_manager": _overload_manager(),
        # Without an admin layer, `POST /runtime_modify` of the admin interface has nothing to write to.
        "layered_runtime": {"layers": [{"name": "static", "static_layer": {}}]},
    }


def to_yaml(configuration: Json) -> str:
    """Return the configuration as a file that people can read."""
    return _HEAD + yaml.safe_dump(configuration, sort_keys=False, width=110)


def default_settings() -> EnvoySettings:
    """Return the settings of the checked-in file: two services, in one pod or on one machine with Deputy."""
    trust_domain = TrustDomain.parse("mesh.example")
    return EnvoySettings(
        trust_domain=trust_domain,
        listen=TcpAddress("0.0.0.0", 8443),  # noqa: S104  # mTLS; the listener is what others are to reach
        deputy=(TcpAddress("127.0.0.1", 9191),),
        deputy_id=SpiffeId.parse("spiffe://mesh.example/deputy"),
        services=(
            Service("tickets", UnixAddress("/run/services/tickets.sock"), is_guarded=True),
            Service("billing", TcpAddress("127.0.0.1", 8081), "localhost:8081"),
        ),
        sds_socket=Path("/run/deputy/envoy.sock"),
        run_directory=Path("/run/deputy-envoy"),
    )


def _overload_manager() -> Json:
    def monitor(name: str, kind: str, options: Mapping[str, object]) -> Json:
        return {
            "name": f"envoy.resource_monitors.{name}",
            "typed_config": {"@type": f"{TYPE}extensions.resource_monitors.{kind}", **options},
        }

    def action(name: str, threshold: float) -> Json:
        trigger = {"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": threshold}}
        return {"name": f"envoy.overload_actions.{name}", "triggers": [trigger]}

    heap = {"max_heap_size_bytes": 512 * 1024 * 1024}
    connections = {"max_active_downstream_connections": 10_000}
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            monitor("fixed_heap", "fixed_heap.v3.FixedHeapConfig", heap),
            monitor(
                "global_downstream_max_connections",
                "downstream_connections.v3.DownstreamConnectionsConfig",
                connections,
            ),
        ],
        "actions": [action("shrink_heap", 0.92), action("stop_accepting_requests", 0.95)],
    }
