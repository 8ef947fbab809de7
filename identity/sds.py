"""Envoy's Secret Discovery Service v3: certificates, keys and roots, pushed when they change.

- Three forms: a stream of the state of the world, a stream of changes, and one answer.
- Who asks is attested, and again before each answer; without an identity the stream ends with
  PermissionDenied, also later, when the last one is lost.
- A name that is not the caller's is left out with one line in the log; the stream goes on.
- Sent on change only: another key, another certificate, other roots. A new SVID is fetched when the one that
  was sent says so, or when the authority tells of a change.
- Roots are told even when nothing can be issued: a revoked root must not wait for a full disk.
- No log line holds a secret; a stream can cause a bounded number of lines.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from google.protobuf.message import DecodeError
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from identity.entitlement import Entitlement, Entitlements, Peer, SvidSource
from identity.errors import AttestationError, IssuanceUnavailableError, NotEntitledError
from identity.pb import sds_pb2 as pb
from identity.sds_secrets import (
    SECRET_TYPE,
    NamedSecret,
    Roots,
    certificate_secret,
    every_name,
    meaning,
    nobody_root,
    nobody_secret,
    roots_secret,
    trust_domain_of,
)
from identity.sds_stream import AnswerT, DeltaSubscription, RequestT, Subscription, WorldSubscription

PATH: Final = "/envoy.service.secret.v3.SecretDiscoveryService"

# The stub of grpclib wants parameters that say nothing here.
AnyStream = Stream[Any, Any]
AnySubscription = Subscription[Any, Any]

_LOG = logging.getLogger(__name__)
_FIRST_REQUEST_SECONDS: Final = 10.0
_SHORTEST: Final = timedelta(seconds=1)
_RETRY: Final = timedelta(seconds=5)
_LONGEST: Final = timedelta(seconds=60)  # after so long a clock that was set is noticed


@dataclass(slots=True)
class _View:
    """What there is for the names of one stream, and until when that holds."""

    until: datetime
    secrets: dict[str, NamedSecret] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)

    def look_again(self, moment: datetime) -> None:
        self.until = min(self.until, moment)


class Process(Protocol):
    """A process at the other end of a socket, as `PeerProcess` is one."""

    async def peer(self) -> Peer:
        """Return who it is, checked now.

        Raises:
            AttestationError: if that cannot be said for sure.
        """


class SecretDiscovery:
    """The servicer of one socket."""

    def __init__(
        self,
        source: SvidSource,
        entitlements: Entitlements,
        process_of: Callable[[AnyStream], Process],
    ) -> None:
        """Serve what `source` has to whom `entitlements` names; `process_of` says who opened a stream."""
        self._source = source
        self._entitlements = entitlements
        self._process_of = process_of
        self._nobody = nobody_root(source.clock())

    def __mapping__(self) -> Mapping[str, Handler]:
        """Return the methods by their gRPC paths."""
        world = (pb.DiscoveryRequest, pb.DiscoveryResponse)
        delta = (pb.DeltaDiscoveryRequest, pb.DeltaDiscoveryResponse)
        both = Cardinality.STREAM_STREAM
        return {
            f"{PATH}/StreamSecrets": Handler(self._stream_secrets, both, *world),
            f"{PATH}/DeltaSecrets": Handler(self._delta_secrets, both, *delta),
            f"{PATH}/FetchSecrets": Handler(self._fetch_secrets, Cardinality.UNARY_UNARY, *world),
        }

    async def _stream_secrets(self, stream: AnyStream) -> None:
        await self._converse(stream, WorldSubscription())

    async def _delta_secrets(self, stream: AnyStream) -> None:
        await self._converse(stream, DeltaSubscription())

    async def _fetch_secrets(self, stream: AnyStream) -> None:
        await self._refuse_strangers(stream)
        subscription = WorldSubscription()
        subscription.receive(_about_secrets(await _first(_next_request(stream))))
        answer, _ = await self._answer(stream, subscription)
        if answer is not None:  # a first request is always answered
            await stream.send_message(answer)

    async def _converse(
        self, stream: Stream[RequestT, AnswerT], subscription: Subscription[RequestT, AnswerT]
    ) -> None:
        await self._refuse_strangers(stream)
        requests: asyncio.Queue[RequestT | GRPCError | None] = asyncio.Queue(maxsize=1)
        reading = asyncio.create_task(_read(stream, requests))
        try:
            subscription.receive(_about_secrets(await _first(requests.get())))
            is_open = True
            while is_open:
                seen = self._source.changes.version
                answer, until = await self._answer(stream, subscription)
                if answer is not None:
                    await stream.send_message(answer)
                is_open = await self._wait(requests, subscription, seen, until)
        finally:
            reading.cancel()

    async def _wait(
        self,
        requests: "asyncio.Queue[RequestT | GRPCError | None]",
        subscription: Subscription[RequestT, AnswerT],
        seen: int,
        until: datetime,
    ) -> bool:
        """Wait until there may be something to send; False when the client has ended the stream."""
        loop = asyncio.get_running_loop()
        # Bounded below, so that a source that is late with a renewal is not asked in a loop.
        deadline = loop.time() + max(until - self._source.clock(), _SHORTEST).total_seconds()
        change = asyncio.create_task(self._source.changes.wait(seen))
        hearing = asyncio.create_task(requests.get())
        try:
            while not subscription.is_due and not change.done() and loop.time() < deadline:
                await asyncio.wait(
                    {hearing, change}, timeout=deadline - loop.time(), return_when=asyncio.FIRST_COMPLETED
                )
                if hearing.done():
                    request = hearing.result()
                    if request is None:
                        return False
                    subscription.receive(_about_secrets(request))
                    hearing = asyncio.create_task(requests.get())
            return True
        finally:
            change.cancel()
            hearing.cancel()

    async def _answer(
        self, stream: AnyStream, subscription: Subscription[RequestT, AnswerT]
    ) -> tuple[AnswerT | None, datetime]:
        view = await self._view(stream, subscription)
        if view.pending and not view.secrets and not subscription.sent:
            raise GRPCError(Status.UNAVAILABLE, "nothing can be issued now")
        answer = subscription.answer(view.secrets, frozenset(view.pending))
        for line in subscription.take_lines():
            _LOG.warning("secret discovery: %s", line)
        return answer, view.until

    async def _view(self, stream: AnyStream, subscription: AnySubscription) -> _View:
        mine, bundles = await self._entitled(stream), self._source.bundles()
        view = _View(until=self._source.clock() + _LONGEST)
        for name in subscription.wanted(every_name(mine, bundles)):
            match meaning(name, mine, bundles):
                case Entitlement() as entitlement:
                    await self._look_up(name, entitlement, view, subscription)
                case Roots() as roots:
                    view.secrets[name] = roots_secret(name, roots, self._nobody)
                case None:
                    self._look_away(name, view, subscription)
        return view

    async def _look_up(
        self, name: str, entitlement: Entitlement, view: _View, subscription: AnySubscription
    ) -> None:
        try:
            held = await self._source.x509_svid(entitlement)
        except IssuanceUnavailableError:
            view.pending.add(name)
            view.look_again(self._source.clock() + _RETRY)
        except NotEntitledError:
            subscription.leave_out(name)
        else:
            view.secrets[name] = certificate_secret(name, held)
            view.look_again(held.renew_at)
            view.look_again(entitlement.not_after or held.renew_at)

    def _look_away(self, name: str, view: _View, subscription: AnySubscription) -> None:
        subscription.leave_out(name)
        trust_domain = trust_domain_of(name)
        # Envoy keeps what is taken back, so a trust domain that is trusted no more is told, not left out.
        if trust_domain is not None and subscription.holds(name):
            view.secrets[name] = nobody_secret(name, trust_domain, self._nobody)

    async def _refuse_strangers(self, stream: AnyStream) -> None:
        """Answer before the first request is read (E-3)."""
        if not self._source.is_ready:
            raise GRPCError(Status.UNAVAILABLE, "not ready yet")
        await self._entitled(stream)

    async def _entitled(self, stream: AnyStream) -> tuple[Entitlement, ...]:
        try:
            mine = self._entitlements.of(await self._process_of(stream).peer())
        except AttestationError as error:
            raise GRPCError(Status.PERMISSION_DENIED, "who asks cannot be said for sure") from error
        now = self._source.clock()
        live = tuple(one for one in mine if one.not_after is None or now < one.not_after)
        if not live:
            raise GRPCError(Status.PERMISSION_DENIED, "no identity issued")
        return live


async def _read(
    stream: Stream[RequestT, AnswerT], requests: "asyncio.Queue[RequestT | GRPCError | None]"
) -> None:
    """Pass requests on, one at a time: who is not listened to waits in the connection's window."""
    try:
        while (request := await _next_request(stream)) is not None:
            await requests.put(request)
    except GRPCError as error:
        await requests.put(error)
    else:
        await requests.put(None)


async def _first(request: Awaitable[RequestT | GRPCError | None]) -> RequestT | GRPCError | None:
    try:
        async with asyncio.timeout(_FIRST_REQUEST_SECONDS):
            return await request
    except TimeoutError as error:
        raise GRPCError(Status.DEADLINE_EXCEEDED, "no request came") from error


async def _next_request(stream: Stream[RequestT, AnswerT]) -> RequestT | None:
    try:
        return await stream.recv_message()
    except (DecodeError, AssertionError) as error:
        raise GRPCError(Status.INVALID_ARGUMENT, "not a discovery request") from error
    except NotImplementedError as error:
        raise GRPCError(Status.UNIMPLEMENTED, "compression is not supported") from error


def _about_secrets(request: RequestT | GRPCError | None) -> RequestT:
    """Return a request that is one, and about secrets."""
    if isinstance(request, GRPCError):
        raise request
    if request is None:
        raise GRPCError(Status.INVALID_ARGUMENT, "no request came")
    if request.type_url not in {"", SECRET_TYPE}:
        raise GRPCError(Status.INVALID_ARGUMENT, "a request for something else than secrets")
    return request
