"""A question to the shipped policy beside the grants: what the two say, in words.

- It looks up and describes; it decides nothing. What counts is the engine's answer alone, and every sentence
  made here is about a condition that the engine named.
- The look-ups follow authz/policy/rego: a test holds them against the policy on the whole corpus.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

CLASSES: Final = ("destroy", "read", "write")
MAX_ITEMS: Final = 64
_MAX_LISTED: Final = 12

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """A policy input (deputy.input/v1) and the grants that it is asked about."""

    query: Json
    grants: Json

    @property
    def service(self) -> str:
        """The name of the service that is asked about."""
        return str(self.query["resource"]["service"])

    @property
    def listed(self) -> Json | None:
        """What the grants list of the service."""
        found: Json | None = self.grants["services"].get(self.service)
        return found

    @property
    def is_call(self) -> bool:
        """Say whether one operation is called, not a list asked for or a token."""
        return (self.query["phase"], self.query["action"]["phase"]) == ("check", "call")

    @property
    def operation(self) -> Json | None:
        """What the grants say of the operation that is called."""
        if not self.is_call or self.listed is None:
            return None
        found: Json | None = None
        match self.query["action"], self.query["resource"]:
            case {"protocol": "http", "method": method}, {"name": path}:
                found = next(
                    (rule for rule in self.listed["http"].get(method, []) if _fits(rule, path)), None
                )
            case {"protocol": "a2a", "method": method}, {"type": "agent", "name": tenant}:
                found = self.listed.get("a2a", {}).get(method) if tenant in self.tenants else None
            case {"protocol": "llm"}, {"type": "model", "name": name}:
                found = self.listed.get("models", {}).get(name)
            case {"protocol": "grpc"}, {"type": "rpc", "name": name}:
                found = self.listed.get("grpc", {}).get(name)
            case {"protocol": "mcp", "method": "tools/call"}, {"type": "tool", "name": name}:
                found = self.listed["tools"].get(name)
            case {"protocol": "mcp", "method": method}, _ if method != "tools/call":
                found = self.listed["methods"].get(method)
        return found

    @property
    def tenants(self) -> Json:
        """The tenants of an A2A agent that are served."""
        return dict((self.listed or {}).get("tenants", {}))

    @property
    def withheld(self) -> tuple[str, ...]:
        """The classes of data that were found and may not go there."""
        rules = (self.listed or {}).get("payload", {})
        return tuple(name for name in self.query["payload"] if rules.get(name) == "deny")

    @property
    def subject(self) -> str:
        """Name the operation as the policy does: "the tool refund"."""
        action, resource = self.query["action"], self.query["resource"]
        if resource["type"] in {"tool", "model"}:
            return f"the {resource['type']} {resource['name']}"
        return f"the method {action['method']}"

    @property
    def wanted(self) -> tuple[str, ...]:
        """The classes of which one is needed."""
        if self.operation is not None:
            return (str(self.operation["class"]),)
        return CLASSES if self.listed is not None and not self.is_call else ()

    @property
    def extent(self) -> str:
        """Name what is asked for: "write on billing"."""
        wanted = self.wanted
        what = wanted[0] if len(wanted) == 1 else "anything"
        return f"{what} on {self.service}" if self.service else what

    @property
    def person(self) -> str | None:
        """The person's URI."""
        human: Json | None = self.query["human"]
        return None if human is None else str(human["uri"])

    @property
    def chain(self) -> tuple[Json, ...]:
        """Every agent, the presenter first."""
        return tuple(self.query["chain"])

    def sources(self) -> dict[str, tuple[str, ...]]:
        """Return what the person has on the service, by where it comes from."""
        human = self.query["human"]
        if human is None:
            return {}
        given = {"themselves": self.grants["subjects"].get(human["uri"])}
        given |= {f"group {name}": self.grants["groups"].get(name) for name in human["groups"]}
        return {
            name: tuple(sorted(classes.get(self.service, {})))
            for name, classes in given.items()
            if classes is not None
        }

    def describe_tier(self, name: str) -> str:
        """Say what a tier gives: "observer (allow read)"."""
        levels: Json | None = self.grants["tiers"].get(name)
        if levels is None:
            return f"{name} (no tier of the grants)"
        words = [
            f"{level} {', '.join(classes)}"
            for level in ("allow", "approve")
            if (classes := sorted(item for item, given in levels.items() if given == level))
        ]
        return f"{name} ({'; '.join(words)})"

    def describe_hop(self, hop: Json, verb: str = "has") -> str:
        """Say what an agent of the chain has: tier, ceiling and services."""
        name = str(hop["name"])
        granted = self.grants["agents"].get(name)
        if granted is None:
            return f"{name} is not in the grants"
        return (
            f"{name} {verb} the tier {self.describe_tier(granted['tier'])} and the ceiling "
            f"{self.describe_tier(hop['ceiling'])}, on {listing(granted['services'])}"
        )

    def argument(self, path: Iterable[str]) -> object:
        """Return the value at a path of the question, None where there is none."""
        value: object = self.query
        for step in path:
            value = value.get(step) if isinstance(value, Mapping) else None
        return value


def within(limit: Json, value: object) -> bool:
    """Say whether a value is within a limit, so that one can be proposed; the policy says if it is."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match limit["kind"]:
        case "max":
            return number and bool(value <= limit["value"])
        case "min":
            return number and bool(value >= limit["value"])
        case "one_of":
            return is_one_of(limit, value)
        case "only":
            one = partial(is_one_of, limit)
            return isinstance(value, list) and len(value) <= MAX_ITEMS and all(map(one, value))
        case "matches":
            # Python's own engine could take for ever, and the policy is asked anyway.
            return isinstance(value, str)
        case _:
            return isinstance(value, str) and value.startswith(limit["value"])


def is_one_of(limit: Json, value: object) -> bool:
    """Say whether a value is among those of a limit, as JSON compares: true is no 1."""
    return any(isinstance(value, bool) is isinstance(item, bool) and value == item for item in limit["value"])


def listing(names: Iterable[str]) -> str:
    """Write names one after the other, not too many."""
    found = sorted(names)
    more = f" and {len(found) - _MAX_LISTED} more" if len(found) > _MAX_LISTED else ""
    return (", ".join(found[:_MAX_LISTED]) or "nothing") + more


def _fits(rule: Json, path: str) -> bool:
    return bool(path == rule["path"] or (rule["below"] and path.startswith(rule["path"])))
