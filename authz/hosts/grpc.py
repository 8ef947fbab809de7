"""The ext_authz service on grpc.aio: bytes in, bytes out.

- `Check` never raises and never allows by accident: what the flow cannot answer in time, in order or at all
  is answered with a denial that was serialized before the first request came. Only a call that the client
  itself gave up has no answer.
- No answer leaves without a status. An empty CheckResponse means "allow" to Envoy, and so does any other
  without a status; the wire form of a set status is the first byte, so the guard costs one comparison.
- With TLS, the flow learns the asker's SPIFFE ID, from an X.509-SVID that is verified again at each call with
  the roots of its own trust domain (authz/peers.py). TLS alone looks once a connection, a resumed session
  (gRPC's tickets live two days) is not verified again, and all roots lie in one pool. Who has no such ID is
  refused here: `None` means a Unix socket or loopback.
- Without TLS it listens on a Unix socket in a directory of its own, or on a loopback address, nowhere else.
- Who only connects and never shows a certificate is gone after seconds, and connections are bounded, so that
  strangers cannot use up the descriptors that the log and the broker need.
- Above `max_in_flight` it answers "unavailable" at once; queueing would only turn load into timeouts.
- Where answers are guarded (authz/hosts/ext_proc.py), the same peers bring them over the same listener. Their
  streams may outlive the age of a connection, on which nothing new is taken then: calls and answers go to the
  next one, with the newest certificate.
- Stopping: not serving, while answering on; then no new calls; then the calls in flight get their grace, and
  open answers end.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal, NoReturn, assert_never, get_args

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # no stubs
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]  # no stubs

from authz.address import Address, TcpAddress, UnixAddress
from authz.answers.admission import Answers
from authz.answers.room import StreamLimits
from authz.errors import ConfigError
from authz.hosts import ext_proc
from authz.hosts.ext_proc import AnswerStreams
from authz.hosts.tls import ListenerTls, ders_of, server_credentials
from authz.pb.ext_authz_pb2 import DESCRIPTOR, CheckResponse
from authz.peers import Peers
from identity.errors import CertificateError, SocketError
from identity.spiffe import SpiffeId
from identity.unix_socket import prepare_socket, private_umask

_LOG = logging.getLogger(__name__)

SERVICE: Final = DESCRIPTOR.services_by_name["Authorization"].full_name
_HEALTH_NAMES: Final = ("", SERVICE)
# Field 1, length-delimited: `CheckResponse.status`. Messages are serialized in the order of field numbers.
_STATUS_TAG: Final = b"\x0a"
_MIB: Final = 1024 * 1024

Check = Callable[[bytes, SpiffeId | None], Awaitable[bytes]]
"""One CheckRequest and who asks (None on a Unix socket or loopback without TLS) to one CheckResponse."""


Refusal = Literal["failed", "busy", "stranger"]
Refused = Callable[[Refusal], None]
"""Told of each refusal that the flow never saw, or never answered, so that it is counted."""


@dataclass(frozen=True, slots=True)
class Denials:
    """Serialized CheckResponses for what never reaches the flow, or never comes back from it."""

    failed: bytes
    busy: bytes
    stranger: bytes

    def __post_init__(self) -> None:
        for why in get_args(Refusal):
            _require_denial(why, self.of(why))

    def of(self, why: Refusal) -> bytes:
        """Return the answer to one of them."""
        match why:
            case "failed":
                return self.failed
            case "busy":
                return self.busy
            case "stranger":
                return self.stranger
            case _:
                assert_never(why)


@dataclass(frozen=True, slots=True)
class Method:
    """A method beside `Check`: what answers it, and what is answered where nothing does."""

    answer: Check
    refusal: Callable[[Refusal], bytes]


Methods = Mapping[str, Mapping[str, Method]]
"""By the full name of a service, by the name of a method."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the host; the defaults fit an Envoy that waits 250 ms."""

    message_bytes: int = 2 * _MIB
    in_flight: int = 256
    connections: int = 512
    handshake_seconds: int = 5
    check_seconds: float = 2.0
    drain_seconds: float = 1.0
    grace_seconds: float = 5.0
    # A proxy shows its newest certificate with its next connection only, and one whose CA was replaced and
    # revoked is a stranger for as long as it keeps the old one. A handshake now and then costs little, and
    # Envoy loses no call over it.
    connection_seconds: int = 10
    # Of answers, where they are guarded.
    streams: StreamLimits = field(default_factory=StreamLimits)


