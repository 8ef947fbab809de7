"""One case of the checklist: what is sent, and what is expected.

- A case is data and two pure functions: `send` makes requests by changing the good one, `judge` reads their
  answers. It does no I/O and knows nothing of the other cases.
- `must` says under which profiles a finding is an error; under the others it is a warning.
- A case that lacks an input is skipped, and says which; it never passes for want of it.
- `follow` makes requests of what the first ones were answered with; with `at_once` they are sent together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from authz.conformance.message import Answer, Request
from authz.conformance.situation import Need, Profile, Situation, missing

Outcome = Literal["pass", "fail", "skip"]
Send = Callable[[Situation], Sequence[Request]]
Follow = Callable[[Situation, Sequence[Answer]], Sequence[Request]]
Judge = Callable[[Situation, Sequence[Answer]], "Verdict"]

EVERY: Final = frozenset(Profile)
AGENTS: Final = frozenset({Profile.ACTOR, Profile.DEPUTY})
OURS: Final = frozenset({Profile.DEPUTY})
# So much of a token or a secret is too much; longer than a word of ours.
_SHOWN: Final = 24
_SECRET: Final = 8


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge says; `got` is fit for a report."""

    outcome: Outcome
    got: str


def passed(got: str) -> Verdict:
    """Say that the rule was kept."""
    return Verdict("pass", got)


def failed(got: str) -> Verdict:
    """Say that it was broken."""
    return Verdict("fail", got)


def skipped(why: str) -> Verdict:
    """Say that it could not be seen."""
    return Verdict("skip", why)


def withheld(verdict: Verdict, situation: Situation, answers: Sequence[Answer] = ()) -> Verdict:
    """Return a verdict whose text repeats no token and no secret, whatever the server wrote."""
    issued = [answer.unverified_token for answer in answers if answer.unverified_token is not None]
    # A secret of a few characters is in any sentence.
    secrets = (secret[:_SHOWN] for secret in (*situation.secrets, *issued) if len(secret) >= _SECRET)
    is_repeated = any(secret in verdict.got for secret in secrets)
    return Verdict(verdict.outcome, "something that repeats a token or a secret") if is_repeated else verdict


def nothing(_: Situation) -> Sequence[Request]:
    """Send nothing: the answers to the good request, or the metadata, are judged."""
    return ()


@dataclass(frozen=True, slots=True)
class Case:
    """A rule, and one way to see whether it is kept; `expected` is the end of "expected: …"."""

    rule: str
    name: str
    title: str
    expected: str
    send: Send
    judge: Judge
    must: frozenset[Profile] = EVERY
    needs: tuple[Need, ...] = ()
    follow: Follow | None = None
    at_once: bool = False

    @property
    def id(self) -> str:
        """The name of the case in a report: its rule and its own name."""
        return f"{self.rule}/{self.name}"

    def lacks(self, situation: Situation) -> str | None:
        """Return what the case lacks, None if it can run."""
        return next((need.value for need in self.needs if missing(need, situation)), None)
