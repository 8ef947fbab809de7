"""The cast of the scenario: what there is to call, and the tasks and tokens that were made so far."""

import json
from dataclasses import dataclass, field
from typing import Any, Protocol

from authz.codes import Code
from authz.demo.agents import AgentTask, Answer, Runner, Token
from authz.demo.outcome import Attempt, Outcome, judge
from authz.demo.people import GrantRequest
from authz.demo.processes import ProcessError

TICKETS = "tickets"
BILLING = "billing"


@dataclass(frozen=True, slots=True)
class Call:
    """A tool of a service, and what is asked of it."""

    service: str
    tool: str
    arguments: dict[str, Any]

    def rpc(self, number: int) -> str:
        """Write the call as a JSON-RPC message."""
        params = {"name": self.tool, "arguments": self.arguments}
        return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})


NOT_GRANTED = Code.HUMAN_NOT_GRANTED
# What a row is about where the broker answers, before any call.
BILLING_TOKEN = Call(BILLING, "(token)", {})
TICKETS_TOKEN = Call(TICKETS, "(token)", {})
READ = Call(TICKETS, "read_ticket", {"ticket": "T-1"})
CLOSE = Call(TICKETS, "close_ticket", {"ticket": "T-1"})
EXPORT = Call(TICKETS, "export_tickets", {})
REFUND = Call(BILLING, "refund", {"invoice": "I-7", "amount": 20})
DELETE = Call(BILLING, "delete_customer", {"customer": "C-9"})


class World(Protocol):
    """The running parts, as the scenario needs them."""

    runner: Runner
    stranger: Runner

    async def sign_in(self, account: str, client: str = ...) -> str:
        """Sign a human in; return their ID token."""

    def audience(self, service: str) -> str:
        """Return the audience of a service's tokens."""

    async def lend_billing_to_clerks(self, *, lent: bool) -> None:
        """Change the grants while everything runs, and wait until they count."""

    def record(self, decision: str) -> dict[str, Any] | None:
        """Return the audit record of a decision."""

    def upstream(self, decision: str) -> dict[str, Any] | None:
        """Return what the tool server saw of an allowed call."""

    def human_uri(self, account: str) -> str:
        """Return the `sub` of a human's tokens."""

    @property
    def has_opa(self) -> bool:
        """Say whether a real OPA decides."""

    async def stop_opa(self) -> None:
        """Stop OPA."""

    async def start_opa(self) -> None:
        """Start OPA again."""

    async def let(self, account: str, grant: GrantRequest) -> str:
        """Let a person make a grant; return its id."""

    async def revoke(self, account: str, grant: str) -> None:
        """Let a person revoke a grant of theirs."""

    async def contain(self, agent: str) -> None:
        """Stop an agent, as the operator of the service."""

    async def release(self, agent: str) -> None:
        """Let a contained agent act again."""


@dataclass(slots=True)
class Stage:
    """The cast: tasks and tokens that were made so far."""

    world: World
    tasks: dict[tuple[str, str], AgentTask] = field(default_factory=dict)
    tokens: dict[tuple[str, str, str], str] = field(default_factory=dict, repr=False)

    async def task(self, agent: str, human: str, again: str = "") -> AgentTask:
        """Return the agent's task for this human, started at first use; `again` names further ones."""
        key = (agent + again, human)
        if key not in self.tasks:
            id_token = await self.world.sign_in(human) if human else ""
            self.tasks[key] = await self.world.runner.start(agent, human, id_token)
        return self.tasks[key]

    async def token(self, agent: str, human: str, service: str) -> str:
        """Return the delegation token of the agent's task."""
        key = (agent, human, service)
        if key not in self.tokens:
            task = await self.task(agent, human)
            token = await task.exchange(self.world.audience(service), await self.world.sign_in(human))
            self.tokens[key] = must(token)
        return self.tokens[key]

    async def call(self, attempt: Attempt, task: AgentTask, call: Call, bearer: str) -> Outcome:
        """Call a tool, and judge the answer by its record."""
        answer = await task.call(call.service, call.tool, call.arguments, bearer)
        return self.judged(attempt, answer)

    def judged(self, attempt: Attempt, answer: Answer, *problems: str | None) -> Outcome:
        """Judge an answer by its record."""
        return judge(attempt, answer, self.world.record(answer.decision), *problems)


def attempt_at(row: str, what: str, task: AgentTask, call: Call, expect: str = Code.ALLOWED.value) -> Attempt:
    """Describe what a task tries."""
    return Attempt(
        row, what, task.human or "-", task.agent, task.id, f"{call.service}/{call.tool}", str(expect)
    )


def must(token: Token) -> str:
    """Return the token of an exchange that the scenario takes for granted."""
    if not token.value:
        raise ProcessError(f"the broker refused: {token.answer.reason} {token.answer.text}")
    return token.value
