"""Random walks of calls from service to service: nothing widens, nobody else is the caller (NR-05)."""

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from identity.spiffe import SpiffeId
from tests.fakes import reason
from tests.passed_on import (
    BILLING_WORKLOAD,
    LEDGER_WORKLOAD,
    TICKETS_WORKLOAD,
    first,
    on,
    read,
    txn_of,
    world,
)

WORKLOADS: dict[str, SpiffeId] = {
    "tickets": TICKETS_WORKLOAD,
    "billing": BILLING_WORKLOAD,
    "ledger": LEDGER_WORKLOAD,
}
HOPS = st.lists(
    st.tuples(st.sampled_from(sorted(WORKLOADS)), st.sampled_from(sorted(WORKLOADS)), st.integers(0, 12)),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(HOPS, st.sampled_from(["per_call", "per_tool"]))
def test_nr05_authority_only_narrows_from_call_to_call(hops: list[tuple[str, str, int]], txn: str) -> None:
    """NR-05: `sub`, `txn` and chain stay, `exp` and scopes never grow, who asked before is kept."""
    made = world(txn)
    run = made.run("triage")
    held, at = first(made, run), "tickets"
    token = read(made, held, at)
    for sender, target, seconds in hops:
        made.now += timedelta(seconds=seconds)
        answer = on(made, held, WORKLOADS[sender], target)
        is_alive = token.expires_at > made.now.timestamp()
        if not is_alive:
            assert reason(answer) == "DPT-TOKEN-EXPIRED"
            return
        if sender != at:
            assert reason(answer) == "DPT-NOT-BOUND"
            continue
        if len(token.requesters) == 8:
            assert reason(answer) == "DPT-CHAIN-DEPTH"
            return
        held, at = txn_of(answer), target
        before, token = token, read(made, held, at)
        assert (token.human, token.chain, token.txn) == (before.human, before.chain, before.txn)
        assert token.scopes <= before.scopes
        assert token.expires_at <= before.expires_at
        assert token.requesters == (*before.requesters, before.requester)
        assert token.requester == WORKLOADS[sender]
        assert set(before.parents) < set(token.parents)
