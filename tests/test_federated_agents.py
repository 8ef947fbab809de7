"""An agent of a federated trust domain calls, and is decided under the grants for its domain.

The policy is the shipped one; the attacks are those of another cluster, and of thieves in ours.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from authz.audit.filter import Filter
from authz.audit.record import GENESIS, Record, canonical
from authz.broker.refusal import RefusedError
from authz.broker.task_request import StartRequest
from authz.federated_task import MAX_SVID_SECONDS
from authz.pb import ext_authz_pb2 as pb
from authz.policy.embedded import EmbeddedPolicy
from authz.policy.explain import explain
from authz.policy.explain_changes import trials
from authz.policy.explain_question import Question
from authz.policy.grants import Grants
from authz.policy.modules import shipped_modules
from authz.policy.port import Query
from authz.policy.schema import problems
from authz.policy.verdict import Verdict
from authz.store.sqlite import Store
from identity.authority import Authority
from identity.bundle import Bundle
from identity.caller import Agent, Hop
from identity.keys import KeySet, SigningKey
from identity.names import new_ulid
from identity.spiffe import SpiffeId, TrustDomain, agent_task_id
from identity.tool_server import TxnTokenVerifier
from identity.transaction import TransactionToken, verify_transaction_token
from tests.fakes import DOMAIN, ISSUER, NOW, READ_TICKET, RUNNER, TICKETS, World, agent, reason
from tests.identity_world import forge, header_of

OTHER = TrustDomain.parse("other.example")
THIRD = TrustDomain.parse("third.example")
NAME = "other.example/triage"
EDGE = SpiffeId.parse("spiffe://other.example/ns/mesh/sa/edge")
SECONDS = int(NOW.timestamp())

GRANTS = """
version: 1
tiers:
  observer: {{allow: [read]}}
  operator: {{allow: [read, write, destroy]}}
services:
  tickets:
    tools:
      read_ticket: {{class: read}}
      close_ticket: {{class: write}}
      purge: {{class: destroy}}
      export: {{class: read, human: required}}
agents:
  {agents}
"""
OF_OTHERS = f"{NAME}: {{tier: operator, services: [tickets]}}"
OF_OURS = "triage: {tier: operator, services: [tickets]}"


class Watched:
    """The shipped policy on some grants; `act` runs while it decides."""

    def __init__(self, agents: str) -> None:
        self._policy = EmbeddedPolicy(shipped_modules(), Grants.parse(GRANTS.format(agents=agents).encode()))
        self.revision = self._policy.revision
        self.asked: list[Query] = []
        self.act: Callable[[], None] = lambda: None

    def payload_classes(self, service: str) -> frozenset[str]:
        return self._policy.payload_classes(service)

    async def decide(self, query: Query) -> Verdict:
        self.asked.append(query)
        self.act()
        return await self._policy.decide(query)

    async def visible(self, query: Query) -> frozenset[str]:
        return await self._policy.visible(query)


class Abroad(World):
    """Our world, another cluster that we federate with, and one agent of it in our registry."""

    def __init__(self, agents: str = OF_OTHERS) -> None:
        super().__init__()
        self.watched = Watched(agents)
        self.policy = self.watched  # type: ignore[assignment]  # the real one in place of the fake
        self.other = Authority.generate(OTHER, NOW)
        self.federated = {OTHER: self.other.trust_bundle()}
        self.run_id = new_ulid(NOW, self.entropy(10))
        self.register()

    @property
    def task_id(self) -> SpiffeId:
        return agent_task_id(OTHER, "triage", self.run_id)

    def register(self, name: str = NAME, **more: object) -> None:
        """Register an agent of theirs."""
        given: dict[str, object] = {"autonomous": True, "ceiling": "operator", "hosts": frozenset({EDGE})}
        self.rights.agents[name] = agent(name, **(given | more))

    def signed(self, key: SigningKey | None = None, **changes: object) -> str:
        """Sign a JWT-SVID of their agent, with their key and claims that are right but for the changes."""
        claims: dict[str, object] = {
            "sub": str(self.task_id),
            "aud": [TICKETS],
            "iat": SECONDS,
            "exp": SECONDS + 60,
        } | changes
        key = key or self.other.jwt_key
        present = {name: value for name, value in claims.items() if value is not None}
        return forge(key, header_of(key, "JWT"), present)

    def call(self, token: str, peer: SpiffeId | None = None, tool: str = "read_ticket") -> pb.CheckResponse:
        """Call a tool; the peer is the agent's own task unless another is named."""
        message: dict[str, Any] = json.loads(READ_TICKET)
        message["params"]["name"] = tool
        body = json.dumps(message).encode()
        return self.check(self.request(token, principal=str(peer or self.task_id), body=body))

    def upstream(self, response: pb.CheckResponse) -> TransactionToken:
        """Verify what went upstream, as the tool server does."""
        return verify_transaction_token(
            response.ok_response.headers[0].header.value,
            self.authority.token_keys,
            issuer=ISSUER,
            trust_domain=DOMAIN,
            service="tickets",
            now=self.now,
            leeway=0,
        )


