"""The gRPC host: whatever the flow does, what leaves is a denial or what the flow said."""

import asyncio
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # no stubs
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]  # no stubs
    reflection_pb2,
    reflection_pb2_grpc,
)

from authz.address import Address, TcpAddress, UnixAddress, parse_address
from authz.errors import ConfigError
from authz.hosts.grpc import SERVICE, Check, Denials, GrpcHost, Limits, serve
from authz.hosts.tls import Credential, ListenerTls
from authz.pb.ext_authz_pb2 import CheckResponse, Status
from identity.spiffe import SpiffeId
from tests.e2e.ca import Leaf, TestCa
from tests.tls_files import FILES, bundle_of, listener, tls_from_files

CALL = f"/{SERVICE}/Check"
ENVOY = "spiffe://mesh.example/ns/gateway/sa/envoy"
LOCAL = TcpAddress("127.0.0.1", 0)
PROMPT = Limits(drain_seconds=0, grace_seconds=1)
ALLOWED = CheckResponse(status=Status()).SerializeToString()


def denial(code: int) -> bytes:
    return CheckResponse(status=Status(code=code)).SerializeToString()


DENIALS = Denials(failed=denial(13), busy=denial(14), stranger=denial(16))


async def allow(request: bytes, asker: SpiffeId | None) -> bytes:
    return ALLOWED


@pytest.fixture(scope="module")
def ca() -> TestCa:
    return TestCa.create()


@pytest.fixture
def private() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dpt-") as directory:
        yield Path(directory)


def deputy_tls(ca: TestCa) -> ListenerTls:
    leaf = ca.issue("spiffe://mesh.example/deputy", dns=("localhost",))
    credential, bundle = Credential(leaf.certificate, leaf.key), bundle_of(ca.bundle)
    return listener(lambda: credential, lambda: bundle)


def host(
    check: Check, listen: Address = LOCAL, tls: ListenerTls | None = None, limits: Limits = PROMPT
) -> GrpcHost:
    return GrpcHost(check, denials=DENIALS, listen=listen, tls=tls, limits=limits)


def target(address: Address) -> str:
    return f"localhost:{address.port}" if isinstance(address, TcpAddress) else str(address)


@asynccontextmanager
async def running(server: GrpcHost) -> AsyncIterator[str]:
    address = await server.start()
    try:
        yield target(address)
    finally:
        await server.stop()


async def ask(to: str, request: bytes = b"x", within: float = 20) -> bytes:
    async with grpc.aio.insecure_channel(to) as channel:
        return await check_on(channel, request, within)


async def check_on(channel: grpc.aio.Channel, request: bytes = b"x", within: float = 20) -> bytes:
    method: Callable[..., Awaitable[bytes]] = channel.unary_unary(CALL)
    return await method(request, timeout=within)


async def ask_tls(to: str, ca: TestCa, leaf: Leaf | None) -> bytes:
    key, certificate = (leaf.key, leaf.certificate) if leaf else (None, None)
    credentials = grpc.ssl_channel_credentials(ca.bundle, key, certificate)
    async with grpc.aio.secure_channel(to, credentials) as channel:
        return await check_on(channel)


def answer_of(check: Check, request: bytes = b"x", limits: Limits = PROMPT) -> bytes:
    async def main() -> bytes:
        async with running(host(check, limits=limits)) as to:
            return await ask(to, request)

    return asyncio.run(main())


# ---- what the flow does


def test_hands_over_the_very_bytes_and_returns_the_very_bytes() -> None:
    seen: list[tuple[bytes, SpiffeId | None]] = []
    said = denial(7) + b"\x22\x00"

    async def check(request: bytes, asker: SpiffeId | None) -> bytes:
        seen.append((request, asker))
        return said

    assert answer_of(check, b"\xff\x00 not a message") == said
    assert seen == [(b"\xff\x00 not a message", None)]


