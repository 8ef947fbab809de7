"""Which names of a list a caller could use: the question, its bounds, and its answer by each engine.

A faulty or hostile policy hides what it likes; it shows nothing that was not asked about.
"""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from authz.errors import PolicyRevisionError, PolicyShapeError, PolicyUnavailableError
from authz.policy import embedded
from authz.policy.embedded import EmbeddedPolicy
from authz.policy.modules import Module, Modules, shipped_modules
from authz.policy.names import MAX_NAME, MAX_NAMES
from authz.policy.opa import OpaAddress, OpaClient, OpaPolicy
from authz.policy.opa_process import start_opa
from authz.policy.port import Policy
from authz.policy.portability import Runtime
from tests.policy_questions import demo_grants, lists, question

TOOLS: Final = ("read_ticket", "close_ticket", "export_tickets", "nowhere")
# Nothing here is a tool of the demo, though some readers would make one of it.
ODD: Final = (
    "",
    " ",
    "read_ticket ",
    " read_ticket",
    "READ_TICKET",
    "read_ticket\x00",
    "read_ticket\n",
    "\ufeffread_ticket",
    "read\u200b_ticket",
    "\uff52ead_ticket",
    "read_ticket/../close_ticket",
    "tickets.read_ticket",
    "class",
    "*",
    '"',
    "\\",
    "<&>",
    "\u2028",
    "\U0001f9f0",
    "x" * MAX_NAME,
)


def policy(text: str, runtime: Runtime = "rvm") -> EmbeddedPolicy:
    decision = 'decision := {"effect": "allow", "reasons": [], "obligations": {}}'
    module = Module("p.rego", f"package deputy\n{decision}\n{text}\n")
    return EmbeddedPolicy(Modules.of([module]), demo_grants(), runtime)


def visible(of: Policy, query: Mapping[str, object]) -> frozenset[str]:
    return asyncio.run(of.visible(query))


def _never_asked(query: Mapping[str, object]) -> str:
    raise AssertionError(f"asked: {query}")


@pytest.fixture(scope="module")
def shipped() -> EmbeddedPolicy:
    return EmbeddedPolicy(shipped_modules(), demo_grants())


# ---- Rego of one's own


@pytest.mark.parametrize("runtime", ["rvm", "engine"])
@pytest.mark.parametrize(
    ("rule", "shown"),
    [
        ("visible := input.resource.names", {"a", "b"}),
        ("visible := []", set()),
        ('visible contains "a" if input.phase == "visible"', {"a"}),
        ('default visible := ["b"]', {"b"}),
    ],
)
def test_a_policy_of_ones_own_says_what_is_visible(rule: str, shown: set[str], runtime: Runtime) -> None:
    assert visible(policy(rule, runtime), lists("a", "b")) == shown


@pytest.mark.parametrize(
    "rule",
    [
        'visible := ["c"]',
        'visible := ["a", "a"]',
        'visible := "a"',
        "visible := true",
        'visible := {"a": true}',
        "visible := [1]",
        'visible := ["a"] if input.phase == "check"',
    ],
)
def test_a_policy_that_shows_what_nobody_asked_about_shows_nothing(rule: str) -> None:
    with pytest.raises(PolicyShapeError):
        visible(policy(rule), lists("a", "b"))


@pytest.mark.parametrize("rule", ["", "# visible := []", "visible(name) := true", " visibles := []"])
def test_a_policy_without_the_rule_says_what_to_add(rule: str) -> None:
    silent = policy(rule)

    with pytest.raises(PolicyShapeError, match="give package deputy a rule 'visible'"):
        visible(silent, lists("a"))
    assert asyncio.run(silent.decide(question())).effect == "allow"


def test_a_rule_of_another_package_is_not_the_one() -> None:
    modules = [
        Module("p.rego", "package deputy\ndecision := {}"),
        Module("q.rego", "package q\nvisible := []"),
    ]

    assert not Modules.of(modules).filters_lists
    assert shipped_modules().filters_lists


def test_a_verdict_is_no_list_and_a_list_no_verdict(shipped: EmbeddedPolicy) -> None:
    with pytest.raises(PolicyShapeError):
        asyncio.run(shipped.decide(lists("read_ticket")))
    with pytest.raises(PolicyShapeError):
        visible(shipped, question())


