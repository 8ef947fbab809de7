"""One row of the demo's table: what was tried, what came back, and whether that is what the scenario says.

- The answer is what the client was really given; the record is what the audit log really holds.
- A row fails for each thing that differs: the reason of the answer, and that of the record.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from authz.codes import Code
from authz.demo.agents import Answer

ENVOY_ITSELF = "(Envoy)"
TOO_LARGE = 413


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is tried: the row of the scenario, in words, by whom, on what; `expect` is the reason code."""

    row: str
    what: str
    human: str
    agent: str
    task: str
    tool: str
    expect: str = Code.ALLOWED.value


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    attempt: Attempt
    answer: Answer
    record: Mapping[str, object] | None
    problems: tuple[str, ...]

    @property
    def decision(self) -> str:
        """Name the decision as the caller felt it."""
        return "allow" if self.answer.allowed else "deny"

    @property
    def reason(self) -> str:
        """Return the recorded reason; where there is no record, what Envoy answered."""
        if self.record is not None:
            return str(self.record.get("code"))
        return f"HTTP {self.answer.status} {ENVOY_ITSELF}"


def judge(
    attempt: Attempt, answer: Answer, record: Mapping[str, object] | None, *problems: str | None
) -> Outcome:
    """Compare an answer and its record with the scenario; `problems` are further findings."""
    found = [*_answer_problems(attempt, answer), *_record_problems(attempt, answer, record)]
    found += [problem for problem in problems if problem]
    return Outcome(attempt, answer, record, tuple(found))


def expect_equal(what: str, got: object, wanted: object) -> str | None:
    """Return a sentence if two values differ."""
    return None if got == wanted else f"{what} is {got!r}, not {wanted!r}"


def _answer_problems(attempt: Attempt, answer: Answer) -> list[str]:
    if attempt.expect == Code.ALLOWED:
        return [] if answer.allowed else [f"refused with {answer.reason or answer.status}: {answer.text}"]
    if attempt.expect == ENVOY_ITSELF:
        by_envoy = answer.status == TOO_LARGE and not answer.decision
        return [] if by_envoy else [f"not refused by Envoy with {TOO_LARGE}: {answer.status}"]
    problem = expect_equal("the answer's reason", answer.reason, attempt.expect)
    return [problem] if problem else []


def _record_problems(attempt: Attempt, answer: Answer, record: Mapping[str, object] | None) -> list[str]:
    if attempt.expect == ENVOY_ITSELF:
        return []
    if record is None:
        return [f"no record of decision {answer.decision!r}"]
    effect = "allow" if attempt.expect == Code.ALLOWED else "deny"
    pairs = (("effect", record.get("effect"), effect), ("code", record.get("code"), attempt.expect))
    problems = (expect_equal(f"the record's {name}", got, wanted) for name, got, wanted in pairs)
    return [problem for problem in problems if problem]
