"""What might be changed so that a call would be allowed: small changes, to be tried on the engine.

- A change is proposed here and proves nothing. Only what the engine then answered is told as a way.
- One change for one reason: an argument within its limit, a scope, a stronger binding, a grant, another tier,
  no detour over other agents. What cannot be made up (a person, the class of an unknown tool) is not tried.
- Question and grants are copied; nothing on disk is touched.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, Literal

from authz.codes import find_code
from authz.form import Form
from authz.policy.explain_facts import bounds, limits_of, shown
from authz.policy.explain_question import MAX_ITEMS, Json, Question, is_one_of, listing, within
from authz.policy.verdict import Reason, Verdict

Kind = Literal["policy", "grant", "approval", "argument", "token", "request", "config"]
Mutable = dict[str, Any]

_KINDS: Final[dict[str, Kind]] = {
    "DPT-SERVICE-UNKNOWN": "grant",
    "DPT-TOOL-UNKNOWN": "grant",
    "DPT-HUMAN-NOT-GRANTED": "grant",
    "DPT-AGENT-NOT-GRANTED": "grant",
    "DPT-AGENT-TIER": "grant",
    "DPT-CHAIN-NARROWED": "token",
    "DPT-HUMAN-REQUIRED": "token",
    "DPT-SCOPE-MISSING": "token",
    "DPT-BINDING-WEAK": "token",
    "DPT-ARGUMENT-LIMIT": "argument",
    "DPT-PAYLOAD": "argument",
    "DPT-APPROVAL-REQUIRED": "approval",
    "DPT-ASKER-UNKNOWN": "config",
    "DPT-ASKER-TARGET": "config",
}
_KINDS_BY_FORM: Final[dict[Form, Kind]] = {
    Form.TOKEN: "token",
    Form.MALFORMED: "request",
    Form.REFUSED: "request",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that would be different."""

    kind: Kind
    what: str


@dataclass(frozen=True, slots=True)
class Trial:
    """A change for one reason, and how to make it on copies; `on_grants` says that the data change."""

    code: str
    change: Change
    apply: Callable[[Mutable, Mutable], None]
    on_grants: bool


def kind_of(code: str) -> Kind:
    """Return what has to change where a code is the reason."""
    known = find_code(code)
    by_form = _KINDS_BY_FORM.get(known.form, "policy") if known else "policy"
    return _KINDS.get(code, by_form)


def trials(question: Question, verdict: Verdict) -> tuple[Trial, ...]:
    """Propose changes, for each reason of the verdict."""
    found: dict[Change, Trial] = {}
    for reason in verdict.reasons:
        for trial in _for(reason, question):
            found.setdefault(trial.change, trial)
    return tuple(found.values())


def sets_to_try(proposed: Sequence[Trial]) -> Iterator[tuple[tuple[Trial, ...], ...]]:
    """Yield sets of changes, the small ones first: each alone, then two, then one for every reason."""
    yield tuple((trial,) for trial in proposed)
    pairs = tuple(pair for pair in combinations(proposed, 2) if pair[0].code != pair[1].code)
    if pairs:
        yield pairs
    first_of_each = tuple({trial.code: trial for trial in reversed(proposed)}.values())
    if len(first_of_each) > 2:
        yield (first_of_each,)


def changed(question: Question, tried: Sequence[Trial]) -> Question:
    """Return the question and the grants with some changes."""
    query, grants = copy.deepcopy(dict(question.query)), copy.deepcopy(dict(question.grants))
    for trial in tried:
        trial.apply(query, grants)
    return Question(query, grants)


def _for(reason: Reason, question: Question) -> Iterator[Trial]:
    match reason.code:
        case "DPT-ARGUMENT-LIMIT":
            yield from _argument(reason, question)
        case "DPT-PAYLOAD":
            told = f"the same without {listing(question.withheld)}"
            left = [name for name in question.query["payload"] if name not in question.withheld]
            yield _on_query(reason.code, "argument", told, {"payload": left})
        case "DPT-SCOPE-MISSING":
            yield from _scope(question)
        case "DPT-BINDING-WEAK" if question.query["binding"] == "workload":
            yield _on_query(reason.code, "token", "a token bound to the agent's own key", {"binding": "key"})
        case "DPT-HUMAN-NOT-GRANTED":
            yield from _human(question)
        case "DPT-AGENT-NOT-GRANTED" | "DPT-AGENT-TIER":
            yield from _raised(reason.code, question, (0,))
        case "DPT-APPROVAL-REQUIRED":
            yield from _raised(reason.code, question, tuple(range(len(question.chain))))
        case "DPT-CHAIN-NARROWED" if len(question.chain) > 1:
            direct = f"a token for {question.chain[0]['name']} alone, not by way of other agents"
            yield _on_query(reason.code, "token", direct, {"chain": [dict(question.chain[0])]})
            yield from _raised(reason.code, question, tuple(range(1, len(question.chain))))


