"""Approvals against a model of a few lines: two processes, any order, any time."""

import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from authz.approvals.key import Asked
from authz.codes import Code
from authz.errors import ApprovalError, ChangedError
from authz.store.approvals import REPEAT_SECONDS, ApprovalFile, ApprovalLimits
from identity.names import new_ulid
from tests.approvals_world import asked
from tests.fakes import NOW

LIMITS = ApprovalLimits(pending_seconds=60, granted_seconds=30, max_of_agent=3, max_open=4)
PROCESSES = 2
# Two people with an agent each, and two calls of each.
CALLS = [asked(f'{{"n":{n}}}', human=human) for human in ("https://idp.example#a", None) for n in range(2)]
processes = st.integers(0, PROCESSES - 1)
calls = st.sampled_from(CALLS)
proxies = st.sampled_from(["", "envoy 1", "envoy 2"])


@dataclass
class Known:
    """What a model of the rules knows of one request."""

    of: Asked
    id: str
    state: str
    ends: float
    used_at: float = 0
    call: str = ""


class Approvals(RuleBasedStateMachine):
    """Two processes with one file, and a list."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "data" / "approvals.db"
        self.files = [ApprovalFile.open(self.path, LIMITS) for _ in range(PROCESSES)]
        self.known: list[Known] = []
        self.after = 0.0
        self.number = 0

    def teardown(self) -> None:
        for file in self.files:
            file.close()
        self.directory.cleanup()

    def new_id(self) -> str:
        self.number += 1
        return new_ulid(NOW, self.number.to_bytes(10))

    def is_open(self, each: Known) -> bool:
        return each.state in {"pending", "approved", "denied"} and self.after < each.ends

    def open_one(self, of: Asked) -> Known | None:
        found = [each for each in self.known if each.of == of and self.is_open(each)]
        assert len(found) <= 1
        return found[0] if found else None

    @rule(process=processes, of=calls)
    def request(self, process: int, of: Asked) -> None:
        waiting = [each for each in self.known if self.is_open(each)]
        mine = [each for each in waiting if each.of.key.human == of.key.human]
        before = self.open_one(of)
        try:
            approval = self.files[process].request(of, self.now, self.new_id)
        except ApprovalError as error:
            if error.code is Code.APPROVAL_DENIED:
                assert before is not None
                assert before.state == "denied"
            else:
                assert before is None
                assert len(mine) >= LIMITS.max_of_agent or len(waiting) >= LIMITS.max_open
            return
        if before is None:
            self.known.append(Known(of, approval, "pending", self.after + LIMITS.pending_seconds))
        else:
            assert (before.id, before.state != "denied") == (approval, True)

    @rule(process=processes, of=calls, approves=st.booleans())
    def decide(self, process: int, of: Asked, *, approves: bool) -> None:
        latest = next((each for each in reversed(self.known) if each.of == of), None)
        if latest is None:
            return
        decidable = {"pending"} if approves else {"pending", "approved"}
        verdict = "approved" if approves else "denied"
        try:
            self.files[process].decide(latest.id, verdict, "uid:1", "", self.now)  # type: ignore[arg-type]  # one of two
        except ChangedError:
            assert not self.is_open(latest) or latest.state not in decidable
            return
        assert self.is_open(latest)
        assert latest.state in decidable
        latest.state = verdict
        latest.ends = self.after + (LIMITS.granted_seconds if approves else LIMITS.pending_seconds)

    @rule(process=processes, of=calls, call=proxies)
    def spend(self, process: int, of: Asked, call: str) -> None:
        spent = self.files[process].spend(of.key, self.now, call)
        waiting = self.open_one(of)
        if waiting is not None and waiting.state == "approved":
            assert spent is not None
            assert spent.id == waiting.id
            waiting.state, waiting.used_at, waiting.call = "used", self.after, call
            return
        repeated = [
            each.id
            for each in self.known
            if each.of == of
            and each.state == "used"
            and each.call == call != ""
            and self.after < each.used_at + REPEAT_SECONDS
        ]
        assert (spent is not None) == bool(repeated)
        assert spent is None or spent.id in repeated

    @rule(seconds=st.sampled_from([0.5, 10, 29.9, 30, 60]))
    def pass_time(self, seconds: float) -> None:
        self.after += seconds

    @rule(process=processes)
    def restart(self, process: int) -> None:
        self.files[process].close()
        self.files[process] = ApprovalFile.open(self.path, LIMITS)

    @rule(process=processes)
    def sweep(self, process: int) -> None:
        self.files[process].sweep(self.now)

    @invariant()
    def all_see_the_same(self) -> None:
        for file in self.files:
            states = {each.id: each.state for each in file.newest(self.now)}
            for each in self.known:
                ended = each.state != "used" and not self.is_open(each)
                assert states.get(each.id, "expired") in ({"expired"} if ended else {each.state, "expired"})

    @property
    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.after)


TestApprovals = Approvals.TestCase
TestApprovals.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
