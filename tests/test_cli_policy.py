"""`deputy policy`: a question decided and explained, from a file, with nothing written."""

import asyncio
import base64
import io
import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from authz.cli import run
from authz.commands.question import MAX_BYTES, Capture, PolicyInput, parse_question
from authz.errors import RequestError
from authz.pb import ext_authz_pb2 as pb
from authz.policy.live import read_grants
from authz.policy.modules import shipped_modules
from authz.policy.opa import OpaAddress, OpaClient, OpaPolicy
from authz.policy.opa_process import OpaProcess, start_opa
from tests.check_requests import check_request
from tests.fakes import NOW, READ_TICKET
from tests.policy.corpus import question
from tests.policy_questions import lists
from tests.service_files import AT, GRANTS, ServiceFiles

LEAD: dict[str, Any] = {"human": "lead", "agent": "resolver", "service": "billing"}
REFUND = {"tool": "refund", "args": {"amount": 40}}
TOO_MUCH = {"tool": "refund", "args": {"amount": 500}}


@pytest.fixture
def service(tmp_path: Path) -> ServiceFiles:
    return ServiceFiles(tmp_path / "service")


def write(path: Path, value: object) -> str:
    path.write_text(json.dumps(value))
    return str(path)


@pytest.fixture
def asked(tmp_path: Path) -> Any:
    def make(who: dict[str, Any], what: dict[str, Any]) -> str:
        return write(tmp_path / "input.json", question(who, what))

    return make


GRANTED = ["--grants", str(GRANTS)]


