"""A socket for each task, private to it, for as long as the task lives.

- It lies in a directory with a random name of 128 bits, below one that nobody else can list. Who may talk
  there is decided by the caller's uid (`OneTask`), for a system shows the paths of its sockets to everybody.
- When the task ends, or its deadline passes, the streams end with PermissionDenied, and then the socket goes.
  While it is contained, they end so, too, and nobody gets anything there; the socket stays, for a release.
- At shutdown all of them go. What a process that crashed has left is removed at the next start, which a lock
  keeps from being that of a second process beside the first.
- After a restart a task that lives on has no socket, until it is renewed.
- Sockets are bounded, for each workload and in all.
- A directory that the agent's user could never pass to is said, before an agent finds it out.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from google.protobuf.descriptor import FileDescriptor

from authz.broker.deps import Broker
from authz.broker.refusal import refuse
from authz.codes import Code
from authz.identity_service.entitlements import OneTask, is_over
from identity.caller import Task
from identity.entitlement import Entitlements
from identity.errors import SocketError
from identity.feed import Feed
from identity.socket_server import Servicer, SocketServer
from identity.spiffe import SpiffeId
from identity.unix_socket import EVERYONE, MAX_PATH

NAME: Final = "api.sock"
RANDOM_BYTES: Final = 16
# Others may pass through, to a path that they know; they may neither list nor write.
_MODE: Final = 0o711
_LOCK: Final = ".lock"
_LOG: Final = logging.getLogger(__name__)
_DIRECTORY: Final = re.compile(r"[0-9a-f]{32}")
_TICK_SECONDS: Final = 1.0

Services = Callable[[Entitlements], Sequence[Servicer]]
"""What is served on a socket to those who are entitled there."""


@dataclass(frozen=True, slots=True)
class SocketBounds:
    """How many sockets there may be; how long streams have to end before their socket goes."""

    per_workload: int = 50
    in_all: int = 1000
    grace_seconds: float = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class TaskSocket:
    """A socket of a task that is about to start, is renewed, or lives."""

    task_id: str
    workload: SpiffeId
    path: Path
    sockets: "TaskSockets" = field(repr=False)

    @property
    def address(self) -> str:
        """The value of SPIFFE_ENDPOINT_SOCKET (SPIFFE Workload Endpoint section 4)."""
        return f"unix://{self.path}"

    async def keep(self) -> None:
        """Let it be the socket of its task; the one that the task had goes."""
        await self.sockets.keep(self)

    async def drop(self) -> None:
        """Remove it: its task did not start, or was not renewed."""
        await self.sockets.drop(self)


class TaskSockets:
    """The private sockets of all tasks; made by `open`."""

    def __init__(
        self,
        directory: Path,
        lock: int,
        server: SocketServer,
        *,
        services: Services,
        broker: Broker,
        changes: Feed,
        files: Iterable[FileDescriptor],
        bounds: SocketBounds,
    ) -> None:
        self._directory = directory
        self._lock = lock
        self._server = server
        self._services = services
        self._broker = broker
        self._changes = changes
        self._files = tuple(files)
        self._bounds = bounds
        self._pending: set[TaskSocket] = set()
        self._kept: dict[str, TaskSocket] = {}
        self._leaving: dict[TaskSocket, asyncio.Task[None]] = {}
        self._is_closed = False

    @classmethod
    def open(
        cls,
        directory: Path,
        server: SocketServer,
        *,
        services: Services,
        broker: Broker,
        changes: Feed,
        files: Iterable[FileDescriptor] = (),
        bounds: SocketBounds = SocketBounds(),
    ) -> "TaskSockets":
        """Take a directory, and remove what a process that crashed has left there.

        Raises:
            SocketError: if others could get at the directory, another process uses it, or its path is long.
        """
        directory = directory.absolute()
        longest = directory / ("0" * 2 * RANDOM_BYTES) / NAME
        if (over := len(os.fsencode(longest)) - MAX_PATH) > 0:
            raise SocketError(
                f"the path of task_sockets is {over} bytes too long, a socket's path may have {MAX_PATH}: "
                f"{str(directory)!r}"
            )
        lock = _own(directory)
        _remove_stale(directory)
        return cls(
            directory,
            lock,
            server,
            services=services,
            broker=broker,
            changes=changes,
            files=files,
            bounds=bounds,
        )

    async def make(self, task: Task, uid: int) -> TaskSocket:
        """Serve a task's identity to one uid; it has none before the task is in the registry.

        Raises:
            RefusedError: if there are too many sockets.
            SocketError: if it cannot be made.
        """
        self._check_room(task)
        self._check_way(uid)
        # 128 random bits are drawn once a socket, so two of one name mean a broken source: mkdir refuses.
        home = self._directory / self._broker.entropy(RANDOM_BYTES).hex()
        made = TaskSocket(task.id, task.workload, home / NAME, self)
        self._pending.add(made)
        try:
            _make_directory(home)
            services = self._services(OneTask(task.id, uid, self._broker))
            await self._server.listen(made.path, services, files=self._files, mode=EVERYONE)
            if self._is_closed:
                raise SocketError("the service stopped while the socket was made")
        except BaseException:
            await self.drop(made)
            raise
        return made

    async def keep(self, socket: TaskSocket) -> None:
        """Let this be the socket of its task; the one that the task had goes."""
        self._pending.discard(socket)
        before = self._kept.get(socket.task_id)
        self._kept[socket.task_id] = socket
        if before is not None:
            await self.drop(before)

    async def drop(self, socket: TaskSocket) -> None:
        """Remove a socket now."""
        self._pending.discard(socket)
        await self._server.close_socket(socket.path)
        _remove_home(socket.path.parent)

    async def release(self, task_id: str) -> None:
        """Remove the socket of a task that has its identity elsewhere now."""
        socket = self._kept.pop(task_id, None)
        if socket is not None:
            await self.drop(socket)

    async def run(self) -> None:
        """Remove the sockets of tasks that are over; until it is cancelled."""
        while True:
            seen, pause = self._changes.version, _TICK_SECONDS
            try:
                self._part_from_the_dead()
                pause = self._next_look()
            except Exception as error:  # noqa: BLE001 - a fault that nobody foresaw must not end the duty for good
                _LOG.warning("sockets of tasks that are over cannot be found: %s", type(error).__name__)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changes.wait(seen)

    async def close(self) -> None:
        """Remove every socket, make no other, and let others have the directory; once."""
        if self._is_closed:
            return
        self._is_closed = True
        leaving = tuple(self._leaving.values())
        for parting in leaving:
            parting.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        for socket in (*self._pending, *self._kept.values(), *self._leaving):
            await self.drop(socket)
        self._kept.clear()
        self._leaving.clear()
        os.close(self._lock)

    def _check_room(self, task: Task) -> None:
        others = [socket for socket in (*self._pending, *self._kept.values()) if socket.task_id != task.id]
        renewed = any(socket.task_id == task.id for socket in self._pending)
        own = sum(socket.workload == task.workload for socket in others)
        if self._is_closed:
            text = "the service is stopping: try again later"
        elif renewed:
            text = "this task is being renewed already"
        elif own >= self._bounds.per_workload:
            text = f"this workload has {own} tasks with a private socket, which is the most: end some"
        elif len(others) + len(self._leaving) >= self._bounds.in_all:
            text = "there are as many private sockets as there may be: try again later"
        else:
            return
        raise refuse(Code.OVERLOADED, text, description=text)

    def _check_way(self, uid: int) -> None:
        """See that a user can pass to the directory, as far as the modes on its way say."""
        if uid in {0, os.geteuid()}:
            return
        for step in self._directory.parents:
            if not step.stat().st_mode & (stat.S_IXGRP | stat.S_IXOTH):
                text = (
                    f"uid {uid} cannot pass through the directory of the private sockets: an operator sets "
                    "identity.task_sockets to one outside of data_dir"
                )
                raise refuse(Code.INTERNAL, f"{text} ({str(step)!r})", description=text)

    def _part_from_the_dead(self) -> None:
        over = [socket for task_id, socket in self._kept.items() if is_over(task_id, self._broker)]
        for socket in over:
            del self._kept[socket.task_id]
            self._leaving[socket] = asyncio.create_task(self._part(socket))
        if over:
            # A deadline that passes changes nothing that anybody would publish; streams look at it now.
            self._changes.publish()

    async def _part(self, socket: TaskSocket) -> None:
        """Let the streams end themselves first: their callers then know why."""
        await asyncio.sleep(self._bounds.grace_seconds)
        await self.drop(socket)
        self._leaving.pop(socket, None)

    def _next_look(self) -> float:
        """Wait for the nearest deadline; but not for long, as the clock of the day may jump."""
        now, tasks = self._broker.clock(), self._broker.tasks
        known = (tasks.task(task_id) for task_id in self._kept)
        left = [(task.deadline - now).total_seconds() for task in known if task is not None]
        return min([_TICK_SECONDS, *(max(seconds, 0.0) for seconds in left)])


def _own(directory: Path) -> int:
    """Make the directory ours alone, and return the lock that says so."""
    try:
        _make_directory(directory, exist_ok=True)
        state = directory.lstat()
        if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o066:
            text = f"{str(directory)!r} must be a directory of ours that others can neither list nor write"
            raise SocketError(f"{text}: chmod {_MODE:o}")
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SocketError(f"task_sockets {str(directory)!r} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise SocketError(f"task_sockets {str(directory)!r} is in use by another process") from error
    return lock


def _make_directory(directory: Path, *, exist_ok: bool = False) -> None:
    made = not directory.exists()
    directory.mkdir(mode=0o700, exist_ok=exist_ok)
    if made:
        # The umask may have closed what others must pass through.
        directory.chmod(_MODE)


def _remove_stale(directory: Path) -> None:
    """Remove the directories of sockets that nobody serves any more, and nothing else."""
    for home in directory.iterdir():
        if _DIRECTORY.fullmatch(home.name) and not home.is_symlink():
            _remove_home(home)


def _remove_home(home: Path) -> None:
    with contextlib.suppress(OSError):
        (home / NAME).unlink(missing_ok=True)
        home.rmdir()
