"""The command line as a whole: exit codes, errors in one sentence, forms of output, terminals and signals."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from authz.cli import app, run
from authz.codes import Code
from authz.commands.output import Output, emit, emit_one, printable, say, tell
from identity.keys import SigningKey
from tests.service_files import ServiceFiles

ROOT = Path(__file__).parent.parent
ESCAPE = "\x1b"
HOSTILE = f"{ESCAPE}]0;owned\x07{ESCAPE}[31mred\u202eevil\u2066\r\n[bold]x[/bold]\u200b\x9b1m\ud800"


def deputy(*arguments: str, **more: Any) -> "subprocess.CompletedProcess[str]":
    """Run the real command as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "authz", *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        env=environment,
        timeout=60,
        **more,
    )


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    command = command or typer.main.get_command(app)
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


ALL = list(commands())
GROUPS = [path for path in ALL if any(other[: len(path)] == path and other != path for other in ALL)]


# Help


@pytest.mark.parametrize("path", ALL, ids=" ".join)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_has_help(path: tuple[str, ...], flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path, flag]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: {' '.join(('deputy', *path))} ")
    if path not in GROUPS:
        assert "Examples:\n" in out


@pytest.mark.parametrize("path", GROUPS, ids=" ".join)
def test_a_noun_alone_shows_its_help_and_is_a_usage_error(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(list(path)) == 64
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.parametrize("path", [path for path in ALL if path not in GROUPS], ids=" ".join)
def test_the_examples_of_a_command_can_be_read_by_it(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    run([*path, "--help"])
    text = re.sub(r"\\\n\s*", "", capsys.readouterr().out.partition("Examples:\n")[2])
    for line in text.splitlines():
        # Without the note behind a command, and what another command adds.
        for part in re.findall(r"(?<!-n1 )deputy [^|><&]*", re.sub(r" {2,}.*", "", line.strip())):
            words = shlex.split(part)[1:]
            context = typer.main.get_command(app)
            while words and hasattr(context, "commands"):
                context = context.commands[words.pop(0)]
            context.make_context("deputy", words)


# Usage


USAGE = [
    (["--bogus"], "see 'deputy --help'"),
    (["frobnicate"], "No such command 'frobnicate'"),
    (["decisions", "frobnicate"], "see 'deputy decisions --help'"),
    (["decisions", "get"], "Missing argument"),
    (["decisions", "list", "--limit", "0"], "--limit"),
    (["decisions", "list", "--limit", "x"], "--limit"),
    (["decisions", "list", "--effect", "maybe"], "--effect"),
    (["decisions", "list", "--since", "yesterday"], "write 15m, 2h, 7d"),
    (["decisions", "list", "--since", "999999d"], "not a time"),
    (["decisions", "list", "-o", "xml"], "'-o'"),
    (["decisions", "watch", "--seconds", "-1"], "--seconds"),
    (["policy", "eval"], "Missing argument"),
    (["policy", "build"], "--output"),
    (["version", "too", "much"], "too"),
    (["quickstart", "--engine", "magic"], "--engine"),
]


@pytest.mark.parametrize(("arguments", "says"), USAGE, ids=[" ".join(arguments) for arguments, _ in USAGE])
def test_a_wrong_command_line_is_64_and_one_sentence(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 64
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("deputy: ")
    assert captured.err.count("\n") == 1
    assert "--help'" in captured.err
    assert says in captured.err


def test_a_usage_error_of_the_real_command() -> None:
    done = deputy("decisions", "list", "--bogus")
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr == "deputy: No such option: --bogus; see 'deputy decisions list --help'\n"


# Errors


ERRORS = [
    ["serve", "--config", "/no/such/deputy.yaml"],
    ["serve", "--dev", "--config", "/no/such/deputy.yaml"],
    ["serve", "--directory", "x"],
    ["config", "validate", "/no/such/deputy.yaml"],
    ["decisions", "list", "--audit-dir", "/no/such/log"],
    ["decisions", "get", "X", "--audit-dir", "/no/such/log"],
    ["decisions", "watch", "--audit-dir", "/no/such/log", "--seconds", "0"],
    ["audit", "verify", "--config", "/no/such/deputy.yaml"],
    ["policy", "eval", "/no/such/input.json", "--grants", "/no/such/grants.yaml"],
]


@pytest.mark.parametrize("arguments", ERRORS, ids=" ".join)
def test_an_error_is_1_and_one_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("deputy: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve"],
        ["config", "validate"],
        ["decisions", "list"],
        ["decisions", "get", "X"],
        ["audit", "verify"],
    ],
    ids=" ".join,
)
def test_without_a_configuration_it_says_how_to_name_one(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEPUTY_CONFIG", raising=False)
    assert run(arguments) == 1
    assert "no deputy.yaml here: name one with --config FILE" in capsys.readouterr().err


def test_the_environment_names_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service = ServiceFiles(tmp_path / "service")
    monkeypatch.setenv("DEPUTY_CONFIG", str(service.path))
    assert run(["config", "validate", "-o", "name"]) == 0
    assert capsys.readouterr().out == f"{service.path}\n"


def test_a_path_with_control_characters_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--config", f"/no/{ESCAPE}[31m\n{ESCAPE}]0;owned\x07"]) == 1
    err = capsys.readouterr().err
    assert ESCAPE not in err
    assert err.count("\n") == 1


# config


def test_validate_says_what_is_there_and_what_is_odd(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = ServiceFiles(tmp_path / "service")
    text = service.path.read_text().replace("name: triage", "name: stranger")
    service.path.write_text(text.replace("ceiling: contributor", "ceiling: emperor", 1))
    assert run(["config", "validate", str(service.path), "-o", "json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["valid"], row["engine"], row["services"]) == (True, "embedded", ["billing", "tickets"])
    notes = " ".join(row["notes"])
    for part in (
        "'emperor' is no tier",
        "grants do not name it",
        "agent triage: the grants name it",
        "no providers",
    ):
        assert part in notes


@pytest.mark.parametrize(
    ("service", "says"),
    [
        ("", None),
        ("pins: 'off'", None),
        ("pins: require, answers: guarded", None),
        ("pins: learn", "service tickets: pins: learn learns nothing and notices no change"),
        ("pins: require", "service tickets: pins: require notices no change"),
        ("pins: require, protocol: a2a", "service tickets: pins: require is for mcp alone"),
    ],
)
def test_validate_says_where_pins_see_no_list(
    tmp_path: Path, service: str, says: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ServiceFiles(tmp_path / "service")
    audience = 'audience: "https://tickets.mesh.example"'
    files.path.write_text(files.path.read_text().replace(audience, f"{audience}, {service}".rstrip(", ")))
    assert run(["config", "validate", str(files.path), "-o", "json"]) == 0
    found = [note for note in json.loads(capsys.readouterr().out)["notes"] if "pins" in note]
    assert len(found) == (says is not None)
    assert says is None or (found[0].startswith(says) and ("mcp" in says or "answers: guarded" in found[0]))


def test_validate_reads_the_key_of_signed_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not the start is where somebody learns that it cannot be read."""
    server = "{name: mcp-test/tickets, service: tickets, tools: [read_ticket]}"
    gateways = f"gateways: [{{service: billing, servers: [{server}]}}]"
    files = ServiceFiles(tmp_path / "service", f"kuadrant: {{key: key.pem, {gateways}}}\n")
    assert run(["config", "validate", str(files.path)]) == 1
    assert "kuadrant.key" in capsys.readouterr().err
    (files.directory / "key.pem").write_text("s3cret")
    assert run(["config", "validate", str(files.path)]) == 1
    captured = capsys.readouterr()
    assert "kuadrant.key" in captured.err
    assert "s3cret" not in captured.err
    (files.directory / "key.pem").write_bytes(SigningKey.generate().reveal_pem())
    assert run(["config", "validate", str(files.path)]) == 0


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("grants.yaml", "", "grants.yaml: "),
        ("grants.yaml", "version: 1\n", "grants.yaml: "),
        ("rego/deputy.rego", "package deputy\n\ndecision := {}\n", "without a policy lock"),
        ("rego/readme.txt", "no Rego here\n", "without a module"),
    ],
)
def test_validate_looks_at_all_that_is_named(
    tmp_path: Path, name: str, text: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    service = ServiceFiles(tmp_path / "service", "policy: {rego: rego}\n" if "rego" in name else "")
    target = service.directory / name
    target.parent.mkdir(exist_ok=True)
    target.write_text(text)
    assert run(["config", "validate", str(service.path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("extra", "key"),
    [
        (
            "providers: [{issuer: https://idp.example, audiences: [x], ca_file: gone.pem}]\n",
            "providers[0].ca_file",
        ),
        (
            "policy: {engine: opa, opa: {url: https://opa, ca: gone.pem, certificate: c.pem, key: k.pem}}\n",
            "policy.opa.ca",
        ),
    ],
)
def test_validate_misses_a_file_that_is_named(
    tmp_path: Path, extra: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    service = ServiceFiles(tmp_path / "service", extra)
    assert run(["config", "validate", str(service.path)]) == 1
    assert f"{key}: there is no file" in capsys.readouterr().err


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["additionalProperties"] is False


# version, quickstart


def test_version_in_every_form(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("table", "json", "jsonl", "yaml", "name"):
        assert run(["version", "-o", form]) == 0
        out = capsys.readouterr().out
        if form == "name":
            assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+\S*\n", out)
        elif form != "table":
            assert {"deputy", "python", "grpcio"} <= yaml.safe_load(out).keys()


def test_quickstart_does_not_empty_a_directory_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert run(["quickstart", "--directory", str(tmp_path)]) == 1
    assert "name another one" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").exists()


# Output


ROW = {"id": "1", "name": HOSTILE, "list": [HOSTILE], "deep": {HOSTILE: HOSTILE}}


@pytest.mark.parametrize("form", list(Output))
def test_hostile_text_cannot_steer_a_terminal(form: Output, capsys: pytest.CaptureFixture[str]) -> None:
    emit([ROW], {"id": "id", "name": "name"}, form, name="name")
    emit_one(ROW, form, [("name", HOSTILE), (HOSTILE, "x")], name="name")
    out = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in out)
    if form in {Output.TABLE, Output.NAME}:
        assert "[bold]x[/bold]" in out


def test_hostile_text_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"deputy: {HOSTILE}")
    assert capsys.readouterr().err.count("\n") == 1
    emit([ROW], {"name": "name"}, Output.NAME, name="name")
    assert capsys.readouterr().out.count("\n") == 1


def test_what_machines_read_is_all_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    emit([ROW, ROW], {"id": "id"}, Output.JSON)
    assert json.loads(capsys.readouterr().out) == [ROW, ROW]
    emit([ROW, ROW], {"id": "id"}, Output.JSONL)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [ROW, ROW]


def test_nothing_is_a_list_without_members(capsys: pytest.CaptureFixture[str]) -> None:
    emit([], {"id": "id"}, Output.JSON)
    assert json.loads(capsys.readouterr().out) == []
    emit([], {"id": "id"}, Output.JSONL)
    emit([], {"id": "id"}, Output.NAME)
    assert capsys.readouterr().out == ""


def test_printable_keeps_what_people_read() -> None:
    assert printable("Grüße 日本 → µs") == "Grüße 日本 → µs"
    assert printable(None) == ""
    assert "\u202e" not in printable("a\u202eb")


def test_lines_that_are_told_can_be_copied(capsys: pytest.CaptureFixture[str]) -> None:
    command = f"curl {'--header x ' * 60}"
    tell([command, "done"])
    assert capsys.readouterr().err.splitlines() == [command, "done"]


def test_a_long_error_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    say("x" * 500)
    assert capsys.readouterr().err == f"{'x' * 500}\n"


def test_every_code_fits_the_column_of_watch() -> None:
    assert max(len(code.value) for code in Code) <= 24


# Terminals, pipes and signals, with the real command


def on_terminal(*arguments: str, **environment: str) -> str:
    """Run the real command on a terminal of its own, and return what it wrote there."""
    leader, follower = pty.openpty()
    given = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-m", "authz", *arguments],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**given, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "100", **environment},
    )
    os.close(follower)
    written = b""
    with suppress(OSError):
        while part := os.read(leader, 65536):
            written += part
    os.close(leader)
    process.wait(30)
    return written.decode()


def test_colour_is_for_terminals() -> None:
    assert ESCAPE in on_terminal("version")
    assert ESCAPE not in deputy("version").stdout


@pytest.mark.parametrize("how", ["environment", "before", "behind"])
def test_colour_can_be_switched_off(how: str) -> None:
    match how:
        case "environment":
            text = on_terminal("version", NO_COLOR="1")
        case "before":
            text = on_terminal("--no-color", "version")
        case _:
            text = on_terminal("version", "--no-color")
    # Bold is no colour.
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text)
    assert "python" in text


def test_no_color_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert run(["version", "-o", "name", "--no-color"]) == 0
    assert "NO_COLOR" not in os.environ
    monkeypatch.setenv("NO_COLOR", "yes")
    assert run(["version", "-o", "name", "--no-color"]) == 0
    assert os.environ["NO_COLOR"] == "yes"


@pytest.mark.parametrize("form", ["table", "json", "name"])
def test_a_reader_that_goes_away_is_no_error(form: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "authz", "version", "-o", form],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 1
    assert said == b""


def test_a_terminal_without_unicode_is_no_error(tmp_path: Path) -> None:
    for encoding in ("ascii", "cp1252"):
        done = deputy("decisions", "list", "--audit-dir", str(tmp_path), env={"PYTHONIOENCODING": encoding})
        assert (done.returncode, done.stderr) == (0, "")
    assert deputy("policy", "--help", env={"PYTHONIOENCODING": "cp437"}).returncode == 0


def test_ctrl_c_is_quiet() -> None:
    """A command that waits is interrupted as a terminal does it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "authz", "policy", "eval", "-", "--grants", "x"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    _until_it_reads(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"")


def _until_it_reads(process: "subprocess.Popen[bytes]") -> None:
    """Wait until the process waits for standard input."""
    deadline = time.monotonic() + 30
    where = Path(f"/proc/{process.pid}/wchan")
    while time.monotonic() < deadline and "pipe_read" not in where.read_text():
        time.sleep(0.01)
