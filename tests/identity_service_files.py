"""A service's directory and the part of the service that `deputy identity` talks to, in a thread."""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from authz.audit.facts import FederationFacts, KeyFacts
from authz.identity_service.admin import AuthorityService
from authz.identity_service.federation import Federation
from authz.identity_service.rotation import Rotation
from identity.bundle import Bundle
from identity.errors import FederationError
from identity.federation import Profile
from identity.key_ring import KeyLife
from identity.live_authority import AuthoritySettings, LiveAuthority
from identity.pb import authority_pb2
from identity.socket_server import SocketServer
from identity.unix_socket import PRIVATE
from tests.fakes import DOMAIN
from tests.service_files import ServiceFiles


@dataclass
class NoEndpoint:
    """Every bundle endpoint is out of reach, or serves one document."""

    document: bytes | None = None

    async def fetch(self, url: str, profile: Profile, roots: object = ()) -> bytes:
        if self.document is None:
            raise FederationError("nobody answers")
        return self.document


@dataclass
class AdminFiles:
    """The files, and what a test looks at while the service runs."""

    files: ServiceFiles
    settings: AuthoritySettings = field(default_factory=lambda: AuthoritySettings(KeyLife()))
    endpoint: NoEndpoint = field(default_factory=NoEndpoint)
    records: list[KeyFacts | FederationFacts] = field(default_factory=list)
    our_uid: int = field(default_factory=os.geteuid)
    live: LiveAuthority | None = None

    @property
    def data(self) -> Path:
        return self.files.directory / "data"

    def keys(self) -> LiveAuthority:
        assert self.live is not None
        return self.live

    def _own(self) -> Bundle:
        return self.keys().current.trust_bundle()  # of the moment: it changes

    def make_keys(self) -> None:
        """Leave the keys of a service that ran."""
        self.data.mkdir(mode=0o700, exist_ok=True)
        LiveAuthority.open(self.data / "keys", DOMAIN, self.settings, datetime.now(UTC)).close()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve until the block ends."""
        ready, failed = threading.Event(), list[BaseException]()
        loop = asyncio.new_event_loop()
        ended = asyncio.Event()

        def run() -> None:
            try:
                loop.run_until_complete(self._serve(ready, ended))
            except BaseException as error:
                failed.append(error)
                raise
            finally:
                ready.set()
                loop.close()

        thread = threading.Thread(target=run)
        thread.start()
        assert ready.wait(20)
        assert not failed
        try:
            yield
        finally:
            loop.call_soon_threadsafe(ended.set)
            thread.join(20)

    async def _serve(self, ready: threading.Event, ended: asyncio.Event) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)
        self.live = LiveAuthority.open(self.data / "keys", DOMAIN, self.settings, datetime.now(UTC))
        federation = Federation.open(self.data / "keys", self._own, fetcher=self.endpoint)
        server = SocketServer()

        async def record(facts: KeyFacts | FederationFacts) -> None:
            self.records.append(facts)

        service = AuthorityService(
            Rotation(self.live, record, lambda: datetime.now(UTC)),
            federation,
            record,
            our_uid=self.our_uid,
            key_store="files",
            clock=lambda: datetime.now(UTC),
        )
        path = self.data / "admin.sock"
        await server.listen(path, [service], files=[authority_pb2.DESCRIPTOR], mode=PRIVATE)
        try:
            ready.set()
            await ended.wait()
        finally:
            await server.close()
            federation.close()
            self.live.close()
