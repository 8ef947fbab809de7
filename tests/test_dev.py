"""`deputy serve --dev`: prepared in a directory of its own, on the loopback, again from what is there."""

import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from authz.commands.dev_lines import dev_lines
from authz.config import load_config
from authz.dev import Dev, gateway_socket, runner_socket
from authz.errors import ConfigError, StoreError
from authz.policy.live import read_grants
from identity.spiffe import TrustDomain
from tests.source_rules import ROOT, Source, imports

TD = TrustDomain.parse("mesh.example")
GATEWAY = "spiffe://mesh.example/ns/mesh/sa/gateway"
RUNNER = "spiffe://mesh.example/ns/agents/sa/runner"


@pytest.fixture(autouse=True)
def home_of_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Paths of pytest are often too long for sockets of tasks; what is made instead goes with the test."""
    assert tmp_path.is_dir()  # made before tempfile looks elsewhere
    home = Path(tempfile.mkdtemp(prefix="dpt-"))
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    yield
    shutil.rmtree(home)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "dev"


def modes(directory: Path) -> dict[str, int]:
    return {
        str(path.relative_to(directory)): stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*")
    }


def test_everything_that_one_needs_is_written(directory: Path) -> None:
    dev = Dev.prepare(directory)
    assert (directory / "deputy.yaml").is_file()
    assert read_grants(dev.config.policy.grants).digest
    sockets = dict(dev.config.identity.to_own_sockets(TD))
    assert {path: str(each.spiffe_id) for path, each in sockets.items()} == {
        gateway_socket(directory): GATEWAY,
        runner_socket(directory): RUNNER,
    }
    assert dev.envoy_file.is_file()
    assert str(gateway_socket(directory)) in dev.envoy_file.read_text()


def test_nothing_can_be_read_by_others(directory: Path) -> None:
    Dev.prepare(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for path, mode in modes(directory).items():
        if (directory / path).is_file():
            assert mode == 0o600, path


def test_the_configuration_fits_the_identities(directory: Path) -> None:
    dev = Dev.prepare(directory)
    (caller,) = dev.config.check.callers
    assert caller.id == GATEWAY
    assert all(host == RUNNER for agent in dev.config.agents for host in agent.hosts)
    assert dev.config.providers == []


def test_the_grants_are_those_of_the_demo(directory: Path) -> None:
    Dev.prepare(directory)
    demo = ROOT / "authz" / "demo" / "grants.yaml"
    assert (directory / "grants.yaml").read_bytes() == demo.read_bytes()


def test_the_next_start_uses_what_is_there(directory: Path) -> None:
    first = Dev.prepare(directory)
    edited = directory / "grants.yaml"
    edited.write_text(edited.read_text().replace("max: 100", "max: 5"))
    config = directory / "deputy.yaml"
    config.write_text(config.read_text().replace("127.0.0.1:9191", "127.0.0.1:9393"))
    first.envoy_file.write_text("# mine\n")
    second = Dev.prepare(directory)
    assert "max: 5" in edited.read_text()
    assert second.config.check.listen == "127.0.0.1:9393"
    assert second.envoy_file.read_text() == "# mine\n"


def test_sockets_of_tasks_lie_where_their_paths_fit(tmp_path: Path) -> None:
    """A socket's path has 107 bytes, and the name of a task's takes 42 of them."""
    deep = tmp_path / ("d" * (60 - len(str(tmp_path)) if len(str(tmp_path)) < 59 else 1))
    config = Dev.prepare(deep).config
    directory = config.identity.task_sockets
    assert directory is not None
    assert len(str(directory)) < 40
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    directory.rmdir()


@pytest.mark.parametrize("address", ["0.0.0.0:9191", "192.0.2.1:9191", "[::]:9191", "localhost:9191"])
@pytest.mark.parametrize("key", ["check", "broker"])
def test_only_the_loopback_is_bound(directory: Path, key: str, address: str) -> None:
    Dev.prepare(directory)
    path = directory / "deputy.yaml"
    value: Any = yaml.safe_load(path.read_text())
    value[key]["listen"] = address
    path.write_text(yaml.safe_dump(value))
    with pytest.raises(ConfigError, match=f"{key}.listen: --dev listens on this machine only"):
        Dev.prepare(directory)


def test_the_bundle_endpoint_too_is_on_the_loopback(directory: Path) -> None:
    Dev.prepare(directory)
    path = directory / "deputy.yaml"
    value: Any = yaml.safe_load(path.read_text())
    value["identity"]["bundle_endpoint"] = {"listen": "0.0.0.0:9443"}
    path.write_text(yaml.safe_dump(value))
    with pytest.raises(ConfigError, match=r"bundle_endpoint\.listen: --dev listens on this machine only"):
        Dev.prepare(directory)


def test_the_commented_lines_are_right_once_they_are_no_comments(directory: Path) -> None:
    """The provider and the clients of the agents, as the comments say them."""
    Dev.prepare(directory)
    path = directory / "deputy.yaml"
    lines = path.read_text().splitlines()
    at = lines.index("# providers:")
    lines[at : at + 4] = [line.removeprefix("# ") for line in lines[at : at + 4]]
    path.write_text("\n".join(line.replace("    # clients", "    clients") for line in lines))
    config = Dev.prepare(directory).config
    assert [provider.audiences for provider in config.providers] == [["runner", "console"]]
    clients = {agent.name: [client.id for client in agent.clients] for agent in config.agents}
    assert clients == {"triage": ["runner"], "resolver": ["runner"], "nightly-report": []}


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1"])
def test_every_loopback_address_will_do(directory: Path, address: str) -> None:
    Dev.prepare(directory)
    path = directory / "deputy.yaml"
    path.write_text(path.read_text().replace("127.0.0.1:9191", f"'{address}'"))
    assert Dev.prepare(directory).config.check.listen == address


def test_another_directory_is_left_alone(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    (directory / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="is not empty and not of an earlier 'serve --dev'"):
        Dev.prepare(directory)
    assert [path.name for path in directory.iterdir()] == ["thesis.txt"]


def test_a_directory_that_others_can_read_is_refused(directory: Path) -> None:
    directory.mkdir(mode=0o755)
    with pytest.raises(StoreError, match="chmod 700"):
        Dev.prepare(directory)


def test_a_file_in_place_of_the_directory_is_refused(directory: Path) -> None:
    directory.write_text("x")
    with pytest.raises(StoreError):
        Dev.prepare(directory)


def test_an_edited_configuration_that_is_wrong_is_told(directory: Path) -> None:
    Dev.prepare(directory)
    (directory / "deputy.yaml").write_text("trust_domain: mesh.example\nsurprise: 1\n")
    with pytest.raises(ConfigError, match="surprise: unknown key"):
        Dev.prepare(directory)


def test_a_path_that_is_too_long_for_a_socket_is_told(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.parent.mkdir(mode=0o700)
    with pytest.raises(ConfigError, match="socket path longer than"):
        Dev.prepare(deep)


def test_the_envoy_asks_deputy_and_leads_to_the_services(directory: Path) -> None:
    dev = Dev.prepare(directory)
    settings = dev.envoy_settings()
    assert str(settings.listen) == "127.0.0.1:8443"
    assert [str(service.upstream) for service in settings.services] == ["127.0.0.1:8081", "127.0.0.1:8082"]
    text = dev.envoy_file.read_text()
    assert text.startswith("# Written once by `deputy serve --dev`")
    bootstrap: Any = yaml.safe_load(text)
    assert bootstrap["admin"]["address"]["pipe"]["path"] == str(directory / "envoy" / "admin.sock")


@pytest.mark.parametrize("outside", [["billing"], ["tickets", "billing"]])
def test_what_is_outside_is_not_behind_that_envoy(directory: Path, outside: list[str]) -> None:
    first = Dev.prepare(directory)
    path = directory / "deputy.yaml"
    written = yaml.safe_load(path.read_text())
    for name in outside:
        written["services"][name]["txn"] = "none"
        written["services"][name].pop("workloads", None)
    path.write_text(yaml.safe_dump(written))
    first.envoy_file.unlink()
    second = Dev.prepare(directory)
    assert not set(second.inside) & set(outside)
    assert second.envoy_file.is_file() is bool(second.inside)
    if second.inside:
        assert {service.name for service in second.envoy_settings().services} == set(second.inside)


def test_what_is_told_names_files_that_exist_and_quotes_them(tmp_path: Path) -> None:
    dev = Dev.prepare(tmp_path / "my dev's")
    text = "\n".join(dev_lines(dev))
    assert f"'{tmp_path}/my dev'\"'\"'s/envoy/envoy.yaml'" in text
    assert "https://localhost:9192/tasks" in text
    assert "PRIVATE KEY" not in text
    assert f"'unix://{tmp_path}/my dev'\"'\"'s/run/runner.sock'" in text
    assert dict(dev.config.identity.to_own_sockets(TD)).keys() >= {tmp_path / "my dev's/run/runner.sock"}


def test_the_configuration_can_be_served_without_dev(directory: Path) -> None:
    dev = Dev.prepare(directory)
    assert load_config(directory / "deputy.yaml") == dev.config


@pytest.mark.parametrize("path", ["authz/identity_parts.py", "authz/dev.py", "authz/commands/service.py"])
def test_serving_takes_nothing_of_the_demo(path: str) -> None:
    """The extra `demo` may not be installed where only the service runs."""
    source = Source.parse(path, (ROOT / path).read_text("utf-8"))
    roots = {module.partition(".")[0] for _, module in imports(source)}
    assert not roots & {"mcp", "httpx2", "joserfc", "envoy"}
    assert not any(module.startswith("authz.demo.") for _, module in imports(source))
