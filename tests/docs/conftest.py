"""The demo, started once for all documents that talk about it, and ended with the last of their tests."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.demo import KeptDemo, kept_demo

HERE = Path(__file__).parent
_RUNNING = ExitStack()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeptDemo]:
    """The demo of the tutorial."""
    with _RUNNING:
        yield _RUNNING.enter_context(kept_demo(tmp_path_factory.mktemp("reader")))


@pytest.fixture
def reader() -> Iterator[Path]:
    """The folder of a reader; its path is short, because the kernel bounds those of sockets."""
    with tempfile.TemporaryDirectory(prefix="dpt-") as directory:
        yield Path(directory).resolve()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Iterator[None]:
    """End the demo before the tests of other folders begin: it would run beside all of them."""
    yield
    if nextitem is None or HERE not in nextitem.path.parents:
        _RUNNING.close()
