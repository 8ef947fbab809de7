"""AuthZEN Authorization API 1.0 over the one flow (rules/token-exchange.md, section 3)."""

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request

from authz.authzen.endpoint import EVALUATION, EVALUATIONS, METADATA, DecisionPoint, authzen_routes
from authz.broker.app import read_arrival
from authz.broker.arrival import MAX_BODY, Arrival
from authz.check import check
from authz.codes import Code
from authz.peers import Peers
from authz.policy.embedded import EmbeddedPolicy
from authz.policy.grants import Grants
from authz.policy.modules import shipped_modules
from authz.protocols.route import Route
from authz.services import Asker, Service, Services
from identity.caller import Human, WorkloadBinding
from identity.jws import UnverifiedToken
from identity.keys import SigningKey
from identity.live_authority import LiveAuthority
from identity.spiffe import SpiffeId
from identity.transaction import TransactionToken, verify_transaction_token
from identity.trust_bundles import TrustBundles
from tests.broker_fakes import MESH, FakeSink, broker_alone
from tests.fakes import DENY, GATEWAY, ISSUER, NOW, RUNNER, TICKETS, WEB, Run, World
from tests.service_files import GRANTS

BILLING = "https://billing.mesh.example"
FILES = "https://files.mesh.example"
Json = Mapping[str, Any]


class Gateway:
    """A decision point, and the gateway that asks it."""

    def __init__(self, world: World | None = None) -> None:
        self.world = world or World()
        self.world.services = Services.of(
            (
                Service("tickets", TICKETS, Route("tickets", "mcp")),
                Service("billing", BILLING, Route("billing", "mcp")),
                Service("files", FILES, Route("files", "http")),
            ),
            (Asker(GATEWAY, frozenset({"tickets", "files"})),),
            None,
        )
        live = LiveAuthority.fixed(self.world.authority)
        peers = Peers(lambda: TrustBundles(live.trust_bundle()), frozenset({MESH}))
        self.sink = FakeSink()
        self.broker = replace(
            broker_alone().broker, live=live, peers=peers, clock=lambda: NOW, sink=self.sink
        )
        self.chain = self.certificate(GATEWAY)
        self.run = self.world.run("triage")
        self.token = self.world.token(self.run)

    def certificate(self, spiffe_id: SpiffeId) -> tuple[bytes, ...]:
        key = SigningKey.generate().private_key.public_key()
        return (self.world.authority.issue_workload_svid(spiffe_id, key, NOW, 600),)

    def ask(
        self,
        path: str = EVALUATION,
        body: object = None,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
    ) -> httpx2.Response:
        async def read(request: Request) -> Arrival:
            return replace(await read_arrival(request), chain=self.chain)

        async def answer(data: bytes, asker: SpiffeId) -> bytes:
            return await check(data, asker, self.world.flow())

        async def send() -> httpx2.Response:
            point = DecisionPoint(answer, self.world.services, self.broker)
            app = Starlette(routes=authzen_routes(point, read))
            transport = httpx2.ASGITransport(app)
            async with httpx2.AsyncClient(transport=transport, base_url="https://broker") as client:
                data = json.dumps(self.evaluation() if body is None else body).encode()
                return await client.request(
                    method,
                    path,
                    content=data if content is None else content,
                    headers={"content-type": "application/json", **(headers or {})},
                )

        return asyncio.run(send())

    def evaluation(self, tool: str = "read_ticket", **changes: Any) -> dict[str, Any]:
        """The question of a tool call; a change to None leaves a member out."""
        plain = {
            "subject": {"type": "user", "id": self.subject},
            "action": {"name": "tools/call"},
            "resource": {"type": "tool", "id": tool, "properties": {"service": "tickets"}},
            "context": self.context(self.run, self.token),
        }
        return {name: value for name, value in {**plain, **changes}.items() if value is not None}

    @property
    def subject(self) -> str:
        return subject_of(self.token)

    def context(self, run: Run, token: str, **more: object) -> dict[str, object]:
        pem = ssl.DER_cert_to_PEM_cert(run.certificate)
        arguments = {"ticket": "T-1"}
        plain = {"token": token, "peer": str(run.spiffe_id), "peer_certificate": pem, "arguments": arguments}
        return {**plain, **more}

    def verified(self, token: str, service: str = "tickets") -> TransactionToken:
        return verify_transaction_token(
            token,
            self.world.authority.token_keys,
            issuer=ISSUER,
            trust_domain=MESH,
            service=service,
            now=NOW,
            leeway=0,
        )


