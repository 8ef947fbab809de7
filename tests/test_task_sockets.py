"""The directory of private sockets: ours alone, one process at a time, and nothing left behind."""

import asyncio
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpclib.const import Status

from authz.identity_service.task_sockets import NAME, TaskSockets
from identity.errors import SocketError
from identity.feed import Feed
from identity.pb import task_pb2 as pb
from identity.socket_server import SocketServer
from identity.unix_socket import MAX_PATH
from identity.withdrawal import Withdrawal, Withdrawals
from tests.broker_fakes import broker_alone
from tests.task_world import AGENT_UID, TaskWorld, let_others_pass, refusal, run, task_world, until, watching

HOME = "0123456789abcdef" * 2


@pytest.fixture
def place() -> Iterator[Path]:
    # A socket's path is short, shorter than what pytest gives.
    with tempfile.TemporaryDirectory(prefix="dpt") as directory:
        yield Path(directory)


def opened(directory: Path) -> TaskSockets:
    broker = broker_alone().broker
    return TaskSockets.open(directory, SocketServer(), services=lambda _: (), broker=broker, changes=Feed())


async def closed(directory: Path) -> None:
    await opened(directory).close()


def test_nobody_else_can_list_the_directory_and_everybody_can_pass_to_a_path_that_they_know() -> None:
    before = os.umask(0o077)

    async def act(world: TaskWorld) -> None:
        path = Path((await world.start()).identity.endpoint_socket.removeprefix("unix://"))
        modes = [stat.S_IMODE(place.stat().st_mode) for place in (path, *path.parents[:2])]
        assert modes == [0o666, 0o711, 0o711]
        assert stat.S_IMODE((world.directory / "tasks" / ".lock").stat().st_mode) == 0o600

    try:
        run(act)
    finally:
        os.umask(before)


def test_a_name_has_128_random_bits() -> None:
    async def act(world: TaskWorld) -> None:
        homes = {
            Path((await world.start()).identity.endpoint_socket.removeprefix("unix://")).parent.name
            for _ in range(20)
        }
        assert len(homes) == 20
        assert {len(bytes.fromhex(home)) for home in homes} == {16}

    run(act)


@pytest.mark.parametrize("mode", [0o777, 0o733, 0o755, 0o751, 0o731, 0o713])
def test_a_directory_that_others_can_list_or_write_is_refused(place: Path, mode: int) -> None:
    place.chmod(mode)
    with pytest.raises(SocketError, match="chmod 711"):
        opened(place)


def test_a_link_is_no_directory_of_ours(place: Path) -> None:
    (place / "real").mkdir(0o700)
    (place / "link").symlink_to(place / "real")
    with pytest.raises(SocketError, match="must be a directory"):
        opened(place / "link")


@pytest.mark.parametrize("kind", ["file", "missing parent"])
def test_a_directory_that_cannot_be_had(place: Path, kind: str) -> None:
    (place / "file").touch()
    with pytest.raises(SocketError, match="task_sockets"):
        opened(place / "file" if kind == "file" else place / "missing" / "tasks")


def test_a_lock_that_is_a_link_is_not_followed(place: Path) -> None:
    place.chmod(0o700)
    (place / ".lock").symlink_to(place / "elsewhere")
    with pytest.raises(SocketError, match="cannot be used"):
        opened(place)
    assert not (place / "elsewhere").exists()


def test_a_second_process_is_refused_and_leaves_the_sockets_of_the_first_alone(place: Path) -> None:
    async def act() -> None:
        async with task_world(place) as world:
            answer = await world.start()
            with pytest.raises(SocketError, match="in use by another process"):
                opened(place / "tasks")
            assert await world.svids(answer.identity.endpoint_socket)
        await closed(place / "tasks")

    asyncio.run(act())


def test_what_a_crashed_process_left_is_removed_and_nothing_else(place: Path) -> None:
    async def act() -> None:
        await closed(place / "tasks")
        tasks = place / "tasks"
        stale, kept, foreign = tasks / HOME, tasks / "keep-me", tasks / HOME[::-1]
        stale.mkdir(0o711)
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(stale / NAME))
        kept.mkdir()
        foreign.mkdir()
        (foreign / "notes").touch()
        outside = place / "outside"
        outside.mkdir()
        (outside / NAME).touch()
        (tasks / ("f" * 32)).symlink_to(outside)
        await closed(tasks)
        assert not stale.exists()
        assert kept.exists()
        assert (foreign / "notes").exists()
        assert (outside / NAME).exists()

    asyncio.run(act())


