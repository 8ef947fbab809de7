"""Rego in process: the same answer each time, and an error for everything that is none."""

import asyncio
import gc
import importlib.util
import json
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from authz.errors import PolicyLoadError, PolicyShapeError, PolicyUnavailableError
from authz.payload.classes import PAYLOAD_CLASSES
from authz.policy import embedded
from authz.policy.embedded import Ask, EmbeddedPolicy, engine_version, syntax_trees
from authz.policy.grants import Grants
from authz.policy.modules import Module, Modules, read_modules, shipped_modules
from authz.policy.portability import Runtime
from tests.policy_questions import CLOSE, DELETE, EXPECTED, GRANTS_FILE, LEAD, READ, demo_grants, question


def _policy(text: str) -> EmbeddedPolicy:
    return EmbeddedPolicy(Modules.of([Module("p.rego", f"package deputy\n{text}")]), demo_grants())


@pytest.fixture(scope="module")
def shipped() -> EmbeddedPolicy:
    return EmbeddedPolicy(shipped_modules(), demo_grants())


@pytest.mark.parametrize(("query", "effect"), EXPECTED)
def test_decides_as_the_shipped_policy_says(
    shipped: EmbeddedPolicy, query: dict[str, object], effect: str
) -> None:
    verdict = asyncio.run(shipped.decide(query))
    assert (verdict.effect, verdict.revision) == (effect, shipped.revision)


def test_nothing_of_one_question_is_left_for_the_next(shipped: EmbeddedPolicy) -> None:
    answers = [shipped.evaluate(query) for query in (READ, CLOSE, READ, {}, CLOSE, READ)]
    assert answers[0] == answers[2] == answers[5]
    assert answers[1] == answers[4] != answers[0]


def test_each_thread_has_a_machine_of_its_own(shipped: EmbeddedPolicy) -> None:
    """A machine that is used by another thread than the one that made it ends the process."""
    answers: list[object] = []
    threads = [
        threading.Thread(target=lambda: answers.append(shipped.evaluate(READ)["effect"]))  # type: ignore[index]  # an object
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["allow"] * 4


def test_a_policy_that_another_thread_lets_go_leaves_no_error_behind() -> None:
    """Here regorus raises in the thread that lets a machine of another one go, at whatever it is doing."""
    made, done = threading.Event(), threading.Event()
    policies: list[EmbeddedPolicy] = []

    def make() -> None:
        policies.append(EmbeddedPolicy(shipped_modules(), demo_grants()))
        made.set()
        done.wait(10)

    thread = threading.Thread(target=make)
    thread.start()
    made.wait(10)
    assert policies[0].evaluate(READ)
    policies.clear()
    gc.collect()
    done.set()
    thread.join()


def test_a_thread_keeps_the_machines_of_few_policies() -> None:
    policies = [_policy(f"decision := {number}") for number in range(5)]

    assert [policy.evaluate({}) for policy in (*policies, *policies)] == [0, 1, 2, 3, 4] * 2
    assert len(embedded._MACHINES.kept) == 2


@pytest.mark.parametrize(
    "text",
    [
        "decision := 1",
        'decision := {"effect": "allow"} if input.nothing',
        'decision := "allow"',
        "decision := true",
        'decision := {"effect": "allow"}',
        'decision := {"effect": "ALLOW", "reasons": [], "obligations": {}}',
        'decision := {"effect": "allow", "reasons": [], "obligations": {}, "more": 1}',
    ],
)
def test_an_answer_of_another_form_is_an_error(text: str) -> None:
    with pytest.raises(PolicyShapeError):
        asyncio.run(_policy(text).decide(READ))


def test_an_evaluation_that_fails_is_an_error() -> None:
    failing = _policy('decision := {"effect": "allow"} if 1 / input.zero > 0')
    with pytest.raises((PolicyUnavailableError, PolicyShapeError)):
        asyncio.run(failing.decide({"zero": 0}))


def test_rules_that_contradict_each_other_are_an_error() -> None:
    both = _policy('decision := {"effect": "allow"} if true\ndecision := {"effect": "deny"} if true')
    with pytest.raises((PolicyUnavailableError, PolicyShapeError)):
        asyncio.run(both.decide(READ))


@pytest.mark.parametrize("query", [{"x": float("nan")}, {"x": object()}, {"x": "y" * (5 << 20)}])
def test_a_question_that_is_no_json_is_an_error(shipped: EmbeddedPolicy, query: dict[str, object]) -> None:
    with pytest.raises(PolicyUnavailableError):
        asyncio.run(shipped.decide(query))


def test_an_error_does_not_quote_the_question() -> None:
    failing = _policy("decision := startswith(input.secret, 1)")
    with pytest.raises((PolicyUnavailableError, PolicyShapeError)) as caught:
        asyncio.run(failing.decide({"secret": "hunter2"}))
    assert "hunter2" not in str(caught.value)


def test_a_policy_that_does_not_compile_is_refused() -> None:
    with pytest.raises(PolicyLoadError, match="does not compile"):
        _policy("decision := {")


def test_a_platform_without_the_engine_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "regorus", None)
    with pytest.raises(PolicyLoadError, match=r"set policy\.engine to opa"):
        EmbeddedPolicy(shipped_modules(), demo_grants())


