"""The demo's directory: emptied if it was a demo's, claimed while one runs, left alone otherwise."""

import subprocess
import sys
from pathlib import Path

import pytest

from authz.demo.world import MARKER, clean_directory
from authz.errors import ConfigError

CLAIM = """
import sys
from pathlib import Path
from authz.demo.world import clean_directory
clean_directory(Path(sys.argv[1]))
"""


def test_what_an_earlier_demo_left_is_removed(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    clean_directory(home)
    subprocess.run([sys.executable, "-c", CLAIM, str(tmp_path / "other")], check=True)
    other = tmp_path / "other"
    (other / "data").mkdir()
    (other / "data" / "x").touch()
    (other / "link").symlink_to(home)
    assert [entry.name for entry in clean_directory(other).iterdir()] == [MARKER]
    assert home.is_dir()


def test_a_running_demo_is_not_disturbed(tmp_path: Path) -> None:
    home = clean_directory(tmp_path / "demo")
    (home / "data").touch()
    with pytest.raises(ConfigError, match="a demo runs"):
        clean_directory(home)
    assert (home / "data").exists()


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ConfigError, match="not of an earlier demo"):
        clean_directory(tmp_path)
    assert (tmp_path / "thesis.txt").exists()