def test_is_allowed_under_the_grants_for_its_domain() -> None:
    world = Abroad()
    response = world.call(world.signed())
    assert (response.status.code, reason(response)) == (0, "")
    (query,) = world.watched.asked
    assert problems("input", query) == ()
    assert query["chain"] == [{"name": NAME, "ceiling": "operator"}]
    (record,) = world.records()
    assert (record["effect"], record["agent"], record["task"]) == ("allow", NAME, world.run_id)
    assert (record["autonomous"], record["binding"], record["human"]) == (True, "svid", None)
    assert record["chain"] == [{"agent": NAME, "task": world.run_id}]
    written = Record.parse(canonical(world.sink.entries[0].members(1, GENESIS)))
    assert Filter(agent=NAME).matches(written)
    assert not Filter(agent="triage").matches(written)


def test_the_tool_server_reads_whose_agent_it_was(tmp_path: Path) -> None:
    world = Abroad()
    keys = tmp_path / "jwks.json"
    keys.write_text(json.dumps(world.authority.token_jwks()))
    verifier = TxnTokenVerifier(
        jwks=keys, issuer=ISSUER, trust_domain=DOMAIN.name, service="tickets", clock=lambda: NOW
    )
    text = world.call(world.signed()).ok_response.headers[0].header.value
    token = asyncio.run(verifier.verify(text, "POST", READ_TICKET))
    assert token.to_claims()["sub"] == str(world.task_id)
    assert "act" not in token.to_claims()
    assert (token.human, token.chain) == (None, (Hop(NAME, world.run_id),))
    assert token.requester == world.task_id


def test_what_its_authority_issues_counts() -> None:
    world = Abroad()
    svid = world.other.issue_jwt_svid(world.task_id, TICKETS, NOW, 60, NOW + timedelta(hours=1))
    assert reason(world.call(svid)) == ""
    assert reason(world.call(svid, EDGE)) == ""


def test_is_denied_without_a_grant() -> None:
    world = Abroad(f"third.example/triage: {{tier: operator, services: [tickets]}}\n  {OF_OURS}")
    assert reason(world.call(world.signed())) == "DPT-AGENT-NOT-GRANTED"
    (record,) = world.records()
    assert (record["effect"], record["agent"]) == ("deny", NAME)


def test_the_grants_of_our_agent_are_not_those_of_its_namesake() -> None:
    world = Abroad(OF_OURS)
    assert reason(world.call(world.signed())) == "DPT-AGENT-NOT-GRANTED"


def test_the_grants_of_their_agent_are_not_those_of_ours() -> None:
    world = Abroad()
    world.rights.agents["triage"] = agent("triage", autonomous=True, ceiling="operator")
    run = world.run("triage", None)
    response = world.check(world.request(world.svid(run), run))
    assert reason(response) == "DPT-AGENT-NOT-GRANTED"


@pytest.mark.parametrize(
    ("tool", "ceiling", "code"),
    [
        ("close_ticket", "operator", ""),
        ("close_ticket", "observer", "DPT-AGENT-TIER"),
        ("purge", "operator", "DPT-BINDING-WEAK"),
        ("export", "operator", "DPT-HUMAN-REQUIRED"),
        ("drop_table", "operator", "DPT-TOOL-UNKNOWN"),
    ],
)
def test_reaches_as_far_as_grants_and_registry_say(tool: str, ceiling: str, code: str) -> None:
    world = Abroad()
    world.register(ceiling=ceiling)
    assert reason(world.call(world.signed(), tool=tool)) == code


def test_a_redacted_bundle_ends_every_agent_of_its_domain() -> None:
    world = Abroad()
    token = world.signed()
    assert reason(world.call(token)) == ""
    world.federated = {OTHER: Bundle.parse(b'{"keys": []}', OTHER)}
    assert reason(world.call(token)) == "DPT-TOKEN-KEY"
    world.federated = {}
    assert reason(world.call(token)) == "DPT-TOKEN-ISSUER"


