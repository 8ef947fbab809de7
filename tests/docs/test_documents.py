"""Every command in a document is run, as its reader would: here those that talk to the running demo."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import missing_part
from tests.docs.blocks import blocks_of
from tests.docs.demo import GrantsWatch, KeptDemo
from tests.docs.session import Session

pytestmark = pytest.mark.e2e

# The document, and the folder below the demo's in which its reader sits.
WITH_THE_DEMO = {
    "docs/tutorial.md": ".",
    "docs/how-to/why-was-i-denied.md": ".",
    "docs/reference/audit-record.md": ".demo/data/audit",
}


@pytest.mark.parametrize("path", WITH_THE_DEMO)
def test_the_commands_do_what_the_document_says(path: str, demo: KeptDemo, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        missing_part("no curl: the documents call services with it")
    grants = GrantsWatch(demo)
    with Session(demo.directory / WITH_THE_DEMO[path], tmp_path, after=grants.settle) as session:
        session.run(blocks_of(path))
