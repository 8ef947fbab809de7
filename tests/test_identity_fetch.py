"""`deputy identity fetch`: a Workload API's answer, checked before it is shown or written."""

import asyncio
import json
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler
from grpclib.server import Server

from authz.cli import run
from identity.authority import Authority
from identity.entitlement import Entitlement
from identity.errors import NotEntitledError
from identity.keys import SigningKey
from identity.pb import workload_pb2 as pb
from identity.x509_svid import verify_x509_svid
from tests.socket_world import AUDIENCE, JOB, MESH, OTHER, WEB, SocketWorld

Fetch = Callable[..., tuple[int, str, str]]


@contextmanager
def in_thread(opened: Callable[[], AbstractAsyncContextManager[object]]) -> Iterator[None]:
    """Keep something open in an event loop of its own until the block ends."""
    ready, loop, ended = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def keep() -> None:
        async with opened():
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(keep()))
    thread.start()
    try:
        assert ready.wait(20)
        yield
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(20)
        loop.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run/api.sock"


@pytest.fixture
def fetch(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Fetch:
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", f"unix://{path}")

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(["identity", "fetch", *arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        assert captured.err.replace("\n", "").isprintable()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def world(path: Path) -> Iterator[SocketWorld]:
    made = SocketWorld()
    with in_thread(lambda: made.served(path)):
        yield made


# With our own Workload API


def test_an_svid_is_shown_without_its_key(world: SocketWorld, fetch: Fetch) -> None:
    code, out, err = fetch("-o", "json")
    assert (code, err) == (0, "")
    row = json.loads(out)
    assert (row["version"], row["spiffe_id"]) == ("deputy.identity-x509-svid/v1", str(WEB))
    assert (row["certificates"], row["roots"], row["files"]) == (1, 1, [])
    assert "PRIVATE" not in out
    assert fetch("-o", "name")[1] == f"{WEB}\n"
    assert "PRIVATE" not in fetch()[1]


def test_the_files_are_private_and_belong_together(world: SocketWorld, fetch: Fetch, tmp_path: Path) -> None:
    directory = tmp_path / "svid"
    for _ in range(2):  # also in the place of older ones
        code, out, err = fetch("--write", str(directory))
        assert (code, err) == (0, "")
        assert str(directory / "key.pem") in out
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert sorted(file.name for file in directory.iterdir()) == ["key.pem", "roots.pem", "svid.pem"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()} == {0o600}
    chain = x509.load_pem_x509_certificates((directory / "svid.pem").read_bytes())
    roots = x509.load_pem_x509_certificates((directory / "roots.pem").read_bytes())
    key = SigningKey.parse_pem((directory / "key.pem").read_bytes())
    assert key.private_key.public_key() == chain[0].public_key()
    ders = [one.public_bytes(serialization.Encoding.DER) for one in chain]
    assert verify_x509_svid(ders, roots, MESH, datetime.now(UTC)).spiffe_id == WEB


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_nothing_is_written_where_others_could_read(
    world: SocketWorld, fetch: Fetch, tmp_path: Path, mode: int
) -> None:
    directory = tmp_path / "open"
    directory.mkdir()
    directory.chmod(mode)
    code, out, err = fetch("--write", str(directory))
    assert (code, out) == (1, "")
    assert "open to others" in err
    assert list(directory.iterdir()) == []


def test_nothing_is_written_through_a_link(world: SocketWorld, fetch: Fetch, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    assert fetch("--write", str(tmp_path / "link"))[0] == 1
    directory = tmp_path / "svid"
    directory.mkdir(mode=0o700)
    (tmp_path / "target").write_text("kept")
    (directory / "key.pem").symlink_to(tmp_path / "target")
    assert fetch("--write", str(directory))[0] == 0
    assert (tmp_path / "target").read_text() == "kept"


def test_a_jwt_svid_is_printed_alone(world: SocketWorld, fetch: Fetch, tmp_path: Path) -> None:
    code, out, err = fetch("--audience", AUDIENCE)
    assert (code, err) == (0, "")
    assert out.count(".") == 2
    assert out.count("\n") == 1
    row = json.loads(fetch("--audience", AUDIENCE, "-o", "json")[1])
    assert (row["version"], row["spiffe_id"]) == ("deputy.identity-jwt-svid/v1", str(WEB))
    code, out, _ = fetch("--audience", AUDIENCE, "--write", str(tmp_path / "jwt"))
    assert (tmp_path / "jwt/svid.jwt").read_text() == out.strip()


def test_one_of_several_identities(world: SocketWorld, fetch: Fetch) -> None:
    world.entitlements.given = (Entitlement(WEB, hint="web"), Entitlement(JOB))
    assert "web" in fetch()[1]
    assert fetch("--id", str(JOB), "-o", "name")[1] == f"{JOB}\n"
    code, out, err = fetch("--id", "spiffe://mesh.example/other")
    assert (code, out) == (1, "")
    assert f"is not this process's; it has: {WEB}, {JOB}" in err


def test_who_has_no_identity_is_told_where_it_is_given(world: SocketWorld, fetch: Fetch) -> None:
    world.entitlements.refusal = NotEntitledError("nobody")
    code, out, err = fetch()
    assert (code, out) == (1, "")
    assert "see identity.workloads in deputy.yaml" in err


def test_an_api_that_cannot_issue_now_says_try_again(world: SocketWorld, fetch: Fetch) -> None:
    world.is_ready = False
    assert "try again" in fetch()[2]
    assert fetch("--audience", AUDIENCE)[0] == 1


def test_an_audience_that_is_not_known(world: SocketWorld, fetch: Fetch) -> None:
    code, out, _ = fetch("--audience", "https://else.example")
    assert (code, out) == (1, "")


# Without one


@pytest.mark.parametrize(
    "address", ["", "/run/x", "unix:x", "tcp://127.0.0.1:1", "unix:///x?y", "unix:///x#y", "unix://host"]
)
def test_an_address_that_is_no_unix_socket_is_refused(fetch: Fetch, address: str) -> None:
    """E-4: `unix:///abs/path` and no other components; TCP names no caller."""
    code, out, err = fetch("--socket", address)
    assert (code, out) == (1, "")
    assert "not unix:///absolute/path" in err


def test_nobody_there_says_how_to_start(fetch: Fetch) -> None:
    code, out, err = fetch()
    assert (code, out) == (1, "")
    assert "is 'deputy serve' running, with this socket?" in err


def test_a_path_that_is_too_long_is_one_sentence(fetch: Fetch) -> None:
    assert fetch("--socket", f"unix:///{'x' * 300}")[0] == 1


# Against a Workload API that lies


@dataclass
class Liar:
    """Answers what the test wants."""

    answer: Any
    asked: list[Any] = field(default_factory=list)

    def __mapping__(self) -> dict[str, Handler]:
        stream, unary = Cardinality.UNARY_STREAM, Cardinality.UNARY_UNARY
        return {
            "/SpiffeWorkloadAPI/FetchX509SVID": Handler(
                self.respond, stream, pb.X509SVIDRequest, pb.X509SVIDResponse
            ),
            "/SpiffeWorkloadAPI/FetchJWTSVID": Handler(
                self.respond, unary, pb.JWTSVIDRequest, pb.JWTSVIDResponse
            ),
        }

    async def respond(self, stream: Any) -> None:
        assert stream.metadata["workload.spiffe.io"] == "true"
        self.asked.append(await stream.recv_message())
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            await stream.send_message(self.answer)


@asynccontextmanager
async def lying(path: Path, answer: Any) -> AsyncIterator[None]:
    path.parent.mkdir(exist_ok=True)
    server = Server([Liar(answer)])
    await server.start(path=str(path))
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


NOW = datetime.now(UTC)
AUTHORITY = Authority.generate(MESH, NOW)
KEY = SigningKey.generate()
KEY_DER = KEY.private_key.private_bytes(
    serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)


def root(authority: Authority) -> bytes:
    return authority.roots[0].public_bytes(serialization.Encoding.DER)


def svid(authority: Authority = AUTHORITY, **changes: Any) -> pb.X509SVIDResponse:
    name = WEB if authority is AUTHORITY else JOB
    name = type(name)(authority.trust_domain, name.path)
    leaf = authority.issue_workload_svid(name, KEY.private_key.public_key(), NOW, 3600)
    right = {"spiffe_id": str(name), "x509_svid": leaf, "x509_svid_key": KEY_DER, "bundle": root(authority)}
    return pb.X509SVIDResponse(svids=[pb.X509SVID(**(right | changes))])


STRANGER = Authority.generate(OTHER, NOW)
OLD = Authority.generate(MESH, NOW - timedelta(days=3))
OTHER_KEY = SigningKey.generate().private_key.private_bytes(
    serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
LIES: list[tuple[str, Any]] = [
    ("no answer", None),
    ("no identity", pb.X509SVIDResponse()),
    ("a key of somebody else", svid(x509_svid_key=OTHER_KEY)),
    ("no key", svid(x509_svid_key=b"")),
    ("garbage for a key", svid(x509_svid_key=b"\x30\x03\x02\x01\x00")),
    ("another name", svid(spiffe_id=str(JOB))),
    ("a name that is none", svid(spiffe_id="spiffe://mesh.example/a\n\x1b[31m")),
    ("a root of another authority", svid(bundle=root(Authority.generate(MESH, NOW)))),
    ("no root", svid(bundle=b"")),
    ("no certificate", svid(x509_svid=b"")),
    ("a certificate and more", svid(x509_svid=svid().svids[0].x509_svid + b"\x00")),
    ("PEM, not DER", svid(bundle=AUTHORITY.ca.certificate_pem())),
    ("another domain's name under its own roots", svid(STRANGER, spiffe_id=str(WEB))),
    ("expired roots", svid(bundle=root(OLD))),
    ("an error that steers a terminal", GRPCError(Status.INTERNAL, "\x1b]0;owned\x07" + "x" * 5000)),
]


@pytest.mark.parametrize("answer", [lie[1] for lie in LIES], ids=[lie[0] for lie in LIES])
def test_a_lie_is_neither_shown_nor_written(path: Path, fetch: Fetch, answer: Any, tmp_path: Path) -> None:
    with in_thread(lambda: lying(path, answer)):
        code, out, err = fetch("--write", str(tmp_path / "svid"))
    assert (code, out) == (1, "")
    assert "\x1b" not in err
    assert len(err) < 1000
    assert not (tmp_path / "svid").exists()


@pytest.mark.parametrize(
    "answer",
    [
        pb.JWTSVIDResponse(),
        pb.JWTSVIDResponse(svids=[pb.JWTSVID(svid="")]),
        pb.JWTSVIDResponse(svids=[pb.JWTSVID(svid="x\r\nHost: evil")]),
        pb.JWTSVIDResponse(svids=[pb.JWTSVID(svid="\x1b[31m")]),
        GRPCError(Status.PERMISSION_DENIED, "no"),
    ],
    ids=["none", "empty", "a header", "an escape", "refused"],
)
def test_a_token_that_is_none_is_not_printed(path: Path, fetch: Fetch, answer: Any) -> None:
    with in_thread(lambda: lying(path, answer)):
        code, out, _ = fetch("--audience", AUDIENCE)
    assert (code, out) == (1, "")


def test_the_right_answer_of_another_implementation_is_taken(path: Path, fetch: Fetch) -> None:
    with in_thread(lambda: lying(path, svid())):
        assert fetch("-o", "name") == (0, f"{WEB}\n", "")
