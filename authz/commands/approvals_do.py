"""What `deputy approvals` does.

- What an agent wrote is shown by authz/commands/foreign_json.py, or as one line without what hides or steers.
"""

from collections.abc import Iterable, Mapping
from time import monotonic, sleep
from typing import Any, Final, Literal

from rich.text import Text

from authz.commands.api import Api
from authz.commands.foreign_json import TITLES, json_lines
from authz.commands.output import Output, console, emit, emit_one, look_up, printable, say
from authz.commands.where import Where
from authz.visible import escaped

POLL_SECONDS: Final = 1.0
_COLUMNS: Final = {
    "id": "id",
    "state": "state",
    "person": "human",
    "agent": "agent",
    "service": "service",
    "what": "resource",
    "asked": "requested_at",
    "until": "expires_at",
}
# Wide enough for what they hold, so that lines stand below each other although each comes alone.
_WIDTHS: Final = (26, 9, 36, 16, 12, 24, 20, 20)


def list_approvals(where: Where, human: str | None, state: str, output: Output) -> None:
    """List what waits."""
    emit(Api.of(where).get("approvals", human=human, state=state).rows("approvals"), _COLUMNS, output)


def show_approval(where: Where, approval: str, output: Output) -> None:
    """Show one call."""
    found = Api.of(where).get("approvals", approval)
    emit_one(found, output, [*_lines(found), *_arguments(found, console().width - TITLES)])


def decide(
    where: Where, approval: str, verdict: Literal["approve", "deny"], reason: str, output: Output
) -> None:
    """Approve a call or deny it."""
    body: dict[str, object] = {"reason": reason} if reason else {}
    decided = Api.of(where).post("approvals", approval, verdict, body=body)
    if output is not Output.TABLE:
        emit_one(decided, output, ())
        return
    until = printable(decided["expires_at"])
    what = (
        f"it may be made again, once, until {until}"
        if verdict == "approve"
        else f"it is not asked for again before {until}"
    )
    say(f"{printable(decided['state'])}: {printable(decided['summary'])}; {what}")


def watch_approvals(where: Where, human: str | None, timeout: float | None, output: Output) -> None:
    """Show what waits, as it comes."""
    api, stop = Api.of(where), None if timeout is None else monotonic() + timeout
    shown: set[str] = set()
    screen = console()
    try:
        if output is Output.TABLE:
            screen.print(_row(_COLUMNS), style="bold", soft_wrap=True)
        while True:
            rows = api.get("approvals", human=human, state="pending").rows("approvals")
            for row in rows:
                if row["id"] not in shown:
                    _show(row, output)
            # What does not wait any more need not be remembered: its id does not come again.
            shown = {str(row["id"]) for row in rows}
            left = POLL_SECONDS if stop is None else min(POLL_SECONDS, stop - monotonic())
            if left <= 0:
                return
            sleep(left)
    except KeyboardInterrupt:
        return


def _show(row: Mapping[str, Any], output: Output) -> None:
    if output is Output.TABLE:
        console().print(_row(look_up(row, path) for path in _COLUMNS.values()), soft_wrap=True)
    else:
        # A list would need an end; there is none.
        emit([row], _COLUMNS, Output.JSONL if output is Output.JSON else output)


def _row(cells: Iterable[object]) -> Text:
    padded = (
        printable("-" if cell is None else cell).ljust(width)
        for cell, width in zip(cells, _WIDTHS, strict=True)
    )
    return Text("  ".join(padded).rstrip())


def _lines(found: Mapping[str, Any]) -> list[tuple[str, object]]:
    lines: list[tuple[str, object]] = [
        ("approval", found["id"]),
        ("state", found["state"]),
        ("person", found["human"] or "nobody: the agent acts by itself"),
        ("agent", found["agent"]),
        ("for agent", ", ".join(map(str, found["via"]))),
        ("run", found["task"]),
        ("service", found["service"]),
        ("sent to", escaped(str(found["address"]))),
        ("action", found["action"]),
        ("what", escaped(str(found["resource"]))),
        ("asked", found["requested_at"]),
        ("until", found["expires_at"]),
        ("decided by", found["decided_by"]),
        ("decided", found["decided_at"]),
        ("reason", found["reason"]),
        ("policy", found["policy"]),
        ("SHA-256", found["arguments_sha256"]),
    ]
    return [(title, value) for title, value in lines if value not in {None, ""}]


def _arguments(found: Mapping[str, Any], width: int) -> list[tuple[str, object]]:
    """Return the arguments line by line: a text in them cannot begin one of its own."""
    if found["arguments"] is None:
        gone = "not kept any more" if found["arguments_sha256"] else "none"
        return [("arguments", gone)]
    return json_lines("arguments", found["arguments"], width)
