"""The reference pages are made of the code, and current; what they show as an example works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from authz.config import parse_config

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"


@pytest.mark.parametrize("tool", ["cli_page.py", "configuration_page.py"])
def test_the_page_is_current(tool: str) -> None:
    done = subprocess.run(
        [sys.executable, f"tools/{tool}", "--check"],
        cwd=ROOT,
        # Neither the terminal's width nor its colours have a part in a page.
        env={"PYTHONPATH": str(ROOT), "COLUMNS": "61", "FORCE_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_smallest_configuration_of_the_page_is_valid() -> None:
    text = (REFERENCE / "configuration.md").read_text("utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    parse_config(example.encode(), ROOT)


def test_every_key_has_a_row() -> None:
    text = (REFERENCE / "configuration.md").read_text("utf-8")
    for row in re.findall(r"^\| `.*", text, re.MULTILINE):
        assert len([cell for cell in row.strip("| ").split(" | ") if cell.strip()]) == 4, row
    assert len(re.findall(r"^\| `", text, re.MULTILINE)) > 50


def test_every_command_has_its_help_and_an_example() -> None:
    text = (REFERENCE / "cli.md").read_text("utf-8")
    sections = dict(re.findall(r"^#+ (deputy[a-z ]*)\n\n```text\n(.*?)```", text, re.DOTALL | re.MULTILINE))
    verbs = {name for name, help_ in sections.items() if "COMMAND [ARGS]" not in help_}
    assert len(verbs) >= 12
    for name in verbs:
        assert f"Examples:\n    {name}" in sections[name], name
        assert f"Usage: {name} " in sections[name], name
