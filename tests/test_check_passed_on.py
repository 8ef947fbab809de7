"""Calls that a service passes on with its transaction token: what counts, and what thieves try (CL-04)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from authz.services import Services
from identity.authorization_details import Detail
from identity.caller import Hop, Human
from identity.jws import sign
from identity.keys import SigningKey
from identity.spiffe import SpiffeId
from identity.transaction import TRANSACTION_TYP
from identity.withdrawal import Kind, Withdrawal, Withdrawals
from tests.fakes import DENY, DOMAIN, LEAD, NOW, RUNNER, TICKETS, WEB, Run, World, reason
from tests.following import FakeFollowing
from tests.passed_on import (
    BILLING,
    BILLING_WORKLOAD,
    LEDGER_WORKLOAD,
    TICKETS_WORKLOAD,
    call,
    claims,
    first,
    on,
    read,
    services,
    txn_of,
    world,
)

SECONDS = int(NOW.timestamp())


def forged(made: World, txn: str, **changes: object) -> str:
    said = {name: value for name, value in (claims(txn) | changes).items() if value is not ...}
    return sign(made.authority.token_key, TRANSACTION_TYP, said)


def context(txn: str, **changes: object) -> dict[str, object]:
    tctx = claims(txn)["tctx"]
    assert isinstance(tctx, dict)
    return {name: value for name, value in (tctx | changes).items() if value is not ...}


# ---------------------------------------------------------------- what passes


def test_cl04_a_service_passes_a_call_on_for_the_same_person_and_chain() -> None:
    """CL-04: same `txn, sub, aud`, the same chain and scopes, and who asked before is kept."""
    made = world()
    resolver, triage = made.run("resolver"), made.run("triage")
    token = made.token(triage, resolver)
    before = txn_of(made.check(made.request(token, triage)))
    made.now += timedelta(seconds=5)
    after = txn_of(on(made, before))
    earlier, later = claims(before), claims(after)
    assert all(later[name] == earlier[name] for name in ("txn", "sub", "aud", "iss", "act", "scope"))
    assert later["exp"] == earlier["exp"]
    assert (earlier["req_wl"], later["req_wl"]) == (str(triage.spiffe_id), str(TICKETS_WORKLOAD))
    verified = read(made, after, "billing")
    assert verified.requesters == (triage.spiffe_id,)
    assert verified.chain == (triage.hop, resolver.hop)
    third = read(made, txn_of(on(made, after, BILLING_WORKLOAD, "ledger")), "ledger")
    assert third.requesters == (triage.spiffe_id, TICKETS_WORKLOAD)
    assert (third.requester, third.txn) == (BILLING_WORKLOAD, verified.txn)


def test_the_policy_decides_each_hop_on_the_same_person() -> None:
    """The groups of the person come with the token; who asks is the workload."""
    made = world()
    run = made.run("triage")
    person = Human.parse(LEAD.issuer, LEAD.subject, ("lead",), "urn:example:mfa", SECONDS - 60)
    on(made, first(made, run, human=person))
    asked, passed = made.policy.asked
    assert passed["human"] == asked["human"]
    assert (passed["chain"], passed["task"], passed["scopes"]) == (
        asked["chain"],
        asked["task"],
        asked["scopes"],
    )
    assert (passed["binding"], passed["peer"]) == ("workload", str(TICKETS_WORKLOAD))
    assert passed["resource"] == {"service": "billing", "type": "tool", "name": "read_ticket"}


def test_the_record_of_a_call_that_is_passed_on_names_everybody() -> None:
    made = world()
    run = made.run("triage")
    on(made, first(made, run))
    record = made.records()[-1]
    assert (record["effect"], record["agent"], record["task"]) == ("allow", "triage", run.task.id)
    assert record["human"] == {"issuer": LEAD.issuer, "subject": LEAD.subject}
    assert (record["peer"], record["txn"]) == (str(TICKETS_WORKLOAD), "t" * 22)


def test_a_policy_that_refuses_the_next_hop_denies() -> None:
    made = world()
    txn = first(made, made.run("triage"))
    made.policy.answer = DENY
    assert reason(on(made, txn)) == "DPT-AGENT-TIER"


def test_the_call_of_an_agent_that_acts_for_nobody_is_not_passed_on() -> None:
    """Its JWT-SVID was for one service, and no scopes would bound what that one does elsewhere."""
    made = world()
    run = made.run("nightly-report", human=None)
    txn = txn_of(made.check(made.request(made.svid(run), run)))
    assert "min_epoch" not in claims(txn)
    assert reason(on(made, txn)) == "DPT-TOKEN-CLAIMS"
    assert reason(on(made, forged(made, txn, min_epoch=1))) == "DPT-TOKEN-CLAIMS"


# ---------------------------------------------------------------- CL-03: where it stands


def test_cl03_only_a_service_that_passes_calls_on_is_told_of_the_person() -> None:
    """CL-03: who passes nothing on gets no groups, no sign-in, no names of tokens."""
    made = world()
    run = made.run("triage")
    person = Human.parse(LEAD.issuer, LEAD.subject, ("staff",), "urn:example:mfa", SECONDS - 60)
    told, kept = first(made, run, human=person), first(made, run, "leaf", human=person)
    onward = {"groups", "acr", "auth_time", "min_epoch", "parents"}
    assert onward <= claims(told).keys()
    assert onward.isdisjoint(claims(kept))
    assert "j" * 22 not in str(claims(kept))


def test_cl03_in_authorization_it_is_no_credential() -> None:
    """CL-03: never used to authenticate, nor as an access token."""
    made = world()
    run = made.run("triage")
    txn = first(made, run)
    for scheme in ("Bearer", "DPoP"):
        headers = [("content-type", "application/json"), ("authorization", f"{scheme} {txn}")]
        given = made.request(None, principal=str(TICKETS_WORKLOAD), headers=headers)
        assert reason(made.check(given)) == "DPT-TOKEN-TYPE"


def test_cl03_exactly_one_header() -> None:
    """CL-03: two headers are refused, though they are the same."""
    made = world()
    txn = first(made, made.run("triage"))
    assert reason(on(made, txn, extra=(("txn-token", txn),))) == "DPT-HEADER-DUPLICATE"
    assert reason(on(made, f"{txn}, {txn}")) == "DPT-TOKEN-MALFORMED"
    assert reason(on(made, f"{txn},{txn}")) == "DPT-TOKEN-MALFORMED"
    assert reason(on(made, "")) == "DPT-TOKEN-MALFORMED"


@pytest.mark.parametrize("name", ["authorization", "proxy-authorization", "dpop"])
def test_cl03_never_beside_another_credential(name: str) -> None:
    """CL-03: of two credentials two readers could believe two."""
    made = world()
    run = made.run("triage")
    txn = first(made, run)
    given = on(made, txn, extra=((name, f"Bearer {made.token(run)}"),))
    assert reason(given) == "DPT-REQUEST-MALFORMED"


def test_cl03_it_is_never_recorded_whole() -> None:
    """CL-03: the record has its hash, also where it was refused."""
    made = world()
    txn = first(made, made.run("triage"))
    on(made, txn)
    on(made, txn, WEB)
    assert not [record for record in made.records() if txn in str(record) or txn.split(".")[2] in str(record)]


def test_a_delegation_token_in_its_header_is_refused() -> None:
    made = world()
    run = made.run("triage")
    assert reason(on(made, made.token(run))) == "DPT-TOKEN-TYPE"
    assert reason(on(made, made.svid(run))) == "DPT-TOKEN-TYPE"


# ---------------------------------------------------------------- thieves


def _agent(made: World, run: Run) -> SpiffeId:
    return run.spiffe_id


@pytest.mark.parametrize(
    "thief",
    [
        lambda _made, run: run.spiffe_id,
        lambda _made, _run: RUNNER,
        lambda _made, _run: WEB,
        lambda _made, _run: BILLING_WORKLOAD,
        lambda _made, _run: SpiffeId.parse("spiffe://other.example/ns/shop/sa/tickets"),
        lambda _made, _run: SpiffeId.parse("spiffe://mesh.example/ns/shop/sa/tickets2"),
    ],
)
@pytest.mark.parametrize("target", ["billing", "tickets", "leaf"])
def test_a_stolen_one_counts_from_the_workloads_of_its_service_only(
    thief: Callable[[World, Run], SpiffeId], target: str
) -> None:
    """Neither the agent itself, nor its host, nor another service, the target's own among them."""
    made = world()
    run = made.run("triage")
    txn, peer = first(made, run), thief(made, run)
    before = len(made.policy.asked)
    assert reason(on(made, txn, peer, target)) == "DPT-NOT-BOUND"
    assert len(made.policy.asked) == before
    record = made.records()[-1]
    assert (record["peer"], record["task"], record["code"]) == (str(peer), run.task.id, "DPT-NOT-BOUND")
    assert record["human"] == {"issuer": LEAD.issuer, "subject": LEAD.subject}


