"""The walk over one rule: is every construct in it proven equal on OPA and on regorus?

- Types come from data, schema, literals and guards; a call is admitted where they show that it cannot fail.
- "Sure" means: has a value. OPA and regorus part ways where a value may be missing and something other than
  a plain condition looks at it (`not`, `in` as a value, a head, `else`): there it must be sure.
- What is silent on regorus' Rvm and right on its Engine is noted as a reason for Engine, and what is right on
  Rvm only as a blocker of Engine.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, assert_never

from authz.policy.portability_builtins import BUILTINS, sprintf_mismatch
from authz.policy.portability_scope import Scope, path_of
from authz.policy.portability_tree import (
    Assignment,
    Call,
    Collection,
    Comprehension,
    Condition,
    Constant,
    Each,
    Every,
    Finding,
    Membership,
    Name,
    Node,
    Object,
    Operation,
    Ref,
    Statement,
)
from authz.policy.portability_types import ANY, NOTHING, Type, collection, join, listing, of_scalar, scalar
from authz.policy.portability_value import (
    Rules,
    Value,
    is_of_admin,
    is_of_one_sort,
    keys_are_unique,
    written_key,
)

_CONTAINERS: Final = frozenset({"array", "set", "object"})
_PLAIN_KEYS: Final = frozenset({"string", "integer", "boolean", "null"})
_BOOLEAN: Final = scalar("boolean")


@dataclass(slots=True)
class Walk:
    """One pass over one file; the findings are those of the last pass, when types have settled."""

    file: str
    package: tuple[str, ...]
    imports: Mapping[str, tuple[str, ...]]
    rules: Rules
    input: Type
    data: Type
    findings: list[Finding] = field(default_factory=list)
    engine_reasons: list[Finding] = field(default_factory=list)
    engine_blockers: list[Finding] = field(default_factory=list)

    def refuse(self, line: int, construct: str) -> None:
        """Note a construct that is not proven equal."""
        self.findings.append(Finding(self.file, line, construct))

    def needs_engine(self, line: int, construct: str) -> None:
        """Note a construct that is proven equal on Engine only."""
        self.engine_reasons.append(Finding(self.file, line, construct))

    # Statements

    def body(self, statements: tuple[Statement, ...], scope: Scope) -> None:
        """Walk statements in their order; both engines keep it where each name is bound before it is used."""
        for statement in statements:
            self._statement(statement, scope)

    def settle(self, scope: Scope, outer: Scope | None = None) -> None:
        """Refuse variables that may still be undefined at the end of their body."""
        for name, line in scope.unsure.items():
            if outer is None or name not in outer.unsure:
                self.refuse(line, f"':=' of what may be undefined, and no condition asks for {name!r}")

    def _statement(self, statement: Statement, scope: Scope) -> None:
        match statement:
            case Condition(node=node, negated=False):
                self._condition(node, scope)
                scope.learn(node)
            case Condition(line=line, node=node):
                self.value(node, scope)
                if not self._is_sure_inside(node, scope):
                    self.refuse(line, "'not' over something whose parts may be undefined")
            case Assignment(line=line, name=name, node=node):
                found = self.union_or_value(node, scope)
                self._bind(line, name, found.type, scope)
                if not found.sure:
                    scope.unsure[name] = line
            case Each(line=line, domain=domain):
                self._bind_items(statement, self._condition(domain, scope).type, scope)
                scope.learn(domain)
                if not self.value(domain, scope).type.within(_CONTAINERS):
                    self.engine_blockers.append(
                        Finding(self.file, line, "'some … in' what may be no collection (on Engine)")
                    )
            case Every(domain=domain, body=body):
                inner = scope.inner()
                inner.every |= {statement.key, statement.value}
                self._bind_items(statement, self.value(domain, scope).type, inner)
                self.body(body, inner)
                self.settle(inner, scope)
            case _:
                assert_never(statement)

    def _condition(self, node: Node, scope: Scope) -> Value:
        """Walk what only has to hold: there `in` with an undefined operand is as good as false."""
        if isinstance(node, Membership):
            return self._membership(node, scope)
        return self.value(node, scope)

    def _bind_items(self, statement: Each | Every, domain: Type, scope: Scope) -> None:
        key = ANY.only(domain.index_kinds())
        for name, kind in ((statement.key, key), (statement.value, domain.element())):
            if name:
                self._bind(statement.line, name, kind, scope)

    def _bind(self, line: int, name: str, kind: Type, scope: Scope) -> None:
        if not scope.is_free(name):
            self.refuse(line, f"variable {name!r} that hides another name")
        scope.variables[name] = kind

    def _is_sure_inside(self, node: Node, scope: Scope) -> bool:
        """Say whether all that OPA computes before it negates is surely there."""
        match node:
            case Name(name=name):
                return name not in scope.unsure
            case Ref(base=base, path=path):
                base_is_sure = (
                    self._is_sure_inside(base, scope)
                    if isinstance(base, Name)
                    else self._is_sure(base, scope)
                )
                return base_is_sure and all(self._is_sure(step, scope) for step in path)
            case Call(arguments=arguments):
                return all(self._is_sure(argument, scope) for argument in arguments)
            case Operation(operator="==", left=left, right=right):
                return all(self._is_sure_or_lookup(side, scope) for side in (left, right))
            case Operation(left=left, right=right) | Membership(value=left, collection=right):
                return self._is_sure(left, scope) and self._is_sure(right, scope)
            case _:
                return self._is_sure(node, scope)

    def _is_sure_or_lookup(self, node: Node, scope: Scope) -> bool:
        if isinstance(node, Ref):
            return self._is_sure_inside(node, scope)
        return self._is_sure(node, scope)

    def _is_sure(self, node: Node, scope: Scope) -> bool:
        return self.value(node, scope).sure

    # Expressions

    def union_or_value(self, node: Node, scope: Scope) -> Value:
        """Walk an expression that may be a union of sets, because it stands alone behind a ':='."""
        return self._operation(node, scope) if isinstance(node, Operation) else self.value(node, scope)

    def value(self, node: Node, scope: Scope) -> Value:
        """Walk an expression whose value counts."""
        match node:
            case Constant(value=constant, whole=whole):
                is_number = isinstance(constant, int | float) and not isinstance(constant, bool)
                return Value(scalar("number") if is_number and not whole else of_scalar(constant), True)
            case Name() | Ref():
                found = self._name(node, scope) if isinstance(node, Name) else self._ref(node, scope)
                return Value(scope.narrowed(node, found.type), found.sure or path_of(node) in scope.there)
            case Call():
                return self._call(node, scope)
            case Collection(shape=shape, items=items):
                parts = [self.value(item, scope) for item in items]
                types = [part.type for part in parts]
                if shape == "set":
                    self._require_order(node.line, types, "a set")
                kind = listing(types) if shape == "array" else collection(shape, join(types))
                return Value(kind, all(part.sure for part in parts))
            case Object():
                return self._object(node, scope)
            case Comprehension():
                return self._comprehension(node, scope)
            case Operation(line=line, operator=operator):
                if operator == "|":
                    self.refuse(line, "'|' inside an expression, which OPA may read as a comprehension")
                return self._operation(node, scope)
            case Membership(line=line):
                found = self._membership(node, scope)
                if not found.sure:
                    self.refuse(line, "'in' as a value, over what may be undefined")
                return found
            case _:
                assert_never(node)

    def _name(self, node: Name, scope: Scope) -> Value:
        name = node.name
        if name in scope.variables:
            return Value(scope.variables[name], name not in scope.unsure)
        if name == "input":
            return Value(self.input, True)
        if name in self.imports:
            return self._path(node, self.imports[name], (), scope)
        if name == "data":
            self.refuse(node.line, "all of 'data' as a value")
            return Value(ANY, True)
        found = self.rules.rule((*self.package, name))
        if found is None:
            self.refuse(node.line, f"name {name!r} that is no variable, rule or import")
        return found or Value(ANY, False)

    def _ref(self, node: Ref, scope: Scope) -> Value:
        match node.base:
            case Name(name="data"):
                return self._path(node, ("data",), node.path, scope)
            case Name(name=name) if name in self.imports and name not in scope.variables:
                return self._path(node, self.imports[name], node.path, scope)
            case base:
                return self._steps(self.value(base, scope), node.path, scope)

    def _path(self, node: Node, prefix: tuple[str, ...], steps: tuple[Node, ...], scope: Scope) -> Value:
        """Look up a path that begins at `input` or `data`; one into a package must name a rule."""
        path: tuple[Node, ...] = (*(Constant(node.line, name) for name in prefix[1:]), *steps)
        if prefix[0] == "input":
            return self._steps(Value(self.input, True), path, scope)
        names: tuple[str, ...] = ()
        for count, step in enumerate(path, start=1):
            if not isinstance(step, Constant) or not isinstance(step.value, str):
                break
            names = (*names, step.value)
            found = self.rules.rule(names)
            if found is not None:
                self._require_same_question(node.line, names)
                return self._steps(found, path[count:], scope)
        if self.rules.is_inside_package(names):
            self.refuse(node.line, "a package as a value, or a rule by a computed name")
            return Value(ANY, False)
        return self._steps(Value(self.data, True), path, scope)

    def _require_same_question(self, line: int, path: tuple[str, ...]) -> None:
        """Refuse a rule that is asked another question: types were read off that one."""
        if is_of_admin(self.package) != is_of_admin(path):
            self.refuse(line, "a rule of 'deputy.admin' from outside of it, or one of another package in it")

    def _steps(self, base: Value, path: tuple[Node, ...], scope: Scope) -> Value:
        for step in path:
            index = self.value(step, scope)
            if isinstance(step, Name) and step.name in scope.every:
                self.refuse(
                    step.line, "lookup by a variable of 'every' (give it another name with ':=' first)"
                )
            key = written_key(step)
            if key is not None:
                member, is_there = base.type.member(key)
                kind = join([member, base.type.only({"set"}).element()])
                base = Value(kind, base.sure and is_there)
            else:
                base = Value(base.type.element() if index.type.kinds else NOTHING, False)
        return base

    def _object(self, node: Object, scope: Scope) -> Value:
        members = {}
        sure = True
        for key, item in node.members:
            found, name = self.value(item, scope), self.value(key, scope)
            sure = sure and found.sure and name.sure
            members[str(key.value) if isinstance(key, Constant) else key] = found.type
            if len(node.members) > 1 and not (isinstance(key, Constant) and isinstance(key.value, str)):
                self.refuse(node.line, "object of several members with a key that is no text")
            self._require_plain_key(node.line, name.type)
        if len(members) < len(node.members):
            self.refuse(node.line, "object with the same key twice")
        if all(isinstance(key, str) for key in members):
            named = {str(key): kind for key, kind in members.items()}
            return Value(Type(frozenset({"object"}), None, named, frozenset(named)), sure)
        return Value(collection("object", join(members.values())), sure)

    def _require_plain_key(self, line: int, key: Type) -> None:
        if not key.within(_PLAIN_KEYS):
            self.refuse(line, "object key whose text may differ (a float or a collection)")

    def _require_order(self, line: int, types: list[Type], where: str) -> None:
        """Refuse what would be sorted differently: sets come before objects in regorus, after them in OPA."""
        if {"set", "object"} <= frozenset().union(*(kind.all_kinds() for kind in types)):
            self.refuse(line, f"sets and objects together in {where}, whose order differs")

    def _comprehension(self, node: Comprehension, scope: Scope) -> Value:
        inner = scope.inner()
        self.body(node.body, inner)
        self.settle(inner, scope)
        if not node.body or not isinstance(node.body[0], Each):
            self.needs_engine(node.line, "comprehension that does not begin with 'some … in'")
        term = self._head(node.line, node.term, inner, "a comprehension")
        if node.shape == "set":
            self._require_order(node.line, [term], "a set")
        if node.key is None:
            return Value(collection(node.shape, term), True)
        key = self._head(node.line, node.key, inner, "a comprehension")
        self._require_plain_key(node.line, key)
        if not keys_are_unique(node.key, node.term, node.body):
            self.refuse(node.line, "object comprehension whose keys may repeat")
        return Value(Type(frozenset({"object"}), term, keys=key.kinds), True)

    def _head(self, line: int, node: Node, scope: Scope, where: str) -> Type:
        found = self.value(node, scope)
        if not found.sure:
            self.refuse(line, f"head of {where} that may be undefined")
        return found.type

    def member_head(self, line: int, node: Node, scope: Scope) -> Type:
        """Walk the key or the value of a partial rule."""
        return self._head(line, node, scope, "a partial rule")

    def set_head(self, line: int, node: Node, scope: Scope) -> Type:
        """Walk the member of a partial set."""
        found = self.member_head(line, node, scope)
        self._require_order(line, [found], "a set")
        return found

    def key_head(self, line: int, node: Node, scope: Scope) -> Type:
        """Walk the key of a partial object."""
        found = self.member_head(line, node, scope)
        self._require_plain_key(line, found)
        return found

    def _membership(self, node: Membership, scope: Scope) -> Value:
        value, items = self.value(node.value, scope), self.value(node.collection, scope)
        if isinstance(node.collection, Collection) and not is_of_one_sort(node.collection.items):
            # OPA 1.22 indexes by the constants, and so does not see the others.
            self.refuse(node.line, "'in' a list of both constants and other values")
        return Value(_BOOLEAN, value.sure and items.sure)

    def _operation(self, node: Operation, scope: Scope) -> Value:
        left, right = self.value(node.left, scope), self.value(node.right, scope)
        sure = left.sure and right.sure
        if node.operator in {"<", "<=", ">", ">="}:
            self._require_order(node.line, [left.type, right.type], f"'{node.operator}'")
        if node.operator not in {"+", "-", "&", "|"}:
            return Value(_BOOLEAN, sure)
        both: Callable[[str], bool] = lambda kind: left.type.within({kind}) and right.type.within({kind})  # noqa: E731 - one line, used three times
        if node.operator != "+" and both("set"):
            self._require_order(node.line, [left.type.element(), right.type.element()], "a set")
            return Value(join([left.type, right.type]), sure)
        if node.operator in {"+", "-"} and both("integer"):
            return Value(scalar("number"), sure)
        self.refuse(node.line, f"'{node.operator}' on what may be neither sets nor whole numbers")
        return Value(ANY, sure)

    def _call(self, node: Call, scope: Scope) -> Value:
        arguments = tuple(self.value(argument, scope) for argument in node.arguments)
        types = tuple(argument.type for argument in arguments)
        sure = all(argument.sure for argument in arguments)
        path = self._function_path(node.name, scope)
        function = None if path is None else self.rules.call(path, types)
        if path is not None and function is not None:
            self._require_same_question(node.line, path)
            if not all(arguments[place].sure for place in self.rules.ignored(path)):
                self.refuse(node.line, "what may be undefined for a parameter '_', which goes unseen")
            return Value(function.type, function.sure and sure)
        name = ".".join(node.name)
        if name == "sprintf":
            items = (
                node.arguments[1].items
                if len(node.arguments) == 2 and isinstance(node.arguments[1], Collection)
                else ()
            )
            if sprintf_mismatch(node.arguments, tuple(self.value(item, scope).type for item in items)):
                self.refuse(node.line, "sprintf, unless with %s (text), %d (whole number), %v of known type")
            return Value(scalar("string"), sure)
        if name not in BUILTINS:
            self.refuse(node.line, f"builtin {name!r}")
            return Value(ANY, False)
        builtin = BUILTINS[name]
        if builtin.mismatch(node.arguments, types):
            self.refuse(node.line, f"builtin {name!r} with an argument that is not known to be right")
            return Value(ANY, False)
        if name in {"sort", "max", "min"}:
            self._require_order(node.line, [types[0].element()], f"{name!r}")
        return Value(builtin.result(node.arguments, types), sure and builtin.total)

    def _function_path(self, name: tuple[str, ...], scope: Scope) -> tuple[str, ...] | None:
        if name[0] in scope.variables:
            return None
        if name[0] in self.imports:
            name = (*self.imports[name[0]], *name[1:])
        if name[0] == "data":
            return name[1:]
        return (*self.package, *name) if len(name) == 1 else None
