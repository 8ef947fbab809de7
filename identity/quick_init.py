"""Frozen values that are made quickly.

- The `__init__` that `dataclass` writes for a frozen class sets each member by `object.__setattr__`, which
  takes five times as long as setting it; an exchange of a token makes some two hundred members.
- This one makes the value as its open twin, a class with the same slots, sets the members, and closes it:
  from then on it is of its own class, and as frozen as before. Nobody else has seen it by then.
- Arguments, defaults, equality, hash and representation are those of `dataclass`.
"""

from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any, Final, TypeVar

T = TypeVar("T")

# What sets the class of a value, whatever the class says about setting members.
_BECOME: Final[Callable[[object, type], None]] = object.__dict__["__class__"].__set__


def quick_init(frozen: type[T]) -> type[T]:
    """Give a frozen dataclass with slots an `__init__` that is quick.

    Raises:
        TypeError: if it is another class, or does something of its own when it is made.
    """
    members = fields(frozen)  # type: ignore[arg-type]  # a TypeError where it is no dataclass
    is_frozen = frozen.__dataclass_params__.frozen  # type: ignore[attr-defined]  # of each dataclass
    if not is_frozen or "__slots__" not in frozen.__dict__ or hasattr(frozen, "__post_init__"):
        raise TypeError(f"{frozen.__name__} is no frozen dataclass with slots, and nothing more")
    body = {"__slots__": frozen.__dict__["__slots__"], "__setattr__": object.__setattr__}
    known: dict[str, Any] = {
        "_become": _BECOME,
        "_open": type(frozen.__name__, frozen.__bases__, body),
        "_closed": frozen,
        "_missing": MISSING,
    }
    heads, lines = ["self"], ["_become(self, _open)"]
    # As `dataclass` has it, those that have to be named come last.
    for each in sorted(members, key=lambda each: each.kw_only is True):
        if each.kw_only and "*" not in heads:
            heads.append("*")
        heads.append(each.name + _default(each, known))
        lines.append(f"self.{each.name} = {_value(each)}")
    lines.append("self.__class__ = _closed")
    source = f"def __init__({', '.join(heads)}):\n    " + "\n    ".join(lines)
    exec(source, known)  # noqa: S102 - of the names of a class of ours, as `dataclass` does it
    made = known["__init__"]
    made.__qualname__, made.__module__ = f"{frozen.__qualname__}.__init__", frozen.__module__
    made.__annotations__ = dict(frozen.__init__.__annotations__)
    type.__setattr__(frozen, "__init__", made)
    return frozen


def _default(member: "Field[Any]", known: dict[str, Any]) -> str:
    """Return what stands behind a parameter; what it names is put beside the rest."""
    if member.default is MISSING and member.default_factory is MISSING:
        return ""
    if member.default is not MISSING:
        known[f"_of_{member.name}"] = member.default
        return f"=_of_{member.name}"
    known[f"_of_{member.name}"] = member.default_factory
    return "=_missing"


def _value(member: "Field[Any]") -> str:
    name = member.name
    if member.default_factory is MISSING:
        return name
    return f"_of_{name}() if {name} is _missing else {name}"