@pytest.mark.parametrize(
    "error", [ValueError("x"), RecursionError(), MemoryError(), SystemExit(0), TimeoutError()]
)
def test_a_flow_that_raises_is_a_denial(error: BaseException) -> None:
    async def check(request: bytes, asker: SpiffeId | None) -> bytes:
        raise error

    assert answer_of(check) == DENIALS.failed


def test_the_log_names_the_error_but_not_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async def check(request: bytes, asker: SpiffeId | None) -> bytes:
        raise ValueError("eyJhbGciOi.secret")

    answer_of(check)
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("answer", [b"", b"\x1a\x00", b"\x22\x00", CheckResponse().SerializeToString()])
def test_an_answer_without_status_is_a_denial_because_envoy_would_allow(answer: bytes) -> None:
    async def check(request: bytes, asker: SpiffeId | None) -> bytes:
        return answer

    assert answer_of(check) == DENIALS.failed


def test_an_answer_that_is_no_bytes_is_a_denial() -> None:
    async def check(request: bytes, asker: SpiffeId | None) -> bytes:
        return None  # type: ignore[return-value]  # the bug that is tested

    assert answer_of(check) == DENIALS.failed


def test_a_flow_that_hangs_is_a_denial() -> None:
    async def check(request: bytes, asker: SpiffeId | None) -> bytes:
        await asyncio.Event().wait()
        return ALLOWED

    assert answer_of(check, limits=Limits(check_seconds=0.01, drain_seconds=0)) == DENIALS.failed


def test_above_the_bound_the_answer_is_busy_and_afterwards_it_works_again() -> None:
    async def main() -> None:
        go, entered = asyncio.Event(), asyncio.Event()

        async def check(request: bytes, asker: SpiffeId | None) -> bytes:
            entered.set()
            await go.wait()
            return ALLOWED

        limits = Limits(in_flight=1, check_seconds=60, drain_seconds=0)
        async with running(host(check, limits=limits)) as to, grpc.aio.insecure_channel(to) as channel:
            first = asyncio.ensure_future(check_on(channel))
            await entered.wait()
            assert await check_on(channel) == DENIALS.busy
            go.set()
            assert await first == ALLOWED
            assert await check_on(channel) == ALLOWED

    asyncio.run(main())


def test_a_client_that_gives_up_frees_its_place() -> None:
    async def main() -> None:
        gone = asyncio.Event()

        async def check(request: bytes, asker: SpiffeId | None) -> bytes:
            if request == b"hang":
                try:
                    await asyncio.Event().wait()
                finally:
                    gone.set()
            return ALLOWED

        limits = Limits(in_flight=1, check_seconds=60, drain_seconds=0)
        async with running(host(check, limits=limits)) as to:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask(to, b"hang", within=0.2)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await gone.wait()
            assert await ask(to) == ALLOWED

    asyncio.run(main())


# ---- what is refused before the flow


