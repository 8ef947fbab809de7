"""`deputy agents|grants|people|workloads` and `deputy token revoke`, with a service beside the test."""

import asyncio
import json
import shutil
import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
import yaml

from authz.cli import run
from identity.names import new_ulid
from tests.admin_world import uri
from tests.administration_world import ALICE, DEPLOY, OLGA, OONA, Person, World, administration_world
from tests.broker_fakes import RUNNER
from tests.service_files import config_text
from tests.state_world import task

T = TypeVar("T")


@dataclass
class Beside:
    """A service in a thread, and the command line in this one."""

    world: World
    directory: Path
    capture: pytest.CaptureFixture[str]

    def deputy(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """Run a command on the socket; return output and errors."""
        return self.ask(*arguments, "--config", str(self.directory / "deputy.yaml"), code=code)

    def ask(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        self.capture.readouterr()
        found = run(arguments)
        out, err = self.capture.readouterr()
        assert found == code, (found, out, err)
        assert "Traceback" not in err
        return out, err

    def elsewhere(self, person: Person, *arguments: str, code: int = 0) -> tuple[str, str]:
        """Run a command as a person, at the broker's URL."""
        token = self.world.token(person)
        path = self.directory / "id-token"
        path.write_text(token + "\n")
        shown = ("--url", self.world.base, "--ca", str(self.ca()), "--token-file", str(path))
        out, err = self.ask(*arguments, *shown, code=code)
        assert token not in out + err
        return out, err

    def ca(self) -> Path:
        path = self.directory / "ca.pem"
        path.write_text(self.world.brokers.roots)
        return path

    def file(self, name: str = "travel", **more: object) -> str:
        path = self.directory / f"{name}.yaml"
        agent = {
            "name": name,
            "owner": uri("oona"),
            "sponsor": uri("sid"),
            "purpose": "books flights",
            "ceiling": "helper",
            "hosts": [str(RUNNER)],
        }
        path.write_text(yaml.safe_dump({**agent, **more}))
        return str(path)


@pytest.fixture
def beside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Beside]:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (tmp_path / "deputy.yaml").write_text(config_text())
    shutil.copy(Path(__file__).parents[1] / "authz/demo/grants.yaml", tmp_path / "grants.yaml")
    running: Future[tuple[World, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        over = asyncio.Event()
        async with administration_world(data) as world:
            running.set_result((world, asyncio.get_running_loop(), over))
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    world, loop, over = running.result(timeout=60)
    yield Beside(world, tmp_path, capsys)
    loop.call_soon_threadsafe(over.set)
    thread.join(timeout=30)


# ---------------------------------------------------------------- agents


def test_an_agent_from_its_registration_to_its_end(beside: Beside) -> None:
    out, _ = beside.deputy("agents", "register", beside.file())
    assert "travel" in out
    assert "managed_by" in out
    out, _ = beside.deputy("agents", "list")
    assert out.splitlines()[0].split() == [
        "name",
        "owner",
        "sponsor",
        "ceiling",
        "expires",
        "by",
        "contained",
    ]
    assert beside.deputy("agents", "list", "-o", "name")[0] == "listed\ntravel\n"
    rows = json.loads(beside.deputy("agents", "list", "-o", "json")[0])
    assert [row["name"] for row in rows] == ["listed", "travel"]
    assert beside.deputy("agents", "get", "travel", "-o", "name")[0] == "travel\n"
    assert json.loads(beside.deputy("agents", "get", "travel", "-o", "json")[0])["managed_by"] == "api"
    _, err = beside.deputy("agents", "retire", "travel", "--reason", "replaced")
    assert err.startswith("agent travel is retired: epoch ")
    _, err = beside.deputy("agents", "get", "travel", code=1)
    assert err == "deputy: no agent 'travel' is registered [DPT-REQUEST-MALFORMED]\n"


def test_what_is_shown_as_yaml_can_be_edited_and_sent_back(beside: Beside) -> None:
    beside.deputy("agents", "register", beside.file(expires_at="2031-01-01T00:00:00Z", sandbox="gvisor"))
    before = beside.world.state.agent("travel")
    out, _ = beside.deputy("agents", "get", "travel", "-o", "yaml")
    path = beside.directory / "again.yaml"
    path.write_text(out)
    again, _ = beside.deputy("agents", "change", str(path), "-o", "yaml")
    assert again == out
    assert beside.world.state.agent("travel") == before
    path.write_text(out.replace("books flights", "books trains"))
    beside.deputy("agents", "change", str(path))
    changed = beside.world.state.agent("travel")
    assert changed is not None
    assert changed.purpose == "books trains"
    # As somebody writes it who knows YAML.
    path.write_text(out.replace("'2031-01-01T00:00:00Z'", "2032-01-01T00:00:00Z"))
    beside.deputy("agents", "change", str(path))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"name: [", "travel.yaml"),
        (b"- name: travel\n", "does not hold one agent"),
        (b"{}", "missing: ceiling"),
        (b"name: travel\nname: travel\n", "travel.yaml"),
        (b"x" * 70_000, "travel.yaml"),
        (b"\xff", "travel.yaml"),
        (b"name: travel\nowner: a\nsponsor: b\npurpose: c\nceiling: d\nhosts: []\n", "hosts"),
        (
            b"name: travel\nowner: a\nsponsor: b\npurpose: c\nceiling: d\nhosts: [x]\nwhat: 1\n",
            "unknown: what",
        ),
    ],
)
def test_a_file_that_is_no_agent_is_one_sentence(beside: Beside, content: bytes, says: str) -> None:
    path = beside.directory / "travel.yaml"
    path.write_bytes(content)
    _, err = beside.deputy("agents", "register", str(path), code=1)
    assert err.startswith("deputy: ")
    assert err.count("\n") == 1
    assert says in err