@pytest.mark.parametrize("verb", ["eval", "explain"])
def test_an_allow_exits_0(asked: Any, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", verb, asked(LEAD, REFUND), *GRANTED]) == 0
    assert capsys.readouterr().out.startswith("ALLOW ")


@pytest.mark.parametrize("verb", ["eval", "explain"])
@pytest.mark.parametrize(
    ("what", "title", "code"),
    [
        (TOO_MUCH, "DENY", "DPT-ARGUMENT-LIMIT"),
        ({"tool": "delete_customer"}, "APPROVE", "DPT-APPROVAL-REQUIRED"),
    ],
)
def test_a_deny_and_a_needed_approval_exit_2(  # noqa: PLR0917 - a case and its fixtures
    asked: Any, verb: str, what: dict[str, Any], title: str, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    who = {**LEAD, "ceilings": {"resolver": "contributor"}}
    assert run(["policy", verb, asked(who, what), *GRANTED]) == 2
    out = capsys.readouterr().out
    assert out.startswith(title)
    assert code in out


def test_eval_in_json_has_a_versioned_shape(asked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "eval", asked(LEAD, TOO_MUCH), *GRANTED, "-o", "json"]) == 2
    row = json.loads(capsys.readouterr().out)
    assert (row["version"], row["effect"], row["code"]) == (
        "deputy.decision/v1",
        "deny",
        "DPT-ARGUMENT-LIMIT",
    )
    assert sorted(row) == ["code", "detail", "effect", "obligations", "policy", "reasons", "version"]
    assert sorted(row["reasons"][0]) == ["audience", "code", "fix", "msg", "rule"]


def test_eval_says_what_a_token_would_carry(asked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "eval", asked(LEAD, {"ask": "exchange"}), *GRANTED, "-o", "jsonl"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["obligations"] == {"scopes": ["billing:destroy", "billing:read", "billing:write"]}


@pytest.mark.parametrize("form", ["json", "jsonl", "yaml", "name"])
def test_explain_in_every_form(asked: Any, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "explain", asked(LEAD, TOO_MUCH), *GRANTED, "-o", form]) == 2
    out = capsys.readouterr().out
    match form:
        case "name":
            assert out == "DPT-ARGUMENT-LIMIT\n"
        case "yaml":
            assert yaml.safe_load(out)["version"] == "deputy.explanation/v1"
        case _:
            assert json.loads(out)["version"] == "deputy.explanation/v1"


def test_explain_tells_rule_place_facts_and_the_way(asked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run(["policy", "explain", asked(LEAD, TOO_MUCH), *GRANTED])
    out = capsys.readouterr().out
    assert "within (limits.rego:" in out
    assert "wanted     /amount at least 0 and at most 100" in out
    assert "got        500" in out
    assert "would allow  argument: /amount at least 0 and at most 100, such as 100 in place of 500" in out
    assert "lead (lead) → resolver" in out
    assert "exact        yes" in out


def test_a_question_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    data = json.dumps(question(LEAD, REFUND)).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert run(["policy", "eval", "-", *GRANTED, "-o", "name"]) == 0


BAD = [
    (b"", "not JSON"),
    (b"[]", "neither a policy input"),
    (b"{}", "neither a policy input"),
    (b'{"version": "deputy.input/v2"}', "not known here"),
    (b'{"version": "deputy.input/v1"}', "lacks phase"),
    (b'{"a": 1, "a": 2}', "not JSON"),
    (b'{"version": NaN}', "not JSON"),
    (b'{"attributes": 5}', "not a CheckRequest"),
    (b'{"attributes": {"request": {"http": {"rawBody": "eyJ%%%"}}}}', "not base64"),
    (b'{"attributes": {"request": {"http": {"headerMap": {"headers": [{"rawValue": "a"}]}}}}}', "not base64"),
    (b'{"attributes": {"request": {"http": {"method": 7}}}}', "not a CheckRequest"),
    (b'{"attributes": {"source": {"principal": "\\ud800"}}}', "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b" " * (MAX_BYTES + 1), "larger than"),
]


@pytest.mark.parametrize(("data", "says"), BAD, ids=[says for _, says in BAD])
def test_what_is_no_question_is_one_sentence(
    tmp_path: Path, data: bytes, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "input.json"
    path.write_bytes(data)
    assert run(["policy", "eval", str(path), *GRANTED]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("deputy: input.json: ")
    assert says in captured.err
    assert captured.err.count("\n") == 1


def test_an_unknown_member_of_an_input_is_refused() -> None:
    value = {**question(LEAD, REFUND), "budget": 5}
    with pytest.raises(RequestError, match="unknown members"):
        parse_question(json.dumps(value).encode(), "x")


def test_an_unknown_member_of_a_check_request_is_ignored() -> None:
    value = {"attributes": {"request": {"time": "2026-11-21T08:00:00Z", "http": {"new": 1, "method": "GET"}}}}
    found = parse_question(json.dumps(value).encode(), "x")
    assert isinstance(found, Capture)
    assert pb.CheckRequest.FromString(found.data).attributes.request.http.method == "GET"


@pytest.mark.parametrize("member", ["raw_body", "rawBody"])
def test_a_body_may_be_base64_or_text(member: str) -> None:
    for http in ({member: base64.b64encode(READ_TICKET).decode()}, {"body": READ_TICKET.decode()}):
        found = parse_question(json.dumps({"attributes": {"request": {"http": http}}}).encode(), "x")
        assert isinstance(found, Capture)
        message = pb.CheckRequest.FromString(found.data).attributes.request.http
        assert (message.raw_body or message.body.encode()) == READ_TICKET


def test_an_input_is_the_question_as_it_stands() -> None:
    value = question(LEAD, REFUND)
    assert parse_question(json.dumps(value).encode(), "x") == PolicyInput(json.loads(json.dumps(value)))


def test_an_input_that_says_nothing_of_data_found_none() -> None:
    asked: Any = dict(question(LEAD, REFUND))
    del asked["payload"]
    found: Any = parse_question(json.dumps(asked).encode(), "x")
    assert found.query == {**asked, "payload": []}


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "eval", "/no/such/file", *GRANTED]) == 1
    assert "No such file" in capsys.readouterr().err


def test_without_configuration_and_grants_it_says_what_to_name(
    asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["policy", "eval", asked(LEAD, REFUND)]) == 1
    assert "--config" in capsys.readouterr().err


def test_the_configurations_grants_decide(service: ServiceFiles, asked: Any) -> None:
    assert run(["policy", "eval", asked(LEAD, REFUND), "--config", str(service.path)]) == 0
    grants = service.directory / "grants.yaml"
    grants.write_text(grants.read_text().replace("max: 100", "max: 10"))
    assert run(["policy", "eval", asked(LEAD, REFUND), "--config", str(service.path)]) == 2
    assert run(["policy", "eval", asked(LEAD, REFUND), "--config", str(service.path), *GRANTED]) == 0


# A captured CheckRequest


def ask_capture(service: ServiceFiles, path: Path, *more: str, verb: str = "eval") -> int:
    return run(["policy", verb, str(path), "--config", str(service.path), "--at", AT, *more])


def test_a_capture_is_decided_by_the_flow(service: ServiceFiles, capsys: pytest.CaptureFixture[str]) -> None:
    _, path = service.allowed_call()
    assert ask_capture(service, path) == 0
    assert "DPT-ALLOWED" in capsys.readouterr().out


def test_a_capture_is_explained_as_its_question(
    service: ServiceFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    _, path = service.allowed_call()
    assert ask_capture(service, path, "-o", "json", verb="explain") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["who"]["human"] == "https://idp.example#lead"
    assert found["who"]["chain"] == ["triage"]
    assert found["what"]["name"] == "read_ticket"
    assert found["replay"]["exact"] is False
    assert "those of today" in found["replay"]["because"][0]


def test_nothing_is_written(service: ServiceFiles) -> None:
    _, path = service.allowed_call()

    def files() -> dict[str, bytes]:
        found = (item for item in service.directory.rglob("*") if item.is_file())
        # SQLite's own shared memory of readers and writers holds no state.
        return {str(item): item.read_bytes() for item in found if not item.name.endswith(("-shm", "-wal"))}

    before = files()
    assert ask_capture(service, path, verb="explain") == 0
    assert files() == before


def test_a_capture_now_is_a_token_that_has_expired(
    service: ServiceFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    _, path = service.allowed_call()
    later = (NOW + timedelta(hours=2)).isoformat()
    assert run(["policy", "explain", str(path), "--config", str(service.path), "--at", later]) == 2
    out = capsys.readouterr().out
    assert "DPT-TOKEN-EXPIRED" in out
    assert "may allow  token: " in out
    assert "not asked" in out


def test_a_task_that_ended_later_counts_as_it_was(service: ServiceFiles) -> None:
    service.run_once()
    run_ = service.world.run("triage", ended_at=NOW + timedelta(minutes=1))
    path = service.capture(service.world.request(service.world.token(run_), run_))
    service.write_state()
    assert ask_capture(service, path) == 0
    later = (NOW + timedelta(minutes=2)).isoformat()
    assert run(["policy", "eval", str(path), "--config", str(service.path), "--at", later, "-o", "name"]) == 2


@pytest.mark.parametrize(
    ("asker", "code"),
    [("spiffe://mesh.example/ns/mesh/sa/gateway", 0), ("spiffe://mesh.example/ns/shop/sa/web", 2)],
)
def test_the_proxy_that_asked_can_be_named(service: ServiceFiles, asker: str, code: int) -> None:
    _, path = service.allowed_call()
    assert ask_capture(service, path, "--asker", asker) == code


def test_an_asker_that_is_no_spiffe_id_is_an_error(
    service: ServiceFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    _, path = service.allowed_call()
    assert ask_capture(service, path, "--asker", "gateway") == 1
    assert "gateway" in capsys.readouterr().err


def test_with_several_proxies_the_one_that_may_ask_is_assumed_and_told(
    service: ServiceFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    text = service.path.read_text()
    gateway = '{id: "spiffe://mesh.example/ns/mesh/sa/gateway", may_ask: [tickets, billing]}'
    other = '{id: "spiffe://mesh.example/ns/mesh/sa/other", may_ask: [billing]}'
    service.path.write_text(text.replace(gateway, f"{other}, {gateway}"))
    _, path = service.allowed_call()
    assert ask_capture(service, path, verb="explain") == 0
    assert "sa/gateway was assumed" in capsys.readouterr().out


def test_a_call_without_a_token_is_explained(
    service: ServiceFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    service.run_once()
    path = service.capture(check_request(READ_TICKET).SerializeToString())
    service.write_state()
    assert ask_capture(service, path, "-o", "json", verb="explain") == 2
    found = json.loads(capsys.readouterr().out)
    assert (found["code"], found["who"]["human"]) == ("DPT-TOKEN-MISSING", None)
    assert found["would_allow"] == [
        {
            "changes": [
                {"kind": "token", "what": "exchange the person's token at the broker and send it as Bearer"}
            ],
            "tried": False,
            "effect": None,
        }
    ]


def test_the_token_is_never_printed(service: ServiceFiles, capsys: pytest.CaptureFixture[str]) -> None:
    service.run_once()
    run_ = service.world.run("triage")
    token = service.world.token(run_)
    path = service.capture(service.world.request(token, run_))
    service.write_state()
    for form in ("table", "json", "yaml"):
        for verb in ("eval", "explain"):
            ask_capture(service, path, "-o", form, verb=verb)
    captured = capsys.readouterr()
    for part in token.split("."):
        assert part not in captured.out + captured.err


def test_a_capture_takes_a_configuration(service: ServiceFiles, capsys: pytest.CaptureFixture[str]) -> None:
    _, path = service.allowed_call()
    assert run(["policy", "eval", str(path), *GRANTED]) == 1
    assert "a CheckRequest takes --config" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["keys", "state.db"])
def test_a_service_that_never_ran_is_one_sentence(
    service: ServiceFiles, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    service.run_once()
    path = service.capture(check_request(READ_TICKET).SerializeToString())
    if missing == "keys":
        (service.directory / "data" / "keys" / "state.json").unlink()
    assert ask_capture(service, path) == 1
    assert "has 'deputy serve' run" in capsys.readouterr().err
    assert not (service.directory / "data" / "state.db").exists()


def test_a_time_that_is_none_is_a_usage_error(
    service: ServiceFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    _, path = service.allowed_call()
    assert run(["policy", "eval", str(path), "--config", str(service.path), "--at", "noon"]) == 64
    assert "not a time: 'noon'" in capsys.readouterr().err


# A real OPA


@pytest.fixture
def opa(opa_binary: Path, tmp_path: Path) -> Iterator[OpaProcess]:
    with start_opa(opa_binary, tmp_path / "opa", shipped_modules()) as process:
        yield process


def use_opa(service: ServiceFiles, socket: Path) -> list[str]:
    policy = f"policy: {{engine: opa, opa: {{url: 'unix://{socket}', timeout_ms: 5000}}}}\n"
    service.path.write_text(service.path.read_text() + policy)
    return ["--config", str(service.path)]


async def push(opa: OpaProcess, grants: Path) -> None:
    client = OpaClient(OpaAddress(f"unix://{opa.socket}", 5.0))
    policy = OpaPolicy(client, shipped_modules().digest, read_grants(grants))
    await policy.activate()
    await policy.close()
    await client.close()


async def data_of(opa: OpaProcess) -> object:
    client = OpaClient(OpaAddress(f"unix://{opa.socket}", 5.0))
    async with client.session().get("http://opa/v1/data/grants") as response:
        found = await response.json()
    await client.close()
    return found


def test_a_real_opa_decides_and_is_left_as_it_is(
    service: ServiceFiles, opa: OpaProcess, asked: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config = use_opa(service, opa.socket)
    assert run(["policy", "eval", asked(LEAD, REFUND), *config]) == 1
    assert "another policy or other data" in capsys.readouterr().err
    assert asyncio.run(data_of(opa)) == {}
    asyncio.run(push(opa, service.directory / "grants.yaml"))
    assert run(["policy", "eval", asked(LEAD, REFUND), *config]) == 0


def test_on_a_real_opa_only_questions_are_changed(
    service: ServiceFiles, opa: OpaProcess, asked: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config = use_opa(service, opa.socket)
    asyncio.run(push(opa, service.directory / "grants.yaml"))
    assert run(["policy", "explain", asked(LEAD, TOO_MUCH), *config, "-o", "json"]) == 2
    (way,) = json.loads(capsys.readouterr().out)["would_allow"]
    assert (way["effect"], way["changes"][0]["kind"]) == ("allow", "argument")
    assert run(["policy", "explain", asked({**LEAD, "human": "clerk"}, REFUND), *config, "-o", "json"]) == 2
    (way,) = json.loads(capsys.readouterr().out)["would_allow"]
    assert (way["tried"], way["changes"][0]["kind"]) == (False, "grant")


def test_an_opa_that_is_not_there_is_an_error_and_no_denial(
    service: ServiceFiles, tmp_path: Path, asked: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "opa.sock"
    use_opa(service, gone)
    assert run(["policy", "eval", asked(LEAD, REFUND), "--config", str(service.path)]) == 1
    assert "OPA does not answer" in capsys.readouterr().err
    _, path = service.allowed_call()
    assert ask_capture(service, path) == 1


def test_other_grants_are_not_for_a_real_opa(
    service: ServiceFiles, asked: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    use_opa(service, Path("/run/opa.sock"))
    assert run(["policy", "eval", asked(LEAD, REFUND), "--config", str(service.path), *GRANTED]) == 1
    assert "--grants is for the embedded engine" in capsys.readouterr().err


# Build


def test_build_writes_what_opa_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "opa"
    assert run(["policy", "build", "--output", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    names = {path.name for path in target.iterdir()}
    assert {"decision.rego", "deputy_revision.rego"} <= names
    assert not any(name.endswith("_test.rego") for name in names)
    assert run(["policy", "build", "--output", str(target)]) == 0


def test_build_takes_rego_of_ones_own(tmp_path: Path) -> None:
    rego = tmp_path / "rego"
    rego.mkdir()
    (rego / "mine.rego").write_text("package deputy\n\ndecision := {}\n")
    target = tmp_path / "opa"
    assert run(["policy", "build", "--rego", str(rego), "--output", str(target)]) == 0
    assert {path.name for path in target.iterdir()} == {"mine.rego", "deputy_revision.rego"}


def test_build_does_not_mix_with_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert run(["policy", "build", "--output", str(tmp_path)]) == 1
    assert "name an empty one" in capsys.readouterr().err


def test_build_of_a_directory_without_rego_is_refused(tmp_path: Path) -> None:
    assert run(["policy", "build", "--rego", str(tmp_path), "--output", str(tmp_path / "opa")]) == 1


@pytest.mark.parametrize("verb", ["eval", "explain"])
def test_a_question_about_a_list_has_no_verdict(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "input.json", lists("read_ticket"))
    assert run(["policy", verb, file, *GRANTED]) == 1
    assert "a question about a list has no verdict" in capsys.readouterr().err
