"""Questions to compare two engines with: random ones, about the names that stand in some grants.

- Each fits deputy.input/v1, as every question of a call does; the same seed gives the same ones.
- Most start from a caller who may do much, and spoil something: that is where allows turn into denials.
- Arguments lie on, near and beyond the limits, or are of another kind; what is found in a call is so, too.
- Lists hold what a service offers, what another does, and what nobody does.
"""

from collections.abc import Iterator, Mapping
from random import Random
from typing import Any, Final, get_args

from authz.payload.classes import PAYLOAD_CLASSES
from authz.policy.grants import Grants
from authz.policy.opa_check import Question
from authz.policy.port import Query
from authz.policy.query import INPUT_VERSION, WHO, Kind, visible_query

Json = Any  # the data were made by grants.py; a question is checked against its schema by a test

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
CLASSES: Final = ("destroy", "read", "write")
_RUNNER: Final = "spiffe://mesh.example/ns/agents/sa/runner"
_TASK: Final = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
_ISSUER: Final = "https://idp.mesh.example"
_STRANGER: Final = "no-such-name"
_OTHER_VALUES: Final[tuple[Json, ...]] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    0.5,
    "",
    "x",
    "é",
    [],
    ["x"],
    {},
    {"x": 1},
)
# What a path or a pattern in the grants may or may not mean.
_ENDINGS: Final = (
    "",
    "a",
    "a.md",
    "a/b",
    ".a",
    "..",
    "../a",
    "a/../b",
    "a//b",
    "a%2fb",
    "a\\b",
    "a\n",
    "x" * 1025,
)
_TEXTS: Final = ("", "a", "A", "7", "ab", "a-1", "EUR", "ORD-0042", "2026-11-21", "a b", "a\n", "\u00e9")
# A name is compared as it is, by every engine.
_ODD_NAMES: Final = (
    _STRANGER,
    "",
    " ",
    "class",
    "é",
    "e\u0301",
    "\u0000",
    "\U0001f9f0",
    '"',
    "\\",
    "<&>",
    "../x",
)
_METHODS: Final = ("resources/read", "prompts/get", "tasks/cancel", "completion/complete")
_VERBS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE")


def questions(grants: Grants, seed: int, count: int) -> Iterator[Question]:
    """Make questions about some grants."""
    making = _Making(grants.data["grants"], Random(seed))  # noqa: S311 - nothing here is secret
    for number in range(count):
        yield Question(f"seed {seed}, question {number}", grants, making.query())


def list_questions(grants: Grants, seed: int, count: int) -> Iterator[Question]:
    """Make questions about lists of names, on some grants."""
    making = _Making(grants.data["grants"], Random(seed))  # noqa: S311 - nothing here is secret
    for number in range(count):
        yield Question(f"seed {seed}, list {number}", grants, making.list_query())


