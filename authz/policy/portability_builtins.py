r"""The builtins that are proven equal, and the arguments for which they are.

- tests/vectors/rego_constructs proves each of them against a real OPA; what is not listed is refused.
- An argument of another type is an error on OPA and an undefined value in regorus' Rvm, so an admitted call
  is one whose arguments are known to have the right types.
- Left out on purpose, because they differ silently: `count` of a string, `lower`, `upper` (characters beyond
  ASCII), `regex.*` beyond simple patterns (`\d` is ASCII in OPA only), `glob.match`, `json.*`, `to_number`,
  `time.*`, `units.*`, `yaml.*`, `urlquery.*`, `base64.decode`, `sum`, `product`, `round`, `object.subset` and
  `strings.count` (regorus panics), `http.send` and `opa.runtime` (undefined or another value in regorus).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from authz.policy.portability_tree import Collection, Constant, Node
from authz.policy.portability_types import ANY, KINDS, Type, collection, join, scalar

# Letters, digits, classes of them, counted. No `.`, no `\d`, no group: those differ, or are not proven equal.
_ITEM: Final = r"(?:a-z|A-Z|0-9|[A-Za-z0-9_./:@])"
_PATTERN: Final = re.compile(
    rf"\^?(?:(?:[A-Za-z0-9 _/:,@=-]|\\[.*+?()|\[\]{{}}^$]|\[\^?{_ITEM}+-?\])"
    r"(?:[*+?]|\{[0-9]{1,2}\})?)*\$?"
)
_VERB: Final = re.compile(r"%(.?)", re.DOTALL)
_VERBS: Final = {"s": {"string"}, "d": {"integer"}, "v": {"string", "integer", "boolean"}}


@dataclass(frozen=True, slots=True)
class Parameter:
    """The kinds an argument must have, those its items must have, or what it must look like in the source.

    `pattern`: it may be looked up instead, where whatever is found is surely a pattern that is proven equal.
    """

    kinds: frozenset[str]
    items: frozenset[str] | None = None
    written: Callable[[Node], bool] | None = None
    pattern: bool = False

    def accepts(self, node: Node, given: Type) -> bool:
        """Say whether an argument is surely a right one."""
        is_pattern = self.pattern and (given.patterns or not given.kinds)
        if self.written is not None and not self.written(node) and not is_pattern:
            return False
        inside = self.items is None or given.within(KINDS - _CONTAINERS) or given.element().within(self.items)
        return given.within(self.kinds) and inside


@dataclass(frozen=True, slots=True)
class Builtin:
    """One admitted builtin; `total`: right arguments always give a value."""

    parameters: tuple[Parameter, ...]
    result: Callable[[tuple[Node, ...], tuple[Type, ...]], Type]
    total: bool = True

    def mismatch(self, nodes: tuple[Node, ...], given: tuple[Type, ...]) -> bool:
        """Say whether an argument may be wrong."""
        if len(nodes) != len(self.parameters):
            return True
        return not all(
            parameter.accepts(node, kind)
            for parameter, node, kind in zip(self.parameters, nodes, given, strict=True)
        )


def sprintf_mismatch(nodes: tuple[Node, ...], items: tuple[Type, ...]) -> bool:
    """Say whether the text of `sprintf` may differ; `items` are the types of the values, in order."""
    match nodes:
        case (Constant(value=str(text)), Collection(shape="array")):
            verbs = [verb for verb in _VERB.findall(text) if verb != "%"]
            return len(verbs) != len(items) or not all(
                item.within(_VERBS.get(verb, ())) for verb, item in zip(verbs, items, strict=True)
            )
        case _:
            return True


def _is_natural(node: Node) -> bool:
    return isinstance(node, Constant) and node.whole and isinstance(node.value, int) and node.value >= 0


def _is_base(node: Node) -> bool:
    return isinstance(node, Constant) and node.value in {2, 8, 10, 16}


def _is_text(node: Node) -> bool:
    return isinstance(node, Constant) and isinstance(node.value, str) and node.value != ""


def _is_simple_pattern(node: Node) -> bool:
    return isinstance(node, Constant) and bool(_PATTERN.fullmatch(str(node.value)))


def _of(result: Type) -> Callable[[tuple[Node, ...], tuple[Type, ...]], Type]:
    return lambda _nodes, _given: result


def _first(_nodes: tuple[Node, ...], given: tuple[Type, ...]) -> Type:
    return given[0]


def _element(_nodes: tuple[Node, ...], given: tuple[Type, ...]) -> Type:
    return given[0].element()


def _items_of(shape: str) -> Callable[[tuple[Node, ...], tuple[Type, ...]], Type]:
    return lambda _nodes, given: collection(shape, join([kind.element() for kind in given]))


def _sets_of(_nodes: tuple[Node, ...], given: tuple[Type, ...]) -> Type:
    return collection("set", given[0].element().element())


def _get(nodes: tuple[Node, ...], given: tuple[Type, ...]) -> Type:
    match nodes[1]:
        case Constant(value=str(name)):
            return join([given[0].member(name)[0], given[2]])
        case _:
            return ANY


_CONTAINERS: Final = frozenset({"array", "set", "object"})


def _kinds(*kinds: str, items: Iterable[str] | None = None) -> Parameter:
    return Parameter(frozenset(kinds), None if items is None else frozenset(items))


_STRING: Final = _kinds("string")
_ARRAY: Final = _kinds("array")
_LIST: Final = _kinds("array", "set")
_OBJECT: Final = _kinds("object")
_TEXTS: Final = _kinds("array", "set", items=["string"])
_TEXT_OR_TEXTS: Final = _kinds("string", "array", "set", items=["string"])
_SETS: Final = _kinds("set", items=["set"])
_NATURAL: Final = Parameter(frozenset({"integer"}), written=_is_natural)
_ANYTHING: Final = Parameter(KINDS)

_TO_STRING: Final = _of(scalar("string"))
_TO_BOOLEAN: Final = _of(scalar("boolean"))
_TO_OBJECT: Final = _of(ANY.only({"object"}))

BUILTINS: Final[Mapping[str, Builtin]] = {
    "count": Builtin((_kinds("array", "set", "object"),), _of(scalar("integer"))),
    "startswith": Builtin((_STRING, _STRING), _TO_BOOLEAN),
    "endswith": Builtin((_STRING, _STRING), _TO_BOOLEAN),
    "contains": Builtin((_STRING, _STRING), _TO_BOOLEAN),
    "concat": Builtin((_STRING, _TEXTS), _TO_STRING),
    "split": Builtin((_STRING, _STRING), _of(collection("array", scalar("string")))),
    "trim": Builtin((_STRING, _STRING), _TO_STRING),
    "trim_left": Builtin((_STRING, _STRING), _TO_STRING),
    "trim_right": Builtin((_STRING, _STRING), _TO_STRING),
    "trim_prefix": Builtin((_STRING, _STRING), _TO_STRING),
    "trim_suffix": Builtin((_STRING, _STRING), _TO_STRING),
    "trim_space": Builtin((_STRING,), _TO_STRING),
    "replace": Builtin((_STRING, Parameter(frozenset({"string"}), written=_is_text), _STRING), _TO_STRING),
    "substring": Builtin((_STRING, _NATURAL, _NATURAL), _TO_STRING),
    "format_int": Builtin((_kinds("integer"), Parameter(KINDS, written=_is_base)), _TO_STRING),
    "strings.any_prefix_match": Builtin((_TEXT_OR_TEXTS, _TEXT_OR_TEXTS), _TO_BOOLEAN),
    "strings.any_suffix_match": Builtin((_TEXT_OR_TEXTS, _TEXT_OR_TEXTS), _TO_BOOLEAN),
    "regex.match": Builtin(
        (Parameter(frozenset({"string"}), written=_is_simple_pattern, pattern=True), _STRING), _TO_BOOLEAN
    ),
    "base64.encode": Builtin((_STRING,), _TO_STRING),
    "base64url.encode": Builtin((_STRING,), _TO_STRING),
    "base64url.encode_no_pad": Builtin((_STRING,), _TO_STRING),
    "hex.encode": Builtin((_STRING,), _TO_STRING),
    "array.concat": Builtin((_ARRAY, _ARRAY), _items_of("array")),
    "array.reverse": Builtin((_ARRAY,), _first),
    "array.slice": Builtin((_ARRAY, _NATURAL, _NATURAL), _first),
    "sort": Builtin((_LIST,), _items_of("array")),
    "max": Builtin((_LIST,), _element, total=False),
    "min": Builtin((_LIST,), _element, total=False),
    "union": Builtin((_SETS,), _sets_of),
    "intersection": Builtin((_SETS,), _sets_of),
    "object.get": Builtin((_OBJECT, _ANYTHING, _ANYTHING), _get),
    "object.keys": Builtin((_OBJECT,), lambda _nodes, given: collection("set", ANY.only(given[0].keys))),
    "object.union": Builtin((_OBJECT, _OBJECT), _TO_OBJECT),
    "object.remove": Builtin((_OBJECT, _LIST), _TO_OBJECT),
    "object.filter": Builtin((_OBJECT, _LIST), _TO_OBJECT),
    "type_name": Builtin((_ANYTHING,), _TO_STRING),
    **{f"is_{kind}": Builtin((_ANYTHING,), _TO_BOOLEAN) for kind in
       ("array", "boolean", "null", "number", "object", "set", "string")},
}  # fmt: skip

# What a condition `is_x(v)` says of v.
GUARDS: Final[Mapping[str, frozenset[str]]] = {
    **{f"is_{kind}": frozenset({kind}) for kind in ("array", "boolean", "null", "object", "set", "string")},
    "is_number": frozenset({"integer", "number"}),
}
