"""The service, wired: configuration in, servers out.

- Everything is checked before anything listens: keys, store, audit log, policy. What is missing is said in
  one sentence, and nothing starts.
- One process holds authority, broker and authorizer; they share the registry in memory, so that a task that
  ends at the broker is dead at the very next call. A replica is an authorizer only, and follows.
- Its own certificate is an X.509-SVID of its own authority, or of the SPIRE above it, renewed in time.
- Keys, bundles of others and what hangs on them are looked after each second; private sockets hand out
  identities.
- Connections take descriptors, which the log needs too: as many are allowed as the system lets us have, and
  running out of them fills no other log.
- It ends as it began: not ready first, then drained, then the log is closed with a record that says so.
"""

import asyncio
import gc
import logging
import os
import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final

from starlette.routing import Route

from authz.address import UnixAddress, parse_address
from authz.administration.approval_page import page_route
from authz.administration_parts import private_socket, routes
from authz.agentgateway import service as ext_mcp
from authz.agentgateway.service import ExtMcp
from authz.answers.admission import Answers
from authz.authzen.endpoint import DecisionPoint, authzen_routes
from authz.broker.app import broker_app, read_arrival
from authz.broker.event_routes import event_routes
from authz.check import check
from authz.check_parts import Clock
from authz.config import Config
from authz.flow import Flow
from authz.hosts.grpc import Denials, GrpcHost, Method, Methods
from authz.hosts.grpc import Limits as GrpcLimits
from authz.hosts.http import HttpHost
from authz.hosts.tls import ListenerTls
from authz.identity_parts import IdentityParts
from authz.identity_service.bundle_app import bundle_app
from authz.identity_service.bundle_host import BundleHost, credential_files
from authz.identity_service.doors import open_doors
from authz.parts import Parts, open_parts
from authz.replica_parts import ReplicaParts, open_replica_parts
from authz.response import fallback_response, overloaded_response, stranger_response
from identity.oidc_discovery import OidcIssuer
from identity.spiffe import SpiffeId

TICK_SECONDS: Final = 1.0

_LOG = logging.getLogger(__name__)


async def serve(config: Config, ready: Callable[[], None], clock: Clock = lambda: datetime.now(UTC)) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        AuthzError: if something is missing or cannot be had; nothing listens then.
        IdentityError: if the keys on disk are not what they should be.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(FaultLog(loop.time).report)
    _allow_descriptors()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with _running(config, clock):
        # What is here now lives as long as the process: the collector need not look at it at each turn.
        gc.collect()
        gc.freeze()
        ready()
        await stopped.wait()


@asynccontextmanager
async def _running(config: Config, clock: Clock) -> AsyncIterator[None]:
    if config.replica is None:
        async with open_parts(config, clock, os.urandom) as parts, _listening(parts):
            yield
    else:
        async with open_replica_parts(config, clock, os.urandom) as replica, _answering(replica):
            yield


class FaultLog:
    """What the event loop could not tell anybody else: a line without a traceback, at most one a second.

    asyncio reports each connection that it could not accept, thousands a second where descriptors ran out;
    and a traceback could quote what a stranger sent.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Start with nothing said yet."""
        self._monotonic = monotonic
        self._said_at = float("-inf")
        self._unsaid = 0

    def report(self, _loop: asyncio.AbstractEventLoop, context: Mapping[str, object]) -> None:
        """Log one fault, or count it."""
        now = self._monotonic()
        if now - self._said_at < 1.0:
            self._unsaid += 1
            return
        error = context.get("exception")
        _LOG.error("%s: %s (%d more)", context.get("message"), type(error).__name__, self._unsaid)
        self._said_at, self._unsaid = now, 0


def _allow_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Some systems refuse what they say; then it stays as it is.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@asynccontextmanager
async def _listening(parts: Parts) -> AsyncIterator[None]:
    """Listen for calls and for token requests, and drain both on the way out."""
    async with AsyncExitStack() as stack:
        grpc_host = _grpc_host(parts.config, parts.flow, parts.identity.check_tls())
        await grpc_host.start()
        stack.push_async_callback(grpc_host.stop)
        broker = broker_app(parts.broker, lambda: parts.is_ready, _more_routes(parts))
        http_host = HttpHost(broker, tls=parts.identity.broker_tls())
        stack.push_async_callback(http_host.close)
        await http_host.listen(parse_address(parts.config.broker.listen))
        await stack.enter_async_context(_bundle_endpoint(parts.config, parts.identity))
        await stack.enter_async_context(private_socket(parts))
        await stack.enter_async_context(open_doors(parts.config, parts.identity, parts.broker))
        ticking = asyncio.create_task(_tick(parts, grpc_host))
        stack.callback(ticking.cancel)
        telling = asyncio.create_task(parts.outbox.run())
        stack.callback(telling.cancel)
        await grpc_host.set_ready(parts.is_ready)
        yield
        await grpc_host.set_ready(False)


