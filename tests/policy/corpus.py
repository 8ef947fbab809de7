"""The policy's corpus: questions with the answer that every engine must give.

- cases/*.yaml holds what people wrote: `given` (who asks), `expect` (what for, and the answer).
- What a test does not list is denied: each tool of a service that `expect` leaves out becomes a case, and so
  does a tool that nobody lists.
- `generated_cases` makes data and questions from a seed; their answers come from the model (model.py).
- never.yaml holds what no grants and no question may ever bring about.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from authz.policy.grants import Grants
from authz.policy.yaml_strict import load_yaml

HERE = Path(__file__).resolve().parent
CLASSES = ("destroy", "read", "write")
_MAX = 1 << 20
_ISSUER = "https://idp.mesh.example"
_RUNNER = "spiffe://mesh.example/ns/agents/sa/runner"
_TASK = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
_WHO = ("human", "agent", "chain", "binding", "scopes", "service", "autonomous", "groups", "ceilings")

Json = Any  # what tests read from files; the tests themselves are the check


@dataclass(frozen=True, slots=True)
class Case:
    """A question on some data; `code` is the main reason, None where the effect alone is expected."""

    name: str
    data: Mapping[str, object]
    query: Mapping[str, object]
    effect: str
    code: str | None = None
    codes: tuple[str, ...] | None = None
    obligations: Mapping[str, object] | None = None


@cache
def grants(name: str) -> Mapping[str, object]:
    """Return the data of grants/<name>.yaml, or of the demo."""
    path = HERE.parents[1] / "authz/demo/grants.yaml" if name == "demo" else HERE / "grants" / f"{name}.yaml"
    return Grants.parse(path.read_bytes()).data


def load_cases() -> list[Case]:
    """Read every case that people wrote, and what follows from leaving cases out."""
    cases: list[Case] = []
    for path in sorted((HERE / "cases").glob("*.yaml")):
        cases += _file(path.stem, cast("Json", load_yaml(path.read_bytes(), _MAX)))
    return cases


def generated_cases(seed: int, n: int) -> list[Case]:
    """Make `n` questions on random grants; the same seed gives the same ones."""
    from tests.policy.generate import generate

    return generate(seed, n)


def never() -> list[Mapping[str, object]]:
    """Return what may never be allowed: a list of facts that do not go together with an allow."""
    content = cast("Json", load_yaml((HERE / "never.yaml").read_bytes(), _MAX))
    return cast("list[Mapping[str, object]]", content["never"])


def facts(case: Case) -> Mapping[str, object]:
    """Describe a case in the words of never.yaml."""
    query = cast("Json", case.query)
    services = cast("Json", case.data)["grants"]["services"]
    resource = query["resource"]
    listed = services.get(resource["service"], {}).get("tools", {}).get(resource["name"], {})
    is_tool = query["action"]["method"] == "tools/call" and query["phase"] == "check"
    return {
        "human": None if query["human"] is None else "named",
        "autonomous": query["agent"]["autonomous"],
        "chain": "delegated" if len(query["chain"]) > 1 else "direct",
        "binding": query["binding"],
        "scopes": query["scopes"] or None,
        "class": listed.get("class") if is_tool else None,
        "phase": query["phase"],
    }


def question(who: Mapping[str, Json], ask: Mapping[str, Json]) -> Mapping[str, object]:
    """Write the question of one line of a case."""
    service = who.get("service", "")
    human = _human(who)
    agent = who["agent"]
    ceilings = who.get("ceilings", {})
    chain = [{"name": name, "ceiling": ceilings.get(name, "operator")} for name in who.get("chain", [agent])]
    held = [f"{service}:{name}" for name in CLASSES]
    binding = who.get("binding", "svid" if human is None else "key")
    return {
        "version": "deputy.input/v1",
        "phase": ask["ask"] if ask.get("ask") in {"exchange", "task"} else "check",
        "human": human,
        "agent": {
            "name": agent,
            "ceiling": ceilings.get(agent, "operator"),
            "autonomous": who.get("autonomous", False),
            "owner": "support-team",
        },
        "chain": chain,
        "task": {"id": _TASK, "workload": _RUNNER},
        "peer": _RUNNER,
        "binding": binding,
        "scopes": sorted(who.get("scopes", [] if binding == "svid" else held)),
        **_asked(ask, service),
    }


def _asked(ask: Mapping[str, Json], service: str) -> Mapping[str, object]:
    kind, name, arguments = "server", service, None
    action = {"protocol": "mcp", "phase": "call"}
    match ask:
        case {"tool": name}:
            action["method"] = "tools/call"
            kind, arguments = "tool", ask.get("args")
        case {"method": method}:
            action["method"] = method
            kind, name = "resource", ask.get("name", "file:///x")
        case {"a2a": method}:
            action |= {"protocol": "a2a", "method": method}
            kind, name, arguments = "agent", ask.get("tenant", service), ask.get("args")
        case {"model": name}:
            action |= {"protocol": "llm", "method": "chat.completions"}
            kind, arguments = "model", ask.get("args")
        case {"grpc": name}:
            action |= {"protocol": "grpc", "method": "rpc"}
            kind = "rpc"
        case {"http": method, "path": name}:
            action |= {"protocol": "http", "method": method}
            kind = "path"
        case {"ask": "list"}:
            action |= {"method": "tools/list", "phase": "list"}
        case {"ask": "lifecycle"}:
            action |= {"method": "initialize", "phase": "lifecycle"}
        case {"ask": "exchange"}:
            action = {"protocol": "token", "method": "token-exchange", "phase": "lifecycle"}
        case _:
            action = {"protocol": "identity", "method": "tasks/start", "phase": "lifecycle"}
            kind = "task"
    request = {"method": "POST", "path": "/mcp", "host": "service.mesh.example"}
    return {
        "action": action,
        "resource": {"service": service, "type": kind, "name": name},
        "arguments": arguments,
        "payload": ask.get("payload", []),
        "request": None if ask.get("ask") in {"exchange", "task"} else request,
    }


def _human(who: Mapping[str, Json]) -> Mapping[str, object] | None:
    name = who.get("human")
    if name is None:
        return None
    return {
        "issuer": _ISSUER,
        "subject": name,
        "uri": f"{_ISSUER}#{name}",
        "groups": who.get("groups", [name]),
        "acr": None,
        "auth_time": 1_800_000_000,
    }


def _file(stem: str, content: Json) -> Iterator[Case]:
    for test in content["tests"]:
        data = grants(test.get("grants", content.get("grants", "full")))
        given = {**content.get("given", {}), **test.get("given", {})}
        for line in [*test["expect"], *_unlisted(test, given, data)]:
            who = {**given, **{key: line[key] for key in _WHO if key in line}}
            yield Case(
                name=f"{stem}: {test['name']}: {json.dumps(line, ensure_ascii=False)}",
                data=data,
                query=question(who, line),
                effect=line["effect"],
                code=line.get("code"),
                codes=tuple(line["codes"]) if "codes" in line else None,
                obligations=line.get("obligations"),
            )


def _unlisted(test: Json, given: Json, data: Mapping[str, object]) -> Iterator[Json]:
    """Deny what the test does not list, where its `given` names a whole caller."""
    if not test.get("rest_denied", True):
        return
    services = cast("Json", data)["grants"]["services"]
    listed = {line.get("tool") for line in test["expect"]}
    for tool in [*services.get(given.get("service"), {}).get("tools", {}), "no_such_tool"]:
        if tool not in listed:
            yield {"tool": tool, "effect": "deny"}
