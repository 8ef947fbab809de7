"""The demo, started once for all documents that talk about it, and only when the first of them is run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.demo import KeptDemo, kept_demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeptDemo]:
    """The demo of the tutorial."""
    directory: Path = tmp_path_factory.mktemp("reader")
    with kept_demo(directory) as running:
        yield running
