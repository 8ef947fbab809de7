"""A server that is not ours, examined by the checklist: a real Keycloak with its standard token exchange."""

import asyncio
import ssl
import time
from pathlib import Path

import pytest

from authz.conformance.checklist import CHECKLIST
from authz.conformance.client import HttpServer
from authz.conformance.login import SecretLogin
from authz.conformance.report import Report
from authz.conformance.run import Plan, run
from authz.conformance.situation import ACCESS_TOKEN, Inputs, Presented, Profile
from tests.e2e.keycloak_world import Keycloak, running_keycloak

pytestmark = [pytest.mark.full, pytest.mark.e2e, pytest.mark.timeout(900)]

CLIENTS = ("requester", "other")
TRICKS = {
    "JW-01/alg-none",
    "JW-01/hs256-public-key",
    "JW-01/foreign-key",
    "JW-02/embedded-key",
    "JW-02/kid-path",
    "JW-03/crit",
    "TX-06/forged",
    "TX-09/found-token",
    "TX-12/override",
    "CL-01/signature",
    "DM-01/keys",
    "CA-05/bound",
    "CA-05/uri",
    "CA-05/key",
    "CA-05/replayed",
    "JW-09/at-once",
    "CA-07/introspect-unknown",
}


def examine(keycloak: Keycloak) -> Report:
    for name in CLIENTS:
        keycloak._admin("POST", "/admin/realms/people/clients", _client(name, keycloak.secret))
    endpoint = f"{keycloak.issuer}/protocol/openid-connect/token"
    own, other = (SecretLogin(name, keycloak.secret) for name in CLIENTS)
    form = {"grant_type": "password", "username": "lead", "password": keycloak.password, "scope": "openid"}
    signed_in = keycloak.http.post(
        endpoint, data={**form, "client_id": own.client_id, "client_secret": own.secret}
    )
    inputs = Inputs(
        token_endpoint=endpoint,
        login=own,
        subject=Presented(signed_in.raise_for_status().json()["access_token"], ACCESS_TOKEN),
        scope="openid",
        wider_scope="phone",
        issuer=keycloak.issuer,
        other_login=other,
    )
    metadata = f"{keycloak.issuer}/.well-known/openid-configuration"
    plan = Plan(inputs, Profile.RFC8693, CHECKLIST, metadata)
    server = HttpServer({None: ssl.create_default_context()}, timeout_seconds=30)
    return asyncio.run(run(plan, server, time.time, lambda *_: None))


def _client(name: str, secret: str) -> dict[str, object]:
    return {
        "clientId": name,
        "secret": secret,
        "publicClient": False,
        "directAccessGrantsEnabled": True,
        "attributes": {"standard.token.exchange.enabled": "true"},
    }


def test_a_server_that_is_not_ours_is_examined_to_the_end(tmp_path: Path) -> None:
    with running_keycloak(tmp_path) as keycloak:
        report = examine(keycloak)

    got = {result.case.id: result.status for result in report.results}
    assert report.problem is None
    assert len(got) == len(CHECKLIST)
    assert {case for case in TRICKS if got[case] != "pass"} == set()
    # What Keycloak does of its own accord (26.7): findings of the runner, which must not get lost.
    assert got["NR-05/regained"] == got["JW-05/base64"] == got["TX-06/bad-actor"] == "fail"
    assert got["TX-07/impersonation"] == "warning"
