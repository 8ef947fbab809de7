"""The scenario: rows of things that agents do for people, rightly and wrongly.

- Each step really happens: tokens come from the broker, calls go through Envoy, records come from the log.
- A step says what it tries and what must come of it; nothing else is decided here.
"""

import asyncio
from collections.abc import AsyncIterator

from authz.codes import Code
from authz.demo.agents import AgentTask, Answer, Token, tampered
from authz.demo.outcome import ENVOY_ITSELF, Attempt, Outcome, expect_equal
from authz.demo.scenario_rights import row_10, row_11, row_12, row_13
from authz.demo.stage import (
    BILLING,
    BILLING_TOKEN,
    CLOSE,
    DELETE,
    EXPORT,
    NOT_GRANTED,
    READ,
    REFUND,
    TICKETS,
    TICKETS_TOKEN,
    Call,
    Stage,
    World,
    attempt_at,
    must,
)
from identity.canonical import arguments_sha256

TWO_MIB = 2 << 20
EXPIRY_WAIT = 8.0


async def run(world: World) -> AsyncIterator[Outcome]:
    """Run all rows in order."""
    stage = Stage(world)
    expiring = await _token_that_expires(stage)
    for step in (_row_1, _row_2, _row_3, _row_4, _row_5, _row_6):
        async for outcome in step(stage):
            yield outcome
    async for outcome in _row_7(stage, expiring):
        yield outcome
    for step in (_row_8, _row_9, row_10, row_11, row_12, row_13):
        async for outcome in step(stage):
            yield outcome


async def _row_1(stage: Stage) -> AsyncIterator[Outcome]:
    task = await stage.task("triage", "lead")
    attempt = attempt_at("1", "an agent reads for a person", task, READ)
    bearer = await stage.token("triage", "lead", TICKETS)
    answer = await task.call(READ.service, READ.tool, READ.arguments, bearer, mode="auto")
    answered = expect_equal("the tool's answer", answer.text, "printer on fire")
    yield stage.judged(attempt, answer, answered, *_upstream_problems(stage, task, answer))


async def _row_2(stage: Stage) -> AsyncIterator[Outcome]:
    """The broker asks the same policy, so a clerk's token for billing exists only while clerks may use it."""
    world, task = stage.world, await stage.task("resolver", "clerk")
    attempt = attempt_at("2a", "the human may not, though the agent may", task, BILLING_TOKEN, NOT_GRANTED)
    refused = await task.exchange(world.audience(BILLING), await world.sign_in("clerk"))
    yield stage.judged(attempt, refused.answer)
    await world.lend_billing_to_clerks(lent=True)
    bearer = must(await task.exchange(world.audience(BILLING), await world.sign_in("clerk")))
    attempt = attempt_at("2b", "clerks are lent billing: the same call", task, REFUND)
    yield await stage.call(attempt, task, REFUND, bearer)
    await world.lend_billing_to_clerks(lent=False)
    attempt = attempt_at("2c", "taken back: the same call, the same token", task, REFUND, NOT_GRANTED)
    yield await stage.call(attempt, task, REFUND, bearer)


async def _row_3(stage: Stage) -> AsyncIterator[Outcome]:
    task = await stage.task("triage", "lead")
    attempt = attempt_at("3", "the agent may not, though the human may", task, CLOSE, Code.AGENT_TIER)
    yield await stage.call(attempt, task, CLOSE, await stage.token("triage", "lead", TICKETS))


async def _row_4(stage: Stage) -> AsyncIterator[Outcome]:
    task = await stage.task("resolver", "lead")
    attempt = attempt_at("4", "a destructive tool", task, DELETE, Code.APPROVAL_REQUIRED)
    yield await stage.call(attempt, task, DELETE, await stage.token("resolver", "lead", BILLING))


async def _row_5(stage: Stage) -> AsyncIterator[Outcome]:
    resolver, helper = await stage.task("resolver", "lead"), await stage.task("triage", "lead", " helper")
    audience = stage.world.audience(TICKETS)
    own = await stage.token("resolver", "lead", TICKETS)
    handed = must(await resolver.delegate(audience, own, helper))
    attempt = attempt_at("5a", "resolver delegates to triage, which reads", helper, READ)
    answer = await helper.call(READ.service, READ.tool, READ.arguments, handed)
    chain = [hop["agent"] for hop in (stage.world.record(answer.decision) or {}).get("chain", [])]
    yield stage.judged(attempt, answer, expect_equal("the record's chain", chain, ["triage", "resolver"]))

    triage, closer = await stage.task("triage", "lead"), await stage.task("resolver", "lead", " closer")
    handed_up = must(await triage.delegate(audience, await stage.token("triage", "lead", TICKETS), closer))
    attempt = attempt_at(
        "5b", "triage delegates to resolver, which closes", closer, CLOSE, Code.CHAIN_NARROWED
    )
    yield await stage.call(attempt, closer, CLOSE, handed_up)

    last, refused = await _delegate_too_deep(stage, helper, handed)
    attempt = attempt_at(
        "5c", "a chain of five where four is the limit", last, TICKETS_TOKEN, Code.CHAIN_DEPTH
    )
    yield stage.judged(attempt, refused.answer)