def test_a_file_that_is_not_there_and_one_without_a_name(beside: Beside) -> None:
    _, err = beside.deputy("agents", "register", str(beside.directory / "nothing.yaml"), code=1)
    assert "cannot read" in err
    path = beside.directory / "nameless.yaml"
    path.write_text("owner: a\n")
    assert "does not say the agent's name" in beside.deputy("agents", "change", str(path), code=1)[1]


def test_contain_and_release_say_when_the_last_replica_obeyed(beside: Beside) -> None:
    beside.deputy("agents", "register", beside.file())
    for verb, reason in (("contain", "odd bookings"), ("release", "looked into it")):
        _, err = beside.deputy("agents", verb, "travel", "--reason", reason)
        assert "obeyed at once: there is no replica" in err
        assert f"agent travel is {verb}" in err
    out, _ = beside.deputy("agents", "contain", "travel", "--reason", "again", "--no-wait", "-o", "json")
    assert json.loads(out)["kind"] == "agent"
    assert "obeyed" not in json.loads(out)
    shown, _ = beside.deputy("agents", "list")
    assert "again" in shown


def test_one_replica_that_does_not_obey_is_exit_4(beside: Beside) -> None:
    beside.deputy("agents", "register", beside.file())

    async def behind(epoch: int) -> dict[str, object]:
        return {
            "everywhere": False,
            "replicas": {"a": {"address": "x", "seconds": 0.1}},
            "expired": [],
            "behind": ["b\x1b[31m"],
            "malformed": [],
        }

    async def all_obey(epoch: int) -> dict[str, object]:
        replicas = {"a": {"address": "x", "seconds": 0.1}, "b": {"address": "y", "seconds": 0.25}}
        return {"everywhere": True, "replicas": replicas, "expired": ["c"], "behind": [], "malformed": []}

    barrier = beside.world.barrier
    barrier.answer = behind
    _, err = beside.deputy("agents", "contain", "travel", "--reason", "x", code=4)
    assert "NOT OBEYED EVERYWHERE: b" in err
    assert "\x1b" not in err
    barrier.answer = all_obey
    _, err = beside.deputy("agents", "release", "travel", "--reason", "x")
    assert "all 2 replicas obey, 1 ended meanwhile, the last after 0.250 s" in err


