"""Our own broker, examined by the checklist as a stranger would: no finding, on the first hop and beyond."""

import ssl
from dataclasses import dataclass
from typing import Any

import pytest

from authz.broker.token_request import ACCESS_TOKEN, ID_TOKEN, JWT
from authz.conformance.checklist import CHECKLIST
from authz.conformance.client import HttpServer
from authz.conformance.login import JWT_SPIFFE, AssertionLogin, CertificateLogin
from authz.conformance.message import Answer, Request
from authz.conformance.report import Report
from authz.conformance.run import Plan
from authz.conformance.run import run as run_checklist
from authz.conformance.situation import Inputs, Presented, Profile
from tests.broker_fakes import BILLING, BROKER, ISSUER, TICKETS, Started, World, consent, id_token_with, run

METADATA = f"{BROKER}/.well-known/oauth-authorization-server"


@dataclass
class Behind:
    """The broker, where its name leads to the port that it has in this test."""

    world: World
    server: HttpServer

    async def send(self, url: str, request: Request) -> Answer:
        return await self.server.send(url.replace(BROKER, self.world.base), request)

    async def get(self, url: str) -> Answer:
        return await self.server.get(url.replace(BROKER, self.world.base))


async def examine(world: World, own: Started, other: Started, **fields: Any) -> Report:
    tasks = (("own", own), ("other", other))
    logins = {name: CertificateLogin(name, task.identity.thumbprint) for name, task in tasks}  # type: ignore[arg-type]  # names of certificates
    now = int(world.clock.now.timestamp())
    plain: dict[str, Any] = {
        "token_endpoint": f"{BROKER}/token",
        "login": logins["own"],
        "other_login": logins["other"],
        "targets": (("audience", TICKETS),),
        "scope": "tickets:read",
        "wider_scope": "tickets:admin",
        "issuer": BROKER,
    }
    inputs = Inputs(**{**plain, **fields})
    tls: dict[Any, ssl.SSLContext] = {name: task.identity.tls for name, task in tasks}
    tls |= {None: _anonymous(world), "stranger": _anonymous(world)}
    plan = Plan(inputs, Profile.DEPUTY, CHECKLIST, METADATA)
    return await run_checklist(plan, Behind(world, HttpServer(tls)), lambda: now, lambda *_: None)


def _anonymous(world: World) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=world.roots)


def check(report: Report, not_seen: set[str]) -> None:
    """No finding; and nothing is skipped but what cannot be seen from this side."""
    found = {result.case.id: result.got for result in report.results if result.status in {"fail", "warning"}}
    assert found == {}
    assert report.problem is None
    assert {result.case.id for result in report.results if result.status == "skip"} == not_seen


# A person's ID token is of another issuer, is bound to nobody, and holds neither scopes nor actors.
FIRST_HOP = {
    "TX-08/subject-act",
    "TX-11/never-unbound",
    "CL-06/txn-kept",
    "ID-01/sub-kept",
    "ID-04/not-truncated",
    "ID-05/unchanged",
    "NR-02/scope-omitted",
}
BY_ASSERTION = {"CA-01/forged", "CA-01/untyped", "CA-01/wrong-audience"}
# The broker takes no secrets.
BASIC = {"CA-04/challenge"}


@pytest.mark.e2e
def test_the_broker_keeps_the_checklist_for_a_person_who_signed_in() -> None:
    async def act(world: World) -> None:
        # Who may act for another person only, and has a token of his own.
        own, other = await world.start("triage"), await world.start("resolver", person="clerk")
        world.tasks.consents.append(consent("resolver", human=f"{ISSUER}#clerk"))
        second = await world.exchange(other, world.id_token("clerk"))
        now = int(world.clock.now.timestamp())
        expired = id_token_with(world.provider, iat=now - 7200, exp=now - 3600)
        report = await examine(
            world,
            own,
            other,
            subject=Presented(world.id_token(), ID_TOKEN),
            ungranted_subject=Presented(world.id_token("clerk"), ID_TOKEN),
            expired_subject=Presented(expired, ID_TOKEN),
            second_subject=Presented(second.json()["access_token"], ACCESS_TOKEN),
            subject_jwks=world.provider.jwks(),
        )
        check(report, FIRST_HOP | BY_ASSERTION | BASIC)

    run(act)


@pytest.mark.e2e
def test_the_broker_keeps_the_checklist_for_an_agent_that_delegates() -> None:
    async def act(world: World) -> None:
        own, actor = await world.start("triage"), await world.start("resolver")
        other = await world.start("resolver")
        report = await examine(
            world,
            own,
            other,
            subject=Presented(await world.token(own), ACCESS_TOKEN),
            actor=Presented(await world.jwt_svid(actor), JWT),
            second_subject=Presented(await world.token(other), ACCESS_TOKEN),
        )
        inputs = {"TX-10/no-grant", "CL-07/expired-subject"}
        # The token is for the actor, about whom the client need not be told.
        of_the_actor = {"TX-07/impersonation", "CL-08/bound", "CA-07/introspect", "CA-07/revoke"}
        check(report, inputs | of_the_actor | BY_ASSERTION | BASIC)

    run(act)


@pytest.mark.e2e
def test_the_broker_keeps_the_checklist_for_an_agent_that_logs_in_with_a_jwt_svid() -> None:
    async def act(world: World) -> None:
        own, other = await world.start("triage"), await world.start("resolver", person="clerk")
        elsewhere = await world.jwt_svid(own, BILLING)
        report = await examine(
            world,
            own,
            other,
            login=AssertionLogin(await world.jwt_svid(own), JWT_SPIFFE),
            other_audience=AssertionLogin(elsewhere, JWT_SPIFFE),
            subject=Presented(world.id_token(), ID_TOKEN),
            ungranted_subject=Presented(world.id_token("clerk"), ID_TOKEN),
            subject_jwks=world.provider.jwks(),
        )
        inputs = {"TX-11/bound-to-another", "CL-07/expired-subject"}
        check(report, FIRST_HOP | {"CL-08/bound"} | inputs | BASIC)

    run(act)