def subject_of(token: str) -> str:

    return str(UnverifiedToken.parse(token).unverified_claims["sub"])


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def decided(response: httpx2.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


# ---------------------------------------------------------------- one evaluation


def test_an_allow_has_the_token_that_goes_upstream(gateway: Gateway) -> None:
    answer = decided(gateway.ask())
    assert answer["decision"] is True
    token = gateway.verified(answer["context"]["txn_token"])
    assert token.jti
    (record,) = gateway.world.records()
    assert record["effect"] == "allow"
    assert record["asker"] == str(GATEWAY)


def test_a_denial_is_200_with_a_reason(gateway: Gateway) -> None:
    gateway.world.policy.answer = DENY
    answer = decided(gateway.ask())
    assert answer["decision"] is False
    assert set(answer["context"]) == {"decision_id", "reason"}
    assert answer["context"]["reason"]["code"].startswith("DPT-")
    assert "txn_token" not in str(answer)


@pytest.mark.parametrize(
    "change",
    [
        {"subject": None},
        {"action": None},
        {"resource": None},
        {"subject": {}},
        {"subject": {"type": "user"}},
        {"subject": {"id": "x"}},
        {"subject": "alice"},
        {"subject": ["user", "alice"]},
        {"subject": {"type": 7, "id": "x"}},
        {"subject": {"type": "user", "id": None}},
        {"subject": {"type": "user", "id": ""}},
        {"subject": {"type": "user", "id": "x" * 3000}},
        {"subject": {"type": "user", "id": "x", "properties": []}},
        {"subject": {"type": "robot", "id": "x"}},
        {"action": {}},
        {"action": {"name": 7}},
        {"action": {"name": ""}},
        {"action": "tools/call"},
        {"resource": {}},
        {"resource": {"type": "tool"}},
        {"resource": {"id": "read_ticket"}},
        {"resource": {"type": "tool", "id": "read_ticket", "properties": "x"}},
        {"resource": {"type": "tool", "id": "read_ticket"}},
        {"resource": {"type": "tool", "id": "read_ticket", "properties": {"service": "unknown"}}},
        {"resource": {"type": "tool", "id": "read_ticket", "properties": {"service": ["tickets"]}}},
        {"resource": {"type": "prompt", "id": "read_ticket", "properties": {"service": "tickets"}}},
        {"resource": {"type": "tool", "id": "x", "properties": {"service": "files"}}},
        {"action": {"name": "tools/list"}},
        {"resource": {"type": "mcp_server", "id": "https://unknown.example"}},
        {"context": {"arguments": []}},
        {"context": []},
        {"context": "x"},
        {"context": {"token": 7}},
        {"context": {"peer": ["x"]}},
        {"context": {"peer_certificate": {}}},
    ],
)
def test_what_is_missing_or_of_the_wrong_type_is_400_with_a_sentence(
    gateway: Gateway, change: dict[str, Any]
) -> None:
    for path, body in (
        (EVALUATION, gateway.evaluation(**change)),
        (EVALUATIONS, {**gateway.evaluation(**change), "evaluations": []}),
    ):
        response = gateway.ask(path, body)
        assert response.status_code == 400, response.text
        assert isinstance(response.json(), str)
    assert gateway.world.sink.entries == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"subject": {"type": "user", "type": "user", "id": "x"}}',
        b'{"subject": NaN}',
        b'{"subject": "\\ud800"}',
        b'{"context": ' + b"9" * 5000 + b"}",
        b'{"a":' * 3000 + b"1" + b"}" * 3000,
        b"[" * 60_000,
        b'{"a": "' + b"x" * MAX_BODY + b'"}',
    ],
)
@pytest.mark.parametrize("path", [EVALUATION, EVALUATIONS])
def test_a_body_that_is_not_one_json_object_is_400(gateway: Gateway, content: bytes, path: str) -> None:
    response = gateway.ask(path, content=content)
    assert response.status_code == 400, response.text
    assert isinstance(response.json(), str)


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/x-www-form-urlencoded", "text/json"])
def test_another_content_type_is_400(gateway: Gateway, content_type: str) -> None:
    assert gateway.ask(headers={"content-type": content_type}).status_code == 400