def test_orphans_are_findings_until_they_are_retired(beside: Beside) -> None:
    beside.deputy("agents", "register", beside.file())
    assert beside.deputy("agents", "sweep", "-o", "name")[0] == ""
    beside.deputy("people", "contain", uri("oona"), "--reason", "has left")
    out, _ = beside.deputy("agents", "sweep", code=3)
    assert "its owner is contained" in out
    _, err = beside.deputy("agents", "sweep", "--retire", code=1)
    assert "--retire needs --reason" in err
    # What stands in deputy.yaml stays, and is said.
    _, err = beside.deputy("agents", "sweep", "--retire", "--reason", "yearly", code=3)
    assert "travel: retired" in err
    assert "listed: stands in deputy.yaml" in err


def test_text_of_others_cannot_steer_the_terminal(beside: Beside) -> None:
    beside.deputy("agents", "register", beside.file())
    found = beside.world.state.agent("travel")
    assert found is not None
    steering = replace(found, purpose="\x1b[2J\u202egood", owner="o\nwner")
    beside.world.state.change_agent(steering, beside.world.brokers.clock.now)
    for output in ("table", "json", "yaml", "name", "jsonl"):
        for command in (("list",), ("get", "travel")):
            out, err = beside.deputy("agents", *command, "-o", output)
            assert "\x1b" not in out + err
            assert "\u202e" not in out + err


# ---------------------------------------------------------------- people, workloads, tokens


@pytest.mark.parametrize(
    ("group", "subject"), [("people", uri("alice")), ("workloads", str(DEPLOY)), ("agents", "listed")]
)
def test_each_kind_is_contained_and_released(beside: Beside, group: str, subject: str) -> None:
    _, err = beside.deputy(group, "contain", subject, "--reason", "drill")
    assert f"{subject} is contained" in err
    assert len(beside.world.state.withdrawals) == 1
    out, _ = beside.deputy(group, "release", subject, "--reason", "over", "-o", "yaml")
    assert yaml.safe_load(out)["released"] is True
    assert len(beside.world.state.withdrawals) == 0
    _, err = beside.deputy(group, "release", subject, "--reason", "over", code=1)
    assert "is not contained" in err


def test_signing_a_person_out_contains_nobody(beside: Beside) -> None:
    _, err = beside.deputy("people", "sign-out", uri("alice"), "--reason", "laptop lost")
    assert "is signed out" in err
    (held,) = beside.world.state.withdrawals.items
    assert not held.is_containment


@pytest.mark.parametrize(
    ("option", "subject", "kind"), [("--jti", "j" * 22, "token"), ("--txn", "t" * 22, "txn")]
)
def test_a_token_or_all_of_a_sign_in_is_revoked(beside: Beside, option: str, subject: str, kind: str) -> None:
    _, err = beside.deputy("token", "revoke", option, subject, "--reason", "in a log")
    assert err.startswith(f"{kind} {subject} is revoked: epoch ")
    assert "obeyed at once" in err
    assert (
        beside.deputy("token", "revoke", option, subject, "--reason", "x", "-o", "name")[0] == subject + "\n"
    )


def test_a_run_of_an_agent_is_revoked(beside: Beside) -> None:
    now = beside.world.brokers.clock.now
    run_ = replace(task(1, "listed"), started_at=now, deadline=now + timedelta(hours=1))
    beside.world.state.start_task(run_, now)
    _, err = beside.deputy("token", "revoke", "--task", run_.id, "--reason", "in circles")
    assert f"task {run_.id} is revoked" in err
    unknown = new_ulid(now, bytes(10))
    assert "no task" in beside.deputy("token", "revoke", "--task", unknown, "--reason", "x", code=1)[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name one thing"),
        (("--jti", "a", "--txn", "b"), "name one thing"),
        (("--jti", "a", "--lineage"), "--lineage belongs to FILE"),
        (("nothing.jwt",), "cannot read the token in 'nothing.jwt'"),
    ],
)
def test_what_to_revoke_is_named_once(beside: Beside, arguments: tuple[str, ...], says: str) -> None:
    _, err = beside.deputy("token", "revoke", *arguments, "--reason", "x", code=1)
    assert says in err


def test_a_token_in_place_of_a_file_is_not_printed(beside: Beside) -> None:
    token = beside.world.token(ALICE)
    _, err = beside.deputy("token", "revoke", token, "--reason", "x", code=1)
    assert token not in err
    assert "write it into a file" in err
    _, err = beside.ask("agents", "list", "--url", beside.world.base, "--token-file", token, code=1)
    assert token not in err


