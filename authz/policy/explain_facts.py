"""What a condition of the shipped policy wanted, and what it found.

- One sentence each, made of the question and the grants; the policy's own words stand beside them.
- Only for conditions that the engine named: all of those that failed, or, for an allow, all that an allow
  needs.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from authz.policy.explain_question import Json, Question, listing
from authz.policy.verdict import Reason

_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Fact:
    """What was wanted and what was there."""

    wanted: str
    actual: str


def fact(reason: Reason, question: Question) -> Fact | None:
    """Return what a failed condition wanted and found, None where only the policy itself can say."""
    match reason.rule:
        case "service":
            return Fact(
                f"{question.service} under services", f"there are {listing(question.grants['services'])}"
            )
        case "operation":
            return _operation(question)
        case "human_named":
            return _human_named(question)
        case "human_has":
            return Fact(f"{question.extent}, for the person or one of their groups", _person_has(question))
        case "human_known":
            return Fact("the person, or one of their groups, under humans", _person_has(question))
        case "hop_has" | "agents_known":
            return _presenter(reason, question)
        case "chain_has":
            found = "; ".join(question.describe_hop(hop) for hop in question.chain[1:])
            return Fact(f"{question.extent}, from every agent that delegated", found)
        case "scope_held":
            return Fact(f"the scope {listing(scopes_for(question))}", _scopes(question))
        case "within" | "payload_passes":
            return _sent(reason, question)
        case "binding_strong":
            return Fact("a token bound to the agent's own key", f"bound by {question.query['binding']}")
        case "approval_needed":
            found = "; ".join(question.describe_hop(hop) for hop in question.chain)
            return Fact(f"{question.extent} under allow, in every tier and ceiling", found)
        case _:
            return None


def carried(question: Question) -> Iterator[tuple[str, str]]:
    """Say what an allow rests on: each condition by its rule, with what fulfilled it."""
    phase = question.query["phase"]
    yield from _carried_by_human(question)
    if phase == "task":
        yield "agents_known", "; ".join(question.describe_hop(hop) for hop in question.chain)
        return
    for hop in question.chain:
        yield "hop_has", question.describe_hop(hop)
    if phase == "exchange":
        return
    alone = question.query["binding"] == "svid"
    yield "scope_held", "an agent's own SVID has no scopes, and is for nobody" if alone else _scopes(question)
    operation = question.operation
    if operation is not None:
        for limit in operation["limits"]:
            value = shown(question.argument(limit["path"]))
            yield "arguments_within", f"{limit['pointer']} is {value}, which is {limit['text']}"
        if (question.listed or {}).get("payload"):
            yield "payload_passes", f"nothing is sent that may not go there; found {_found(question)}"
        yield "binding_strong", f"{operation['class']}, bound by {question.query['binding']}"


def scopes_for(question: Question) -> list[str]:
    """Return the scopes of which one would do."""
    return [f"{question.service}:{name}" for name in question.wanted]


def bounds(limits: Sequence[Json]) -> str:
    """Say what all limits of one argument demand: "at least 0 and at most 100"."""
    return " and ".join(limit["text"] for limit in limits)


def shown(value: object) -> str:
    """Write a value, shortened."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _operation(question: Question) -> Fact:
    resource, listed = question.query["resource"], question.listed or {}
    method = question.query["action"]["method"]
    kind, name = {
        "a2a": ("a2a", f"{method}, for the tenant {shown(resource['name'])},"),
        "llm": ("models", shown(resource["name"])),
        "grpc": ("grpc", shown(resource["name"])),
        "http": ("http", f"{method} {resource['name']}"),
    }.get(question.query["action"]["protocol"], ("methods", method))
    if kind == "methods" and method == "tools/call":
        kind, name = "tools", resource["name"]
    tenants = f", for the tenants {listing(question.tenants)}" if kind == "a2a" else ""
    return Fact(
        f"{name} under services.{question.service}.{kind}",
        f"there is {listing(listed.get(kind, {}))}{tenants}",
    )


def _found(question: Question) -> str:
    return listing(question.query["payload"])


def _human_named(question: Question) -> Fact:
    agent, operation = question.query["agent"], question.operation
    found = [
        "nobody is named",
        f"{agent['name']} is {'' if agent['autonomous'] else 'not '}registered as autonomous",
        f"{len(question.chain)} agent(s) in the chain",
    ]
    if operation is not None and operation["human"]:
        found.append("the operation has 'human: required'")
    return Fact("a person, or one autonomous agent and an operation that demands no person", "; ".join(found))


def _person_has(question: Question) -> str:
    groups = question.query["human"]["groups"] if question.query["human"] else []
    sources = question.sources()
    if not sources:
        return f"nothing is granted to them; their groups: {listing(groups)}"
    return "; ".join(
        f"{name} has {', '.join(classes) or 'nothing'} on {question.service}"
        for name, classes in sources.items()
    )


def _presenter(reason: Reason, question: Question) -> Fact:
    presenter = question.chain[0]
    if reason.code == "DPT-AGENT-NOT-GRANTED":
        wanted = f"{question.service or presenter['name']} among what {presenter['name']} is granted"
    else:
        wanted = f"{question.extent}, from the tier and from the ceiling of {presenter['name']}"
    return Fact(wanted, question.describe_hop(presenter))


def _sent(reason: Reason, question: Question) -> Fact | None:
    if reason.rule == "payload_passes":
        return Fact(f"nothing of {listing(question.withheld)}", f"found {_found(question)}")
    limits = limits_of(reason, question)
    if not limits:
        return None
    return Fact(f"{limits[0]['pointer']} {bounds(limits)}", shown(question.argument(limits[0]["path"])))


def limits_of(reason: Reason, question: Question) -> list[Json]:
    """Return the limits that a reason is about: those of the argument that its sentence names."""
    limits: list[Json] = list(question.operation["limits"]) if question.operation else []
    named = {
        limit["pointer"]
        for limit in limits
        if reason.msg
        in {
            f"the argument {limit['pointer']} of {question.subject} is outside its limit",
            f"the argument {limit['pointer']} must be {limit['text']}",
        }
    }
    return [limit for limit in limits if limit["pointer"] in named]


def _scopes(question: Question) -> str:
    return f"the token has {listing(question.query['scopes'])}"


def _carried_by_human(question: Question) -> Iterator[tuple[str, str]]:
    if question.person is None:
        agent = question.query["agent"]["name"]
        yield "human_named", f"nobody is named, and {agent} is registered as autonomous"
    else:
        rule = "human_known" if question.query["phase"] == "task" else "human_has"
        yield rule, _person_has(question)
