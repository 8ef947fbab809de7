"""The scenario: ten rows of things that agents do for people, rightly and wrongly.

- Each step really happens: tokens come from the broker, calls go through Envoy, records come from the log.
- A step says what it tries and what must come of it; nothing else is decided here.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from authz.codes import Code
from authz.demo.agents import AgentTask, Answer, Runner, Token, tampered
from authz.demo.outcome import ENVOY_ITSELF, Attempt, Outcome, expect_equal, judge
from authz.demo.processes import ProcessError
from identity.canonical import arguments_sha256

TICKETS = "tickets"
BILLING = "billing"
TWO_MIB = 2 << 20
EXPIRY_WAIT = 8.0


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


@dataclass(slots=True)
class Stage:
    """The cast: tasks and tokens that were made so far."""

    world: World
    tasks: dict[tuple[str, str], AgentTask] = field(default_factory=dict)
    tokens: dict[tuple[str, str, str], str] = field(default_factory=dict)

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
            self.tokens[key] = _must(token)
        return self.tokens[key]

    async def call(self, attempt: Attempt, task: AgentTask, call: Call, bearer: str) -> Outcome:
        """Call a tool, and judge the answer by its record."""
        answer = await task.call(call.service, call.tool, call.arguments, bearer)
        return self.judged(attempt, answer)

    def judged(self, attempt: Attempt, answer: Answer, *problems: str | None) -> Outcome:
        """Judge an answer by its record."""
        return judge(attempt, answer, self.world.record(answer.decision), *problems)


async def run(world: World) -> AsyncIterator[Outcome]:
    """Run all rows in order."""
    stage = Stage(world)
    expiring = await _token_that_expires(stage)
    for step in (_row_1, _row_2, _row_3, _row_4, _row_5, _row_6):
        async for outcome in step(stage):
            yield outcome
    async for outcome in _row_7(stage, expiring):
        yield outcome
    for step in (_row_8, _row_9, _row_10):
        async for outcome in step(stage):
            yield outcome


async def _row_1(stage: Stage) -> AsyncIterator[Outcome]:
    task = await stage.task("triage", "lead")
    attempt = _attempt("1", "an agent reads for a person", task, READ)
    bearer = await stage.token("triage", "lead", TICKETS)
    answer = await task.call(READ.service, READ.tool, READ.arguments, bearer, mode="auto")
    answered = expect_equal("the tool's answer", answer.text, "printer on fire")
    yield stage.judged(attempt, answer, answered, *_upstream_problems(stage, task, answer))


async def _row_2(stage: Stage) -> AsyncIterator[Outcome]:
    """The broker asks the same policy, so a clerk's token for billing exists only while clerks may use it."""
    world, task = stage.world, await stage.task("resolver", "clerk")
    attempt = _attempt("2a", "the human may not, though the agent may", task, BILLING_TOKEN, NOT_GRANTED)
    refused = await task.exchange(world.audience(BILLING), await world.sign_in("clerk"))
    yield stage.judged(attempt, refused.answer)
    await world.lend_billing_to_clerks(lent=True)
    bearer = _must(await task.exchange(world.audience(BILLING), await world.sign_in("clerk")))
    attempt = _attempt("2b", "clerks are lent billing: the same call", task, REFUND)
    yield await stage.call(attempt, task, REFUND, bearer)
    await world.lend_billing_to_clerks(lent=False)
    attempt = _attempt("2c", "taken back: the same call, the same token", task, REFUND, NOT_GRANTED)
    yield await stage.call(attempt, task, REFUND, bearer)


async def _row_3(stage: Stage) -> AsyncIterator[Outcome]:
    task = await stage.task("triage", "lead")
    attempt = _attempt("3", "the agent may not, though the human may", task, CLOSE, Code.AGENT_TIER)
    yield await stage.call(attempt, task, CLOSE, await stage.token("triage", "lead", TICKETS))


async def _row_4(stage: Stage) -> AsyncIterator[Outcome]:
    task = await stage.task("resolver", "lead")
    attempt = _attempt("4", "a destructive tool", task, DELETE, Code.APPROVAL_REQUIRED)
    yield await stage.call(attempt, task, DELETE, await stage.token("resolver", "lead", BILLING))


