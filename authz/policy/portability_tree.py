"""Rego as the portability check reads it: few kinds of node, each with its line.

- What stands here is all that the check knows; portability_read.py refuses every other construct.
- A tree is plain data, compared by value; nothing in it can be changed.
"""

from dataclasses import dataclass
from typing import Literal

Scalar = str | int | float | bool | None
Shape = Literal["array", "set", "object"]


@dataclass(frozen=True, slots=True)
class Constant:
    """A scalar as it is written; `whole` says that it is written as an integer."""

    line: int
    value: Scalar
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Name:
    """A variable, a rule of the same package, an import, `input` or `data`."""

    line: int
    name: str


@dataclass(frozen=True, slots=True)
class Ref:
    """A lookup step by step: `base.a[i]`."""

    line: int
    base: "Node"
    path: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a builtin or of a function of the policy."""

    line: int
    name: tuple[str, ...]
    arguments: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Collection:
    """An array or a set, item by item."""

    line: int
    shape: Shape
    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Object:
    """An object, member by member."""

    line: int
    members: tuple[tuple["Node", "Node"], ...]


@dataclass(frozen=True, slots=True)
class Comprehension:
    """A collection made by a query; `key` stands in objects only."""

    line: int
    shape: Shape
    key: "Node | None"
    term: "Node"
    body: tuple["Statement", ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """A comparison, an arithmetic or a set operation."""

    line: int
    operator: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Membership:
    """`value in collection`."""

    line: int
    value: "Node"
    collection: "Node"


Node = Constant | Name | Ref | Call | Collection | Object | Comprehension | Operation | Membership


@dataclass(frozen=True, slots=True)
class Condition:
    """An expression that must hold, or, negated, must not."""

    line: int
    node: Node
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Assignment:
    """`name := node`."""

    line: int
    name: str
    node: Node


@dataclass(frozen=True, slots=True)
class Each:
    """`some key, value in domain`; an empty name is a wildcard."""

    line: int
    key: str
    value: str
    domain: Node


@dataclass(frozen=True, slots=True)
class Every:
    """`every key, value in domain { body }`."""

    line: int
    key: str
    value: str
    domain: Node
    body: tuple["Statement", ...]


Statement = Condition | Assignment | Each | Every


@dataclass(frozen=True, slots=True)
class Branch:
    """One body with its value: the rule's own, or one behind an `else`."""

    line: int
    value: Node
    body: tuple[Statement, ...]


RuleKind = Literal["complete", "set", "object", "function", "default"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One definition. `key`: of a member of a partial set or object. `parameters`: None unless a function."""

    file: str
    line: int
    name: tuple[str, ...]
    kind: RuleKind
    parameters: tuple[Name | Constant, ...] | None
    key: Node | None
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True)
class Module:
    """One file: its package, what it imports by which name, its rules."""

    file: str
    package: tuple[str, ...]
    imports: tuple[tuple[str, tuple[str, ...]], ...]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A construct that is not proven equal, and where it stands."""

    file: str
    line: int
    construct: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.construct}"
