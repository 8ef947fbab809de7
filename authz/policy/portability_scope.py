"""What the portability check knows while it walks one body: the variables, and what conditions said of them.

- A variable is unsure while its value may be undefined: regorus' Rvm binds it all the same, where OPA's body
  fails. A condition that cannot hold for an undefined value makes it sure for the statements behind it.
- A variable never takes the name of another one around it, of a rule, of an import or of a builtin.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from authz.policy.portability_builtins import BUILTINS, GUARDS
from authz.policy.portability_tree import (
    Assignment,
    Branch,
    Call,
    Collection,
    Comprehension,
    Condition,
    Constant,
    Each,
    Every,
    Membership,
    Name,
    Node,
    Object,
    Operation,
    Ref,
    Statement,
)
from authz.policy.portability_types import KINDS, Type

_BUILTIN_ROOTS: Final = frozenset(name.split(".")[0] for name in BUILTINS) | {"sprintf", "input", "data"}
Path = tuple[str, ...]


@dataclass(slots=True)
class Scope:
    """The variables in reach, those that may be undefined (with the line), what is known of lookups.

    `known`: the kinds that a condition left; `there`: what a condition found to be there; `every`: the
    variables of `every`.
    """

    taken: frozenset[str]
    variables: dict[str, Type] = field(default_factory=dict)
    unsure: dict[str, int] = field(default_factory=dict)
    known: dict[Path, frozenset[str]] = field(default_factory=dict)
    there: set[Path] = field(default_factory=set)
    every: frozenset[str] = frozenset()

    def inner(self) -> "Scope":
        """Return a scope inside this one."""
        return replace(
            self,
            variables=dict(self.variables),
            unsure=dict(self.unsure),
            known=dict(self.known),
            there=set(self.there),
        )

    def is_free(self, name: str) -> bool:
        """Say whether a new variable may have this name."""
        return name not in self.taken and name not in self.variables and name not in _BUILTIN_ROOTS

    def narrowed(self, node: Node, found: Type) -> Type:
        """Return the type of a variable or lookup in the light of the conditions before."""
        kinds = self.known.get(path_of(node))
        return found if kinds is None else found.only(kinds)

    def learn(self, node: Node) -> None:
        """Take in that a condition holds."""
        for part in strict_parts(node):
            self.there.add(path_of(part))
            if isinstance(part, Name):
                self.unsure.pop(part.name, None)
        self.there.discard(())
        match node:
            case Call(name=name, arguments=(argument,)) if ".".join(name) in GUARDS:
                self._narrow(argument, GUARDS[".".join(name)])
            case Operation(operator="!=", left=left, right=Constant(value=None)):
                self._narrow(left, KINDS - {"null"})
            case _:
                pass

    def _narrow(self, node: Node, kinds: frozenset[str]) -> None:
        path = path_of(node)
        if path:
            self.known[path] = self.known.get(path, KINDS) & kinds


def path_of(node: Node) -> Path:
    """Return what tells one variable or lookup from another, nothing where it cannot be told."""
    match node:
        case Name(name=name):
            return (name,)
        case Constant(value=value, whole=whole) if whole or isinstance(value, str):
            return (repr(value),)
        case Ref(base=base, path=steps):
            parts = [path_of(base), *map(path_of, steps)]
            return ("(", *(word for part in parts for word in (*part, ",")), ")") if all(parts) else ()
        case _:
            return ()


def strict_parts(node: Node) -> Iterator[Name | Ref]:
    """Yield the names and lookups without whose values an expression surely does not hold."""
    match node:
        case Name():
            yield node
        case Ref(line=line, base=base, path=path):
            for count in range(len(path)):
                yield Ref(line, base, path[: count + 1])
            for part in (base, *path):
                yield from strict_parts(part)
        case Operation(left=left, right=right) | Membership(value=left, collection=right):
            yield from strict_parts(left)
            yield from strict_parts(right)
        case Call(name=name, arguments=parts) if ".".join(name) in BUILTINS:
            for part in parts:
                yield from strict_parts(part)
        case Collection(items=parts):
            for part in parts:
                yield from strict_parts(part)
        case Object(members=members):
            for _, value in members:
                yield from strict_parts(value)
        case _:
            return


def names_in(node: Node | Statement) -> Iterator[str]:
    """Yield every name that occurs anywhere in a node."""
    match node:
        case Name(name=name):
            yield name
        case _:
            for part in _parts(node):
                yield from names_in(part)


def _parts(node: Node | Statement) -> Iterator[Node | Statement]:
    for name in node.__slots__:
        value = getattr(node, name)
        for part in value if isinstance(value, tuple) else (value,):
            for item in part if isinstance(part, tuple) else (part,):
                if hasattr(item, "line"):
                    yield item


def bound_names(body: tuple[Statement, ...]) -> frozenset[str]:
    """Return the variables that a body binds itself."""
    found = set()
    for statement in body:
        match statement:
            case Assignment(name=name):
                found.add(name)
            case Each(key=key, value=value):
                found |= {key, value} - {""}
            case _:
                pass
    return frozenset(found)


def iterates(body: tuple[Statement, ...]) -> bool:
    """Say whether a body may hold in more than one way."""
    return any(isinstance(statement, Each) for statement in body)


def holds_always(body: tuple[Statement, ...]) -> bool:
    """Say whether a body has no condition."""
    return not body or body == (Condition(body[0].line, Constant(body[0].line, True)),)


Use = tuple[str, tuple[int, ...]]


def loads_once(branch: Branch, key: Node | None, imports: Mapping[str, tuple[str, ...]]) -> bool:
    """Say whether `input` and `data` are read first where every later reader finds them.

    Rvm keeps each in a register that is filled where it is first read. Inside a comprehension or an `every`
    that may be never, and a reader outside then finds nothing.
    """
    first: dict[str, tuple[int, ...]] = {}
    parts = [*branch.body, *([] if key is None else [key]), branch.value]
    for root, place in (use for part in parts for use in _uses(part, (), imports)):
        home = first.setdefault(root, place)
        if place[: len(home)] != home:
            return False
    return True


def _uses(
    node: Node | Statement, place: tuple[int, ...], imports: Mapping[str, tuple[str, ...]]
) -> Iterator[Use]:
    """Yield where `input` and `data` are read, what is inside of loops first: Rvm may compute that ahead."""
    match node:
        case Name(name=name):
            root = imports[name][0] if name in imports else name
            if root in {"input", "data"}:
                yield root, place
        case Comprehension(body=body, key=key, term=term):
            loop, rest = (body[0], body[1:]) if body and isinstance(body[0], Each) else (None, body)
            if loop is not None:
                yield from _uses(loop.domain, place, imports)
            for part in (*rest, *([] if key is None else [key]), term):
                yield from _uses(part, (*place, id(node)), imports)
        case Every(domain=domain, body=body):
            yield from _uses(domain, place, imports)
            for part in body:
                yield from _uses(part, (*place, id(node)), imports)
        case _:
            found = [use for part in _parts(node) for use in _uses(part, place, imports)]
            yield from sorted(found, key=lambda use: use[1] == place)
