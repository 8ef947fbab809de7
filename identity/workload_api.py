"""The SPIFFE Workload API on a private socket: the identities of whoever is at the other end.

- Every call carries `workload.spiffe.io: true`, or is InvalidArgument (E-2): a request that an attacker makes
  a workload send has no such header.
- Who has no identity on this socket gets PermissionDenied, whatever it asks for (E-3), and a stream ends so
  when the last identity is lost (A-1). While nothing can be issued, Unavailable.
- The first message of a stream comes at once; a later one when something in it changed, and each is the whole
  state (A-1). Who is asking is attested again before each.
- Audience: one, and one that the source knows (A-4). A token for two audiences can be replayed by one at the
  other, so we sign none.
- A request with fields that we do not know is refused: it asks for something that it would not get.
- Nothing beyond the standard is here (A-7).
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, TypeVar

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from identity import workload_messages as messages
from identity.entitlement import Entitlement, Entitlements, Peer, SvidSource
from identity.errors import IssuanceUnavailableError, NotEntitledError, SpiffeIdError, TokenError
from identity.jws import UnverifiedToken
from identity.jwt_svid import verify_jwt_svid
from identity.pb import workload_pb2 as pb
from identity.socket_pace import turn
from identity.socket_server import peer_of
from identity.spiffe import SpiffeId
from identity.workload_messages import SERVICE, BundleBytes

SECURITY_HEADER: Final = "workload.spiffe.io"
_LEEWAY: Final = 30
_MAX_AUDIENCE: Final = 2048
# A state is looked at again after so long at the latest: by then a dead caller, a task that ended without a
# word and a clock that was set are noticed. After so short at the earliest, whatever the clock says.
_LONGEST: Final = timedelta(seconds=30)
_SHORTEST: Final = timedelta(seconds=1)

Held = TypeVar("Held")
AnyStream = Stream[Any, Any]
State = tuple[bytes, datetime | None]
"""A message, and when it has to be another one."""


class WorkloadApi:
    """The Workload API of one socket."""

    # Encoded once a change, not once a stream or a socket.
    _encoded: ClassVar[tuple[SvidSource, int, BundleBytes] | None] = None

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

    def __mapping__(self) -> Mapping[str, Handler]:
        """Return the methods by their gRPC paths."""
        one, many = Cardinality.UNARY_UNARY, Cardinality.UNARY_STREAM
        methods = {
            "FetchX509SVID": (self.fetch_x509_svid, many, pb.X509SVIDRequest, pb.X509SVIDResponse),
            "FetchX509Bundles": (
                self.fetch_x509_bundles,
                many,
                pb.X509BundlesRequest,
                pb.X509BundlesResponse,
            ),
            "FetchJWTSVID": (self.fetch_jwt_svid, one, pb.JWTSVIDRequest, pb.JWTSVIDResponse),
            "FetchJWTBundles": (self.fetch_jwt_bundles, many, pb.JWTBundlesRequest, pb.JWTBundlesResponse),
            "ValidateJWTSVID": (
                self.validate_jwt_svid,
                one,
                pb.ValidateJWTSVIDRequest,
                pb.ValidateJWTSVIDResponse,
            ),
            "FetchWITSVID": (self.fetch_wit_svid, many, pb.WITSVIDRequest, pb.WITSVIDResponse),
            "FetchWITBundles": (self.fetch_wit_bundles, many, pb.WITBundlesRequest, pb.WITBundlesResponse),
        }
        return {f"/{SERVICE}/{name}": Handler(*method) for name, method in methods.items()}

    async def fetch_x509_svid(self, stream: AnyStream) -> None:
        """Push the X.509-SVIDs of the caller (section 5.2.1)."""
        await self._request(stream)

        async def state(entitled: Sequence[Entitlement]) -> State:
            held = await _each(entitled, self._source.x509_svid)
            return messages.x509_svids(held, self._current()), min(svid.renew_at for _, svid in held)

        await self._push(stream, state)

    async def fetch_x509_bundles(self, stream: AnyStream) -> None:
        """Push the roots of every trust domain that we know (section 5.2.2)."""
        await self._request(stream)
        await self._push_bundles(stream, messages.x509_bundles)

    async def fetch_jwt_svid(self, stream: AnyStream) -> None:
        """Sign JWT-SVIDs of the caller for one audience (section 6.2.1)."""
        request = await self._request(stream)
        audience = _audience(request.audience)
        entitled = _asked_for(self._entitled(stream), request.spiffe_id)

        async def sign(entitlement: Entitlement) -> str:
            return await self._source.jwt_svid(entitlement, (audience,))

        held = await _each(entitled, sign)
        still = self._entitled(stream)
        if any(entitlement not in still for entitlement, _ in held):
            raise NotEntitledError("an identity that this caller has lost")
        await stream.send_message(messages.jwt_svids(held))

    async def fetch_jwt_bundles(self, stream: AnyStream) -> None:
        """Push the keys of JWT-SVIDs of every trust domain that we know (section 6.2.2)."""
        await self._request(stream)
        await self._push_bundles(stream, messages.jwt_bundles)

    async def validate_jwt_svid(self, stream: AnyStream) -> None:
        """Verify a JWT-SVID for the caller (section 6.2.3)."""
        request = await self._request(stream)
        self._entitled(stream)
        if not request.audience or not request.svid:
            raise GRPCError(Status.INVALID_ARGUMENT, "an audience and a JWT-SVID are needed")
        bundles = self._source.bundles()
        try:
            token = UnverifiedToken.parse(request.svid)
            svid = verify_jwt_svid(
                token,
                bundles.jwt_keys,
                audience=request.audience,
                now=self._source.clock(),
                leeway=_LEEWAY,
            )
            # They are the claims of the token that was just verified.
            claims = token.unverified_claims
            answer = messages.validated(svid.spiffe_id, claims, bundles.own.trust_domain)
        except (TokenError, ValueError) as error:
            raise GRPCError(Status.INVALID_ARGUMENT, f"not a JWT-SVID for this audience: {error}") from None
        await stream.send_message(answer)

    async def fetch_wit_svid(self, stream: AnyStream) -> None:
        """Push the WIT-SVIDs of the caller (section 7.2.1)."""
        request = await self._wit_request(stream)

        async def state(entitled: Sequence[Entitlement]) -> State:
            held = await _each(_asked_for(entitled, request.spiffe_id), self._source.wit_svid)
            return messages.wit_svids(held), min(svid.renew_at for _, svid in held)

        await self._push(stream, state)

    async def fetch_wit_bundles(self, stream: AnyStream) -> None:
        """Push the keys of WIT-SVIDs of every trust domain that we know (section 7.2.2)."""
        await self._wit_request(stream)
        await self._push_bundles(stream, messages.wit_bundles)

    async def _request(self, stream: AnyStream) -> Any:  # noqa: ANN401  # one of seven messages
        metadata = stream.metadata
        if metadata is None or metadata.getall(SECURITY_HEADER, []) != ["true"]:
            raise GRPCError(Status.INVALID_ARGUMENT, f"the header '{SECURITY_HEADER}: true' is missing")
        request = await stream.recv_message()
        if not isinstance(request, Message):
            raise GRPCError(Status.INVALID_ARGUMENT, "no request")
        if len(UnknownFieldSet(request)):
            raise GRPCError(Status.INVALID_ARGUMENT, "a request with fields that are not known")
        self._check_ready()
        return request

    async def _wit_request(self, stream: AnyStream) -> Any:  # noqa: ANN401  # one of two messages
        request = await self._request(stream)
        if not self._source.wit_enabled:
            raise GRPCError(Status.UNIMPLEMENTED, "WIT-SVIDs are not served here")
        return request

    def _check_ready(self) -> None:
        if not self._source.is_ready:
            raise IssuanceUnavailableError("not ready yet")

    def _entitled(self, stream: AnyStream) -> tuple[Entitlement, ...]:
        now = self._source.clock()
        found = self._entitlements.of(self._peer_of(stream))
        live = [each for each in found if each.not_after is None or now < each.not_after]
        if not live:
            raise NotEntitledError("no identity for this caller")
        return messages.distinct(live)

    def _current(self) -> BundleBytes:
        # The version is read first, so that no change is missed.
        source, version = self._source, self._source.changes.version
        match WorkloadApi._encoded:
            case (of, at, encoded) if of is source and at == version:
                return encoded
        encoded = BundleBytes.of(source.bundles())
        WorkloadApi._encoded = source, version, encoded
        return encoded

    async def _push_bundles(self, stream: AnyStream, compose: Callable[[BundleBytes], bytes]) -> None:
        async def state(_: Sequence[Entitlement]) -> State:
            return compose(self._current()), None

        await self._push(stream, state)

    async def _push(
        self, stream: AnyStream, compose: Callable[[Sequence[Entitlement]], Awaitable[State]]
    ) -> None:
        told = b""
        while True:
            seen = self._source.changes.version
            self._check_ready()
            entitled = self._entitled(stream)
            message, until = await compose(entitled)
            # To issue takes time: who is gone since, or has lost it, gets nothing of it.
            if self._entitled(stream) != entitled:
                continue
            # A digest, not the message: it holds a private key, and there may be thousands of streams.
            digest = hashlib.sha256(message).digest()
            if digest != told:
                await stream.send_message(message)
                told = digest
            del message
            await self._wait(seen, until)
            await turn()

    async def _wait(self, seen: int, until: datetime | None) -> None:
        left = _LONGEST if until is None else min(until - self._source.clock(), _LONGEST)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(left, _SHORTEST).total_seconds()):
                await self._source.changes.wait(seen)


async def _each(
    entitled: Sequence[Entitlement], issue: Callable[[Entitlement], Awaitable[Held]]
) -> list[tuple[Entitlement, Held]]:
    """Issue for each identity; one that ended meanwhile is left out, if there is another."""
    held: list[tuple[Entitlement, Held]] = []
    refusal = NotEntitledError("no identity for this caller")
    for entitlement in entitled:
        try:
            held.append((entitlement, await issue(entitlement)))
        except NotEntitledError as error:
            refusal = error
    if not held:
        raise refusal
    return held


def _asked_for(entitled: Sequence[Entitlement], spiffe_id: str) -> Sequence[Entitlement]:
    if not spiffe_id:
        return entitled
    try:
        wanted = SpiffeId.parse(spiffe_id)
    except SpiffeIdError as error:
        raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from None
    found = [each for each in entitled if each.spiffe_id == wanted]
    if not found:
        raise NotEntitledError("an identity that is not this caller's")
    return found


def _audience(audiences: Sequence[str]) -> str:
    match list(audiences):
        case [str(audience)] if 0 < len(audience) <= _MAX_AUDIENCE:
            return audience
        case [_]:
            raise GRPCError(Status.INVALID_ARGUMENT, "an audience that is empty or too long")
        case []:
            raise GRPCError(Status.INVALID_ARGUMENT, "no audience")
        case _:
            raise GRPCError(
                Status.INVALID_ARGUMENT, "more than one audience: ask for one JWT-SVID an audience"
            )
