"""Random grants and random questions, biased towards names that exist and values near the limits."""

import json
from collections import ChainMap
from random import Random
from typing import Any

from authz.policy.grants import Grants
from tests.policy.corpus import CLASSES, Case, question
from tests.policy.model import expected

_QUESTIONS_OF_ONE = 20
_TIERS = ["small", "medium", "large", "none-such"]
_SERVICES = ["alpha", "beta", "gamma", "none-such"]
_AGENTS = ["a0", "a1", "a2", "none-such"]
_GROUPS = ["g0", "g1", "g2", "none such"]
_TOOLS = ["get", "put", "drop", "Get", "none-such"]
_METHODS = ["resources/read", "prompts/get", "tasks/cancel"]
_PATHS = ["/", "/v1", "/v1/items", "/v1/items/", "/v1/items/7", "/v1/itemsx", "/v2", ""]
_PATTERNS = ["/*", "/v1", "/v1/items", "/v1/items/*", "/v1/*"]
_LARGE = [
    {"allow": ["read", "write"], "approve": ["destroy"]},
    {"approve": ["write"]},
    {"allow": list(CLASSES)},
]
_LIMITS = [
    {"max": 100},
    {"min": 1},
    {"min": 0, "max": 100.5},
    {"equals": 1},
    {"one_of": ["EUR", "CHF", True]},
    {"prefix": "E"},
    {"matches": "[A-Z]{3}|(v[0-9]+)(\\.[0-9]+)*"},
    {"matches": "[^a-z]*"},
    {"below": "d/"},
    {"only": ["EUR", 1, True]},
]
_DATA = ["card_number", "email", "secret"]
_AGENT_METHODS = ["SendMessage", "GetTask", "CancelTask", "ListTasks"]
_MODELS = ["small", "meta/large:1", "none-such"]
_RPCS = ["/a.B/Get", "/a.B/Put", "/a.B/Drop"]
_TENANTS = ["alpha", "beta", "acme", ""]
_POINTERS = ["/a", "/a/b", "/c~1d"]
_VALUES = [0, 1, 1.0, 99, 100, 100.5, 101, -1, True, False, "1", "EUR", "CHF", "", None, [1], {"b": 1}]
_VALUES += ["v1", "v1.2", "v1.", "EURO", "A" * 1025, "\u00c9"]
_VALUES += ["d/a", "d/../a", "d/a/.b", "d//a", "d/", "d/a\n"]
_VALUES += [[], ["EUR", True], ["EUR", "USD"], [1, 1.0], [False], [[1]], ["EUR"] * 65, {"0": "EUR"}]


def generate(seed: int, n: int) -> list[Case]:
    """Make `n` cases."""
    random = Random(seed)
    cases: list[Case] = []
    while len(cases) < n:
        data = Grants.parse(json.dumps(_grants(random)).encode()).data
        for _ in range(min(_QUESTIONS_OF_ONE, n - len(cases))):
            query = json.loads(json.dumps(_question(random, data)))
            effect, code = expected(data, query)
            cases.append(Case(f"generated {seed}/{len(cases)}", data, query, effect, code))
    return cases


def _some(random: Random, of: list[Any], least: int = 1) -> list[Any]:
    return random.sample(of, random.randint(least, len(of)))


def _classes(random: Random) -> list[str]:
    return _some(random, list(CLASSES))


def _grants(random: Random) -> dict[str, object]:
    """Make grants; every other time generous ones, else little would ever be allowed."""
    services = _SERVICES[:-1]
    least = random.choice([1, len(services)])
    granted = {
        name: {service: _classes(random) for service in _some(random, services, least)}
        for name in _some(random, _GROUPS[:-1], least)
    }
    return {
        "version": 1,
        "tiers": {
            "small": {"allow": ["read"]},
            "medium": {"allow": ["read", "write"]},
            "large": random.choice(_LARGE),
        },
        "services": {name: _service(random) for name in services},
        "humans": {
            "groups": granted,
            "subjects": random.choice([{}, {"https://idp.mesh.example#s0": {"alpha": _classes(random)}}]),
        },
        "agents": {
            name: {"tier": random.choice(_TIERS[:-1]), "services": _some(random, services, least)}
            for name in _some(random, _AGENTS[:-1], least)
        },
    }


