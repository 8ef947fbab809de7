"""Which service a request is for, and which proxy may ask about it.

- The target is what the mesh says (`context_extensions`, else the destination's identity and the authority),
  never what the client says alone; an unknown target is refused.
- Each proxy that asks is on a list that names the services it may ask about, so that no proxy can have
  tokens minted for another's service. An empty list is an error when it is loaded, not a pass.
- Hosts are compared in lower case and whole (CVE-2021-39155).
- A service that is outside gets nothing of ours, and so has no workloads that could pass anything on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from authz.codes import Code
from authz.errors import ConfigError, RequestError
from authz.form import DenialForm
from authz.pins.port import PinMode
from authz.protocols.route import Route
from authz.request import Request
from identity.spiffe import SpiffeId

SERVICE_EXTENSION = "service"


@dataclass(frozen=True, slots=True)
class Service:
    """A service behind us: the audience of its tokens, and how to read what is asked of it."""

    name: str
    audience: str
    route: Route
    # How the mesh names it where it cannot set context extensions.
    hosts: frozenset[str] = frozenset()
    destinations: frozenset[SpiffeId] = frozenset()
    # The identities of the service itself: who may pass on the transaction tokens that it gets.
    workloads: frozenset[SpiffeId] = frozenset()
    # How long one transaction token serves: one call, or a task's calls of one tool for some seconds.
    # `none` is for a service outside of the mesh.
    txn: Literal["per_call", "per_tool", "none"] = "per_call"
    # How a client that speaks JSON-RPC is told that the policy says no.
    denials: DenialForm = "json_rpc"
    # Whether what comes back goes through ext_proc (authz/answers).
    is_guarded: bool = False
    # What a changed description or schema of a tool means.
    pins: PinMode = "off"

    @property
    def is_outside(self) -> bool:
        """Say whether it is somebody else's, who gets nothing of ours (authz/outside.py)."""
        return self.txn == "none"


@dataclass(frozen=True, slots=True)
class Asker:
    """A proxy that may ask, and the services it may ask about."""

    spiffe_id: SpiffeId
    may_ask: frozenset[str]


@dataclass(frozen=True, slots=True)
class Services:
    """All services and all askers, looked up by key."""

    by_name: Mapping[str, Service]
    by_host: Mapping[tuple[str, str], Service]
    askers: Mapping[SpiffeId, Asker]
    # A Unix socket of mode 0600 stands for the proxy beside us; None where there is no such socket.
    local_asker: Asker | None

    @classmethod
    def of(
        cls, services: tuple[Service, ...], askers: tuple[Asker, ...], local_asker: Asker | None
    ) -> "Services":
        """Index services by name and by (destination, host).

        Raises:
            ConfigError: if two services have one name, or one place: a request for one would be the other's.
        """
        by_host = {
            (str(destination), host): service
            for service in services
            for destination in service.destinations
            for host in service.hosts
        }
        places = sum(len(service.destinations) * len(service.hosts) for service in services)
        if len(by_host) != places or len({service.name for service in services}) != len(services):
            raise ConfigError("two services with one name, or with one host at one destination")
        return cls(
            by_name={service.name: service for service in services},
            by_host=by_host,
            askers={asker.spiffe_id: asker for asker in askers},
            local_asker=local_asker,
        )

    def asker(self, spiffe_id: SpiffeId | None) -> Asker:
        """Return the proxy's entry.

        Raises:
            RequestError: with ASKER_UNKNOWN if the proxy is not on the list.
        """
        asker = self.local_asker if spiffe_id is None else self.askers.get(spiffe_id)
        if asker is None:
            raise RequestError(
                Code.ASKER_UNKNOWN, f"asked by {str(spiffe_id) if spiffe_id else 'a local socket'!r}"
            )
        return asker

    def target(self, request: Request, asker: Asker) -> Service:
        """Return the service that the request is for.

        Raises:
            RequestError: with SERVICE_UNKNOWN or ASKER_TARGET.
        """
        named = request.extensions.get(SERVICE_EXTENSION)
        if named is not None:
            service = self.by_name.get(named)
        else:
            service = self.by_host.get((request.destination, request.host))
        if service is None:
            raise RequestError(Code.SERVICE_UNKNOWN, f"service {named!r} at host {request.host!r}")
        if service.name not in asker.may_ask:
            raise RequestError(Code.ASKER_TARGET, f"{str(asker.spiffe_id)!r} asked about {service.name!r}")
        return service