async def _row_6(stage: Stage) -> AsyncIterator[Outcome]:
    stolen = await stage.token("triage", "lead", TICKETS)
    owner = await stage.task("triage", "lead")
    web = AgentTask("(shop web)", "", "-", stage.world.stranger.identity, owner.places, stage.world.stranger)
    attempt = attempt_at("6a", "a stolen token, from another workload", web, READ, Code.NOT_BOUND)
    yield await stage.call(attempt, web, READ, stolen)
    other = await stage.task("triage", "lead", " helper")
    attempt = attempt_at("6b", "a stolen token, from another task", other, READ, Code.NOT_BOUND)
    yield await stage.call(attempt, other, READ, stolen)


async def _row_7(stage: Stage, expiring: str) -> AsyncIterator[Outcome]:
    triage, resolver = await stage.task("triage", "lead"), await stage.task("resolver", "lead")
    attempt = attempt_at("7a", "an expired token", triage, READ, Code.TOKEN_EXPIRED)
    yield await _until_expired(stage, attempt, triage, expiring)
    billing = await stage.token("resolver", "lead", BILLING)
    attempt = attempt_at("7b", "a token for another audience", resolver, READ, Code.TOKEN_AUDIENCE)
    yield await stage.call(attempt, resolver, READ, billing)
    bad = tampered(await stage.token("triage", "lead", TICKETS))
    attempt = attempt_at("7c", "a tampered token", triage, READ, Code.TOKEN_SIGNATURE)
    yield await stage.call(attempt, triage, READ, bad)
    svid = await triage.jwt_svid(stage.world.audience(TICKETS))
    attempt = attempt_at("7d", "an SVID as a delegation token", triage, READ, Code.HUMAN_MISSING)
    yield await stage.call(attempt, triage, READ, svid)


async def _row_8(stage: Stage) -> AsyncIterator[Outcome]:
    task = await stage.task("triage", "lead")
    bearer = await stage.token("triage", "lead", TICKETS)
    hidden = CLOSE.rpc(2)
    batch = f"[{READ.rpc(1)},{hidden}]"
    attempt = attempt_at("8a", "a batch that hides a call", task, CLOSE, Code.MCP_BATCH)
    yield stage.judged(attempt, await task.post(TICKETS, batch.encode(), bearer))
    twice = hidden.replace('"name": "close_ticket"', '"name": "read_ticket", "name": "close_ticket"')
    attempt = attempt_at("8b", "a key that stands twice", task, CLOSE, Code.JSON_DUPLICATE_KEY)
    yield stage.judged(attempt, await task.post(TICKETS, twice.encode(), bearer))
    large = Call(TICKETS, READ.tool, {"ticket": "x" * TWO_MIB}).rpc(3)
    attempt = attempt_at("8c", "a body of 2 MiB", task, READ, ENVOY_ITSELF)
    yield stage.judged(attempt, await task.post(TICKETS, large.encode(), bearer))


async def _row_9(stage: Stage) -> AsyncIterator[Outcome]:
    nightly = await stage.task("nightly-report", "")
    svid = await nightly.jwt_svid(stage.world.audience(TICKETS))
    attempt = attempt_at("9a", "an autonomous agent reads, for nobody", nightly, READ)
    answer = await nightly.call(READ.service, READ.tool, READ.arguments, svid)
    record = stage.world.record(answer.decision) or {}
    says = expect_equal("the record's autonomous", record.get("autonomous"), wanted=True)
    yield stage.judged(attempt, answer, says, expect_equal("the record's human", record.get("human"), None))
    attempt = attempt_at("9b", "a tool that demands a human", nightly, EXPORT, Code.HUMAN_REQUIRED)
    yield await stage.call(attempt, nightly, EXPORT, await nightly.jwt_svid(stage.world.audience(TICKETS)))
    clerks = await stage.task("resolver", "clerk")
    attempt = attempt_at("9c", "row 2 again, with its SVID alone", clerks, REFUND, Code.HUMAN_MISSING)
    yield await stage.call(attempt, clerks, REFUND, await clerks.jwt_svid(stage.world.audience(BILLING)))


async def _token_that_expires(stage: Stage) -> str:
    """Get a token that lives as short as the sign-in behind it: three seconds."""
    task = await stage.task("triage", "lead")
    id_token = await stage.world.sign_in("lead", "short-lived")
    return must(await task.exchange(stage.world.audience(TICKETS), id_token))


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
        task, token = following, must(await task.delegate(audience, token, following))
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