def test_keys_are_those_of_the_moment() -> None:
    world = Abroad()
    old = world.signed()
    world.other = Authority.generate(OTHER, NOW)
    assert reason(world.call(world.signed())) == "DPT-TOKEN-KEY"
    world.federated = {OTHER: world.other.trust_bundle()}
    assert reason(world.call(world.signed())) == ""
    assert reason(world.call(old)) == "DPT-TOKEN-KEY"


def test_trust_is_made_anew_only_when_something_changed() -> None:
    world = Abroad()
    first = world.trust()
    assert world.trust() is first
    assert set(first.svid_keys) == {DOMAIN, OTHER}
    world.federated = {}
    assert world.trust() is not first
    second = world.trust()
    world.authority = Authority.generate(DOMAIN, NOW)
    assert world.trust().token_keys == world.authority.token_keys != second.token_keys


def test_our_keys_are_the_authoritys_whatever_a_bundle_says() -> None:
    world = Abroad()
    stolen = replace(world.other.trust_bundle(), trust_domain=DOMAIN)
    world.federated = {DOMAIN: stolen}
    assert world.trust().svid_keys[DOMAIN] == world.authority.svid_keys


def _our_nightly_report(world: Abroad) -> tuple[SpiffeId, SpiffeId]:
    world.rights.agents["nightly-report"] = agent("nightly-report", autonomous=True, ceiling="operator")
    run = world.run("nightly-report", None)
    return run.spiffe_id, run.task.workload


def test_cross_trust_domain_forgery() -> None:
    """A federated domain signs an ID of ours: under its own kid, under ours, with a key published as ours."""
    world = Abroad("nightly-report: {tier: operator, services: [tickets]}")
    ours, workload = _our_nightly_report(world)
    claims = {"sub": str(ours), "aud": [TICKETS], "iat": SECONDS, "exp": SECONDS + 60}
    theirs, our_kid = world.other.jwt_key, world.authority.jwt_key.kid
    forged = forge(theirs, header_of(theirs, "JWT"), claims)
    renamed = forge(theirs, {**header_of(theirs, "JWT"), "kid": our_kid}, claims)
    for peer in (ours, workload):
        assert reason(world.call(forged, peer)) == "DPT-TOKEN-KEY"
        assert reason(world.call(renamed, peer)) == "DPT-TOKEN-SIGNATURE"
    lying = replace(theirs.public, kid=our_kid)
    world.federated = {OTHER: replace(world.other.trust_bundle(), jwt_keys=KeySet.of([lying]))}
    assert reason(world.call(renamed, ours)) == "DPT-TOKEN-SIGNATURE"
    ours_signed = forge(world.authority.jwt_key, header_of(world.authority.jwt_key, "JWT"), claims)
    assert reason(world.call(ours_signed, ours)) == ""


def test_one_federated_domain_does_not_speak_for_another() -> None:
    world = Abroad()
    third = Authority.generate(THIRD, NOW)
    world.federated = {**world.federated, THIRD: third.trust_bundle()}
    assert reason(world.call(world.signed(third.jwt_key))) == "DPT-TOKEN-KEY"
    for key in (world.authority.jwt_key, world.authority.token_key):
        assert reason(world.call(world.signed(key))) == "DPT-TOKEN-KEY"


def test_a_namesake_of_our_agent_is_unknown() -> None:
    world = Abroad()
    world.rights.agents = {"triage": agent("triage", autonomous=True, hosts=frozenset({EDGE, RUNNER}))}
    assert reason(world.call(world.signed())) == "DPT-AGENT-UNKNOWN"
    assert reason(world.call(world.signed(), EDGE)) == "DPT-AGENT-UNKNOWN"


def test_a_namesake_in_a_third_domain_is_unknown() -> None:
    world = Abroad()
    third = Authority.generate(THIRD, NOW)
    world.federated = {**world.federated, THIRD: third.trust_bundle()}
    subject = agent_task_id(THIRD, "triage", world.run_id)
    token = world.signed(third.jwt_key, sub=str(subject))
    assert reason(world.call(token, subject)) == "DPT-AGENT-UNKNOWN"


@pytest.mark.parametrize(
    "thief",
    [
        RUNNER,
        agent_task_id(DOMAIN, "triage", new_ulid(NOW, bytes(10))),
        agent_task_id(OTHER, "triage", new_ulid(NOW, bytes(10))),
        SpiffeId.parse("spiffe://other.example/ns/mesh/sa/elsewhere"),
        SpiffeId.parse("spiffe://third.example/ns/mesh/sa/edge"),
        SpiffeId.parse("spiffe://other.example/ns/mesh/sa/edge/more"),
        SpiffeId.parse("spiffe://other.example"),
    ],
)
def test_a_stolen_svid_counts_for_nobody_else(thief: SpiffeId) -> None:
    world = Abroad()
    assert reason(world.call(world.signed(), thief)) == "DPT-NOT-BOUND"
    (record,) = world.records()
    assert (record["agent"], record["task"], record["peer"]) == (NAME, world.run_id, str(thief))


