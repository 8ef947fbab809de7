"""Asks the file of sessions for the flow, in a thread that is for this alone.

- A session that this process saw within the minute costs no file. What is bound changes no owner, so what was
  true then still is, unless its owner let it go by opening thousands of others.
- A file that waits for a disk keeps no other call waiting but those that ask it; of one owner only so many
  wait, so that whoever sends ids that nobody saw keeps others from nothing.
- What goes wrong with the file is an error with a code of its own: no session, and worth trying again.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

from authz.codes import Code
from authz.errors import AuthenticationError, StoreError
from authz.sessions.port import Owner
from authz.sessions.session_key import is_session_id, owner_key, session_key
from authz.store.sessions import SessionFile
from identity.fair_cache import FairCache

SEEN_SECONDS: Final = 60
MAX_SEEN: Final = 65_536
MAX_SEEN_OF_OWNER: Final = 4096
MAX_WAITING_OF_OWNER: Final = 64

T = TypeVar("T")


class SharedSessions:
    """The sessions of this machine; for one event loop."""

    def __init__(self, file: SessionFile) -> None:
        self._file = file
        # Whose a session was, and when the file said so.
        self._seen: FairCache[bytes, tuple[Owner, float]] = FairCache(MAX_SEEN, MAX_SEEN_OF_OWNER)
        self._waiting: dict[bytes, int] = {}
        # One: the file is written by one at a time.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sessions")

    async def bind(self, service: str, session_id: str, owner: Owner, now: datetime) -> None:
        """See `authz.sessions.port.Sessions.bind`."""
        session, at = session_key(service, session_id), now.timestamp()
        seen = self._seen.get(session)
        if seen is not None and abs(at - seen[1]) < SEEN_SECONDS:
            is_owner = seen[0] == owner
        else:
            if not is_session_id(session_id):
                raise AuthenticationError(Code.SESSION_UNKNOWN, f"no id of a session at {service!r}")
            is_owner = await self._ask(session, owner, now)
            if is_owner:
                self._seen.put(session, (owner, at), owner_key(owner).hex())
        if not is_owner:
            raise AuthenticationError(Code.SESSION_OTHERS, f"a session of somebody else at {service!r}")

    async def sweep(self, now: datetime) -> None:
        """Forget what is of no more use.

        Raises:
            AuthenticationError: if that cannot be done now.
        """
        await self._run(partial(self._file.sweep, now))

    async def _ask(self, session: bytes, owner: Owner, now: datetime) -> bool:
        who = owner_key(owner)
        waiting = self._waiting.get(who, 0)
        if waiting >= MAX_WAITING_OF_OWNER:
            raise AuthenticationError(Code.SESSION_UNKNOWN, f"{waiting} sessions of one owner wait")
        self._waiting[who] = waiting + 1
        try:
            return await self._run(partial(self._file.is_owner, session, who, now))
        finally:
            self._waiting[who] -= 1
            if not self._waiting[who]:
                del self._waiting[who]

    async def _run(self, step: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, step)
        except StoreError as error:
            raise AuthenticationError(Code.SESSION_UNKNOWN, str(error)) from error