def test_unknown_members_are_ignored(gateway: Gateway) -> None:
    body = gateway.evaluation(surprise={"a": 1})
    body["subject"]["surprise"] = body["resource"]["surprise"] = body["action"]["surprise"] = 1
    assert decided(gateway.ask(body=body))["decision"] is True


@pytest.mark.parametrize("request_id", ["bfe9eb29-ab87-4ca3-be83-a1d5d8305716", "a b", "x" * 256])
def test_x_request_id_comes_back_also_from_a_refusal(gateway: Gateway, request_id: str) -> None:
    headers = {"X-Request-ID": request_id}
    assert gateway.ask(headers=headers).headers["x-request-id"] == request_id
    assert gateway.ask(content=b"", headers=headers).headers["x-request-id"] == request_id
    gateway.chain = ()
    assert gateway.ask(headers=headers).headers["x-request-id"] == request_id


def test_an_x_request_id_that_is_none_does_not(gateway: Gateway) -> None:
    for sent in ("x" * 257, "a\tb", ""):
        assert "x-request-id" not in gateway.ask(headers={"X-Request-ID": sent}).headers


def test_a_list_of_tools_and_a_lifecycle_call_are_about_the_server(gateway: Gateway) -> None:
    for action in ("tools/list", "initialize"):
        resource = {"type": "mcp_server", "id": TICKETS}
        answer = decided(gateway.ask(body=gateway.evaluation(action={"name": action}, resource=resource)))
        assert answer["decision"] is True, (action, answer)


def test_an_unknown_method_is_denied(gateway: Gateway) -> None:
    resource = {"type": "mcp_server", "id": TICKETS}
    body = gateway.evaluation(action={"name": "tools/steal"}, resource=resource)
    assert decided(gateway.ask(body=body))["decision"] is False


def test_a_path_of_plain_http(gateway: Gateway) -> None:
    token = gateway.world.token(gateway.run, audience=FILES)
    body = gateway.evaluation(
        action={"name": "GET"},
        resource={"type": "path", "id": "/reports/1", "properties": {"service": "files"}},
        context=gateway.context(gateway.run, token),
    )
    answer = decided(gateway.ask(body=body))
    assert answer["decision"] is True, answer
    (record,) = gateway.world.records()
    assert record["resource"] == {"name": "/reports/1", "service": "files", "type": "path"}


# ---------------------------------------------------------------- several


def test_defaults_are_replaced_whole_and_order_and_length_are_kept(gateway: Gateway) -> None:
    body = gateway.evaluation()
    body["evaluations"] = [
        {},
        # A resource of its own has no properties of the default's: the service is missing.
        {"resource": {"type": "tool", "id": "read_ticket"}},
        {"resource": {"type": "tool", "id": "other", "properties": {"service": "tickets"}}},
        {"action": {"name": 7}},
        "nonsense",
        {"context": {}},
    ]
    answers = decided(gateway.ask(EVALUATIONS, body))["evaluations"]
    assert [answer["decision"] for answer in answers] == [True, False, True, False, False, False]
    assert answers[1]["context"]["error"]["status"] == 400
    assert "service" in answers[1]["context"]["error"]["message"]
    assert answers[4]["context"]["error"]["status"] == 400
    assert answers[5]["context"]["reason"]["code"].startswith("DPT-")
    assert len(gateway.world.records()) >= 2


@pytest.mark.parametrize("evaluations", [None, []])
def test_missing_or_empty_evaluations_are_one(gateway: Gateway, evaluations: object) -> None:
    body = gateway.evaluation(evaluations=evaluations)
    answer = decided(gateway.ask(EVALUATIONS, body))
    assert answer["decision"] is True
    assert "evaluations" not in answer


