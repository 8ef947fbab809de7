"""May this Rego run embedded? It may where every construct in it is proven to mean the same as on OPA.

- Anything not known is refused, by construct, file and line; all refusals are told at once.
- The answer names the runtime: regorus' Rvm, or its slower Engine where Rvm would differ silently.
- It is about these modules with these data: types are read off the data, so new data are checked again.
- Package `deputy.admin` is asked another question than the rest, so neither reads the rules of the other.
- tests/test_portability.py proves it on a real OPA, construct by construct and with generated programs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from authz.errors import PolicyLoadError
from authz.policy.portability_read import ModuleReader
from authz.policy.portability_scope import Scope, holds_always, iterates, loads_once
from authz.policy.portability_tree import Branch, Constant, Finding, Module, Name, Rule
from authz.policy.portability_types import ANY, NOTHING, SchemaReader, Type, collection, join, of_json
from authz.policy.portability_value import Value, is_of_admin, keys_are_unique, value_varies
from authz.policy.portability_walk import Walk

Runtime = Literal["rvm", "engine"]
Path = tuple[str, ...]
# Each round carries what is known one rule further; nesting takes some more.
_ROUNDS_A_RULE = 2
_MORE_ROUNDS = 60
_MAX_TOLD = 20


@dataclass(frozen=True, slots=True)
class Portability:
    """The runtime that gives OPA's answers; `reasons` say why it is not the faster one."""

    runtime: Runtime
    reasons: tuple[Finding, ...] = ()