def test_one_of_a_service_that_passes_nothing_on_counts_nowhere() -> None:
    made = world()
    txn = first(made, made.run("triage"), "leaf")
    assert reason(on(made, txn)) == "DPT-TOKEN-CLAIMS"
    # Also when the service gets workloads while such a token lives.
    leaf = replace(made.services.by_name["leaf"], workloads=frozenset({LEDGER_WORKLOAD}))
    made.services = Services(
        {**made.services.by_name, "leaf": leaf},
        made.services.by_host,
        made.services.askers,
        made.services.local_asker,
    )
    assert reason(on(made, txn, LEDGER_WORKLOAD)) == "DPT-TOKEN-CLAIMS"


def test_no_peer_passes_nothing_on() -> None:
    made = world()
    txn = first(made, made.run("triage"))
    headers = [("content-type", "application/json"), ("txn-token", txn)]
    assert reason(made.check(made.request(None, principal="", headers=headers))) == "DPT-PEER-MISSING"


def test_cl04_never_from_an_expired_one() -> None:
    """CL-04: the clock's leeway does not count for `exp`."""
    made = world()
    txn = first(made, made.run("triage"))
    made.now += timedelta(seconds=59)
    assert claims(txn_of(on(made, txn)))["exp"] == SECONDS + 60
    made.now += timedelta(seconds=1)
    assert reason(on(made, txn)) == "DPT-TOKEN-EXPIRED"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"aud": "other.example"}, "DPT-TOKEN-AUDIENCE"),
        ({"aud": [DOMAIN.name]}, "DPT-TOKEN-AUDIENCE"),
        ({"iss": "https://other.example"}, "DPT-TOKEN-ISSUER"),
        ({"iat": SECONDS + 31}, "DPT-TOKEN-NOT-YET"),
        ({"min_epoch": ...}, "DPT-TOKEN-CLAIMS"),
        ({"min_epoch": "1"}, "DPT-TOKEN-CLAIMS"),
        ({"min_epoch": ..., "parents": ..., "groups": ...}, "DPT-TOKEN-CLAIMS"),
        ({"parents": ["x"]}, "DPT-TOKEN-CLAIMS"),
        ({"parents": ["p" * 22] * 26}, "DPT-TOKEN-CLAIMS"),
        ({"grants": ["x"]}, "DPT-TOKEN-CLAIMS"),
        ({"authorization_details": []}, "DPT-TOKEN-CLAIMS"),
        ({"groups": "lead"}, "DPT-TOKEN-CLAIMS"),
        ({"amr": ["pwd"]}, "DPT-TOKEN-CLAIMS"),
        ({"scope": "a  b"}, "DPT-TOKEN-CLAIMS"),
    ],
)
def test_one_that_says_something_else_is_refused(changes: dict[str, object], code: str) -> None:
    made = world()
    txn = first(made, made.run("triage"))
    assert reason(on(made, forged(made, txn, **changes))) == code


