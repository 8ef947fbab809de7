"""Asks the file of sessions for the flow, in a thread that is for this alone.

- A session that this process saw within the minute costs no file. What is bound changes no owner, so what was
  true then still is, unless its owner let it go by opening thousands of others.
- What is to be asked while the file waits for its disk is asked together, in one transaction; of one owner
  only so much waits. So whoever sends ids that nobody saw keeps others from nothing.
- What goes wrong with the file is an error with a code of its own: no session, and worth trying again.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from authz.codes import Code
from authz.errors import AuthenticationError, StoreError
from authz.sessions.port import Owner
from authz.sessions.session_key import is_session_id, owner_key, session_key
from authz.store.sessions import Presented, SessionFile, Whose
from identity.fair_cache import FairCache

SEEN: Final = timedelta(seconds=60)
MAX_SEEN: Final = 65_536
MAX_SEEN_OF_OWNER: Final = 4096
MAX_WAITING_OF_OWNER: Final = 64


class SharedSessions:
    """The sessions of this machine; for one event loop."""

    def __init__(self, file: SessionFile, seen: timedelta = SEEN) -> None:
        """Take the file, and for how long it is not asked again about one session."""
        self._file = file
        self._seen_for = seen
        # Whose a session was, and since and until when that counts.
        self._seen: FairCache[bytes, tuple[Owner, datetime, datetime]] = FairCache(
            MAX_SEEN, MAX_SEEN_OF_OWNER
        )
        self._asked: list[tuple[Presented, asyncio.Future[Whose]]] = []
        self._answering: asyncio.Task[None] | None = None
        # How many of whom wait for an answer.
        self._waiting: dict[bytes, int] = {}
        # One: the file is written by one at a time.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sessions")

    async def bind(self, service: str, session_id: str, owner: Owner, now: datetime) -> None:
        """See `authz.sessions.port.Sessions.bind`."""
        session = session_key(service, session_id)
        seen = self._seen.get(session)
        if seen is not None and seen[1] <= now < seen[2]:
            whose: Whose = "own" if seen[0] == owner else "others"
        elif is_session_id(session_id):
            whose = await self._ask(session, owner, now)
        else:
            raise AuthenticationError(Code.SESSION_UNKNOWN, f"no id of a session at {service!r}")
        if whose == "others":
            raise AuthenticationError(Code.SESSION_OTHERS, f"a session of somebody else at {service!r}")
        if whose == "full":
            raise AuthenticationError(
                Code.SESSION_UNKNOWN, "no room for one more: all were used within a day"
            )

    async def sweep(self, now: datetime) -> None:
        """Forget what is of no more use.

        Raises:
            AuthenticationError: if that cannot be done now.
        """
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._file.sweep, now)
        except StoreError as error:
            raise _unknown(error) from error

    async def _ask(self, session: bytes, owner: Owner, now: datetime) -> Whose:
        who = owner_key(owner)
        waiting = self._waiting.get(who, 0)
        if waiting >= MAX_WAITING_OF_OWNER:
            raise AuthenticationError(Code.SESSION_UNKNOWN, f"{waiting} sessions of one owner wait")
        self._waiting[who] = waiting + 1
        try:
            whose = await self._soon(Presented(session, who, int(now.timestamp())))
        finally:
            self._waiting[who] -= 1
            if not self._waiting[who]:
                del self._waiting[who]
        if whose == "own":
            self._seen.put(session, (owner, now, now + self._seen_for), who.hex())
        return whose

    async def _soon(self, presented: Presented) -> Whose:
        """Ask with whatever else is to be asked by then."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Whose] = loop.create_future()
        self._asked.append((presented, answer))
        if self._answering is None:
            self._answering = loop.create_task(self._answer())
        return await answer

    async def _answer(self) -> None:
        try:
            while self._asked:
                asked, self._asked = self._asked, []
                await self._answer_these(asked)
        finally:
            self._answering = None

    async def _answer_these(self, asked: list[tuple[Presented, "asyncio.Future[Whose]"]]) -> None:
        bind = partial(self._file.bind, [presented for presented, _ in asked])
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, bind)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait forever
            for _, answer in asked:
                if not answer.done():
                    answer.set_exception(_unknown(error))
        else:
            for (_, answer), whose in zip(asked, found, strict=True):
                if not answer.done():
                    answer.set_result(whose)


def _unknown(error: Exception) -> AuthenticationError:
    unknown = AuthenticationError(
        Code.SESSION_UNKNOWN, str(error) if isinstance(error, StoreError) else type(error).__name__
    )
    unknown.__cause__ = error
    return unknown
