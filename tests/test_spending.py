"""Counting the proofs of calls, while others keep the threads busy that wait for the disk."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from authz.codes import Code
from authz.errors import AuthenticationError
from authz.store.replay import ReplayFile
from authz.store.spending import spender
from identity.dpop import DpopProof
from identity.keys import SigningKey
from tests.fakes import NOW

PROOF = DpopProof(
    jkt="k" * 43,
    jti="proof-000000000000001",
    issued_at=int(NOW.timestamp()),
    key=SigningKey.generate().public,
    replay_until=int(NOW.timestamp()) + 60,
)


def test_a_flood_of_orders_keeps_no_proof_from_being_counted(tmp_path: Path) -> None:
    """They share the threads of the loop, and were served in turn: a call waited until it was too late."""
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    replay, may_end = ReplayFile.open(directory / "replay.db"), Event()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(max_workers=1))
        order = asyncio.create_task(asyncio.to_thread(may_end.wait))
        await asyncio.sleep(0)
        spend = spender(replay)
        try:
            async with asyncio.timeout(20):
                await spend(PROOF, presenter="agent triage", now=NOW, call="")
                with pytest.raises(AuthenticationError) as refused:
                    await spend(PROOF, presenter="agent triage", now=NOW, call="")
            assert refused.value.code is Code.REPLAYED
        finally:
            may_end.set()
            await order

    asyncio.run(scenario())
    replay.close()
