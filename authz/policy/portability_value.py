"""What the portability check says of one expression, and what it asks of the policy around it."""

from dataclasses import dataclass
from typing import Protocol

from authz.policy.portability_scope import bound_names, names_in
from authz.policy.portability_tree import Call, Constant, Each, Name, Node, Ref, Statement
from authz.policy.portability_types import Type


@dataclass(frozen=True, slots=True)
class Value:
    """What an expression may give, and whether it surely gives something."""

    type: Type
    sure: bool


class Rules(Protocol):
    """What a walk asks of the policy around it."""

    def rule(self, path: tuple[str, ...]) -> Value | None:
        """Return what a rule gives, None if there is no such rule."""

    def call(self, path: tuple[str, ...], arguments: tuple[Type, ...]) -> Value | None:
        """Return what a function gives, None if there is no such function with so many parameters."""

    def ignored(self, path: tuple[str, ...]) -> frozenset[int]:
        """Return the places of a function's parameters that one of its definitions does not look at."""

    def is_inside_package(self, path: tuple[str, ...]) -> bool:
        """Say whether a path below `data` leads into a package, or to one."""


def is_of_admin(path: tuple[str, ...]) -> bool:
    """Say whether a package, or a rule, is of those that are asked about administration."""
    return path[:2] == ("deputy", "admin")


def is_of_one_sort(items: tuple[Node, ...]) -> bool:
    """Say whether items are all constants, or all values that are looked up."""
    return all(isinstance(item, Constant) for item in items) or all(
        isinstance(item, Name | Ref | Call) for item in items
    )


def written_key(step: Node) -> str | int | None:
    """Return a key that is written out; True is no index."""
    match step:
        case Constant(value=str(name)):
            return name
        case Constant(value=int(index), whole=True):
            return index
        case _:
            return None


def keys_are_unique(key: Node, value: Node, body: tuple[Statement, ...]) -> bool:
    """Say whether an object's keys cannot meet with two values."""
    if isinstance(value, Constant):
        return True
    loops = [statement for statement in body if isinstance(statement, Each)]
    return not loops or (len(loops) == 1 and isinstance(key, Name) and loops[0].key == key.name)


def value_varies(value: Node, body: tuple[Statement, ...]) -> bool:
    """Say whether a body that holds in several ways may give several values."""
    return not bound_names(body).isdisjoint(names_in(value))