async def _row_5(stage: Stage) -> AsyncIterator[Outcome]:
    resolver, helper = await stage.task("resolver", "lead"), await stage.task("triage", "lead", " helper")
    audience = stage.world.audience(TICKETS)
    own = await stage.token("resolver", "lead", TICKETS)
    handed = _must(await resolver.delegate(audience, own, helper))
    attempt = _attempt("5a", "resolver delegates to triage, which reads", helper, READ)
    answer = await helper.call(READ.service, READ.tool, READ.arguments, handed)
    chain = [hop["agent"] for hop in (stage.world.record(answer.decision) or {}).get("chain", [])]
    yield stage.judged(attempt, answer, expect_equal("the record's chain", chain, ["triage", "resolver"]))

    triage, closer = await stage.task("triage", "lead"), await stage.task("resolver", "lead", " closer")
    handed_up = _must(await triage.delegate(audience, await stage.token("triage", "lead", TICKETS), closer))
    attempt = _attempt("5b", "triage delegates to resolver, which closes", closer, CLOSE, Code.CHAIN_NARROWED)
    yield await stage.call(attempt, closer, CLOSE, handed_up)

    last, refused = await _delegate_too_deep(stage, helper, handed)
    attempt = _attempt("5c", "a chain of five where four is the limit", last, TICKETS_TOKEN, Code.CHAIN_DEPTH)
    yield stage.judged(attempt, refused.answer)


async def _row_6(stage: Stage) -> AsyncIterator[Outcome]:
    stolen = await stage.token("triage", "lead", TICKETS)
    owner = await stage.task("triage", "lead")
    web = AgentTask("(shop web)", "", "-", stage.world.stranger.identity, owner.places, stage.world.stranger)
    attempt = _attempt("6a", "a stolen token, from another workload", web, READ, Code.NOT_BOUND)
    yield await stage.call(attempt, web, READ, stolen)
    other = await stage.task("triage", "lead", " helper")
    attempt = _attempt("6b", "a stolen token, from another task", other, READ, Code.NOT_BOUND)
    yield await stage.call(attempt, other, READ, stolen)


async def _row_7(stage: Stage, expiring: str) -> AsyncIterator[Outcome]:
    triage, resolver = await stage.task("triage", "lead"), await stage.task("resolver", "lead")
    attempt = _attempt("7a", "an expired token", triage, READ, Code.TOKEN_EXPIRED)
    yield await _until_expired(stage, attempt, triage, expiring)
    billing = await stage.token("resolver", "lead", BILLING)
    attempt = _attempt("7b", "a token for another audience", resolver, READ, Code.TOKEN_AUDIENCE)
    yield await stage.call(attempt, resolver, READ, billing)
    bad = tampered(await stage.token("triage", "lead", TICKETS))
    attempt = _attempt("7c", "a tampered token", triage, READ, Code.TOKEN_SIGNATURE)
    yield await stage.call(attempt, triage, READ, bad)
    svid = await triage.jwt_svid(stage.world.audience(TICKETS))
    attempt = _attempt("7d", "an SVID as a delegation token", triage, READ, Code.HUMAN_MISSING)
    yield await stage.call(attempt, triage, READ, svid)


async def _row_8(stage: Stage) -> AsyncIterator[Outcome]:
    task = await stage.task("triage", "lead")
    bearer = await stage.token("triage", "lead", TICKETS)
    hidden = CLOSE.rpc(2)
    batch = f"[{READ.rpc(1)},{hidden}]"
    attempt = _attempt("8a", "a batch that hides a call", task, CLOSE, Code.MCP_BATCH)
    yield stage.judged(attempt, await task.post(TICKETS, batch.encode(), bearer))
    twice = hidden.replace('"name": "close_ticket"', '"name": "read_ticket", "name": "close_ticket"')
    attempt = _attempt("8b", "a key that stands twice", task, CLOSE, Code.JSON_DUPLICATE_KEY)
    yield stage.judged(attempt, await task.post(TICKETS, twice.encode(), bearer))
    large = Call(TICKETS, READ.tool, {"ticket": "x" * TWO_MIB}).rpc(3)
    attempt = _attempt("8c", "a body of 2 MiB", task, READ, ENVOY_ITSELF)
    yield stage.judged(attempt, await task.post(TICKETS, large.encode(), bearer))


