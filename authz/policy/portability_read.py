"""From the syntax tree that regorus gives to the tree that the portability check walks.

- What this file does not know is refused by its name, with file and line; nothing is skipped.
- All of a module's unknown constructs are told at once.
"""

from collections.abc import Mapping
from typing import Any, Final

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
    Finding,
    Membership,
    Module,
    Name,
    Node,
    Object,
    Operation,
    Ref,
    Rule,
    RuleKind,
    Statement,
)
from identity.strict_json import MAX_SAFE_INTEGER

Json = Mapping[str, Any]

_SCALARS: Final = frozenset({"String", "RawString", "Bool", "Null"})
_COLLECTIONS: Final = frozenset({"Array", "Set", "Object", "ArrayCompr", "SetCompr", "ObjectCompr"})
_OPERATORS: Final = {
    "Lt": "<",
    "Le": "<=",
    "Eq": "==",
    "Ge": ">=",
    "Gt": ">",
    "Ne": "!=",
    "Add": "+",
    "Sub": "-",
    "Intersection": "&",
    "Union": "|",
    "Mul": "*",
    "Div": "/",
    "Mod": "%",
}
_UNKNOWN_OPERATORS: Final = frozenset("*/%")


class ModuleReader:
    """Reads one module and collects what it does not know."""

    def __init__(self, tree: Json) -> None:
        self._file: str = tree["source"]["file"]
        self._text: bytes = tree["source"]["contents"].encode()
        self._module: Json = tree["ast"]
        self.findings: list[Finding] = []

    def read(self) -> Module:
        """Return the module; `findings` then tells what was refused."""
        package = self._names(self._module["package"]["refr"])
        imports = tuple(pair for item in self._module["imports"] for pair in self._import(item))
        rules = tuple(rule for item in self._module["rules"] for rule in self._rule(item))
        return Module(self._file, package, imports, rules)

    def _refuse(self, span: Json, construct: str) -> None:
        self.findings.append(Finding(self._file, span["line"], construct))

    def _source(self, span: Json) -> str:
        return self._text[span["start"] : span["end"]].decode()

    def _names(self, node: Json) -> tuple[str, ...]:
        """Return a dotted path, or nothing where it is no such path."""
        match node:
            case {"Var": {"value": str(name)}}:
                return (name,)
            case {"RefDot": {"refr": inner, "field": [_, str(name)]}}:
                base = self._names(inner)
                return (*base, name) if base else ()
            case _:
                return ()

    def _import(self, item: Json) -> list[tuple[str, tuple[str, ...]]]:
        path = self._names(item["refr"])
        if path == ("rego", "v1"):
            return []
        if path[:1] not in {("data",), ("input",)} or len(path) < 2:
            self._refuse(item["span"], f"import of {self._source(item['span']).removeprefix('import ')!r}")
            return []
        return [(self._source(item["as"]) if "as" in item else path[-1], path)]

    # Rules

    def _rule(self, item: Json) -> list[Rule]:
        match item:
            case {"Default": body}:
                return self._default(body)
            case {"Spec": {"span": span, "head": head, "bodies": bodies}}:
                return self._spec(span, head, bodies)
            case _:
                raise ValueError("a kind of rule that the check does not know")

    def _default(self, body: Json) -> list[Rule]:
        name = self._head_name(body["span"], body["refr"])
        if not name:
            return []
        self._require_walrus(body["span"], body)
        parameters = self._parameters(body["args"]) if body["args"] else None
        branch = Branch(body["span"]["line"], self._node(body["value"]), ())
        return [Rule(self._file, body["span"]["line"], name, "default", parameters, None, (branch,))]

    def _spec(self, span: Json, head: Json, bodies: list[Json]) -> list[Rule]:
        kind: RuleKind
        parameters = key = assign = None
        match head:
            case {"Set": {"refr": target, "key": member}}:
                kind, key = "set", self._node(member)
            case {"Func": {"refr": target, "args": arguments, "assign": assign}}:
                kind, parameters = "function", self._parameters(arguments)
            case {"Compr": {"refr": {"RefBrack": {"refr": target, "index": index}}, "assign": assign}}:
                kind, key = "object", self._node(index)
            case {"Compr": {"refr": target, "assign": assign}}:
                kind = "complete"
            case _:
                raise ValueError("a kind of rule head that the check does not know")
        name = self._head_name(span, target)
        branches = self._branches(span, assign, bodies)
        return [Rule(self._file, span["line"], name, kind, parameters, key, branches)] if name else []

    def _head_name(self, span: Json, target: Json) -> tuple[str, ...]:
        match target:
            case {"Var": {"value": str(name)}}:
                return (name,)
            case _:
                self._refuse(span, "nested rule head")
                return ()

    def _parameters(self, arguments: list[Json]) -> tuple[Name | Constant, ...]:
        found: list[Name | Constant] = []
        for argument in arguments:
            match argument:
                case {"Var": {"value": str(name), "span": span}}:
                    found.append(Name(span["line"], name))
                case _ if isinstance(item := self._node(argument), Constant):
                    found.append(item)
                case _:
                    self._refuse(_span(argument), "destructuring in a parameter")
        return tuple(found)

    def _require_walrus(self, span: Json, assign: Json) -> None:
        if assign["op"] != "ColEq":
            self._refuse(span, "'=' in a rule head (use ':=')")

    def _branches(self, span: Json, assign: Json | None, bodies: list[Json]) -> tuple[Branch, ...]:
        if not bodies:
            return (Branch(span["line"], self._value(span, assign), ()),)
        branches = []
        for index, body in enumerate(bodies):
            if index and not body["is_else"]:
                self._refuse(body["span"], "second body without 'else'")
            value = self._value(body["span"], body["assign"] if index else assign)
            branches.append(Branch(body["span"]["line"], value, self._query(body["query"])))
        return tuple(branches)

    def _value(self, span: Json, assign: Json | None) -> Node:
        if assign is None:
            return Constant(span["line"], True)
        self._require_walrus(assign["span"], assign)
        return self._node(assign["value"])

    # Statements

    def _query(self, query: Json) -> tuple[Statement, ...]:
        return tuple(found for item in query["stmts"] for found in self._statement(item))

    def _statement(self, item: Json) -> list[Statement]:
        line = item["span"]["line"]
        if item.get("with_mods"):
            self._refuse(item["span"], "with")
        match item["literal"]:
            case {"Expr": {"expr": {"AssignExpr": assign}}}:
                return self._assignment(assign)
            case {"Expr": {"expr": node}}:
                return [Condition(line, self._node(node))]
            case {"NotExpr": {"expr": node}}:
                return [Condition(line, self._node(node), negated=True)]
            case {"SomeIn": {"key": key, "value": value, "collection": domain}}:
                names = ("" if key is None else self._binder(key)), self._binder(value)
                return [Each(line, *names, self._node(domain))]
            case {"Every": {"key": key, "value": value, "domain": domain, "query": query}}:
                names = ("" if key is None else self._binder_text(key)), self._binder_text(value)
                return [Every(line, *names, self._node(domain), self._query(query))]
            case {"SomeVars": {"span": span}}:
                self._refuse(span, "some without 'in'")
                return []
            case _:
                raise ValueError("a kind of statement that the check does not know")

    def _assignment(self, assign: Json) -> list[Statement]:
        span = assign["span"]
        if assign["op"] != "ColEq":
            self._refuse(span, "unification with '=' (use ':=' or '==')")
            return []
        match assign["lhs"]:
            case {"Var": {"value": str(name)}} if name != "_":
                return [Assignment(span["line"], name, self._node(assign["rhs"]))]
            case _:
                self._refuse(span, "destructuring in an assignment")
                return []

    def _binder(self, node: Json) -> str:
        match node:
            case {"Var": {"value": str(name)}}:
                return "" if name == "_" else name
            case _:
                self._refuse(_span(node), "destructuring in 'some'")
                return ""

    def _binder_text(self, span: Json) -> str:
        text = self._source(span)
        return "" if text == "_" else text

    # Expressions

    def _node(self, node: Json) -> Node:
        ((kind, body),) = node.items()
        line = body["span"]["line"]
        match kind:
            case "Number":
                return self._number(body)
            case "RefDot" | "RefBrack":
                return self._ref(node, line)
            case "Call":
                return self._call(body)
            case "BoolExpr" | "ArithExpr" | "BinExpr":
                return self._operation(body)
            case "Membership":
                if body["key"] is not None:
                    self._refuse(body["span"], "'in' with a key")
                return Membership(line, self._node(body["value"]), self._node(body["collection"]))
            case _ if kind in _SCALARS:
                return Constant(line, body["value"])
            case _ if kind in _COLLECTIONS:
                return self._collection(kind, body, line)
            case "Var" if body["value"] != "_":
                return Name(line, body["value"])
            case _:
                self._refuse(body["span"], _NAMES.get(kind, kind))
                return Constant(line, None)

    def _collection(self, kind: str, body: Json, line: int) -> Node:
        shape: Any = kind.removesuffix("Compr").lower()
        if kind.endswith("Compr"):
            return self._comprehension(shape, body)
        if kind == "Object":
            members = ((self._node(key), self._node(value)) for _, key, value in body["fields"])
            return Object(line, tuple(members))
        return Collection(line, shape, tuple(map(self._node, body["items"])))

    def _number(self, body: Json) -> Constant:
        value = body["value"]
        whole = self._source(body["span"]).lstrip("-").isdecimal()
        if whole and abs(value) > MAX_SAFE_INTEGER:
            self._refuse(body["span"], "integer beyond 2^53 - 1")
        return Constant(body["span"]["line"], value, whole)

    def _ref(self, node: Json, line: int) -> Ref:
        path: list[Node] = []
        while True:
            match node:
                case {"RefDot": {"refr": inner, "field": [span, name]}}:
                    path.append(Constant(span["line"], name))
                case {"RefBrack": {"refr": inner, "index": index}}:
                    if index.get("Var", {}).get("value") == "_":
                        self._refuse(_span(index), "iteration with [_] (use 'some … in')")
                        index = {"Null": {"span": _span(index), "value": None}}
                    path.append(self._node(index))
                case _:
                    return Ref(line, self._node(node), tuple(reversed(path)))
            node = inner

    def _call(self, body: Json) -> Call:
        name = self._names(body["fcn"])
        if not name:
            self._refuse(body["span"], "call of a computed function")
        return Call(body["span"]["line"], name, tuple(map(self._node, body["params"])))

    def _operation(self, body: Json) -> Operation:
        operator = _OPERATORS[body["op"]]
        if operator in _UNKNOWN_OPERATORS:
            self._refuse(body["span"], f"arithmetic with '{operator}'")
        return Operation(body["span"]["line"], operator, self._node(body["lhs"]), self._node(body["rhs"]))

    def _comprehension(self, shape: Any, body: Json) -> Comprehension:  # noqa: ANN401 - one of three words
        key = self._node(body["key"]) if shape == "object" else None
        term = self._node(body["value"] if shape == "object" else body["term"])
        return Comprehension(body["span"]["line"], shape, key, term, self._query(body["query"]))


# Kinds that regorus reads and that are refused: the words that authors know them by.
_NAMES: Final = {
    "Var": "wildcard as a value (use 'some … in')",
    "AssignExpr": "assignment inside an expression",
    "UnaryExpr": "unary minus",
}


def _span(node: Json) -> Json:
    (body,) = node.values()
    span: Json = body["span"]
    return span
