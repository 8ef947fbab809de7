"""NR-05: whatever is delegated to whom, authority only narrows along a chain."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from hypothesis import given, settings
from hypothesis import strategies as st

from authz.broker.arrival import Arrival
from authz.broker.task_endpoint import issue_jwt_svid, start_task
from authz.broker.token_endpoint import exchange_token
from authz.broker.token_request import ACCESS_TOKEN, GRANT_TYPE, ID_TOKEN, JWT
from identity.caller import KeyBinding, WorkloadBinding
from identity.delegation import DelegationToken
from identity.keys import SigningKey
from tests.broker_fakes import (
    BILLING,
    BROKER,
    RUNNER,
    TICKETS,
    World,
    broker_alone,
    csr_of,
    json_of,
)

SCOPES = ["tickets:read", "tickets:write", "tickets:destroy", "billing:read", "x"]


@dataclass(frozen=True)
class Step:
    """One delegation: from whom, to whom, and what is asked for."""

    actor: int
    seconds: int
    scopes: tuple[str, ...] | None
    audience: str
    binding: str
    allowed: tuple[str, ...]


# Mostly what can succeed: a chain that is refused at once shows nothing.
MOSTLY = [("tickets:read", "tickets:write", "billing:read"), ("tickets:read", "tickets:destroy")]
SOME = st.lists(st.sampled_from(SCOPES), min_size=1, unique=True).map(tuple)
STEPS = st.lists(
    st.builds(
        Step,
        actor=st.integers(1, 3),
        seconds=st.integers(0, 20),
        scopes=st.none() | st.sampled_from(MOSTLY) | SOME,
        audience=st.sampled_from([TICKETS] * 7 + [BILLING]),
        binding=st.sampled_from(["key", "workload"]),
        allowed=st.sampled_from(MOSTLY) | st.sampled_from(MOSTLY) | SOME,
    ),
    min_size=2,
    max_size=8,
)


@dataclass(frozen=True)
class Running:
    """A task, without a connection."""

    id: str
    der: bytes
    thumbprint: str


async def start(world: World, agent: str) -> Running:
    body = {
        "agent": agent,
        "csr": csr_of(SigningKey.generate().private_key),
        "subject_token": world.id_token(),
    }
    reply = await start_task(
        Arrival("POST", "test", (world.runner.der,), json_of(body), "application/json"), world.broker
    )
    assert reply.body is not None
    assert reply.status == 201
    chain = str(reply.body["certificate_chain"])
    der = ssl.PEM_cert_to_DER_cert(chain)
    task_id = str(reply.body["task"])
    return Running(task_id, der, str(world.tasks.tasks[task_id].thumbprint))


async def ask(world: World, task: Running, form: Mapping[str, str]) -> Mapping[str, Any]:
    form_type = "application/x-www-form-urlencoded"
    arrival = Arrival("POST", "test", (task.der,), urlencode(form).encode(), form_type)
    reply = await exchange_token(arrival, world.broker)
    assert reply.body is not None
    return reply.body


@settings(max_examples=40)
@given(STEPS)
def test_nr05_authority_only_narrows_along_a_chain(steps: list[Step]) -> None:
    """NR-05: random chains; `exp` never grows, `sub` and `txn` never change."""

    async def scenario() -> None:
        world = broker_alone()
        tasks = [await start(world, name) for name in ("triage", "triage", "resolver", "resolver")]
        own = {"grant_type": GRANT_TYPE, "audience": TICKETS, "subject_token_type": ID_TOKEN}
        first = await ask(world, tasks[0], {**own, "subject_token": world.id_token()})
        held, presenter = world.verified(first["access_token"]), tasks[0]
        text = first["access_token"]
        for step in steps:
            world.clock.forward(step.seconds)
            world.policy.scopes = step.allowed
            actor = tasks[step.actor]
            answer = await delegate(world, presenter, text, actor, step)
            if "access_token" not in answer:
                continue
            new = world.verified(answer["access_token"], step.audience)
            check_narrower(held, new, actor, step)
            held, presenter, text = new, actor, answer["access_token"]

    asyncio.run(scenario())


async def delegate(world: World, own: Running, token: str, actor: Running, step: Step) -> Mapping[str, Any]:
    arrival = Arrival("POST", "test", (actor.der,), json_of({"audience": BROKER}), "application/json")
    svid = await issue_jwt_svid(actor.id, arrival, world.broker)
    assert svid.body is not None
    form = {
        "grant_type": GRANT_TYPE,
        "audience": step.audience,
        "subject_token": token,
        "subject_token_type": ACCESS_TOKEN,
        "actor_token": str(svid.body.get("jwt_svid", "gone")),
        "actor_token_type": JWT,
        "binding": step.binding,
    }
    if step.scopes is not None:
        form["scope"] = " ".join(step.scopes)
    return await ask(world, own, form)


def check_narrower(held: DelegationToken, new: DelegationToken, actor: Running, step: Step) -> None:
    assert new.scopes <= held.scopes
    assert new.scopes <= set(step.allowed)
    assert step.scopes is None or new.scopes <= set(step.scopes)
    assert new.expires_at <= held.expires_at
    assert (new.human, new.txn) == (held.human, held.txn)
    assert new.chain[1:] == held.chain
    assert new.chain[0].task == actor.id
    assert len(new.chain) <= 4
    wanted = KeyBinding(actor.thumbprint) if step.binding == "key" else WorkloadBinding(RUNNER)
    assert new.binding == wanted