@pytest.mark.parametrize("query", [question(), lists(*map(str, range(MAX_NAMES + 1))), lists("\ud83e")])
def test_what_is_no_list_is_refused_before_the_engine_is_asked(query: dict[str, object]) -> None:
    asks = policy("visible := input.resource.names")
    asks._ask = _never_asked  # type: ignore[method-assign]  # what is tested

    with pytest.raises(PolicyShapeError):
        visible(asks, query)


# ---- what the shipped policy shows


def test_shows_what_a_call_could_do(shipped: EmbeddedPolicy) -> None:
    assert visible(shipped, lists(*TOOLS)) == {"read_ticket", "export_tickets"}
    assert visible(shipped, lists(*TOOLS, agent="resolver")) == {
        "read_ticket",
        "close_ticket",
        "export_tickets",
    }


def test_shows_nothing_of_an_empty_list(shipped: EmbeddedPolicy) -> None:
    assert visible(shipped, lists()) == frozenset()


def test_a_name_is_compared_as_it_is(shipped: EmbeddedPolicy) -> None:
    assert visible(shipped, lists(*ODD, "read_ticket")) == {"read_ticket"}


def test_a_name_twice_is_a_name(shipped: EmbeddedPolicy) -> None:
    twice = lists("read_ticket")
    twice["resource"]["names"] = ["read_ticket", "nowhere", "read_ticket"]

    assert visible(shipped, twice) == {"read_ticket"}


def test_a_name_of_another_service_is_not_shown(shipped: EmbeddedPolicy) -> None:
    assert visible(shipped, lists("read_ticket", "delete_customer")) == {"read_ticket"}
    assert visible(shipped, lists("read_ticket", service="billing")) == frozenset()
    assert visible(shipped, lists("read_ticket", service="no-such-service")) == frozenset()


@pytest.mark.parametrize(
    "changes",
    [
        {"human": None},
        {"human": None, "binding": "svid", "scopes": []},
        {"scopes": []},
        {"binding": "svid", "scopes": []},
        {"scopes": ["billing:read", "tickets:write", "read"]},
        {"chain": []},
        {"chain": [{"name": "resolver", "ceiling": "contributor"}]},
        {"chain": [{"name": "triage", "ceiling": "observer"}, {"name": "stranger", "ceiling": "observer"}]},
        {"agent": {**lists()["agent"], "name": "stranger"}},
        {"version": "deputy.input/v2"},
    ],
)
def test_who_may_call_nothing_sees_nothing(shipped: EmbeddedPolicy, changes: dict[str, object]) -> None:
    assert visible(shipped, {**lists(*TOOLS), **changes}) == frozenset()


# ---- what is remembered


def _counting(of: EmbeddedPolicy) -> list[dict[str, Any]]:
    machine, asked = of._machine(), []

    def ask(entry: str, text: str) -> str:
        asked.append(json.loads(text))
        return machine.ask(entry, text)

    embedded._MACHINES.kept[of._serial] = embedded._Machine(ask)
    return asked


def test_a_list_is_asked_about_once() -> None:
    of = EmbeddedPolicy(shipped_modules(), demo_grants())
    asked = _counting(of)
    queries = [
        lists(*TOOLS),
        lists(*TOOLS),
        lists(*TOOLS, agent="resolver"),
        lists(*TOOLS[::-1]),
        lists(*TOOLS),
    ]

    answers = [visible(of, query) for query in queries]
    assert len(asked) == 3
    assert answers[0] == answers[1] == answers[3] == answers[4] != answers[2]


def test_whoever_asks_in_another_way_asks_anew() -> None:
    of = EmbeddedPolicy(shipped_modules(), demo_grants())
    asked = _counting(of)
    query = lists(*TOOLS)

    assert visible(of, query)
    for name, value in (("scopes", []), ("binding", "workload"), ("human", None), ("task", None)):
        visible(of, {**query, name: value})
    assert len(asked) == 5


def test_what_is_remembered_of_a_list_is_a_byte_a_name() -> None:
    of = EmbeddedPolicy(shipped_modules(), demo_grants())
    query = lists(*(f"{number}".ljust(MAX_NAME, "x") for number in range(64)), "read_ticket")
    visible(of, query)

    (kept,) = [value for value, _ in of._machine().lists._values.values()]
    assert kept == bytes(64) + b"\1"


