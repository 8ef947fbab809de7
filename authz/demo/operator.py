"""The operator of the demo: stops an agent and releases it, over the service's private socket.

- It sends what `deputy agents contain` and `release` send. Who reaches the socket is the operator.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2

TIMEOUT: Final = 30.0


@dataclass(frozen=True, slots=True)
class Operator:
    """Whoever can reach `data_dir/api.sock`."""

    socket: Path

    async def contain(self, agent: str, reason: str) -> None:
        """Stop an agent, and wait until every replica obeys.

        Raises:
            HTTPStatusError: if it is refused.
        """
        await self._order("withdrawals", agent, reason)

    async def release(self, agent: str, reason: str) -> None:
        """Let a contained agent act again.

        Raises:
            HTTPStatusError: if it is refused.
        """
        await self._order("releases", agent, reason)

    async def _order(self, path: str, agent: str, reason: str) -> None:
        body = {"kind": "agent", "subject": agent, "reason": reason, "wait": True}
        transport = httpx2.AsyncHTTPTransport(uds=str(self.socket))
        async with httpx2.AsyncClient(transport=transport, timeout=TIMEOUT) as client:
            (await client.post(f"http://deputy/admin/v1/{path}", json=body)).raise_for_status()
