"""What a change was decided on, to be compared under the lock under which it is made.

- Between the decision and the change somebody else may change the same thing; a decision about what was is
  none about what is.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from authz.errors import ChangedError
from identity.caller import Agent

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DecidedOn(Generic[T]):
    """A change is made only where this is still so."""

    value: T


# An agent as it was registered, if it was; the author of a containment, if any. None: it does not matter.
OnAgent = DecidedOn[Agent | None] | None
OnAuthor = DecidedOn[str | None] | None


def require_unchanged(decided_on: DecidedOn[T] | None, found: T, what: str) -> None:
    """Check that what is found is what a change was decided on, if that was said.

    Raises:
        ChangedError: if it is not.
    """
    if decided_on is not None and found != decided_on.value:
        raise ChangedError(f"{what} was changed meanwhile: read it again")
