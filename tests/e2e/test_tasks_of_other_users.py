"""Tasks of processes that really are other users': the kernel says who calls, and nothing else does.

- Each user is a relay: a process of that user that connects to where it is told and passes bytes on. What the
  client at its other end says, the service hears from the relay's user.
"""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status

from authz.identity_service.task_sockets import SocketBounds
from identity.pb import task_pb2 as pb
from identity.registration import AgentUid, Registrations
from tests.broker_fakes import RUNNER
from tests.task_world import (
    OTHER_RUNNER,
    TaskWorld,
    ended,
    ids,
    let_others_pass,
    refusal,
    registration,
    task_world,
    watching,
)

A, B, AGENT, STRANGER = 61_001, 61_002, 61_003, 61_004
PYTHON = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
RELAY = """
import asyncio, sys

async def pass_on(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()

async def relay(reader, writer):
    try:
        there, here = await asyncio.open_unix_connection(sys.argv[2])
    except OSError as error:
        print(type(error).__name__, flush=True)
        return writer.close()
    await asyncio.gather(pass_on(reader, here), pass_on(there, writer), return_exceptions=True)

async def main():
    async with await asyncio.start_unix_server(relay, sys.argv[1]) as server:
        print("ready", flush=True)
        await server.serve_forever()

asyncio.run(main())
"""

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes of other users"),
]


@dataclass
class Users:
    """Who can be asked to call for us."""

    world: TaskWorld
    place: Path

    @asynccontextmanager
    async def calling(self, uid: int, target: str | Path) -> AsyncIterator[Path]:
        """A socket behind which a process of this user passes everything on to the target."""
        with tempfile.TemporaryDirectory(dir=self.place, prefix=f"{uid}-") as made:
            os.chown(made, uid, uid)
            path = Path(made) / "relay.sock"
            address = str(target).removeprefix("unix://")
            process = await asyncio.create_subprocess_exec(
                PYTHON,
                "-c",
                RELAY,
                path,
                address,
                user=uid,
                group=uid,
                extra_groups=[],
                stdout=asyncio.subprocess.PIPE,
                cwd="/",
                env={"PATH": "/usr/bin:/bin"},
            )
            try:
                assert process.stdout is not None
                assert await process.stdout.readline() == b"ready\n"
                yield path
            finally:
                process.kill()
                await process.wait()

    async def ask(self, uid: int, call: Callable[[TaskWorld], Awaitable[Any]]) -> Any:
        """Call the shared socket as a user."""
        shared = self.world.shared
        async with self.calling(uid, shared) as path:
            self.world.shared = path
            try:
                return await call(self.world)
            finally:
                self.world.shared = shared

    async def svids(self, uid: int, address: str) -> Any:
        async with self.calling(uid, address) as path:
            return [str(each) for each in await self.world.svids(f"unix://{path}")]


def run(act: Callable[[TaskWorld, Users], Awaitable[None]]) -> None:
    async def scenario() -> None:
        with tempfile.TemporaryDirectory(prefix="dpt") as made:
            place = Path(made)
            let_others_pass(place)
            registrations = Registrations.of(
                [registration(A), registration(B, OTHER_RUNNER)], [AgentUid.parse(AGENT, "triage")]
            )
            async with task_world(
                place, registrations=registrations, shared_mode=0o666, bounds=SocketBounds(grace_seconds=0.05)
            ) as world:
                await act(world, Users(world, place))

    asyncio.run(scenario())


def test_a_private_socket_serves_its_own_user_and_no_other_not_even_root() -> None:
    async def act(world: TaskWorld, users: Users) -> None:
        answer = await users.ask(A, lambda world: world.start())
        address = answer.identity.endpoint_socket
        assert world.tasks.tasks[answer.task].origin == f"uid:{A}"
        assert await users.svids(A, address) == [answer.identity.spiffe_id]
        for other in (B, AGENT, STRANGER):
            status, _ = await refusal(users.svids(other, address))
            assert status is Status.PERMISSION_DENIED
        status, _ = await refusal(world.svids(address))
        assert (os.getuid(), status) == (0, Status.PERMISSION_DENIED)

    run(act)


def test_the_shared_socket_gives_each_user_its_own() -> None:
    async def act(world: TaskWorld, users: Users) -> None:
        shared = f"unix://{world.shared}"
        for _ in range(3):
            await users.ask(A, lambda world: world.start())
        assert await users.svids(A, shared) == [str(RUNNER)]
        assert await users.svids(B, shared) == [str(OTHER_RUNNER)]
        for other in (AGENT, STRANGER, 0):
            status, _ = await refusal(users.svids(other, shared))
            assert status is Status.PERMISSION_DENIED

    run(act)


def test_another_user_can_neither_start_nor_renew_nor_end_a_task() -> None:
    async def act(world: TaskWorld, users: Users) -> None:
        answer = await users.ask(A, lambda world: world.start())
        for other, code in ((B, "DPT-TASK-MISMATCH"), (STRANGER, "DPT-PEER-MISSING")):
            for call in (
                lambda world: world.renew(answer.task),
                lambda world: world.end(answer.task),
            ):
                status, text = await refusal(users.ask(other, call))
                assert (status, code in text) == (Status.PERMISSION_DENIED, True)
        assert await users.svids(A, answer.identity.endpoint_socket)

    run(act)


def test_an_agents_own_user_gets_its_task_for_as_long_as_it_lives() -> None:
    async def act(world: TaskWorld, users: Users) -> None:
        wish = pb.Delivery(shared_socket={"uid": AGENT})
        answer = await users.ask(A, lambda world: world.start(delivery=wish))
        async with users.calling(AGENT, world.shared) as path, watching(f"unix://{path}") as stream:
            assert [str(each) for each in ids(await stream.recv_message())] == [answer.identity.spiffe_id]
            status, _ = await refusal(users.ask(AGENT, lambda world: world.end(answer.task)))
            assert status is Status.PERMISSION_DENIED
            await users.ask(A, lambda world: world.end(answer.task))
            assert await ended(stream) is Status.PERMISSION_DENIED

    run(act)


def test_nobody_else_can_list_or_enter_what_they_do_not_know() -> None:
    async def act(world: TaskWorld, users: Users) -> None:
        answer = await users.ask(A, lambda world: world.start())
        home = Path(answer.identity.endpoint_socket.removeprefix("unix://")).parent
        for command, path in (
            ("ls", home.parent),
            ("ls", home),
            ("touch", home / "x"),
            ("rm", home / "api.sock"),
        ):
            process = await asyncio.create_subprocess_exec(
                command, path, user=A, group=A, extra_groups=[], stderr=asyncio.subprocess.DEVNULL
            )
            assert await process.wait() != 0
        assert await users.svids(A, answer.identity.endpoint_socket)

    run(act)