def _service(random: Random) -> dict[str, object]:
    offered: dict[str, object] = {
        "a2a": {
            **{name: _operation(random) for name in _some(random, _AGENT_METHODS[:-1])},
            **({"tenants": _some(random, _TENANTS[:-1])} if random.random() < 0.5 else {}),
        },
        "models": {name: _operation(random) for name in _some(random, _MODELS[:-1])},
        "grpc": {name: random.choice(CLASSES) for name in _some(random, _RPCS[:-1])},
        "payload": {name: random.choice(["deny", "record"]) for name in _some(random, _DATA)},
    }
    return {
        **{name: value for name, value in offered.items() if random.random() < 0.8},
        "tools": {name: _tool(random) for name in _some(random, _TOOLS[:-1])},
        "methods": {name: random.choice(CLASSES) for name in _some(random, _METHODS)},
        "http": [
            {
                "methods": _some(random, ["GET", "POST", "DELETE"]),
                "paths": _some(random, _PATTERNS),
                "class": random.choice(CLASSES),
                **({"human": "required"} if random.random() < 0.2 else {}),
            }
            for _ in range(random.randint(1, 3))
        ],
    }


def _operation(random: Random) -> object:
    return random.choice([random.choice(CLASSES), _tool(random)])


def _tool(random: Random) -> dict[str, object]:
    tool: dict[str, object] = {"class": random.choice(CLASSES)}
    if random.random() < 0.2:
        tool["human"] = "required"
    if random.random() < 0.4:
        pointers = random.choice([_POINTERS, *([pointer] for pointer in _POINTERS)])
        tool["arguments"] = {pointer: random.choice(_LIMITS) for pointer in pointers}
    return tool


def _question(random: Random, data: Any) -> Any:
    """Start from a caller who has everything there is to have, and spoil some of it."""
    grants = data["grants"]
    service = random.choice(_SERVICES[:-1])
    agents = [name for name, agent in grants["agents"].items() if service in agent["services"]] or _AGENTS
    chain = random.sample(agents, min(len(agents), random.choice([1, 1, 2])))
    whole: dict[str, Any] = {
        "human": "s1",
        "groups": _GROUPS,
        "chain": chain,
        "ceilings": {name: grants["agents"].get(name, {"tier": "large"})["tier"] for name in chain},
        "autonomous": random.random() < 0.5,
        "service": service,
        "binding": "key",
    }
    spoils = [_spoiled(random, service) for _ in range(random.choice([0, 0, 1, 1, 2, 3]))]
    who = dict(ChainMap(*spoils, whole))
    return question({**who, "agent": who["chain"][0]}, _ask(random, grants, who["service"]))


def _spoiled(random: Random, service: str) -> dict[str, Any]:
    scopes = sorted({f"{service}:{name}" for name in CLASSES} | {"alpha:read"})
    spoils: list[dict[str, Any]] = [
        {"human": random.choice(["s0", None])},
        {"human": None, "autonomous": True, "binding": "svid"},
        {"groups": random.sample(_GROUPS, random.randint(0, 2))},
        {"chain": random.sample(_AGENTS, random.choice([1, 2, 3]))},
        {"ceilings": {name: random.choice(_TIERS) for name in _AGENTS}},
        {"service": random.choice(_SERVICES)},
        {"binding": random.choice(["workload", "svid"])},
        {"scopes": random.sample(scopes, random.randint(0, 3))},
    ]
    return random.choice(spoils)


def _ask(random: Random, grants: Any, service: str) -> dict[str, Any]:
    listed = list(grants["services"].get(service, {}).get("tools", {}))
    arguments = {name: random.choice(_VALUES) for name in _some(random, ["a", "c/d", "e"], 1)}
    found = _some(random, _DATA, 0) if random.random() < 0.3 else []
    choices: list[dict[str, Any]] = [
        {"tool": random.choice([*listed * 8, *_TOOLS]), "args": random.choice([arguments, arguments, None])},
        {"method": random.choice([*_METHODS, *_METHODS, "resources/subscribe"])},
        {"http": random.choice(["GET", "POST", "DELETE", "PATCH"]), "path": random.choice(_PATHS)},
        {"ask": random.choice(["list", "lifecycle", "exchange", "task"])},
        {
            "a2a": random.choice([*_offered(grants, service, "a2a"), *_AGENT_METHODS]),
            "tenant": random.choice([*[service] * 4, *_TENANTS]),
            "args": arguments,
        },
        {"model": random.choice([*_offered(grants, service, "models"), *_MODELS]), "args": arguments},
        {"grpc": random.choice([*_offered(grants, service, "grpc"), *_RPCS])},
    ]
    return {**random.choices(choices, [5, 1, 2, 2, 2, 2, 1])[0], "payload": sorted(found)}


def _offered(grants: Any, service: str, kind: str) -> list[str]:
    return list(grants["services"].get(service, {}).get(kind, {})) * 4