def test_an_agent_fills_its_share_of_the_lists_and_no_more() -> None:
    of = EmbeddedPolicy(shipped_modules(), demo_grants())
    visible(of, lists("read_ticket", agent="resolver"))
    for number in range(embedded._REMEMBERED_LISTS_OF_AGENT + 5):
        visible(of, lists("read_ticket", str(number)))

    assert len(of._machine().lists) == embedded._REMEMBERED_LISTS_OF_AGENT + 1


def test_of_whom_there_is_no_name_nothing_is_remembered() -> None:
    of = policy("visible := input.resource.names")

    assert visible(of, {**lists("a"), "agent": {"name": 7}}) == {"a"}
    assert len(of._machine().lists) == 0


def test_a_list_that_failed_is_asked_about_again() -> None:
    of = EmbeddedPolicy(shipped_modules(), demo_grants())
    machine, failures = of._machine(), ["once"]

    def ask(entry: str, text: str) -> str:
        if failures:
            raise RuntimeError(failures.pop())
        return machine.ask(entry, text)

    embedded._MACHINES.kept[of._serial] = embedded._Machine(ask)
    with pytest.raises(PolicyUnavailableError):
        visible(of, lists("read_ticket"))
    assert visible(of, lists("read_ticket")) == {"read_ticket"}


def test_the_longest_list_stays_within_what_rvm_executes(shipped: EmbeddedPolicy) -> None:
    """For the caller who costs most: all groups, all hops, no person for the half of it."""
    names = [f"tool-{number}" for number in range(MAX_NAMES - 1)]
    groups = [f"group-{number}" for number in range(63)]
    query = lists(*names, "read_ticket")
    hops = [dict(query["chain"][0]) for _ in range(8)]
    scopes = [f"scope-{number}" for number in range(255)]
    many = {**query, "human": {**query["human"], "groups": [*groups, "lead"]}, "chain": hops}

    assert visible(shipped, {**many, "scopes": [*scopes, "tickets:read"]}) == {"read_ticket"}
    alone: dict[str, object] = {
        "human": None,
        "binding": "svid",
        "scopes": [],
        "agent": {**query["agent"], "autonomous": True},
    }
    assert visible(shipped, {**query, **alone}) == {"read_ticket"}


# ---- on OPA


def test_a_real_opa_shows_the_same(shipped: EmbeddedPolicy, opa_binary: Path, tmp_path: Path) -> None:
    longest = [f"{number} <é>".ljust(MAX_NAME, "<") for number in range(200)]
    queries = [
        lists(*TOOLS, *ODD),
        lists(*TOOLS, agent="resolver"),
        lists(),
        lists("read_ticket", *longest, "export_tickets"),
        lists("file:///x", kind="resource"),
    ]

    async def run() -> None:
        with start_opa(opa_binary, tmp_path / "opa", shipped_modules()) as process:
            client = OpaClient(OpaAddress(process.url, 5.0))
            on_opa = OpaPolicy(client, shipped_modules().digest, demo_grants())
            try:
                with pytest.raises(PolicyRevisionError):
                    await on_opa.visible(queries[0])
                await on_opa.activate()
                assert [await on_opa.visible(query) for query in queries] == [
                    await shipped.visible(query) for query in queries
                ]
                for refused in (question(), lists(*map(str, range(MAX_NAMES + 1))), lists("a", "\ud800")):
                    with pytest.raises(PolicyShapeError):
                        await on_opa.visible(refused)
                with pytest.raises(PolicyShapeError):
                    await on_opa.decide(queries[0])
            finally:
                await on_opa.close()
                await client.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("rule", "problem"),
    [("", "give package deputy a rule 'visible'"), ('visible := ["x"]', "not some of those")],
)
def test_rego_of_ones_own_on_a_real_opa_shows_nothing_more(
    rule: str, problem: str, opa_binary: Path, tmp_path: Path
) -> None:
    allow = 'decision := {"effect": "allow", "reasons": [], "obligations": {}}'
    modules = Modules.of([Module("p.rego", f"package deputy\n{allow}\n{rule}\n")])

    async def run() -> None:
        with start_opa(opa_binary, tmp_path / "opa", modules) as process:
            client = OpaClient(OpaAddress(process.url, 5.0))
            on_opa = OpaPolicy(client, modules.digest, demo_grants())
            try:
                await on_opa.activate()
                with pytest.raises(PolicyShapeError, match=problem):
                    await on_opa.visible(lists("a"))
                assert (await on_opa.decide(question())).effect == "allow"
            finally:
                await on_opa.close()
                await client.close()

    asyncio.run(run())