@pytest.mark.parametrize("content", ["", "  \n", "two words", "x" * 20_000, "\u00e9"])
def test_a_file_that_holds_no_token(beside: Beside, content: str) -> None:
    path = beside.directory / "token"
    path.write_text(content)
    _, err = beside.deputy("token", "revoke", str(path), "--reason", "x", code=1)
    assert "does not hold one token" in err


def test_a_token_of_nobody_is_refused_and_not_printed(beside: Beside) -> None:
    token = beside.world.token(ALICE)
    path = beside.directory / "token.jwt"
    path.write_text(token)
    out, err = beside.deputy("token", "revoke", str(path), "--reason", "x", code=1)
    assert token not in out + err
    assert "[DPT-TOKEN-" in err


# ---------------------------------------------------------------- grants


def test_a_person_makes_sees_and_revokes_a_grant(beside: Beside) -> None:
    create = ("grants", "create", "listed", "--scope", "tickets:read", "--tool", "tickets/read_ticket")
    out, _ = beside.elsewhere(ALICE, *create, "--for", "8h", "-o", "json")
    made = json.loads(out)
    assert (made["human"], made["tools"]) == (uri("alice"), ["tickets/read_ticket"])
    shown, _ = beside.elsewhere(ALICE, *create)
    assert "tickets:read; only tickets/read_ticket" in shown
    assert "nobody" in shown
    table, _ = beside.elsewhere(ALICE, "grants", "list")
    assert made["id"] in table
    assert "tickets:read; only tickets/read_ticket" in table
    _, err = beside.elsewhere(ALICE, "grants", "revoke", made["id"])
    assert f"grant {made['id']} is revoked, and what came of it" in err
    rows = json.loads(beside.elsewhere(ALICE, "grants", "list", "-o", "json")[0])
    assert sorted(row["state"] for row in rows) == ["live", "revoked"]


def test_an_operator_sees_and_revokes_grants_of_others_for_a_reason(beside: Beside) -> None:
    out, _ = beside.elsewhere(ALICE, "grants", "create", "listed", "--scope", "tickets:read", "-o", "name")
    grant = out.strip()
    assert beside.deputy("grants", "list", "-o", "name")[0] == out
    assert beside.elsewhere(OLGA, "grants", "list", "--human", "*", "-o", "name")[0] == out
    assert beside.elsewhere(OLGA, "grants", "list", "-o", "name")[0] == ""
    assert beside.deputy("grants", "list", "--agent", "another", "-o", "name")[0] == ""
    assert beside.deputy("grants", "list", "--human", uri("alice"), "-o", "name")[0] == out
    assert "missing: reason" in beside.deputy("grants", "revoke", grant, code=1)[1]
    beside.deputy("grants", "revoke", grant, "--reason", "she has left")


def test_nobody_grants_on_the_socket(beside: Beside) -> None:
    _, err = beside.deputy("grants", "create", "listed", "--scope", "tickets:read", code=1)
    assert "a grant is made by the person who signed in" in err


@pytest.mark.parametrize("lasting", ["", "7", "d7", "7w", "7 d", "99999d", "-7d"])
def test_a_time_that_is_none(beside: Beside, lasting: str) -> None:
    _, err = beside.deputy(
        "grants", "create", "listed", "--scope", "tickets:read", f"--for={lasting}", code=1
    )
    assert "write 90m, 8h or 7d" in err


# ---------------------------------------------------------------- elsewhere, and what goes wrong


def test_a_workload_administers_with_its_certificate(beside: Beside) -> None:
    identity = beside.world.workload(DEPLOY)
    cert, key = beside.directory / "cert.pem", beside.directory / "key.pem"
    cert.write_text(ssl.DER_cert_to_PEM_cert(identity.der))
    key.write_bytes(identity.key.reveal_pem())
    where = ("--url", beside.world.base, "--ca", str(beside.ca()), "--cert", str(cert), "--key", str(key))
    assert beside.ask("agents", "list", "-o", "name", *where)[0] == "listed\n"


