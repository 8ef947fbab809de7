"""A gateway without ext_authz asks a whole `deputy serve` over AuthZEN: the decisions are those of `Check`.

- Both doors are asked the same thing by the same gateway, over mTLS with its identity from its socket.
- What an allow holds is read as its tool server would: by the published keys, with another library.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives import serialization
from joserfc import jwt
from joserfc.jwk import KeySet

from authz.codes import Code
from authz.demo.agents import tampered
from authz.outside import TRANSACTION_HEADER
from authz.pb import ext_authz_pb2 as pb
from tests.e2e.callers import Caller
from tests.e2e.peopled import Task, World, audience, call_of, peopled, provider, world
from tests.fakes import reason

pytestmark = pytest.mark.e2e
WELL_KNOWN = "/.well-known/authzen-configuration"
BILLING = ("billing:read", "billing:write")


def pem(caller: Caller) -> str:
    return caller.svid.leaf.public_bytes(serialization.Encoding.PEM).decode()


@dataclass(frozen=True)
class Asked:
    """One call that a gateway wants to know about."""

    token: str
    human: str
    presenter: Caller
    tool: str = "read_ticket"
    arguments: Any = None
    service: str = "tickets"
    method: str = "tools/call"

    def evaluation(self) -> dict[str, Any]:
        is_call = self.method == "tools/call"
        resource = {"type": "tool", "id": self.tool} if is_call else {"type": "mcp_server", "id": "any"}
        context = {"token": self.token, "peer": self.presenter.id, "peer_certificate": pem(self.presenter)}
        return {
            "subject": {"type": "user", "id": self.human},
            "action": {"name": self.method},
            "resource": {**resource, "properties": {"service": self.service}},
            "context": context if self.arguments is None else {**context, "arguments": self.arguments},
        }

    def check(self) -> bytes:
        """What an Envoy asks about the same call."""
        params = {"name": self.tool} if self.method == "tools/call" else {}
        params |= {} if self.arguments is None else {"arguments": self.arguments}
        message = {"jsonrpc": "2.0", "id": 1, "method": self.method, "params": params}
        return call_of(self.token, self.presenter, message, self.service)


class Gateway:
    """Asks at both doors."""

    def __init__(self, made: World) -> None:
        self.world = made
        self.caller = made.workload("gateway")
        self.http = made.stack.enter_context(self.caller.http(made.service.name))
        self.metadata = self.http.get(f"{made.base}{WELL_KNOWN}").raise_for_status().json()

    def check(self, asked: Asked) -> pb.CheckResponse:
        return self.world.check(asked.check())

    def post(self, body: object, **headers: str) -> httpx2.Response:
        return self.http.post(self.metadata["access_evaluation_endpoint"], json=body, headers=headers)

    def evaluate(self, asked: Asked) -> dict[str, Any]:
        answer: dict[str, Any] = self.post(asked.evaluation()).raise_for_status().json()
        return answer

    def agreed(self, asked: Asked) -> str:
        """Ask at both doors; return the reason, empty for an allow."""
        here, there = self.evaluate(asked), self.check(asked)
        said = here["context"].get("reason", {}).get("code", "")
        assert (said, here["decision"]) == (reason(there), there.status.code == 0)
        return str(said)


@dataclass
class Cast:
    world: World
    gateway: Gateway
    triage: Task
    resolver: Task
    asked: Asked

    @property
    def human(self) -> str:
        return self.asked.human


@pytest.fixture(scope="module")
def cast() -> Iterator[Cast]:
    with provider() as people, world(peopled("mesh.example", people), people) as made:
        made.grant("triage")
        made.grant("resolver", scopes=("tickets:read", "tickets:write", *BILLING))
        triage, resolver = made.task("triage"), made.task("resolver")
        human = people.human("lead").uri
        asked = Asked(triage.token(), human, triage.caller, arguments={"ticket": "T-1"})
        yield Cast(made, Gateway(made), triage, resolver, asked)


def test_both_doors_decide_the_same(cast: Cast) -> None:
    asked, world = cast.asked, cast.world
    billing = replace(
        asked,
        token=cast.resolver.token(audience=audience(world.service, "billing")),
        presenter=cast.resolver.caller,
        service="billing",
        tool="refund",
    )
    table = [
        (asked, ""),
        (replace(asked, method="tools/list", arguments=None), ""),
        (replace(asked, tool="export_tickets", arguments={}), ""),
        (replace(asked, tool="close_ticket"), Code.AGENT_TIER),
        (replace(asked, tool="rm_rf"), Code.TOOL_UNKNOWN),
        (replace(asked, service="billing", tool="get_invoice"), Code.TOKEN_AUDIENCE),
        (replace(asked, token=tampered(asked.token)), Code.TOKEN_SIGNATURE),
        (replace(asked, presenter=cast.resolver.caller), Code.NOT_BOUND),
        (replace(asked, presenter=world.workload("runner")), Code.NOT_BOUND),
        (replace(asked, token=""), Code.TOKEN_MISSING),
        (replace(billing, arguments={"invoice": "I-1", "amount": 20}), ""),
        (replace(billing, arguments={"invoice": "I-1", "amount": 2000}), Code.ARGUMENT_LIMIT),
    ]
    said = [cast.gateway.agreed(each) for each, _ in table]
    assert said == [str(code) for _, code in table]


def test_the_transaction_token_of_an_allow_verifies_by_the_published_keys(cast: Cast) -> None:
    made = cast.gateway.evaluate(cast.asked)
    metadata = cast.gateway.http.get(f"{cast.world.base}/.well-known/oauth-authorization-server").json()
    keys = KeySet.import_key_set(cast.gateway.http.get(metadata["jwks_uri"]).json())
    token = jwt.decode(made["context"]["txn_token"], keys, algorithms=["ES256"])
    assert token.header["typ"] == "txntoken+jwt"
    claims = token.claims
    assert (claims["iss"], claims["aud"]) == (cast.world.base, cast.world.service.name)
    assert (claims["sub"], claims["tctx"]["tool"]) == (cast.human, "read_ticket")
    assert claims["tctx"]["decision_id"] == made["context"]["decision_id"]
    assert claims["exp"] - claims["iat"] <= 60
    # The one of `Check` differs in what is its own, and in nothing else.
    options = cast.gateway.check(cast.asked).ok_response.headers
    (other,) = [
        each.header.value or each.header.raw_value.decode()
        for each in options
        if each.header.key == TRANSACTION_HEADER
    ]
    theirs = jwt.decode(other, keys, algorithms=["ES256"]).claims
    own = {"jti", "iat", "exp", "tctx"}
    assert {name: value for name, value in claims.items() if name not in own} == {
        name: value for name, value in theirs.items() if name not in own
    }
    without_id = [{**each["tctx"], "decision_id": ""} for each in (claims, theirs)]
    assert without_id[0] == without_id[1]


def test_each_decision_has_its_record_by_the_gateway(cast: Cast) -> None:
    answer = cast.gateway.evaluate(cast.asked)
    (record,) = [
        each
        for each in cast.world.service.records("decision")
        if each["id"] == answer["context"]["decision_id"]
    ]
    assert record["effect"] == "allow"
    assert cast.gateway.caller.id in json.dumps(record)


def test_a_batch_stops_at_the_first_deny(cast: Cast) -> None:
    common = cast.asked.evaluation()
    tools = [
        {"resource": {"type": "tool", "id": name, "properties": {"service": "tickets"}}}
        for name in ("read_ticket", "close_ticket", "read_ticket")
    ]
    body = {**common, "evaluations": tools, "options": {"evaluations_semantic": "deny_on_first_deny"}}
    answer = cast.gateway.http.post(cast.gateway.metadata["access_evaluations_endpoint"], json=body)
    assert [each["decision"] for each in answer.json()["evaluations"]] == [True, False]


def test_nobody_asks_but_a_gateway_that_may(cast: Cast) -> None:
    """Without a certificate 401; an agent, or a workload that is on no list, 403: nobody mints tokens."""
    endpoint = cast.gateway.metadata["access_evaluation_endpoint"]
    body = cast.asked.evaluation()
    assert cast.world.anonymous().post(endpoint, json=body).status_code == 401
    assert cast.triage.http.post(endpoint, json=body).status_code == 403
    with cast.world.workload("runner").http(cast.world.service.name) as http:
        assert http.post(endpoint, json=body).status_code == 403


def test_a_question_about_somebody_else_is_no_question(cast: Cast) -> None:
    body = {**cast.asked.evaluation(), "subject": {"type": "user", "id": "https://idp.example#mallory"}}
    answer = cast.gateway.post(body, **{"X-Request-ID": "r-1"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (400, "r-1")
    assert cast.gateway.post({}).status_code == 400


def test_what_is_revoked_is_denied_at_both_doors(cast: Cast) -> None:
    asked = replace(cast.asked, token=cast.triage.token())
    assert cast.gateway.agreed(asked) == ""
    done = cast.triage.http.post(f"{cast.world.base}/revoke", data={"token": asked.token})
    assert done.status_code == 200, done.text
    assert cast.gateway.agreed(asked) == Code.REVOKED
    assert cast.gateway.agreed(cast.asked) == ""
