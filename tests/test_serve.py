"""The duties of each second."""

import asyncio
import logging

import pytest

from authz.errors import AuditError
from authz.serve import FaultLog, do_each


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


def test_a_flood_of_connections_does_not_fill_the_process_log(caplog: pytest.LogCaptureFixture) -> None:
    """Out of descriptors, asyncio reports every connection that it could not accept."""
    loop, seconds = asyncio.new_event_loop(), [0.0]
    log = FaultLog(lambda: seconds[0])
    try:
        with caplog.at_level(logging.ERROR):
            for second in (0.0, 1.0):
                seconds[0] = second
                for _ in range(1000):
                    log.report(
                        loop, {"message": "socket.accept() out of system resource", "exception": OSError()}
                    )
    finally:
        loop.close()
    first, second_line = caplog.messages
    assert first == "socket.accept() out of system resource: OSError (0 more)"
    assert second_line == "socket.accept() out of system resource: OSError (999 more)"


def test_a_fault_quotes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()
    with caplog.at_level(logging.ERROR):
        FaultLog(lambda: 5.0).report(loop, {"message": "a task died", "exception": ValueError("secret")})
    loop.close()
    assert caplog.messages == ["a task died: ValueError (0 more)"]
    assert "secret" not in caplog.text