class NotPortableError(PolicyLoadError):
    """Rego that is not proven to mean the same on the embedded engine."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        """Keep the findings beside the sentence."""
        self.findings = tuple(sorted(set(findings)))
        told = "; ".join(map(str, self.findings[:_MAX_TOLD]))
        more = f"; and {len(self.findings) - _MAX_TOLD} more" if len(self.findings) > _MAX_TOLD else ""
        super().__init__(
            "the embedded engine cannot run this policy, because these constructs are not proven to mean "
            f"the same there as on OPA: {told}{more}; write them in another way, or run the policy on OPA"
        )


def check_portability(
    trees: Iterable[Mapping[str, Any]],
    data: Mapping[str, object],
    schema: Mapping[str, Any],
    admin_schema: Mapping[str, Any] | None = None,
) -> Portability:
    """Say how these modules can run embedded, with these data and inputs of these JSON Schemas.

    Without a schema of questions about administration they may be any JSON.

    Raises:
        NotPortableError: if they cannot.
    """
    try:
        program = _Program(
            _read(trees), of_json(data), SchemaReader(schema).read(), SchemaReader(admin_schema or {}).read()
        )
        program.settle()
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        # The form of the tree is regorus' own affair; one that has changed is one that nobody has looked at.
        raise PolicyLoadError("regorus gives a syntax tree that the check does not know") from error
    blockers = program.engine_blockers if program.engine_reasons else []
    if program.findings or blockers:
        raise NotPortableError([*program.findings, *blockers])
    if program.engine_reasons:
        return Portability("engine", tuple(sorted(set(program.engine_reasons))))
    return Portability("rvm")


def _read(trees: Iterable[Mapping[str, Any]]) -> list[Module]:
    readers = [ModuleReader(tree) for tree in trees]
    modules = [reader.read() for reader in readers]
    findings = [finding for reader in readers for finding in reader.findings]
    if findings:
        raise NotPortableError(findings)
    return modules


@dataclass(frozen=True, slots=True)
class _Definition:
    rule: Rule
    module: Module


class _Program:
    """All rules of all modules, and what each is known to give; `settle` walks until that stands still."""

    def __init__(self, modules: list[Module], data: Type, schema: Type, admin_schema: Type) -> None:
        self._groups: dict[Path, list[_Definition]] = {}
        for module in modules:
            for rule in module.rules:
                self._groups.setdefault((*module.package, *rule.name), []).append(_Definition(rule, module))
        self._packages = {module.package for module in modules}
        self._data = data
        self._inputs = {False: schema, True: admin_schema}
        self._values = dict.fromkeys(self._groups, Value(NOTHING, True))
        self._arguments: dict[Path, tuple[Type, ...]] = {}
        self.findings: list[Finding] = []
        self.engine_reasons: list[Finding] = []
        self.engine_blockers: list[Finding] = []

    def settle(self) -> None:
        """Walk until types stand still; what nobody calls is then taken to be called with anything."""
        self._until_still()
        for path, definitions in self._groups.items():
            parameters = definitions[0].rule.parameters
            if parameters is not None and path not in self._arguments:
                self._arguments[path] = (ANY,) * len(parameters)
        self._until_still()
        self._check_loads()

    def _check_loads(self) -> None:
        """Look at what types say nothing about, once."""
        where = "'input' or 'data' first in a comprehension or 'every', then outside"
        for definitions in self._groups.values():
            for rule, imports in ((item.rule, dict(item.module.imports)) for item in definitions):
                self.engine_reasons += [
                    Finding(rule.file, branch.line, where)
                    for branch in rule.branches
                    if not loads_once(branch, rule.key, imports)
                ]

    def _until_still(self) -> None:
        for _ in range(_MORE_ROUNDS + _ROUNDS_A_RULE * len(self._groups)):
            before = dict(self._values), dict(self._arguments)
            self.findings, self.engine_reasons, self.engine_blockers = [], [], []
            for path, definitions in self._groups.items():
                found = self._give(path, definitions)
                old = self._values[path]
                self._values[path] = Value(join([old.type, found.type]), old.sure and found.sure)
            if before == (self._values, self._arguments):
                return
        raise PolicyLoadError(
            "the policy's types do not settle: calls nest too deep; simplify it, or run it on OPA"
        )

    # What a walk asks (the protocol Rules)

    def rule(self, path: Path) -> Value | None:
        """Return what a rule gives, None if there is no such rule."""
        if path not in self._groups or self._groups[path][0].rule.parameters is not None:
            return None
        return self._values[path]

    def call(self, path: Path, arguments: tuple[Type, ...]) -> Value | None:
        """Return what a function gives, and note what it is called with."""
        parameters = self._groups[path][0].rule.parameters if path in self._groups else None
        if parameters is None or len(parameters) != len(arguments):
            return None
        known = self._arguments.get(path, arguments)
        self._arguments[path] = tuple(join(pair) for pair in zip(known, arguments, strict=True))
        return self._values[path]

    def ignored(self, path: Path) -> frozenset[int]:
        """Return the places of a function's parameters that one of its definitions does not look at."""
        return frozenset(
            place
            for item in self._groups[path]
            if item.rule.kind == "function"
            for place, parameter in enumerate(item.rule.parameters or ())
            if isinstance(parameter, Name) and parameter.name == "_"
        )

    def is_inside_package(self, path: Path) -> bool:
        """Say whether a path below `data` leads into a package, or to one."""
        return any(all(a == b for a, b in zip(path, package, strict=False)) for package in self._packages)

    # One rule with all its definitions

    def _give(self, path: Path, definitions: list[_Definition]) -> Value:
        walks = [self._walk(item.module) for item in definitions]
        given = [
            self._definition(path, item.rule, walk) for item, walk in zip(definitions, walks, strict=True)
        ]
        if may_conflict([item.rule for item in definitions]):
            walks[0].refuse(definitions[0].rule.line, f"several values that {path[-1]!r} may have at once")
        for item, walk in zip(definitions, walks, strict=True):
            if is_of_admin(path) and not is_of_admin(item.module.package):
                walk.refuse(item.rule.line, "a rule of another package where 'deputy.admin' is")
            self.findings += walk.findings
            self.engine_reasons += walk.engine_reasons
            self.engine_blockers += walk.engine_blockers
        return Value(join([value.type for value in given]), any(value.sure for value in given))

    def _walk(self, module: Module) -> Walk:
        asked = self._inputs[is_of_admin(module.package)]
        return Walk(module.file, module.package, dict(module.imports), self, asked, self._data)

    def _definition(self, path: Path, rule: Rule, walk: Walk) -> Value:
        scope = self._scope(path, rule, walk)
        if rule.kind == "default" and rule.parameters is not None:
            walk.needs_engine(rule.line, "default function")
        values = []
        for index, branch in enumerate(rule.branches):
            inner = scope.inner()
            walk.body(branch.body, inner)
            is_last = index == len(rule.branches) - 1
            if not loads_once(branch, rule.key, walk.imports):
                walk.needs_engine(
                    branch.line, "'input' or 'data' first in a comprehension or 'every', then outside"
                )
            if iterates(branch.body) and not is_last:
                walk.needs_engine(branch.line, "'some … in' before an 'else'")
            values.append(self._branch(rule, branch, walk, inner, is_last=is_last))
        if rule.kind in {"set", "object"}:
            return Value(join([value.type for value in values]), True)
        is_open = any(isinstance(parameter, Constant) for parameter in rule.parameters or ())
        sure = holds_always(rule.branches[-1].body) and values[-1].sure and not is_open
        return Value(join([value.type for value in values]), sure)

    def _scope(self, path: Path, rule: Rule, walk: Walk) -> Scope:
        in_package = {other[-1] for other in self._groups if other[:-1] == path[:-1]}
        scope = Scope(frozenset(in_package | walk.imports.keys()))
        arguments = self._arguments.get(path, ())
        for parameter, kind in zip(rule.parameters or (), arguments or (NOTHING,) * 99, strict=False):
            if isinstance(parameter, Name) and parameter.name != "_":
                if not scope.is_free(parameter.name):
                    walk.refuse(rule.line, f"parameter {parameter.name!r} that hides another name")
                scope.variables[parameter.name] = kind
        return scope

    def _branch(self, rule: Rule, branch: Branch, walk: Walk, scope: Scope, *, is_last: bool) -> Value:
        if rule.kind == "set" and rule.key is not None:
            walk.settle(scope)
            return Value(collection("set", walk.set_head(rule.line, rule.key, scope)), True)
        if rule.kind == "object" and rule.key is not None:
            walk.settle(scope)
            key = walk.key_head(rule.line, rule.key, scope)
            item = walk.member_head(rule.line, branch.value, scope)
            return Value(Type(frozenset({"object"}), item, keys=key.kinds), True)
        value = walk.union_or_value(branch.value, scope)
        if is_last:
            scope.learn(branch.value)
        elif not value.sure:
            walk.refuse(branch.line, "value before an 'else' that may be undefined")
        walk.settle(scope)
        return value


def may_conflict(rules: list[Rule]) -> bool:
    """Say whether one rule or function may get two values at once."""
    defined = [rule for rule in rules if rule.kind not in {"default", "set"}]
    branches = [branch for rule in defined for branch in rule.branches]
    values = {_constant(branch) for branch in branches}
    if len(values) < 2 and None not in values:
        return False
    if len(defined) > 1:
        return True
    if defined and defined[0].kind == "object" and defined[0].key is not None:
        return not keys_are_unique(defined[0].key, branches[0].value, branches[0].body)
    return any(iterates(branch.body) and value_varies(branch.value, branch.body) for branch in branches)


def _constant(branch: Branch) -> tuple[object, ...] | None:
    value = branch.value
    return (type(value.value), value.value) if isinstance(value, Constant) else None