def test_the_revision_moves_with_policy_and_data(shipped: EmbeddedPolicy) -> None:
    other = _policy("decision := {}")
    assert other.revision.split(".")[0] != shipped.revision.split(".")[0]
    assert other.revision.split(".")[1] == shipped.revision.split(".")[1]


def test_no_module_can_be_added_or_renamed_without_another_digest(tmp_path: Path) -> None:
    (tmp_path / "a.rego").write_text("package a")
    (tmp_path / "a_test.rego").write_text("package a")
    one = read_modules(tmp_path)
    assert [module.name for module in one.modules] == ["a.rego"]
    (tmp_path / "a.rego").rename(tmp_path / "b.rego")
    renamed = read_modules(tmp_path)
    (tmp_path / "a.rego").write_text("package a")
    assert len({one.digest, renamed.digest, read_modules(tmp_path).digest}) == 3


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_directory_without_a_readable_module_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.rego").write_bytes(content)
    with pytest.raises(PolicyLoadError):
        read_modules(tmp_path)


def test_the_shipped_policy_answers_json(shipped: EmbeddedPolicy) -> None:
    assert json.dumps(shipped.evaluate(READ))


# ---- the slower runtime


def test_engine_gives_the_answers_of_rvm(shipped: EmbeddedPolicy) -> None:
    slower = EmbeddedPolicy(shipped_modules(), demo_grants(), "engine")

    for query in (READ, CLOSE, READ, {}, DELETE, READ):
        assert slower.evaluate(query) == shipped.evaluate(query)


def test_engine_does_what_rvm_gets_wrong() -> None:
    modules = Modules.of(
        [Module("p.rego", "package deputy\ndefault f(_) := 0\nf(1) := 1\ndecision := f(input.x)")]
    )

    assert EmbeddedPolicy(modules, demo_grants(), "engine").evaluate({"x": 2}) == 0
    with pytest.raises(PolicyShapeError):
        EmbeddedPolicy(modules, demo_grants(), "rvm").evaluate({"x": 2})


# ---- what goes wrong inside of the engine


@pytest.mark.parametrize("runtime", ["rvm", "engine"])
def test_a_panic_is_an_error_and_the_next_question_is_answered(runtime: Runtime) -> None:
    """Version 0.13 panics here. Python does not count that as an exception, and the machine is spoilt."""
    modules = Modules.of([Module("p.rego", "package deputy\ndecision := object.subset(input.a, input.b)")])
    policy = EmbeddedPolicy(modules, demo_grants(), runtime)

    assert policy.evaluate({"a": {"x": 1}, "b": {}}) is True
    for _ in range(3):
        with pytest.raises(PolicyUnavailableError):
            policy.evaluate({"a": [1], "b": []})
        assert policy.evaluate({"a": {"x": 1}, "b": {}}) is True


def test_work_without_end_is_an_error() -> None:
    """Rvm counts instructions; a decision takes some hundreds."""
    bomb = _policy("decision := count([x | some x in input.l; some y in input.l; some z in input.l; x == y])")

    assert bomb.evaluate({"l": [1, 2]}) == 4
    with pytest.raises(PolicyUnavailableError, match="instruction limit"):
        bomb.evaluate({"l": list(range(200))})
    assert bomb.evaluate({"l": [1, 2]}) == 4


class _Interrupted:
    """Stands for regorus while somebody presses Ctrl-C."""

    def __getattr__(self, _: str) -> object:
        raise KeyboardInterrupt


# ---------------------------------------------------------------- what is remembered

EXCHANGE: Final = {
    **question(),
    "phase": "exchange",
    "action": {"protocol": "token", "method": "token-exchange", "phase": "lifecycle"},
    "resource": {"service": "tickets", "type": "server", "name": "tickets"},
    "arguments": None,
    "request": None,
}


def _counting(policy: EmbeddedPolicy) -> list[dict[str, object]]:
    """Keep the questions that reach the machine of this thread."""
    machine, asked = policy._machine(), []

    def ask(entry: str, text: str) -> str:
        asked.append(json.loads(text))
        return machine.ask(entry, text)

    embedded._MACHINES.kept[policy._serial] = embedded._Machine(ask)
    return asked


def _decide(policy: EmbeddedPolicy, *queries: Mapping[str, object]) -> list[str]:
    return [asyncio.run(policy.decide(query)).effect for query in queries]