@pytest.mark.parametrize(
    "changes",
    [
        {"requesters": []},
        {"requesters": "spiffe://mesh.example/a"},
        {"requesters": [1]},
        {"requesters": ["a"]},
        {"requesters": [str(RUNNER)] * 9},
        {"per": "service"},
        {"per": "tool"},
        {"may": "all"},
    ],
)
def test_a_context_that_we_do_not_know_is_refused(changes: dict[str, object]) -> None:
    made = world()
    txn = first(made, made.run("triage"))
    assert reason(on(made, forged(made, txn, tctx=context(txn, **changes)))) == "DPT-TOKEN-CLAIMS"


def test_one_of_another_key_is_refused() -> None:
    made = world()
    txn = first(made, made.run("triage"))
    stranger = sign(SigningKey.generate(), TRANSACTION_TYP, claims(txn))
    assert reason(on(made, stranger)) == "DPT-TOKEN-KEY"
    svid_key = sign(made.authority.jwt_key, TRANSACTION_TYP, claims(txn))
    assert reason(on(made, svid_key)) == "DPT-TOKEN-KEY"


# ---------------------------------------------------------------- nothing widens


def test_cl04_a_loop_of_calls_ends() -> None:
    """CL-04: a service that calls itself comes to an end, though each call is young."""
    made = world()
    txn = first(made, made.run("triage"))
    for _ in range(8):
        txn = txn_of(on(made, txn, service="tickets"))
    assert len(read(made, txn, "tickets").requesters) == 8
    assert reason(on(made, txn, service="tickets")) == "DPT-CHAIN-DEPTH"


