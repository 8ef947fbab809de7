"""An SQLite file that is not what it was: damaged, or another program's, or of another version."""

import os
import sqlite3
from pathlib import Path

# The first page stays whole: the file still says what it is.
_PAGE = 4096


def damage_database(path: Path, how: str) -> None:
    """Damage a closed file."""
    match how:
        case "no database":
            path.write_bytes(b"not a database" * 100)
        case "torn":
            data = path.read_bytes()
            path.write_bytes(data[:_PAGE] + os.urandom(len(data) - _PAGE))
        case "other program" | "other version":
            other = sqlite3.connect(path)
            other.execute(f"PRAGMA {'application_id' if how == 'other program' else 'user_version'} = 7")
            other.close()
        case _:
            raise AssertionError(f"no damage: {how!r}")
