"""Counts the proofs of `Check` in the memory that the broker counts in.

- A memory that waits for a disk is asked in another thread; the flow has other calls meanwhile.
- That thread is for this alone: revocations and orders wait for the disk in threads that all share, and
  whoever makes many of them would keep calls from being answered in time.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial

from authz.dpop import spend
from authz.flow import Spend
from authz.replay import Replay, ReplayMemory
from identity.dpop import DpopProof


def spender(replay: Replay) -> Spend:
    """Return what spends proofs in a memory."""
    waits = not isinstance(replay, ReplayMemory)
    # One: the file is written by one at a time.
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="proofs")

    async def spend_once(proof: DpopProof, *, presenter: str, now: datetime, call: str) -> None:
        if waits:
            one = partial(spend, proof, replay, presenter=presenter, now=now, call=call)
            await asyncio.get_running_loop().run_in_executor(thread, one)
        else:
            spend(proof, replay, presenter=presenter, now=now, call=call)

    return spend_once