def test_a_path_that_leaves_no_room_for_a_socket_is_refused_at_start_with_one_sentence(place: Path) -> None:
    room = MAX_PATH - len(str(place)) - len(f"//{HOME}/{NAME}")
    asyncio.run(closed(place / ("x" * room)))
    with pytest.raises(SocketError, match=r"the path of task_sockets is 1 bytes too long.*107"):
        opened(place / ("x" * (room + 1)))


def test_a_socket_works_at_the_longest_path(place: Path) -> None:
    async def act() -> None:
        room = MAX_PATH - len(str(place)) - len(f"//{HOME}/{NAME}/tasks")
        directory = place / ("x" * room)
        directory.mkdir(0o700)
        async with task_world(directory) as world:
            answer = await world.start()
            assert len(answer.identity.endpoint_socket) == len("unix://") + MAX_PATH
            assert await world.svids(answer.identity.endpoint_socket)

    asyncio.run(act())


def test_a_way_that_the_agents_user_cannot_pass_is_said_at_the_start(place: Path) -> None:
    """The data directory is closed to others; a socket in it serves our own user only."""

    async def act() -> None:
        async with task_world(place) as world:
            await world.start()
            wish = pb.Delivery(private_socket={"uid": AGENT_UID})
            status, text = await refusal(world.start(delivery=wish))
            assert (status, "outside of data_dir" in text) == (Status.INTERNAL, True)
            let_others_pass(place)
            await world.start(delivery=wish)

    asyncio.run(act())


def test_all_sockets_are_gone_after_shutdown(place: Path) -> None:
    async def act() -> None:
        async with task_world(place) as world:
            answers = [await world.start() for _ in range(3)]
            async with watching(answers[0].identity.endpoint_socket) as stream:
                await stream.recv_message()
                await world.end(answers[1].task)
                await until(lambda: world.sockets._leaving)
        assert [entry.name for entry in (place / "tasks").iterdir()] == [".lock"]

    asyncio.run(act())


def test_a_service_that_stops_makes_no_socket(place: Path) -> None:
    async def act() -> None:
        async with task_world(place) as world:
            world.running.cancel()
            await world.sockets.close()
            status, text = await refusal(world.start())
            assert (status, "stopping" in text) == (Status.RESOURCE_EXHAUSTED, True)
            assert [entry.name for entry in (place / "tasks").iterdir()] == [".lock"]
            await world.start(delivery=pb.Delivery(shared_socket={"uid": AGENT_UID}))

    asyncio.run(act())


def test_a_fault_of_one_look_does_not_end_the_looking(caplog: pytest.LogCaptureFixture) -> None:
    async def act(world: TaskWorld) -> None:
        answer = await world.start()
        task, world.tasks.tasks = world.tasks.tasks, None  # a fault that nobody foresaw
        world.feed.publish()
        await until(lambda: "cannot be found" in caplog.text)
        world.tasks.tasks = task
        await world.end(answer.task)
        home = Path(answer.identity.endpoint_socket.removeprefix("unix://")).parent
        await until(lambda: not home.exists())

    run(act)


def test_a_contained_tasks_socket_gives_nothing_and_stays_for_its_release() -> None:
    async def act(world: TaskWorld) -> None:
        answer, gone = await world.start(), await world.start()
        socket, now = answer.identity.endpoint_socket, world.broker.clock()
        contained = Withdrawal("agent", "triage", None, "drill", "operator", now, None)
        world.tasks.withdraw(contained, now)
        # Another one ends meanwhile, so that we know when all were looked at.
        world.tasks.end_task(gone.task, now)
        home = Path(gone.identity.endpoint_socket.removeprefix("unix://")).parent
        await until(lambda: not home.exists())
        assert (await refusal(world.svids(socket)))[0] is Status.PERMISSION_DENIED
        world.tasks.withdrawals = Withdrawals()
        assert await world.svids(socket)

    run(act)


def test_a_socket_gives_nothing_before_its_task_is_stored() -> None:
    async def act(world: TaskWorld) -> None:
        start_task, seen = world.tasks.start_task, []

        def look_first(task: object, now: object) -> None:
            (home,) = [entry for entry in (world.directory / "tasks").iterdir() if entry.is_dir()]
            seen.append(asyncio.run_coroutine_threadsafe(refusal(world.svids(f"unix://{home / NAME}")), loop))
            assert seen[0].result(10)[0] is Status.PERMISSION_DENIED
            start_task(task, now)

        loop = asyncio.get_running_loop()
        world.tasks.start_task = look_first
        answer = await world.start()
        assert seen
        assert await world.svids(answer.identity.endpoint_socket)

    run(act)
