"""Secret discovery over its real wire: who gets what, when it is pushed, and how a stream ends."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from identity import sds
from identity.entitlement import Entitlement
from identity.errors import AttestationError, IssuanceUnavailableError, NotEntitledError
from identity.key_ring import KeyChange
from identity.live_authority import AuthoritySettings, LiveAuthority
from identity.pb import sds_pb2 as pb
from identity.sds_secrets import SECRET_TYPE
from tests.sds_world import (
    ENVOY,
    FOREIGN,
    SECOND,
    EnvoyClient,
    SecretsWorld,
    answered,
    domains,
    ending,
    heard,
    leaf,
    trusted,
    until,
)
from tests.socket_world import MESH

DENIED = grpc.StatusCode.PERMISSION_DENIED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE

Play = Callable[[SecretsWorld, EnvoyClient], Awaitable[None]]


@pytest.fixture
def world() -> SecretsWorld:
    return SecretsWorld()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look is followed by the next, so that a test need not wait for the time that it set."""
    monkeypatch.setattr(sds, "_SHORTEST", timedelta(milliseconds=5))
    monkeypatch.setattr(sds, "_LONGEST", timedelta(milliseconds=5))


def run(world: SecretsWorld, directory: Path, play: Callable[[EnvoyClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with world.envoy(directory) as client:
            await play(client)

    asyncio.run(main())


# ---- what is served


def test_a_stream_gives_certificate_and_roots(world: SecretsWorld, tmp_path: Path) -> None:
    async def play(client: EnvoyClient) -> None:
        found = await heard(await client.world("default", "ROOTCA"))
        assert set(found) == {"default", "ROOTCA"}
        (root,) = trusted(found["ROOTCA"])
        leaf(found["default"]).verify_directly_issued_by(root)

    run(world, tmp_path, play)


def test_one_answer_is_the_same(world: SecretsWorld, tmp_path: Path) -> None:
    async def play(client: EnvoyClient) -> None:
        assert set(await client.fetch("default", "ALL")) == {"default", "ALL"}
        assert set(await client.fetch()) == {str(ENVOY), "spiffe://mesh.example"}

    run(world, tmp_path, play)


def test_delta_gives_each_with_its_version_and_says_what_does_not_exist(
    world: SecretsWorld, tmp_path: Path
) -> None:
    async def play(client: EnvoyClient) -> None:
        answer = await answered(await client.delta("default", "nobody"))
        assert [one.name for one in answer.resources] == ["default"]
        assert answer.resources[0].version
        assert list(answer.removed_resources) == ["nobody"]

    run(world, tmp_path, play)


def test_every_identity_of_the_caller_and_no_other(world: SecretsWorld, tmp_path: Path) -> None:
    world.entitlements.given = (Entitlement(ENVOY), Entitlement(SECOND))
    another = "spiffe://mesh.example/ns/gateway/sa/another"

    async def play(client: EnvoyClient) -> None:
        found = await client.fetch(str(ENVOY), str(SECOND), "default", another)
        assert set(found) == {str(ENVOY), str(SECOND), "default"}
        assert leaf(found["default"]) == leaf(found[str(ENVOY)]) != leaf(found[str(SECOND)])

    run(world, tmp_path, play)
    assert {kept.entitlement.spiffe_id for kept in world.recorder.kept} == {ENVOY, SECOND}


def test_an_unknown_name_is_left_out_with_one_line_and_the_stream_goes_on(
    world: SecretsWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(client: EnvoyClient) -> None:
        call = await client.world("default", "no\nsuch")
        assert set(await heard(call)) == {"default"}
        world.renew()
        assert set(await heard(call)) == {"default"}

    with caplog.at_level(logging.WARNING):
        run(world, tmp_path, play)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [r"secret discovery: left out, not a secret of this caller: 'no\nsuch'"]


def test_a_name_that_comes_to_exist_is_pushed(world: SecretsWorld, tmp_path: Path) -> None:
    async def play(client: EnvoyClient) -> None:
        world_call, delta_call = await client.world(FOREIGN), await client.delta(FOREIGN)
        assert await heard(world_call) == await heard(delta_call) == {}
        world.federate(world.foreign)
        assert set(await heard(world_call)) == set(await heard(delta_call)) == {FOREIGN}

    run(world, tmp_path, play)


# ---- pushes


def test_forced_rotation_is_pushed_and_the_new_root_comes_before_what_it_signed(
    world: SecretsWorld, tmp_path: Path
) -> None:
    now = world.clock.now
    live = LiveAuthority.open(tmp_path / "keys", MESH, AuthoritySettings(), now)
    world.live.current = live.current
    old = live.current.ca.key.kid

    async def play(client: EnvoyClient) -> None:
        call = await client.world("default", "ROOTCA")

        async def after(*actions: Any) -> dict[str, pb.Secret]:
            live.apply([KeyChange(action, "x509", kid) for action, kid in actions], now)
            world.live.current = live.current
            world.live.feed.publish()
            return await heard(call)

        first = await heard(call)
        prepared = await after(("prepare", None))
        assert len(trusted(prepared["ROOTCA"])) == 2
        assert prepared["default"] == first["default"]
        active = await after(("activate", None))
        assert active["ROOTCA"] == prepared["ROOTCA"]
        assert active["default"] != first["default"]
        revoked = await after(("taint", old), ("revoke", old))
        assert trusted(revoked["ROOTCA"]) == [live.current.ca.certificate]
        assert revoked["default"] == active["default"]

    run(world, tmp_path, play)
    live.close()


@pytest.mark.usefixtures("impatient")
def test_an_svid_is_renewed_when_it_says_so_without_any_change(world: SecretsWorld, tmp_path: Path) -> None:
    async def play(client: EnvoyClient) -> None:
        call = await client.world("default")
        first = await answered(call)
        world.clock.advance(400)
        second = await answered(call)
        assert first.version_info != second.version_info
        assert first.nonce != second.nonce

    run(world, tmp_path, play)


def test_a_change_that_changes_nothing_here_is_not_pushed(world: SecretsWorld, tmp_path: Path) -> None:
    async def play(client: EnvoyClient) -> None:
        call = await client.world("default")
        first = await answered(call)
        for _ in range(5):
            world.looked = 0
            world.live.feed.publish()
            await until(lambda: world.looked > 0)
        world.renew()
        second = await answered(call)
        assert int(second.nonce) == int(first.nonce) + 1

    run(world, tmp_path, play)


def test_acks_and_refusals_do_no_work(world: SecretsWorld, tmp_path: Path) -> None:
    """Neither is a reason to attest, to look anything up, or to answer."""

    async def play(client: EnvoyClient) -> None:
        call = await client.world("default")
        first = await answered(call)
        looked = world.looked
        for _ in range(50):
            ack = pb.DiscoveryRequest(resource_names=["default"], response_nonce=first.nonce)
            await call.write(ack)
            ack.error_detail.message = "no"
            await call.write(ack)
        await call.write(pb.DiscoveryRequest(resource_names=["default", "ALL"], response_nonce=first.nonce))
        second = await answered(call)
        assert int(second.nonce) == int(first.nonce) + 1
        assert world.looked == looked + 2  # to look, and to send

    run(world, tmp_path, play)


def test_a_federated_domain_that_is_removed_is_trusted_no_more(world: SecretsWorld, tmp_path: Path) -> None:
    """Envoy keeps a secret that is merely left out; a root that nobody has the key of replaces it."""
    world.federate(world.foreign)

    async def play(client: EnvoyClient) -> None:
        calls = [await client.world(FOREIGN), await client.delta(FOREIGN)]
        for call in calls:
            assert domains((await heard(call))[FOREIGN]) == {"other.example": list(world.foreign.roots)}
        world.federated.clear()
        world.live.feed.publish()
        for call in calls:
            (roots,) = domains((await heard(call))[FOREIGN]).values()
            assert len(roots) == 1
            assert roots[0] not in world.foreign.roots

    run(world, tmp_path, play)


# ---- who is not served


@pytest.mark.parametrize("rpc", ["StreamSecrets", "DeltaSecrets"])
def test_e3_without_an_identity_permission_is_denied_before_a_request_is_read(
    world: SecretsWorld, tmp_path: Path, rpc: str
) -> None:
    """E-3: no identity is PermissionDenied."""
    world.entitlements.given = ()

    async def play(client: EnvoyClient) -> None:
        assert await ending(client.stream(rpc)) is DENIED
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await client.fetch("ROOTCA")
        assert raised.value.code() is DENIED

    run(world, tmp_path, play)


def test_e3_not_ready_is_unavailable(world: SecretsWorld, tmp_path: Path) -> None:
    """E-3: initialising is Unavailable."""
    world.is_ready = False

    async def play(client: EnvoyClient) -> None:
        assert await ending(client.stream()) is UNAVAILABLE

    run(world, tmp_path, play)


@pytest.mark.parametrize("where", ["process", "entitlements"])
def test_nothing_is_issued_when_attestation_is_unsure(
    world: SecretsWorld, tmp_path: Path, where: str
) -> None:
    if where == "process":
        world.is_gone = True
    else:
        world.entitlements.refusal = AttestationError("two answers")

    async def play(client: EnvoyClient) -> None:
        assert await ending(client.stream()) is DENIED

    run(world, tmp_path, play)
    assert world.recorder.kept == []


def test_a1_a_lost_identity_ends_the_stream(world: SecretsWorld, tmp_path: Path) -> None:
    """A-1: the stream ends with PermissionDenied when entitlement is lost, also one for roots alone."""

    async def play(client: EnvoyClient) -> None:
        calls = [await client.world("ALL"), await client.delta("default")]
        for call in calls:
            await answered(call)
        world.entitle()
        assert [await ending(call) for call in calls] == [DENIED, DENIED]

    run(world, tmp_path, play)


def test_a_process_that_is_gone_gets_nothing_more(world: SecretsWorld, tmp_path: Path) -> None:
    async def play(client: EnvoyClient) -> None:
        call = await client.delta("default")
        await answered(call)
        world.is_gone = True
        world.renew()
        assert await ending(call) is DENIED

    run(world, tmp_path, play)
    assert len(world.recorder.kept) == 1


def test_a_process_that_dies_while_its_svid_is_made_does_not_get_it(
    world: SecretsWorld, tmp_path: Path
) -> None:
    async def play(client: EnvoyClient) -> None:
        world.recorder.gate = asyncio.Event()
        call = await client.world("default")
        await until(lambda: world.looked > 1)
        world.is_gone = True
        world.recorder.gate.set()
        assert await ending(call) is DENIED

    run(world, tmp_path, play)


@pytest.mark.usefixtures("impatient")
def test_an_identity_ends_with_its_task_without_any_change(world: SecretsWorld, tmp_path: Path) -> None:
    world.entitlements.given = (Entitlement(ENVOY, not_after=world.clock.now + timedelta(seconds=100)),)

    async def play(client: EnvoyClient) -> None:
        call = await client.world("default")
        await answered(call)
        world.clock.advance(100)
        assert await ending(call) is DENIED

    run(world, tmp_path, play)


def test_an_identity_that_may_not_be_issued_any_more_is_left_out(world: SecretsWorld, tmp_path: Path) -> None:
    world.recorder.refusal = NotEntitledError("a task that is over")

    async def play(client: EnvoyClient) -> None:
        assert set(await client.fetch("default", "ROOTCA")) == {"ROOTCA"}

    run(world, tmp_path, play)


# ---- when nothing can be issued


def test_a_certificate_that_cannot_be_issued_is_unavailable(world: SecretsWorld, tmp_path: Path) -> None:
    world.recorder.refusal = IssuanceUnavailableError("the disk is full")

    async def play(client: EnvoyClient) -> None:
        assert await ending(await client.world("default")) is UNAVAILABLE
        assert await ending(await client.delta("default")) is UNAVAILABLE

    run(world, tmp_path, play)


def test_a_root_that_is_withdrawn_is_told_although_nothing_can_be_issued(
    world: SecretsWorld, tmp_path: Path
) -> None:
    world.federate(world.foreign)

    async def play(client: EnvoyClient) -> None:
        call = await client.world("default", "ALL")
        assert set(domains((await heard(call))["ALL"])) == {"mesh.example", "other.example"}
        world.recorder.refusal = IssuanceUnavailableError("the disk is full")
        world.federated.clear()
        world.renew()
        found = await heard(call)
        assert set(found) == {"ALL"}
        assert set(domains(found["ALL"])) == {"mesh.example"}

    run(world, tmp_path, play)


@pytest.mark.usefixtures("impatient")
def test_issuing_is_tried_again_by_itself(world: SecretsWorld, tmp_path: Path) -> None:
    world.recorder.refusal = IssuanceUnavailableError("the disk is full")

    async def play(client: EnvoyClient) -> None:
        call = await client.world("default", "ROOTCA")
        assert set(await heard(call)) == {"ROOTCA"}
        world.recorder.refusal = None
        assert set(await heard(call)) == {"default", "ROOTCA"}

    run(world, tmp_path, play)


def test_a_clock_that_jumps_back_gives_an_svid_that_is_valid_then(
    world: SecretsWorld, tmp_path: Path
) -> None:
    """Within the life of the key: an hour before is not, and then nothing is signed."""
    world.clock.advance(3600)

    async def play(client: EnvoyClient) -> None:
        call = await client.world("default")
        first = leaf((await heard(call))["default"])
        world.clock.advance(-1800)
        world.live.feed.publish()
        second = leaf((await heard(call))["default"])
        assert second.not_valid_before_utc <= world.clock.now < first.not_valid_before_utc

    run(world, tmp_path, play)


# ---- bad requests


@pytest.mark.parametrize("is_first", [True, False])
def test_a_request_for_another_type_is_refused(world: SecretsWorld, tmp_path: Path, is_first: bool) -> None:
    async def play(client: EnvoyClient) -> None:
        call = client.stream()
        if not is_first:
            await call.write(pb.DiscoveryRequest(type_url=SECRET_TYPE))
            await answered(call)
        await call.write(pb.DiscoveryRequest(type_url=SECRET_TYPE.replace("Secret", "Cluster")))
        assert await ending(call) is INVALID

    run(world, tmp_path, play)


@pytest.mark.parametrize("rpc", ["StreamSecrets", "DeltaSecrets"])
@pytest.mark.parametrize("is_first", [True, False])
def test_bytes_that_are_no_request_are_refused(
    world: SecretsWorld, tmp_path: Path, rpc: str, is_first: bool
) -> None:
    async def play(client: EnvoyClient) -> None:
        call = client.stream(rpc)
        if not is_first:
            await call.write(b"")
            await answered(call)
        await call.write(b"\x0a\xff")
        assert await ending(call) is INVALID

    run(world, tmp_path, play)


def test_a_message_that_is_too_large_is_refused(world: SecretsWorld, tmp_path: Path) -> None:
    async def play(client: EnvoyClient) -> None:
        call = await client.world(*["x" * 200 for _ in range(1000)])
        assert await ending(call) is grpc.StatusCode.RESOURCE_EXHAUSTED

    run(world, tmp_path, play)


def test_a_stream_that_ends_without_a_request_is_refused(world: SecretsWorld, tmp_path: Path) -> None:
    async def play(client: EnvoyClient) -> None:
        call = client.stream()
        await call.done_writing()
        assert await ending(call) is INVALID

    run(world, tmp_path, play)


def test_a_client_that_has_heard_enough_ends_the_stream_in_peace(world: SecretsWorld, tmp_path: Path) -> None:
    async def play(client: EnvoyClient) -> None:
        call = await client.world("default")
        await answered(call)
        await call.done_writing()
        assert await ending(call) is grpc.StatusCode.OK

    run(world, tmp_path, play)


def test_a_client_that_disappears_leaves_no_task_behind(world: SecretsWorld, tmp_path: Path) -> None:
    def ours() -> set[str]:
        coroutines = [str(task.get_coro()) for task in asyncio.all_tasks()]
        return {text for text in coroutines if "sds" in text or "_read" in text or "Feed.wait" in text}

    async def play(client: EnvoyClient) -> None:
        call = await client.world("default")
        await answered(call)
        assert ours()
        call.cancel()
        await until(lambda: not ours())

    run(world, tmp_path, play)


def test_no_log_line_holds_a_key(
    world: SecretsWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(client: EnvoyClient) -> None:
        call = await client.world("default", "nobody")
        answer = await answered(call)
        request = pb.DiscoveryRequest(resource_names=["default"], response_nonce=answer.nonce)
        secret = pb.Secret.FromString(answer.resources[0].value)
        request.error_detail.message = f"invalid: {secret}"
        await call.write(request)
        world.renew()
        await answered(call)

    with caplog.at_level(logging.DEBUG, "identity"):
        run(world, tmp_path, play)
    assert "refused by the client" in caplog.text
    assert "PRIVATE" not in caplog.text
    assert "BEGIN" not in caplog.text
