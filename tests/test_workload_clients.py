"""Other people's clients: PyPI `spiffe` takes what we serve, also while it changes."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from google.protobuf.descriptor import FileDescriptor
from spiffe import JwtSource, SpiffeId, TrustDomain, WorkloadApiClient, X509Source
from spiffe._proto import workload_pb2
from spiffe.workloadapi.errors import FetchJwtSvidError, FetchX509SvidError, ValidateJwtSvidError

from identity.authority import Authority
from identity.entitlement import Entitlement
from identity.workload_messages import standard_file
from tests.socket_world import AUDIENCE, JOB, OTHER, WEB, SocketWorld

MESH_DOMAIN = TrustDomain("mesh.example")


class Served:
    """A socket world in a thread of its own, as the client blocks."""

    def __init__(self, path: Path) -> None:
        self.address = f"unix://{path}"
        self.world = SocketWorld()
        self._path = path
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self.world.served(self._path):
            self._started.set()
            await self._stop.wait()

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(10)

    def stop(self) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def do(self, change: Callable[[], None]) -> None:
        """Change the world where it lives."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(change)


@contextmanager
def threads_end() -> Iterator[None]:
    """The client's background threads are gone at the end."""
    before = threading.active_count()
    yield
    eventually(lambda: threading.active_count() <= before)


