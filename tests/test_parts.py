"""What the parts promise each other when they are put together."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from authz.audit.strangers import Admission
from authz.errors import AuditError
from authz.parts import Parts, _register, open_parts
from authz.store.snapshot import State
from authz.store.sqlite import Store
from tests.fakes import NOW, MemorySink, World
from tests.service_files import ServiceFiles


class Clock:
    """A clock that is set."""

    now = NOW


def test_a_start_that_the_full_disk_refused_does_not_lose_the_record_of_a_new_agent(tmp_path: Path) -> None:
    """Else whoever fills the disk for a moment registers an agent of which the log never tells."""
    config, world, sink = ServiceFiles(tmp_path / "service").config(), World(), MemorySink()
    state = State.load(Store.open(tmp_path / "data" / "state.db"), NOW)

    async def start() -> None:
        await _register(config, state, sink, lambda: NOW, world.entropy)

    sink.full_after = 1
    with pytest.raises(AuditError):
        asyncio.run(start())
    assert state.agent("triage") is None
    sink.full_after = None
    asyncio.run(start())
    asyncio.run(start())
    recorded = [entry.fields["agent"] for entry in sink.entries]
    assert recorded == ["nightly-report", "nightly-report", "resolver", "triage"]
    # What is on the disk with the last one is all, before the registry changes.
    assert sink.entries[-1].is_durable
    assert state.agent("triage") is not None


def test_a_flood_at_the_broker_does_not_hide_what_a_peer_tries_at_check(tmp_path: Path) -> None:
    """Anybody can speak to the broker, under as many addresses as IPv6 gives them."""

    async def play() -> None:
        clock, files = Clock(), ServiceFiles(tmp_path / "service")
        async with open_parts(files.config(), lambda: clock.now, World().entropy) as parts:
            for number in range(2000):
                parts.broker.strangers.admit(f"2001:db8::{number:x}", NOW)
            assert parts.broker.strangers.admit("2001:db8::ffff", NOW) is Admission.COUNT
            assert parts.flow.strangers.admit("spiffe://mesh.example/thief", NOW) is Admission.RECORD
            clock.now += timedelta(seconds=1)
            await counted(parts)

    async def counted(parts: Parts) -> None:
        before = parts.audit.head.seq
        for _ in range(100):
            parts.flow.strangers.admit("spiffe://mesh.example/thief", NOW)
        await parts.write_summaries()
        # The largest counts of the broker and the rest of them, and the thief.
        assert parts.audit.head.seq > before + 2
        assert not [*parts.broker.strangers.due(parts.clock()), *parts.flow.strangers.due(parts.clock())]

    asyncio.run(play())
