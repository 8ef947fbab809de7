"""Random Rego, for the question whether what the portability check admits means the same on every engine.

- The same seed gives the same programs. Most are made of what the check knows, so that many are admitted;
  nothing keeps them to what is right, so many are refused.
- Inputs fit SCHEMA. Half of the schema says nothing, so that values of the wrong kind turn up everywhere.
"""

import random
from collections.abc import Callable, Mapping
from typing import Any

SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "texts": {"type": "array", "items": {"type": "string"}},
        "who": {
            "oneOf": [
                {"type": "null"},
                {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "groups": {"type": "array", "items": {"type": "string"}},
                    },
                    "required": ["name"],
                },
            ]
        },
        "chain": {
            "type": "array",
            "items": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        },
    },
    "required": ["text", "texts", "who", "chain"],
}
DATA: Mapping[str, Any] = {
    "grants": {
        "agents": {
            "a": {"tier": "low", "services": {"x": True}},
            "b": {"tier": "high", "services": {"x": True, "y": True}},
        },
        "tiers": {"low": {"read": "allow"}, "high": {"read": "allow", "write": "approve"}},
        "limits": [{"path": ["v"], "max": 3}, {"path": ["w", "a"], "max": 10}],
        "off": False,
        "names": ["a", "b", "c"],
        "nothing": {},
        "mixed": {"a": 1, "b": "x", "c": None, "d": [1, "a"], "e": {"a": False}},
    }
}
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2.5, -1, "", "a", "b", "x", "read"),
    *([], ["a"], ["b", "a"], [1, "a", None], [["a"]], [False]),
    *({}, {"a": 1}, {"a": None}, {"a": {"a": "x"}}, {"b": ["a"]}, {"a": False, "b": "a"}),
)