def test_a_question_about_an_exchange_is_answered_once_and_a_call_each_time() -> None:
    policy = EmbeddedPolicy(shipped_modules(), demo_grants())
    asked = _counting(policy)

    assert _decide(policy, EXCHANGE, READ, {**EXCHANGE}, READ, EXCHANGE) == ["allow"] * 5
    assert [query["phase"] for query in asked] == ["exchange", "check", "check"]


def test_whatever_differs_is_another_question() -> None:
    """Also where JSON would write it alike elsewhere, or Python calls it equal."""
    policy = EmbeddedPolicy(shipped_modules(), demo_grants())
    asked = _counting(policy)
    changed: list[dict[str, object]] = [EXCHANGE]
    for name, value in EXCHANGE.items():
        if name not in {"version", "phase"}:
            changed.append({**EXCHANGE, name: "other"})
        if isinstance(value, dict):
            changed.extend({**EXCHANGE, name: {**value, inner: "other"}} for inner in value)
    person: dict[str, object] = {**LEAD}
    changed.extend(
        {**EXCHANGE, "human": {**person, "auth_time": time}} for time in (0, False, 1, True, 1.0, "1")
    )

    for query in changed:
        with suppress(PolicyShapeError, PolicyUnavailableError):
            _decide(policy, query)
    # An agent whose name is no text has no share, so that its question is asked each time.
    assert len(asked) == len(changed)
    assert {json.dumps(query) for query in asked} == {json.dumps(query) for query in changed}


def test_each_policy_remembers_for_itself() -> None:
    text = GRANTS_FILE.read_bytes()
    narrower = Grants.parse(text.replace(b"observer: {allow: [read]}", b"observer: {allow: [destroy]}"))
    before, after = (EmbeddedPolicy(shipped_modules(), grants) for grants in (demo_grants(), narrower))

    assert _decide(before, EXCHANGE) == ["allow"]
    assert _decide(after, EXCHANGE) == ["deny"]
    assert _decide(before, EXCHANGE) == ["allow"]


def test_an_agent_fills_its_share_of_what_is_remembered_and_no_more() -> None:
    policy = EmbeddedPolicy(shipped_modules(), demo_grants())
    asked = _counting(policy)
    quiet = {**EXCHANGE, "agent": {**question(agent="resolver")["agent"]}}  # type: ignore[dict-item] # an object
    _decide(policy, quiet)
    for number in range(embedded._REMEMBERED_OF_AGENT + 10):
        _decide(policy, {**EXCHANGE, "task": {"id": str(number), "workload": ""}})

    before = len(asked)
    _decide(policy, quiet)
    assert len(asked) == before
    assert len(policy._machine().answers) == embedded._REMEMBERED_OF_AGENT + 1


def test_a_failure_is_not_remembered() -> None:
    policy = EmbeddedPolicy(shipped_modules(), demo_grants())
    machine, failures = policy._machine(), ["once"]

    def ask(entry: str, text: str) -> str:
        if failures:
            raise RuntimeError(failures.pop())
        return machine.ask(entry, text)

    embedded._MACHINES.kept[policy._serial] = embedded._Machine(ask)
    with pytest.raises(PolicyUnavailableError):
        _decide(policy, EXCHANGE)
    assert _decide(policy, EXCHANGE) == ["allow"]


def test_a_question_that_is_not_plain_is_refused_before_it_is_named() -> None:
    policy = EmbeddedPolicy(shipped_modules(), demo_grants())

    with pytest.raises(PolicyUnavailableError):
        _decide(policy, {**EXCHANGE, "task": object()})


def test_an_interrupt_is_no_failure_of_the_policy(
    shipped: EmbeddedPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: str, __: str) -> str:
        raise KeyboardInterrupt

    policy = EmbeddedPolicy(shipped_modules(), demo_grants())
    embedded._MACHINES.kept[policy._serial] = embedded._Machine(interrupt)
    with pytest.raises(KeyboardInterrupt):
        policy.evaluate(READ)
    monkeypatch.setattr(embedded, "regorus", _Interrupted())
    with pytest.raises(KeyboardInterrupt):
        EmbeddedPolicy(shipped_modules(), demo_grants())
    with pytest.raises(KeyboardInterrupt):
        syntax_trees(shipped_modules())


def test_a_regorus_of_unknown_origin_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "PACKAGE", "no-such-package")
    with pytest.raises(PolicyLoadError, match="unknown origin"):
        engine_version()


def test_the_file_loads_where_there_is_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "regorus", None)
    spec = importlib.util.spec_from_file_location("embedded_elsewhere", embedded.__file__)
    assert spec is not None
    assert spec.loader is not None
    elsewhere = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(elsewhere)

    with pytest.raises(PolicyLoadError, match="no embedded Rego engine on this platform"):
        elsewhere.syntax_trees(shipped_modules())