def test_who_connects_and_never_shows_a_certificate_is_cut_off(ca: TestCa) -> None:
    """A thousand idle connections for two minutes would leave no descriptor for the log and the broker."""

    async def play() -> None:
        limits = Limits(drain_seconds=0, grace_seconds=1, connections=4, handshake_seconds=1)
        async with running(host(allow, tls=deputy_tls(ca), limits=limits)) as place:
            port = int(place.rpartition(":")[2])
            idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(12)]
            ends = await asyncio.wait_for(asyncio.gather(*(ended(reader) for reader, _ in idle)), 10)
            assert len(ends) == 12
            for _, writer in idle:
                writer.close()

    async def ended(reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.read()
        except ConnectionError:
            return b""

    asyncio.run(play())


def test_a_message_above_two_mebibytes_never_reaches_the_flow() -> None:
    async def main() -> None:
        async with running(host(allow)) as to:
            assert await ask(to, bytes(2 * 1024 * 1024)) == ALLOWED
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask(to, bytes(2 * 1024 * 1024 + 1))
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    asyncio.run(main())


def test_a_compressed_message_is_refused_because_its_size_says_nothing() -> None:
    async def main() -> None:
        async with running(host(allow)) as to:
            channel = grpc.aio.insecure_channel(to, compression=grpc.Compression.Gzip)
            async with channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await check_on(channel, bytes(100_000))
            assert caught.value.code() in {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL}

    asyncio.run(main())


@pytest.mark.parametrize("bad", [b"", b"\xff", ALLOWED, b"\x22\x00", denial(0)])
def test_a_fallback_that_would_allow_is_refused_at_start(bad: bytes) -> None:
    with pytest.raises(ConfigError):
        Denials(failed=DENIALS.failed, busy=bad, stranger=DENIALS.stranger)


# ---- who asks


def test_the_flow_learns_the_spiffe_id_of_the_client_certificate(ca: TestCa) -> None:
    async def main() -> None:
        askers: list[SpiffeId | None] = []

        async def check(request: bytes, asker: SpiffeId | None) -> bytes:
            askers.append(asker)
            return ALLOWED

        async with running(host(check, tls=deputy_tls(ca))) as to:
            assert await ask_tls(to, ca, ca.issue(ENVOY)) == ALLOWED
        assert askers == [SpiffeId.parse(ENVOY)]

    asyncio.run(main())


@pytest.mark.parametrize(
    "uris",
    [
        (),
        (ENVOY, "spiffe://mesh.example/other"),
        ("https://mesh.example/envoy",),
        ("spiffe://Mesh.example/envoy",),
    ],
    ids=["no URI", "two URIs", "not SPIFFE", "not canonical"],
)
def test_a_verified_client_without_one_spiffe_id_is_a_stranger(ca: TestCa, uris: tuple[str, ...]) -> None:
    async def main() -> None:
        async with running(host(allow, tls=deputy_tls(ca))) as to:
            assert await ask_tls(to, ca, ca.issue(*uris, dns=("envoy",))) == DENIALS.stranger

    asyncio.run(main())


def test_a_connection_that_outlives_its_certificate_is_a_stranger(
    ca: TestCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import UTC, datetime

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]  # one use only
            return datetime.now(UTC) + timedelta(minutes=11)

    async def main() -> None:
        async with running(host(allow, tls=deputy_tls(ca))) as to:
            assert await ask_tls(to, ca, ca.issue(ENVOY)) == ALLOWED
            monkeypatch.setattr("authz.hosts.grpc.datetime", Later)
            assert await ask_tls(to, ca, ca.issue(ENVOY)) == DENIALS.stranger

    asyncio.run(main())


def _stranger_leaf(kind: str, ca: TestCa) -> Leaf | None:
    match kind:
        case "none":
            return None
        case "other root":
            return TestCa.create().issue(ENVOY)
        case _:
            return ca.issue(ENVOY, lifetime=timedelta(minutes=-1))


@pytest.mark.parametrize("kind", ["none", "other root", "expired"])
def test_a_client_without_a_valid_certificate_fails_the_handshake(ca: TestCa, kind: str) -> None:
    async def main() -> None:
        called: list[bytes] = []

        async def check(request: bytes, asker: SpiffeId | None) -> bytes:
            called.append(request)
            return ALLOWED

        async with running(host(check, tls=deputy_tls(ca))) as to:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask_tls(to, ca, _stranger_leaf(kind, ca))
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            with pytest.raises(grpc.aio.AioRpcError):
                await ask(to)
        assert called == []

    asyncio.run(main())


def test_new_certificates_and_roots_count_from_the_next_connection_on(ca: TestCa, private: Path) -> None:
    async def main() -> None:
        other = TestCa.create()
        paths = [private / name for name in FILES]

        def write(from_ca: TestCa) -> None:
            leaf = from_ca.issue("spiffe://mesh.example/deputy", dns=("localhost",))
            for path, data in zip(paths, (leaf.certificate, leaf.key, from_ca.bundle), strict=True):
                path.write_bytes(data)

        write(ca)
        async with running(host(allow, tls=tls_from_files(private))) as to:
            assert await ask_tls(to, ca, ca.issue(ENVOY)) == ALLOWED
            write(other)
            assert await ask_tls(to, other, other.issue(ENVOY)) == ALLOWED
            with pytest.raises(grpc.aio.AioRpcError):
                await ask_tls(to, ca, ca.issue(ENVOY))
            paths[1].unlink()  # a source that fails: what was there stays
            assert await ask_tls(to, other, other.issue(ENVOY)) == ALLOWED

    asyncio.run(main())


def test_the_key_is_not_in_the_repr(ca: TestCa) -> None:
    assert "PRIVATE" not in repr(deputy_tls(ca)())


# ---- where it listens


def test_plaintext_where_others_can_reach_it_is_refused() -> None:
    for text in ("0.0.0.0:9191", "[::]:9191", "deputy.example:9191", "localhost:9191"):
        with pytest.raises(ConfigError, match="TLS is needed"):
            host(allow, parse_address(text))


def test_a_socket_of_ones_own_works_and_only_its_owner_can_reach_it(private: Path) -> None:
    async def main() -> None:
        path = private / "run" / "deputy.sock"
        async with running(host(allow, UnixAddress(str(path)))) as to:
            assert await ask(to) == ALLOWED
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    asyncio.run(main())


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o777, 0o701])
def test_a_socket_in_a_directory_that_is_open_to_others_is_refused(private: Path, mode: int) -> None:
    async def main() -> None:
        (private / "run").mkdir()
        (private / "run").chmod(mode)
        with pytest.raises(ConfigError, match="open to others"):
            await host(allow, UnixAddress(str(private / "run" / "deputy.sock"))).start()

    asyncio.run(main())


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(private: Path) -> None:
    async def main() -> None:
        address = UnixAddress(str(private / "deputy.sock"))
        import socket

        stale = socket.socket(socket.AF_UNIX)
        stale.bind(address.path)
        stale.close()
        async with running(host(allow, address)) as to:
            with pytest.raises(ConfigError, match="listens on"):
                await host(allow, address).start()
            assert await ask(to) == ALLOWED

    asyncio.run(main())


