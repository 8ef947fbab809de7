"""What was found, for people and for machines.

- Every case of the run has one result: pass, fail, warning or skip; a skip says what was missing.
- Every rule of the checklist stands in it once: what is the worst of its results, that it did not run, or
  that nobody can see it from outside, and why.
- A finding about a rule that the profile does not require is a warning.
- The shape of the JSON has a version; JUnit has a failure for a fail, and a note for a warning.
- No token, no secret and no error description of the server is in it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal
from xml.etree import ElementTree as ET

from authz.conformance.case import Case, Verdict
from authz.conformance.rules import NOT_OBSERVABLE, PARTLY, RULES
from authz.conformance.situation import Profile

VERSION: Final = "deputy.conformance-report/v1"
Status = Literal["pass", "fail", "warning", "skip"]
STATUSES: Final[tuple[Status, ...]] = ("pass", "fail", "warning", "skip")
UNSEEN: Final = "not observable"
NOT_RUN: Final = "not run"
# Of several results of a rule the first of these is its own.
_WORST: Final[tuple[Status, ...]] = ("fail", "warning", "pass", "skip")


@dataclass(frozen=True, slots=True)
class Result:
    """One case and what came of it."""

    case: Case
    status: Status
    got: str
    is_must: bool

    @classmethod
    def of(cls, case: Case, verdict: Verdict, profile: Profile) -> "Result":
        """Weigh a verdict as the profile does."""
        is_must = profile in case.must
        is_warning = verdict.outcome == "fail" and not is_must
        return cls(case, "warning" if is_warning else verdict.outcome, verdict.got, is_must)

    def row(self) -> dict[str, object]:
        """Return the result for machines."""
        return {
            "status": self.status,
            "rule": self.case.rule,
            "case": self.case.name,
            "level": "must" if self.is_must else "should",
            "sent": self.case.title,
            "expected": self.case.expected,
            "got": self.got,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What a run found; `problem` is why its results do not count, None if they do."""

    token_endpoint: str
    profile: Profile
    results: tuple[Result, ...]
    problem: str | None = None

    @property
    def counts(self) -> Mapping[Status, int]:
        """How many results there are of each kind."""
        found = Counter(result.status for result in self.results)
        return {status: found[status] for status in STATUSES}

    @property
    def has_findings(self) -> bool:
        """Whether a rule that the profile requires is broken."""
        return self.counts["fail"] > 0

    def rows(self) -> list[dict[str, object]]:
        """Return the results for machines."""
        return [result.row() for result in self.results]

    def document(self) -> dict[str, object]:
        """Return the report as JSON has it."""
        return {
            "version": VERSION,
            "token_endpoint": self.token_endpoint,
            "profile": self.profile.value,
            "problem": self.problem,
            "summary": dict(self.counts),
            "results": self.rows(),
            "rules": self.rules(),
        }

    def rules(self) -> list[dict[str, object]]:
        """Return what is known of every rule of the checklist."""
        return [
            {
                "rule": rule,
                "title": title,
                "status": self._status_of(rule),
                "cases": sum(result.case.rule == rule for result in self.results),
                "unseen": NOT_OBSERVABLE.get(rule, PARTLY.get(rule)),
            }
            for rule, title in RULES.items()
        ]

    def _status_of(self, rule: str) -> str:
        if rule in NOT_OBSERVABLE:
            return UNSEEN
        found = {result.status for result in self.results if result.case.rule == rule}
        return next((status for status in _WORST if status in found), NOT_RUN)

    def unseen(self) -> str:
        """Return what people do not see in the results: the rules that are not among them."""
        lines = [
            f"{rule} ({RULES[rule]}) is not observable from outside: {why}."
            for rule, why in NOT_OBSERVABLE.items()
        ]
        absent = [rule for rule in RULES if self._status_of(rule) == NOT_RUN]
        return "\n".join([*lines, *([f"Not run: {', '.join(absent)}."] if absent else [])])

    def summary(self) -> str:
        """Return one sentence for people."""
        counts = self.counts
        said = f"{counts['pass']} passed, {counts['fail']} failed, {counts['warning']} with a warning"
        return f"{said}, {counts['skip']} skipped (profile {self.profile.value})"

    def junit(self) -> str:
        """Return the report as JUnit has it."""
        counts = self.counts
        suite = ET.Element(
            "testsuite",
            name=f"deputy conformance delegation ({self.profile.value})",
            tests=str(len(self.results) + len(NOT_OBSERVABLE)),
            failures=str(counts["fail"]),
            errors="0" if self.problem is None else "1",
            skipped=str(counts["skip"] + len(NOT_OBSERVABLE)),
        )
        for result in self.results:
            _add(suite, result)
        for rule, why in NOT_OBSERVABLE.items():
            case = ET.SubElement(suite, "testcase", classname=rule, name=RULES[rule])
            ET.SubElement(case, "skipped", message=f"{UNSEEN}: {why}")
        if self.problem is not None:
            case = ET.SubElement(suite, "testcase", classname="run", name="the good request")
            ET.SubElement(case, "error", message=_plain(self.problem))
        ET.indent(suite)
        return ET.tostring(suite, "unicode")


def _add(suite: ET.Element, result: Result) -> None:
    name = f"{result.case.name}: {result.case.title}"
    case = ET.SubElement(suite, "testcase", classname=result.case.rule, name=_plain(name))
    text = _plain(f"expected: {result.case.expected}; got: {result.got}")
    match result.status:
        case "fail":
            ET.SubElement(case, "failure", message=text)
        case "warning":
            ET.SubElement(case, "system-out").text = f"warning: {text}"
        case "skip":
            ET.SubElement(case, "skipped", message=_plain(result.got))
        case "pass":
            pass


def _plain(text: str) -> str:
    """Return a text that XML can hold: a character that it cannot is a question mark."""
    return "".join(character if character.isprintable() else "?" for character in text)
