"""Telling others of withdrawals: two tasks for each receiver, behind the withdrawal and never before it.

- A withdrawal is told after it is in effect here; nothing that a receiver does or leaves delays one, and no
  receiver delays another.
- Each receiver is told all that is for it, at least once: how far it was told is kept on disk after the
  receiver took it, and what is told twice has the `jti` of the first time.
- What is said of tokens and what is said of people go in order each, and neither waits for the other: whoever
  revokes tokens without end delays nobody who is contained.
- What is not taken is pushed again after a second, then two, then four, up to five minutes. What a receiver
  refuses for a reason of its own is given up after five times; anything else, a day after the withdrawal, or
  when the token that it is about is over by itself.
- Every event that was taken or given up leaves one record. Where that cannot be written, the next waits.
- Memory holds a few withdrawals a receiver: the rest is asked for when it is their turn.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from authz.audit.entry import security_event
from authz.audit.facts import EventFacts
from authz.audit.sink import Sink
from authz.broker.event_cursor import Cursor
from authz.broker.event_push import Pusher, PushError, PushRefusedError, Receiver
from authz.broker.event_signal import LANES, Lane, Signal, event_of, is_told
from authz.errors import AuthzError
from identity.errors import IdentityError
from identity.security_event import SecurityEvent

FIRST_PAUSE_SECONDS: Final = 1.0
MAX_PAUSE_SECONDS: Final = 300.0
MAX_REFUSALS: Final = 5
GIVE_UP_AFTER: Final = timedelta(days=1)
LOOK_EVERY_SECONDS: Final = 1.0

_BATCH: Final = 32
_MOST_COUNTED: Final = 1000
_LOG = logging.getLogger(__name__)

# The withdrawals after a number, in order, at most so many; called in a thread, it may raise StoreError.
Signals = Callable[[int, int], Sequence[Signal]]
Sign = Callable[[SecurityEvent, str], str]
Sleep = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Status:
    """How one receiver is doing; `waiting` counts to a thousand, `last_error` is empty when all is well."""

    receiver: str  # its audience
    last_delivered: datetime | None = None
    waiting: int = 0
    given_up: int = 0
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class Outside:
    """What telling takes besides a receiver; `sleep` is called with every pause."""

    issuer: str
    signals: Signals
    sign: Sign
    sink: Sink
    clock: Callable[[], datetime]
    new_id: Callable[[datetime], str]
    sleep: Sleep = asyncio.sleep


class Outbox:
    """All receivers."""

    def __init__(
        self, receivers: Iterable[Receiver], cursor_of: Callable[[Receiver, Lane], Cursor], outside: Outside
    ) -> None:
        """Take the receivers; nothing is read or sent yet.

        Raises:
            ConfigError: if the address of one is not one that we push to.
        """
        # A connection for each lane: one that hangs would hold up the other.
        self._receivers = tuple(
            tuple(_Delivery(one, lane, Pusher(one), cursor_of(one, lane), outside) for lane in LANES)
            for one in receivers
        )

    async def run(self) -> None:
        """Tell all of them, until this is cancelled."""
        tasks = [asyncio.create_task(delivery.run()) for lanes in self._receivers for delivery in lanes]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """Say that there may be something to tell; call it in the event loop, after a withdrawal."""
        for lanes in self._receivers:
            for delivery in lanes:
                delivery.wake()

    async def status(self) -> tuple[Status, ...]:
        """Return how each receiver is doing, for an operator.

        Raises:
            StoreError: if it cannot be read what is waiting.
        """
        return tuple([_joined([await each.status() for each in lanes]) for lanes in self._receivers])


def _joined(lanes: Sequence[Status]) -> Status:
    """Return how one receiver is doing, of all its lanes."""
    delivered = [one.last_delivered for one in lanes if one.last_delivered is not None]
    return Status(
        lanes[0].receiver,
        max(delivered, default=None),
        min(sum(one.waiting for one in lanes), _MOST_COUNTED),
        sum(one.given_up for one in lanes),
        next((one.last_error for one in lanes if one.last_error), ""),
    )


class _Delivery:
    """What is told to one receiver in one lane."""

    def __init__(
        self, receiver: Receiver, lane: Lane, pusher: Pusher, cursor: Cursor, outside: Outside
    ) -> None:
        self._receiver, self._lane = receiver, lane
        self._pusher = pusher
        self._cursor = cursor
        self._outside = outside
        self._told: int | None = None
        self._status = Status(receiver.audience)
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def status(self) -> Status:
        if self._told is None:
            return self._status
        waiting = await asyncio.to_thread(self._outside.signals, self._told, _MOST_COUNTED)
        return replace(self._status, waiting=sum(map(self._is_told, waiting)))

    async def run(self) -> None:
        """Tell what is to be told, for ever; whatever fails is tried again."""
        pause = FIRST_PAUSE_SECONDS
        try:
            while True:
                try:
                    await self._tell_all()
                    pause = FIRST_PAUSE_SECONDS
                    await self._rest()
                except Exception as error:  # noqa: BLE001 - a fault that nobody foresaw must not end this for good
                    self._failed(error)
                    await self._outside.sleep(pause)
                    pause = min(2 * pause, MAX_PAUSE_SECONDS)
        finally:
            await self._pusher.close()

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY_SECONDS):
                await self._woken.wait()
        self._woken.clear()

    async def _tell_all(self) -> None:
        if self._told is None:
            self._told = await asyncio.to_thread(self._cursor.load)
        while True:
            batch = await asyncio.to_thread(self._outside.signals, self._told, _BATCH)
            if not batch or batch[-1].number <= self._told:
                return
            for signal in filter(self._is_told, batch):
                await self._tell(signal)
                await self._keep(signal.number)
            if self._told < batch[-1].number:
                await self._keep(batch[-1].number)

    async def _tell(self, signal: Signal) -> None:
        """Push one event until it is taken or given up, then record which."""
        now = self._outside.clock()
        event = event_of(signal, self._outside.issuer, self._receiver.audience, int(now.timestamp()))
        pause, refusals, tries = FIRST_PAUSE_SECONDS, 0, 0
        while True:
            tries += 1
            try:
                await self._pusher.push(self._outside.sign(event, self._receiver.audience))
            except (PushError, IdentityError) as error:
                self._failed(error)
                refusals += isinstance(error, PushRefusedError)
                later = self._outside.clock()
                is_late = later - signal.withdrawal.at > GIVE_UP_AFTER or signal.is_over(later)
                if is_late or refusals >= MAX_REFUSALS:
                    self._status = replace(self._status, given_up=self._status.given_up + 1)
                    await self._record("given-up", event, f"{error}; tried {tries} times")
                    return
                await self._outside.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE_SECONDS)
            else:
                self._status = replace(self._status, last_delivered=self._outside.clock(), last_error="")
                await self._record("sent", event, f"tried {tries} times" if tries > 1 else "")
                return

    async def _record(self, outcome: Literal["sent", "given-up"], event: SecurityEvent, detail: str) -> None:
        """Write the record of an event; until that is possible, the event is not done with."""
        facts = EventFacts(
            outcome=outcome,
            event=event.type_uri,
            party=self._receiver.audience,
            jti=event.jti,
            human=event.person,
            txn=event.txn,
            detail="; ".join(filter(None, (str(event.session or ""), detail))),
        )
        outside = self._outside

        async def append(now: datetime) -> None:
            await outside.sink.append(security_event(facts, outside.new_id(now), now))

        await self._insist(append)

    async def _keep(self, number: int) -> None:
        """Keep how far the receiver was told."""
        await self._insist(lambda _now: asyncio.to_thread(self._cursor.store, number))
        self._told = number

    async def _insist(self, step: Callable[[datetime], Awaitable[object]]) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                await step(self._outside.clock())
            except AuthzError as error:
                self._failed(error)
                await self._outside.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE_SECONDS)
            else:
                return

    def _is_told(self, signal: Signal) -> bool:
        is_worth_it = signal.lane == self._lane and not signal.is_over(self._outside.clock())
        return is_worth_it and is_told(signal, self._receiver.issuers)

    def _failed(self, error: Exception) -> None:
        # The message of an error that is not ours could quote the other side.
        text = str(error) if isinstance(error, AuthzError | IdentityError) else type(error).__name__
        self._status = replace(self._status, last_error=text)
        _LOG.warning("security events to %s: %s", self._receiver.audience, text)