def test_cl04_details_go_with_the_call() -> None:
    """CL-04: a token for two tools is passed on for these two, and for no other tool of anybody."""
    made = world()
    run = made.run("triage")
    details = (Detail(TICKETS, "read_ticket"), Detail(BILLING, "read_invoice"))
    txn = first(made, run, details=details)
    assert on(made, txn, body=call("read_invoice")).status.code == 0
    assert reason(on(made, txn, body=call("pay_invoice"))) == "DPT-DETAILS"
    assert reason(on(made, txn, service="tickets", body=call("read_invoice"))) == "DPT-DETAILS"
    third = txn_of(on(made, txn, body=call("read_invoice")))
    assert reason(on(made, third, BILLING_WORKLOAD, "ledger", call("read_invoice"))) == "DPT-DETAILS"


def test_a_token_for_one_tool_gives_what_the_policy_gives_for_another_one() -> None:
    """The token says who calls, never what may be called: that is decided again."""
    made = world()
    txn = first(made, made.run("triage"))
    made.policy.answer = DENY
    assert reason(on(made, txn, service="tickets", body=call("delete_ticket"))) == "DPT-AGENT-TIER"
    assert made.policy.asked[-1]["scopes"] == ["tickets:read", "tickets:write"]


# ---------------------------------------------------------------- what was withdrawn


@pytest.mark.parametrize(
    ("kind", "subject", "code"),
    [
        ("txn", "t" * 22, "DPT-REVOKED"),
        ("token", "j" * 22, "DPT-REVOKED"),
        ("token", "p" * 22, "DPT-REVOKED"),
        ("grant", "01JD0000000000000000000000", "DPT-REVOKED"),
        ("agent", "triage", "DPT-CONTAINED"),
        ("human", LEAD.uri, "DPT-CONTAINED"),
        ("workload", str(RUNNER), "DPT-CONTAINED"),
        ("workload", str(TICKETS_WORKLOAD), "DPT-CONTAINED"),
    ],
)
def test_what_was_withdrawn_is_not_passed_on(kind: Kind, subject: str, code: str) -> None:
    made = world()
    txn = first(made, made.run("triage"), parents=("p" * 22,), grants=("01JD0000000000000000000000",))
    made.rights.withdrawals = Withdrawals.of([Withdrawal(kind, subject, None, "why", "who", NOW)])
    assert reason(on(made, txn)) == code


def test_what_was_withdrawn_of_a_service_before_is_not_passed_on() -> None:
    """A contained service's calls end at the next hop, too."""
    made = world()
    second = txn_of(on(made, first(made, made.run("triage"))))
    contained = Withdrawal("workload", str(TICKETS_WORKLOAD), None, "why", "who", NOW)
    made.rights.withdrawals = Withdrawals.of([contained])
    assert reason(on(made, second, BILLING_WORKLOAD, "ledger")) == "DPT-CONTAINED"


