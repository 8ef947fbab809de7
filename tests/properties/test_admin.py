"""Whatever an owner is allowed to do to an agent of their own, it never gains authority."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.admin import Action, Actor
from identity.caller import Agent, OidcClient
from identity.spiffe import SpiffeId
from tests.admin_world import AGENT, ISSUER, ask, change, person, uri

TIERS: dict[str, dict[str, int]] = {
    "observer": {"read": 2},
    "helper": {"read": 2, "write": 1},
    "contributor": {"read": 2, "write": 2},
    "cleaner": {"destroy": 2},
    "unknown": {},
}
HOSTS = [SpiffeId.parse(f"spiffe://mesh.example/ns/agents/sa/{name}") for name in "abc"]
CLIENTS = [OidcClient(ISSUER, name) for name in "abc"]
START = datetime(2027, 1, 1, tzinfo=UTC)
# An owner, and operators who own the agent: by their own name, and by a group.
OWNERS = {"oona": person("oona"), "omar": person("omar"), "gus": person("gus", "platform")}
OTHERS = [person("olga"), Actor.of_local(1000)]

moments = st.none() | st.builds(
    lambda seconds, part: START + timedelta(seconds=seconds, microseconds=part),
    st.integers(-2, 2),
    st.integers(0, 2),
)
parts = st.fixed_dictionaries(
    {},
    optional={
        "ceiling": st.sampled_from(list(TIERS)),
        "autonomous": st.booleans(),
        "hosts": st.frozensets(st.sampled_from(HOSTS)),
        "clients": st.frozensets(st.sampled_from(CLIENTS)),
        "max_depth": st.integers(1, 8),
        "expires_at": moments,
        "sandbox": st.sampled_from([None, "gvisor", "kata"]),
        "sponsor": st.sampled_from([uri("sid"), uri("oona")]),
        "purpose": st.text(max_size=5),
        "owner": st.sampled_from([uri("oona"), uri("omar"), uri("gus"), uri("accomplice")]),
    },
)


def _exceeds(after: Agent, before: Agent) -> list[str]:
    """What one agent may do that the other may not, by a reading of its own."""
    held, was = TIERS[after.ceiling], TIERS[before.ceiling]
    latest = datetime.max.replace(tzinfo=UTC)
    found = {
        "ceiling": any(held[name] > was.get(name, 0) for name in held),
        "autonomous": after.autonomous and not before.autonomous,
        "hosts": not after.hosts <= before.hosts,
        "clients": not after.clients <= before.clients,
        "max_depth": after.max_depth > before.max_depth,
        "expires_at": (after.expires_at or latest) > (before.expires_at or latest),
        "sandbox": before.sandbox is not None and after.sandbox != before.sandbox,
        "owner": after.owner != before.owner,
    }
    return [name for name, does in found.items() if does]


@pytest.mark.parametrize("name", OWNERS)
@given(start=parts, changes=st.lists(parts, max_size=6))
def test_no_sequence_of_an_owners_changes_raises_the_agent(
    name: str, start: dict[str, object], changes: list[dict[str, object]]
) -> None:
    owned = replace(AGENT, **{**start, "owner": uri(name)})  # type: ignore[arg-type]  # parts by their names
    agent = owned
    for parts_changed in changes:
        if change(OWNERS[name], agent, **parts_changed).allowed:
            agent = replace(agent, **parts_changed)  # type: ignore[arg-type]  # parts by their names
        retired = ask(OWNERS[name], "agents/register", agent=agent, proposed=replace(agent, **parts_changed))  # type: ignore[arg-type]  # parts by their names
        if retired.allowed:
            agent = replace(agent, **parts_changed)  # type: ignore[arg-type]  # parts by their names

    assert _exceeds(agent, owned) == []


@given(start=parts, changed=parts)
def test_an_owner_who_is_no_operator_changes_four_things_only(
    start: dict[str, object], changed: dict[str, object]
) -> None:
    owned = replace(AGENT, **{**start, "owner": uri("oona")})  # type: ignore[arg-type]  # parts by their names
    after = replace(owned, **changed)  # type: ignore[arg-type]  # parts by their names
    kept = replace(
        owned,
        purpose=after.purpose,
        sponsor=after.sponsor,
        max_depth=after.max_depth,
        expires_at=after.expires_at,
    )

    assert change(OWNERS["oona"], owned, **changed).allowed == (after == kept and not _exceeds(after, owned))


@given(start=parts, changed=parts)
def test_an_operator_who_owns_the_agent_may_all_that_raises_nothing(
    start: dict[str, object], changed: dict[str, object]
) -> None:
    owned = replace(AGENT, **{**start, "owner": uri("omar")})  # type: ignore[arg-type]  # parts by their names
    after = replace(owned, **changed)  # type: ignore[arg-type]  # parts by their names
    exceeds = _exceeds(after, owned)
    if after.ceiling == "unknown" != owned.ceiling:
        exceeds.append("a tier that somebody may define tomorrow")

    assert change(OWNERS["omar"], owned, **changed).allowed == (not exceeds)


@dataclass(slots=True)
class _Containment:
    """The containment in force, as a store keeps it: the last one's author."""

    by: str | None = None
    others: bool = False


@pytest.mark.parametrize("name", OWNERS)
@given(
    steps=st.lists(
        st.tuples(st.booleans(), st.sampled_from(["contain", "release"]), st.integers(0, 1)), max_size=8
    )
)
def test_no_sequence_of_an_owners_steps_undoes_what_another_contained(
    name: str, steps: list[tuple[bool, str, int]]
) -> None:
    agent, state = replace(AGENT, owner=uri(name)), _Containment()
    for is_owner, verb, which in steps:
        actor = OWNERS[name] if is_owner else OTHERS[which]
        action: Action = "agents/contain" if verb == "contain" else "agents/release"
        if not ask(actor, action, agent=agent, contained_by=state.by).allowed:
            continue
        state.by = actor.id if verb == "contain" else None
        state.others = (verb == "contain") if not is_owner else state.others

        assert not state.others or state.by not in {None, OWNERS[name].id}
