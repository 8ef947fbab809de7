"""One uid, one agent, one live task: for agents that cannot be given a socket of their own.

- The operator says which uid runs which agent; nobody else's word puts a task on a uid.
- A uid has one live task at a time. While it lives, no other takes its place.
- Claims are in memory: after a restart a renewal of the task makes its claim anew.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from authz.broker.refusal import refuse
from authz.codes import Code


class AgentUids:
    """Which task each uid may have the SVID of."""

    def __init__(self, agents: Mapping[int, str], is_live: Callable[[str], bool]) -> None:
        """Take which uid runs which agent, and how to see whether a task is live."""
        self._agents = agents
        self._is_live = is_live
        self._tasks: dict[int, str] = {}
        self._pending: dict[int, UidClaim] = {}

    def task_of(self, uid: int) -> str | None:
        """Return the task that holds a uid."""
        return self._tasks.get(uid)

    def check_agent(self, uid: int, agent: str) -> None:
        """See that a uid is one of an agent's.

        Raises:
            RefusedError: with AGENT_HOST, if the operator did not say so.
        """
        if self._agents.get(uid) != agent:
            text = f"uid {uid} does not run {agent!r}: an operator adds it to identity.agent_uids"
            raise refuse(Code.AGENT_HOST, text, description=text)

    def claim(self, uid: int, agent: str, task_id: str) -> "UidClaim":
        """Take a uid for a task that is about to start, or is renewed.

        Raises:
            RefusedError: if the uid is not the agent's, or another task has it.
        """
        self.check_agent(uid, agent)
        holder = self._tasks.get(uid, task_id)
        if uid in self._pending or (holder != task_id and self._is_live(holder)):
            text = f"uid {uid} runs another task: end it first, or start this one with a private socket"
            raise refuse(Code.TASK_MISMATCH, text, description=text)
        claim = self._pending[uid] = UidClaim(uid, task_id, self)
        return claim

    def keep(self, claim: "UidClaim") -> None:
        """Let the task have the uid, and no other."""
        self.drop(claim)
        self.release(claim.task_id)
        self._tasks[claim.uid] = claim.task_id

    def drop(self, claim: "UidClaim") -> None:
        """Take back a claim."""
        if self._pending.get(claim.uid) is claim:
            del self._pending[claim.uid]

    def release(self, task_id: str) -> None:
        """Let go of every uid of a task."""
        self._tasks = {uid: task for uid, task in self._tasks.items() if task != task_id}


@dataclass(frozen=True, slots=True)
class UidClaim:
    """A uid that a task is about to have."""

    uid: int
    task_id: str
    uids: AgentUids

    async def keep(self) -> None:
        """Let the task have it."""
        self.uids.keep(self)

    async def drop(self) -> None:
        """Let others have it."""
        self.uids.drop(self)
