"""SECURITY.md: every test that a control names exists."""

import ast
import re
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT

_NAMED = re.compile(r"`(tests/[a-z0-9_/]+\.py)(?:::(test_[a-z0-9_]+))?`")


def rows() -> list[tuple[str, list[tuple[str, str]]]]:
    """The threats, each with the tests that its row names."""
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    table = text.partition("| Threat | Control | Test |")[2].partition("\n\n")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("|--")]
    return [(line.split("|")[1].strip(), _NAMED.findall(line.rsplit("|", 2)[1])) for line in lines]


def functions_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_there_are_threats() -> None:
    assert len(rows()) >= 25


@pytest.mark.parametrize(("threat", "named"), rows())
def test_each_threat_names_tests_that_exist(threat: str, named: list[tuple[str, str]]) -> None:
    assert named, f"no test shows the control against: {threat}"
    for path, name in named:
        assert (ROOT / path).is_file(), path
        assert not name or name in functions_in(ROOT / path), f"{path}::{name}"
