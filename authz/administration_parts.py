"""Administration, wired: the same orders behind TLS and on the private socket.

- The socket is `data_dir/api.sock`, mode 0600: whoever reaches it is the user that runs the service.
- The barrier asks the leases of the replicas, which lie beside the state.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from authz.address import UnixAddress
from authz.administration.agents import Registry
from authz.administration.app import Administration, admin_routes
from authz.administration.approvals import Inbox
from authz.administration.order import Desk
from authz.administration.pins import PinDesk
from authz.administration.place import API_SOCKET
from authz.broker.app import gone, read_arrival, unknown
from authz.hosts.http import BodyMissingError, HttpHost
from authz.parts import Parts
from authz.store.barrier import BarrierResult, barrier
from authz.store.leases import LeaseFiles
from identity.caller import OidcClient
from identity.unix_socket import PRIVATE


def routes(parts: Parts) -> list[Route]:
    """Return the routes for workloads and people, below the issuer's path."""
    path = parts.broker.settings.path
    return admin_routes(_administration(parts, is_local=False), path, read_arrival)


@asynccontextmanager
async def private_socket(parts: Parts) -> AsyncIterator[None]:
    """Serve this machine's operator.

    Raises:
        ConfigError: if the socket cannot be had.
    """
    app = Starlette(
        routes=admin_routes(_administration(parts, is_local=True), "", read_arrival),
        exception_handlers={HTTPException: unknown, BodyMissingError: gone},
    )
    app.router.redirect_slashes = False
    host = HttpHost(app)
    path = parts.config.data_dir / API_SOCKET
    await host.listen(UnixAddress(str(path)), PRIVATE)
    try:
        yield
    finally:
        await host.close()
        with contextlib.suppress(OSError):
            path.unlink()


def _administration(parts: Parts, *, is_local: bool) -> Administration:
    leases = LeaseFiles(parts.config.data_dir)

    async def wait(epoch: int) -> Mapping[str, object]:
        return _result(await barrier(leases, term=parts.state.term, epoch=epoch))

    clients = frozenset(
        OidcClient(provider.issuer, client)
        for provider in parts.config.providers
        for client in provider.audiences
    )
    return Administration(
        desk=Desk(
            parts.broker,
            parts.state.agents,
            wait,
            is_local,
            frozenset(provider.issuer for provider in parts.config.providers),
        ),
        state=parts.state,
        registry=Registry(parts.state, clients),
        reload=parts.policy.reload,
        inbox=Inbox(parts.memories.requests, parts.state, lambda: parts.policy.revision, parts.clock),
        pins=PinDesk(
            parts.memories.tools,
            {name: service.pins for name, service in parts.flow.services.by_name.items()},
            parts.clock,
        ),
    )


def _result(result: BarrierResult) -> dict[str, object]:
    return {
        "everywhere": result.is_obeyed,
        "seconds": round(result.took_seconds, 3),
        "replicas": {
            replica: {"address": result.addresses.get(replica), "seconds": round(seconds, 3)}
            for replica, seconds in result.acknowledged.items()
        },
        "expired": list(result.expired),
        "behind": list(result.behind),
        "malformed": list(result.malformed),
    }
