"""Transaction tokens that serve a task's calls of one tool for some seconds (`txn: per_tool`).

- A token is used again by the same credential, agents, peer and requesters, for the same service and tool,
  with the same scopes, under the same policy, and while at least half of its life is left.
- When whom we trust has changed, or rights were withdrawn, everything is forgotten.
- The decision is made for each call before anybody asks here: a token that is found allows nothing.
- It is bounded, in all and for each run of an agent. It holds tokens: its `repr` shows none.
"""

from datetime import datetime
from typing import Final

from identity.caller import Caller
from identity.fair_cache import FairCache
from identity.grant import Grant
from identity.transaction import IssuedTransaction

MAX_TOKENS: Final = 4096
MAX_OF_TASK: Final = 64


class ReusedTokens:
    """The memory of one flow."""

    def __init__(self, max_tokens: int = MAX_TOKENS, max_of_task: int = MAX_OF_TASK) -> None:
        self._issued: FairCache[tuple[object, ...], IssuedTransaction] = FairCache(max_tokens, max_of_task)
        self._trust: object = None
        self._epoch = -1

    def see(self, trust: object, epoch: int) -> None:
        """Forget everything if whom we trust is another value, or the epoch another one, than before."""
        if trust is not self._trust or epoch != self._epoch:
            self._issued.clear()
            self._trust, self._epoch = trust, epoch

    def find(self, grant: Grant, caller: Caller, revision: str, now: datetime) -> IssuedTransaction | None:
        """Return a token that was issued for the same, None where one must be issued."""
        key = _key(grant, caller, revision)
        issued = self._issued.get(key)
        if issued is None:
            return None
        seconds = now.timestamp()
        if (
            seconds < issued.issued_at
            or 2 * (issued.expires_at - seconds) < issued.expires_at - issued.issued_at
        ):
            self._issued.drop(key)
            return None
        return issued

    def keep(self, grant: Grant, caller: Caller, revision: str, issued: IssuedTransaction) -> None:
        """Remember a token."""
        self._issued.put(_key(grant, caller, revision), issued, f"{caller.agent.name}/{caller.task.id}")

    def __len__(self) -> int:
        return len(self._issued)

    def __repr__(self) -> str:
        return f"ReusedTokens({len(self)} issued)"


def _key(grant: Grant, caller: Caller, revision: str) -> tuple[object, ...]:
    return (
        grant.service,
        grant.resource,
        grant.scopes,
        caller.token_id,
        caller.txn,
        caller.chain,
        caller.peer,
        caller.requesters,
        revision,
    )
