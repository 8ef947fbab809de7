"""Open the file of the state, and trust it only after looking.

- The file has mode 0600 in a directory of 0700; SQLite gives its `-wal` and `-shm` the same mode.
- A damaged file, one of another program, or one of a newer version is refused with one sentence, not
  repaired.
- A new file gets its tables, its version and its owner's mark in one transaction; an older one gets what is
  new the same way.
"""

import sqlite3
from pathlib import Path
from typing import Final

from authz.errors import StoreError
from authz.store.private_database import open_database
from authz.store.schema import (
    APPLICATION_ID,
    FIRST_META,
    METADATA,
    MIGRATIONS,
    SCHEMA_VERSION,
    create_statements,
)

BUSY_TIMEOUT_SECONDS: Final = 0.25


def connect(path: Path) -> sqlite3.Connection:
    """Open and check the file, or make it.

    Raises:
        StoreError: if it cannot be used.
    """
    connection = open_database(path, "the state", BUSY_TIMEOUT_SECONDS)
    try:
        _prepare(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(f"the state {str(path)!r} is damaged or in use: {error}") from error
    except StoreError:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    if _one(connection, "PRAGMA quick_check(1)") != "ok":
        raise StoreError(
            f"the state {str(path)!r} is damaged: restore a backup, or move it away to begin anew"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    if _one(connection, "SELECT count(*) FROM sqlite_master") == 0:
        _create(connection)
    _require_version(connection, path)


def _require_version(connection: sqlite3.Connection, path: Path) -> None:
    if _one(connection, "PRAGMA application_id") != APPLICATION_ID:
        raise StoreError(f"{str(path)!r} is a database of another program: choose another data_dir")
    version = _migrate(connection)
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"the state {str(path)!r} has schema version {version}, this program knows {SCHEMA_VERSION}: "
            "use the deputy that wrote it, or a newer one"
        )


def _migrate(connection: sqlite3.Connection) -> object:
    """Bring the file to our version in one transaction, where its own is an older one; return its version."""
    connection.execute("BEGIN IMMEDIATE")  # before reading: another process may be doing the same
    version = _one(connection, "PRAGMA user_version")
    while isinstance(version, int) and version in MIGRATIONS:
        for statement in MIGRATIONS[version]:
            connection.execute(statement)
        version += 1
        connection.execute(f"PRAGMA user_version = {version:d}")
    connection.execute("COMMIT")
    return version


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in (*create_statements(*METADATA.sorted_tables), FIRST_META):
        connection.execute(statement)
    # A pragma takes no parameters; both are integers of ours.
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION:d}")
    connection.execute("COMMIT")


def _one(connection: sqlite3.Connection, query: str) -> object:
    row = connection.execute(query).fetchone()
    return None if row is None else row[0]
