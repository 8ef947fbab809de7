"""mesh-config/envoy/jwt_authn.yaml in a real Envoy, with the keys of a real broker: what passes there."""

import base64
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from authz.mesh.envoy_process import EnvoyProcess, find_envoy
from identity.authority import Authority
from identity.caller import Caller
from identity.delegation import issue_delegation_token
from identity.grant import Grant
from identity.keys import SigningKey
from identity.transaction import TransactionIssuer
from tests import identity_world as world
from tests.docs.blocks import ROOT
from tests.docs.demo import KeptDemo
from tests.service_files import authority_on_disk

pytestmark = pytest.mark.e2e
FILE = ROOT / "mesh-config/envoy/jwt_authn.yaml"
CLAIMS = "x-deputy-transaction"

Header = tuple[str, str]


class Server(BaseHTTPRequestHandler):
    """A tool server that is not written in Python, as far as Envoy can tell: it says what reached it."""

    def do_POST(self) -> None:
        body = json.dumps([[name.lower(), value] for name, value in self.headers.items()]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Door(HTTPConnection):
    """A connection to the socket that the Envoy before this one connects to."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)


@dataclass(frozen=True, slots=True)
class Guarded:
    """The server behind the Envoy, and the authority whose tokens count there."""

    door: Path
    authority: Authority

    def ask(self, *headers: Header) -> tuple[int, list[list[str]]]:
        with closing(Door(self.door)) as connection:
            connection.putrequest("POST", "/mcp")
            for name, value in (*headers, ("content-length", "2")):
                connection.putheader(name, value)
            connection.endheaders(b"{}")
            answer = connection.getresponse()
            body = answer.read()
            return answer.status, json.loads(body) if answer.status == 200 else []

    def token(self, key: SigningKey | None = None, issuer: str = world.ISSUER, **grant: Any) -> str:
        """Issue a transaction token as Deputy does, or as somebody else would."""
        now = datetime.now(UTC) - timedelta(seconds=grant.pop("age", 0))
        made = TransactionIssuer(lambda: key or self.authority.token_key, issuer, world.TD, 60)
        right: Grant = world.grant(granted_at=now, **grant)
        return made.issue(right, _caller(now), now, os.urandom).token


def _caller(now: datetime) -> Caller:
    return world.caller(task=world.task(deadline=now + timedelta(hours=1)))


def _claims(header: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(header + "=="))
    return claims


def _replaced(text: str, changes: dict[str, str]) -> str:
    for before, after in changes.items():
        assert before in text, before
        text = text.replace(before, after)
    return text


@contextmanager
def _serving() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def guarded(demo: KeptDemo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """The checked-in file with paths and ports of this machine, in front of a server."""
    home = tmp_path_factory.mktemp("jwt")
    config = yaml.safe_load((demo.home / "deputy.yaml").read_text())
    broker = config["broker"]["listen"].rpartition(":")[2]
    authority = authority_on_disk(demo.home / "data/keys", world.TD)
    with _serving() as port:
        changes = {
            "/run/deputy/tickets.sock": config["identity"]["workloads"][0]["socket"].removeprefix("unix://"),
            "/run/deputy-tickets": str(home),
            "/run/services": str(home),
            "port_value: 8080": f"port_value: {port}",
            "port_value: 9192": f"port_value: {broker}",
        }
        configuration = yaml.safe_load(_replaced(FILE.read_text("utf-8"), changes))
        with EnvoyProcess.start(configuration, home / "envoy"):
            yield Guarded(home / "tickets.sock", authority)


def test_a_real_envoy_accepts_the_file_without_a_word(tmp_path: Path) -> None:
    file = tmp_path / "envoy.yaml"
    file.write_text(FILE.read_text("utf-8").replace("/run/deputy-tickets", str(tmp_path)))
    command = [str(find_envoy()), "--mode", "validate", "-c", str(file), "--log-level", "warning"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_transaction_token_for_the_service_passes_and_the_server_reads_its_claims(guarded: Guarded) -> None:
    status, headers = guarded.ask(
        ("txn-token", guarded.token()), (CLAIMS, "forged"), ("x-deputy-human", "root")
    )
    assert status == 200
    seen = dict(headers)
    claims = _claims(seen[CLAIMS])
    assert claims["sub"] == world.LEAD.uri
    assert claims["tctx"]["tool"] == "read_ticket"
    assert len([name for name, _ in headers if name == CLAIMS]) == 1
    assert {"txn-token", "x-deputy-token"}.isdisjoint(seen)
    assert "x-deputy-human" not in seen


def test_without_a_token_nothing_passes(guarded: Guarded) -> None:
    good = guarded.token()
    for headers in (
        [],
        [("txn-token", "")],
        [("authorization", f"Bearer {good}")],
        [("x-deputy-token", good)],
    ):
        assert guarded.ask(*headers)[0] == 401, headers
    assert guarded.ask(("txn-token", f"{good}, {guarded.token()}"))[0] == 401


def test_of_two_tokens_the_server_never_gets_the_claims_of_the_wrong_one(guarded: Guarded) -> None:
    good, bill = ("txn-token", guarded.token()), ("txn-token", guarded.token(service="billing"))
    assert guarded.ask(bill, good)[0] == 403
    status, headers = guarded.ask(good, bill)
    assert status in {200, 401}
    assert [_claims(value)["tctx"]["service"] for name, value in headers if name == CLAIMS] in (
        [],
        ["tickets"],
    )


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        ("expired", 401),
        ("tampered", 401),
        ("signed by a stranger", 401),
        ("signed by the key of SVIDs", 401),
        ("of another issuer", 401),
        ("for another service", 403),
        ("a delegation token", 403),
        ("a delegation token for the trust domain", 403),
        ("an SVID", 401),
    ],
)
def test_another_token_does_not_pass(guarded: Guarded, attack: str, expected: int) -> None:
    now = datetime.now(UTC)
    match attack:
        case "expired":
            token = guarded.token(age=100)
        case "tampered":
            head, _, signature = guarded.token().rpartition(".")
            token = f"{head}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
        case "signed by a stranger":
            token = guarded.token(world.STRANGER_KEY)
        case "signed by the key of SVIDs":
            token = guarded.token(guarded.authority.jwt_key)
        case "of another issuer":
            token = guarded.token(issuer="https://other.mesh.example")
        case "for another service":
            token = guarded.token(service="billing")
        case "an SVID":
            end = now + timedelta(hours=1)
            token = guarded.authority.issue_jwt_svid(world.RUNNER, "mesh.example", now, 60, end)
        case _:
            audience = "mesh.example" if attack.endswith("domain") else "https://tickets.mesh.example"
            seconds = int(now.timestamp())
            right = world.delegation(audience=audience, issued_at=seconds, expires_at=seconds + 60)
            token = issue_delegation_token(guarded.authority.token_key, right)
    assert guarded.ask(("txn-token", token))[0] == expected
