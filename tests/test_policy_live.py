"""Grants reloaded while running: all or nothing, recorded before they speak."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from authz.audit.facts import PolicyFacts
from authz.errors import AuditError, GrantsError, PolicyLoadError, PolicyRevisionError
from authz.policy.grants import Grants
from authz.policy.live import LivePolicy
from authz.policy.port import Query
from authz.policy.verdict import Verdict
from tests.policy_questions import GRANTS_FILE, lists


@dataclass
class FakeEngine:
    """Knows its grants, and what happened to it."""

    grants: Grants
    events: list[str]
    ready: bool = True

    @property
    def revision(self) -> str:
        return self.grants.digest

    def payload_classes(self, service: str) -> frozenset[str]:
        return self.grants.payload_classes().get(service, frozenset())

    def tool_names(self, service: str) -> tuple[str, ...]:
        return self.grants.tool_names().get(service, ())

    async def decide(self, query: Query) -> Verdict:
        del query
        return Verdict("deny", (), {}, self.revision)

    async def visible(self, query: Query) -> frozenset[str]:
        del query
        return frozenset({self.revision})

    async def activate(self) -> None:
        self.events.append(f"activate {self.revision[:6]}")

    async def maintain(self) -> None:
        self.events.append("maintain")

    async def close(self) -> None:
        self.events.append(f"close {self.revision[:6]}")


@dataclass
class Case:
    """A grants file, what was recorded, and what the engines did."""

    path: Path
    records: list[PolicyFacts] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    audit_is_full: bool = False

    async def record(self, facts: PolicyFacts) -> None:
        if self.audit_is_full:
            raise AuditError("full")
        self.records.append(facts)
        self.events.append(f"record {facts.change}")

    def engine(self, grants: Grants) -> FakeEngine:
        return FakeEngine(grants, self.events)

    async def open(self) -> LivePolicy:
        return await LivePolicy.open(self.path, self.engine, self.record)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    path = tmp_path / "grants.yaml"
    path.write_bytes(GRANTS_FILE.read_bytes())
    return Case(path)


def _changed(case: Case) -> None:
    text = case.path.read_text(encoding="utf-8")
    case.path.write_text(text.replace("read_ticket", "look_at_ticket"), encoding="utf-8")


def test_a_changed_file_is_recorded_before_it_speaks(case: Case) -> None:
    async def run() -> None:
        live = await case.open()
        before = live.revision
        _changed(case)
        assert await live.reload() == "loaded"
        assert live.revision != before
        assert (await live.decide({})).revision == live.revision
        first, second = before[:6], live.revision[:6]
        assert case.events == [
            *("record loaded", f"activate {first}"),
            *("record loaded", f"close {first}", f"activate {second}"),
        ]
        assert case.records[1].previous == before

    asyncio.run(run())


def test_an_unchanged_file_costs_nothing(case: Case) -> None:
    async def run() -> None:
        live = await case.open()
        assert await live.reload() == "unchanged"
        assert case.events[-1] == "maintain"
        assert len(case.records) == 1

    asyncio.run(run())


@pytest.mark.parametrize("bad", [b"", b"{", b"version: 1\n", b"\xff", None])
def test_a_bad_file_changes_nothing_and_is_recorded_once(case: Case, bad: bytes | None) -> None:
    async def run() -> None:
        live = await case.open()
        before = live.revision
        if bad is None:
            case.path.unlink()
        else:
            case.path.write_bytes(bad)
        assert await live.reload() == "refused"
        assert await live.reload() == "unchanged"
        assert live.revision == before
        assert [facts.change for facts in case.records] == ["loaded", "refused"]
        case.path.write_bytes(GRANTS_FILE.read_bytes())
        assert await live.reload() == "loaded"

    asyncio.run(run())


def test_what_cannot_be_recorded_does_not_speak_and_is_tried_again(case: Case) -> None:
    async def run() -> None:
        live = await case.open()
        before = live.revision
        _changed(case)
        case.audit_is_full = True
        with pytest.raises(AuditError):
            await live.reload()
        assert live.revision == before
        case.audit_is_full = False
        assert await live.reload() == "loaded"
        assert live.revision != before

    asyncio.run(run())


def test_an_engine_that_refuses_changes_nothing(case: Case) -> None:
    async def run() -> None:
        live = await case.open()
        before = live.revision

        def refuse(_: Grants) -> FakeEngine:
            raise PolicyLoadError("does not compile")

        live.load = refuse
        _changed(case)
        assert await live.reload() == "refused"
        assert live.revision == before
        assert case.records[-1].detail == "does not compile"

    asyncio.run(run())


@pytest.mark.parametrize("bad", [b"", b"version: 1\n", None])
def test_nothing_starts_with_bad_grants(case: Case, bad: bytes | None) -> None:
    if bad is None:
        case.path.unlink()
    else:
        case.path.write_bytes(bad)
    with pytest.raises(GrantsError):
        asyncio.run(case.open())
    assert case.events == []


def test_a_policy_that_cannot_be_recorded_does_not_start(case: Case) -> None:
    case.audit_is_full = True
    with pytest.raises(AuditError):
        asyncio.run(case.open())
    assert case.events == []


def test_an_engine_that_cannot_begin_gives_way_to_the_old_one_and_is_recorded_once(case: Case) -> None:
    """OPA may refuse grants that were read and recorded: then the old ones go on, and it is tried once."""

    async def run() -> None:
        live = await case.open()
        before = live.revision

        @dataclass
        class Refused(FakeEngine):
            async def activate(self) -> None:
                raise PolicyLoadError("OPA refused")

        live.load = lambda grants: Refused(grants, case.events)
        _changed(case)
        assert await live.reload() == "refused"
        assert await live.reload() == "unchanged"
        assert live.revision == before
        assert [facts.change for facts in case.records] == ["loaded", "loaded", "refused"]
        assert case.events[-3:] == [f"activate {before[:6]}", "record refused", "maintain"]

    asyncio.run(run())


def test_a_question_that_a_swap_overtakes_is_asked_anew(case: Case) -> None:
    async def run() -> None:
        live = await case.open()
        first = live._engine

        async def overtaken(query: Query) -> Verdict:
            _changed(case)
            await live.reload()
            raise PolicyRevisionError

        first.decide = overtaken  # type: ignore[method-assign]  # one question of a fake
        assert (await live.decide({})).revision == live.revision != first.revision

    asyncio.run(run())


@pytest.mark.parametrize("is_more_looked_for", [True, False])
def test_a_list_that_a_swap_overtakes_is_asked_about_anew(case: Case, is_more_looked_for: bool) -> None:
    """Whatever the new grants look for in what is sent: of a list nothing is."""

    async def run() -> None:
        live = await case.open()
        first = live._engine

        async def overtaken(query: Query) -> frozenset[str]:
            (_with_rules if is_more_looked_for else _changed)(case)
            await live.reload()
            raise PolicyRevisionError

        first.visible = overtaken  # type: ignore[method-assign]  # one question of a fake
        assert await live.visible(lists("a")) == {live.revision} != {first.revision}

    asyncio.run(run())


def test_another_revision_without_a_swap_is_an_error(case: Case) -> None:
    async def run() -> None:
        live = await case.open()

        async def lost(query: Query) -> Verdict:
            raise PolicyRevisionError

        live._engine.decide = lost  # type: ignore[method-assign]  # one question of a fake
        with pytest.raises(PolicyRevisionError):
            await live.decide({})

    asyncio.run(run())


RULES = "    payload: {secret: deny}\n"


def test_what_to_look_for_is_what_the_engine_says_that_speaks_now(case: Case) -> None:
    async def run() -> None:
        live = await case.open()
        assert live.payload_classes("tickets") == frozenset()
        _with_rules(case)
        await live.reload()
        assert live.payload_classes("tickets") == {"secret"}
        assert live.payload_classes("billing") == frozenset()
        assert "read_ticket" in live.tool_names("tickets")
        assert live.tool_names("unknown") == ()

    asyncio.run(run())


@pytest.mark.parametrize("service", ["tickets", "billing"])
def test_a_call_in_which_more_would_have_been_looked_for_is_not_asked_anew(case: Case, service: str) -> None:
    """Else a swap on its way would let data through that the new grants deny."""

    async def run() -> None:
        live = await case.open()

        async def overtaken(query: Query) -> Verdict:
            _with_rules(case)
            await live.reload()
            raise PolicyRevisionError

        live._engine.decide = overtaken  # type: ignore[method-assign]  # one question of a fake
        query = {"resource": {"service": service}}
        if service == "tickets":
            with pytest.raises(PolicyRevisionError):
                await live.decide(query)
        else:
            assert (await live.decide(query)).revision == live.revision

    asyncio.run(run())


def _with_rules(case: Case) -> None:
    before, service, after = case.path.read_text(encoding="utf-8").partition("  tickets:\n")
    case.path.write_text(f"{before}{service}{RULES}{after}", encoding="utf-8")
