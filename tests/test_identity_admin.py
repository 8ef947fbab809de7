"""The admin service: every step is recorded before it is taken, one at a time, for our own user alone."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from grpclib import GRPCError, Status
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod

from authz.audit.facts import FederationFacts, KeyFacts
from authz.errors import AuditError
from authz.identity_service.admin import SERVICE, AuthorityService
from authz.identity_service.rotation import Progress, Rotation
from identity.errors import AuthorityStateError, FederationError, KeyMaterialError
from identity.federation import Relationship
from identity.key_ring import KeyChange, Role, Stage
from identity.live_authority import AuthoritySettings, LiveAuthority
from identity.pb import authority_pb2 as pb
from identity.socket_server import SocketServer
from identity.spiffe import TrustDomain
from identity.unix_socket import PRIVATE

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TD = TrustDomain.parse("mesh.example")
OTHER = TrustDomain.parse("other.example")
URL = "https://bundles.other.example/bundle"


@dataclass
class Time:
    """A wall clock that anybody may set, and one that only sleeping moves."""

    now: datetime = START
    monotonic: float = 0.0
    on_sleep: Callable[[], None] = lambda: None

    def clock(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.monotonic += seconds
        self.now += timedelta(seconds=seconds)
        self.on_sleep()
        await asyncio.sleep(0)


@dataclass
class Records:
    """An audit log in memory; full when told so."""

    facts: list[KeyFacts | FederationFacts] = field(default_factory=list)
    full: bool = False
    on_record: Callable[[], None] = lambda: None

    async def __call__(self, facts: KeyFacts | FederationFacts) -> None:
        if self.full:
            raise AuditError("no space")
        self.facts.append(facts)
        self.on_record()

    def steps(self) -> list[tuple[str, str, str]]:
        return [(one.change, one.role, one.outcome) for one in self.facts if isinstance(one, KeyFacts)]


@dataclass
class FakeDomains:
    """Federation in memory; its endpoints answer nothing."""

    known: dict[TrustDomain, Relationship] = field(default_factory=dict)
    broken: bool = False

    def relationships(self) -> tuple[Relationship, ...]:
        return tuple(self.known.values())

    async def add(self, relationship: Relationship) -> None:
        if self.broken:
            raise FederationError("the disk is full")
        self.known[relationship.trust_domain] = relationship

    async def remove(self, trust_domain: TrustDomain) -> None:
        del self.known[trust_domain]

    async def refresh(self, trust_domain: TrustDomain, now: datetime) -> Relationship | None:
        self.known[trust_domain] = self.known[trust_domain].failed("nobody answers", now)
        return self.known[trust_domain]


@dataclass
class World:
    """An authority with keys on disk, and all that looks after it."""

    live: LiveAuthority
    time: Time
    records: Records
    rotation: Rotation
    domains: FakeDomains

    def kid(self, role: Role = "x509") -> str:
        slot = self.live.current.rings[role].active
        assert slot is not None
        return slot.kid

    async def rotate(self, *roles: Role, now: bool = False) -> list[Progress]:
        return [one async for one in self.rotation.rotate(roles, now=now, by="uid 1")]

    def stage(self, kid: str) -> Stage | None:
        slots = [slot for ring in self.live.current.rings.values() for slot in ring if slot.kid == kid]
        return slots[0].stage if slots else None


@pytest.fixture
def world(tmp_path: Path) -> Any:
    live = LiveAuthority.open(tmp_path / "keys", TD, AuthoritySettings(), START)
    time, records = Time(), Records()
    rotation = Rotation(live, records, time.clock, monotonic=lambda: time.monotonic, sleep=time.sleep)
    yield World(live, time, records, rotation, FakeDomains())
    live.close()


# Rotation


def test_a_new_key_is_published_before_it_signs_and_for_as_long_as_configured(world: World) -> None:
    before = world.kid()

    async def scenario() -> None:
        seen = [one async for one in world.rotation.rotate(["x509"], now=False, by="uid 1")]
        assert seen[0].slot.stage is Stage.PREPARED
        assert seen[0].seconds_left == 180
        assert (seen[-1].slot.stage, seen[-1].seconds_left) == (Stage.ACTIVE, 0)

    asyncio.run(scenario())
    assert world.time.monotonic == pytest.approx(180)
    assert world.kid() != before
    assert world.stage(before) is Stage.RETIRED
    assert len(world.live.current.roots) == 2


def test_everybody_hears_of_the_key_when_it_is_published_not_when_it_signs(world: World) -> None:
    versions: list[int] = []
    world.time.on_sleep = lambda: versions.append(world.live.feed.version)
    before = world.live.feed.version
    asyncio.run(world.rotate("x509"))
    assert versions[0] == before + 1
    assert world.live.feed.version == before + 2


def test_now_waits_half_a_second_only(world: World) -> None:
    asyncio.run(world.rotate("x509", "jwt", "tokens", now=True))
    assert world.time.monotonic == pytest.approx(0.5)
    assert world.records.steps() == [
        ("prepare", "x509", "ordered"),
        ("prepare", "jwt", "ordered"),
        ("prepare", "tokens", "ordered"),
        ("activate", "x509", "ordered"),
        ("activate", "jwt", "ordered"),
        ("activate", "tokens", "ordered"),
    ]


def test_a_key_that_was_prepared_long_ago_takes_over_at_once(world: World) -> None:
    world.live.apply([KeyChange("prepare", "jwt")], START - timedelta(hours=1))
    asyncio.run(world.rotate("jwt"))
    assert world.time.monotonic == 0
    assert world.records.steps() == [("activate", "jwt", "ordered")]


def test_a_rotation_that_was_interrupted_goes_on_with_the_same_key(world: World) -> None:
    async def scenario() -> None:
        half = world.rotation.rotate(["x509"], now=False, by="uid 1")
        first = await anext(half)
        await half.aclose()
        again = await world.rotate("x509")
        assert {one.slot.kid for one in again} == {first.slot.kid}

    asyncio.run(scenario())
    assert [step[0] for step in world.records.steps()] == ["prepare", "activate"]


@pytest.mark.parametrize("jump", [timedelta(days=-30), timedelta(days=30)])
def test_a_clock_that_is_set_while_a_key_waits_changes_nothing(world: World, jump: timedelta) -> None:
    def once() -> None:
        world.time.now += jump
        world.time.on_sleep = lambda: None

    world.time.on_sleep = once
    asyncio.run(world.rotate("x509"))
    assert world.time.monotonic == pytest.approx(180)


def test_a_clock_that_went_back_since_a_key_was_published_makes_no_wait_longer_than_the_lead(
    world: World,
) -> None:
    world.live.apply([KeyChange("prepare", "jwt")], START + timedelta(days=30))
    asyncio.run(world.rotate("jwt"))
    assert world.time.monotonic == pytest.approx(180)


def test_two_operators_who_rotate_at_once_make_one_new_key(world: World) -> None:
    async def scenario() -> None:
        first, second = await asyncio.gather(world.rotate("x509"), world.rotate("x509"))
        assert first[-1].slot.kid == second[-1].slot.kid == world.kid()

    asyncio.run(scenario())
    assert [step[0] for step in world.records.steps()] == ["prepare", "activate"]


def test_a_prepared_key_that_is_revoked_meanwhile_never_signs(world: World) -> None:
    async def scenario() -> None:
        rotating = world.rotation.rotate(["x509"], now=False, by="uid 1")
        first = await anext(rotating)
        await world.rotation.revoke(first.slot.kid, "uid 1", force=False)
        with pytest.raises(AuthorityStateError, match="prepared no more: somebody revoked it"):
            async for _ in rotating:
                pass
        assert world.stage(first.slot.kid) is None

    asyncio.run(scenario())


def test_nothing_is_published_that_cannot_be_recorded(world: World) -> None:
    world.records.full, before = True, world.live.current
    with pytest.raises(AuditError):
        asyncio.run(world.rotate("x509", now=True))
    assert world.live.current is before


def test_the_record_comes_before_the_step(world: World) -> None:
    seen: list[int] = []
    world.records.on_record = lambda: seen.append(world.live.current.sequence)
    before = world.live.current.sequence
    asyncio.run(world.rotate("x509", now=True))
    assert seen == [before, before + 1]


def test_a_step_that_fails_after_its_record_leaves_a_second_one(world: World, tmp_path: Path) -> None:
    (tmp_path / "keys").chmod(0o500)
    if os.geteuid() == 0:
        world.live._store = None  # root writes everywhere; so no key can be made
    with pytest.raises((KeyMaterialError, AuthorityStateError)):
        asyncio.run(world.rotate("x509", now=True))
    assert world.records.steps() == [("prepare", "x509", "ordered"), ("prepare", "x509", "failed")]
    (tmp_path / "keys").chmod(0o700)


def test_who_goes_away_in_the_middle_of_a_step_does_not_stop_it_halfway(world: World) -> None:
    async def scenario() -> None:
        blocked = asyncio.Event()

        async def slow(_: KeyFacts) -> None:
            await blocked.wait()

        rotation = Rotation(world.live, slow, world.time.clock)
        before, seen = world.kid(), world.live.feed.version
        asking = asyncio.create_task(rotation.taint(before, "uid 1"))
        rotating = asyncio.ensure_future(anext(rotation.rotate(["jwt"], now=True, by="uid 1")))
        await asyncio.sleep(0)
        rotating.cancel()
        blocked.set()
        with pytest.raises(AuthorityStateError):
            await asking
        await world.live.feed.wait(seen)
        assert world.live.current.rings["jwt"].prepared is not None

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_the_number_of_keys_by_hand_is_bounded_so_that_the_clock_always_has_a_place(world: World) -> None:
    async def scenario() -> None:
        for _ in range(13):
            await world.rotate("jwt", now=True)
        with pytest.raises(AuthorityStateError, match="taint and revoke old ones first"):
            await world.rotate("jwt", now=True)
        world.time.now += timedelta(hours=13)
        await world.rotation.tick()

    asyncio.run(scenario())
    assert world.live.current.rings["jwt"].prepared is not None


def test_a_role_that_is_not_switched_on_is_said_to_be_so(world: World) -> None:
    with pytest.raises(AuthorityStateError, match="'wit' here: they are not switched on"):
        asyncio.run(world.rotate("wit"))


def test_a_device_that_hangs_holds_up_no_other_duty(world: World) -> None:
    async def scenario() -> None:
        blocked = asyncio.Event()
        asked: list[KeyFacts] = []

        async def hanging(facts: KeyFacts) -> None:
            asked.append(facts)
            await blocked.wait()

        rotation = Rotation(world.live, hanging, world.time.clock, patience=0.01)
        world.time.now += timedelta(hours=13)
        seen = world.live.feed.version
        with pytest.raises(AuthorityStateError, match="hangs"):
            await rotation.tick()
        for _ in range(10):
            await rotation.tick()  # at once: the step is still under way
        assert len(asked) == 1
        blocked.set()
        await world.live.feed.wait(seen)
        assert world.live.current.rings["x509"].prepared is not None

    asyncio.run(asyncio.wait_for(scenario(), 20))


# Taint and revoke


def test_a_key_that_signs_cannot_be_tainted_and_the_error_says_what_comes_first(world: World) -> None:
    with pytest.raises(AuthorityStateError, match="rotate first"):
        asyncio.run(world.rotation.taint(world.kid(), "uid 1"))
    assert world.records.facts == []


def test_a_key_that_signs_cannot_be_revoked_not_even_by_force(world: World) -> None:
    with pytest.raises(AuthorityStateError, match="rotate first"):
        asyncio.run(world.rotation.revoke(world.kid(), "uid 1", force=True))
    assert world.records.facts == []


def test_a_key_is_tainted_before_it_is_revoked(world: World) -> None:
    old = world.kid()

    async def scenario() -> None:
        await world.rotate("x509", now=True)
        with pytest.raises(AuthorityStateError, match="taint it first"):
            await world.rotation.revoke(old, "uid 1", force=False)
        await world.rotation.taint(old, "uid 1")
        assert world.live.current.rings["x509"].slots[0].tainted
        await world.rotation.revoke(old, "uid 1", force=False)

    asyncio.run(scenario())
    assert world.stage(old) is None
    assert len(world.live.current.roots) == 1


def test_force_revokes_what_is_not_tainted_and_the_record_says_so(world: World) -> None:
    old = world.kid()

    async def scenario() -> None:
        await world.rotate("x509", now=True)
        await world.rotation.revoke(old, "uid 1", force=True)

    asyncio.run(scenario())
    last = world.records.facts[-1]
    assert isinstance(last, KeyFacts)
    assert (last.change, last.kid, last.detail) == ("revoke", old, "not tainted before")


@pytest.mark.parametrize("kid", ["", "x", "../state.json", "k" * 5000, "\x1b[31m"])
def test_a_key_that_is_not_there_is_refused_in_one_bounded_line(world: World, kid: str) -> None:
    with pytest.raises(AuthorityStateError) as caught:
        asyncio.run(world.rotation.taint(kid, "uid 1"))
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


# By the clock


def test_the_clock_prepares_at_half_of_the_life_and_activates_at_a_sixth(world: World) -> None:
    async def scenario() -> None:
        for hours in (11, 13, 19, 21):
            world.time.now = START + timedelta(hours=hours)
            await world.rotation.tick()

    asyncio.run(scenario())
    assert {(change, by) for one in world.records.facts for change, by in [(one.change, one.by)]} == {
        ("prepare", "clock"),
        ("activate", "clock"),
    }
    assert len(world.records.facts) == 6


def test_a_role_that_fails_holds_up_no_other_and_fills_no_log(world: World) -> None:
    @dataclass
    class BrokenX509:
        live: LiveAuthority
        settings: AuthoritySettings = field(default_factory=AuthoritySettings)

        @property
        def current(self) -> Any:
            return self.live.current

        def due(self, now: datetime) -> tuple[KeyChange, ...]:
            return self.live.due(now)

        def check(self, change: KeyChange, *, force: bool = False) -> None:
            self.live.check(change, force=force)

        def apply(self, changes: Sequence[KeyChange], now: datetime, *, force: bool = False) -> None:
            if changes[0].role == "x509":
                raise KeyMaterialError("the device is gone")
            self.live.apply(changes, now, force=force)

    async def scenario() -> None:
        rotation = Rotation(
            BrokenX509(world.live),  # type: ignore[arg-type]  # a Sequence where any Iterable may come
            world.records,
            world.time.clock,
            monotonic=lambda: world.time.monotonic,
        )
        world.time.now += timedelta(hours=13)
        with pytest.raises(KeyMaterialError, match="the device is gone"):
            await rotation.tick()
        assert world.live.current.rings["jwt"].prepared is not None
        for _ in range(10):
            await rotation.tick()
        assert world.records.steps().count(("prepare", "x509", "failed")) == 1
        world.time.monotonic += 31
        with pytest.raises(KeyMaterialError):
            await rotation.tick()

    asyncio.run(scenario())


# On the socket


@asynccontextmanager
async def served(world: World, tmp_path: Path, uid: int | None = None) -> AsyncIterator[Channel]:
    service = AuthorityService(
        world.rotation,
        world.domains,
        world.records,
        our_uid=os.geteuid(),
        key_store="files",
        clock=world.time.clock,
        user_of=None if uid is None else lambda _: uid,
    )
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    server = SocketServer()
    await server.listen(directory / "admin.sock", [service], files=[pb.DESCRIPTOR], mode=PRIVATE)
    channel = Channel(path=str(directory / "admin.sock"))
    try:
        yield channel
    finally:
        channel.close()
        await server.close()


async def call(channel: Channel, name: str, request: Any, reply: Any) -> Any:
    method: UnaryUnaryMethod[Any, Any] = UnaryUnaryMethod(channel, f"/{SERVICE}/{name}", type(request), reply)
    return await method(request)


def on_socket(
    world: World, tmp_path: Path, act: Callable[[Channel], Awaitable[None]], uid: int | None = None
) -> None:
    async def scenario() -> None:
        async with served(world, tmp_path, uid) as channel:
            await act(channel)

    asyncio.run(asyncio.wait_for(scenario(), 30))


EVERY_CALL = [
    ("GetStatus", pb.GetStatusRequest(), pb.AuthorityStatus),
    ("Rotate", pb.RotateRequest(roles=[pb.ROLE_X509], now=True), pb.RotateProgress),
    ("Taint", pb.TaintRequest(key_id="x"), pb.KeyChanged),
    ("Revoke", pb.RevokeRequest(key_id="x", force=True), pb.KeyChanged),
    ("ListFederation", pb.ListFederationRequest(), pb.FederationList),
    (
        "AddFederation",
        pb.AddFederationRequest(trust_domain=OTHER.name, url=URL, profile="https_web"),
        pb.FederationChanged,
    ),
    ("RemoveFederation", pb.RemoveFederationRequest(trust_domain=OTHER.name), pb.FederationChanged),
]


@pytest.mark.parametrize(("name", "request_", "reply"), EVERY_CALL, ids=[one[0] for one in EVERY_CALL])
def test_another_user_is_refused_whatever_they_ask(
    world: World, tmp_path: Path, name: str, request_: Any, reply: Any
) -> None:
    before = world.live.current

    async def act(channel: Channel) -> None:
        with pytest.raises(GRPCError) as caught:
            await call(channel, name, request_, reply)
        assert caught.value.status is Status.PERMISSION_DENIED
        assert "ask as that user" in str(caught.value.message)

    on_socket(world, tmp_path, act, uid=os.geteuid() + 1)
    assert world.live.current is before
    assert world.records.facts == []
    assert world.domains.known == {}


def test_every_rpc_of_the_proto_is_in_the_list_above_and_served(world: World) -> None:
    names = [method.name for method in pb.DESCRIPTOR.services_by_name["AuthorityService"].methods]
    assert names == [one[0] for one in EVERY_CALL]
    service = AuthorityService(
        world.rotation, world.domains, world.records, our_uid=0, key_store="files", clock=world.time.clock
    )
    assert {path.rpartition("/")[2] for path in service.__mapping__()} == set(names)


def test_the_socket_is_for_our_user_alone(world: World, tmp_path: Path) -> None:
    async def act(_: Channel) -> None:
        assert (tmp_path / "data/admin.sock").stat().st_mode & 0o777 == 0o600

    on_socket(world, tmp_path, act)


def test_status_says_keys_and_next_steps(world: World, tmp_path: Path) -> None:
    async def act(channel: Channel) -> None:
        status = await call(channel, "GetStatus", pb.GetStatusRequest(), pb.AuthorityStatus)
        assert (status.trust_domain, status.key_store) == ("mesh.example", "files")
        assert [role.role for role in status.roles] == [pb.ROLE_X509, pb.ROLE_JWT, pb.ROLE_TOKENS]
        assert status.roles[0].keys[0].key_id == world.kid()
        assert status.roles[0].next_step == "prepare"
        assert status.roles[0].next_step_at.ToDatetime(UTC) == START + timedelta(hours=12)

    on_socket(world, tmp_path, act)


def test_a_rotation_is_told_step_by_step_and_recorded_with_who_asked(world: World, tmp_path: Path) -> None:
    async def act(channel: Channel) -> None:
        method = UnaryStreamMethod(channel, f"/{SERVICE}/Rotate", pb.RotateRequest, pb.RotateProgress)
        seen = await method(pb.RotateRequest(roles=[pb.ROLE_JWT], now=True))
        assert [one.stage for one in seen] == [pb.STAGE_PREPARED, pb.STAGE_ACTIVE]

    on_socket(world, tmp_path, act)
    assert {one.by for one in world.records.facts} == {f"uid {os.geteuid()}"}


@pytest.mark.parametrize("roles", [[], [0], [9], [1, 1], [1, 99]])
def test_roles_that_are_missing_unknown_or_named_twice_are_refused(
    world: World, tmp_path: Path, roles: list[int]
) -> None:
    async def act(channel: Channel) -> None:
        method = UnaryStreamMethod(channel, f"/{SERVICE}/Rotate", pb.RotateRequest, pb.RotateProgress)
        with pytest.raises(GRPCError) as caught:
            await method(pb.RotateRequest(roles=roles))  # type: ignore[arg-type]  # numbers that are no role
        assert caught.value.status is Status.INVALID_ARGUMENT

    on_socket(world, tmp_path, act)
    assert world.records.facts == []


def test_a_full_log_is_unavailable_and_says_that_nothing_changed(world: World, tmp_path: Path) -> None:
    world.records.full = True

    async def act(channel: Channel) -> None:
        for request in (pb.AddFederationRequest(trust_domain=OTHER.name, url=URL, profile="https_web"),):
            with pytest.raises(GRPCError) as caught:
                await call(channel, "AddFederation", request, pb.FederationChanged)
            assert caught.value.status is Status.UNAVAILABLE
            assert "nothing was changed" in str(caught.value.message)

    on_socket(world, tmp_path, act)
    assert world.domains.known == {}


def test_an_impossible_step_says_which_comes_first(world: World, tmp_path: Path) -> None:
    async def act(channel: Channel) -> None:
        with pytest.raises(GRPCError, match="rotate first") as caught:
            await call(channel, "Taint", pb.TaintRequest(key_id=world.kid()), pb.KeyChanged)
        assert caught.value.status is Status.FAILED_PRECONDITION

    on_socket(world, tmp_path, act)


def test_federation_is_recorded_before_it_counts_and_fetched_at_once(world: World, tmp_path: Path) -> None:
    known: list[int] = []
    world.records.on_record = lambda: known.append(len(world.domains.known))

    async def act(channel: Channel) -> None:
        request = pb.AddFederationRequest(trust_domain=OTHER.name, url=URL, profile="https_web")
        added = await call(channel, "AddFederation", request, pb.FederationChanged)
        assert (added.domain.trust_domain, added.domain.problem) == ("other.example", "nobody answers")
        listed = await call(channel, "ListFederation", pb.ListFederationRequest(), pb.FederationList)
        assert [one.url for one in listed.domains] == [URL]
        remove = pb.RemoveFederationRequest(trust_domain=OTHER.name)
        await call(channel, "RemoveFederation", remove, pb.FederationChanged)
        with pytest.raises(GRPCError, match="is not federated"):
            await call(channel, "RemoveFederation", remove, pb.FederationChanged)

    on_socket(world, tmp_path, act)
    assert known == [0, 1]
    assert [one.change for one in world.records.facts] == ["federation-added", "federation-removed"]


BAD_RELATIONSHIPS = [
    {"trust_domain": "mesh.example"},  # our own
    {"trust_domain": "Other.example"},
    {"trust_domain": "other.example\n"},
    {"url": "http://bundles.other.example"},
    {"url": "https://user@bundles.other.example"},
    {"profile": "https"},
    {"profile": "https_spiffe"},
    {"endpoint_spiffe_id": "spiffe://other.example/bundle"},
    {"bundle": b"{"},
]


@pytest.mark.parametrize("change", BAD_RELATIONSHIPS, ids=[str(one) for one in BAD_RELATIONSHIPS])
def test_a_relationship_that_is_refused_leaves_no_record(
    world: World, tmp_path: Path, change: dict[str, Any]
) -> None:
    right: dict[str, Any] = {"trust_domain": OTHER.name, "url": URL, "profile": "https_web"}

    async def act(channel: Channel) -> None:
        request = pb.AddFederationRequest(**(right | change))
        with pytest.raises(GRPCError) as caught:
            await call(channel, "AddFederation", request, pb.FederationChanged)
        assert caught.value.status is Status.FAILED_PRECONDITION
        assert str(caught.value.message).isprintable()

    on_socket(world, tmp_path, act)
    assert world.records.facts == []
    assert world.domains.known == {}


def test_a_change_of_federation_that_fails_leaves_a_second_record(world: World, tmp_path: Path) -> None:
    world.domains.broken = True

    async def act(channel: Channel) -> None:
        request = pb.AddFederationRequest(trust_domain=OTHER.name, url=URL, profile="https_web")
        with pytest.raises(GRPCError, match="the disk is full"):
            await call(channel, "AddFederation", request, pb.FederationChanged)

    on_socket(world, tmp_path, act)
    assert [one.outcome for one in world.records.facts] == ["ordered", "failed"]
