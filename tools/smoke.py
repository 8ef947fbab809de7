"""Imports every module of an installed Deputy, and only with what it declares to need.

- Run by the Python of an environment that holds the built wheel: `python -I smoke.py [extra…]`.
- Packages that Deputy does not declare are hidden, even where they are installed: an undeclared import fails.
- Without the extra `demo` the modules of authz.demo are left out.
- Each of our top-level packages has one owner: the index has other projects named `authz` and `identity`.
"""

import importlib
import pkgutil
import re
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from types import ModuleType

from packaging.requirements import Requirement

OURS = "deputy-authz"
PACKAGES = ("authz", "identity")


def canonical(name: str) -> str:
    """Return a distribution's name as the index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> set[str]:
    """Return the distributions that `name` with these extras needs here, itself included."""
    if (canonical(name), extras) in seen:
        return set()
    seen.add((canonical(name), extras))
    try:
        lines = requires(name) or []
    except PackageNotFoundError:
        return set()
    found = {canonical(name)}
    for line in lines:
        need = Requirement(line)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            found |= declared(need.name, frozenset(need.extras), seen)
    return found


class Hidden(MetaPathFinder):
    """Refuses what is installed but not declared."""

    def __init__(self, allowed: set[str]) -> None:
        self.owners = packages_distributions()
        self.allowed = allowed

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find nothing; a package with owners none of whom is allowed is not there at all."""
        del path, target
        owners = self.owners.get(fullname.partition(".")[0])
        if owners and not any(canonical(owner) in self.allowed for owner in owners):
            raise ModuleNotFoundError(f"{fullname!r} is not declared", name=fullname)
        return None


def main(extras: Sequence[str]) -> int:
    """Import everything; raise where that fails."""
    owners = packages_distributions()
    for package in PACKAGES:
        if {canonical(owner) for owner in owners.get(package, [])} != {OURS}:
            raise SystemExit(f"{package!r} belongs to {owners.get(package)!r}")
    sys.meta_path.insert(0, Hidden(declared(OURS, frozenset({"", *extras}), set())))
    count = 0
    for package in PACKAGES:
        root = importlib.import_module(package)
        for module in pkgutil.walk_packages(root.__path__, f"{package}."):
            if module.name.startswith("authz.demo") and "demo" not in extras:
                continue
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
                count += 1
    print(f"{count} modules imported")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
