"""The how-to about examining a server, followed with one that is careless about base64."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.broker_fakes import serving
from tests.conformance_server import Server, app
from tests.conformance_tokens import FIRST, OWN, SECRETS, subject_token
from tests.docs.blocks import blocks_of
from tests.docs.session import Session
from tests.test_conformance import CARELESS, careless

pytestmark = pytest.mark.e2e


@contextmanager
def examined(server: Server) -> Iterator[str]:
    """Serve a server while its reader follows the document."""
    bases, stopped = list[str](), Event()
    started = Event()

    async def serve() -> None:
        async with serving(app(server)) as base:
            server.issuer = base
            bases.append(base)
            started.set()
            await asyncio.to_thread(stopped.wait)

    thread = Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert started.wait(30)
        yield bases[0]
    finally:
        stopped.set()
        thread.join()


def test_the_how_to_holds(reader: Path, tmp_path: Path) -> None:
    now = int(time.time())
    accepts, _ = CARELESS["decodes base64 as the standard library does"]
    server = Server(frozenset({"CL-07/lifetime"}), now=now, verify=careless(accepts))
    (reader / "agent-a.secret").write_text(SECRETS[OWN])
    (reader / "alice.jwt").write_text(subject_token(OWN, FIRST, iat=now - 10, exp=now + 3600))
    path = {"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
    with examined(server) as base, Session(reader, tmp_path, {"https://as.example": base}, path) as session:
        session.run(blocks_of("docs/how-to/conformance.md"))
        assert "<testsuite" in (reader / "conformance.xml").read_text("utf-8")