class GrpcHost:
    """One listener of the Authorization service, with health and reflection."""

    def __init__(
        self,
        check: Check,
        *,
        denials: Denials,
        listen: Address,
        tls: ListenerTls | None = None,
        limits: Limits = Limits(),
        refused: Refused = lambda _: None,
        answers: Answers | None = None,
        more: Methods = MappingProxyType({}),
    ) -> None:
        """Take the parts; nothing listens before `start`, and without `answers` there is no ext_proc.

        `more` are services of other gateways, for the same peers and within the same bounds.

        Raises:
            ConfigError: if the address is open to others and there is no TLS.
        """
        if tls is None and isinstance(listen, TcpAddress) and not listen.is_loopback:
            raise ConfigError(f"{str(listen)!r} can be reached by others: TLS is needed there")
        self._check = Method(self._with_status(check), denials.of)
        self._more = more
        self._listen = listen
        self._tls = tls
        self._limits = limits
        self._refused = refused
        self._in_flight = 0
        self._explained_at = float("-inf")
        self._server: grpc.aio.Server | None = None
        self._health = health.aio.HealthServicer()
        self._streams = AnswerStreams(answers, self._peer, limits.streams) if answers is not None else None
        self._watching: asyncio.Task[NoReturn] | None = None

    async def start(self) -> Address:
        """Listen, not ready yet; the address with the port that the kernel chose.

        Raises:
            ConfigError: if the address cannot be had.
        """
        server = grpc.aio.server(options=_options(self._limits, guards=self._streams is not None))
        services = {SERVICE: {"Check": self._check}, **self._more}
        for name, methods in services.items():
            handlers = {each: self._handler(method) for each, method in methods.items()}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        names = [*services, health.SERVICE_NAME, reflection.SERVICE_NAME]
        if self._streams is not None:
            server.add_generic_rpc_handlers((self._streams.service(),))
            names.append(ext_proc.SERVICE)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection(names, server)
        await self.set_ready(False)
        bound = self._bind(server)
        await server.start()
        if self._streams is not None:
            self._watching = asyncio.create_task(self._streams.watch())
        self._server = server
        return bound

    async def set_ready(self, ready: bool) -> None:  # noqa: FBT001  # the name of the method says what is true
        """Say in the health service whether to send requests here."""
        serving = health_pb2.HealthCheckResponse
        status = serving.SERVING if ready else serving.NOT_SERVING
        for name in _HEALTH_NAMES:
            await self._health.set(name, status)

    async def stop(self) -> None:
        """Drain and stop; a cancelled call skips the drain, a second one does nothing."""
        server, self._server = self._server, None
        if server is None:
            return
        await self._health.enter_graceful_shutdown()
        try:
            await asyncio.sleep(self._limits.drain_seconds)
        finally:
            if self._streams is not None:
                self._streams.end_all()
            await server.stop(self._limits.grace_seconds)
            if self._watching is not None:
                self._watching.cancel()

    def _handler(self, method: Method) -> "grpc.RpcMethodHandler[bytes, bytes]":
        async def behave(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            return await self._answer(request, context, method)

        return grpc.unary_unary_rpc_method_handler(behave)

    async def _answer(
        self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes], method: Method
    ) -> bytes:
        if self._in_flight >= self._limits.in_flight:
            return self._refuse("busy", method)
        self._in_flight += 1
        try:
            try:
                asker = self._peer(context)
            except CertificateError:
                return self._refuse("stranger", method)
            async with asyncio.timeout(self._limits.check_seconds):
                return await method.answer(request, asker)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the outermost guard: every failure is a denial
            # No traceback: its text could quote the request.
            _LOG.error("check failed: %s", type(error).__name__)
            return self._refuse("failed", method)
        finally:
            self._in_flight -= 1

    def _peer(self, context: grpc.aio.ServicerContext[bytes, bytes]) -> SpiffeId | None:
        """Return who asks, verified now; None where nobody needs to say.

        Raises:
            CertificateError: if the certificate does not count.
        """
        if self._tls is None:
            return None
        try:
            return _asker(context.auth_context(), self._tls.peers)
        except CertificateError as error:
            self._explain(error)
            raise

    def _explain(self, error: CertificateError) -> None:
        """Say why a peer is a stranger, at most once a second: it may ask as often as it likes."""
        now = asyncio.get_running_loop().time()
        if now - self._explained_at >= 1.0:
            self._explained_at = now
            _LOG.warning("client certificate that does not count: %s", error)

    def _with_status(self, check: Check) -> Check:
        async def answer(request: bytes, asker: SpiffeId | None) -> bytes:
            answered = await check(request, asker)
            if answered.startswith(_STATUS_TAG):
                return answered
            _LOG.error("check answered without a status")
            return self._refuse("failed", self._check)

        return answer

    def _refuse(self, why: Refusal, method: Method) -> bytes:
        self._refused(why)
        return method.refusal(why)

    def _bind(self, server: grpc.aio.Server) -> Address:
        target = str(self._listen)
        try:
            if isinstance(self._listen, UnixAddress):
                prepare_socket(self._listen.path)
                with private_umask():
                    self._add_port(server, target)
                return self._listen
            return TcpAddress(self._listen.host, self._add_port(server, target))
        except SocketError as error:
            raise ConfigError(str(error)) from error
        except (RuntimeError, OSError) as error:
            raise ConfigError(f"cannot listen on {target!r}: is the address in use?") from error

    def _add_port(self, server: grpc.aio.Server, target: str) -> int:
        if self._tls is None:
            return server.add_insecure_port(target)
        return server.add_secure_port(target, server_credentials(self._tls))