def eventually(holds: Callable[[], bool]) -> None:
    for _ in range(2000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it never came true")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with threads_end():
        found = Served(tmp_path / "private" / "api.sock")
        found.start()
        try:
            yield found
        finally:
            found.stop()


def test_a7_our_messages_are_those_of_the_client() -> None:
    """A-7: every field has the number, the type and the name of the standard."""

    def fields(file: FileDescriptor) -> dict[str, dict[str, tuple[object, ...]]]:
        return {
            message.name: {
                field.name: (
                    field.number,
                    field.type,
                    field.is_repeated,
                    field.message_type and field.message_type.full_name,
                )
                for field in message.fields
            }
            for message in file.message_types_by_name.values()
        }

    ours, theirs = fields(standard_file()), fields(workload_pb2.DESCRIPTOR)
    assert {name: ours[name] for name in theirs} == theirs
    assert {name for name in ours if name not in theirs} <= {
        "WITSVIDRequest",
        "WITSVIDResponse",
        "WITSVID",
        "WITBundlesRequest",
        "WITBundlesResponse",
    }
    [service] = workload_pb2.DESCRIPTOR.services_by_name.values()
    mine = standard_file().services_by_name[service.name]
    for method in service.methods:
        own = mine.methods_by_name[method.name]
        assert (own.input_type.full_name, own.output_type.full_name) == (
            method.input_type.full_name,
            method.output_type.full_name,
        )
        assert own.server_streaming == method.server_streaming


def test_the_client_fetches_svids_and_bundles(served: Served) -> None:
    served.world.federated[OTHER] = Authority.generate(OTHER, served.world.clock.now).trust_bundle()
    served.world.entitlements.given = (Entitlement(WEB), Entitlement(JOB))
    with WorkloadApiClient(served.address) as client:
        assert str(client.fetch_x509_svid(10).spiffe_id) == str(WEB)
        assert [str(svid.spiffe_id) for svid in client.fetch_x509_svids(10)] == [str(WEB), str(JOB)]
        context = client.fetch_x509_context(10)
        assert str(context.default_svid.spiffe_id) == str(WEB)
        for bundles in (context.x509_bundle_set, client.fetch_x509_bundles(10)):
            own = bundles.get_bundle_for_trust_domain(MESH_DOMAIN)
            assert own is not None
            assert own.x509_authorities == set(served.world.live.current.roots)
            assert bundles.get_bundle_for_trust_domain(TrustDomain("other.example")) is not None
        svids = client.fetch_jwt_svids({AUDIENCE}, timeout=10)
        assert [str(svid.spiffe_id) for svid in svids] == [str(WEB), str(JOB)]
        one = client.fetch_jwt_svid({AUDIENCE}, SpiffeId(str(JOB)), 10)
        assert str(one.spiffe_id) == str(JOB)
        keys = client.fetch_jwt_bundles(10).get_bundle_for_trust_domain(MESH_DOMAIN)
        assert keys is not None
        assert list(keys.jwt_authorities) == [served.world.live.current.jwt_key.kid]
        assert client.validate_jwt_svid(one.token, AUDIENCE, 10).audience == {AUDIENCE}


def test_e4_the_client_finds_the_socket_in_its_environment(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-4: `SPIFFE_ENDPOINT_SOCKET` is `unix:///absolute/path`, as we write it."""
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", served.address)
    assert served.address.startswith("unix:///")
    with WorkloadApiClient() as client:
        assert str(client.fetch_x509_svid(10).spiffe_id) == str(WEB)


def test_the_client_is_refused_where_it_should_be(served: Served) -> None:
    with WorkloadApiClient(served.address) as client:
        token = client.fetch_jwt_svid({AUDIENCE}, timeout=10).token
        with pytest.raises(ValidateJwtSvidError):
            client.validate_jwt_svid(token, "https://else.example", 10)
        with pytest.raises(FetchJwtSvidError):
            client.fetch_jwt_svid({"https://else.example"}, timeout=10)
        with pytest.raises(FetchJwtSvidError):
            client.fetch_jwt_svid({AUDIENCE}, SpiffeId(str(JOB)), 10)
        served.world.entitlements.given = ()
        with pytest.raises(FetchX509SvidError, match="no identity"):
            client.fetch_x509_svid(10)


def test_an_x509_source_follows_a_rotation_without_reconnecting(served: Served) -> None:
    with X509Source(socket_path=served.address, timeout_in_seconds=10) as source:
        before = source.get_x509_context().default_svid
        callers = len(served.world.entitlements.asked)
        for _ in range(5):
            old = source.get_x509_context().default_svid
            served.do(served.world.rotate)
            eventually(lambda old=old: source.get_x509_context().default_svid.leaf != old.leaf)  # type: ignore[misc]  # the stub of a lambda with a default
            bundle = source.get_bundle_for_trust_domain(MESH_DOMAIN)
            assert bundle is not None
            assert bundle.x509_authorities == set(served.world.live.current.roots)
        assert source.get_x509_context().default_svid.leaf != before.leaf
        # One stream, one process, asked again at each change.
        assert len(served.world.entitlements.asked) <= callers + 10
        assert len({peer.pid for peer in served.world.entitlements.asked}) == 1


def test_an_x509_source_follows_a_federated_bundle_and_its_redaction(served: Served) -> None:
    other = TrustDomain("other.example")
    with X509Source(socket_path=served.address, timeout_in_seconds=10) as source:
        assert source.get_bundle_for_trust_domain(other) is None
        foreign = Authority.generate(OTHER, served.world.clock.now)
        served.do(lambda: served.world.federate(foreign))
        eventually(lambda: source.get_bundle_for_trust_domain(other) is not None)

        def redact() -> None:
            served.world.federated.clear()
            served.world.live.feed.publish()

        served.do(redact)
        eventually(lambda: source.get_bundle_for_trust_domain(other) is None)


def test_a_jwt_source_follows_a_rotation(served: Served) -> None:
    with JwtSource(socket_path=served.address, timeout_in_seconds=10) as source:
        for _ in range(3):
            served.do(served.world.rotate)

            def follows() -> bool:
                bundle = source.get_bundle_for_trust_domain(MESH_DOMAIN)
                return bundle is not None and set(bundle.jwt_authorities) == {
                    served.world.live.current.jwt_key.kid
                }

            eventually(follows)
            svid = source.fetch_svid({AUDIENCE})
            assert str(svid.spiffe_id) == str(WEB)
