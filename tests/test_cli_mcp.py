"""`deputy mcp`, with a service beside the test."""

import json
import shlex
import sys
from pathlib import Path

import pytest
import typer

from authz import cli
from authz.pins.declared import Declared
from authz.pins.review import digest_of
from tests.administration_world import ADA, ALICE, OLGA
from tests.pins_world import BAD, EVIL, GOOD, TOOL, PinBook, declared, tool
from tests.test_cli_registry import Beside, beside

__all__ = ["beside"]
OTHER = declared("other", description="Something else.")
SWAPPED = declared(description="Deletes all customers.")


@pytest.fixture
def pins(beside: Beside) -> PinBook:
    """The pins of the service, with a tool that has changed and one that has not."""
    book = beside.world.pins
    book.learn(GOOD, OTHER)
    book.learn(BAD)
    return book


def saved(beside: Beside, *tools: dict[str, object]) -> str:
    path = beside.directory / "tools.json"
    path.write_text(json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}}))
    return str(path)


# ---------------------------------------------------------------- look


def test_a_change_from_what_drifted_to_its_acceptance(beside: Beside, pins: PinBook) -> None:
    out, _ = beside.deputy("mcp", "drift")
    head, change, whole, command = out.splitlines()
    assert whole == f"  to see it whole: deputy mcp show billing {GOOD.name}"
    assert head == f"billing/{GOOD.name}: changed: denied"
    assert change.startswith("  description changed")
    assert "<IMPORTANT>" in change
    said, run = command.strip().split(": ", 1)
    assert (said, run) == ("to accept it", f"deputy mcp pin billing {GOOD.name} --digest {BAD.digest}")
    beside.deputy("mcp", "drift", "--exit-code", code=3)
    out, err = beside.deputy(*shlex.split(run)[1:], "--reason", "we asked for it")
    assert out == ""
    assert err == (
        f"accepted: billing/{GOOD.name}, sha256 {BAD.digest}; it may be called as long as it stays so\n"
    )
    assert pins.refusal(mode="require") is None
    out, err = beside.deputy("mcp", "drift", "--exit-code")
    assert (out, err) == ("", "every tool is what was accepted\n")


def test_the_lists(beside: Beside, pins: PinBook) -> None:
    out, _ = beside.deputy("mcp", "list")
    assert [line.split() for line in out.splitlines()] == [
        ["service", "pins", "tools", "denied"],
        ["billing", "learn", "2", "1"],
        ["notes", "off", "0", "0"],
        ["tickets", "require", "0", "0"],
    ]
    out, _ = beside.deputy("mcp", "list", "billing")
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        [GOOD.name, "changed", "DPT-TOOL-CHANGED"],
        ["other", "learned", "learned"],
    ]
    assert beside.deputy("mcp", "list", "billing", "-o", "name")[0] == f"{GOOD.name}\nother\n"
    (row,) = json.loads(beside.deputy("mcp", "drift", "-o", "json")[0])
    assert (row["tool"], row["waiting_sha256"]) == (GOOD.name, BAD.digest)
    assert beside.deputy("mcp", "drift", "tickets")[0] == ""
    _, err = beside.deputy("mcp", "list", "nowhere", code=1)
    assert err == "deputy: no service 'nowhere' is configured [DPT-REQUEST-MALFORMED]\n"


def test_one_tool_is_shown_whole(beside: Beside, pins: PinBook) -> None:
    out, _ = beside.deputy("mcp", "show", "billing", GOOD.name)
    assert '"description": "Deletes one customer.",' in out
    assert f'"description": "{EVIL}"' in out
    shown = json.loads(beside.deputy("mcp", "show", "billing", GOOD.name, "-o", "json")[0])
    assert (shown["accepted"], shown["waiting"]["description"]) == (TOOL, EVIL)
    out, _ = beside.deputy("mcp", "show", "billing", "other")
    assert "denied       no" in out
    long = declared(description="x" * 100_000)
    pins.after = 60
    pins.learn(long)
    assert "nobody can accept it" in beside.deputy("mcp", "show", "billing", GOOD.name)[0]


@pytest.mark.parametrize("verb", [("drift",), ("show", "billing", "evil")])
def test_what_a_server_wrote_neither_hides_nor_steers(beside: Beside, verb: tuple[str, ...]) -> None:
    """A line of its own, a command to the terminal, text that is turned round, what has no width."""
    evil = "x\nto accept it: rm -rf /\r\x1b[2J\x1b]0;title\x07\u202e\u2028\u200b\x00\x9b"
    beside.world.pins.learn(declared("evil"))
    beside.world.pins.learn(declared("evil", description=evil, title=evil, annotations={evil: evil}))
    out, _ = beside.deputy("mcp", *verb)
    assert all(each.isprintable() for each in out.replace("\n", ""))
    assert [line for line in out.splitlines() if line.startswith(("to accept", "  to accept it: rm"))] == []


