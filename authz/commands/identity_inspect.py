"""What `deputy identity inspect` does: reads bounded bytes, prints what the core says of them."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import typer

from authz.commands.output import FINDINGS, OK, Output, emit, emit_one, say
from authz.errors import ConfigError
from identity.inspect_svid import inspect_svid
from identity.inspection import MAX_INPUT, Inspection, InspectionError

VERSION: Final = "deputy.identity-inspection/v1"
_STDIN: Final = Path("-")
_RULE_COLUMNS: Final = {"rule": "rule", "": "outcome", "says": "sentence", "section": "section"}
_TITLES: Final = {
    "verified": "VERIFIED",
    "failed": "REFUSED",
    "not-verified": "NOT VERIFIED",
    "not-signed": "note",
}


def inspected(file: Path, bundle: Path | None, audience: str | None, output: Output) -> int:
    """Explain a file, and return the exit code."""
    if file == _STDIN and bundle == _STDIN:
        raise ConfigError("standard input can be FILE or --bundle, not both")
    try:
        found = inspect_svid(
            _read(file),
            bundle=None if bundle is None else _read(bundle),
            audience=audience,
            now=datetime.now(UTC),
        )
    except InspectionError as error:
        raise InspectionError(f"{str(file)!r} cannot be inspected: {error}") from error
    refused = any(one.is_refused for one in found)
    if output is Output.TABLE:
        _print(found)
    else:
        rows: list[dict[str, Any]] = [one.row() for one in found]
        row = {"version": VERSION, "ok": not refused, "found": rows}
        if output is Output.NAME:
            emit(rows, {}, output, name="kind")
        else:
            emit_one(row, output, [])
    if output is not Output.TABLE and any(one.verification == "not-verified" for one in found):
        say("NOTHING IS VERIFIED: name the keys with --bundle FILE")
    return FINDINGS if refused else OK


def _print(found: Sequence[Inspection]) -> None:
    for number, one in enumerate(found):
        if number:
            typer.echo()
        parts: list[tuple[str, object]] = [("this is", one.what), *one.parts]
        emit_one({}, Output.TABLE, parts)
        if one.findings:
            typer.echo()
            rows = one.row()["rules"]
            emit(rows if isinstance(rows, list) else [], _RULE_COLUMNS, Output.TABLE)
        typer.echo()
        emit_one({}, Output.TABLE, [(_TITLES[one.verification], one.verdict)])


def _read(path: Path) -> bytes:
    if path == _STDIN:
        return sys.stdin.buffer.read(MAX_INPUT + 1)
    with path.open("rb") as file:
        return file.read(MAX_INPUT + 1)
