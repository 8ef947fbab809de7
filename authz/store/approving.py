"""Asks the file of approvals for the flow, in a thread that is for this alone.

- A file that waits for a disk keeps no other call waiting; whoever sends many calls that need approval keeps
  the others from nothing but approvals.
- What goes wrong with the file is an error with a code of its own: no approval, and worth trying again.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import TypeVar

from authz.approvals.approval import Spent, summary
from authz.approvals.key import ApprovalKey, Asked
from authz.approvals.place import page_of
from authz.approvals.prompt import Prompt
from authz.codes import Code
from authz.errors import ApprovalError, StoreError
from authz.store.approvals import ApprovalFile
from identity.names import ENTROPY_BYTES, new_ulid

T = TypeVar("T")


class SharedApprovals:
    """The approvals of this machine; `issuer` is the URL that their pages are below."""

    def __init__(self, file: ApprovalFile, issuer: str, entropy: Callable[[int], bytes]) -> None:
        self._file = file
        self._issuer = issuer
        self._entropy = entropy
        # One: the file is written by one at a time.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="approvals")

    async def spend(self, key: ApprovalKey, now: datetime, call: str) -> Spent | None:
        """See `authz.approvals.port.Approvals.spend`."""
        return await self._run(partial(self._file.spend, key, now, call))

    async def request(self, asked: Asked, now: datetime) -> Prompt:
        """See `authz.approvals.port.Approvals.request`."""

        def new_id() -> str:
            return new_ulid(now, self._entropy(ENTROPY_BYTES))

        approval_id = await self._run(partial(self._file.request, asked, now, new_id))
        return Prompt(approval_id, page_of(self._issuer, approval_id), summary(asked.key))

    async def sweep(self, now: datetime) -> None:
        """Take out what is of no more use.

        Raises:
            ApprovalError: if that cannot be done now.
        """
        await self._run(partial(self._file.sweep, now))

    async def _run(self, step: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, step)
        except StoreError as error:
            raise ApprovalError(Code.APPROVAL_UNKNOWN, str(error)) from error
