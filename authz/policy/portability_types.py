"""What the portability check knows of a value: which kinds it may be, and which members are surely there.

- A type says "at most this": a value that is not of its type cannot occur. `ANY` knows nothing, `ANY_JSON`
  only that there are no sets in it, and `NOTHING` is what cannot occur (the items of an empty list).
- The type of data is read off the data themselves, so it is exact; that of the input is read off its JSON
  Schema, where what this file does not understand is `ANY_JSON`.
- Joining never loses a possibility; beyond a depth it answers `ANY`, so that a fixpoint ends.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from authz.policy.patterns import is_whole_pattern
from identity.strict_json import MAX_SAFE_INTEGER

SCALARS: Final = frozenset({"null", "boolean", "integer", "number", "string"})
KINDS: Final = SCALARS | {"array", "set", "object"}
_MAX_DEPTH: Final = 12
_MAX_MEMBERS: Final = 64  # beyond, an object is a table: its names are data, too


@dataclass(frozen=True, slots=True)
class Type:
    """Kinds that a value may be. `item`: what any array item, set member or other object member may be.

    `members`: object members known by name and array items known by place (`at`); those in `required` are
    there whenever the value is an object or an array.
    `keys`: kinds that an object's keys may be. `inside`: what lies inside may be anything, or any JSON.
    `patterns`: a text is surely a regular expression that every engine reads alike.
    """

    kinds: frozenset[str]
    item: "Type | None" = None
    members: Mapping[str, "Type"] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset({"string"})
    inside: Literal["known", "json", "any"] = "known"
    patterns: bool = False

    def within(self, kinds: Iterable[str]) -> bool:
        """Say whether the value is surely of one of these kinds."""
        return self.kinds <= frozenset(kinds)

    def only(self, kinds: Iterable[str]) -> "Type":
        """Return what is left when the value is known to be of these kinds."""
        left = self.kinds & frozenset(kinds)
        if left <= SCALARS:
            return Type(left, patterns=self.patterns and "string" in left)
        return replace(self, kinds=left)

    def element(self) -> "Type":
        """Return what an iteration gives, or a lookup with an unknown key."""
        if self.inside != "known":
            return _UNKNOWN[self.inside]
        return join([*([self.item] if self.item else []), *self.members.values()])

    def member(self, key: str | int) -> "tuple[Type, bool]":
        """Return what a lookup with this key gives, and whether it is surely there."""
        if self.inside != "known":
            return _UNKNOWN[self.inside], False
        name, shape = (key, "object") if isinstance(key, str) else (at(key), "array")
        found = [self.members[name]] if name in self.members else []
        if self.item and name not in self.required:
            found.append(self.item)
        return join(found), name in self.required and self.within({shape})

    def all_kinds(self) -> frozenset[str]:
        """Return the kinds of the value and of all that lies inside."""
        if self.inside != "known":
            return self.kinds | _UNKNOWN[self.inside].kinds
        parts = [*([self.item] if self.item else []), *self.members.values()]
        return self.kinds.union(*(part.all_kinds() for part in parts))

    def index_kinds(self) -> frozenset[str]:
        """Return the kinds that the key of an iteration may be."""
        if self.inside == "any":
            return KINDS
        if self.inside == "json":
            return frozenset({"string", "integer"})
        found = self.keys if "object" in self.kinds else frozenset()
        found |= {"integer"} if "array" in self.kinds else set()
        return found | (self.element().kinds if "set" in self.kinds else frozenset())


ANY: Final = Type(KINDS, keys=KINDS, inside="any")
ANY_JSON: Final = Type(KINDS - {"set"}, inside="json")
_UNKNOWN: Final = {"any": ANY, "json": ANY_JSON}
NOTHING: Final = Type(frozenset())


def scalar(*kinds: str) -> Type:
    """Return the type of a scalar."""
    return Type(frozenset(kinds))


def collection(shape: str, item: Type) -> Type:
    """Return the type of an array, of a set, or of an object with unknown names."""
    return Type(frozenset({shape}), item)


def _may_hold_sets(kind: Type) -> bool:
    return not kind.keys <= {"string"} or "set" in kind.all_kinds()


def at(index: int) -> str:
    """Return the name under which the item at this place of an array is known."""
    return f"[{index}]"


def listing(items: Sequence[Type]) -> Type:
    """Return the type of an array that is written out item by item."""
    members = {at(index): item for index, item in enumerate(items)}
    return Type(frozenset({"array"}), None, members, frozenset(members))


def join(types: Iterable[Type], depth: int = 0) -> Type:
    """Return the type of a value that is of any of these types."""
    parts = list({id(item): item for item in types if item.kinds}.values())
    if all(part == parts[0] for part in parts):
        return parts[0] if parts else NOTHING
    kinds = frozenset().union(*(part.kinds for part in parts))
    if kinds <= SCALARS:
        texts = [part.patterns for part in parts if "string" in part.kinds]
        return Type(kinds, patterns=bool(texts) and all(texts))
    insides = {part.inside for part in parts if not part.kinds <= SCALARS}
    if depth > _MAX_DEPTH or "any" in insides or ("json" in insides and any(map(_may_hold_sets, parts))):
        return Type(kinds, keys=KINDS, inside="any")
    if "json" in insides:
        return Type(kinds, inside="json")
    objects = [part for part in parts if part.kinds & {"object", "array"}]
    names = {name: None for part in objects for name in part.members}
    return Type(
        kinds,
        item=join([part.item for part in parts if part.item], depth + 1),
        members={
            name: join([part.members[name] for part in objects if name in part.members], depth + 1)
            for name in names
        },
        required=frozenset.intersection(*(part.required for part in objects)) if objects else frozenset(),
        keys=frozenset().union(*(part.keys for part in objects)),
    )


def of_json(value: object) -> Type:
    """Return the exact type of a JSON value."""
    if isinstance(value, Mapping):
        members = {str(name): of_json(item) for name, item in value.items()}
        if len(members) > _MAX_MEMBERS:
            return collection("object", join(members.values()))
        return Type(frozenset({"object"}), None, members, frozenset(members))
    if isinstance(value, list | tuple):
        return Type(frozenset({"array"}), join([of_json(item) for item in value]))
    return of_scalar(value)


def of_scalar(value: object) -> Type:
    """Return the type of a scalar: an integer is one that every reader sees alike."""
    if isinstance(value, str):
        return Type(frozenset({"string"}), patterns=is_whole_pattern(value))
    if isinstance(value, bool):
        return scalar("boolean")
    if isinstance(value, int) and abs(value) <= MAX_SAFE_INTEGER:
        return scalar("integer")
    return scalar("null") if value is None else scalar("number")


class SchemaReader:
    """Reads the type of a JSON Schema; keywords that only narrow are passed over: a type says "at most"."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def read(self) -> Type:
        """Return the type of the values that the schema accepts."""
        return self._type(self._document, 0)

    def _type(self, schema: object, depth: int) -> Type:
        if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
            return ANY_JSON
        if "$ref" in schema:
            return self._type(self._resolve(schema["$ref"]), depth + 1)
        if "const" in schema or "enum" in schema:
            return join([of_json(value) for value in schema.get("enum", [schema.get("const")])])
        if "type" not in schema:
            choices = schema.get("oneOf", schema.get("anyOf"))
            return join([self._type(item, depth + 1) for item in choices]) if choices else ANY_JSON
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        return join([self._of_kind(name, schema, depth) for name in names])

    def _resolve(self, pointer: str) -> object:
        found: object = self._document
        for name in pointer.removeprefix("#/").split("/"):
            found = found.get(name) if isinstance(found, Mapping) else None
        return found

    def _of_kind(self, kind: str, schema: Mapping[str, Any], depth: int) -> Type:
        if kind == "array":
            return Type(frozenset({"array"}), self._type(schema.get("items"), depth + 1))
        if kind == "object":
            members = {
                name: self._type(item, depth + 1) for name, item in schema.get("properties", {}).items()
            }
            other = schema.get("additionalProperties", True)
            item = None if other is False else self._type(other, depth + 1)
            required = frozenset(schema.get("required", ()))
            return Type(frozenset({"object"}), item, members, required & frozenset(members))
        # JSON Schema's integer has no bounds and includes 1.0, so it is no more than a number here.
        return scalar("number", "integer") if kind in {"integer", "number"} else scalar(kind)
