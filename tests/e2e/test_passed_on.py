"""A call that goes on from service to service: each hop through a real Envoy, decided by the shipped policy.

The agent calls tickets; tickets calls billing with the transaction token that it got (CL-03, CL-04).
"""

from collections.abc import Iterator

import pytest

from tests.e2e.flow_mesh import Mesh, flow_mesh, refused, upstream
from tests.fakes import LEAD, RUNNER
from tests.passed_on import TICKETS_WORKLOAD, call, read

pytestmark = pytest.mark.e2e
INVOICE = call("get_invoice", invoice="I-1")


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with flow_mesh(passes_on=True) as made:
        yield made


def test_cl04_a_call_goes_on_with_the_chain_in_it(mesh: Mesh) -> None:
    """CL-04: billing sees the same person, agent and transaction, and that tickets asked."""
    run = mesh.run()
    txn = mesh.first(run, "tickets:read", "billing:read")
    answer = mesh.post("billing", INVOICE, mesh.tickets, ("txn-token", txn))
    assert answer.status == 200, answer
    before, after = (
        read(mesh.flow_world, txn, "tickets"),
        read(mesh.flow_world, upstream(answer), "billing"),
    )
    assert (after.human and after.human.uri, after.chain, after.txn) == (LEAD.uri, (run.hop,), before.txn)
    assert (after.requester, after.requesters) == (TICKETS_WORKLOAD, (RUNNER,))
    assert after.tool == "get_invoice"
    assert after.expires_at <= before.expires_at


def test_cl04_a_scope_that_the_call_does_not_have(mesh: Mesh) -> None:
    """CL-04: what the agent was not given, no service gets for it."""
    txn = mesh.first(mesh.run(), "tickets:read")
    assert refused(mesh.post("billing", INVOICE, mesh.tickets, ("txn-token", txn))) == "DPT-SCOPE-MISSING"
    more = mesh.first(mesh.run(), "tickets:read", "billing:read")
    refund = call("refund", invoice="I-1", amount=1)
    assert refused(mesh.post("billing", refund, mesh.tickets, ("txn-token", more))) == "DPT-SCOPE-MISSING"


def test_cl03_a_stolen_one_counts_from_nobody_else(mesh: Mesh) -> None:
    """CL-03: neither from the agent's host nor from another service; beside a credential neither counts."""
    run = mesh.run()
    txn = mesh.first(run, "tickets:read", "billing:read")
    for thief in (mesh.runner, mesh.billing):
        assert refused(mesh.post("billing", INVOICE, thief, ("txn-token", txn))) == "DPT-NOT-BOUND"
    two = (("txn-token", txn), ("txn-token", txn))
    assert refused(mesh.post("billing", INVOICE, mesh.tickets, *two)) == "DPT-HEADER-DUPLICATE"
    bearer = ("authorization", f"Bearer {txn}")
    assert refused(mesh.post("billing", INVOICE, mesh.tickets, bearer)) == "DPT-TOKEN-TYPE"
    both = (("txn-token", txn), bearer)
    assert refused(mesh.post("billing", INVOICE, mesh.tickets, *both)) == "DPT-REQUEST-MALFORMED"


def test_cl03_an_envoy_that_is_not_told_of_it_lets_none_through() -> None:
    """CL-03: by default no transaction token of a client gets as far as Deputy."""
    with flow_mesh(passes_on=False) as closed:
        txn = closed.first(closed.run(), "tickets:read", "billing:read")
        answer = closed.post("billing", INVOICE, closed.tickets, ("txn-token", txn))
        assert refused(answer) == "DPT-TOKEN-MISSING"