def _on_query(code: str, kind: Kind, what: str, members: Json) -> Trial:
    def apply(query: Mutable, _grants: Mutable) -> None:
        query.update(members)

    return Trial(code, Change(kind, what), apply, on_grants=False)


def _scope(question: Question) -> Iterator[Trial]:
    for name in question.wanted:
        scope = f"{question.service}:{name}"
        scopes = sorted({*question.query["scopes"], scope})
        yield _on_query("DPT-SCOPE-MISSING", "token", f"a token with the scope {scope}", {"scopes": scopes})


def _argument(reason: Reason, question: Question) -> Iterator[Trial]:
    limits = limits_of(reason, question)
    if not limits:
        return
    path = limits[0]["path"]
    now = question.argument(path)
    edges = [
        edge
        for limit in limits
        for edge in _edges(limit, now)
        if all(within(other, edge) for other in limits)
    ]
    if not edges:
        return
    value = min(edges, key=lambda edge: _distance(edge, now))
    what = f"{limits[0]['pointer']} {bounds(limits)}, such as {shown(value)} in place of {shown(now)}"

    def apply(query: Mutable, _grants: Mutable) -> None:
        place = query
        for step in path[:-1]:
            below = place.get(step)
            place[step] = place = below if isinstance(below, dict) else {}
        place[path[-1]] = value

    yield Trial(reason.code, Change("argument", what), apply, on_grants=False)


def _edges(limit: Json, now: object) -> list[object]:
    match limit["kind"]:
        case "one_of":
            return list(limit["value"])
        case "only":
            kept = [item for item in now if is_one_of(limit, item)] if isinstance(now, list) else []
            return [kept[:MAX_ITEMS] or limit["value"][:1]]
        case "matches":
            return []  # what matches is not guessed
        case _:
            return [limit["value"]]


def _distance(edge: object, now: object) -> float:
    if isinstance(edge, int | float) and isinstance(now, int | float):
        return abs(edge - now)
    return 0.0


def _human(question: Question) -> Iterator[Trial]:
    human, wanted = question.query["human"], question.wanted
    if human is None or not wanted:
        return
    known = [group for group in human["groups"] if group in question.grants["groups"]]
    group = next(iter([*known, *human["groups"]]), None)
    part, name = ("subjects", human["uri"]) if group is None else ("groups", group)
    # To list or to sign in, reading is enough.
    needed = wanted[0] if len(wanted) == 1 else "read"

    def apply(_query: Mutable, grants: Mutable) -> None:
        grants[part].setdefault(name, {}).setdefault(question.service, {})[needed] = True

    what = f"{needed} on {question.service} for {name} under humans.{part} in grants.yaml"
    yield Trial("DPT-HUMAN-NOT-GRANTED", Change("grant", what), apply, on_grants=True)


def _raised(code: str, question: Question, places: tuple[int, ...]) -> Iterator[Trial]:
    """Propose the least tier that allows what is asked for, for agents at some places of the chain."""
    needed = question.wanted[0] if len(question.wanted) == 1 else "read"
    tier = _least_tier(question.grants["tiers"], needed)
    if tier is None or not question.listed:
        return
    names = [str(question.chain[place]["name"]) for place in places]

    def apply(query: Mutable, grants: Mutable) -> None:
        for place, name in zip(places, names, strict=True):
            agent = grants["agents"].setdefault(name, {"tier": tier, "services": {}})
            agent["services"][question.service] = True
            if not _allows(grants, agent["tier"], needed):
                agent["tier"] = tier
            if not _allows(grants, query["chain"][place]["ceiling"], needed):
                query["chain"][place] = {**query["chain"][place], "ceiling": tier}
                if place == 0:
                    query["agent"] = {**query["agent"], "ceiling": tier}

    copied = changed(question, ())
    query, grants = dict(copied.query), dict(copied.grants)
    apply(query, grants)
    after = Question(query, grants)
    told = [
        after.describe_hop(after.chain[place], "with")
        for place in places
        if after.describe_hop(after.chain[place]) != question.describe_hop(question.chain[place])
    ]
    if told:
        yield Trial(code, Change("grant", "; ".join(told)), apply, on_grants=True)


def _allows(grants: Json, tier: str, needed: str) -> bool:
    return bool(grants["tiers"].get(tier, {}).get(needed) == "allow")


def _least_tier(tiers: Json, needed: str) -> str | None:
    fitting = [name for name, levels in tiers.items() if levels.get(needed) == "allow"]
    return min(fitting, key=lambda name: (len(tiers[name]), name), default=None)