def test_none_of_our_workloads_hosts_it_even_if_the_registry_says_so() -> None:
    world = Abroad()
    world.register(hosts=frozenset({RUNNER}))
    assert reason(world.call(world.signed(), RUNNER)) == "DPT-NOT-BOUND"


def test_without_hosts_only_its_own_certificate_counts() -> None:
    world = Abroad()
    world.register(hosts=frozenset())
    assert reason(world.call(world.signed(), EDGE)) == "DPT-NOT-BOUND"
    assert reason(world.call(world.signed())) == ""


@pytest.mark.parametrize(
    ("iat", "exp", "code"),
    [
        (0, MAX_SVID_SECONDS, ""),
        (0, MAX_SVID_SECONDS + 1, "DPT-TOKEN-CLAIMS"),
        (-MAX_SVID_SECONDS, 60, "DPT-TOKEN-CLAIMS"),
        (None, MAX_SVID_SECONDS, ""),
        (None, MAX_SVID_SECONDS + 1, "DPT-TOKEN-CLAIMS"),
        (30, MAX_SVID_SECONDS + 1, "DPT-TOKEN-CLAIMS"),
        (31, 60, "DPT-TOKEN-NOT-YET"),
        (0, 2**53 - 1 - SECONDS, "DPT-TOKEN-CLAIMS"),
        (None, 2**53 - 1 - SECONDS, "DPT-TOKEN-CLAIMS"),
        (0, None, "DPT-TOKEN-CLAIMS"),
        (-90, -30, "DPT-TOKEN-EXPIRED"),
        # The leeway lets it in, but there is no time left to lend.
        (-90, -29, "DPT-TOKEN-EXPIRED"),
        (40 - SECONDS, 60, "DPT-TOKEN-CLAIMS"),
    ],
)
def test_lives_for_an_hour_at_most(iat: int | None, exp: int | None, code: str) -> None:
    world = Abroad()
    times = {"iat": iat, "exp": exp}
    claims = {name: None if at is None else SECONDS + at for name, at in times.items()}
    assert reason(world.call(world.signed(None, **claims))) == code


def test_what_goes_upstream_ends_with_the_svid() -> None:
    world = Abroad()
    assert world.upstream(world.call(world.signed(exp=SECONDS + 7))).expires_at == SECONDS + 7


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"autonomous": False}, "DPT-HUMAN-MISSING"),
        ({"expires_at": NOW}, "DPT-AGENT-EXPIRED"),
        ({"expires_at": NOW + timedelta(seconds=1)}, ""),
    ],
)
def test_the_registration_must_be_live_and_for_nobody(more: dict[str, object], code: str) -> None:
    world = Abroad()
    world.register(NAME, **more)
    assert reason(world.call(world.signed())) == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"aud": ["https://billing.mesh.example"]}, "DPT-TOKEN-AUDIENCE"),
        ({"aud": [TICKETS, "https://elsewhere.example"]}, "DPT-TOKEN-AUDIENCE"),
        ({"sub": "spiffe://other.example/ns/agents/sa/triage"}, "DPT-TOKEN-TYPE"),
        ({"sub": "spiffe://other.example/agent/triage"}, "DPT-TOKEN-TYPE"),
        ({"sub": "spiffe://other.example"}, "DPT-TOKEN-CLAIMS"),
        ({"sub": "spiffe://Other.example/agent/triage"}, "DPT-TOKEN-CLAIMS"),
        ({"sub": "spiffe://other.example/agent/mesh.example/triage"}, "DPT-TOKEN-TYPE"),
    ],
)
def test_an_svid_that_is_not_for_this(changes: dict[str, object], code: str) -> None:
    world = Abroad()
    assert reason(world.call(world.signed(None, **changes))) == code


def test_a_foreign_broker_names_no_person_to_us() -> None:
    world = Abroad()
    claims: dict[str, object] = {"iss": ISSUER, "sub": "https://idp.example#lead", "aud": TICKETS}
    for key in (world.other.token_key, world.other.jwt_key):
        token = forge(key, header_of(key, "at+jwt"), claims | {"iat": SECONDS, "exp": SECONDS + 60})
        assert reason(world.call(token)) == "DPT-TOKEN-KEY"


