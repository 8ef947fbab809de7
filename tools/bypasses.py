"""Write docs/reference/bypasses.md from the measured answers; `--check` says whether it is current."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "bypasses.md"
MEASURED = ROOT / "tests" / "vectors" / "bypasses.json"

HEAD = """# Known ways past an inspector

An agent that may call `read_ticket` and not `secret` tries to call `secret` all the same: the gateway is to
read one call, the server another. Each row is one HTTP request. It is sent to each server directly, where ✔
says that the hidden tool ran, and then through a real Envoy with Deputy before the same server: there it
never ran, and no such request reached the server at all.

The tests measure all of it on every run (`tests/e2e/test_bypasses.py`), and this page is made from what they
compare with. A row without any ✔ works at none of these servers; others, and older ones, differ.

| Column | Server |
|---|---|
"""

READING = """
How Deputy reads a body is in [what Deputy understands](what-is-read.md), the codes are in
[reason codes](reason-codes.md). A body that is accepted is read alike by Python, Node and Go:
`tests/properties/test_readers_agree.py` searches for one that is not.

"""


def page() -> str:
    """Return the page's text."""
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    servers: Mapping[str, str] = measured["servers"]
    parts = [HEAD, *(f"| {kind} | {name} |\n" for kind, name in servers.items()), READING]
    parts.append(f"| Trick | {' | '.join(servers)} | Deputy's answer | Why |\n")
    parts.append(f"|---|{'---|' * len(servers)}---|---|\n")
    parts += [_row(case, servers) for case in measured["cases"]]
    return "".join(parts)


def _row(case: Mapping[str, Any], servers: Mapping[str, str]) -> str:
    ran = " | ".join("✔" if kind in case["runs_at"] else "no" for kind in servers)
    by = f"`{case['reason']}`" if case["reason"] else "by Envoy itself"
    return f"| {case['trick']} | {ran} | {case['status']} {by} | {case['rule']} |\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(
            0 if PAGE.read_text(encoding="utf-8") == page() else f"{PAGE.name} is not current: run {__file__}"
        )
    PAGE.write_text(page(), encoding="utf-8")
