"""Our own broker, examined by the checklist as a stranger would: no finding, on the first hop and beyond."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import pytest

from authz.broker.deps import AssertionTarget
from authz.broker.token_request import ACCESS_TOKEN, ID_TOKEN, JWT
from authz.commands.conformance_tls import forgeries
from authz.conformance.checklist import CHECKLIST
from authz.conformance.client import HttpServer
from authz.conformance.login import JWT_SPIFFE, AssertionLogin, CertificateLogin
from authz.conformance.message import Answer, Request
from authz.conformance.report import Report
from authz.conformance.run import Plan
from authz.conformance.run import run as run_checklist
from authz.conformance.signer import Signer
from authz.conformance.situation import Inputs, Presented, Profile
from authz.conformance.token import json_text
from authz.dpop import spend
from authz.errors import AuthenticationError
from identity.caller import DpopBinding
from identity.dpop import DpopProof
from identity.dpop_nonce import DpopNonces
from identity.errors import DpopError, TokenError
from identity.http_uri import HttpUri
from tests.broker_fakes import (
    BILLING,
    BROKER,
    ISSUER,
    MESH,
    SETTINGS,
    TICKETS,
    TICKETS_SERVER,
    Started,
    World,
    consent,
    id_token_with,
    run,
)
from tests.conformance_skips import (
    BY_ASSERTION,
    BY_CERTIFICATE,
    FIRST_HOP,
    NOT_OURS,
    OF_THE_ACTOR,
    ONCE,
    TRANSACTIONS,
)
from tests.fakes import World as Called

PARTNER = "https://as.partner.example"
PARTNERED = replace(
    SETTINGS, assertion_targets={PARTNER: AssertionTarget(PARTNER, "tickets", {"triage": "partner-triage"})}
)
DETAIL = {"type": "mcp_tool_call", "locations": [TICKETS], "actions": ["tools/call"], "tool": "close"}
CALL = {"service": "tickets", "action": "tools/call", "tool": "close", "arguments": {"ticket": "T-1"}}
METADATA = f"{BROKER}/.well-known/oauth-authorization-server"


@dataclass
class Behind:
    """The broker, where its name leads to the port that it has in this test."""

    world: World
    server: HttpServer

    async def send(self, url: str, request: Request) -> Answer:
        if request.endpoint == "resource":
            return await asyncio.to_thread(call, self.world, dict(request.headers))
        host = urlsplit(url).netloc
        if request.endpoint == "resource_metadata":
            request = replace(request, headers=(*request.headers, ("Host", host)))
        return await self.server.send(url.replace(f"https://{host}", self.world.base), request)

    async def get(self, url: str) -> Answer:
        return await self.server.get(url.replace(BROKER, self.world.base))


def call(world: World, headers: Mapping[str, str]) -> Answer:
    """A service behind our rules of possession, with the challenge that `Check` lets Envoy answer."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    try:
        binding = world.verified(token).binding
        assert isinstance(binding, DpopBinding)
        proof = DpopProof.verify(
            headers["DPoP"],
            method="GET",
            targets=(HttpUri.parse(TICKETS),),
            now=world.clock.now,
            access_token=token,
        )
        proof.require_key(binding.jkt)
        spend(proof, world.broker.replay, presenter="agent", now=world.clock.now)
        if scheme == "DPoP":
            return Answer.of(200, {}, b"{}")
    except (KeyError, DpopError, TokenError, AuthenticationError):
        pass
    called = Called()
    denied = called.check(called.request(None, called.run("triage"))).denied_response
    headers = {each.header.key: each.header.value for each in denied.headers}
    return Answer.of(denied.status.code, headers, denied.body.encode())


async def examine(world: World, own: Started, other: Started, **fields: Any) -> Report:
    object.__setattr__(world.broker, "nonces", DpopNonces(b"k" * 32, "token"))
    tasks = (("own", own), ("other", other))
    logins = {name: CertificateLogin(name, task.identity.thumbprint) for name, task in tasks}  # type: ignore[arg-type]  # names of certificates
    now = int(world.clock.now.timestamp())
    plain: dict[str, Any] = {
        "token_endpoint": f"{BROKER}/token",
        "login": logins["own"],
        "other_login": logins["other"],
        "targets": (("audience", TICKETS),),
        "scope": "tickets:read tickets:write",
        "wider_scope": "tickets:admin",
        "issuer": BROKER,
        "details": (DETAIL,),
        "id_jag_audience": PARTNER,
        "txn_audience": MESH.name,
        "request_details": json_text(CALL),
        "service_login": CertificateLogin("service", "-"),
        "protected_resource": TICKETS,
        "login_hint": "lead",
    }
    inputs = Inputs(**{**plain, **fields})
    tls: dict[Any, ssl.SSLContext] = {name: task.identity.tls for name, task in tasks}
    tls |= {None: _anonymous(world), "service": world.workload(TICKETS_SERVER).tls, **_forged(world, own)}
    plan = Plan(inputs, Profile.DEPUTY, CHECKLIST, METADATA)
    return await run_checklist(plan, Behind(world, HttpServer(tls)), lambda: now, lambda *_: None)


def _anonymous(world: World) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=world.roots)


def _forged(world: World, own: Started) -> dict[Any, ssl.SSLContext]:
    found = {}
    with TemporaryDirectory() as directory:
        cert, key = Path(directory, "cert.pem"), Path(directory, "key.pem")
        cert.write_text(own.answer["certificate_chain"])
        key.write_bytes(own.identity.key.reveal_pem())
        for name, pem in forgeries(cert, key).items():
            file = Path(directory, f"{name}.pem")
            file.write_bytes(pem)
            found[name] = _anonymous(world)
            found[name].load_cert_chain(file)
    return found


def signer_of(world: World) -> Signer:
    """The key of the people's provider."""
    return Signer.parse_pem(world.provider.key.private.as_pem(private=True))


def check(report: Report, not_seen: set[str]) -> None:
    """No finding; and nothing is skipped but what cannot be seen from this side."""
    found = {result.case.id: result.got for result in report.results if result.status in {"fail", "warning"}}
    assert found == {}
    assert report.problem is None
    assert {result.case.id for result in report.results if result.status == "skip"} == not_seen


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
            subject_signer=signer_of(world),
        )
        check(report, FIRST_HOP | BY_ASSERTION | NOT_OURS)

    run(act, settings=PARTNERED)


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
            subject_signer=Signer(world.broker.authority.token_key.private_key, "ES256"),
        )
        inputs = {"TX-10/no-grant", "CL-07/expired-subject"}
        check(report, inputs | OF_THE_ACTOR | BY_ASSERTION | NOT_OURS)

    run(act, settings=PARTNERED)


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
            # Whoever shows no key of the task gets no transaction token.
            txn_audience=None,
            subject=Presented(world.id_token(), ID_TOKEN),
            ungranted_subject=Presented(world.id_token("clerk"), ID_TOKEN),
            subject_jwks=world.provider.jwks(),
            subject_signer=signer_of(world),
        )
        inputs = {"TX-11/bound-to-another", "CL-07/expired-subject"}
        check(report, FIRST_HOP | {"CL-08/bound"} | inputs | BY_CERTIFICATE | ONCE | TRANSACTIONS | NOT_OURS)

    run(act, settings=PARTNERED)
