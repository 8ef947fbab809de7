"""Why a question was answered as it was, and what would have to be different (deputy.explanation/v1).

- The verdict is the engine's. Its reasons are told in its own words, each with the place of its rule.
- What a condition wanted and found is told for the shipped policy only: of another one we know no meaning.
- A way to an allow is told as tried only where the engine answered so; a fix that was not tried says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from authz.codes import Code, find_code
from authz.policy.explain_changes import Change, kind_of
from authz.policy.explain_facts import carried, fact
from authz.policy.explain_question import Question
from authz.policy.explain_where import where
from authz.policy.modules import Modules
from authz.policy.verdict import Effect, Reason, Verdict

VERSION: Final = "deputy.explanation/v1"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition that failed, or that carried an allow."""

    code: str
    rule: str
    at: str | None
    message: str
    wanted: str | None = None
    actual: str | None = None
    audience: Literal["agent", "operator"] = "agent"


@dataclass(frozen=True, slots=True)
class Way:
    """Changes, and what the engine answered with them; None where it was not asked."""

    changes: tuple[Change, ...]
    effect: Effect | None


@dataclass(frozen=True, slots=True)
class Who:
    """Everybody who stands behind the question; `chain` is in the order of delegation, the presenter last."""

    human: str | None
    groups: tuple[str, ...]
    chain: tuple[str, ...]
    peer: str | None
    binding: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """All of it; `inexact` says why a replay may differ from what happened."""

    effect: Effect
    code: str
    sentence: str
    who: Who
    what: Mapping[str, object]
    conditions: tuple[Condition, ...]
    would_allow: tuple[Way, ...]
    policy: Mapping[str, object]
    inexact: tuple[str, ...] = ()
    obligations: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return deputy.explanation/v1."""
        return {
            "version": VERSION,
            "effect": self.effect,
            "code": self.code,
            "sentence": self.sentence,
            "who": {
                "human": self.who.human,
                "groups": list(self.who.groups),
                "chain": list(self.who.chain),
                "peer": self.who.peer,
                "binding": self.who.binding,
            },
            "what": dict(self.what),
            "conditions": [
                {
                    "code": condition.code,
                    "rule": condition.rule,
                    "at": condition.at,
                    "message": condition.message,
                    "wanted": condition.wanted,
                    "actual": condition.actual,
                    "audience": condition.audience,
                }
                for condition in self.conditions
            ],
            "would_allow": [
                {
                    "changes": [{"kind": change.kind, "what": change.what} for change in way.changes],
                    "tried": way.effect is not None,
                    "effect": way.effect,
                }
                for way in self.would_allow
            ],
            "obligations": {name: list(values) for name, values in self.obligations.items()},
            "policy": dict(self.policy),
            "replay": {"exact": not self.inexact, "because": list(self.inexact)},
        }


def explain(
    question: Question,
    verdict: Verdict,
    modules: Modules,
    *,
    shipped: bool,
    ways: Iterable[Way],
    policy: Mapping[str, object],
    inexact: Sequence[str] = (),
) -> Explanation:
    """Explain the engine's verdict on a question; `ways` are those that were tried and would help."""
    code = code_of(verdict)
    return Explanation(
        effect=verdict.effect,
        code=code,
        sentence=_sentence(code, verdict),
        who=_who(question),
        what=_what(question),
        conditions=tuple(_conditions(question, verdict, modules, shipped=shipped)),
        would_allow=() if verdict.effect == "allow" else _ways(verdict, tuple(ways)),
        policy=policy,
        inexact=tuple(inexact),
        obligations=verdict.obligations,
    )


def explain_refusal(  # noqa: PLR0917 - what is known of a call that never reached the policy
    code: str,
    detail: str,
    who: Who,
    what: Mapping[str, object],
    policy: Mapping[str, object],
    inexact: Sequence[str],
) -> Explanation:
    """Explain a refusal that came before the policy was asked."""
    known = find_code(code) or Code.DENIED
    condition = Condition(code, "", None, known.sentence, None, detail or None, "agent")
    ways = (Way((Change(kind_of(code), known.fix),), None),)
    return Explanation("deny", code, known.sentence, who, what, (condition,), ways, policy, tuple(inexact))


def code_of(verdict: Verdict) -> str:
    """Return the main reason's code, or that of every allow."""
    if verdict.effect == "allow":
        return Code.ALLOWED.value
    return verdict.reasons[0].code if verdict.reasons else Code.DENIED.value


def _sentence(code: str, verdict: Verdict) -> str:
    if verdict.reasons:
        return verdict.reasons[0].msg
    known = find_code(code)
    return known.sentence if known else "a code of the policy's own"


def _who(question: Question) -> Who:
    human = question.query["human"]
    return Who(
        human=question.person,
        groups=tuple(human["groups"]) if human else (),
        chain=tuple(str(hop["name"]) for hop in reversed(question.chain)),
        peer=question.query["peer"],
        binding=question.query["binding"],
    )


def _what(question: Question) -> Mapping[str, object]:
    action, resource = question.query["action"], question.query["resource"]
    return {
        "phase": question.query["phase"],
        "protocol": action["protocol"],
        "method": action["method"],
        "service": resource["service"],
        "type": resource["type"],
        "name": resource["name"],
    }


def _conditions(
    question: Question, verdict: Verdict, modules: Modules, *, shipped: bool
) -> Iterable[Condition]:
    if verdict.effect == "allow":
        if shipped:
            for rule, found in carried(question):
                yield Condition(Code.ALLOWED.value, rule, where(rule, modules), found)
        else:
            yield Condition(
                Code.ALLOWED.value, "decision", where("decision", modules), "the policy allows it"
            )
        return
    for reason in verdict.reasons:
        yield _failed(reason, question, modules, shipped=shipped)


def _failed(reason: Reason, question: Question, modules: Modules, *, shipped: bool) -> Condition:
    found = fact(reason, question) if shipped else None
    return Condition(
        code=reason.code,
        rule=reason.rule,
        at=where(reason.rule, modules),
        message=reason.msg,
        wanted=found.wanted if found else None,
        actual=found.actual if found else None,
        audience=reason.audience,
    )


def _ways(verdict: Verdict, tried: tuple[Way, ...]) -> tuple[Way, ...]:
    """Put the ways that were tried before the policy's own advice, which stands where no way was found."""
    advice: list[Way] = []
    for reason in verdict.reasons:
        way = Way((Change(kind_of(reason.code), reason.fix),), None)
        needed = not tried or kind_of(reason.code) == "approval"
        if needed and reason.audience == "agent" and way not in advice:
            advice.append(way)
    return (*tried, *advice)
