"""What is built and shipped: the wheel, made from the source archive, in an environment of its own."""

import configparser
import email
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
DIST_INFO = f"deputy_authz-{PROJECT['version']}.dist-info"


def run(*command: str | Path) -> str:
    """Run a command; its output, or a failure that shows it."""
    result = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        pytest.fail(
            f"{command} ended with {result.returncode}\n{result.stdout}{result.stderr}", pytrace=False
        )
    return result.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel."""
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a fresh environment with the wheel; it borrows our dependencies, not our source."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin/python"
    packages = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # The .pth files of a folder that a .pth file adds are not read, so the editable install stays unseen.
    (Path(packages) / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    return folder / "bin"


def test_wheel_holds_our_two_packages_with_their_data_and_nothing_else(wheel: Path) -> None:
    ours = {
        path.relative_to(ROOT).as_posix()
        for package in ("authz", "identity")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.startswith(f"{DIST_INFO}/")}

    assert {"authz/py.typed", "identity/py.typed"} <= names
    assert names == ours


def test_wheel_declares_what_pyproject_declares(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"{DIST_INFO}/METADATA"))
        scripts = configparser.ConfigParser()
        scripts.read_string(archive.read(f"{DIST_INFO}/entry_points.txt").decode())
        assert f"{DIST_INFO}/licenses/LICENSE" in archive.namelist()

    needs = [Requirement(line) for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert set(needs) == {Requirement(line) for line in PROJECT["dependencies"]}
    assert dict(scripts["console_scripts"]) == {"deputy": "authz.cli:main"}


def test_source_archive_can_be_tested_and_holds_no_leftovers(built: Path) -> None:
    (found,) = built.glob("*.tar.gz")
    with tarfile.open(found) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {
        "Makefile",
        "LICENSE",
        "README.md",
        "requirements.lock",
        "tools/setup.sh",
        "tools/go.lock",
    } <= names
    assert {"tests/test_package.py", "proto/authz/pb/ext_authz.proto", "tools/opa/go.sum"} <= names
    assert [
        name for name in names if name.startswith((".venv", ".cache", ".git/")) or "__pycache__" in name
    ] == []


def test_every_module_is_importable_with_declared_dependencies_only(installed: Path) -> None:
    assert "modules imported" in run(installed / "python", "-I", ROOT / "tools/smoke.py")


def test_demo_is_importable_with_its_extra_only(installed: Path) -> None:
    assert "modules imported" in run(installed / "python", "-I", ROOT / "tools/smoke.py", "demo")


def test_installed_command_tells_its_version(installed: Path) -> None:
    assert PROJECT["version"] in run(installed / "deputy", "version")
