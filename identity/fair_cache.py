"""A bounded memory in which nobody takes the place of the others.

- At most `max_entries`, of them at most `max_of_owner` of one owner: whoever has filled their share loses
  their own oldest. When all is full, the oldest of all is lost: an owner costs the others a share at most.
- Whoever remembers says who owns it; an owner is somebody who was authenticated, or this bounds nothing.
- It is for one thread. Nothing of what it holds is in its `repr`.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class FairCache(Generic[Key, Value]):
    """Values by key; each belongs to an owner."""

    def __init__(self, max_entries: int, max_of_owner: int) -> None:
        """Bound it.

        Raises:
            ValueError: if nothing would fit, or one owner could have it all.
        """
        if not 0 < max_of_owner < max_entries:
            raise ValueError(f"{max_of_owner} of {max_entries} for one owner")
        self._max_entries, self._max_of_owner = max_entries, max_of_owner
        self._values: dict[Key, tuple[Value, str]] = {}
        # The keys of an owner, the oldest first; a dict keeps order, and its values say nothing.
        self._owned: dict[str, dict[Key, None]] = {}

    def get(self, key: Key) -> Value | None:
        """Return what is remembered."""
        found = self._values.get(key)
        return found[0] if found is not None else None

    def put(self, key: Key, value: Value, owner: str) -> None:
        """Remember a value, in place of what was there."""
        self.drop(key)
        if len(self._owned.get(owner, ())) >= self._max_of_owner:
            self.drop(next(iter(self._owned[owner])))
        elif len(self._values) >= self._max_entries:
            self.drop(next(iter(self._values)))
        self._values[key] = value, owner
        self._owned.setdefault(owner, {})[key] = None

    def drop(self, key: Key) -> None:
        """Forget one value."""
        found = self._values.pop(key, None)
        if found is None:
            return
        owned = self._owned[found[1]]
        del owned[key]
        if not owned:
            del self._owned[found[1]]

    def clear(self) -> None:
        """Forget all."""
        self._values.clear()
        self._owned.clear()

    def of_owner(self, owner: str) -> int:
        """Count what one owner has."""
        return len(self._owned.get(owner, ()))

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} of {self._max_entries})"