@pytest.mark.parametrize(
    ("semantic", "count"),
    [("execute_all", 4), ("deny_on_first_deny", 2), ("permit_on_first_permit", 1)],
)
def test_the_semantic_says_when_to_stop(gateway: Gateway, semantic: str, count: int) -> None:
    broken = {"resource": {"type": "tool", "id": "x"}}
    body = gateway.evaluation(options={"evaluations_semantic": semantic}, evaluations=[{}, broken, {}, {}])
    answers = decided(gateway.ask(EVALUATIONS, body))["evaluations"]
    assert [answer["decision"] for answer in answers] == [True, False, True, True][:count]
    body["evaluations"] = [broken, {}, broken]
    answers = decided(gateway.ask(EVALUATIONS, body))["evaluations"]
    assert len(answers) == {"execute_all": 3, "deny_on_first_deny": 1, "permit_on_first_permit": 2}[semantic]


@pytest.mark.parametrize(
    "change",
    [
        {"evaluations": {}},
        {"evaluations": "x"},
        {"evaluations": [{}] * 65},
        {"evaluations": [{}], "options": []},
        {"evaluations": [{}], "options": {"evaluations_semantic": "any"}},
        {"evaluations": [{}], "options": {"evaluations_semantic": ["execute_all"]}},
    ],
)
def test_a_batch_whose_form_is_wrong_is_400(gateway: Gateway, change: dict[str, Any]) -> None:
    assert gateway.ask(EVALUATIONS, gateway.evaluation(**change)).status_code == 400
    assert gateway.world.sink.entries == []


def test_defaults_may_be_missing_where_each_item_has_its_own(gateway: Gateway) -> None:
    answers = decided(gateway.ask(EVALUATIONS, {"evaluations": [gateway.evaluation()]}))["evaluations"]
    assert [answer["decision"] for answer in answers] == [True]


# ---------------------------------------------------------------- who asks


def test_the_metadata_names_what_there_is(gateway: Gateway) -> None:
    answer = decided(gateway.ask(METADATA, method="GET"))
    assert answer == {
        "policy_decision_point": ISSUER,
        "access_evaluation_endpoint": f"{ISSUER}{EVALUATION}",
        "access_evaluations_endpoint": f"{ISSUER}{EVALUATIONS}",
    }


@pytest.mark.parametrize("case", ["nobody", "another workload", "an agent", "forged"])
def test_only_a_gateway_of_the_list_is_answered(gateway: Gateway, case: str) -> None:
    other = Gateway()
    chains = {
        "nobody": (),
        "another workload": gateway.certificate(WEB),
        "an agent": (gateway.run.certificate,),
        "forged": other.certificate(GATEWAY),
    }
    gateway.chain = chains[case]
    for path in (EVALUATION, EVALUATIONS):
        response = gateway.ask(path)
        assert response.status_code == (401 if case in {"nobody", "forged"} else 403)
        assert isinstance(response.json(), str)
    assert gateway.world.sink.entries == []
    assert [entry.of_stranger for entry in gateway.sink.entries] == [True, True]


def test_who_may_not_ask_fills_no_log(gateway: Gateway) -> None:
    gateway.chain = ()
    for _ in range(40):
        assert gateway.ask().status_code == 401
    assert 0 < len(gateway.sink.entries) <= 10
    gateway.sink.broken = True
    gateway.chain = gateway.certificate(WEB)
    assert gateway.ask().status_code == 403


def test_a_gateway_asks_about_its_own_services_only(gateway: Gateway) -> None:
    token = gateway.world.token(gateway.run, audience=BILLING)
    resource = {"type": "tool", "id": "get_invoice", "properties": {"service": "billing"}}
    body = gateway.evaluation(resource=resource, context=gateway.context(gateway.run, token))
    answer = decided(gateway.ask(body=body))
    assert answer["decision"] is False
    assert answer["context"]["reason"]["code"] == Code.ASKER_TARGET.value


# ---------------------------------------------------------------- what cannot be forged


def test_a_question_about_somebody_else_than_the_credential_names_is_none(gateway: Gateway) -> None:
    for subject in ({"type": "user", "id": "mallory"}, {"type": "agent", "id": "triage"}):
        assert gateway.ask(body=gateway.evaluation(subject=subject)).status_code == 400
    assert gateway.world.sink.entries == []


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c", "\u00e9", "x\r\nauthorization: Bearer y"])
def test_without_a_credential_that_counts_nobody_acts(gateway: Gateway, token: str) -> None:
    context = gateway.context(gateway.run, token)
    answer = decided(gateway.ask(body=gateway.evaluation(context=context)))
    assert answer["decision"] is False
    assert token == "" or token not in str(gateway.world.records())


