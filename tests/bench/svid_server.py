"""The process whose private sockets are measured: parts of `deputy serve`, with as many tasks as one likes.

- `tasks`: a private socket a task, so each stream has an identity, a key and a certificate of its own, and
  each certificate its record in the audit log and its note in the registry.
- `shared`: one socket of one workload, whose streams all get one certificate.
- `calls`: a socket whose certificates are never the same, so that each answer is minted.
"""

import argparse
import asyncio
import ctypes
import gc
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

from authz.identity_service.recorder import AuditRecorder
from authz.identity_service.task_sockets import SocketBounds, TaskSockets
from identity.caller import Task
from identity.entitlement import Entitlement, Entitlements, HeldSvid, Peer
from identity.key_ring import KeyChange
from identity.names import new_ulid
from identity.socket_connection import SocketLimits
from identity.socket_server import Servicer, SocketServer
from identity.svid_source import IssuingSource, SvidSettings
from identity.workload_api import WorkloadApi
from tests.bench.cores import pin
from tests.bench.grants import AGENTS
from tests.bench.messages import say
from tests.bench.place import HOUR, ISSUER, LEAD, RUNNER, Place, open_place

MANY = 4096
PULSE_SECONDS = 0.005


class OneWorkload:
    """Everybody is the runner."""

    def of(self, peer: Peer) -> tuple[Entitlement, ...]:
        return (Entitlement(RUNNER),)


class NeverTheSame(IssuingSource):
    """Whatever is asked for is made anew: it has another DNS name each time."""

    _number = count()

    async def x509_svid(self, entitlement: Entitlement) -> HeldSvid:
        return await super().x509_svid(replace(entitlement, dns_names=(f"n{next(self._number)}.example",)))


class Pulse:
    """Something else that runs on the loop, as decisions do, and notes how long it had to wait at worst."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def beat(self) -> None:
        while True:
            due = time.monotonic() + PULSE_SECONDS
            await asyncio.sleep(PULSE_SECONDS)
            self.longest = max(self.longest, time.monotonic() - due)


class Sockets:
    """The private sockets of one process."""

    def __init__(self, place: Place, directory: Path, stack: AsyncExitStack) -> None:
        parts = place.parts
        self.place = place
        self.directory = directory
        self.live = parts.authority
        self.source, self.minting = (
            make(
                parts.identity.live,
                parts.identity.known.trust,
                AuditRecorder(parts.broker),
                SvidSettings(jwt_audiences=frozenset({ISSUER})),
                clock=parts.clock,
                chance=random.random,
            )
            for make in (IssuingSource, NeverTheSame)
        )
        # Of one client, who gives up each stream after its first message.
        self.server = SocketServer(SocketLimits(resets=sys.maxsize), changes=self.live.feed)
        stack.push_async_callback(self.server.close)
        self.tasks = TaskSockets.open(
            directory / "tasks",
            self.server,
            services=self._services,
            broker=parts.broker,
            changes=self.live.feed,
            bounds=SocketBounds(per_workload=MANY, in_all=MANY),
        )
        stack.push_async_callback(self.tasks.close)
        self.pulse = Pulse()
        for running in (self.tasks.run(), self.pulse.beat()):
            stack.callback(asyncio.create_task(running).cancel)

    def _services(self, entitlements: Entitlements) -> Sequence[Servicer]:
        return [WorkloadApi(self.source, entitlements)]

    async def open(self, kind: str, number: int) -> list[str]:
        """Return the paths of so many sockets more."""
        if kind == "tasks":
            return [await self._task() for _ in range(number)]
        path = self.directory / f"{kind}.sock"
        if not path.exists():
            source = self.source if kind == "shared" else self.minting
            await self.server.listen(path, [WorkloadApi(source, OneWorkload())], mode=0o600)
        return [str(path)] * number

    async def _task(self) -> str:
        now = self.place.parts.clock()
        task_id = new_ulid(now, os.urandom(10))
        task = Task(task_id, AGENTS[0], LEAD.uri, RUNNER, now, now + timedelta(seconds=HOUR))
        self.place.parts.state.start_task(task, now)
        socket = await self.tasks.make(task, os.getuid())
        await self.tasks.keep(socket)
        return str(socket.path)

    async def rotate(self) -> float:
        """Let a new key sign certificates now, and say when that began."""
        await asyncio.sleep(2 * PULSE_SECONDS)
        self.pulse.longest = 0.0
        began = time.monotonic()
        changes = (KeyChange("prepare", "x509"), KeyChange("activate", "x509"))
        await asyncio.to_thread(self.live.apply, changes, self.place.parts.clock())
        return began


def resident() -> int:
    """Return the bytes of memory in use, without what is free but kept."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize()


def used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def answer(sockets: Sockets, question: dict[str, Any]) -> dict[str, object]:
    match question["do"]:
        case "open":
            return {"paths": await sockets.open(question["kind"], question["number"])}
        case "rotate":
            return {"began": await sockets.rotate()}
        case "memory":
            return {"bytes": resident()}
        case "cpu":
            return {"cpu": used(), "stall": sockets.pulse.longest}
    raise ValueError(question["do"])


async def main(directory: Path) -> None:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        # A short one: the path of a socket has 107 bytes.
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dpt-")))
        place = await stack.enter_async_context(open_place(directory))
        sockets = Sockets(place, home, stack)
        gc.freeze()  # as `deputy serve` does
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            say(await answer(sockets, json.loads(line)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--pinned", action="store_true")
    options = parser.parse_args()
    if options.pinned:
        pin(0)
    asyncio.run(main(options.directory))
