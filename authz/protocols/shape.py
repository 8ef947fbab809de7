"""The shape of an object in a message: its members, which of them it needs, and what each may hold.

- A member that is not listed is refused, and so is what looks like a listed one.
- Types are exact, so that `true` is not a number, and null is a value of its own, which no member takes that
  does not say so.
- Shapes nest, so that nothing stands unseen inside what was looked at.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from authz.errors import InspectionError
from authz.protocols.json_body import Object
from authz.protocols.members import MemberNames
from authz.protocols.reader_codes import ReaderCodes

# Looks at a value; returns what is wrong with it, or None.
Check = Callable[[object], str | None]


@dataclass(frozen=True, slots=True)
class Shape:
    """What one kind of object must and may have; of `one_of`, where there are some, exactly one."""

    codes: ReaderCodes
    what: str
    members: MemberNames
    checks: Mapping[str, Check]
    required: frozenset[str]
    one_of: frozenset[str]

    @classmethod
    def of(
        cls, codes: ReaderCodes, what: str, checks: Mapping[str, Check], required: str = "", one_of: str = ""
    ) -> "Shape":
        """Name the members and their checks; those that must stand are separated by spaces."""
        needed, choice = frozenset(required.split()), frozenset(one_of.split())
        return cls(codes, what, MemberNames.of(*checks), checks, needed, choice)

    def check(self, value: object) -> Object:
        """Return the object, if it has this shape.

        Raises:
            InspectionError: with the code of params or of look-alikes.
        """
        if not isinstance(value, dict):
            raise InspectionError(self.codes.params, f"{self.what} that is not an object")
        self.members.check(value, self.codes, self.what)
        if self.required and not self.required <= value.keys():
            missing = min(self.required - value.keys())
            raise InspectionError(self.codes.params, f"{self.what} without {missing!r}")
        if self.one_of and len(self.one_of & value.keys()) != 1:
            choice = ", ".join(sorted(self.one_of))
            raise InspectionError(self.codes.params, f"{self.what} without exactly one of {choice}")
        for name, member in value.items():
            wrong = self.checks[name](member)
            if wrong is not None:
                raise InspectionError(self.codes.params, f"{self.what} with {name!r} that is {wrong}")
        return cast("Object", value)


def nested(shape: Shape) -> Check:
    """Take an object of a shape."""

    def check(value: object) -> None:
        shape.check(value)

    return check


def listed(check: Check) -> Check:
    """Take a list whose elements all pass."""

    def check_all(value: object) -> str | None:
        if type(value) is not list:
            return "no list"
        return next((wrong for wrong in map(check, value) if wrong is not None), None)

    return check_all


def anything(_: object) -> str | None:
    """Take any value: data, which has no meaning for the protocol."""
    return None


def text(value: object) -> str | None:
    """Take a text."""
    return None if type(value) is str else "no text"


def number(value: object) -> str | None:
    """Take an integer."""
    return None if type(value) is int else "no integer"


def truth(value: object) -> str | None:
    """Take true or false."""
    return None if type(value) is bool else "neither true nor false"


def members(value: object) -> str | None:
    """Take an object whose members have no meaning for the protocol."""
    return None if type(value) is dict else "no object"


def one_of(*values: object) -> Check:
    """Take one of these values."""

    def check(value: object) -> str | None:
        return None if value in values else "no value that is known"

    return check


def nothing(why: str) -> Check:
    """Take no value at all."""
    return lambda _: why