def test_what_is_not_permitted_says_whom_to_ask(beside: Beside) -> None:
    _, err = beside.elsewhere(ALICE, "agents", "list", code=1)
    assert "you may not administer this" in err
    assert "ask an operator" in err
    assert "[DPT-NOT-PERMITTED]" in err
    beside.deputy("agents", "register", beside.file())
    _, err = beside.elsewhere(OONA, "agents", "change", beside.file(ceiling="contributor"), code=1)
    assert "[DPT-NOT-PERMITTED]" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--token-file", "x"), "belong to --url"),
        (("--cert", "x"), "belong to --url"),
        (("--ca", "x"), "belong to --url"),
        (("--url", "https://broker.example"), "say who you are"),
        (("--url", "http://broker.example", "--token-file", "x"), "https"),
        (("--url", "https://broker.example/?a=b", "--token-file", "x"), "https"),
        (("--url", "https://[broken", "--token-file", "x"), "https"),
        (("--url", "https://user@broker.example", "--token-file", "x"), "https"),
        (("--url", "https://broker.example", "--cert", "x"), "go together"),
        (
            ("--url", "https://broker.example", "--token-file", "x", "--cert", "y", "--key", "z"),
            "who you are",
        ),
        (("--url", "https://broker.example", "--token-file", "x", "--ca", "nothing.pem"), "PEM"),
        (("--url", "https://broker.example", "--cert", "nothing.pem", "--key", "nothing.pem"), "PEM"),
        (("--url", "https://broker.example", "--token-file", "nothing"), "cannot read the token"),
    ],
)
def test_options_that_do_not_go_together(beside: Beside, arguments: tuple[str, ...], says: str) -> None:
    _, err = beside.deputy("agents", "list", *arguments, code=1)
    assert err.startswith("deputy: ")
    assert err.count("\n") == 1
    assert says in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("agents", "contain", "travel"),
        ("agents", "get"),
        ("agents", "list", "-o", "xml"),
        ("agents", "list", "--surprise"),
        ("grants", "create", "listed"),
        ("people", "nothing"),
        ("token", "revoke"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_64(beside: Beside, arguments: tuple[str, ...]) -> None:
    _, err = beside.deputy(*arguments, code=64)
    assert "--help" in err


def test_a_name_that_would_be_another_path_is_only_a_name(beside: Beside) -> None:
    for name in ("..", "../grants", "a?b", "a#b", "%2e%2e", "listed/retire"):
        _, err = beside.deputy("agents", "get", name, code=1)
        assert "is registered" in err or "no such endpoint" in err
    assert "a name is empty" in beside.deputy("agents", "get", "", code=1)[1]


def test_no_service_is_running(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "deputy.yaml").write_text(config_text())
    shutil.copy(Path(__file__).parents[1] / "authz/demo/grants.yaml", tmp_path / "grants.yaml")

    def said() -> str:
        assert run(["agents", "list", "--config", str(tmp_path / "deputy.yaml")]) == 1
        return capsys.readouterr().err

    assert "start it with 'deputy serve" in said()
    (tmp_path / "data").mkdir(mode=0o700)
    assert "start it with 'deputy serve" in said()
    socket_path = tmp_path / "data" / "api.sock"
    _leave(socket_path)
    assert stat.S_ISSOCK(socket_path.lstat().st_mode)
    assert "start it with 'deputy serve" in said()
    socket_path.unlink()
    socket_path.write_text("a file")
    assert "ask as the user who runs the service" in said()
    socket_path.unlink()
    socket_path.symlink_to("/dev/null")
    assert "ask as the user who runs the service" in said()


def _leave(path: Path) -> None:
    """Leave a socket behind, as a process that was killed does."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))


def test_a_service_elsewhere_that_is_none(beside: Beside) -> None:
    path = beside.directory / "id-token"
    path.write_text("token")
    shown = ("--ca", str(beside.ca()), "--token-file", str(path))
    _, err = beside.ask("agents", "list", "--url", "https://localhost:1", *shown, code=1)
    assert "cannot be reached" in err
    # TLS is checked: by the system's CAs it is nobody.
    _, err = beside.ask("agents", "list", "--url", beside.world.base, "--token-file", str(path), code=1)
    assert "certificate" in err.lower()
