"""`deputy serve` as a process: what is wrong is one clear sentence, exit 1, and nothing listens."""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path

import pytest
import yaml

from authz.cli import run
from authz.config import load_config
from authz.policy.embedded import engine_version
from authz.policy.lock import PolicyLock
from authz.policy.modules import read_modules
from tests.service_files import AT, GRANTS, ROOT, ServiceFiles

pytestmark = pytest.mark.e2e
SECONDS = 60


class Deputy:
    """The real command, and what it says."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "authz", "serve", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment},
        )

    def ready(self) -> str:
        """Wait until it says that it is ready, and return that line."""
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert line.startswith("deputy is ready"), line + self.process.stderr.read()
        return line

    def ended(self) -> tuple[int, str, str]:
        """Wait for the end, and return exit code, output and errors."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        code = self.process.wait(timeout=SECONDS)
        with self.process:  # which closes the pipes
            # Not `communicate`: it would pass over the lines that came in one piece with the first.
            return code, self.process.stdout.read(), self.process.stderr.read()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        self.process.send_signal(number)
        return self.ended()


@pytest.fixture
def started() -> Iterator[list[Deputy]]:
    """Commands that a test started; they end with it."""
    found: list[Deputy] = []
    yield found
    for deputy in found:
        if deputy.process.poll() is None:
            deputy.process.kill()
            deputy.process.communicate()


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def answers(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def service(tmp_path: Path) -> ServiceFiles:
    """A service with ports that nobody uses."""
    files = ServiceFiles(tmp_path / "service")
    set_ports(files, *free_ports(2))
    return files


def ports_of(files: ServiceFiles) -> tuple[int, int]:
    config = files.config()
    return int(config.check.listen.rpartition(":")[2]), int(config.broker.listen.rpartition(":")[2])


def set_ports(files: ServiceFiles, check: int, broker: int) -> None:
    value = yaml.safe_load(files.path.read_text())
    value["check"]["listen"] = f"127.0.0.1:{check}"
    value["broker"]["listen"] = f"127.0.0.1:{broker}"
    files.path.write_text(yaml.safe_dump(value))


def refused(files: ServiceFiles, *says: str) -> str:
    """Start it, and see one sentence, exit 1, and nothing that listens."""
    ports = ports_of(files)
    code, out, err = Deputy("--config", str(files.path)).ended()
    assert (code, out) == (1, ""), err
    assert err.startswith("deputy: "), err
    assert err.count("\n") == 1, err
    for part in says:
        assert part in err
    assert not any(answers(port) for port in ports)
    return err


def test_a_missing_configuration(tmp_path: Path) -> None:
    code, out, err = Deputy("--config", str(tmp_path / "deputy.yaml")).ended()
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "No such file or directory; see 'deputy config schema'" in err


def test_a_wrong_configuration(service: ServiceFiles) -> None:
    ports = ports_of(service)
    service.path.write_text(f"{service.path.read_text()}surprise: 1\n")
    code, out, err = Deputy("--config", str(service.path)).ended()
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "deputy.yaml: surprise: unknown key" in err
    assert not any(answers(port) for port in ports)


@pytest.mark.parametrize("text", ["", "version: 1\n", "version: 1\ntiers: {}\nservices: {}\nagents: {}\n"])
def test_empty_grants(service: ServiceFiles, text: str) -> None:
    (service.directory / "grants.yaml").write_text(text)
    refused(service, "grants.yaml: ")


def test_missing_grants(service: ServiceFiles) -> None:
    (service.directory / "grants.yaml").unlink()
    refused(service, "cannot read the grants", "No such file")


def own_rego(service: ServiceFiles, text: str) -> None:
    (service.directory / "rego").mkdir()
    (service.directory / "rego" / "own.rego").write_text(text)
    service.path.write_text(f"{service.path.read_text()}policy: {{rego: rego}}\n")


def test_rego_that_nobody_proved(service: ServiceFiles) -> None:
    own_rego(service, "package deputy\n\ndecision := {}\n")
    refused(service, "without a policy lock", "'deputy policy check --lock'")


def test_rego_that_does_not_compile(service: ServiceFiles) -> None:
    """With a lock that says it was proved: nobody has to believe a lock for that."""
    own_rego(service, "package deputy\n\ndecision := \n")
    rego = service.directory / "rego"
    lock = PolicyLock(read_modules(rego).digest, 1, "0" * 64, ("rvm",), engine_version(), "1.22.0")
    (rego / "policy.lock").write_bytes(lock.to_bytes())
    refused(service, "cannot read the policy", "own.rego")


def test_a_data_directory_that_is_open_to_others(service: ServiceFiles) -> None:
    (service.directory / "data").mkdir(mode=0o755)
    (service.directory / "data").chmod(0o755)
    refused(service, "chmod 700")


def test_keys_that_are_open_to_others(service: ServiceFiles) -> None:
    service.run_once()
    next((service.directory / "data" / "keys").glob("key-*.pem")).chmod(0o644)
    refused(service, "chmod 600")


def test_keys_of_another_trust_domain(service: ServiceFiles) -> None:
    service.run_once()
    service.path.write_text(
        service.path.read_text().replace("trust_domain: mesh.example", "trust_domain: other.example")
    )
    refused(service, "trust domain")


def test_a_damaged_state(service: ServiceFiles) -> None:
    service.run_once()
    state = service.directory / "data" / "state.db"
    state.write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    state.chmod(0o600)
    refused(service, "state.db")


def test_a_log_that_was_tampered_with(service: ServiceFiles, started: list[Deputy]) -> None:
    started.append(Deputy("--config", str(service.path)))
    started[0].ready()
    assert started[0].stop()[0] == 0
    (segment,) = (service.directory / "data" / "audit").glob("*.jsonl")
    segment.write_bytes(segment.read_bytes().replace(b'"start"', b'"stop!"', 1))
    refused(service, "deputy audit verify")


@pytest.mark.parametrize("taken", ["check", "broker"])
def test_a_port_in_use(service: ServiceFiles, taken: str) -> None:
    ports = dict(zip(("check", "broker"), ports_of(service), strict=True))
    with socket.create_server(("127.0.0.1", ports[taken])):
        code, out, err = Deputy("--config", str(service.path)).ended()
    assert (code, out) == (1, ""), err
    assert err.count("\n") == 1, err
    assert str(ports[taken]) in err
    assert "in use" in err
    assert not any(answers(port) for port in ports.values())


def test_two_services_on_one_data_directory(service: ServiceFiles, started: list[Deputy]) -> None:
    started.append(Deputy("--config", str(service.path)))
    started[0].ready()
    ports = ports_of(service)
    other = service.directory / "other.yaml"
    text = service.path.read_text()
    for old, new in zip(ports, free_ports(2), strict=True):
        text = text.replace(f":{old}", f":{new}")
    other.write_text(text)
    code, out, err = Deputy("--config", str(other)).ended()
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "another process writes the audit log" in err
    # The first one did not notice.
    assert all(answers(port) for port in ports)
    assert started[0].stop()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_quietly_when_asked_to(
    service: ServiceFiles, started: list[Deputy], number: signal.Signals
) -> None:
    started.append(Deputy("--config", str(service.path)))
    check, broker = ports_of(service)
    line = started[0].ready()
    assert f"ext_authz on 127.0.0.1:{check}, broker on https://127.0.0.1:{broker}" in line
    code, out, err = started[0].stop(number)
    assert (code, out, err) == (0, "", "")
    assert not answers(check)


def test_no_secret_is_printed(service: ServiceFiles, started: list[Deputy]) -> None:
    started.append(Deputy("--config", str(service.path)))
    line = started[0].ready()
    _, out, err = started[0].stop()
    said = line + out + err
    assert "PRIVATE KEY" not in said
    assert "eyJ" not in said


def test_dev_needs_no_configuration(tmp_path: Path, started: list[Deputy]) -> None:
    """Prepared once with other ports, so that the test fits on any machine; then started as it is."""
    directory = tmp_path / "dev"
    check, broker = free_ports(2)
    prepare = (
        "from authz.dev import Dev; from pathlib import Path; import sys; Dev.prepare(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", prepare, str(directory)], check=True, env={"PYTHONPATH": str(ROOT)})
    config = directory / "deputy.yaml"
    config.write_text(config.read_text().replace(":9191", f":{check}").replace(":9192", f":{broker}"))
    started.append(Deputy("--dev", "--directory", str(directory)))
    started[0].ready()
    runner = directory / "workloads" / "runner"
    socket = f"unix://{directory}/run/runner.sock"
    subprocess.run(
        [sys.executable, "-m", "authz", "identity", "fetch", "--socket", socket, "--write", str(runner)],
        check=True,
    )
    context = ssl.create_default_context(cafile=str(runner / "roots.pem"))
    context.load_cert_chain(runner / "svid.pem", runner / "key.pem")
    connection = HTTPSConnection("localhost", broker, context=context, timeout=SECONDS)
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    connection.close()
    code, _, err = started[0].stop()
    assert code == 0
    assert "--config-path" in err
    assert str(directory) in err
    if (sockets := load_config(config).identity.task_sockets) is not None:
        shutil.rmtree(sockets)


