"""README.md: its generated parts are current, its output is what is printed, its reference is whole."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from authz.config import Config
from authz.policy.grants import Grants
from tests.docs.blocks import ROOT, Block, blocks_of, documents
from tests.docs.demo import KeptDemo, link_environment
from tests.docs.masks import first_difference
from tools import readme

TEXT = readme.README.read_text("utf-8")
BLOCKS = blocks_of("README.md")


def shown_after(command: str) -> Block:
    """The output that stands below a command."""
    (at,) = [at for at, block in enumerate(BLOCKS) if block.text == f"{command}\n"]
    assert BLOCKS[at + 1].instruction == "output"
    return BLOCKS[at + 1]


@pytest.mark.parametrize(
    ("part", "wanted"), [("configuration", readme.configuration), ("commands", readme.commands)]
)
def test_what_is_generated_is_current(part: str, wanted: Any) -> None:
    """After a change: python tools/readme.py."""
    assert readme.part(TEXT, part) == wanted(), "run: python tools/readme.py"


def keys_of(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    """The names of all keys in a JSON Schema, read without the code that writes the table."""
    match node:
        case {"$ref": str(name)}:
            yield from keys_of(schema["$defs"][name.rpartition("/")[2]], schema)
        case dict():
            yield from node.get("properties", {})
            for inner in node.values():
                children = inner.values() if isinstance(inner, dict) else inner
                for child in [inner, *children] if isinstance(inner, dict | list) else []:
                    if isinstance(child, dict) and node is not schema.get("$defs"):
                        yield from keys_of(child, schema)


def test_every_key_of_the_configuration_is_in_the_reference() -> None:
    schema = Config.model_json_schema()
    without_definitions = {name: value for name, value in schema.items() if name != "$defs"}
    named = {word for key, _, _ in readme.keys(schema) for word in re.findall(r"[a-z0-9_]+", key)}
    assert set(keys_of(without_definitions, schema)) <= named
    assert {"opa", "may_ask", "groups_claim"} <= named
    for key, _, meaning in readme.keys(schema):
        assert f"| `{key}` |" in TEXT
        assert meaning


def test_the_grants_that_are_shown_are_grants() -> None:
    (shown,) = [block for block in BLOCKS if block.argument == "deputy/grants.yaml"]
    Grants.parse(shown.text.encode())


def test_the_picture_is_there_and_needs_nothing_from_elsewhere() -> None:
    (path,) = re.findall(r"\]\((\S+\.svg)\)", TEXT)
    picture = (ROOT / path).read_text("utf-8")
    assert "<script" not in picture
    assert set(re.findall(r"https?://[^\"\s]+", picture)) == {"http://www.w3.org/2000/svg"}


@pytest.mark.e2e
def test_the_demo_prints_what_is_shown(demo: KeptDemo) -> None:
    """After a change: python tools/readme.py --demo."""
    assert first_difference(shown_after("make demo").text, demo.printed) is None


@pytest.mark.full
@pytest.mark.e2e
def test_make_demo_prints_what_is_shown(tmp_path: Path) -> None:
    """The command itself, in a folder that looks like the clone; what it sets up is there already."""
    if shutil.which("make") is None:
        pytest.fail("no make: it is the first thing that README.md asks for")
    for name in ("Makefile", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    link_environment(tmp_path)
    done = subprocess.run(
        ["make", "-o", "setup", "demo"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert first_difference(shown_after("make demo").text, done.stdout) is None


@pytest.mark.parametrize("command", [block.text.strip() for block in BLOCKS if block.instruction == "gate"])
def test_the_gate_runs_the_command(command: str) -> None:
    assert command in (ROOT / ".ci/run").read_text("utf-8").splitlines()


def test_a_make_target_that_a_document_names_exists() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):.*?## ", (ROOT / "Makefile").read_text("utf-8")))
    named = set[str]()
    for path in documents():
        lines = "".join(block.text for block in blocks_of(path))
        named |= set(re.findall(r"`make ([a-z-]+)", (ROOT / path).read_text("utf-8")))
        named |= set(re.findall(r"(?m)^ *make ([a-z-]+)", lines))
    assert {"demo", "test"} <= named <= targets


def test_the_version_of_python_is_that_of_the_package() -> None:
    assert sys.version_info >= (3, 11)
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text("utf-8")
    assert "Python 3.11 or later" in TEXT