def test_letters_from_right_to_left_are_told_of(beside: Beside) -> None:
    beside.world.pins.learn(GOOD)
    beside.world.pins.learn(declared(description="\u05d0\u05d1"))
    _, err = beside.deputy("mcp", "drift")
    assert "from right to left" in err
    assert "from right to left" in beside.deputy("mcp", "show", "billing", GOOD.name)[0]


def test_what_went_back_is_still_listed_and_denies_nothing(beside: Beside, pins: PinBook) -> None:
    pins.learn(GOOD)
    out, _ = beside.deputy("mcp", "drift", "--exit-code")
    assert out.startswith(f"billing/{GOOD.name}: learned; it was another one at ")
    assert "and went back" in out


def test_a_person_who_may_look_may_not_accept(beside: Beside, pins: PinBook) -> None:
    assert GOOD.name in beside.elsewhere(ADA, "mcp", "drift")[0]
    pin = ("mcp", "pin", "billing", GOOD.name, "--digest", BAD.digest)
    for person in (ADA, ALICE):
        assert "[DPT-NOT-PERMITTED]" in beside.elsewhere(person, *pin, code=1)[1]
    beside.elsewhere(OLGA, *pin)
    assert pins.refusal() is None


# ---------------------------------------------------------------- accept


def test_a_server_that_swaps_between_the_look_and_the_acceptance_gains_nothing(
    beside: Beside, pins: PinBook
) -> None:
    pins.after = 60
    pins.learn(SWAPPED)
    _, err = beside.deputy("mcp", "pin", "billing", GOOD.name, "--digest", BAD.digest, code=1)
    assert "look at it again" in err
    assert "[DPT-CHANGED]" in err
    assert pins.refusal() == "TOOL_CHANGED"


def test_several_are_accepted_by_one_digest_of_all_that_was_shown(beside: Beside, pins: PinBook) -> None:
    pins.learn(declared("other", description="Another."))
    out, _ = beside.deputy("mcp", "drift", "billing")
    last = out.splitlines()[-1]
    assert last.startswith("all of billing: deputy mcp pin billing --all --digest ")
    pins.after = 60
    pins.learn(SWAPPED)
    _, err = beside.deputy(*shlex.split(last.partition(": deputy ")[2]), code=1)
    assert "not what was reviewed" in err
    reviewed = {GOOD.name: SWAPPED.digest, "other": declared("other", description="Another.").digest}
    out, _ = beside.deputy("mcp", "pin", "billing", "--all", "--digest", digest_of(reviewed), "-o", "json")
    assert {row["state"] for row in json.loads(out)} == {"accepted"}
    assert pins.refusal() is None


