"""Asks the file of pins for the flow and for the lists, in a thread that is for this alone.

- A call of a tool that is what it was costs a look at the file's counter, in a few microseconds; a thread is
  used only after somebody has written, or where a list holds something new.
- What goes wrong with the file is an error with a code of its own: no tool is what it was, for all we know.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import TypeVar

from authz.codes import Code
from authz.errors import PinError, StoreError
from authz.pins.declared import Declared
from authz.pins.known import KnownPins
from authz.pins.port import PinMode
from authz.store.pins import PinFile

T = TypeVar("T")


class SharedPins:
    """The pins of this machine."""

    def __init__(self, file: PinFile) -> None:
        self._file = file
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
            known = await self._run(partial(self._file.learn, service, declared, mode, now))
        return known.hidden(service, declared, mode)

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
