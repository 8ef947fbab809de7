"""What one argument of a tool may be: a limit that a token carries.

- A limit names a place (JSON pointer) and holds for the value there; a value that is missing is outside of
  every limit.
- Texts, numbers, booleans and null are compared by their JSON type: `true` is no `1`, and `"1"` neither.
  `1` and `1.0` are one number.
- Limits are joined by "and": adding one only narrows.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from identity.errors import ExchangeError
from identity.json_pointer import ABSENT, at, is_pointer

Kind = Literal["equals", "one_of", "prefix", "max", "min"]
Scalar = str | int | float | bool | None

MAX_CHOICES: Final = 32
MAX_TEXT: Final = 256

_KINDS: Final = frozenset(get_args(Kind))


@dataclass(frozen=True, slots=True)
class ArgumentLimit:
    """One limit; `value` is a tuple of choices for `one_of`, else one value."""

    path: str
    kind: Kind
    value: Scalar | tuple[Scalar, ...]

    @classmethod
    def parse(cls, value: object) -> "ArgumentLimit":
        """Read `{"path": "/amount", "max": 100}`.

        Raises:
            ExchangeError: if it is not one limit of ours.
        """
        if not isinstance(value, dict) or len(value) != 2 or not isinstance(value.get("path"), str):
            raise _malformed("a limit that is not a path and one of equals, one_of, prefix, max, min")
        (kind,) = value.keys() - {"path"} or {""}
        if kind not in _KINDS or not is_pointer(value["path"]):
            raise _malformed("a limit of an unknown kind, or whose path is not a JSON pointer")
        return cls(value["path"], cast("Kind", kind), _limit_value(cast("Kind", kind), value[kind]))

    def to_json(self) -> dict[str, object]:
        """Return the form that `parse` reads."""
        value = list(self.value) if isinstance(self.value, tuple) else self.value
        return {"path": self.path, self.kind: value}

    def allows(self, arguments: Mapping[str, object]) -> bool:
        """Say whether the arguments of a call are within the limit."""
        found = at(arguments, self.path)
        if found is ABSENT:
            return False
        match self.kind, self.value:
            case "one_of", tuple() as choices:
                return any(_equal(found, choice) for choice in choices)
            case "prefix", str() as prefix:
                return isinstance(found, str) and found.startswith(prefix)
            case (("max" | "min"), (int() | float()) as bound):
                if isinstance(found, bool) or not isinstance(found, (int, float)):
                    return False
                return found <= bound if self.kind == "max" else found >= bound
            case _:
                return _equal(found, self.value)


def _limit_value(kind: Kind, value: object) -> Scalar | tuple[Scalar, ...]:
    match kind:
        case "one_of":
            if not isinstance(value, list) or not 1 <= len(value) <= MAX_CHOICES:
                raise _malformed(f"one_of is not a list of 1 to {MAX_CHOICES} values")
            return tuple(_scalar(choice) for choice in value)
        case "prefix":
            if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT:
                raise _malformed(f"prefix is not a text of 1 to {MAX_TEXT} characters")
            return value
        case "max" | "min":
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise _malformed(f"{kind} is not a number")
            return value
    return _scalar(value)


def _scalar(value: object) -> Scalar:
    match value:
        case None | bool() | int():
            return value
        case float() if math.isfinite(value):
            return value
        case str() if len(value) <= MAX_TEXT:
            return value
    raise _malformed(f"a value that is not a number, a boolean, null or a text of at most {MAX_TEXT}")


def _equal(left: object, right: object) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    numbers = (int, float)
    if isinstance(left, numbers) and isinstance(right, numbers):
        return left == right
    return type(left) is type(right) and left == right


def _malformed(text: str) -> ExchangeError:
    return ExchangeError("invalid_authorization_details", text)
