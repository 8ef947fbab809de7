"""`deputy identity`: what it prints, what it exits with, and what it says to do when something is wrong."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

from authz.cli import run
from authz.commands.identity_lines import span
from identity.key_ring import KeyLife
from identity.live_authority import AuthoritySettings
from tests.identity_service_files import AdminFiles
from tests.service_files import ROOT, ServiceFiles

URL = "https://bundle.other.example/"
OTHER_BUNDLE = b'{"keys": [], "spiffe_sequence": 7}'
Deputy = Callable[..., tuple[int, str, str]]


@pytest.fixture
def admin(tmp_path: Path) -> AdminFiles:
    return AdminFiles(ServiceFiles(tmp_path / "service"))


@pytest.fixture
def service(admin: AdminFiles) -> Iterator[AdminFiles]:
    with admin.running():
        yield admin


@pytest.fixture
def deputy(admin: AdminFiles, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Deputy:
    monkeypatch.setenv("DEPUTY_CONFIG", str(admin.files.path))

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(["identity", *arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        assert captured.out.isprintable() or "\x1b" not in captured.out
        return code, captured.out, captured.err

    return call


def status(deputy: Deputy) -> dict[str, Any]:
    code, out, _ = deputy("status", "-o", "json")
    assert code == 0
    row: dict[str, Any] = json.loads(out)
    return row


def active(deputy: Deputy, role: str = "x509") -> str:
    roles = {one["role"]: one for one in status(deputy)["roles"]}
    (kid,) = [key["kid"] for key in roles[role]["keys"] if key["stage"] == "active"]
    return str(kid)


# Status


def test_status_of_a_running_service(service: AdminFiles, deputy: Deputy) -> None:
    row = status(deputy)
    assert (row["version"], row["running"]) == ("deputy.identity-status/v1", True)
    assert (row["trust_domain"], row["key_store"]) == ("mesh.example", "files")
    assert row["bundle_sequence"] == service.keys().current.sequence
    assert [one["role"] for one in row["roles"]] == ["x509", "jwt", "tokens"]
    for role in row["roles"]:
        assert role["next_step"]["action"] == "prepare"
        (key,) = role["keys"]
        assert (key["stage"], key["tainted"]) == ("active", False)
        assert key["age_seconds"] >= 0
    assert row["federation"] == []


def test_status_without_a_service_is_read_from_the_files_and_says_so(
    admin: AdminFiles, deputy: Deputy
) -> None:
    with admin.running():
        running = status(deputy)
    stopped = status(deputy)
    assert (running["running"], stopped["running"]) == (True, False)
    for one in (running, stopped):
        for role in one["roles"]:
            for key in role["keys"]:
                del key["age_seconds"]
        del one["running"], one["at"]
    assert running == stopped
    code, out, err = deputy("status")
    assert (code, err) == (0, "")
    assert "not running: this is what its files say" in out


def test_status_of_a_service_that_was_killed_is_read_from_the_files(
    admin: AdminFiles, deputy: Deputy
) -> None:
    admin.make_keys()
    with socket.socket(socket.AF_UNIX) as dead:  # a socket that nobody listens on any more
        dead.bind(str(admin.data / "admin.sock"))
    assert not status(deputy)["running"]


def test_status_for_people_says_what_comes_next(service: AdminFiles, deputy: Deputy) -> None:
    code, out, err = deputy("status")
    assert (code, err) == (0, "")
    assert re.search(r"service +running\n", out)
    assert re.search(r"private keys +in files\n", out)
    assert re.search(
        r"x509 +active +[\w-]{43} +\d+ s +in 23 h 59 min +next key published in 11 h 59 min", out
    )


def test_status_names_are_those_of_the_keys(service: AdminFiles, deputy: Deputy) -> None:
    names = deputy("status", "-o", "name")[1].splitlines()
    assert names == [slot.kid for ring in service.keys().current.rings.values() for slot in ring]


def test_status_before_the_first_start_says_what_to_do(deputy: Deputy) -> None:
    code, out, err = deputy("status")
    assert (code, out) == (1, "")
    assert "'deputy serve' makes them" in err


def test_status_of_keys_that_are_open_to_others_is_refused(admin: AdminFiles, deputy: Deputy) -> None:
    admin.make_keys()
    (admin.data / "keys").chmod(0o755)
    code, out, err = deputy("status")
    assert (code, out) == (1, "")
    assert "chmod 700 it" in err


def test_status_of_a_truncated_state_is_refused_and_never_guessed(admin: AdminFiles, deputy: Deputy) -> None:
    admin.make_keys()
    state = admin.data / "keys/state.json"
    state.write_bytes(state.read_bytes()[:100])
    code, out, err = deputy("status")
    assert (code, out) == (1, "")
    assert "restore it from a backup" in err


# Without a service


CHANGES = [
    ["rotate", "x509", "--now"],
    ["taint", "k" * 43],
    ["revoke", "k" * 43, "--yes"],
    ["federation", "add", "other.example", URL, "--profile", "https_web"],
    ["federation", "remove", "other.example"],
]


@pytest.mark.parametrize("arguments", CHANGES, ids=[" ".join(one[:2]) for one in CHANGES])
def test_a_change_without_a_service_says_how_to_start_it(
    admin: AdminFiles, deputy: Deputy, arguments: list[str]
) -> None:
    admin.make_keys()
    code, out, err = deputy(*arguments)
    assert (code, out) == (1, "")
    assert f"no service is running on the data directory {str(admin.data)!r}: start it with" in err


def test_a_file_in_the_place_of_the_socket_is_not_spoken_to(admin: AdminFiles, deputy: Deputy) -> None:
    admin.make_keys()
    (admin.data / "admin.sock").write_text("")
    code, _, err = deputy("taint", "k" * 43)
    assert code == 1
    assert "is not a socket" in err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_socket_of_another_user_is_not_spoken_to(service: AdminFiles, deputy: Deputy) -> None:
    os.chown(service.data / "admin.sock", 12345, 12345)
    code, _, err = deputy("taint", "k" * 43)
    assert code == 1
    assert "that of uid 12345: ask as that user" in err


def test_a_user_whom_the_service_does_not_run_as_is_told_so(admin: AdminFiles, deputy: Deputy) -> None:
    admin.our_uid = 12345
    with admin.running():
        code, out, err = deputy("status")
    assert (code, out) == (1, "")
    assert "answers uid 12345 alone" in err


# Rotation


def test_rotate_now_replaces_every_key_and_says_what_it_costs(service: AdminFiles, deputy: Deputy) -> None:
    before = {role: active(deputy, role) for role in ("x509", "jwt", "tokens")}
    code, out, err = deputy("rotate", "--now", "-o", "json")
    assert code == 0
    assert "until their next poll" in err
    row = json.loads(out)
    assert row["version"] == "deputy.identity-rotation/v1"
    assert {one["role"]: one["previous"] for one in row["rotated"]} == before
    for one in row["rotated"]:
        assert (one["stage"], one["seconds_left"]) == ("active", 0)
        assert active(deputy, one["role"]) == one["kid"] != one["previous"]


def test_rotate_one_role_leaves_the_others(service: AdminFiles, deputy: Deputy) -> None:
    tokens, jwt = active(deputy, "tokens"), active(deputy, "jwt")
    code, out, _ = deputy("rotate", "jwt", "--now", "-o", "name")
    assert code == 0
    assert out.strip() == active(deputy, "jwt") != jwt
    assert active(deputy, "tokens") == tokens


def test_rotate_waits_until_the_key_was_published_long_enough(
    tmp_path: Path, admin: AdminFiles, deputy: Deputy
) -> None:
    admin.settings = AuthoritySettings(KeyLife(lead=timedelta(seconds=2)))
    with admin.running():
        code, out, err = deputy("rotate", "x509", "-o", "jsonl")
        assert (code, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [rows[0]["stage"], rows[-1]["stage"]] == ["prepared", "active"]
    assert rows[0]["seconds_left"] == 2
    assert len({row["kid"] for row in rows}) == 1


def test_a_terminal_hears_of_the_wait(
    admin: AdminFiles, deputy: Deputy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    admin.settings = AuthoritySettings(KeyLife(lead=timedelta(seconds=1)))
    with admin.running():
        err = deputy("rotate", "jwt")[2]
    assert re.fullmatch(r"jwt: [\w-]{43} is published; it signs in 1 s\n", err)


def test_rotate_keys_that_are_not_switched_on(service: AdminFiles, deputy: Deputy) -> None:
    code, out, err = deputy("rotate", "wit", "--now")
    assert (code, out) == (1, "")
    assert "not switched on" in err


def test_rotate_of_an_unknown_role_is_a_usage_error(deputy: Deputy) -> None:
    assert deputy("rotate", "x510")[0] == 64


# Taint and revoke


def test_the_whole_drill_after_a_theft(service: AdminFiles, deputy: Deputy) -> None:
    stolen = active(deputy)
    assert deputy("rotate", "x509", "--now")[0] == 0
    code, out, err = deputy("taint", "--", stolen)
    assert code == 0
    assert "tainted" in out
    assert f"deputy identity revoke {'-- ' if stolen.startswith('-') else ''}{stolen}" in err
    assert "retired, tainted" in deputy("status")[1]
    sequence = status(deputy)["bundle_sequence"]
    code, out, _ = deputy("revoke", "--yes", "-o", "json", "--", stolen)
    assert code == 0
    row = json.loads(out)
    assert (row["change"], row["kid"], row["role"]) == ("revoke", stolen, "x509")
    assert row["bundle_sequence"] == sequence + 1
    assert stolen not in deputy("status")[1]
    assert [one.change for one in service.records] == ["prepare", "activate", "taint", "revoke"]


def test_taint_of_the_key_that_signs_says_rotate_first(service: AdminFiles, deputy: Deputy) -> None:
    code, out, err = deputy("taint", "--", active(deputy))
    assert (code, out) == (1, "")
    assert "rotate first" in err


def test_revoke_of_what_is_not_tainted_needs_force(service: AdminFiles, deputy: Deputy) -> None:
    old = active(deputy)
    deputy("rotate", "x509", "--now")
    code, _, err = deputy("revoke", "--yes", "--", old)
    assert code == 1
    assert "taint it first" in err
    assert deputy("revoke", "--yes", "--force", "--", old)[0] == 0


def test_revoke_asks_on_a_terminal_and_no_is_no(
    service: AdminFiles, deputy: Deputy, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = active(deputy)
    deputy("rotate", "x509", "--now")
    deputy("taint", "--", old)
    asked: list[str] = []

    def no(question: str, **_: object) -> None:
        asked.append(question)
        raise typer.Abort

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", no)
    code, out, _ = deputy("revoke", "--", old)
    assert (code, out) == (1, "")
    assert old in asked[0]
    assert old in deputy("status")[1]


@pytest.mark.parametrize("key", ["", "nothing", "\x1b]0;owned\x07", "k" * 10_000])
def test_a_key_that_is_not_there_is_one_printable_sentence(
    service: AdminFiles, deputy: Deputy, key: str
) -> None:
    code, out, err = deputy("taint", key)
    assert (code, out) == (1, "")
    assert "'deputy identity status' lists those there are" in err
    assert err.rstrip("\n").isprintable()
    assert len(err) < 300


# Federation


def test_a_trust_domain_whose_bundle_comes_is_added_listed_and_removed(
    service: AdminFiles, deputy: Deputy
) -> None:
    service.endpoint.document = OTHER_BUNDLE
    code, out, err = deputy("federation", "add", "other.example", URL, "--profile", "https_web", "-o", "json")
    assert (code, err) == (0, "")
    row = json.loads(out)
    assert (row["change"], row["trust_domain"], row["sequence"]) == ("added", "other.example", 7)
    assert deputy("federation", "list", "-o", "name")[1] == "other.example\n"
    assert "1 trust domain\n" in deputy("status")[1]
    assert deputy("federation", "remove", "other.example")[0] == 0
    assert json.loads(deputy("federation", "list", "-o", "json")[1]) == []


def test_a_bundle_that_cannot_be_fetched_yet_is_exit_4_and_kept(service: AdminFiles, deputy: Deputy) -> None:
    code, out, err = deputy("federation", "add", "other.example", URL, "--profile", "https_web")
    assert code == 4
    assert "nobody answers" in out
    assert "tried again and again" in err
    assert "1 of them with a problem" in deputy("status")[1]


def test_the_list_without_a_service_is_read_from_the_files(admin: AdminFiles, deputy: Deputy) -> None:
    with admin.running():
        deputy("federation", "add", "other.example", URL, "--profile", "https_web")
    (row,) = json.loads(deputy("federation", "list", "-o", "json")[1])
    assert (row["trust_domain"], row["url"], row["problem"]) == ("other.example", URL, "nobody answers")
    assert "other.example" in deputy("federation", "list")[1]


def test_the_first_bundle_of_an_endpoint_of_its_own_domain(
    service: AdminFiles, deputy: Deputy, tmp_path: Path
) -> None:
    arguments = ["federation", "add", "other.example", URL, "--profile", "https_spiffe"]
    arguments += ["--endpoint-id", "spiffe://other.example/bundle"]
    code, _, err = deputy(*arguments)
    assert code == 1
    assert "needs a first bundle" in err
    (tmp_path / "other.json").write_bytes(OTHER_BUNDLE)
    assert deputy(*arguments, "--bundle", str(tmp_path / "other.json"))[0] == 4
    (tmp_path / "large").write_bytes(b" " * 100_000)
    code, _, err = deputy(*arguments, "--bundle", str(tmp_path / "large"))
    assert code == 1
    assert "longer than" in err


BAD_ADDS = [
    (["mesh.example", URL, "--profile", "https_web"], 1, "our own trust domain"),
    (["spiffe://other.example", URL, "--profile", "https_web"], 1, "not a trust domain"),
    (["other.example", "http://x.example", "--profile", "https_web"], 1, "not the URL of a bundle endpoint"),
    (["other.example", URL, "--profile", "https_spiffe"], 1, "needs the SPIFFE ID"),
    (["other.example", URL, "--profile", "ftp"], 64, "--profile"),
    (["other.example", URL], 64, "--profile"),
    (["other.example", URL, "--profile", "https_web", "--bundle", "/nowhere"], 1, "No such file"),
]


@pytest.mark.parametrize(("arguments", "code", "says"), BAD_ADDS, ids=[one[2] for one in BAD_ADDS])
def test_a_wrong_relationship_is_refused(
    service: AdminFiles, deputy: Deputy, arguments: list[str], code: int, says: str
) -> None:
    got, out, err = deputy("federation", "add", *arguments)
    assert (got, out) == (code, "")
    assert says in err
    assert service.records == []


def test_removing_what_is_not_federated_is_an_error(service: AdminFiles, deputy: Deputy) -> None:
    code, _, err = deputy("federation", "remove", "other.example")
    assert code == 1
    assert "is not federated" in err


# Words


SPANS = [(0, "0 s"), (59, "59 s"), (60, "1 min"), (61, "1 min 1 s"), (7200, "2 h"), (90_000, "1 d 1 h")]


@pytest.mark.parametrize(("seconds", "text"), [*SPANS, (-5, "-5 s")])
def test_a_span_in_words(seconds: int, text: str) -> None:
    assert span(timedelta(seconds=seconds)) == text


def test_a_config_is_asked_for_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEPUTY_CONFIG", raising=False)
    assert run(["identity", "status"]) == 1
    assert "name one with --config FILE" in capsys.readouterr().err


def test_ctrl_c_leaves_the_next_key_published_and_the_same_command_goes_on(
    service: AdminFiles, deputy: Deputy
) -> None:
    before = active(deputy)
    process = subprocess.Popen(
        [sys.executable, "-m", "authz", "identity", "rotate", "x509", "-o", "jsonl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), "DEPUTY_CONFIG": str(service.files.path)},
    )
    assert process.stdout is not None
    published = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == (
        "the next key stays published and does not sign yet: run the same command again to go on from here\n"
    )
    assert active(deputy) == before
    assert deputy("rotate", "x509", "--now", "-o", "name")[1].strip() == published["kid"]
