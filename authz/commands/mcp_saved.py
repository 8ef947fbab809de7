"""A saved answer to `tools/list` beside what is pinned: read from a file, compared here."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from authz.commands.api import Api
from authz.errors import ConfigError
from authz.pins.declared import Declared
from authz.pins.differences import differences
from authz.pins.saved import MAX_SAVED, parse_saved

_STDIN: Final = Path("-")

Row = dict[str, Any]


def read_saved(path: Path, prefix: str) -> tuple[Declared, ...]:
    """Read the tools of a saved list.

    Raises:
        ConfigError: if the file cannot be read.
        SavedListError: if it holds no list of tools.
    """
    try:
        if path == _STDIN:
            data = sys.stdin.buffer.read(MAX_SAVED + 1)
        else:
            with path.open("rb") as file:
                data = file.read(MAX_SAVED + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the list of tools in {str(path)!r}: {error.strerror}") from error
    return parse_saved(data, prefix)


def compare(api: Api, service: str, found: Iterable[Declared]) -> list[Row]:
    """Return a row for each tool that is not what was accepted, as the service would show it."""
    answer = api.get("pins", service=service)
    pinned = {str(row["tool"]): row for row in answer.rows("pins")}
    mode = next((each["mode"] for each in answer.rows("services") if each["name"] == service), "learn")
    rows = [_row(api, service, str(mode), each, pinned.get(each.name)) for each in found]
    return [row for row in rows if row["state"] != "accepted"]


def _row(api: Api, service: str, mode: str, declared: Declared, pin: Mapping[str, Any] | None) -> Row:
    accepted = pin["accepted_sha256"] if pin is not None else None
    row: Row = {
        "service": service,
        "tool": declared.name,
        "mode": mode,
        "state": "new",
        "refused": "DPT-TOOL-UNPINNED" if mode == "require" else None,
        "accepted_sha256": accepted,
        "waiting_sha256": declared.digest,
        "changes": [],
    }
    if pin is None or accepted is None:
        return row
    if accepted == declared.digest:
        return {**row, "state": "learned" if pin["accepted_by"] == "learned" else "accepted"}
    before = api.get("pins", service, declared.name)["accepted"]
    changes = differences(before, declared.declaration) if isinstance(before, dict) else ()
    return {**row, "state": "changed", "refused": "DPT-TOOL-CHANGED", "changes": list(changes)}