def test_a_revoked_transaction_token_takes_what_came_of_it_with_it() -> None:
    made = world()
    txn = first(made, made.run("triage"))
    second = txn_of(on(made, txn))
    jti = str(claims(txn)["jti"])
    made.rights.withdrawals = Withdrawals.of([Withdrawal("token", jti, None, "why", "who", NOW)])
    assert reason(on(made, txn)) == "DPT-REVOKED"
    assert reason(on(made, second, BILLING_WORKLOAD, "ledger")) == "DPT-REVOKED"


def test_ended_sessions_are_not_passed_on() -> None:
    made = world()
    txn = first(made, made.run("triage"))
    made.rights.withdrawals = Withdrawals.of([Withdrawal("human", LEAD.uri, SECONDS, "why", "who", NOW)])
    assert reason(on(made, txn)) == "DPT-REVOKED"


def test_everybody_must_be_alive() -> None:
    made = world()
    resolver, triage = made.run("resolver"), made.run("triage")
    txn = txn_of(made.check(made.request(made.token(triage, resolver), triage)))
    made.rights.tasks[resolver.task.id] = replace(resolver.task, ended_at=NOW)
    assert reason(on(made, txn)) == "DPT-TASK-ENDED"
    del made.rights.agents["resolver"]
    assert reason(on(made, txn)) == "DPT-AGENT-UNKNOWN"


def test_a_deeper_chain_than_an_agent_allows_now() -> None:
    made = world()
    resolver, triage = made.run("resolver"), made.run("triage")
    txn = txn_of(made.check(made.request(made.token(triage, resolver), triage)))
    made.rights.agents["resolver"] = replace(made.rights.agents["resolver"], max_depth=1)
    assert reason(on(made, txn)) == "DPT-CHAIN-DEPTH"


def test_a_revocation_while_the_policy_decides_wins_on_each_hop() -> None:
    made = world()
    run = made.run("triage")
    txn = first(made, run)

    def end() -> None:
        made.rights.tasks[run.task.id] = replace(run.task, ended_at=NOW)
        made.rights.epoch += 1

    made.policy.act = end
    assert reason(on(made, txn)) == "DPT-WITHDRAWN"


def test_one_decided_at_an_epoch_that_we_do_not_know_waits() -> None:
    made = world()
    txn = first(made, made.run("triage"))
    made.rights.epoch -= 1
    assert reason(on(made, txn)) == "DPT-STALE"


def test_services_without_workloads_pass_nothing_on() -> None:
    """An empty list is nobody, not everybody."""
    made = world()
    txn = first(made, made.run("triage"))
    bare = tuple(replace(service, workloads=frozenset()) for service in services().by_name.values())
    made.services = Services.of(bare, tuple(made.services.askers.values()), None)
    assert reason(on(made, txn)) == "DPT-NOT-BOUND"


def test_the_hop_of_another_task_does_not_fit() -> None:
    made = world()
    run, other = made.run("triage"), made.run("triage", human=None)
    txn = first(made, run)
    made.rights.tasks[run.task.id] = replace(other.task, id=run.task.id)
    assert reason(on(made, txn)) == "DPT-TASK-MISMATCH"
    assert Hop("triage", run.task.id) == run.hop


def test_a_replica_reads_first_what_whoever_issued_it_knew() -> None:
    """The token names the withdrawals that were known: who knows fewer asks for them, then decides."""
    made = world()
    run = made.run("triage")
    txn = first(made, run)
    made.rights.epoch = 0

    def learns(min_epoch: int) -> None:
        made.rights.epoch = min_epoch
        made.rights.tasks[run.task.id] = replace(run.task, ended_at=NOW)

    following = FakeFollowing(reaches=learns)
    flow = replace(made.flow(), following=following)
    made.flow = lambda: flow  # type: ignore[method-assign]  # the flow of a replica
    assert reason(on(made, txn)) == "DPT-TASK-ENDED"
    assert following.reached == [1]
