"""Every command in a document is run, as its reader would: here with the demo, or with nothing at all."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import missing_part
from tests.docs.blocks import ROOT, Block, blocks_of, parse_blocks
from tests.docs.demo import GrantsWatch, KeptDemo
from tests.docs.session import BlockFailedError, Session

# The document, and the folder below the demo's in which its reader sits.
WITH_THE_DEMO = {
    "docs/tutorial.md": ".",
    "docs/how-to/why-was-i-denied.md": ".",
    "docs/how-to/stop-something.md": ".",
    "docs/how-to/administer.md": ".",
    "docs/how-to/approve.md": ".",
    "docs/how-to/pin-tools.md": ".",
    "docs/how-to/agent-tokens.md": ".",
    "README.md": ".",
    "docs/reference/audit-record.md": ".demo/data/audit",
}
WITHOUT = ("docs/how-to/limit-arguments.md", "mesh-config/envoy/README.md")


def with_the_demo(path: str) -> list[Block]:
    """What a reader does who has the demo running: of README.md, the part for those who write agents."""
    blocks = blocks_of(path)
    if path != "README.md":
        return blocks
    text = (ROOT / path).read_text("utf-8")
    part = (
        text.partition("## For agent developers")[0].count("\n"),
        text.partition("## In front of")[0].count("\n"),
    )
    return [block for block in blocks if part[0] < block.line <= part[1]]


@pytest.mark.e2e
@pytest.mark.parametrize("path", WITH_THE_DEMO)
def test_the_commands_do_what_the_document_says(path: str, demo: KeptDemo, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        missing_part("no curl: the documents call services with it")
    grants = GrantsWatch(demo)
    with Session(demo.directory / WITH_THE_DEMO[path], tmp_path, after=grants.settle) as session:
        session.run(with_the_demo(path))


@pytest.mark.parametrize("path", WITHOUT)
def test_the_commands_run_anywhere(path: str, tmp_path: Path) -> None:
    environment = {"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    (tmp_path / "reader").mkdir()
    with Session(tmp_path / "reader", tmp_path, environment=environment) as session:
        session.run(blocks_of(path))


@pytest.mark.parametrize("text", ["```sh\nfalse\n```\n", "```sh\necho a\n```\n```text output\nb\n```\n"])
def test_a_command_that_fails_or_prints_something_else_is_found(text: str, tmp_path: Path) -> None:
    with Session(tmp_path, tmp_path) as session, pytest.raises(BlockFailedError):
        session.run(list(parse_blocks("x", text)))


def test_variables_folders_and_functions_carry_over(tmp_path: Path) -> None:
    text = (
        '```sh\nmkdir d; cd d; x=1; f() { echo "$x $1"; }\n```\n'
        '```sh\nf 2; basename "$PWD"\n```\n```text output\n1 2\nd\n```\n'
    )
    with Session(tmp_path, tmp_path) as session:
        session.run(list(parse_blocks("x", text)))