class _Making:
    def __init__(self, grants: Json, random: Random) -> None:
        self._grants = grants
        self._random = random

    def _name_of(self, table: Mapping[str, object]) -> str:
        names = sorted(table)
        return self._random.choice([*names * 6, _STRANGER]) if names else _STRANGER

    def _maybe(self, percent: int) -> bool:
        return self._random.randrange(100) < percent

    def query(self) -> Mapping[str, object]:
        """Make one question."""
        service = self._name_of(self._grants["services"])
        human = None if self._maybe(20) else self._human()
        binding = self._random.choice(["key", "key", "workload", "svid"])
        chain = [self._hop() for _ in range(self._random.choice([1, 1, 1, 2, 3]))]
        scopes = [f"{service}:{name}" for name in CLASSES if self._maybe(80)]
        return {
            "version": INPUT_VERSION,
            "phase": "check",
            "human": human,
            "agent": {**chain[0], "autonomous": self._maybe(50), "owner": "owner"},
            "chain": chain,
            "task": {"id": _TASK, "workload": _RUNNER},
            "peer": _RUNNER,
            "binding": binding,
            "scopes": [] if binding == "svid" else scopes,
            **self._asked(service),
            "payload": self._found(self._grants["services"].get(service, {}).get("payload", {})),
        }

    def list_query(self) -> Query:
        """Make one question about a list."""
        query: Json = self.query()
        query = {**query, **self._able(query)} if self._maybe(70) else query
        service = query["resource"]["service"]
        listed = self._grants["services"].get(service, {})
        kinds: list[Kind] = ["tool", "tool", "tool", *KINDS]
        kinds += ["model"] * (8 if "models" in listed else 0)
        kind = self._random.choice(kinds)
        protocol = "llm" if kind == "model" else "mcp"
        return visible_query(
            {name: query[name] for name in WHO},
            service,
            self._random.choice([protocol] * 19 + ["http"]),
            kind,
            self._names(listed, "models" if kind == "model" else "tools"),
        )

    def _able(self, query: Json) -> Json:
        """Let an agent ask about a service that it reaches, for nobody or for somebody who has part in it."""
        name = self._name_of(self._grants["agents"])
        agent = self._grants["agents"].get(name, {"tier": _STRANGER, "services": {}})
        service = self._name_of(agent["services"])
        hop = {"name": name, "ceiling": agent["tier"]}
        holds = [group for group, services in self._grants["groups"].items() if service in services]
        human = query["human"] and {**query["human"], "groups": holds[:64]}
        return {
            "human": human,
            "agent": {**query["agent"], **hop, "autonomous": human is None},
            "chain": [hop, *query["chain"][1 : None if self._maybe(20) else 1]],
            "scopes": [f"{service}:{name}" for name in CLASSES if self._maybe(80)],
            "resource": {"service": service},
        }

    def _names(self, listed: Json, table: str) -> list[str]:
        others = self._grants["services"].get(self._name_of(self._grants["services"]), {})
        offered = [*listed.get(table, {}), *others.get("tools", {}), *listed.get("methods", {}), *_ODD_NAMES]
        return self._random.sample(offered, self._random.randrange(len(offered) + 1))

    def _found(self, rules: Mapping[str, object]) -> list[str]:
        return sorted(name for name in PAYLOAD_CLASSES if self._maybe(25 if name in rules else 3))

    def _human(self) -> Mapping[str, object]:
        uri = self._random.choice([*sorted(self._grants["subjects"]), f"{_ISSUER}#somebody"])
        groups = sorted({self._name_of(self._grants["groups"]) for _ in range(self._random.randrange(4))})
        issuer, _, subject = uri.partition("#")
        named = {"issuer": issuer, "subject": subject, "uri": uri, "groups": groups}
        return {**named, "acr": None, "auth_time": None}

    def _hop(self) -> dict[str, object]:
        name = self._name_of(self._grants["agents"])
        tier = self._grants["agents"].get(name, {}).get("tier", _STRANGER)
        return {"name": name, "ceiling": tier if self._maybe(70) else self._name_of(self._grants["tiers"])}

    def _asked(self, service: str) -> Mapping[str, object]:
        listed = self._grants["services"].get(service, {})
        kinds = [self._tool, self._tool, self._tool, self._method, self._path, self._other]
        offered = {"a2a": self._agent, "models": self._model, "grpc": self._rpc}
        for name, kind in offered.items():
            kinds += [kind, kind, kind] if name in listed else [kind] * self._maybe(10)
        return self._random.choice(kinds)(service, listed)

    def _tool(self, service: str, listed: Json) -> Mapping[str, object]:
        tools = listed.get("tools", {})
        name = self._name_of(tools)
        arguments = self._arguments(tools.get(name, {}).get("limits", []))
        action = {"protocol": "mcp", "method": "tools/call", "phase": "call"}
        return self._rest(action, service, ("tool", name), arguments)

    def _method(self, service: str, listed: Json) -> Mapping[str, object]:
        method = self._random.choice([*sorted(listed.get("methods", {})), *_METHODS])
        action = {"protocol": "mcp", "method": method, "phase": "call"}
        return self._rest(action, service, ("resource", "file:///x"))

    def _agent(self, service: str, listed: Json) -> Mapping[str, object]:
        methods = listed.get("a2a", {})
        method = self._name_of(methods)
        arguments = self._arguments(methods.get(method, {}).get("limits", []))
        tenant = self._random.choice([self._name_of(listed.get("tenants", {})), service])
        action = {"protocol": "a2a", "method": method, "phase": "call"}
        return self._rest(action, service, ("agent", tenant), arguments)

    def _model(self, service: str, listed: Json) -> Mapping[str, object]:
        models = listed.get("models", {})
        name = self._name_of(models)
        arguments = self._arguments(models.get(name, {}).get("limits", []))
        action = {"protocol": "llm", "method": "chat.completions", "phase": "call"}
        return self._rest(action, service, ("model", name), arguments)

    def _rpc(self, service: str, listed: Json) -> Mapping[str, object]:
        action = {"protocol": "grpc", "method": "rpc", "phase": "call"}
        kind = "path" if self._maybe(5) else "rpc"
        return self._rest(action, service, (kind, self._name_of(listed.get("grpc", {}))))

    def _path(self, service: str, listed: Json) -> Mapping[str, object]:
        verb = self._random.choice([*sorted(listed.get("http", {})), *_VERBS])
        paths = [rule["path"] for rule in listed.get("http", {}).get(verb, [])]
        path = self._random.choice([*paths, "/"]) + self._random.choice(["", "", "x", "/y"])
        action = {"protocol": "http", "method": verb, "phase": "call"}
        return self._rest(action, service, ("path", path))

    def _other(self, service: str, _: Json) -> Mapping[str, object]:
        phase = self._random.choice(["check", "check", "exchange", "task"])
        target = ("server", service)
        if phase == "check":
            word = self._random.choice(["list", "lifecycle"])
            method = {"list": "tools/list", "lifecycle": "initialize"}[word]
            return self._rest({"protocol": "mcp", "method": method, "phase": word}, service, target)
        protocol, method = {"exchange": ("token", "exchange"), "task": ("identity", "task")}[phase]
        action = {"protocol": protocol, "method": method, "phase": "call"}
        return {**self._rest(action, service, target), "phase": phase, "request": None}

    def _rest(
        self, action: Mapping[str, str], service: str, target: tuple[str, str], arguments: Json = None
    ) -> dict[str, object]:
        return {
            "action": action,
            "resource": {"service": service, "type": target[0], "name": target[1]},
            "arguments": arguments,
            "request": {"method": "POST", "path": "/mcp", "host": "service.mesh.example"},
        }

    def _arguments(self, limits: Json) -> Json:
        if self._maybe(10):
            return None
        found: dict[str, Json] = {}
        for limit in limits:
            if self._maybe(90):
                _, *path = limit["path"]
                _put(found, path, self._near(limit))
        return found

    def _near(self, limit: Json) -> Json:
        if self._maybe(25):
            return self._random.choice(_OTHER_VALUES)
        match limit["kind"], limit["value"]:
            case "matches", value:
                return self._random.choice(
                    [value + self._random.choice(_ENDINGS), self._random.choice(_TEXTS)]
                )
            case "only", values:
                others = list(_OTHER_VALUES) if self._maybe(30) else []
                count = 70 if self._maybe(5) else self._random.randrange(4)
                return [self._random.choice([*values, *others, "x"]) for _ in range(count)]
            case _, value:
                return self._near_to(value)

    def _near_to(self, value: Json) -> Json:
        match value:
            case bool():
                return value
            case int() | float():
                return value + self._random.choice([-1, -0.5, 0, 0, 0, 0.5, 1])
            case str():
                return value + self._random.choice(["", "x", "é"])
            case [*several]:
                return self._random.choice(several)
            case _:
                return value


def _put(target: dict[str, Json], path: list[str], value: Json) -> None:
    """Put a value where a limit looks for it; what is in the way is replaced."""
    for name in path[:-1]:
        inner = target.get(name)
        if not isinstance(inner, dict):
            inner = target[name] = {}
        target = inner
    if path:
        target[path[-1]] = value
