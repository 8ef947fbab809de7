"""Envoy's Secret Discovery Service v3: certificates, keys and roots, pushed when they change.

- Three forms: a stream of the state of the world, a stream of changes, and one answer.
- Who asks is attested, and again before each answer; without an identity the stream ends with
  PermissionDenied, also later, when the last one is lost.
- A name that is not the caller's is left out with one line in the log; the stream goes on.
- Sent on change only: another key, another certificate, other roots. A new SVID is fetched when the one that
  was sent says so, or when the authority tells of a change.
- Roots are told even when nothing can be issued: a revoked root must not wait for a full disk.
- No log line holds a secret; a stream can cause a bounded number of lines, and so can all streams of a socket
  in a while: who opens one after the other does not fill the log.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from identity.entitlement import Entitlement, Entitlements, Peer, SvidSource
from identity.errors import IssuanceUnavailableError, NotEntitledError
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
from identity.socket_log import FewLines
from identity.socket_server import peer_of

PATH: Final = "/envoy.service.secret.v3.SecretDiscoveryService"

# The stub of grpclib wants parameters that say nothing here.
AnyStream = Stream[Any, Any]
AnySubscription = Subscription[Any, Any]

_LOG = logging.getLogger(__name__)
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


class SecretDiscovery:
    """The servicer of one socket."""

    def __init__(
        self,
        source: SvidSource,
        entitlements: Entitlements,
        peer_of: Callable[[AnyStream], Peer] = peer_of,
    ) -> None:
        """Serve what `source` issues to those whom `entitlements` knows."""
        self._source = source
        self._entitlements = entitlements
        self._peer_of = peer_of
        self._nobody = nobody_root(source.clock())
        self._log = FewLines(_LOG)

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

    async def _fetch_secrets(self, stream: Stream[pb.DiscoveryRequest, pb.DiscoveryResponse]) -> None:
        self._refuse_strangers(stream)
        subscription = WorldSubscription()
        subscription.receive(_about_secrets(await stream.recv_message()))
        await self._answer(stream, subscription)

    async def _converse(
        self, stream: Stream[RequestT, AnswerT], subscription: Subscription[RequestT, AnswerT]
    ) -> None:
        self._refuse_strangers(stream)
        requests: asyncio.Queue[RequestT | Exception | None] = asyncio.Queue(maxsize=1)
        reading = asyncio.create_task(_read(stream, requests))
        try:
            subscription.receive(_about_secrets(await requests.get()))
            is_open = True
            while is_open:
                seen = self._source.changes.version
                until = await self._answer(stream, subscription)
                is_open = await self._wait(requests, subscription, seen, until)
        finally:
            reading.cancel()

    async def _wait(
        self,
        requests: "asyncio.Queue[RequestT | Exception | None]",
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
                    self._tell(subscription)
                    hearing = asyncio.create_task(requests.get())
            return True
        finally:
            change.cancel()
            hearing.cancel()

    async def _answer(
        self, stream: Stream[RequestT, AnswerT], subscription: Subscription[RequestT, AnswerT]
    ) -> datetime:
        """Send what is due, and return when to look again."""
        view = await self._view(stream, subscription)
        if view.pending and not view.secrets and not subscription.sent:
            raise IssuanceUnavailableError("nothing can be issued now")
        answer = subscription.answer(view.secrets, frozenset(view.pending))
        self._tell(subscription)
        if answer is not None:
            # To issue took time; whoever is gone since gets nothing.
            self._peer_of(stream)
            await stream.send_message(answer)
        return view.until

    async def _view(self, stream: AnyStream, subscription: AnySubscription) -> _View:
        mine, bundles = self._entitled(stream), self._source.bundles()
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

    def _tell(self, subscription: AnySubscription) -> None:
        for line in subscription.take_lines():
            self._log.warning("secret discovery: %s", line)

    def _refuse_strangers(self, stream: AnyStream) -> None:
        """Refuse before a request is waited for (E-3)."""
        if not self._source.is_ready:
            raise IssuanceUnavailableError("not ready yet")
        self._entitled(stream)

    def _entitled(self, stream: AnyStream) -> tuple[Entitlement, ...]:
        now = self._source.clock()
        found = self._entitlements.of(self._peer_of(stream))
        live = tuple(each for each in found if each.not_after is None or now < each.not_after)
        if not live:
            raise NotEntitledError("no identity for this caller")
        return live


async def _read(
    stream: Stream[RequestT, AnswerT], requests: "asyncio.Queue[RequestT | Exception | None]"
) -> None:
    """Pass requests on, one at a time: who is not listened to waits in the window of the stream."""
    try:
        while (request := await stream.recv_message()) is not None:
            await requests.put(request)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is raised where the call is answered
        await requests.put(error)
    else:
        await requests.put(None)


def _about_secrets(request: RequestT | Exception | None) -> RequestT:
    """Return a request that is one, and about secrets."""
    if isinstance(request, Exception):
        raise request
    if request is None:
        raise GRPCError(Status.INVALID_ARGUMENT, "no request came")
    if request.type_url not in {"", SECRET_TYPE}:
        raise GRPCError(Status.INVALID_ARGUMENT, "a request for something else than secrets")
    return request
