"""The scenario's rows about rights that are given and taken back while everything runs.

- A person lets an agent act, within limits, and ends it; the operator stops an agent and releases it.
- What is taken back counts at the very next call, with the very same token.
"""

from collections.abc import AsyncIterator
from typing import Final

from authz.codes import Code
from authz.demo.outcome import Outcome
from authz.demo.people import GrantRequest
from authz.demo.proof import ProofKey
from authz.demo.stage import EXPORT, READ, TICKETS, TICKETS_TOKEN, Stage, attempt_at, must

READING: Final = GrantRequest("triage", ("tickets:read",), tools=(f"{TICKETS}/{READ.tool}",))


async def row_10(stage: Stage) -> AsyncIterator[Outcome]:
    """A grant of a person: there is none, there is one for a single tool, there is none any more."""
    world, task = stage.world, await stage.task("triage", "clerk")
    attempt = attempt_at(
        "10a", "the human never let this agent act", task, TICKETS_TOKEN, Code.CONSENT_MISSING
    )
    refused = await task.exchange(world.audience(TICKETS), await world.sign_in("clerk"))
    yield stage.judged(attempt, refused.answer)
    grant = await world.let("clerk", READING)
    bearer = must(await task.exchange(world.audience(TICKETS), await world.sign_in("clerk")))
    attempt = attempt_at("10b", "the human grants it one tool", task, READ)
    yield await stage.call(attempt, task, READ, bearer)
    attempt = attempt_at("10c", "another tool of the same class", task, EXPORT, Code.DETAILS)
    yield await stage.call(attempt, task, EXPORT, bearer)
    await world.revoke("clerk", grant)
    attempt = attempt_at("10d", "revoked: the same call, the same token", task, READ, Code.REVOKED)
    yield await stage.call(attempt, task, READ, bearer)


async def row_11(stage: Stage) -> AsyncIterator[Outcome]:
    """The kill switch."""
    task, bearer = await stage.task("triage", "lead"), await stage.token("triage", "lead", TICKETS)
    await stage.world.contain("triage")
    attempt = attempt_at("11a", "the operator contains the agent", task, READ, Code.CONTAINED)
    yield await stage.call(attempt, task, READ, bearer)
    await stage.world.release("triage")
    attempt = attempt_at("11b", "released: the same call, the same token", task, READ)
    yield await stage.call(attempt, task, READ, bearer)


async def row_12(stage: Stage) -> AsyncIterator[Outcome]:
    """A token that is bound to a key of the agent's own (DPoP)."""
    world, task, key = stage.world, await stage.task("triage", "lead"), ProofKey()
    token = must(await task.exchange(world.audience(TICKETS), await world.sign_in("lead"), key=key))
    attempt = attempt_at("12a", "a token bound to a key, with its proof", task, READ)
    yield stage.judged(attempt, await task.call(READ.service, READ.tool, READ.arguments, token, key=key))
    attempt = attempt_at("12b", "the same token without a proof", task, READ, Code.DPOP_MISSING)
    yield await stage.call(attempt, task, READ, token)


async def row_13(stage: Stage) -> AsyncIterator[Outcome]:
    """A real OPA, where one decides."""
    if not stage.world.has_opa:
        return
    task = await stage.task("triage", "lead")
    bearer = await stage.token("triage", "lead", TICKETS)
    await stage.world.stop_opa()
    attempt = attempt_at("13a", "OPA is stopped", task, READ, Code.POLICY_UNAVAILABLE)
    yield await stage.call(attempt, task, READ, bearer)
    nightly = await stage.task("nightly-report", "")
    svid = await nightly.jwt_svid(stage.world.audience(TICKETS))
    attempt = attempt_at("13b", "OPA is stopped, another agent", nightly, READ, Code.POLICY_UNAVAILABLE)
    yield await stage.call(attempt, nightly, READ, svid)
    await stage.world.start_opa()
    attempt = attempt_at("13c", "OPA is back", task, READ)
    yield await stage.call(attempt, task, READ, bearer)