def test_dev_refuses_other_addresses(tmp_path: Path) -> None:
    directory = tmp_path / "dev"
    directory.mkdir(mode=0o700)
    files = ServiceFiles(tmp_path / "service")
    text = files.path.read_text().replace("check:\n", "check:\n  listen: 0.0.0.0:9191\n")
    (directory / "deputy.yaml").write_text(text)
    (directory / "grants.yaml").write_bytes(GRANTS.read_bytes())
    code, out, err = Deputy("--dev", "--directory", str(directory)).ended()
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "--dev listens on this machine only" in err
    assert not (directory / "data").exists()


def test_a_capture_is_replayed_beside_the_running_service(
    service: ServiceFiles, started: list[Deputy], capsys: pytest.CaptureFixture[str]
) -> None:
    _, capture = service.allowed_call()
    started.append(Deputy("--config", str(service.path)))
    started[0].ready()
    log = service.directory / "data" / "audit" / "000000000001.jsonl"
    before = log.read_bytes()
    assert run(["policy", "explain", str(capture), "--config", str(service.path), "--at", AT]) == 0
    assert "carried by" in capsys.readouterr().out
    assert log.read_bytes() == before
    assert started[0].stop()[0] == 0


def test_grants_are_taken_while_it_runs(service: ServiceFiles, started: list[Deputy]) -> None:
    started.append(Deputy("--config", str(service.path)))
    started[0].ready()
    grants = service.directory / "grants.yaml"
    grants.write_text(grants.read_text().replace("max: 100", "max: 10"))
    log = service.directory / "data" / "audit" / "000000000001.jsonl"
    deadline = time.monotonic() + SECONDS
    while log.read_bytes().count(b'"change":"loaded"') < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert log.read_bytes().count(b'"change":"loaded"') == 2
    assert started[0].stop()[0] == 0