async def serve(host: GrpcHost, stopped: asyncio.Event) -> None:
    """Run a host until the event is set, then drain it.

    Raises:
        ConfigError: if the address cannot be had.
    """
    await host.start()
    try:
        await host.set_ready(True)
        await stopped.wait()
    finally:
        await host.stop()


def _options(limits: Limits, *, guards: bool) -> Sequence[tuple[str, int]]:
    # A connection that has aged has open answers, or ends at once; so there are no more of them than answers.
    open_answers = limits.streams.streams if guards else 0
    grace_seconds = limits.streams.stream_seconds if guards else limits.grace_seconds
    message_bytes = limits.streams.message_bytes if guards else limits.message_bytes
    return (
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.max_send_message_length", message_bytes),
        # Identity only: the size of a compressed message says nothing of the size of what it unpacks to.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.max_concurrent_streams", 2 * limits.in_flight + open_answers),
        ("grpc.max_allowed_incoming_connections", limits.connections + open_answers),
        ("grpc.server_handshake_timeout_ms", limits.handshake_seconds * 1000),
        # Two processes on one port would share the requests, and only one of them is ours.
        ("grpc.so_reuseport", 0),
        ("grpc.max_connection_age_ms", limits.connection_seconds * 1000),
        ("grpc.max_connection_age_grace_ms", int(grace_seconds * 1000)),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        # Envoy's `connection_keepalive` pings each second, also when idle; by default that is too often.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 500),
    )


def _asker(auth_context: Mapping[str, Iterable[bytes]], peers: Peers) -> SpiffeId:
    (leaf,) = auth_context.get("x509_pem_cert", ()) or (b"",)
    (issuers,) = auth_context.get("x509_pem_cert_chain", ()) or (b"",)
    return peers.verify(_chain(leaf, issuers), datetime.now(UTC)).spiffe_id


@lru_cache(maxsize=512)
def _chain(leaf: bytes, issuers: bytes) -> tuple[bytes, ...]:
    """Read the PEM of a connection once, not once a call; gRPC keeps the leaf apart from its issuers.

    Raises:
        CertificateError: if it is too long, or not PEM.
    """
    return ders_of(leaf + issuers)


def _require_denial(name: str, answer: bytes) -> None:
    try:
        code = CheckResponse.FromString(answer).status.code
    except DecodeError as error:
        raise ConfigError(f"the answer for {name!r} is not a CheckResponse") from error
    if code == 0 or not answer.startswith(_STATUS_TAG):
        raise ConfigError(f"the answer for {name!r} would allow")