def test_an_embedded_policy_is_ready_from_the_beginning(shipped: EmbeddedPolicy) -> None:
    async def run() -> None:
        await shipped.activate()
        await shipped.maintain()
        await shipped.close()

    asyncio.run(run())
    assert shipped.ready


# ---- the largest there can be


def _largest() -> tuple[Grants, dict[str, object]]:
    """Grants at the bounds of grants.py, and a question at those of the schema, that nobody may."""
    values = [f"v{number}" for number in range(256)]
    pattern = "([a-z]*[^b]){40}"
    texts = {"equals": "v", "one_of": values, "prefix": "v", "below": "v/", "matches": pattern}
    limits = {f"/a{number}": {"min": 0, "max": 1} for number in range(16)}
    kept = {f"/a{number}": {"only": values} for number in range(16)}
    read = {f"/a{number}": texts for number in range(16)}
    data = dict.fromkeys(PAYLOAD_CLASSES, "deny")
    http = [
        {"methods": ["GET"], "paths": [f"/v1/{rule}/{path}/*" for path in range(8)], "class": "destroy"}
        for rule in range(32)
    ]
    groups, agents = [f"g{number}" for number in range(64)], [f"a{number}" for number in range(8)]
    grants = {
        "version": 1,
        "tiers": {
            "small": {"allow": ["read"]},
            "large": {"allow": ["read", "write"], "approve": ["destroy"]},
        },
        "services": {
            "s": {
                "tools": {
                    name: {"class": "destroy", "arguments": arguments}
                    for name, arguments in (("t", limits), ("lists", kept), ("texts", read))
                },
                "http": http,
                "payload": data,
            }
        },
        "humans": {"groups": {group: {"s": ["read"]} for group in groups}, "subjects": {}},
        "agents": {agent: {"tier": "large", "services": ["s"]} for agent in agents},
    }
    chain = [{"name": agent, "ceiling": "small"} for agent in agents]
    asked = {
        **READ,
        "human": {**LEAD, "groups": groups},
        "agent": {**chain[0], "autonomous": False, "owner": "o"},
        "chain": chain,
        "scopes": [f"x{number}:read" for number in range(64)],
        "arguments": {f"a{number}": 2 for number in range(16)},
        "payload": sorted(PAYLOAD_CLASSES),
        "resource": {"service": "s", "type": "tool", "name": "t"},
    }
    return Grants.parse(json.dumps(grants).encode()), asked


def test_the_largest_question_stays_within_what_rvm_executes() -> None:
    grants, asked = _largest()
    policy = EmbeddedPolicy(shipped_modules(), grants)
    http = {
        "action": {"protocol": "http", "method": "GET", "phase": "call"},
        "resource": {"service": "s", "type": "path", "name": "/v1/31/7/x"},
    }
    lists = {
        "resource": {"service": "s", "type": "tool", "name": "lists"},
        "arguments": {f"a{number}": ["v255"] * 63 + ["v255" if number < 15 else "x"] for number in range(16)},
    }
    texts = {
        "resource": {"service": "s", "type": "tool", "name": "texts"},
        "arguments": {f"a{number}": "v" * 1024 for number in range(16)},
    }
    surveys = {"action": {"protocol": "mcp", "method": "tools/list", "phase": "list"}}

    for changes in ({}, http, lists, texts, surveys, {"phase": "exchange"}, {"phase": "task"}):
        answer = policy.evaluate({**asked, **changes})
        assert isinstance(answer, dict)
        assert answer["effect"] in {"allow", "deny"}


def test_a_question_that_fails_costs_no_compilation_and_spoils_no_later_answer() -> None:
    policy = _policy(
        "all := numbers.range(1, input.n)\ndecision := count([1 | some i in all; some j in all; i + j > 0])"
    )
    compiled: list[int] = []
    compile_once = policy._compile

    def counted() -> Ask:
        compiled.append(1)
        return compile_once()

    policy._compile = counted
    assert policy.evaluate({"n": 3}) == 9
    for _ in range(3):
        with pytest.raises(PolicyUnavailableError, match="instruction limit"):
            policy.evaluate({"n": 1000})
        assert policy.evaluate({"n": 4}) == 16
    assert compiled == []


def test_says_what_to_look_for_in_a_call(shipped: EmbeddedPolicy) -> None:
    grants, _ = _largest()

    assert EmbeddedPolicy(shipped_modules(), grants).payload_classes("s") == frozenset(PAYLOAD_CLASSES)
    assert shipped.payload_classes("s") == shipped.payload_classes("tickets") == frozenset()


def test_names_the_tools_of_a_service(shipped: EmbeddedPolicy) -> None:
    assert "read_ticket" in shipped.tool_names("tickets")
    assert shipped.tool_names("s") == ()
