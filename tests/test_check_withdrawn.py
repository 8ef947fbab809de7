"""What an operator or a person took back, at the next call: each kind, and on each hop of a chain."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from identity.withdrawal import KINDS, Kind, Withdrawal, Withdrawals
from tests.fakes import LEAD, NOW, RUNNER, Run, World, reason

OK = 0
GRANTS = ("01JD0000000000000000000001", "01JD0000000000000000000002")
PARENTS = ("p" * 22, "q" * 22)
Name = Callable[[Run, Run], str]

# Presenter and delegator of a chain of two; what is withdrawn, and what the presenter is told.
TAKEN: list[tuple[Kind, Name, str]] = [
    ("token", lambda _, __: "j" * 22, "DPT-REVOKED"),
    ("token", lambda _, __: PARENTS[0], "DPT-REVOKED"),
    ("token", lambda _, __: PARENTS[1], "DPT-REVOKED"),
    ("txn", lambda _, __: "t" * 22, "DPT-REVOKED"),
    ("grant", lambda _, __: GRANTS[0], "DPT-REVOKED"),
    ("grant", lambda _, __: GRANTS[1], "DPT-REVOKED"),
    ("task", lambda presenter, _: presenter.task.id, "DPT-REVOKED"),
    ("task", lambda _, delegator: delegator.task.id, "DPT-REVOKED"),
    ("agent", lambda presenter, _: presenter.task.agent, "DPT-CONTAINED"),
    ("agent", lambda _, delegator: delegator.task.agent, "DPT-CONTAINED"),
    ("workload", lambda _, __: str(RUNNER), "DPT-CONTAINED"),
    ("human", lambda _, __: LEAD.uri, "DPT-CONTAINED"),
]


def test_each_kind_is_here() -> None:
    assert {kind for kind, _, _ in TAKEN} == KINDS


@pytest.mark.parametrize(("kind", "name", "code"), TAKEN)
def test_the_very_next_call_is_denied_wherever_in_the_chain_it_was(kind: Kind, name: Name, code: str) -> None:
    """CA-07: revoking a grant, a parent, a run or an agent revokes what came of it; a neighbour's goes on."""
    made = World()
    presenter, delegator = made.run("triage"), made.run("resolver")
    token = made.token(presenter, delegator, grants=GRANTS, parents=PARENTS)
    other = made.run("triage", human=replace(LEAD, subject="another"))
    others = made.token(other, human=replace(LEAD, subject="another"), jti="o" * 22, txn="o" * 22)
    for run, bearer in ((presenter, token), (other, others)):
        assert made.check(made.request(bearer, run)).status.code == OK
    made.rights.withdrawals = Withdrawals.of(
        [Withdrawal(kind, name(presenter, delegator), None, "why", "who", NOW)]
    )
    made.rights.epoch += 1
    issued = len(made.policy.asked)
    assert reason(made.check(made.request(token, presenter))) == code
    assert len(made.policy.asked) == issued
    shares = kind == "workload" or (kind == "agent" and name(presenter, delegator) == "triage")
    assert (made.check(made.request(others, other)).status.code == OK) != shares
