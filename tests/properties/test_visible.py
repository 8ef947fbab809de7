"""What is visible in a list is what some call could do, whoever asks and whatever is granted.

- What is allowed or approved with any arguments is visible; what is not visible is denied with all of them.
- What is visible would be allowed or approved, were there no limits of arguments and no rules about data.
- Most callers may do much, with one thing or two spoilt: that is where something hangs on every rule.
- Asked about one by one, or in another order, or beside other names, a name is as visible as before.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from authz.policy.embedded import EmbeddedPolicy
from authz.policy.grants import Grants
from authz.policy.modules import shipped_modules
from authz.policy.query import Kind, visible_query

Json = Any  # what a test writes; grants.py and the policy read it

CLASSES: Final = ("read", "write", "destroy")
SERVICES: Final = ("tickets", "billing")
AGENTS: Final = ("triage", "resolver", "admin")
TIERS: Final = ("small", "large")
GROUPS: Final = ("lead", "reader")
TOOLS: Final = ("t0", "t1", "t2", "t3", "tickets", "class")
NAMES: Final = (*TOOLS, "file:///x", "m0", "nowhere", "T0", "t0 ", "")
KINDS: Final[Mapping[Kind, tuple[str, str, str]]] = {
    "tool": ("mcp", "tools/call", "tool"),
    "resource": ("mcp", "resources/read", "resource"),
    "resource_template": ("mcp", "resources/read", "resource"),
    "prompt": ("mcp", "prompts/get", "prompt"),
    "model": ("llm", "chat.completions", "model"),
}
# What a call may bring along: arguments, and the classes of data that were found in it.
BROUGHT: Final[tuple[tuple[Json, list[str]], ...]] = (
    ({}, []),
    (None, []),
    ({"amount": 5}, []),
    ({"amount": 5}, ["secret"]),
    ({"amount": 50, "to": "a"}, []),
    ({"amount": "5"}, ["email", "secret"]),
)

limits = st.sampled_from([{}, {}, {"/amount": {"max": 10}}, {"/to": {"prefix": "a"}}])
T = TypeVar("T")


def mostly(usual: T, other: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """Give the usual value in seven of eight cases."""
    return st.integers(0, 7).flatmap(lambda number: other if number == 7 else st.just(usual))


classes = mostly(list(CLASSES), st.lists(st.sampled_from(CLASSES), unique=True, min_size=1))
some_services = mostly(list(SERVICES), st.lists(st.sampled_from(SERVICES), unique=True, min_size=1))


@st.composite
def _offers(draw: st.DrawFn) -> Json:
    """One thing that a service offers."""
    offered: Json = {"class": draw(st.sampled_from(CLASSES))}
    if draw(st.booleans()):
        offered["human"] = "required"
    arguments = draw(limits)
    return {**offered, **({"arguments": arguments} if arguments else {})}


def _tables(names: Sequence[str]) -> st.SearchStrategy[Json]:
    return st.dictionaries(st.sampled_from(names), _offers(), min_size=1, max_size=len(names))


@st.composite
def _services(draw: st.DrawFn) -> Json:
    service: Json = {"tools": draw(_tables(TOOLS))}
    if draw(st.booleans()):
        methods = st.sampled_from(["resources/read", "prompts/get"])
        service["methods"] = draw(st.dictionaries(methods, st.sampled_from(CLASSES), min_size=1))
    if draw(st.booleans()):
        service["models"] = draw(_tables(["m0", "t0"]))
    if draw(st.booleans()):
        service["payload"] = {"secret": "deny", "email": "record"}
    return service


@st.composite
def _tiers(draw: st.DrawFn) -> Json:
    allowed = draw(mostly(["read", "write"], classes))
    left = [name for name in CLASSES if name not in allowed]
    approved = draw(mostly(left, st.just([])))
    return {"allow": allowed, **({"approve": approved} if approved else {})}


grants_of: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "tiers": st.fixed_dictionaries(dict.fromkeys(TIERS, _tiers())),
        "services": st.fixed_dictionaries(dict.fromkeys(SERVICES, _services())),
        "humans": st.fixed_dictionaries(
            {
                "groups": st.fixed_dictionaries(
                    dict.fromkeys(GROUPS, st.dictionaries(st.sampled_from(SERVICES), classes, min_size=2))
                )
            }
        ),
        "agents": st.fixed_dictionaries(
            dict.fromkeys(
                AGENTS,
                st.fixed_dictionaries({"tier": st.sampled_from(TIERS), "services": some_services}),
            )
        ),
    }
)


@st.composite
def _callers(draw: st.DrawFn) -> dict[str, Json]:
    names = draw(mostly(["triage"], st.lists(st.sampled_from((*AGENTS, "stranger")), min_size=1, max_size=3)))
    chain = [
        {"name": name, "ceiling": draw(mostly("large", st.sampled_from((*TIERS, "none"))))} for name in names
    ]
    human = {
        "issuer": "https://idp.example",
        "subject": "lead",
        "uri": "https://idp.example#lead",
        "groups": draw(mostly(["lead"], st.lists(st.sampled_from(GROUPS), unique=True))),
        "acr": None,
        "auth_time": None,
    }
    is_named = draw(st.booleans())
    scopes = [f"{service}:{name}" for service in SERVICES for name in CLASSES]
    return {
        "version": "deputy.input/v1",
        "human": human if is_named else None,
        "agent": {**chain[0], "autonomous": draw(mostly(not is_named, st.booleans())), "owner": "o"},
        "chain": chain,
        "task": {"id": "01K0000000000000000000000A", "workload": "spiffe://mesh.example/ns/agents/sa/runner"},
        "peer": "spiffe://mesh.example/ns/agents/sa/runner",
        "binding": draw(st.sampled_from(["key", "workload", "svid"])),
        "scopes": draw(st.just(scopes) | st.lists(st.sampled_from(scopes), unique=True)),
    }


class Case:
    """One policy, and the same without limits of arguments and rules about data."""

    def __init__(self, file: Json, who: dict[str, Json], service: str, kind: Kind) -> None:
        self.who, self.service, self.kind = who, service, kind
        self.policy, self.lax = _policy(file), _policy(_lax(file))

    def visible(self, names: Sequence[str]) -> frozenset[str]:
        protocol = KINDS[self.kind][0]
        return asyncio.run(
            self.policy.visible(visible_query(self.who, self.service, protocol, self.kind, names))
        )

    def passes(self, name: str, policy: EmbeddedPolicy, arguments: Json, payload: list[str]) -> bool:
        """Say whether a call would be allowed or approved."""
        protocol, method, kind = KINDS[self.kind]
        call = {
            **self.who,
            "phase": "check",
            "action": {"protocol": protocol, "method": method, "phase": "call"},
            "resource": {"service": self.service, "type": kind, "name": name},
            "arguments": arguments,
            "payload": payload,
            "request": {"method": "POST", "path": "/mcp", "host": "tickets.mesh.example"},
        }
        return asyncio.run(policy.decide(call)).effect != "deny"


def _policy(file: Json) -> EmbeddedPolicy:
    return EmbeddedPolicy(shipped_modules(), Grants.parse(json.dumps(file).encode()))


def _lax(value: Json) -> Json:
    if isinstance(value, dict):
        return {name: _lax(item) for name, item in value.items() if name not in {"arguments", "payload"}}
    return value


cases = st.builds(
    Case,
    grants_of,
    _callers(),
    st.sampled_from(SERVICES),
    st.sampled_from(["tool", "tool", *KINDS]),
)


@settings(max_examples=80, deadline=None)
@given(cases)
def test_visible_is_what_some_call_could_do(case: Case) -> None:
    visible = case.visible(NAMES)

    for name in NAMES:
        passes = [case.passes(name, case.policy, *brought) for brought in BROUGHT]
        assert name in visible or not any(passes), name
        assert (name in visible) is case.passes(name, case.lax, None, []), name


@settings(max_examples=40, deadline=None)
@given(cases, st.permutations(NAMES), st.sets(st.sampled_from(NAMES)))
def test_a_name_is_as_visible_beside_others_as_alone(case: Case, order: list[str], part: set[str]) -> None:
    visible = case.visible(NAMES)

    assert case.visible(order) == visible
    assert case.visible(sorted(part)) == visible & part
    assert all(case.visible([name]) == visible & {name} for name in part)
