"""Where a rule stands: the first line in the modules that defines it.

- A rule is found by its name at the beginning of a line, as `opa fmt` writes it, in the package that decides
  before any other. What cannot be found has no place; none is guessed.
"""

import re

from authz.policy.modules import Modules

_PACKAGE = re.compile(r"^package\s+deputy\s*(?:#.*)?$", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def where(rule: str, modules: Modules) -> str | None:
    """Return `file:line` of a rule, None if it is not found."""
    name = rule.rpartition(".")[2]
    if not _NAME.fullmatch(name):
        return None
    head = re.compile(rf"(?:default\s+)?{name}\b(?!\s*\.).*")
    deciding_first = sorted(modules.modules, key=lambda module: not _PACKAGE.search(module.text))
    for module in deciding_first:
        for number, line in enumerate(module.text.splitlines(), start=1):
            if head.fullmatch(line):
                return f"{module.name}:{number}"
    return None
