"""Which processes are which workload: selectors that say it for sure, and peers taken for nobody else."""

from typing import Any

import pytest

from identity.entitlement import MAX_HINT, Peer
from identity.errors import AttestationError
from identity.registration import MAX_REGISTRATIONS, OVERFLOW_UID, AgentUid, Registration, Registrations
from identity.spiffe import TrustDomain

DOMAIN = TrustDomain.parse("mesh.example")
RUNNER = "spiffe://mesh.example/ns/agents/sa/runner"
WEB = "spiffe://mesh.example/ns/shop/sa/web"
BINARY = "ab" * 32


def registration(spiffe_id: str = RUNNER, **parts: Any) -> Registration:
    return Registration.parse(spiffe_id, DOMAIN, **parts)


def peer(uid: int = 1000, gid: int = 1000, executable: str | None = None) -> Peer:
    return Peer(7, uid, gid, executable)


@pytest.mark.parametrize(
    ("parts", "other", "matches"),
    [
        ({"uid": 1000}, peer(), True),
        ({"uid": 1000}, peer(uid=1001), False),
        ({"uid": 0}, peer(uid=0), True),
        ({"uid": 1000, "gid": 1000}, peer(), True),
        ({"uid": 1000, "gid": 1000}, peer(gid=1001), False),
        ({"uid": 1000, "executable_sha256": BINARY}, peer(executable=BINARY), True),
        ({"uid": 1000, "executable_sha256": BINARY}, peer(executable="cd" * 32), False),
        ({"own_socket": True}, peer(uid=4), True),
        ({"own_socket": True, "uid": 1000}, peer(uid=4), False),
    ],
)
def test_a_process_is_the_workload_whose_every_selector_it_meets(
    parts: dict[str, Any], other: Peer, matches: bool
) -> None:
    assert registration(**parts).matches(other) is matches


def test_an_interpreter_never_matches_an_executable() -> None:
    """Every Python agent is `/usr/bin/python3`; its hash is not known, and None equals no hash."""
    assert not registration(uid=1000, executable_sha256=BINARY).matches(peer(executable=None))


@pytest.mark.parametrize(
    "parts", [{"executable_sha256": BINARY}, {"gid": 1000}, {"gid": 1000, "executable_sha256": BINARY}, {}]
)
def test_what_does_not_say_who_it_is_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(AttestationError, match="needs a uid"):
        registration(**parts)


def test_an_executable_alone_is_refused_on_a_socket_of_its_own_too() -> None:
    with pytest.raises(AttestationError, match="anybody may run a copy"):
        registration(own_socket=True, executable_sha256=BINARY)


@pytest.mark.parametrize(
    "parts",
    [
        {"uid": -1},
        {"uid": 2**32 - 1},
        {"uid": True},
        {"uid": OVERFLOW_UID},
        {"uid": 1, "gid": -1},
        {"uid": 1, "gid": OVERFLOW_UID},
        {"uid": 1, "executable_sha256": BINARY.upper()},
        {"uid": 1, "executable_sha256": BINARY + "\n"},
        {"uid": 1, "executable_sha256": ""},
        {"uid": 1, "hint": "x" * (MAX_HINT + 1)},
        {"uid": 1, "hint": "é" * 513},
        {"uid": 1, "hint": "a\nb"},
        {"uid": 1, "dns_names": ["ok.example", "not ok"]},
        {"uid": 1, "dns_names": ["host\n"]},
        {"uid": 1, "dns_names": [""]},
        {"uid": 1, "dns_names": ["x" * 64]},
    ],
)
def test_a_part_that_is_malformed(parts: dict[str, Any]) -> None:
    with pytest.raises(AttestationError):
        registration(**parts)


@pytest.mark.parametrize(
    "spiffe_id",
    [
        "spiffe://other.example/ns/agents/sa/runner",
        "spiffe://mesh.example",
        "spiffe://mesh.example/agent/triage",
        "spiffe://mesh.example/agent/triage/task/01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "spiffe://mesh.example/agent",
        "spiffe://mesh.example/ns/../agent/triage",
        "https://mesh.example/ns",
        "",
    ],
)
def test_an_id_that_is_no_workloads(spiffe_id: str) -> None:
    with pytest.raises(AttestationError):
        registration(spiffe_id, uid=1000)


def test_an_agent_like_name_may_be_a_workloads() -> None:
    assert registration("spiffe://mesh.example/agents/runner", uid=1000).matches(peer())


@pytest.mark.parametrize(
    ("uid", "agent"), [(-1, "triage"), (1, "Triage"), (1, "../triage"), (True, "triage")]
)
def test_an_agent_uid_that_is_none(uid: int, agent: str) -> None:
    with pytest.raises(AttestationError):
        AgentUid.parse(uid, agent)


def test_the_shared_socket_knows_a_process_by_all_that_matches_in_the_order_of_the_list() -> None:
    first, second = registration(RUNNER, uid=1000), registration(WEB, uid=1000)
    again = registration(RUNNER, uid=1000, gid=1000)
    registrations = Registrations.of([first, second, again], [AgentUid.parse(2001, "triage")])

    assert registrations.of_peer(peer()) == (first, second)
    assert registrations.of_peer(peer(gid=5)) == (first, second)
    assert Registrations.of([again]).of_peer(peer(gid=5)) == ()
    assert registrations.of_peer(peer(uid=2001)) == ()
    assert registrations.of_peer(peer(uid=0)) == ()
    assert registrations.agents == {2001: "triage"}


@pytest.mark.parametrize(
    ("workloads", "agents"),
    [
        ([registration(uid=1000)], [AgentUid.parse(1000, "triage")]),
        ([], [AgentUid.parse(1, "triage"), AgentUid.parse(1, "resolver")]),
        ([registration(uid=1), registration(uid=1)], []),
        ([registration(own_socket=True)], []),
    ],
)
def test_registrations_that_contradict_each_other(
    workloads: list[Registration], agents: list[AgentUid]
) -> None:
    with pytest.raises(AttestationError):
        Registrations.of(workloads, agents)


def test_registrations_are_bounded() -> None:
    with pytest.raises(AttestationError, match="more than"):
        Registrations.of([], [AgentUid(uid, "triage") for uid in range(MAX_REGISTRATIONS + 1)])
