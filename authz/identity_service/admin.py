"""`deputy.identity.v1.AuthorityService`: what an operator may do to keys and federation.

- It answers the user that runs us and nobody else: not root, not a group, not whom the socket let in by
  mistake.
- A change is checked, then recorded, then made; what cannot be recorded is not made.
- An error says what to do, and names no file and no key but those that an operator may see.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Final, Protocol

from grpclib import GRPCError
from grpclib.const import Cardinality, Handler, Status
from grpclib.server import Stream

from authz.audit.facts import FederationChange, FederationFacts, KeyOutcome
from authz.errors import AuditError
from authz.identity_service.rotation import Rotation, finish
from authz.identity_service.status import (
    ROLE_NAMES,
    ROLE_NUMBERS,
    STAGE_NUMBERS,
    domain_message,
    profile_name,
    status_message,
)
from identity.errors import (
    AttestationError,
    AuthorityStateError,
    FederationError,
    IdentityError,
    SpiffeIdError,
)
from identity.federation import Relationship, check_relationships
from identity.key_ring import Role
from identity.pb import authority_pb2 as pb
from identity.socket_server import peer_of
from identity.spiffe import TrustDomain

SERVICE: Final = "deputy.identity.v1.AuthorityService"
SOCKET_NAME: Final = "admin.sock"

FederationRecorder = Callable[[FederationFacts], Awaitable[None]]
UserOf = Callable[["Stream[Any, Any]"], int]


class FederatedDomains(Protocol):
    """The trust domains that we federate with."""

    def relationships(self) -> tuple[Relationship, ...]:
        """Return every relationship."""

    async def add(self, relationship: Relationship) -> None:
        """Federate with a trust domain."""

    async def remove(self, trust_domain: TrustDomain) -> None:
        """Forget a trust domain."""

    async def refresh(self, trust_domain: TrustDomain, now: datetime) -> Relationship | None:
        """Fetch a bundle now, and return what is known after that."""


class AuthorityService:
    """The servicer; `user_of` tells the uid at the other end of a call, by default as the kernel does."""

    def __init__(
        self,
        rotation: Rotation,
        federation: FederatedDomains,
        record: FederationRecorder,
        *,
        our_uid: int,
        key_store: str,
        clock: Callable[[], datetime],
        user_of: UserOf | None = None,
    ) -> None:
        """Serve one authority; `key_store` is `files` or `pkcs11`."""
        self._rotation = rotation
        self._federation = federation
        self._record = record
        self._user_of = user_of or (lambda stream: peer_of(stream).uid)
        self._our_uid = our_uid
        self._key_store = key_store
        self._clock = clock

    def __mapping__(self) -> Mapping[str, Handler]:
        """Return the methods by path, as grpclib asks for them."""

        def unary(name: str, method: Any, request: Any, reply: Any) -> tuple[str, Handler]:  # noqa: ANN401 - grpclib's own types are as wide
            return f"/{SERVICE}/{name}", Handler(method, Cardinality.UNARY_UNARY, request, reply)

        return dict(
            [
                unary("GetStatus", self.get_status, pb.GetStatusRequest, pb.AuthorityStatus),
                unary("Taint", self.taint, pb.TaintRequest, pb.KeyChanged),
                unary("Revoke", self.revoke, pb.RevokeRequest, pb.KeyChanged),
                unary("ListFederation", self.list_federation, pb.ListFederationRequest, pb.FederationList),
                unary("AddFederation", self.add_federation, pb.AddFederationRequest, pb.FederationChanged),
                unary(
                    "RemoveFederation",
                    self.remove_federation,
                    pb.RemoveFederationRequest,
                    pb.FederationChanged,
                ),
                (
                    f"/{SERVICE}/Rotate",
                    Handler(self.rotate, Cardinality.UNARY_STREAM, pb.RotateRequest, pb.RotateProgress),
                ),
            ]
        )

    async def get_status(self, stream: Stream[pb.GetStatusRequest, pb.AuthorityStatus]) -> None:
        """Answer what there is."""
        async with self._answering(stream):
            await _read(stream)
            authority, settings = self._rotation.keys.current, self._rotation.keys.settings
            await stream.send_message(
                status_message(
                    trust_domain=authority.trust_domain.name,
                    sequence=authority.sequence,
                    rings=authority.rings,
                    life=settings.life,
                    key_store=self._key_store,
                    federation=self._federation.relationships(),
                    now=self._clock(),
                )
            )

    async def rotate(self, stream: Stream[pb.RotateRequest, pb.RotateProgress]) -> None:
        """Replace the keys that sign, and tell how far it is."""
        async with self._answering(stream) as by:
            request = await _read(stream)
            async for progress in self._rotation.rotate(_roles(request), now=request.now, by=by):
                await stream.send_message(
                    pb.RotateProgress(
                        role=ROLE_NUMBERS[progress.role],
                        key_id=progress.slot.kid,
                        stage=STAGE_NUMBERS[progress.slot.stage],
                        seconds_left=progress.seconds_left,
                    )
                )

    async def taint(self, stream: Stream[pb.TaintRequest, pb.KeyChanged]) -> None:
        """Mark a key."""
        async with self._answering(stream) as by:
            request = await _read(stream)
            slot = await self._rotation.taint(request.key_id, by)
            await stream.send_message(self._changed(slot.role, slot.kid))

    async def revoke(self, stream: Stream[pb.RevokeRequest, pb.KeyChanged]) -> None:
        """Take a key out of what is published."""
        async with self._answering(stream) as by:
            request = await _read(stream)
            slot = await self._rotation.revoke(request.key_id, by, force=request.force)
            await stream.send_message(self._changed(slot.role, slot.kid))

    async def list_federation(self, stream: Stream[pb.ListFederationRequest, pb.FederationList]) -> None:
        """Answer which trust domains are federated."""
        async with self._answering(stream):
            await _read(stream)
            domains = [domain_message(each) for each in self._federation.relationships()]
            await stream.send_message(pb.FederationList(domains=domains))

    async def add_federation(self, stream: Stream[pb.AddFederationRequest, pb.FederationChanged]) -> None:
        """Federate with a trust domain, and fetch its bundle."""
        async with self._answering(stream) as by:
            request = await _read(stream)
            relationship = Relationship.parse(
                request.trust_domain,
                request.url,
                request.profile,
                endpoint_id=request.endpoint_spiffe_id or None,
                ca_file=request.ca_file or None,
                bundle=request.bundle or None,
            )
            # Before the record: what would be refused anyway is no change.
            own = self._rotation.keys.current.trust_domain
            check_relationships([*self._federation.relationships(), relationship], own)
            add = partial(self._federation.add, relationship)
            await finish(self._recorded("federation-added", relationship, by, add))
            after = await self._federation.refresh(relationship.trust_domain, self._clock())
            await stream.send_message(pb.FederationChanged(domain=domain_message(after or relationship)))

    async def remove_federation(
        self, stream: Stream[pb.RemoveFederationRequest, pb.FederationChanged]
    ) -> None:
        """Forget a trust domain."""
        async with self._answering(stream) as by:
            trust_domain = TrustDomain.parse((await _read(stream)).trust_domain)
            known = {each.trust_domain: each for each in self._federation.relationships()}
            if trust_domain not in known:
                raise FederationError(f"{trust_domain.name!r} is not federated")
            removed = known[trust_domain]
            remove = partial(self._federation.remove, trust_domain)
            await finish(self._recorded("federation-removed", removed, by, remove))
            await stream.send_message(pb.FederationChanged(domain=domain_message(removed)))

    @asynccontextmanager
    async def _answering(self, stream: "Stream[Any, Any]") -> AsyncIterator[str]:
        """Let nobody but us in, and turn what goes wrong into a status; gives who asks, for the record."""
        try:
            uid = self._user_of(stream)
            if uid != self._our_uid:
                raise GRPCError(
                    Status.PERMISSION_DENIED,
                    f"this socket answers uid {self._our_uid} alone, who runs the service: ask as that user",
                )
            yield f"uid {uid}"
        except AttestationError as error:
            raise GRPCError(Status.PERMISSION_DENIED, "who asks cannot be said for sure") from error
        except AuditError as error:
            message = f"nothing was changed, because it cannot be recorded: {error}"
            raise GRPCError(Status.UNAVAILABLE, message) from error
        except SpiffeIdError as error:
            raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from error
        except (AuthorityStateError, FederationError) as error:
            raise GRPCError(Status.FAILED_PRECONDITION, str(error)) from error
        except IdentityError as error:
            raise GRPCError(Status.INTERNAL, str(error)) from error

    async def _recorded(
        self,
        change: FederationChange,
        relationship: Relationship,
        by: str,
        act: Callable[[], Awaitable[None]],
    ) -> None:
        """Record a change, make it, and record if that failed after all."""

        def facts(outcome: KeyOutcome, detail: str = "") -> FederationFacts:
            return FederationFacts(
                change=change,
                trust_domain=relationship.trust_domain.name,
                url=relationship.url,
                profile=profile_name(relationship),
                outcome=outcome,
                by=by,
                detail=detail,
            )

        await self._record(facts("ordered"))
        try:
            await act()
        except IdentityError as error:
            await self._record(facts("failed", str(error)))
            raise

    def _changed(self, role: Role, kid: str) -> pb.KeyChanged:
        sequence = self._rotation.keys.current.sequence
        return pb.KeyChanged(role=ROLE_NUMBERS[role], key_id=kid, sequence=sequence)


def _roles(request: pb.RotateRequest) -> tuple[Role, ...]:
    roles = tuple(ROLE_NAMES[number] for number in request.roles if number in ROLE_NAMES)
    if not roles or len(roles) != len(request.roles) or len(set(roles)) != len(roles):
        raise GRPCError(Status.INVALID_ARGUMENT, "name at least one role, none twice, none unknown")
    return roles


async def _read(stream: "Stream[Any, Any]") -> Any:  # noqa: ANN401 - the message that the handler is for
    request = await stream.recv_message()
    if request is None:
        raise GRPCError(Status.INVALID_ARGUMENT, "no request")
    return request