def test_a_port_in_use_is_an_error_not_a_share() -> None:
    async def main() -> None:
        first = host(allow)
        address = await first.start()
        try:
            with pytest.raises(ConfigError, match="cannot listen"):
                await host(allow, address).start()
        finally:
            await first.stop()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9191", TcpAddress("127.0.0.1", 9191)),
        ("[::1]:1", TcpAddress("::1", 1)),
        ("deputy.example:0", TcpAddress("deputy.example", 0)),
        ("unix:///run/deputy/x.sock", UnixAddress("/run/deputy/x.sock")),
    ],
)
def test_an_address_reads_back_as_it_was_written(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "", ":9191", "9191", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "a b:1",
        "host:1\n", "::1:9191", "[127.0.0.1]:1", "[::g]:1", "[]:1", "unix://relative", "unix:", "unix:/a", "unix:///a/",
        "unix:///a\0b", "unix:///" + "a" * 107, "http://a:1", "-a:1", "ho\u017ft:1", "host:\u0661",
    ],
)  # fmt: skip
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_address(text)


# ---- health, reflection, stopping


async def health_of(channel: grpc.aio.Channel, service: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return int(answer.status)


def test_health_follows_readiness_for_the_server_and_the_service() -> None:
    async def main() -> None:
        server = host(allow)
        async with running(server) as to, grpc.aio.insecure_channel(to) as channel:
            serving = health_pb2.HealthCheckResponse
            for service in ("", SERVICE):
                assert await health_of(channel, service) == serving.NOT_SERVING
            await server.set_ready(True)
            for service in ("", SERVICE):
                assert await health_of(channel, service) == serving.SERVING
            await server.set_ready(False)
            assert await health_of(channel) == serving.NOT_SERVING

    asyncio.run(main())


def test_reflection_shows_envoys_service_name_and_messages() -> None:
    async def main() -> None:
        async with running(host(allow)) as to, grpc.aio.insecure_channel(to) as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            request = reflection_pb2.ServerReflectionRequest
            call = stub.ServerReflectionInfo(
                iter([request(list_services=""), request(file_containing_symbol=SERVICE)])
            )
            answers = [answer async for answer in call]
        names = [service.name for service in answers[0].list_services_response.service]
        assert "envoy.service.auth.v3.Authorization" in names
        assert answers[1].file_descriptor_response.file_descriptor_proto

    asyncio.run(main())


def test_stopping_says_not_serving_and_still_finishes_what_is_in_flight() -> None:
    async def main() -> None:
        go, entered = asyncio.Event(), asyncio.Event()

        async def check(request: bytes, asker: SpiffeId | None) -> bytes:
            if request == b"slow":
                entered.set()
                await go.wait()
            return ALLOWED

        server = host(check, limits=Limits(check_seconds=60, drain_seconds=3600, grace_seconds=30))
        to = target(await server.start())
        await server.set_ready(True)
        async with grpc.aio.insecure_channel(to) as channel:
            slow = asyncio.ensure_future(check_on(channel, b"slow"))
            await entered.wait()
            stopping = asyncio.ensure_future(server.stop())
            not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
            while await health_of(channel) != not_serving:  # noqa: ASYNC110  # each turn is a call over the wire
                await asyncio.sleep(0)
            assert await check_on(channel) == ALLOWED  # who asks while it drains is still answered
            stopping.cancel()  # the hour of draining is over
            go.set()
            assert await slow == ALLOWED
            with pytest.raises(asyncio.CancelledError):
                await stopping
            await server.stop()
            with pytest.raises(grpc.aio.AioRpcError):
                await check_on(channel)

    asyncio.run(main())


def test_serve_runs_until_told_to_stop(private: Path) -> None:
    async def main() -> None:
        stopped = asyncio.Event()
        server = host(allow, UnixAddress(str(private / "deputy.sock")))
        run = asyncio.ensure_future(serve(server, stopped))
        async with grpc.aio.insecure_channel(f"unix://{private}/deputy.sock") as channel:
            method: Callable[..., Awaitable[bytes]] = channel.unary_unary(CALL)
            assert await method(b"x", wait_for_ready=True, timeout=20) == ALLOWED
            assert await health_of(channel) == health_pb2.HealthCheckResponse.SERVING
        stopped.set()
        await run

    asyncio.run(main())


def test_the_umask_of_the_process_is_as_before(private: Path) -> None:
    async def main() -> None:
        before = os.umask(0o022)
        try:
            async with running(host(allow, UnixAddress(str(private / "deputy.sock")))):
                assert os.umask(0o022) == 0o022
        finally:
            os.umask(before)

    asyncio.run(main())


def test_each_refusal_that_the_flow_did_not_make_is_told() -> None:
    """They have no record of their own, so they must at least be counted."""

    async def main() -> None:
        told: list[str] = []
        go, entered = asyncio.Event(), asyncio.Event()

        async def check(request: bytes, asker: SpiffeId | None) -> bytes:
            entered.set()
            await go.wait()
            return b"" if request == b"no status" else ALLOWED

        limits = Limits(in_flight=1, check_seconds=60, drain_seconds=0)
        server = GrpcHost(
            check,
            denials=DENIALS,
            listen=parse_address("127.0.0.1:0"),
            limits=limits,
            refused=told.append,
        )
        async with running(server) as to, grpc.aio.insecure_channel(to) as channel:
            first = asyncio.ensure_future(check_on(channel, b"no status"))
            await entered.wait()
            await check_on(channel)
            go.set()
            await first
            assert await check_on(channel) == ALLOWED
        assert told == ["busy", "failed"]

    asyncio.run(main())