def _more_routes(parts: Parts) -> list[Route]:
    """Return what stands beside the token endpoint: administration, security events, AuthZEN."""

    async def answer(request: bytes, asker: SpiffeId) -> bytes:
        return await check(request, asker, parts.flow)

    point = DecisionPoint(answer, parts.flow.services, parts.broker)
    return [
        *routes(parts),
        page_route(parts.broker.settings.path, parts.config.broker.issuer),
        *event_routes(parts.broker, parts.inbox, read_arrival),
        *authzen_routes(point, read_arrival),
    ]


@asynccontextmanager
async def _answering(replica: ReplicaParts) -> AsyncIterator[None]:
    """Listen for calls only, and drain on the way out."""
    host = _grpc_host(replica.config, replica.flow, replica.check_tls)

    async def publish_head() -> None:
        await asyncio.to_thread(replica.audit.publish_head)

    async def say_ready() -> None:
        await host.set_ready(replica.is_ready)

    async with AsyncExitStack() as stack:
        await host.start()
        stack.push_async_callback(host.stop)
        ticking = asyncio.create_task(
            _each_second((replica.policy.reload, say_ready, replica.write_summaries, publish_head))
        )
        stack.callback(ticking.cancel)
        await say_ready()
        yield
        await host.set_ready(False)


@asynccontextmanager
async def _bundle_endpoint(config: Config, identity: IdentityParts) -> AsyncIterator[None]:
    """Serve the bundle, and the keys of JWT-SVIDs, where the configuration says so.

    Raises:
        ConfigError: if there is no certificate to present, or the address cannot be had.
        IssuerError: if the issuer of JWT-SVIDs is not one that can be found.
    """
    endpoint, issuer = config.identity.bundle_endpoint, config.identity.jwt_issuer
    if endpoint is None:
        yield
        return
    credential = identity.credential
    if endpoint.certificate is not None and endpoint.key is not None:
        credential = credential_files(endpoint.certificate, endpoint.key)
    app = bundle_app(lambda: identity.live.current, OidcIssuer.parse(issuer) if issuer else None)
    host = BundleHost(app, credential)
    await host.listen(parse_address(endpoint.listen))
    try:
        yield
    finally:
        await host.close()


def _grpc_host(config: Config, flow: Flow, tls: ListenerTls) -> GrpcHost:
    async def answer(request: bytes, asker: SpiffeId | None) -> bytes:
        return await check(request, asker, flow)

    listen, answers = parse_address(config.check.listen), Answers(flow)
    more: Methods = {}
    if config.agentgateway is not None:
        more = _asked_by(ExtMcp(answer, answers, config.agentgateway.to_targets(flow.services)))
    return GrpcHost(
        answer,
        denials=Denials(failed=fallback_response(), busy=overloaded_response(), stranger=stranger_response()),
        listen=listen,
        tls=None if isinstance(listen, UnixAddress) else tls,
        limits=GrpcLimits(in_flight=config.check.max_concurrent),
        refused=lambda why: flow.strangers.count(f"(the host itself: {why})", flow.clock()),
        # Whoever guards nothing keeps the smaller bounds.
        answers=answers if any(service.is_guarded for service in flow.services.by_name.values()) else None,
        more=more,
    )


def _asked_by(gateway: ExtMcp) -> Methods:
    """Return what a gateway that reads MCP itself asks, beside `Check`."""
    return {
        ext_mcp.SERVICE: {
            ext_mcp.CHECK_REQUEST: Method(gateway.check_request, ext_mcp.unasked_request),
            ext_mcp.CHECK_RESPONSE: Method(gateway.check_response, ext_mcp.unasked_result),
        }
    }


async def _tick(parts: Parts, host: GrpcHost) -> None:
    """Do each second what time asks for; a duty that fails keeps no other from its turn."""

    async def publish_head() -> None:
        await asyncio.to_thread(parts.audit.publish_head)

    async def prune() -> None:
        await asyncio.to_thread(parts.state.prune, parts.clock())

    async def sweep_approvals() -> None:
        await parts.memories.approvals.sweep(parts.clock())

    async def sweep_sessions() -> None:
        await parts.memories.sessions.sweep(parts.clock())

    async def follow_federation() -> None:
        parts.identity.federation.start_due(parts.clock())

    async def say_ready() -> None:
        await host.set_ready(parts.is_ready)

    await _each_second(
        (
            parts.identity.rotation.tick,
            follow_federation,
            parts.policy.reload,
            say_ready,
            parts.write_summaries,
            publish_head,
            prune,
            sweep_approvals,
            sweep_sessions,
        )
    )


async def _each_second(duties: Iterable[Callable[[], Awaitable[object]]]) -> None:
    while True:
        await asyncio.sleep(TICK_SECONDS)
        await do_each(duties)


async def do_each(duties: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Do one duty after the other, whichever of them fails, and however."""
    for duty in duties:
        try:
            await duty()
        except Exception as error:  # noqa: BLE001 - a fault that nobody foresaw must not end all duties for good
            _LOG.warning("%s failed: %s", getattr(duty, "__name__", "a duty"), type(error).__name__)