def test_a_run_with_the_name_of_one_of_ours_is_another_run() -> None:
    """Their ULIDs are theirs to choose: our task neither lends rights to its namesake nor takes them away."""
    world = Abroad()
    ours = world.run("triage")
    world.run_id = ours.task.id
    token = world.upstream(world.call(world.signed()))
    assert token.chain == (Hop(NAME, ours.task.id),)
    assert token.txn != ours.task.id
    world.rights.tasks[ours.task.id] = replace(ours.task, ended_at=NOW)
    assert reason(world.call(world.signed())) == ""


def test_calls_of_one_run_are_one_transaction() -> None:
    world = Abroad()
    first, again = (world.upstream(world.call(world.signed())) for _ in range(2))
    assert first.txn == again.txn
    assert first.jti != again.jti


def _withdrawals(world: Abroad) -> dict[str, Any]:
    def retire() -> None:
        del world.rights.agents[NAME]
        world.rights.epoch += 1

    def lower() -> None:
        world.register(ceiling="observer")
        world.rights.epoch += 1

    def unhost() -> None:
        world.register(hosts=frozenset())
        world.rights.epoch += 1

    def redact() -> None:
        world.federated = {OTHER: Bundle.parse(b'{"keys": []}', OTHER)}

    def separate() -> None:
        world.federated = {}

    return {"retire": retire, "lower": lower, "unhost": unhost, "redact": redact, "separate": separate}


@pytest.mark.parametrize("what", ["retire", "lower", "unhost", "redact", "separate"])
@pytest.mark.parametrize("when", ["deciding", "recording"])
def test_a_withdrawal_wins_every_race(what: str, when: str) -> None:
    world = Abroad()
    withdraw = _withdrawals(world)[what]
    done: list[str] = []

    def once() -> None:
        if not done:
            done.append(what)
            withdraw()

    if when == "deciding":
        world.watched.act = once
    else:
        world.sink.act = once
    assert reason(world.call(world.signed(), EDGE)) == "DPT-WITHDRAWN"
    kinds = [(record["kind"], record["effect"], record["agent"]) for record in world.records()]
    assert kinds == [("decision", "allow", NAME), ("withdrawn", "deny", NAME)]


def test_a_change_elsewhere_denies_nobody() -> None:
    world = Abroad()
    third = Authority.generate(THIRD, NOW)

    def join() -> None:
        world.federated = {**world.federated, THIRD: third.trust_bundle()}
        world.rights.epoch += 1

    world.watched.act = join
    assert reason(world.call(world.signed())) == ""
    assert len(world.records()) == 1


def test_our_own_callers_are_looked_at_again_when_keys_change() -> None:
    world = World()
    run = world.run("triage")
    token = world.token(run)

    def revoke() -> None:
        world.authority = Authority.generate(DOMAIN, NOW)

    world.policy.act = revoke
    assert reason(world.check(world.request(token, run))) == "DPT-WITHDRAWN"


def test_trust_that_cannot_be_told_is_a_denial() -> None:
    world = Abroad()
    token = world.signed()

    def broken() -> Any:
        raise OSError

    world.trust.federated = broken
    assert reason(world.call(token)) == "DPT-INTERNAL"


def test_is_named_in_full_where_a_decision_is_explained() -> None:
    world = Abroad(OF_OURS)
    world.call(world.signed())
    grants = cast("dict[str, Any]", Grants.parse(GRANTS.format(agents=OF_OURS).encode()).data["grants"])
    question = Question(world.watched.asked[0], grants)
    verdict = asyncio.run(world.watched.decide(question.query))
    found = explain(question, verdict, shipped_modules(), shipped=True, ways=(), policy={}).to_json()
    assert found["who"]["chain"] == [NAME]
    assert found["conditions"][0]["actual"] == f"{NAME} is not in the grants"
    (raised,) = trials(question, verdict)
    assert raised.change.what.startswith(f"{NAME} with the tier observer")


def test_starts_no_task_at_our_broker() -> None:
    with pytest.raises(RefusedError):
        StartRequest.of(NAME, None, None)


def test_is_registered_across_a_restart(tmp_path: Path) -> None:
    longest = f"{'d' * 201}/triage"
    listed = tuple(
        Agent(name, "owner", "sponsor", "purpose", "observer", autonomous=True, hosts=frozenset({EDGE}))
        for name in (longest, NAME, "triage")
    )
    store = Store.open(tmp_path / "data" / "state.db")
    assert store.register_agents(listed, NOW).registered == (longest, NAME, "triage")
    store.close()
    store = Store.open(tmp_path / "data" / "state.db")
    assert store.agents() == listed
    assert store.register_agents(listed[2:], NOW).retired == (longest, NAME)
    store.close()
