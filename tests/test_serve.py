"""The duties of each second."""

import asyncio
import logging

import pytest

from authz.errors import AuditError
from authz.serve import do_each


@pytest.mark.parametrize(
    "error", [AuditError("full"), OSError("gone"), RuntimeError("a bug: secret"), KeyError("secret")]
)
def test_a_duty_that_fails_in_whatever_way_keeps_no_other_from_its_turn(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in the reload of grants would else end pruning and summaries too, for good and in silence."""
    done: list[str] = []

    async def fails() -> None:
        raise error

    async def works() -> None:
        done.append("works")

    with caplog.at_level(logging.WARNING):
        asyncio.run(do_each((fails, works)))
    assert done == ["works"]
    assert f"fails failed: {type(error).__name__}" in caplog.text
    assert "secret" not in caplog.text
