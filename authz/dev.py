"""tmp"""

from pathlib import Path

DEFAULT_DIRECTORY = Path(".deputy-dev")


def prepare(*a): ...
