"""`deputy approvals`, with a service beside the test."""

import json

import pytest
import yaml

from authz.cli import run
from authz.commands import approvals_do
from authz.commands.approvals_do import _arguments
from authz.visible import escaped
from tests.admin_world import uri
from tests.administration_world import ADA, ALICE, OLGA
from tests.approvals_world import ASKED, asked
from tests.test_cli_registry import Beside, beside

__all__ = ["beside"]
UNKNOWN = "01JD8Z7Y3M5E0QX2V9T4B6N8KZ"


@pytest.fixture
def waiting(beside: Beside) -> str:
    return beside.world.ask(ASKED)


def test_a_call_from_the_list_to_its_approval(beside: Beside, waiting: str) -> None:
    out, _ = beside.deputy("approvals", "list")
    head, row = out.splitlines()
    assert head.split() == ["id", "state", "person", "agent", "service", "what", "asked", "until"]
    assert row.split()[:6] == [waiting, "pending", uri("alice"), "listed", "billing", "delete_customer"]
    assert beside.deputy("approvals", "list", "-o", "name")[0] == f"{waiting}\n"
    out, _ = beside.deputy("approvals", "show", waiting)
    assert '"customer": "C-1"' in out
    assert "for agent" in out
    shown = json.loads(beside.deputy("approvals", "show", waiting, "-o", "json")[0])
    assert shown["arguments"] == {"customer": "C-1"}
    assert yaml.safe_load(beside.deputy("approvals", "show", waiting, "-o", "yaml")[0]) == shown
    out, err = beside.deputy("approvals", "approve", waiting, "--reason", "asked on the telephone")
    assert out == ""
    assert err.startswith(
        f"approved: agent listed asks, for {uri('alice')}, to use delete_customer of billing"
    )
    assert "once, until" in err
    assert beside.deputy("approvals", "list", "-o", "name")[0] == ""
    (row,) = json.loads(beside.deputy("approvals", "list", "--state", "any", "-o", "json")[0])
    assert (row["state"], row["reason"]) == ("approved", "asked on the telephone")
    assert "arguments" not in row
    _, err = beside.deputy("approvals", "approve", waiting, code=1)
    assert "does not wait for a decision" in err
    assert "[DPT-CHANGED]" in err


def test_a_person_decides_about_their_own(beside: Beside, waiting: str) -> None:
    others = beside.world.ask(asked(human=uri("olga")))
    assert beside.elsewhere(ALICE, "approvals", "list", "-o", "name")[0] == f"{waiting}\n"
    _, err = beside.elsewhere(ALICE, "approvals", "approve", others, code=1)
    assert "[DPT-NOT-PERMITTED]" in err
    _, err = beside.elsewhere(ALICE, "approvals", "deny", waiting)
    assert err.startswith("denied: ")
    out, _ = beside.elsewhere(OLGA, "approvals", "deny", others, "-o", "json")
    assert json.loads(out)["state"] == "denied"
    out, _ = beside.elsewhere(ADA, "approvals", "list", "--human", "*", "--state", "denied", "-o", "name")
    assert sorted(out.split()) == sorted([waiting, others])


def test_a_denial_for_another_needs_a_reason(beside: Beside, waiting: str) -> None:
    _, err = beside.deputy("approvals", "deny", waiting, code=1)
    assert "missing: reason" in err
    _, err = beside.deputy("approvals", "deny", waiting, "--reason", "a freeze")
    assert "it is not asked for again before" in err


def test_what_is_not_there_is_said(beside: Beside) -> None:
    for verb in ("show", "approve", "deny"):
        _, err = beside.deputy("approvals", verb, UNKNOWN, code=1)
        assert err == f"deputy: no approval '{UNKNOWN}' is asked for [DPT-REQUEST-MALFORMED]\n"


def test_what_an_agent_wrote_neither_hides_nor_steers(beside: Beside) -> None:
    """A line end that begins a line of its own, a mark that turns text round, a command to a terminal."""
    evil = "C-1\\n\\u001b[2Kperson  nobody\\u202e\\u2028\\u0000\\u200b"
    approval = beside.world.ask(asked(f'{{"customer":"{evil}"}}'))
    out, _ = beside.deputy("approvals", "show", approval)
    (line,) = [line for line in out.splitlines() if "C-1" in line]
    assert evil in line
    assert all(each.isprintable() for each in out.replace("\n", ""))
    assert len([line for line in out.splitlines() if line.startswith("person")]) == 1


def test_escaped_is_one_printable_line_and_one_reading() -> None:
    assert escaped("Müller 客户") == "Müller 客户"
    assert escaped("a\u202eb\x7f") == "a\\u202eb\\u007f"
    for code in range(0x3000):
        assert escaped(chr(code)).isprintable()


def test_a_text_that_fills_a_line_does_not_look_like_another_member() -> None:
    """Padded to the width of the terminal, its end would stand where a member stands."""
    text = "x".ljust(39) + "\uff02amount\uff02: 1,"
    lines = _arguments({"arguments": {"note": text, "amount": 900}}, 40)
    assert [title for title, _ in lines].count("  goes on") == 1
    members = [str(value) for title, value in lines if not title]
    assert [line.split(":")[0].strip() for line in members] == ['"note"', '"amount"', "}"]
    assert "".join(str(value) for _, value in lines) == json.dumps(
        {"note": text, "amount": 900}, indent=2, ensure_ascii=False
    ).replace("\n", "")


def test_letters_from_right_to_left_are_told_of() -> None:
    assert _arguments({"arguments": {"to": "\u05d0"}}, 40)[-1][0] == "note"
    assert _arguments({"arguments": {"to": "M\u00fcller"}}, 40)[-1][0] == ""


def test_arguments_that_are_gone_are_not_none(beside: Beside, waiting: str) -> None:
    beside.deputy("approvals", "deny", waiting, "--reason", "no")
    assert "not kept any more" in beside.deputy("approvals", "show", waiting)[0]
    without = beside.world.ask(asked(""))
    assert beside.deputy("approvals", "show", without)[0].splitlines()[-1].split() == ["arguments", "none"]


def test_watch_shows_each_call_once_as_it_comes(
    beside: Beside, waiting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    came = [waiting]

    def passes(_: float) -> None:
        """Between two looks something comes to wait; after the third look somebody presses Ctrl-C."""
        if len(came) == 3:
            raise KeyboardInterrupt
        came.append(beside.world.ask(asked(f'{{"n":{len(came)}}}')))

    monkeypatch.setattr(approvals_do, "sleep", passes)
    assert beside.deputy("approvals", "watch", "-o", "name")[0].split() == came
    out, _ = beside.deputy("approvals", "watch", "--timeout", "0")
    assert sorted(line.split()[0] for line in out.splitlines()) == sorted(["id", *came])
    out, _ = beside.deputy("approvals", "watch", "--timeout", "0", "-o", "json")
    assert sorted(json.loads(line)["id"] for line in out.splitlines()) == sorted(came)


def test_a_state_that_there_is_not_is_a_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["approvals", "list", "--state", "open"]) == 64
    assert "deputy approvals list --help" in capsys.readouterr().err
