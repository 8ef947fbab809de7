"""Tasks: started, renewed, given JWT-SVIDs, ended, by those who may."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from authz.codes import Code
from authz.errors import PolicyUnavailableError
from identity.caller import KeyBinding
from identity.jws import UnverifiedToken
from identity.jwt_svid import verify_jwt_svid
from identity.keys import SigningKey
from identity.spiffe import agent_task_id
from identity.x509_svid import verify_x509_svid
from tests.broker_fakes import (
    BILLING,
    BROKER,
    MESH,
    RUNNER,
    SETTINGS,
    STRANGER,
    TICKETS,
    Identity,
    World,
    csr_of,
    id_token_with,
    run,
)

STATUS = {
    Code.REQUEST_MALFORMED: 400,
    Code.BODY_TOO_LARGE: 413,
    Code.TASK_UNKNOWN: 404,
    Code.TASK_ENDED: 410,
    Code.PEER_MISSING: 401,
    Code.INTERNAL: 503,
    Code.WITHDRAWN: 503,
    Code.AUDIT_UNAVAILABLE: 503,
    Code.POLICY_UNAVAILABLE: 503,
}
OF_TOKENS = "DPT-TOKEN-"


def start_body(world: World, **changes: object) -> dict[str, object]:
    body = {
        "agent": "triage",
        "csr": csr_of(SigningKey.generate().private_key),
        "subject_token": world.id_token(),
        **changes,
    }
    return {name: value for name, value in body.items() if value is not None}


async def refused(
    world: World, method: str, path: str, client: Identity | None, code: Code, **options: Any
) -> Mapping[str, Any]:
    """Ask, and see one refusal with one record and nothing changed."""
    before, tasks = len(world.sink.entries), dict(world.tasks.tasks)
    response = await world.send(method, path, client, **options)
    body: Mapping[str, Any] = response.json()
    expected = 401 if code.value.startswith(OF_TOKENS) else STATUS.get(code, 403)
    assert (response.status_code, body["code"]) == (expected, code.value)
    assert body.keys() <= {"error", "code", "fix", "decision_id"}
    assert response.headers["cache-control"] == "no-store"
    (entry,) = world.sink.entries[before:]
    record = entry.members(1, "")
    assert (record["effect"], record["code"], record["id"]) == ("deny", code.value, body["decision_id"])
    assert world.tasks.tasks == tasks
    return record


# ---------------------------------------------------------------- POST /tasks


def test_a_workload_starts_a_task_for_a_person() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        answer, now = task.answer, world.clock.now
        assert set(answer) == {"task", "spiffe_id", "certificate_chain", "bundle", "not_after", "deadline"}
        svid = verify_x509_svid([task.identity.der], world.broker.authority.roots, MESH, now)
        assert (
            answer["spiffe_id"] == str(svid.spiffe_id) == f"spiffe://mesh.example/agent/triage/task/{task.id}"
        )
        assert svid.not_after == now + timedelta(minutes=10)
        assert datetime.fromisoformat(answer["not_after"]) == svid.not_after
        assert datetime.fromisoformat(answer["deadline"]) == now + timedelta(hours=1)
        stored = world.tasks.tasks[task.id]
        assert (stored.agent, stored.human, stored.workload) == ("triage", "https://idp.example#lead", RUNNER)
        assert stored.thumbprint == task.identity.thumbprint
        assert (stored.started_at, stored.deadline) == (now, now + timedelta(hours=1))

    run(act)


def test_names_in_the_certificate_request_do_not_count() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        certificate = x509.load_der_x509_certificate(task.identity.der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert certificate.subject == x509.Name([])
        assert [name.value for name in names] == [str(task.identity.spiffe_id)]

    run(act)


def test_starting_a_task_leaves_one_record() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        (entry,) = world.sink.entries
        record = entry.members(1, "")
        assert (record["kind"], record["effect"], record["code"]) == ("issuance", "allow", "DPT-ALLOWED")
        assert record["human"] == {"issuer": "https://idp.example", "subject": "lead"}
        assert (record["agent"], record["task"], record["peer"]) == ("triage", task.id, str(RUNNER))
        issued: Any = record["issued"]
        assert (issued["kind"], issued["subject"]) == ("task", str(task.identity.spiffe_id))
        assert record["autonomous"] is False

    run(act)


def test_the_policy_is_asked_before_a_task_starts() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        (query,) = world.policy.queries
        human: Any = query["human"]
        assert (query["phase"], human["uri"]) == ("task", "https://idp.example#lead")
        assert query["task"] == {"id": task.id, "workload": str(RUNNER)}
        assert query["peer"] == str(RUNNER)
        assert query["resource"] == {"service": "", "type": "task", "name": "triage"}

    run(act)


def test_an_autonomous_agent_starts_for_nobody() -> None:
    async def act(world: World) -> None:
        task = await world.start("nightly-report", person=None)
        assert world.tasks.tasks[task.id].human is None
        assert world.policy.queries[-1]["human"] is None
        assert (world.sink.last["human"], world.sink.last["autonomous"]) == (None, True)

    run(act)


def test_an_agent_that_is_not_autonomous_does_not_start_for_nobody() -> None:
    async def act(world: World) -> None:
        body = start_body(world, subject_token=None)
        await refused(world, "POST", "/tasks", world.runner, Code.HUMAN_MISSING, json=body)

    run(act)


@pytest.mark.parametrize(
    ("asked", "seconds"), [(None, 3600), (1, 1), (60, 60), (3600, 3600), (3601, 3600), (86_400, 3600)]
)
def test_a_task_lives_no_longer_than_the_settings_say(asked: int | None, seconds: int) -> None:
    async def act(world: World) -> None:
        body = start_body(world, lifetime_seconds=asked)
        response = await world.send("POST", "/tasks", world.runner, json=body)
        deadline = datetime.fromisoformat(response.json()["deadline"])
        assert deadline == world.clock.now + timedelta(seconds=seconds)

    run(act)


def test_a_certificate_ends_with_its_task() -> None:
    async def act(world: World) -> None:
        task = await world.start(lifetime_seconds=90)
        assert task.answer["not_after"] == task.answer["deadline"]

    run(act)


def test_no_client_certificate() -> None:
    async def act(world: World) -> None:
        await refused(world, "POST", "/tasks", None, Code.PEER_MISSING, json=start_body(world))

    run(act)


def test_a_workload_that_may_not_host_the_agent() -> None:
    async def act(world: World) -> None:
        client = world.workload(STRANGER)
        record = await refused(world, "POST", "/tasks", client, Code.AGENT_HOST, json=start_body(world))
        assert record["peer"] == str(STRANGER)

    run(act)


def test_a_task_cannot_start_tasks() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        world.tasks.change("triage", hosts=frozenset({RUNNER, task.identity.spiffe_id}))
        await refused(world, "POST", "/tasks", task.identity, Code.AGENT_HOST, json=start_body(world))

    run(act)


def test_an_unknown_or_expired_agent() -> None:
    async def act(world: World) -> None:
        body = start_body(world, agent="unknown")
        await refused(world, "POST", "/tasks", world.runner, Code.AGENT_UNKNOWN, json=body)
        world.tasks.change("triage", expires_at=world.clock.now)
        await refused(world, "POST", "/tasks", world.runner, Code.AGENT_EXPIRED, json=start_body(world))

    run(act)


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"aud": "somebody-else"}, Code.TOKEN_AUDIENCE),
        ({"iss": "https://evil.example"}, Code.TOKEN_ISSUER),
        ({"exp": 1}, Code.TOKEN_EXPIRED),
        ({"typ_": "at+jwt"}, Code.TOKEN_TYPE),
    ],
)
def test_a_persons_token_that_does_not_count(claims: dict[str, object], code: Code) -> None:
    async def act(world: World) -> None:
        now = int(world.clock.now.timestamp())
        token = id_token_with(world.provider, **{"iat": now, "exp": now + 60, **claims})
        body = start_body(world, subject_token=token)
        await refused(world, "POST", "/tasks", world.runner, code, json=body)

    run(act)


def test_a_delegation_token_starts_no_task() -> None:
    async def act(world: World) -> None:
        token = await world.token(await world.start())
        body = start_body(world, subject_token=token)
        await refused(world, "POST", "/tasks", world.runner, Code.TOKEN_ISSUER, json=body)

    run(act)


def test_a_task_that_the_policy_refuses() -> None:
    async def act(world: World) -> None:
        world.policy.deny(Code.AGENT_TIER)
        record = await refused(world, "POST", "/tasks", world.runner, Code.AGENT_TIER, json=start_body(world))
        assert record["rule"] == "some.rule"

    run(act)


def test_without_a_policy_no_task_starts() -> None:
    async def act(world: World) -> None:
        world.policy.verdict = PolicyUnavailableError("down")
        await refused(world, "POST", "/tasks", world.runner, Code.POLICY_UNAVAILABLE, json=start_body(world))

    run(act)


# ---------------------------------------------------------------- the body


def bad_csrs() -> dict[str, object]:
    good = csr_of(ec.generate_private_key(ec.SECP256R1()))
    der = bytearray(x509.load_pem_x509_csr(good.encode()).public_bytes(Encoding.DER))
    der[-1] ^= 1
    import base64

    text = base64.b64encode(bytes(der)).decode()
    forged = f"-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n"
    return {
        "bad signature": forged,
        "P-384": csr_of(ec.generate_private_key(ec.SECP384R1())),
        "RSA": csr_of(rsa.generate_private_key(65537, 2048)),
        "secp256k1": csr_of(ec.generate_private_key(ec.SECP256K1())),
        "not PEM": "csr",
        "empty": "",
        "not a text": 7,
        "null": None,
        "a certificate": good.replace("CERTIFICATE REQUEST", "CERTIFICATE"),
        "a private key": SigningKey.generate().reveal_pem().decode(),
        "not ASCII": "é",
    }


@pytest.mark.parametrize("name", list(bad_csrs()))
def test_a_certificate_request_that_proves_nothing(name: str) -> None:
    async def act(world: World) -> None:
        body = {**start_body(world), "csr": bad_csrs()[name]}
        await refused(world, "POST", "/tasks", world.runner, Code.REQUEST_MALFORMED, json=body)

    run(act)


@pytest.mark.parametrize(
    "change",
    [
        {"agent": "Triage"},
        {"agent": "../triage"},
        {"agent": 1},
        {"agent": None},
        {"subject_token": 1},
        {"subject_token": ""},
        {"lifetime_seconds": 0},
        {"lifetime_seconds": -1},
        {"lifetime_seconds": 86_401},
        {"lifetime_seconds": "60"},
        {"lifetime_seconds": 60.0},
        {"lifetime_seconds": True},
        {"human": "https://idp.example#lead"},
        {"workload": "spiffe://mesh.example/ns/agents/sa/runner"},
        {"spiffe_id": "spiffe://mesh.example/agent/triage"},
    ],
)
def test_a_member_that_is_not_as_it_should_be(change: dict[str, object]) -> None:
    async def act(world: World) -> None:
        body = {**start_body(world), **change}
        await refused(world, "POST", "/tasks", world.runner, Code.REQUEST_MALFORMED, json=body)

    run(act)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"agent":"triage","agent":"resolver","csr":"x"}',
        b"\xff",
        b'{"csr":NaN}',
        b"[" * 5000,
    ],
)
def test_a_body_that_is_not_one_strict_object(content: bytes) -> None:
    async def act(world: World) -> None:
        headers = {"content-type": "application/json"}
        await refused(
            world, "POST", "/tasks", world.runner, Code.REQUEST_MALFORMED, content=content, headers=headers
        )

    run(act)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_content_type(content_type: str) -> None:
    async def act(world: World) -> None:
        headers = {"content-type": content_type}
        await refused(
            world, "POST", "/tasks", world.runner, Code.REQUEST_MALFORMED, content=b"{}", headers=headers
        )

    run(act)


def test_a_body_that_is_too_long() -> None:
    async def act(world: World) -> None:
        body = start_body(world, subject_token="x" * 70_000)
        await refused(world, "POST", "/tasks", world.runner, Code.BODY_TOO_LARGE, json=body)

    run(act)


# ---------------------------------------------------------------- POST /tasks/{task}/svid


@pytest.mark.parametrize("by", ["task", "workload"])
def test_a_task_or_its_workload_renews_the_certificate(by: str) -> None:
    async def act(world: World) -> None:
        task = await world.start()
        renewed = await world.renew(task, task.identity if by == "task" else world.runner)
        assert renewed.identity.spiffe_id == task.identity.spiffe_id
        assert renewed.identity.thumbprint != task.identity.thumbprint
        assert world.tasks.tasks[task.id].thumbprint == renewed.identity.thumbprint
        not_after = datetime.fromisoformat(renewed.answer["not_after"])
        assert not_after == world.clock.now + timedelta(minutes=10)
        issued: Any = world.sink.last["issued"]
        assert (world.sink.last["kind"], issued["kind"]) == ("issuance", "x509-svid")
        token = await world.token(renewed)
        assert world.verified(token).binding == KeyBinding(renewed.identity.thumbprint)

    run(act)


def test_a_task_that_is_bound_to_an_instance_is_not_its_workloads_over_mtls() -> None:
    """A task that a process or a pod started is that one's: its workload's key alone does not reach it."""

    async def act(world: World) -> None:
        task = await world.start()
        world.tasks.tasks[task.id] = replace(world.tasks.tasks[task.id], origin="pod:3f0e")
        csr = {"csr": csr_of(SigningKey.generate().private_key)}
        path = f"/tasks/{task.id}"
        await refused(world, "POST", f"{path}/svid", world.runner, Code.TASK_MISMATCH, json=csr)
        await refused(world, "DELETE", path, world.runner, Code.TASK_MISMATCH)
        renewed = await world.renew(task)
        assert (await world.send("DELETE", path, renewed.identity)).status_code == 204

    run(act)


def test_a_replaced_certificate_counts_no_more() -> None:
    """A stolen key is worth nothing after the next renewal, and cannot make that renewal unnoticed."""

    async def act(world: World) -> None:
        task = await world.start()
        await world.renew(task)
        csr = {"csr": csr_of(SigningKey.generate().private_key)}
        old, path = task.identity, f"/tasks/{task.id}"
        await refused(world, "POST", f"{path}/svid", old, Code.NOT_BOUND, json=csr)
        await refused(world, "POST", f"{path}/jwt-svid", old, Code.NOT_BOUND, json={"audience": BROKER})
        await refused(world, "DELETE", path, old, Code.NOT_BOUND)
        response = await world.exchange(task)
        assert (response.status_code, response.json()["error"]) == (401, "invalid_client")
        assert response.json()["deputy_code"] == "DPT-NOT-BOUND"
        await world.renew(task, world.runner)

    run(act)


def test_a_renewed_certificate_ends_with_the_task() -> None:
    async def act(world: World) -> None:
        task = await world.start(lifetime_seconds=120)
        world.clock.forward(60)
        body = {"csr": csr_of(SigningKey.generate().private_key)}
        response = await world.send("POST", f"/tasks/{task.id}/svid", task.identity, json=body)
        assert response.json()["not_after"] == task.answer["deadline"]

    run(act)


@pytest.mark.parametrize("path", ["svid", "jwt-svid"])
@pytest.mark.parametrize("who", ["another-task", "another-workload", "nobody"])
def test_nothing_is_issued_to_somebody_else(path: str, who: str) -> None:
    async def act(world: World) -> None:
        task = await world.start()
        clients = {
            "another-task": (await world.start()).identity,
            "another-workload": world.workload(STRANGER),
            "nobody": None,
        }
        code = Code.PEER_MISSING if who == "nobody" else Code.TASK_MISMATCH
        body = {"csr": csr_of(SigningKey.generate().private_key)}
        if path == "jwt-svid":
            body = {"audience": BROKER}
        await refused(world, "POST", f"/tasks/{task.id}/{path}", clients[who], code, json=body)

    run(act)


def test_a_certificate_of_the_task_with_another_agents_name() -> None:
    async def act(world: World) -> None:
        task = await world.start("triage")
        client = world.workload(agent_task_id(MESH, "resolver", task.id))
        body = {"audience": BROKER}
        await refused(world, "POST", f"/tasks/{task.id}/jwt-svid", client, Code.TASK_MISMATCH, json=body)

    run(act)


@pytest.mark.parametrize("task_id", ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "x", "01arz3ndektsv4rrffq69g5fav", "%00"])
def test_an_unknown_task(task_id: str) -> None:
    async def act(world: World) -> None:
        body = {"csr": csr_of(SigningKey.generate().private_key)}
        await refused(world, "POST", f"/tasks/{task_id}/svid", world.runner, Code.TASK_UNKNOWN, json=body)
        await refused(world, "DELETE", f"/tasks/{task_id}", world.runner, Code.TASK_UNKNOWN)

    run(act)


@pytest.mark.parametrize("what", ["task", "agent", "host", "expired"])
def test_nothing_is_issued_to_a_task_that_may_not_act_any_more(what: str) -> None:
    async def act(world: World) -> None:
        task = await world.start()
        match what:
            case "task":
                world.tasks.end_task(task.id, world.clock.now)
                code = Code.TASK_ENDED
            case "agent":
                world.tasks.retire("triage")
                code = Code.AGENT_UNKNOWN
            case "host":
                world.tasks.change("triage", hosts=frozenset({STRANGER}))
                code = Code.AGENT_HOST
            case _:
                world.tasks.change("triage", expires_at=world.clock.now)
                code = Code.AGENT_EXPIRED
        csr, audience = {"csr": csr_of(SigningKey.generate().private_key)}, {"audience": BROKER}
        await refused(world, "POST", f"/tasks/{task.id}/svid", task.identity, code, json=csr)
        await refused(world, "POST", f"/tasks/{task.id}/svid", world.runner, code, json=csr)
        await refused(world, "POST", f"/tasks/{task.id}/jwt-svid", task.identity, code, json=audience)

    run(act)


def test_a_task_past_its_deadline_is_not_renewed_by_its_workload() -> None:
    async def act(world: World) -> None:
        task = await world.start(lifetime_seconds=60)
        world.clock.forward(60)
        body = {"csr": csr_of(SigningKey.generate().private_key)}
        await refused(world, "POST", f"/tasks/{task.id}/svid", world.runner, Code.TASK_ENDED, json=body)

    run(act)


def test_renewal_takes_a_proof_of_possession_too() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        path = f"/tasks/{task.id}/svid"
        for csr in bad_csrs().values():
            await refused(world, "POST", path, task.identity, Code.REQUEST_MALFORMED, json={"csr": csr})

    run(act)


# ---------------------------------------------------------------- POST /tasks/{task}/jwt-svid


@pytest.mark.parametrize("audience", [BROKER, TICKETS, BILLING])
def test_a_task_gets_a_jwt_svid_for_the_broker_or_a_service(audience: str) -> None:
    async def act(world: World) -> None:
        task = await world.start()
        path, body = f"/tasks/{task.id}/jwt-svid", {"audience": audience}
        response = await world.send("POST", path, task.identity, json=body)
        assert (response.status_code, response.json()["expires_in"]) == (200, 60)
        unverified = UnverifiedToken.parse(response.json()["jwt_svid"])
        keys = {MESH: world.broker.authority.svid_keys}
        svid = verify_jwt_svid(unverified, keys, audience=audience, now=world.clock.now, leeway=0)
        assert svid.spiffe_id == task.identity.spiffe_id
        assert set(unverified.unverified_claims) == {"sub", "aud", "iat", "exp"}
        issued: Any = world.sink.last["issued"]
        assert (issued["kind"], issued["audience"]) == ("jwt-svid", audience)
        assert issued["token_id"] == unverified.token_id
        assert response.json()["jwt_svid"] not in str(world.sink.last)

    run(act)


@pytest.mark.parametrize("audience", ["https://elsewhere.example", "tickets", BROKER + "/token", "*"])
def test_no_jwt_svid_for_anybody_else(audience: str) -> None:
    async def act(world: World) -> None:
        task = await world.start()
        path, body = f"/tasks/{task.id}/jwt-svid", {"audience": audience}
        await refused(world, "POST", path, task.identity, Code.SERVICE_UNKNOWN, json=body)

    run(act)


@pytest.mark.parametrize(
    "body", [{}, {"audience": ""}, {"audience": [BROKER]}, {"audience": BROKER, "sub": "x"}]
)
def test_a_jwt_svid_request_that_is_not_one(body: dict[str, object]) -> None:
    async def act(world: World) -> None:
        task = await world.start()
        path = f"/tasks/{task.id}/jwt-svid"
        await refused(world, "POST", path, task.identity, Code.REQUEST_MALFORMED, json=body)

    run(act)


def test_the_workload_does_not_speak_for_its_task() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        path, body = f"/tasks/{task.id}/jwt-svid", {"audience": BROKER}
        await refused(world, "POST", path, world.runner, Code.TASK_MISMATCH, json=body)

    run(act)


def test_a_jwt_svid_ends_with_the_task() -> None:
    async def act(world: World) -> None:
        task = await world.start(lifetime_seconds=100)
        world.clock.forward(70)
        path, body = f"/tasks/{task.id}/jwt-svid", {"audience": BROKER}
        response = await world.send("POST", path, task.identity, json=body)
        assert response.json()["expires_in"] == 30

    run(act)


# ---------------------------------------------------------------- DELETE /tasks/{task}


@pytest.mark.parametrize("by", ["task", "workload"])
def test_a_task_is_ended_by_itself_or_its_workload(by: str) -> None:
    async def act(world: World) -> None:
        task = await world.start()
        client = task.identity if by == "task" else world.runner
        before = len(world.sink.entries)
        response = await world.send("DELETE", f"/tasks/{task.id}", client)
        assert (response.status_code, response.content) == (204, b"")
        assert world.tasks.tasks[task.id].ended_at == world.clock.now
        (entry,) = world.sink.entries[before:]
        record = entry.members(1, "")
        assert (record["kind"], record["change"], record["task"]) == ("registry", "task-ended", task.id)
        assert record["by"] == str(client.spiffe_id)
        assert record["human"] == {"issuer": "https://idp.example", "subject": "lead"}
        await refused(world, "DELETE", f"/tasks/{task.id}", world.runner, Code.TASK_ENDED)

    run(act)


def test_a_task_of_an_expired_agent_can_be_ended() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        world.tasks.change("triage", expires_at=world.clock.now)
        assert (await world.send("DELETE", f"/tasks/{task.id}", world.runner)).status_code == 204

    run(act)


def test_who_ends_many_tasks_does_not_keep_another_from_ending_theirs() -> None:
    """Each end moves the epoch; an end that took that for a withdrawal of its own rights would not happen."""

    async def act(world: World) -> None:
        task = await world.start()
        world.sink.meanwhile = world.tasks.another_ends
        response = await world.send("DELETE", f"/tasks/{task.id}", task.identity)
        assert response.status_code == 204
        assert world.tasks.tasks[task.id].ended_at is not None

    run(act)


@pytest.mark.parametrize("who", ["another-task", "another-workload", "nobody"])
def test_somebody_else_does_not_end_a_task(who: str) -> None:
    async def act(world: World) -> None:
        task = await world.start()
        clients = {
            "another-task": (await world.start()).identity,
            "another-workload": world.workload(STRANGER),
            "nobody": None,
        }
        code = Code.PEER_MISSING if who == "nobody" else Code.TASK_MISMATCH
        await refused(world, "DELETE", f"/tasks/{task.id}", clients[who], code)

    run(act)


# ---------------------------------------------------------------- record before answer


def test_without_a_record_no_task_starts_and_none_ends() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        world.sink.broken = True
        csr = {"csr": csr_of(SigningKey.generate().private_key)}
        for method, path, client, body in (
            ("POST", "/tasks", world.runner, start_body(world)),
            ("POST", f"/tasks/{task.id}/svid", task.identity, csr),
            ("POST", f"/tasks/{task.id}/jwt-svid", task.identity, {"audience": BROKER}),
            ("DELETE", f"/tasks/{task.id}", task.identity, None),
        ):
            tasks = dict(world.tasks.tasks)
            response = await world.send(method, path, client, json=body)
            assert (response.status_code, response.json()["code"]) == (503, "DPT-AUDIT-UNAVAILABLE")
            assert response.headers["retry-after"] == "1"
            assert world.tasks.tasks == tasks

    run(act)


def test_a_task_that_cannot_be_stored_is_not_handed_out() -> None:
    async def act(world: World) -> None:
        world.tasks.broken = True
        response = await world.send("POST", "/tasks", world.runner, json=start_body(world))
        assert (response.status_code, response.json()["code"]) == (503, "DPT-INTERNAL")
        assert "certificate_chain" not in response.json()
        allowed, withdrawn = (entry.members(1, "") for entry in world.sink.entries)
        assert allowed["effect"] == "allow"
        assert (withdrawn["kind"], withdrawn["withdraws"]) == ("withdrawn", allowed["id"])

    run(act)


def test_a_withdrawal_while_a_task_starts_wins() -> None:
    async def act(world: World) -> None:
        world.policy.meanwhile = lambda: world.tasks.retire("triage")
        response = await world.send("POST", "/tasks", world.runner, json=start_body(world))
        assert (response.status_code, response.json()["code"]) == (403, "DPT-AGENT-UNKNOWN")
        assert world.tasks.tasks == {}

    run(act)


def test_a_withdrawal_while_the_start_of_a_task_is_recorded_wins() -> None:
    async def act(world: World) -> None:
        world.sink.meanwhile = lambda: world.tasks.retire("triage")
        response = await world.send("POST", "/tasks", world.runner, json=start_body(world))
        assert (response.status_code, response.json()["code"]) == (503, "DPT-WITHDRAWN")
        assert world.tasks.tasks == {}
        assert [entry.kind for entry in world.sink.entries] == ["issuance", "withdrawn"]

    run(act)


def test_what_another_lost_denies_nobody_the_start_of_a_task() -> None:
    async def act(world: World) -> None:
        world.sink.meanwhile = world.tasks.another_ends
        response = await world.send("POST", "/tasks", world.runner, json=start_body(world))
        assert response.status_code == 201
        assert [entry.kind for entry in world.sink.entries] == ["issuance"]

    run(act)


@pytest.mark.parametrize(("ends", "status"), [(1, 201), (4, 201), (1000, 503)])
def test_who_ends_many_tasks_does_not_keep_another_from_starting_theirs(ends: int, status: int) -> None:
    """It is decided again, on rights that stand still; who never lets them is told to come back."""

    async def act(world: World) -> None:
        left = iter(range(ends))

        def churn() -> None:
            if next(left, None) is not None:
                world.tasks.another_ends()

        world.policy.meanwhile = churn
        response = await world.send("POST", "/tasks", world.runner, json=start_body(world))
        assert response.status_code == status
        assert len(world.tasks.tasks) == (status == 201)
        effects = [entry.fields["effect"] for entry in world.sink.entries]
        assert effects == (["allow"] if status == 201 else ["allow", "deny"])

    run(act)


def test_the_settings_bound_the_lifetimes() -> None:
    async def act(world: World) -> None:
        task = await world.start(lifetime_seconds=4000)
        now = world.clock.now
        assert datetime.fromisoformat(task.answer["deadline"]) == now + timedelta(seconds=500)
        assert datetime.fromisoformat(task.answer["not_after"]) == now + timedelta(seconds=200)
        path, body = f"/tasks/{task.id}/jwt-svid", {"audience": BROKER}
        response = await world.send("POST", path, task.identity, json=body)
        assert response.json()["expires_in"] == 7

    run(act, settings=replace(SETTINGS, task_seconds=500, x509_svid_seconds=200, jwt_svid_seconds=7))
