"""Asks the file of pins for the flow and for the lists, in a thread that is for this alone.

- A call of a tool that is what it was costs a look at the file's counter, in a few microseconds; a thread is
  used only after somebody has written, or where a list holds something new.
- A tool that changed has its record before the list is answered in which that was seen, and before each list
  of its service after it: what could not be recorded is tried again, and the tool is denied meanwhile.
- What goes wrong with the file is an error with a code of its own: no tool is what it was, for all we know.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

from authz.codes import Code
from authz.errors import PinError, StoreError
from authz.pins.change import PinChange
from authz.pins.declared import Declared
from authz.pins.known import KnownPins
from authz.pins.port import PinMode
from authz.store.pins import PinFile

T = TypeVar("T")

# Raises AuditError where the record is not written.
Recording = Callable[[PinChange], Awaitable[None]]


class SharedPins:
    """The pins of this machine."""

    def __init__(self, file: PinFile, record: Recording) -> None:
        self._file: Final = file
        self._record = record
        # By service and tool, so that a full disk makes it no longer than there are tools.
        self._unrecorded: dict[tuple[str, str], PinChange] = {}
        # Of each service its own: who changes thousands of tools keeps nobody else's lists waiting.
        self._recording: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        # One: the file is written by one at a time.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pins")

    async def require(self, service: str, tool: str, mode: PinMode) -> None:
        """See `authz.pins.port.Pins.require`."""
        if mode == "off":
            return
        known = await self._known()
        code = known.refusal(service, tool, mode)
        if code is not None:
            raise PinError(code, _why(known, service, tool))

    async def learn(
        self, service: str, declared: Sequence[Declared], mode: PinMode, now: datetime
    ) -> frozenset[str]:
        """See `authz.pins.port.Pins.learn`."""
        if mode == "off":
            return frozenset()
        known = await self._known()
        if known.is_news(service, declared, mode, now):
            known = await self._run(partial(self._file.learn, service, declared, mode, now, self._note))
        await self._record_changes(service)
        return known.hidden(service, declared, mode)

    def _note(self, change: PinChange) -> None:
        """Keep a change until it is recorded; from the thread, so that nobody who hangs up takes it along."""
        self._unrecorded[change.service, change.tool] = change

    async def _record_changes(self, service: str) -> None:
        """Write what is not written yet of a service, by whomever it was seen.

        Raises:
            AuditError: if it cannot be.
        """
        recording = self._recording[service]
        if not self._unrecorded and not recording.locked():
            return
        async with recording:
            for key in [each for each in list(self._unrecorded) if each[0] == service]:
                change = self._unrecorded.pop(key)
                try:
                    await self._record(change)
                except BaseException:
                    # What came meanwhile is newer.
                    self._unrecorded.setdefault(key, change)
                    raise

    async def _known(self) -> KnownPins:
        try:
            known = self._file.current()
        except StoreError as error:
            raise PinError(Code.PINS_UNKNOWN, str(error)) from error
        return known if known is not None else await self._run(self._file.load)

    async def _run(self, step: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, step)
        except StoreError as error:
            raise PinError(Code.PINS_UNKNOWN, str(error)) from error


def _why(known: KnownPins, service: str, tool: str) -> str:
    """Say by which hashes; a name is what the policy allowed already."""
    pin = known.of(service).get(tool)
    if pin is None:
        return f"{service}/{tool} is not known here"
    accepted = f"accepted {pin.accepted.digest}" if pin.accepted is not None else "nothing accepted"
    seen = pin.drift or pin.seen
    return f"{service}/{tool}: {accepted}, seen {seen.digest if seen is not None else 'nothing'}"
