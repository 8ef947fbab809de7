"""The people, workloads and agent of the tests of administration, and the policy that is asked."""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from authz.admin import Action, Actor, AdminRequest, Permit, admin_query, decide_admin
from authz.decision import Deny
from authz.policy.embedded import EmbeddedPolicy
from authz.policy.grants import Grants
from authz.policy.modules import shipped_modules
from authz.policy.schema import problems
from identity.caller import Agent, Human, OidcClient
from identity.spiffe import SpiffeId

ISSUER = "https://idp.example"
GRANTS = b"""
version: 1
tiers:
  observer: {allow: [read]}
  helper: {allow: [read], approve: [write]}
  contributor: {allow: [read, write]}
  cleaner: {allow: [destroy]}
services: {tickets: {tools: {read_ticket: {class: read}}}}
agents: {triage: {tier: observer, services: [tickets]}}
admin:
  operators:
    people: ["https://idp.example#olga", "https://idp.example#omar"]
    groups: [platform]
    workloads: ["spiffe://mesh.example/ns/ci/sa/deploy"]
  auditors: {people: ["https://idp.example#ada"], groups: [audit]}
  transmitters: {workloads: ["spiffe://mesh.example/ns/idp/sa/signals"]}
"""
EXPIRY = datetime(2027, 6, 1, tzinfo=UTC)
RUNNER = SpiffeId.parse("spiffe://mesh.example/ns/agents/sa/runner")
OTHER_HOST = SpiffeId.parse("spiffe://mesh.example/ns/agents/sa/other")
CLIENT, OTHER_CLIENT = OidcClient(ISSUER, "desk"), OidcClient(ISSUER, "other")


def uri(name: str) -> str:
    return f"{ISSUER}#{name}"


def person(name: str, *groups: str) -> Actor:
    return Actor.of_human(Human.parse(ISSUER, name, groups))


def workload(path: str) -> Actor:
    return Actor.of_workload(SpiffeId.parse(f"spiffe://mesh.example/{path}"))


AGENT = Agent(
    name="triage",
    owner=uri("oona"),
    sponsor=uri("sid"),
    purpose="reads tickets",
    ceiling="helper",
    autonomous=False,
    hosts=frozenset({RUNNER}),
    max_depth=4,
    expires_at=EXPIRY,
    sandbox="gvisor",
    clients=frozenset({CLIENT}),
)


@cache
def policy() -> EmbeddedPolicy:
    return EmbeddedPolicy(shipped_modules(), Grants.parse(GRANTS))


@dataclass(frozen=True, slots=True)
class Asked:
    """One question with its answer."""

    answer: Permit | Deny

    @property
    def allowed(self) -> bool:
        return bool(self.answer)

    @property
    def rule(self) -> str:
        return self.answer.rule if isinstance(self.answer, Deny) else ""


def ask(actor: Actor, action: Action, **target: Any) -> Asked:
    request = AdminRequest(action, **target)
    assert problems("admin", admin_query(actor, request)) == ()
    return Asked(asyncio.run(decide_admin(policy(), actor, request)))


def change(actor: Actor, agent: Agent = AGENT, **parts: Any) -> Asked:
    return ask(actor, "agents/change", agent=agent, proposed=replace(agent, **parts))
