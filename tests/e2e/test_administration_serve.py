"""Administration of a real `deputy serve`: its socket, its TLS, its log, and a restart."""

import json
import ssl
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from authz.cli import run
from identity.keys import SigningKey
from identity.spiffe import SpiffeId
from tests.fakes import DOMAIN
from tests.service_files import ServiceFiles, authority_on_disk
from tests.test_cli_serve import Deputy, free_ports, ports_of, set_ports

pytestmark = pytest.mark.e2e
DEPLOY = SpiffeId.parse("spiffe://mesh.example/ns/ci/sa/deploy")
ADMIN = f"\nadmin: {{operators: {{workloads: ['{DEPLOY}']}}}}\n"
TRAVEL = {
    "name": "travel",
    "owner": "owner",
    "sponsor": "sponsor",
    "purpose": "books flights",
    "ceiling": "observer",
    "hosts": ["spiffe://mesh.example/ns/agents/sa/runner"],
}


@pytest.fixture
def service(tmp_path: Path) -> ServiceFiles:
    files = ServiceFiles(tmp_path / "service")
    set_ports(files, *free_ports(2))
    grants = files.directory / "grants.yaml"
    grants.write_text(grants.read_text() + ADMIN)
    return files


@pytest.fixture
def started() -> Iterator[list[Deputy]]:
    found: list[Deputy] = []
    yield found
    for deputy in found:
        if deputy.process.poll() is None:
            deputy.process.kill()
            deputy.process.communicate()


def serve(service: ServiceFiles, started: list[Deputy]) -> Deputy:
    deputy = Deputy("--config", str(service.path))
    started.append(deputy)
    deputy.ready()
    return deputy


def test_what_is_ordered_is_recorded_and_outlives_a_restart(
    service: ServiceFiles, started: list[Deputy], capsys: pytest.CaptureFixture[str]
) -> None:
    here = ("--config", str(service.path))
    file = service.directory / "travel.yaml"
    file.write_text(yaml.safe_dump(TRAVEL))
    deputy = serve(service, started)
    socket = service.directory / "data" / "api.sock"
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert run(["agents", "register", str(file), *here]) == 0
    assert run(["agents", "contain", "travel", "--reason", "a drill", *here]) == 0
    assert "obeyed at once" in capsys.readouterr().err
    code, _, _ = deputy.stop()
    assert code == 0
    assert not socket.exists()
    assert run(["agents", "list", *here]) == 1
    assert "start it with 'deputy serve" in capsys.readouterr().err

    serve(service, started)
    assert run(["agents", "get", "travel", "-o", "json", *here]) == 0
    assert json.loads(capsys.readouterr().out)["contained"]["reason"] == "a drill"
    assert run(["agents", "release", "travel", "--reason", "over", *here]) == 0
    assert run(["agents", "retire", "triage", "--reason", "no", *here]) == 1
    records = [
        json.loads(line)
        for segment in sorted((service.directory / "data" / "audit").glob("*.jsonl"))
        for line in segment.read_text().splitlines()
    ]
    orders = [
        (each["action"], each["outcome"], each["subject"]) for each in records if each.get("kind") == "admin"
    ]
    assert orders[:3] == [
        ("agents/register", "ordered", "agent travel"),
        ("agents/contain", "ordered", "agent travel"),
        ("agents/release", "ordered", "agent travel"),
    ]
    assert orders[3][1] == "refused"


def test_a_workload_administers_over_tls_by_the_grants_file(
    service: ServiceFiles, started: list[Deputy], capsys: pytest.CaptureFixture[str]
) -> None:
    serve(service, started)
    authority = authority_on_disk(service.directory / "data" / "keys", DOMAIN)
    url = f"https://localhost:{ports_of(service)[1]}"
    ca = service.directory / "ca.pem"
    ca.write_bytes(authority.ca.certificate_pem())

    def ask(spiffe_id: SpiffeId, *arguments: str) -> int:
        key = SigningKey.generate()
        der = authority.issue_workload_svid(spiffe_id, key.private_key.public_key(), datetime.now(UTC), 600)
        certificate, key_file = service.directory / "cert.pem", service.directory / "key.pem"
        certificate.write_text(ssl.DER_cert_to_PEM_cert(der))
        key_file.write_bytes(key.reveal_pem())
        shown = ("--ca", str(ca), "--cert", str(certificate), "--key", str(key_file))
        return run([*arguments, "--url", url, *shown])

    assert ask(DEPLOY, "agents", "list", "-o", "name") == 0
    assert "triage" in capsys.readouterr().out
    assert ask(DEPLOY, "agents", "contain", "triage", "--reason", "a drill") == 0
    runner = SpiffeId.parse("spiffe://mesh.example/ns/agents/sa/runner")
    capsys.readouterr()
    assert ask(runner, "agents", "list") == 1
    assert "[DPT-NOT-PERMITTED]" in capsys.readouterr().err
    agent = SpiffeId.parse("spiffe://mesh.example/agent/triage/task/01JD0000000000000000000000")
    assert ask(agent, "agents", "release", "triage", "--reason", "let me go") == 1
    assert "an agent administers nothing" in capsys.readouterr().err