class Programs:
    """Makes modules of the package `deputy`; `r` is the rule to ask for."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._rules: list[str] = []
        self._functions: list[str] = []
        self._count = 0

    def one_of(self, *items: Any) -> Any:
        return self._random.choice(items)

    def inputs(self, count: int) -> list[dict[str, Any]]:
        return [self._input() for _ in range(count)]

    def _input(self) -> dict[str, Any]:
        texts = ["a", "b", "c", "x", "read"]
        found: dict[str, Any] = {
            "text": self.one_of(*texts, ""),
            "texts": self._random.sample(texts, self._random.randrange(4)),
            "who": self.one_of(
                None, {"name": "a"}, {"name": "b", "groups": ["a", "x"]}, {"name": "", "groups": []}
            ),
            "chain": [{"name": self.one_of(*texts)} for _ in range(self._random.randrange(3))],
        }
        for name in ("v", "w"):
            if self._random.random() < 0.85:
                found[name] = self.one_of(*VALUES)
        return found

    def module(self, admits: Callable[[str], bool], tries: int = 60) -> str | None:
        """Grow a module rule by rule, each of which `admits` lets pass; None where no last rule was found."""
        self._rules, self._functions, self._count = [], [], 0
        parts = ["package deputy"]
        for _ in range(self._random.randrange(1, 6)):
            for _ in range(tries):
                kept = list(self._rules), list(self._functions)
                part = self._definition()
                if admits("\n".join([*parts, part])):
                    parts.append(part)
                    break
                self._rules, self._functions = kept
        for _ in range(tries):
            if admits(text := "\n".join([*parts, self._complete("r")])):
                return text
        return None

    def _name(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    # Rules

    def _definition(self) -> str:
        kind = self._random.randrange(6)
        if kind < 2:
            name = self._name("f")
            text = self._function(name)
            self._functions.append(name)
            return text
        name = self._name("p")
        text = self._partial(name) if kind == 2 else self._complete(name)
        self._rules.append(name)
        return text

    def _partial(self, name: str) -> str:
        body, names = self._body([])
        if self._random.random() < 0.3:
            key = self._name("k")
            domain = self.one_of("input.texts", "data.grants.names")
            return f"{name}[{key}] := {self._value([key])} if some {key} in {domain}"
        return f"{name} contains {self._value(names)} if {{ {body} }}"

    def _complete(self, name: str) -> str:
        lines = (
            [f"default {name} := {self.one_of('false', '0', '[]')}"] if self._random.random() < 0.3 else []
        )
        lines.append(name + self._branches([]))
        if self._random.random() < 0.2:
            lines.append(f"{name} if {{ {self._body([])[0]} }}")
        return "\n".join(lines)

    def _function(self, name: str) -> str:
        lines = [f"{name}(q)" + self._branches(["q"])]
        if self._random.random() < 0.2:
            lines.append(f"{name}(q) if {{ {self._body(['q'])[0]} }}")
        if self._random.random() < 0.1:
            lines.insert(0, f"default {name}(_) := false")
        return "\n".join(lines)

    def _branches(self, names: list[str]) -> str:
        text = ""
        for index in range(self.one_of(1, 1, 1, 2, 3)):
            body, inner = self._body(names)
            value = "" if self._random.random() < 0.4 else f" := {self._value(inner)}"
            text += (" else" if index else "") + f"{value} if {{ {body} }}"
        if " else" in text and self._random.random() < 0.5:
            text += f" else := {self._value(names)}"
        return text

    def _body(self, names: list[str]) -> tuple[str, list[str]]:
        names = list(names)
        return "\n  ".join(self._statement(names) for _ in range(self._random.randrange(1, 4))), names

    # Statements

    def _statement(self, names: list[str]) -> str:
        kind = self._random.randrange(12)
        if kind < 2:
            domain = self._domain(names)
            names.append(name := self._name("x"))
            if self._random.random() < 0.3:
                names.append(key := self._name("k"))
                return f"some {key}, {name} in {domain}"
            return f"some {name} in {domain}"
        if kind < 4:
            value = self._value(names)
            names.append(name := self._name("y"))
            return f"{name} := {value}"
        if kind == 4:
            name = self._name("e")
            body = self._body([*names, name])[0]
            if name not in body:  # OPA wants it used
                body += f"\n  {self.one_of(name, f'{name} != 1', f'is_string({name})', f'not {name} == 1')}"
            return f"every {name} in {self._domain(names)} {{ {body} }}"
        if kind < 7:
            return f"not {self._condition(names)}"
        if kind == 7 and names:
            return f"is_{self.one_of('string', 'number', 'array', 'object', 'null')}({self.one_of(*names)})"
        return self._condition(names)

    def _condition(self, names: list[str]) -> str:
        kind = self._random.randrange(7)
        if kind < 2:
            return self._lookup(names)
        if kind < 4:
            return (
                f"{self._value(names, 1)} {self.one_of('==', '==', '!=', '<', '>=')} {self._value(names, 1)}"
            )
        if kind == 4:
            return f"{self._value(names, 1)} in {self._domain(names)}"
        if kind == 5 and self._functions:
            return f"{self.one_of(*self._functions)}({self._value(names, 1)})"
        return (
            f"{self.one_of('startswith', 'endswith', 'contains')}({self._text(names)}, {self._text(names)})"
        )

    # Expressions

    def _value(self, names: list[str], depth: int = 2) -> str:
        kind = self._random.randrange(16 if depth else 9)
        if kind < 4:
            return self._lookup(names)
        if kind < 6:
            return str(self.one_of("1", "true", "false", "null", '"a"', '"x"', "[]", "{}", "2.5"))
        if kind < 8:
            return self._text(names)
        if kind == 8:
            return f"count({self._domain(names)})"
        inner = self._value(names, depth - 1)
        if kind == 9:
            return f"[{inner}, {self._value(names, depth - 1)}]"
        if kind == 10:
            return f'{{"a": {inner}}}'
        if kind == 11:
            return f"object.get({self._lookup(names)}, {self._text(names)}, {inner})"
        if kind == 12 and self._functions:
            return f"{self.one_of(*self._functions)}({inner})"
        if kind == 13:
            return f"{self._set(names)} {self.one_of('&', '|', '-')} {self._set(names)}"
        if kind == 14:
            return f"{inner} == {self._value(names, depth - 1)}"
        body, bound = self._body(names)
        return str(
            self.one_of(f"[{self._value(bound, 0)} | {body}]", f"{{{self._value(bound, 0)} | {body}}}")
        )

    def _set(self, names: list[str]) -> str:
        name = self._name("s")
        return f"{{{name} | some {name} in {self._domain(names)}}}"

    def _text(self, names: list[str]) -> str:
        return str(
            self.one_of(
                *('"a"', '"read"', "input.text", "input.text", "input.who.name", "input.chain[0].name"),
                *(self._lookup(names), 'concat(":", ["a", input.text])', 'sprintf("%s!", [input.text])'),
            )
        )

    def _domain(self, names: list[str]) -> str:
        return str(
            self.one_of(
                *("input.texts", "input.texts", "input.chain", "input.who.groups", "data.grants.names"),
                *("data.grants.limits", "data.grants.agents", '["a", "b"]', self._lookup(names)),
            )
        )

    def _lookup(self, names: list[str]) -> str:
        base = self.one_of(
            *(
                "input.v",
                "input.w",
                "input.who",
                "input.v.a",
                "input.w.a",
                "data.grants.mixed",
                "data.grants.agents",
            ),
            *("data.grants.tiers", "data.grants.off", "data.grants.nothing", "data.grants.missing"),
            *self._rules,
            *names,
            *names,
        )
        for _ in range(self.one_of(0, 0, 1, 1, 2)):
            base += self.one_of(
                ".a", ".name", ".tier", "[0]", "[input.text]", *(f"[{name}]" for name in names)
            )
        return str(base)
