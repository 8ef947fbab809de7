"""The policy that speaks now, and the next one: reloaded while running, all or nothing.

- A changed grants file is read whole, checked whole, loaded whole; only then does it speak, after its record
  is written. A bad one changes nothing, and is recorded once.
- A question is answered by one policy from beginning to end: a swap is one assignment, and a question that
  it overtakes on an engine elsewhere is asked anew.
- The file is looked at by time and size, so an idle second costs one `stat`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, TypeVar

from authz.audit.facts import PolicyFacts
from authz.errors import AuthzError, GrantsError, PolicyRevisionError
from authz.policy.grants import MAX_BYTES, Grants
from authz.policy.port import Policy, Query
from authz.policy.verdict import Verdict

Record = Callable[[PolicyFacts], Awaitable[None]]
"""Writes the record of a change; raises AuditError, and then nothing changes."""

Load = Callable[[Grants], "Engine"]
"""Makes an engine of new grants; raises an AuthzError if that cannot be."""

Answer = TypeVar("Answer")

_NEVER: Final = (-1, -1)
# How often one question may be overtaken by a swap; a file is looked at once a second.
_OVERTAKEN: Final = 3


class Engine(Policy, Protocol):
    """A policy that can be asked whether it answers, and be let go."""

    def tool_names(self, service: str) -> tuple[str, ...]:
        """Return the names of the tools that this service offers."""

    @property
    def ready(self) -> bool:
        """Say whether it would answer."""

    async def activate(self) -> None:
        """Begin to answer; raises an AuthzError if it never will."""

    async def maintain(self) -> None:
        """Do what keeps it answering; called each second."""

    async def close(self) -> None:
        """Let go what it holds."""


@dataclass(slots=True)
class LivePolicy:
    """The engine that speaks, the file it came from, and how to make the next; made by `open`."""

    path: Path
    load: Load
    record: Record
    _engine: Engine
    _stamp: tuple[int, int]

    @classmethod
    async def open(cls, path: Path, load: Load, record: Record) -> "LivePolicy":
        """Read the grants and make the first engine.

        Raises:
            AuthzError: if the grants or the policy are wrong, or the record cannot be written.
        """
        stamp = _stamp(path)
        engine = load(read_grants(path))
        await record(PolicyFacts(change="loaded", revision=engine.revision))
        await engine.activate()
        return cls(path, load, record, engine, stamp)

    @property
    def revision(self) -> str:
        """Name policy and data that the next answer will come from."""
        return self._engine.revision

    @property
    def ready(self) -> bool:
        """Say whether the engine would answer."""
        return self._engine.ready

    def payload_classes(self, service: str) -> frozenset[str]:
        """Return the classes of data that have a rule on this service, by the engine that speaks now."""
        return self._engine.payload_classes(service)

    def tool_names(self, service: str) -> tuple[str, ...]:
        """Return the names of the tools that this service offers, by the engine that speaks now."""
        return self._engine.tool_names(service)

    async def decide(self, query: Query) -> Verdict:
        """Ask the engine that speaks now.

        Raises:
            CodedError: as the engine does.
        """
        return await self._ask(query, lambda engine: engine.decide(query))

    async def visible(self, query: Query) -> frozenset[str]:
        """Ask the engine that speaks now about a list.

        Raises:
            CodedError: as the engine does.
        """
        return await self._ask(query, lambda engine: engine.visible(query))

    async def _ask(self, query: Query, ask: Callable[[Engine], Awaitable[Answer]]) -> Answer:
        for _ in range(_OVERTAKEN):
            engine = self._engine
            try:
                return await ask(engine)
            except PolicyRevisionError:
                # Asked anew only if the next engine began to speak while this question was on its way, and
                # only where nothing else would have been looked for in what is sent.
                if self._engine is engine or _looks_further(self._engine, engine, query):
                    raise
        return await ask(self._engine)

    async def reload(self) -> Literal["unchanged", "loaded", "refused"]:
        """Take the grants again if the file changed; a bad file is recorded, and the last good one stays.

        Raises:
            AuditError: if the change cannot be recorded; it is tried again.
        """
        stamp = _stamp(self.path)
        if stamp == self._stamp:
            await self._engine.maintain()
            return "unchanged"
        before = self._engine
        try:
            # In a thread: reading and checking takes some tenths of a second, and calls go on meanwhile.
            engine = await asyncio.to_thread(self._next)
        except AuthzError as error:
            await self.record(
                PolicyFacts(change="refused", revision=None, previous=before.revision, detail=str(error))
            )
            self._stamp = stamp
            return "refused"
        await self.record(PolicyFacts(change="loaded", revision=engine.revision, previous=before.revision))
        self._stamp = stamp
        return await self._swap(before, engine)

    async def _swap(self, before: Engine, engine: Engine) -> Literal["loaded", "refused"]:
        """Let the new engine speak, and the old one again if the new one never will."""
        await before.close()
        self._engine = engine
        try:
            await engine.activate()
        except AuthzError as error:
            await engine.close()
            self._engine = before
            await before.activate()
            await self.record(
                PolicyFacts(
                    change="refused", revision=engine.revision, previous=before.revision, detail=str(error)
                )
            )
            return "refused"
        return "loaded"

    def _next(self) -> Engine:
        return self.load(read_grants(self.path))

    async def close(self) -> None:
        """Let the engine go."""
        await self._engine.close()


def _looks_further(now: Policy, before: Policy, query: Query) -> bool:
    match query:
        case {"phase": "visible"}:  # of a list nothing is sent
            return False
        case {"resource": {"service": str(service)}}:
            return not now.payload_classes(service) <= before.payload_classes(service)
        case _:
            return False


def read_grants(path: Path) -> Grants:
    """Read a grants file.

    Raises:
        GrantsError: if it cannot be read, or is wrong; the sentence names the file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise GrantsError(f"cannot read the grants {str(path)!r}: {error.strerror}") from error
    try:
        return Grants.parse(data)
    except GrantsError as error:
        raise GrantsError(f"{path.name}: {error}") from error


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return _NEVER
    return status.st_mtime_ns, status.st_size
