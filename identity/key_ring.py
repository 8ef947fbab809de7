"""The keys of one role, and when the next one takes over.

- Two slots hold private keys: one key signs (`active`), the next is published already (`prepared`). What has
  signed before is `retired`: published until all that it signed has expired, its private part destroyed.
- A key is prepared when half of the active one's lifetime is left, takes over when a sixth is left and it has
  been published for long enough (B-5), and is pruned after its end. SVIDs live for a sixth of a key at most,
  so none outlives the key that signed it.
- A key is tainted before it is revoked: it signs no more and is named, then it stops to verify.
- Time is an argument; a clock that went back changes nothing here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal, get_args

from cryptography import x509

from identity.errors import AuthorityStateError
from identity.keys import KeySet, VerificationKey

Role = Literal["x509", "jwt", "tokens", "wit"]
Action = Literal["prepare", "activate", "prune", "taint", "revoke"]

ROLES: Final[tuple[Role, ...]] = get_args(Role)
MAX_SLOTS: Final = 16
# What a key signed may be accepted for so long after its end: the leeway of those who verify.
_GRACE: Final = timedelta(seconds=60)


class Stage(StrEnum):
    """Where a key is in its life."""

    PREPARED = "prepared"
    ACTIVE = "active"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class KeyLife:
    """How long a key lives, and how long it is published before it signs."""

    lifetime: timedelta = timedelta(days=1)
    lead: timedelta = timedelta(minutes=3)


@dataclass(frozen=True, slots=True)
class KeySlot:
    """A published key; `certificate` is the root of an X.509 key."""

    role: Role
    stage: Stage
    public: VerificationKey
    published_at: datetime
    not_after: datetime
    certificate: x509.Certificate | None = None
    tainted: bool = False

    @property
    def kid(self) -> str:
        """The name of the key."""
        return self.public.kid


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One step of one key; a key that is still to be made has no name."""

    action: Action
    role: Role
    kid: str | None = None


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The published keys of one role, the oldest first."""

    role: Role
    slots: tuple[KeySlot, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no sequence of steps leads to."""
        stages = [slot.stage for slot in self.slots]
        if stages.count(Stage.ACTIVE) > 1 or stages.count(Stage.PREPARED) > 1:
            raise AuthorityStateError(f"two keys of role {self.role!r} in one slot")
        if any(slot.role != self.role for slot in self.slots) or len(self.slots) > MAX_SLOTS:
            raise AuthorityStateError(f"keys of another role, or more than {MAX_SLOTS}, in {self.role!r}")

    def __iter__(self) -> Iterator[KeySlot]:
        return iter(self.slots)

    @property
    def active(self) -> KeySlot | None:
        """The key that signs."""
        return self._of(Stage.ACTIVE)

    @property
    def prepared(self) -> KeySlot | None:
        """The key that signs next."""
        return self._of(Stage.PREPARED)

    @property
    def public_keys(self) -> KeySet:
        """Every published key."""
        return KeySet.of(slot.public for slot in self.slots)

    def find(self, kid: str) -> KeySlot | None:
        """Return the key of a name."""
        return next((slot for slot in self.slots if slot.kid == kid), None)

    def next_step(self, life: KeyLife) -> tuple[Action, datetime] | None:
        """Return what comes next for the two slots, and when."""
        active, prepared = self.active, self.prepared
        if active is None:
            return None
        lifetime = active.not_after - active.published_at
        if prepared is None:
            return "prepare", active.not_after - lifetime / 2
        return "activate", max(
            active.not_after - lifetime / 6, min(prepared.published_at + life.lead, active.not_after)
        )

    def due(self, now: datetime, life: KeyLife) -> tuple[KeyChange, ...]:
        """Return the steps that time asks for, in order."""
        pruned = tuple(
            KeyChange("prune", self.role, slot.kid)
            for slot in self.slots
            if slot.stage is not Stage.ACTIVE and slot.not_after + _GRACE <= now
        )
        prepared = self.prepared
        usable = prepared is not None and prepared.not_after > now
        if self.active is None or self.active.not_after <= now:
            # Nothing signs: the first start, or one after a long pause. No lead can help then.
            made = () if usable else (KeyChange("prepare", self.role),)
            return (*pruned, *made, KeyChange("activate", self.role))
        step = self.next_step(life)
        if step is None or step[1] > now:
            return pruned
        return (*pruned, KeyChange(step[0], self.role))

    def due_when_off(self, now: datetime) -> tuple[KeyChange, ...]:
        """Return the steps of a role that is switched off: its keys end, and none takes their place."""
        return tuple(
            KeyChange("prune", self.role, slot.kid) for slot in self.slots if slot.not_after + _GRACE <= now
        )

    def with_prepared(self, slot: KeySlot) -> "KeyRing":
        """Return the ring with the next key published.

        Raises:
            AuthorityStateError: if there is one already, or there are too many keys.
        """
        if self.prepared is not None:
            raise AuthorityStateError(f"a key of role {self.role!r} is prepared already")
        return KeyRing(self.role, (*self.slots, slot))

    def activated(self) -> "KeyRing":
        """Return the ring after the prepared key took over.

        Raises:
            AuthorityStateError: if none is prepared.
        """
        if self.prepared is None:
            raise AuthorityStateError(f"no key of role {self.role!r} is prepared: prepare one first")
        after = {Stage.PREPARED: Stage.ACTIVE, Stage.ACTIVE: Stage.RETIRED, Stage.RETIRED: Stage.RETIRED}
        return KeyRing(self.role, tuple(replace(slot, stage=after[slot.stage]) for slot in self.slots))

    def tainted(self, kid: str) -> "KeyRing":
        """Return the ring with a retired key marked: it is to be revoked.

        Raises:
            AuthorityStateError: if there is no such key, or it is not retired.
        """
        slot = self._required(kid)
        if slot.stage is not Stage.RETIRED:
            raise AuthorityStateError(f"the key {kid!r} is {slot.stage}, not retired: rotate first")
        return KeyRing(
            self.role, tuple(replace(one, tainted=True) if one.kid == kid else one for one in self.slots)
        )

    def revoked(self, kid: str, *, force: bool = False) -> "KeyRing":
        """Return the ring without a key: nothing that it signed verifies any more.

        Raises:
            AuthorityStateError: if there is no such key, it signs, or it was not tainted before.
        """
        slot = self._required(kid)
        if slot.stage is Stage.ACTIVE:
            raise AuthorityStateError(f"the key {kid!r} signs: rotate first")
        if slot.stage is Stage.RETIRED and not slot.tainted and not force:
            raise AuthorityStateError(
                f"the key {kid!r} is not tainted: taint it first, and see who still holds what it signed"
            )
        return self.without(kid)

    def without(self, kid: str) -> "KeyRing":
        """Return the ring without a key."""
        return KeyRing(self.role, tuple(slot for slot in self.slots if slot.kid != kid))

    def _of(self, stage: Stage) -> KeySlot | None:
        return next((slot for slot in self.slots if slot.stage is stage), None)

    def _required(self, kid: str) -> KeySlot:
        slot = self.find(kid)
        if slot is None:
            raise AuthorityStateError(f"no key {kid!r} of role {self.role!r}")
        return slot
