"""Counts the proofs of `Check` in the memory that the broker counts in.

- A memory that waits for a disk is asked in another thread; the flow has other calls meanwhile.
"""

import asyncio
from datetime import datetime

from authz.check import Spend
from authz.dpop import spend
from authz.replay import Replay, ReplayMemory
from identity.dpop import DpopProof


def spender(replay: Replay) -> Spend:
    """Return what spends proofs in a memory."""
    waits = not isinstance(replay, ReplayMemory)

    async def spend_once(proof: DpopProof, *, presenter: str, now: datetime, call: str) -> None:
        if waits:
            await asyncio.to_thread(spend, proof, replay, presenter=presenter, now=now, call=call)
        else:
            spend(proof, replay, presenter=presenter, now=now, call=call)

    return spend_once
