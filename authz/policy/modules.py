"""Rego modules: the shipped policy, or a directory of one's own.

- A module is its name and its text; the digest is over all names and texts, so that nothing can be added,
  dropped or renamed without another digest.
- Tests (`*_test.rego`) are no part of a policy.
- A question is answered by the entry point of its form; the rules for calls never answer one about
  administration or about a list, and a policy without rules for those denies the one and shows nothing.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from authz.errors import PolicyLoadError, PolicyShapeError

DECISION: Final = "data.deputy.decision"
VISIBLE: Final = "data.deputy.visible"
ADMIN_DECISION: Final = "data.deputy.admin.decision"
ADMIN_VERSION: Final = "deputy.admin/v1"
SUFFIX: Final = ".rego"
TEST_SUFFIX: Final = "_test.rego"
LOCK_FILE: Final = "policy.lock"
MAX_LOCK_BYTES: Final = 1 << 16
MAX_MODULES: Final = 256
MAX_MODULE_BYTES: Final = 1 << 20

_PACKAGE: Final = re.compile(r"^package deputy\s*(?:#.*)?$", re.MULTILINE)
_ADMIN_PACKAGE: Final = re.compile(r"^package deputy\.admin\s*(?:#.*)?$", re.MULTILINE)
# A rule, with or without a value, and no function: Rego has no other way to begin one.
_VISIBLE: Final = re.compile(r"^(?:default[ \t]+)?visible(?:[ \t]+(?:contains|if)\b|[ \t]*:?=)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Module:
    """One Rego module; the name stands in error messages."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Modules:
    """A policy's modules, sorted by name."""

    modules: tuple[Module, ...]
    digest: str

    @classmethod
    def of(cls, modules: Iterable[Module]) -> "Modules":
        """Sort modules and take their digest.

        Raises:
            PolicyLoadError: if there are none, too many, or two of one name.
        """
        found = tuple(sorted(modules, key=lambda module: module.name))
        if not found:
            raise PolicyLoadError("a policy without a module would decide nothing")
        if len(found) > MAX_MODULES or len({module.name for module in found}) != len(found):
            raise PolicyLoadError(f"more than {MAX_MODULES} modules, or two of one name")
        digest = hashlib.sha256()
        for module in found:
            for part in (module.name.encode(), module.text.encode()):
                # Length first: a name and a text cannot run into each other.
                digest.update(len(part).to_bytes(8) + part)
        return cls(found, digest.hexdigest())

    @property
    def decides_administration(self) -> bool:
        """Say whether a module is of the package that decides administration."""
        return any(_ADMIN_PACKAGE.search(module.text) for module in self.modules)

    @property
    def filters_lists(self) -> bool:
        """Say whether a module has a rule about the names of a list."""
        return any(_PACKAGE.search(module.text) and _VISIBLE.search(module.text) for module in self.modules)

    @property
    def entry_points(self) -> tuple[str, ...]:
        """Return what this policy can be asked."""
        lists = (VISIBLE,) if self.filters_lists else ()
        return (DECISION, *lists, *((ADMIN_DECISION,) if self.decides_administration else ()))


def entry_point(query: Mapping[str, object]) -> str:
    """Say which entry point answers a question."""
    if is_about_administration(query):
        return ADMIN_DECISION
    return VISIBLE if query.get("phase") == "visible" else DECISION


def without_answer(entry: str) -> PolicyShapeError:
    """Say that the policy gave no answer, and where it is for want of a rule that others write too, which."""
    if entry == VISIBLE:
        return PolicyShapeError(
            "the policy says nothing about lists, so nothing in them is shown: give package deputy a rule "
            "'visible' with those of input.resource.names that may be seen"
        )
    return PolicyShapeError("the policy has no answer")


def is_about_administration(query: Mapping[str, object]) -> bool:
    """Say whether a question is about a change to Deputy itself."""
    return query.get("version") == ADMIN_VERSION


def shipped_modules() -> Modules:
    """Return the policy that comes with the package."""
    return _read(resources.files("authz.policy") / "rego")


def read_modules(directory: Path) -> Modules:
    """Read the modules of a directory, not of those below it.

    Raises:
        PolicyLoadError: if there is none, or one cannot be read.
    """
    return _read(directory)


def shipped_lock() -> bytes | None:
    """Return the policy lock that comes with the package."""
    return _read_lock(resources.files("authz.policy") / "rego")


def read_lock(directory: Path) -> bytes | None:
    """Return the policy lock that lies beside the modules, None if there is none.

    Raises:
        PolicyLoadError: if it cannot be read.
    """
    return _read_lock(directory)


def _read_lock(directory: Traversable) -> bytes | None:
    file = directory / LOCK_FILE
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PolicyLoadError(f"cannot read {str(file)!r}: {error.strerror}") from error
    if len(data) > MAX_LOCK_BYTES:
        raise PolicyLoadError(f"{str(file)!r} is larger than {MAX_LOCK_BYTES} bytes")
    return data


def _read(directory: Traversable) -> Modules:
    try:
        files = [
            file
            for file in directory.iterdir()
            if file.name.endswith(SUFFIX) and not file.name.endswith(TEST_SUFFIX)
        ]
        return Modules.of(Module(file.name, _text(file)) for file in files)
    except OSError as error:
        raise PolicyLoadError(f"cannot read the policy in {str(directory)!r}: {error.strerror}") from error


def _text(file: Traversable) -> str:
    data = file.read_bytes()
    if len(data) > MAX_MODULE_BYTES:
        raise PolicyLoadError(f"{file.name}: larger than {MAX_MODULE_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise PolicyLoadError(f"{file.name}: not UTF-8") from error