def test_a_token_bound_to_a_key_is_worth_nothing_with_another_certificate(gateway: Gateway) -> None:
    thief = gateway.world.run("resolver")
    answer = decided(gateway.ask(body=gateway.evaluation(context=gateway.context(thief, gateway.token))))
    assert answer["context"]["reason"]["code"] == Code.NOT_BOUND.value


def test_a_token_bound_to_a_workload_takes_the_gateways_word_for_the_peer(gateway: Gateway) -> None:
    """As Envoy's word is taken: who may ask is on the list for that reason."""
    token = gateway.world.token(gateway.run, binding=WorkloadBinding(RUNNER))
    own = gateway.context(gateway.run, token, peer=str(RUNNER), peer_certificate="")
    assert decided(gateway.ask(body=gateway.evaluation(context=own)))["decision"] is True
    other = {**own, "peer": str(WEB)}
    assert decided(gateway.ask(body=gateway.evaluation(context=other)))["decision"] is False


def test_nothing_that_is_asked_reaches_the_policy_as_a_fact(gateway: Gateway) -> None:
    forged = {"groups": ["platform"], "human": "mallory", "agent": "root", "scopes": ["all"], "epoch": 99}
    plain = gateway.evaluation()
    decided(gateway.ask(body=plain))
    body = gateway.evaluation(input=forged, data=forged)
    body["subject"]["properties"] = body["action"]["properties"] = forged
    body["resource"]["properties"] |= forged
    body["context"] |= forged
    decided(gateway.ask(body=body))
    first, second = gateway.world.policy.asked
    assert first == second


def test_a_peer_that_no_header_can_hold_is_an_answer_and_no_fault(gateway: Gateway) -> None:
    for peer in ("spiffe://mesh.example/\x00", "not-spiffe", "x" * 100_000):
        context = gateway.context(gateway.run, gateway.token, peer=peer)
        response = gateway.ask(body=gateway.evaluation(context=context))
        assert response.status_code in {200, 400}
        assert response.status_code == 400 or response.json()["decision"] is False


# ---------------------------------------------------------------- one flow


CALLERS = ("triage", "resolver", "nightly-report")
TOOLS: Mapping[str, Mapping[str, object]] = {
    "read_ticket": {"ticket": "T-1"},
    "close_ticket": {"ticket": "T-1"},
    "export_tickets": {},
    "unknown_tool": {},
}
PEOPLE = {
    "lead": Human.parse("https://idp.example", "lead", ("lead",)),
    "clerk": Human.parse("https://idp.example", "clerk", ("clerk",)),
    "nobody": Human.parse("https://idp.example", "nobody", ()),
}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("person", PEOPLE)
def test_the_answer_is_that_of_check(tool: str, person: str) -> None:
    human, arguments = PEOPLE[person], TOOLS[tool]
    gateway = Gateway()
    world = gateway.world
    world.policy = EmbeddedPolicy(shipped_modules(), Grants.parse(GRANTS.read_bytes()))  # type: ignore[assignment] # the same port
    for caller in CALLERS:
        run = world.run(caller, human)
        token = world.token(run, human=human)
        gateway.token = token
        params = {"name": tool, "arguments": arguments}
        call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
        checked = world.check(world.request(token, run, body=call))
        body = gateway.evaluation(tool, context=gateway.context(run, token, arguments=arguments))
        answer = decided(gateway.ask(body=body))
        assert answer["decision"] is (checked.status.code == 0), (caller, answer)
        first, second = world.records()[-2:]
        for member in (
            "effect",
            "code",
            "codes",
            "agent",
            "human",
            "resource",
            "action",
            "args_hmac",
            "rule",
        ):
            assert first[member] == second[member], member
        if answer["decision"]:
            assert gateway.verified(answer["context"]["txn_token"]).jti
        else:
            assert answer["context"]["reason"]["code"] == second["code"]