async def _row_9(stage: Stage) -> AsyncIterator[Outcome]:
    nightly = await stage.task("nightly-report", "")
    svid = await nightly.jwt_svid(stage.world.audience(TICKETS))
    attempt = _attempt("9a", "an autonomous agent reads, for nobody", nightly, READ)
    answer = await nightly.call(READ.service, READ.tool, READ.arguments, svid)
    record = stage.world.record(answer.decision) or {}
    says = expect_equal("the record's autonomous", record.get("autonomous"), wanted=True)
    yield stage.judged(attempt, answer, says, expect_equal("the record's human", record.get("human"), None))
    attempt = _attempt("9b", "a tool that demands a human", nightly, EXPORT, Code.HUMAN_REQUIRED)
    yield await stage.call(attempt, nightly, EXPORT, await nightly.jwt_svid(stage.world.audience(TICKETS)))
    clerks = await stage.task("resolver", "clerk")
    attempt = _attempt("9c", "row 2 again, with its SVID alone", clerks, REFUND, Code.HUMAN_MISSING)
    yield await stage.call(attempt, clerks, REFUND, await clerks.jwt_svid(stage.world.audience(BILLING)))


async def _row_10(stage: Stage) -> AsyncIterator[Outcome]:
    if not stage.world.has_opa:
        return
    task = await stage.task("triage", "lead")
    bearer = await stage.token("triage", "lead", TICKETS)
    await stage.world.stop_opa()
    attempt = _attempt("10a", "OPA is stopped", task, READ, Code.POLICY_UNAVAILABLE)
    yield await stage.call(attempt, task, READ, bearer)
    nightly = await stage.task("nightly-report", "")
    svid = await nightly.jwt_svid(stage.world.audience(TICKETS))
    attempt = _attempt("10b", "OPA is stopped, another agent", nightly, READ, Code.POLICY_UNAVAILABLE)
    yield await stage.call(attempt, nightly, READ, svid)
    await stage.world.start_opa()
    attempt = _attempt("10c", "OPA is back", task, READ)
    yield await stage.call(attempt, task, READ, bearer)


def _attempt(row: str, what: str, task: AgentTask, call: Call, expect: str = Code.ALLOWED.value) -> Attempt:
    return Attempt(
        row, what, task.human or "-", task.agent, task.id, f"{call.service}/{call.tool}", str(expect)
    )


def _must(token: Token) -> str:
    """Return the token of an exchange that the scenario takes for granted."""
    if not token.value:
        raise ProcessError(f"the broker refused: {token.answer.reason} {token.answer.text}")
    return token.value


async def _token_that_expires(stage: Stage) -> str:
    """Get a token that lives as short as the sign-in behind it: three seconds."""
    task = await stage.task("triage", "lead")
    id_token = await stage.world.sign_in("lead", "short-lived")
    return _must(await task.exchange(stage.world.audience(TICKETS), id_token))


async def _until_expired(stage: Stage, attempt: Attempt, task: AgentTask, token: str) -> Outcome:
    """Call until the clock has run out; the rows before took most of the time."""
    deadline = asyncio.get_running_loop().time() + EXPIRY_WAIT
    while True:
        outcome = await stage.call(attempt, task, READ, token)
        # Not until it is refused: the SDK asks for more than the call, and the token may expire in between.
        if outcome.answer.reason or asyncio.get_running_loop().time() > deadline:
            return outcome
        await asyncio.sleep(0.5)


async def _delegate_too_deep(stage: Stage, task: AgentTask, token: str) -> tuple[AgentTask, Token]:
    """Delegate from triage to triage, two agents being in the chain already, until it is one too long."""
    audience = stage.world.audience(TICKETS)
    for number in ("third", "fourth"):
        following = await stage.task("triage", "lead", f" {number}")
        task, token = following, _must(await task.delegate(audience, token, following))
    last = await stage.task("triage", "lead", " fifth")
    return last, await task.delegate(audience, token, last)


def _upstream_problems(stage: Stage, task: AgentTask, answer: Answer) -> list[str | None]:
    """Compare what the tool server saw with what it must see."""
    seen = stage.world.upstream(answer.decision)
    if seen is None:
        return ["the tool server saw no transaction token of this decision"]
    token, context = seen["transaction"], seen["transaction"]["tctx"]
    return [
        expect_equal("the token's human", token["sub"], stage.world.human_uri("lead")),
        expect_equal("the token's agent", token["act"]["sub"].rpartition("/")[2], task.agent),
        expect_equal("the token's task", context["task"], task.id),
        expect_equal("the token's tool", context["tool"], READ.tool),
        expect_equal("the token's arguments", context["args_sha256"], arguments_sha256(READ.arguments)),
        "the tool server saw the caller's credential" if "authorization" in seen["headers"] else None,
    ]