def test_nobody_accepts_what_nobody_looked_at(
    beside: Beside, pins: PinBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pipe nobody is asked; on a terminal what is accepted is what was shown above the question."""
    out, err = beside.deputy("mcp", "pin", "billing", GOOD.name, code=1)
    assert "description changed" in out
    assert "say --digest" in err
    assert pins.refusal() == "TOOL_CHANGED"
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    asked: list[str] = []

    def no(question: str, **_: object) -> None:
        asked.append(question)
        raise typer.Abort

    monkeypatch.setattr(typer, "confirm", no)
    beside.deputy("mcp", "pin", "billing", "--all", code=1)
    assert asked == ["Accept 1 as shown?"]
    assert pins.refusal() == "TOOL_CHANGED"
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: True)
    beside.deputy("mcp", "pin", "billing", "--all")
    assert pins.refusal() is None


def test_yes_asks_nobody(beside: Beside, pins: PinBook) -> None:
    beside.deputy("mcp", "pin", "billing", GOOD.name, "other", "--yes")
    assert {pins.refusal(name, "require") for name in (GOOD.name, "other")} == {None}


def test_a_tool_that_alternates_is_put_back_to_what_it_was(beside: Beside, pins: PinBook) -> None:
    for shown in (GOOD, BAD, GOOD):
        pins.learn(shown)
    assert "changed: denied" in beside.deputy("mcp", "drift")[0]
    _, err = beside.deputy("mcp", "pin", "billing", GOOD.name, "--digest", GOOD.digest)
    assert "denied until its server declares it so" in err
    pins.learn(GOOD)
    assert pins.refusal(mode="require") is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name tools, or say --all"),
        (("other", "--all"), "not both"),
        (("unknown",), "no tool 'unknown' of billing"),
        ((GOOD.name, "--digest", "0" * 64), "look at it again"),
        ((GOOD.name, "--digest", "x"), "digest is not 64"),
        (("--from", "nothing.json"), "cannot read the list of tools"),
    ],
)
def test_what_cannot_be_accepted_is_said(
    beside: Beside, pins: PinBook, arguments: tuple[str, ...], said: str
) -> None:
    assert said in beside.deputy("mcp", "pin", "billing", *arguments, code=1)[1]
    assert pins.refusal() == "TOOL_CHANGED"


def test_where_nothing_waits_that_is_said(beside: Beside, pins: PinBook) -> None:
    assert "nothing of tickets waits" in beside.deputy("mcp", "pin", "tickets", "--all", code=1)[1]
    beside.deputy("mcp", "pin", "billing", "other", "--yes")
    assert "accepted as it is" in beside.deputy("mcp", "pin", "billing", "other", "--yes", code=1)[1]
    pins.after = 60
    pins.learn(declared(description="x" * 100_000))
    assert "is not kept" in beside.deputy("mcp", "pin", "billing", GOOD.name, "--yes", code=1)[1]


# ---------------------------------------------------------------- a saved list


def test_a_reviewed_list_is_accepted_before_any_was_seen(beside: Beside) -> None:
    path = saved(beside, TOOL, tool(name="other"))
    out, _ = beside.deputy("mcp", "drift", "tickets", "--from", path, "--exit-code", code=3)
    assert [line for line in out.splitlines() if not line.startswith("  ")] == [
        "tickets/delete_customer: nobody accepted it: denied",
        "tickets/other: nobody accepted it: denied",
        f"all of tickets: deputy mcp pin tickets --from {shlex.quote(path)}",
    ]
    beside.deputy("mcp", "pin", "tickets", "--from", path)
    pins = beside.world.pins
    assert pins.learn(GOOD, mode="require", service="tickets") == frozenset()
    assert pins.refusal("other", "require", "tickets") is None
    assert beside.deputy("mcp", "drift", "tickets", "--from", path, "--exit-code")[0] == ""
    out, _ = beside.deputy("mcp", "drift", "tickets", "--from", saved(beside, tool(description=EVIL)))
    assert "tickets/delete_customer: changed: denied\n  description changed" in out


def test_of_a_reviewed_list_one_tool_with_a_gateways_prefix(beside: Beside) -> None:
    path = saved(beside, tool(name="t__delete_customer"), tool(name="t__other"))
    pin = ("mcp", "pin", "tickets", GOOD.name, "--from", path, "--prefix", "t__")
    beside.deputy(*pin, "--digest", BAD.digest, code=1)
    beside.deputy(*pin, "--digest", GOOD.digest)
    assert set(beside.world.pins.known().of("tickets")) == {GOOD.name}
    assert "nothing of tickets waits" in beside.deputy(*pin, code=1)[1]
    assert "lacks the prefix" in beside.deputy("mcp", "pin", "tickets", "--from", saved(beside, TOOL),
                                               "--prefix", "t__", code=1)[1]  # fmt: skip


def test_a_list_from_standard_input(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    class Piped:
        buffer = Path(saved(beside, TOOL)).open("rb")  # noqa: SIM115 - closed below

    monkeypatch.setattr("authz.commands.mcp_saved.sys.stdin", Piped)
    beside.deputy("mcp", "pin", "tickets", "--from", "-")
    Piped.buffer.close()
    assert beside.world.pins.refusal(mode="require", service="tickets") is None


def test_a_list_belongs_to_one_service(beside: Beside) -> None:
    assert "name it" in beside.deputy("mcp", "drift", "--from", saved(beside, TOOL), code=1)[1]


# ---------------------------------------------------------------- forget


def test_a_forgotten_tool(beside: Beside, pins: PinBook) -> None:
    _, err = beside.deputy("mcp", "forget", "billing", GOOD.name, "--reason", "renamed")
    assert err == f"forgotten: billing/{GOOD.name}\n"
    assert GOOD.name not in pins.known().of("billing")
    assert json.loads(beside.deputy("mcp", "forget", "billing", "other", "-o", "json")[0])["forgotten"]
    _, err = beside.deputy("mcp", "forget", "billing", GOOD.name, code=1)
    assert "was seen here" in err


def test_the_help_says_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("list", "show", "drift", "pin", "forget"):
        assert cli.run(["mcp", verb, "--help"]) == 0
        assert "Examples:" in capsys.readouterr().out


def test_a_name_in_another_alphabet_is_hidden_and_in_no_command(beside: Beside) -> None:
    odd = Declared.of("d\u0435lete_customer", TOOL)
    assert beside.world.pins.learn(odd) == {odd.name}
    assert beside.deputy("mcp", "list", "billing", "-o", "name")[0] == ""
