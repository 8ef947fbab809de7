"""NR-05: authority of hop n+1 is within that of hop n: scopes, tools and their limits, lifetime, depth.

- Once through the pure rule (`narrow`), with whatever the broker could ever put into it.
- Once through a whole broker: continued or handed on, for other services, with details, with grants that
  limit tools; whatever it answers.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from hypothesis import given, settings
from hypothesis import strategies as st

from authz.broker.arrival import Arrival
from authz.broker.task_endpoint import issue_jwt_svid
from authz.broker.token_endpoint import exchange_token
from authz.broker.token_request import ACCESS_TOKEN, GRANT_TYPE, ID_TOKEN, JWT
from identity.argument_limit import ArgumentLimit
from identity.authorization_details import Detail, Details, covers, details_json
from identity.caller import Hop, Human, KeyBinding
from identity.canonical import arguments_sha256
from identity.delegation import MAX_PARENTS, Delegation, DelegationToken
from identity.errors import ChainError, ExchangeError
from identity.exchange import SignedIn, Terms, narrow
from identity.spiffe import TrustDomain
from tests.broker_fakes import BILLING, BROKER, TICKETS, World, broker_alone, consent, json_of
from tests.properties.test_broker_chain import Running, start

SECONDS = 1_800_000_000
AUDIENCES = (TICKETS, BILLING)
TOOLS = ("close", "list")
CALLS: tuple[Mapping[str, object], ...] = (
    {},
    {"amount": 1},
    {"amount": 50},
    {"amount": 1000},
    {"amount": "1"},
    {"amount": True},
    {"to": "alice"},
    {"amount": 1, "to": "alice"},
    {"amount": 50, "to": "bob"},
)
LIMITS = st.sampled_from(
    [
        ArgumentLimit("/amount", "max", 100),
        ArgumentLimit("/amount", "max", 10),
        ArgumentLimit("/amount", "min", 5),
        ArgumentLimit("/amount", "equals", 1),
        ArgumentLimit("/amount", "one_of", (1, 50)),
        ArgumentLimit("/to", "prefix", "al"),
        ArgumentLimit("/to", "equals", "bob"),
    ]
)
DETAIL = st.builds(
    Detail,
    location=st.sampled_from([TICKETS, TICKETS, TICKETS, BILLING]),
    tool=st.sampled_from(TOOLS),
    arguments_sha256=st.sampled_from([None, None, None, *map(arguments_sha256, CALLS[1:3])]),
    limits=st.lists(LIMITS, max_size=2, unique=True).map(tuple),
)
DETAILS: st.SearchStrategy[Details | None] = st.none() | st.lists(
    DETAIL, min_size=1, max_size=3, unique=True
).map(tuple)
SCOPES = ("tickets:read", "tickets:write", "tickets:destroy", "billing:read", "x")
SOME_SCOPES = st.frozensets(st.sampled_from(SCOPES), min_size=1)
MOST_SCOPES = st.sampled_from([frozenset(SCOPES), frozenset(SCOPES[:4]), frozenset(SCOPES[:2])]) | SOME_SCOPES
GRANTS = tuple(f"01ARZ3NDEKTSV4RRFFQ69G5F{letters}" for letters in ("AA", "AB", "AC"))


def calls(token: Delegation) -> frozenset[tuple[str, str, int]]:
    """Which of the sample calls a token is for."""
    return frozenset(
        (audience, tool, number)
        for audience in AUDIENCES
        for tool in TOOLS
        for number, arguments in enumerate(CALLS)
        if covers(token.details, audience, tool, arguments)
    )


def check_within(held: Delegation, new: Delegation) -> None:
    """Everything that a token may do, its parent may do as well."""
    assert new.scopes <= held.scopes
    assert new.scopes
    assert calls(new) <= calls(held)
    assert held.details is None or new.details is not None
    assert new.expires_at <= held.expires_at
    assert (new.human, new.txn) == (held.human, held.txn)
    assert new.chain == held.chain or new.chain[1:] == held.chain
    assert new.grants[: len(held.grants)] == held.grants
    assert new.parents == (*held.parents, held.jti)
    assert new.jti not in {held.jti, *held.parents}


# ---------------------------------------------------------------- the rule


@dataclass(frozen=True)
class Hand:
    """What one exchange could be asked for and be allowed."""

    hop: Hop | None
    allowed: frozenset[str]
    requested: frozenset[str] | None
    granted: Details | None
    wanted: Details | None
    grant: str | None
    ttl: int
    deadline: int
    later: int


HOPS = st.builds(
    Hop,
    agent=st.sampled_from(["triage", "resolver", "writer"]),
    task=st.sampled_from([f"01ARZ3NDEKTSV4RRFFQ69G5T{n:02d}" for n in range(6)]),
)
HANDS = st.lists(
    st.builds(
        Hand,
        hop=st.none() | HOPS,
        allowed=MOST_SCOPES,
        requested=st.none() | MOST_SCOPES,
        granted=DETAILS,
        wanted=st.none() | DETAILS,
        grant=st.none() | st.sampled_from(GRANTS),
        ttl=st.integers(1, 400),
        deadline=st.integers(50, 2000),
        later=st.integers(0, 20),
    ),
    min_size=2,
    max_size=12,
)


@settings(max_examples=200)
@given(HANDS)
def test_nr05_the_rule_only_narrows(hands: list[Hand]) -> None:
    """NR-05: whatever terms are put into it."""
    domain = TrustDomain.parse("mesh.example")
    now, human = SECONDS, Human("https://idp.example", "lead", ("lead",), "gold", SECONDS - 5, ("pwd",))
    held: SignedIn | DelegationToken = SignedIn(human, SECONDS + 500, "t" * 22, SECONDS - 5)
    presenter = Hop("triage", "01ARZ3NDEKTSV4RRFFQ69G5T99")
    for number, hand in enumerate(hands):
        now += hand.later
        terms = Terms(
            issuer=BROKER,
            trust_domain=domain,
            audience=TICKETS,
            allowed_scopes=hand.allowed,
            presenter=presenter if hand.hop is None or isinstance(held, SignedIn) else hand.hop,
            binding=KeyBinding("x" * 43),
            task_deadline=datetime.fromtimestamp(SECONDS + hand.deadline, UTC),
            max_ttl=hand.ttl,
            max_depth=4,
            grant_id=hand.grant,
            allowed_details=hand.granted,
            requested_details=hand.wanted,
        )
        try:
            moment = datetime.fromtimestamp(now, UTC)
            new = narrow(held, terms, hand.requested, moment, f"jti-{number:018d}")
        except (ExchangeError, ChainError):
            continue
        assert new.expires_at <= min(now + hand.ttl, SECONDS + hand.deadline, held.expires_at)
        assert new.issued_at <= now
        assert len(new.chain) <= 4
        assert new.scopes <= hand.allowed
        assert hand.requested is None or new.scopes <= hand.requested
        assert hand.grant is None or hand.grant in new.grants
        if isinstance(held, DelegationToken):
            check_within(held, new)
        names = {name: getattr(new, name) for name in Delegation.__slots__}
        held, presenter = DelegationToken(**names, token_id="x"), new.chain[0]


# ---------------------------------------------------------------- a whole broker


@dataclass(frozen=True)
class Step:
    """One request: alone (`actor` None) or for an actor."""

    actor: int | None
    audience: str
    scopes: frozenset[str] | None
    wanted: Details | None
    allowed: frozenset[str]
    tools: frozenset[str] | None
    seconds: int


ALL_TOOLS = [f"{name}/{tool}" for name in ("tickets", "billing") for tool in TOOLS]
STEPS = st.lists(
    st.builds(
        Step,
        actor=st.none() | st.integers(1, 3),
        audience=st.sampled_from([TICKETS] * 4 + [BILLING]),
        scopes=st.none() | MOST_SCOPES,
        wanted=st.none() | DETAILS,
        allowed=MOST_SCOPES,
        tools=st.none() | st.frozensets(st.sampled_from(ALL_TOOLS), min_size=1),
        seconds=st.integers(0, 15),
    ),
    min_size=2,
    max_size=8,
)


async def exchange(
    world: World, own: Running, token: str, step: Step, tasks: list[Running]
) -> Mapping[str, Any]:
    form = {
        "grant_type": GRANT_TYPE,
        "audience": step.audience,
        "subject_token": token,
        "subject_token_type": ACCESS_TOKEN,
    }
    if step.actor is not None:
        actor = tasks[step.actor]
        arrival = Arrival("POST", "test", (actor.der,), json_of({"audience": BROKER}), "application/json")
        svid = await issue_jwt_svid(actor.id, arrival, world.broker)
        assert svid.body is not None
        form |= {"actor_token": str(svid.body["jwt_svid"]), "actor_token_type": JWT}
    if step.scopes is not None:
        form["scope"] = " ".join(sorted(step.scopes))
    if step.wanted is not None:
        form["authorization_details"] = json_of(details_json(step.wanted)).decode()
    return await ask(world, own, form)


async def ask(world: World, own: Running, form: Mapping[str, str]) -> Mapping[str, Any]:
    arrival = Arrival(
        "POST", "test", (own.der,), urlencode(form).encode(), "application/x-www-form-urlencoded"
    )
    before = len(world.sink.entries)
    reply = await exchange_token(arrival, world.broker)
    assert len(world.sink.entries) == before + 1
    assert reply.body is not None
    assert ("access_token" in reply.body) == (reply.status == 200)
    return reply.body


@settings(max_examples=60)
@given(STEPS)
def test_nr05_a_broker_only_narrows(steps: list[Step]) -> None:
    """NR-05: each answer of a whole broker, whatever is asked."""

    async def scenario() -> None:
        world = broker_alone()
        world.tasks.change("triage", max_depth=4)
        tasks = [await start(world, name) for name in ("triage", "triage", "resolver", "resolver")]
        world.policy.scopes = SCOPES
        everything = frozenset(SCOPES)
        world.tasks.consents = [consent(name, scopes=everything) for name in ("triage", "resolver")]
        own = {"grant_type": GRANT_TYPE, "audience": TICKETS, "subject_token_type": ID_TOKEN}
        scope = "tickets:read tickets:write billing:read"
        first = await ask(world, tasks[0], {**own, "subject_token": world.id_token(), "scope": scope})
        text, presenter = str(first["access_token"]), tasks[0]
        held = world.verified(text)
        assert held.grants == (consent("triage").id,)
        for step in steps:
            world.clock.forward(step.seconds)
            world.policy.scopes = tuple(sorted(step.allowed))
            lasting = world.clock.now + timedelta(hours=1)
            world.tasks.consents = [
                consent(name, scopes=everything, tools=step.tools, expires_at=lasting)
                for name in ("triage", "resolver")
            ]
            answer = await exchange(world, presenter, text, step, tasks)
            if "access_token" not in answer:
                continue
            new = world.verified(str(answer["access_token"]), step.audience)
            check_within(held, new)
            assert new.scopes <= step.allowed
            assert len(new.chain) <= 4
            assert len(new.parents) <= MAX_PARENTS
            assert answer["scope"] == " ".join(sorted(new.scopes))
            held, text = new, str(answer["access_token"])
            presenter = presenter if step.actor is None else tasks[step.actor]
            assert new.chain[0].task == presenter.id

    asyncio.run(scenario())
