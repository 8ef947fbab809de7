"""The steps of the authority's keys, by the clock and by an operator: one writer, a record before each.

- A step that cannot be recorded is not taken; one that fails after its record leaves a second record.
- One step at a time, whoever asked. Who goes away in the middle of one does not stop it halfway.
- A key takes over when it has been published for as long as the settings say; for an emergency, half a second
  after it was published. The wait is by a clock that nobody can set.
- The disk and the device that keep keys are never waited for in the event loop.
- What failed by the clock is tried again a little later, not each second: a device that is gone fills no log.
- The clock's turn is short: a device that hangs holds up no other duty of whoever calls `tick`.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, Protocol, TypeVar

from authz.audit.facts import KeyFacts
from identity.authority import Authority
from identity.errors import AuthorityStateError, IdentityError
from identity.key_ring import MAX_SLOTS, KeyChange, KeyRing, KeySlot, Role
from identity.live_authority import AuthoritySettings

EMERGENCY_LEAD: Final = timedelta(milliseconds=500)
BY_CLOCK: Final = "clock"
_RETRY_SECONDS: Final = 30.0
_PATIENCE_SECONDS: Final = 5.0
# So often a wait says how far it is, which also finds out whether anybody still listens.
_PROGRESS_SECONDS: Final = 1.0

# Two places stay free, so that the clock can always prepare and never waits for an operator.
_MAX_BY_HAND: Final = MAX_SLOTS - 2

_Result = TypeVar("_Result")
KeyRecorder = Callable[[KeyFacts], Awaitable[None]]
Clock = Callable[[], datetime]


class Keys(Protocol):
    """The live authority, as far as its steps are concerned."""

    settings: AuthoritySettings

    @property
    def current(self) -> Authority:
        """The authority as it is now."""

    def due(self, now: datetime) -> tuple[KeyChange, ...]:
        """Return the steps that time asks for."""

    def check(self, change: KeyChange, *, force: bool = False) -> None:
        """Refuse a step that the state does not allow."""

    def apply(self, changes: Iterable[KeyChange], now: datetime, *, force: bool = False) -> None:
        """Take steps; blocks for the disk."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the rotation of one role is; `seconds_left` is 0 once the key is active."""

    role: Role
    slot: KeySlot
    seconds_left: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A key that takes over at a moment of the monotonic clock."""

    role: Role
    kid: str
    at: float


class Rotation:
    """All steps of all keys."""

    def __init__(
        self,
        keys: Keys,
        record: KeyRecorder,
        clock: Clock,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        patience: float = _PATIENCE_SECONDS,
    ) -> None:
        """Look after some keys; `record` raises what keeps a step from being taken."""
        self._keys = keys
        self._record = record
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._patience = patience
        self._writing = asyncio.Lock()
        self._not_before: dict[Role, float] = {}

    @property
    def keys(self) -> Keys:
        """What the steps are about."""
        return self._keys

    async def tick(self) -> None:
        """Take the steps that time asks for; one role that fails holds up no other.

        Raises:
            AuditError: if a step cannot be recorded.
            IdentityError: if a step fails.
        """
        problem: Exception | None = None
        if self._writing.locked():
            return  # a step is under way; what is due comes in its turn
        for role in {change.role: None for change in self._keys.due(self._clock())}:
            if self._monotonic() < self._not_before.get(role, 0.0):
                continue
            try:
                async with asyncio.timeout(self._patience):
                    await finish(self._tick(role))
            except TimeoutError:
                # It goes on, and holds the lock; no other role could take a step before it ends.
                message = f"a step of the keys of role {role!r} hangs: is the device that keeps them there?"
                raise AuthorityStateError(message) from None
            except Exception as error:  # noqa: BLE001 - told below, after the other roles had their turn
                self._not_before[role] = self._monotonic() + _RETRY_SECONDS
                problem = problem or error
        if problem is not None:
            raise problem

    async def rotate(self, roles: Sequence[Role], *, now: bool, by: str) -> AsyncGenerator[Progress, None]:
        """Publish the next keys of some roles, wait, and let them take over; tell how far it is.

        Raises:
            AuditError: if a step cannot be recorded.
            AuthorityStateError: if there are no such keys here, or somebody else changed them meanwhile.
            KeyMaterialError: if a key cannot be made or kept.
        """
        waiting = [await finish(self._publish(role, by, now=now)) for role in roles]
        while waiting:
            for one in list(waiting):
                left = one.at - self._monotonic()
                active = self._ring(one.role).active
                if active is not None and active.kid == one.kid:
                    waiting.remove(one)  # the clock was faster, or another operator
                    yield Progress(one.role, active, 0)
                elif left <= 0:
                    waiting.remove(one)
                    yield Progress(one.role, await finish(self._take_over(one, by)), 0)
                else:
                    yield Progress(one.role, self._prepared(one), max(1, round(left)))
            if waiting:
                soonest = min(one.at for one in waiting) - self._monotonic()
                await self._sleep(min(_PROGRESS_SECONDS, max(soonest, 0.0)))

    async def taint(self, kid: str, by: str) -> KeySlot:
        """Mark a key that signs no more, so that what it signed is replaced.

        Raises:
            AuditError: if that cannot be recorded.
            AuthorityStateError: if there is no such key, or it still signs.
            KeyMaterialError: if that cannot be kept.
        """
        return await finish(self._step_of_key("taint", kid, by, force=False))

    async def revoke(self, kid: str, by: str, *, force: bool) -> KeySlot:
        """Take a key out of what is published.

        Raises:
            AuditError: if that cannot be recorded.
            AuthorityStateError: if there is no such key, it signs, or (without `force`) is not tainted.
            KeyMaterialError: if that cannot be kept.
        """
        return await finish(self._step_of_key("revoke", kid, by, force=force))

    async def _tick(self, role: Role) -> None:
        async with self._writing:
            # Asked again: an operator may have been faster.
            for change in self._keys.due(self._clock()):
                if change.role == role:
                    await self._step(change, BY_CLOCK)

    async def _publish(self, role: Role, by: str, *, now: bool) -> _Waiting:
        async with self._writing:
            if self._ring(role).prepared is None:
                if len(self._ring(role).slots) >= _MAX_BY_HAND:
                    raise AuthorityStateError(
                        f"{_MAX_BY_HAND} keys of role {role!r} are published: taint and revoke old ones first"
                    )
                await self._step(KeyChange("prepare", role), by)
            slot = self._ring(role).prepared
            if slot is None:
                raise AuthorityStateError(f"the prepared key of role {role!r} vanished: try again")
            lead = EMERGENCY_LEAD if now else self._keys.settings.life.lead
            # A clock that was set back since must not make this longer than the lead.
            left = min(max(slot.published_at + lead - self._clock(), timedelta()), lead)
            return _Waiting(role, slot.kid, self._monotonic() + left.total_seconds())

    async def _take_over(self, waiting: _Waiting, by: str) -> KeySlot:
        async with self._writing:
            active = self._ring(waiting.role).active
            if active is None or active.kid != waiting.kid:
                slot = self._prepared(waiting)
                await self._step(KeyChange("activate", waiting.role, slot.kid), by)
            active = self._ring(waiting.role).active
        if active is None or active.kid != waiting.kid:
            raise AuthorityStateError(f"the key {waiting.kid!r} did not take over: try again")
        return active

    async def _step_of_key(
        self, action: Literal["taint", "revoke"], kid: str, by: str, *, force: bool
    ) -> KeySlot:
        async with self._writing:
            rings = self._keys.current.rings
            slot = next((found for ring in rings.values() if (found := ring.find(kid))), None)
            if slot is None:
                raise AuthorityStateError(
                    f"no key {kid[:64]!r}: 'deputy identity status' lists those there are"
                )
            change = KeyChange(action, slot.role, slot.kid)
            await self._step(change, by, force=force)
            return slot

    async def _step(self, change: KeyChange, by: str, *, force: bool = False) -> None:
        """Check one step, record it, take it; the caller holds the lock."""
        self._keys.check(change, force=force)
        kid = change.kid
        if change.action == "activate" and (slot := self._ring(change.role).prepared) is not None:
            kid = slot.kid
        forced = "not tainted before" if force and change.action == "revoke" else ""
        await self._record(KeyFacts(change=change.action, role=change.role, kid=kid, by=by, detail=forced))
        try:
            await asyncio.to_thread(self._keys.apply, (change,), self._clock(), force=force)
        except IdentityError as error:
            await self._record(
                KeyFacts(
                    change=change.action,
                    role=change.role,
                    kid=kid,
                    outcome="failed",
                    by=by,
                    detail=str(error),
                )
            )
            raise

    def _ring(self, role: Role) -> KeyRing:
        ring = self._keys.current.rings.get(role)
        if ring is None:
            raise AuthorityStateError(f"there are no keys of role {role!r} here: they are not switched on")
        return ring

    def _prepared(self, waiting: _Waiting) -> KeySlot:
        slot = self._ring(waiting.role).prepared
        if slot is None or slot.kid != waiting.kid:
            raise AuthorityStateError(
                f"the key {waiting.kid!r} is prepared no more: somebody revoked it; rotate again"
            )
        return slot


async def finish(step: Coroutine[Any, Any, _Result]) -> _Result:
    """Let a step end although whoever waits for it goes away."""
    task = asyncio.ensure_future(step)
    # Nobody may be left to hear of an error; it is in the audit log then.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(task)
