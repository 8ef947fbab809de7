"""An SQLite file that several processes of one user write: opened, or made, with nothing believed unseen.

- It has the journal by which many may write (no WAL, for the reason that stands in authz/store/replay.py).
- A file of another program or version, or one that is damaged, is an error that says what to do.
- Who opens it waits for others that make it at this moment; after that, to wait is the caller's business.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from authz.errors import StoreError
from authz.store.private_database import open_database

_OPEN_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class SharedForm:
    """What a file must be: whose, of which version, with which tables; how sure a write is of the disk."""

    # In messages: what the file is, and what is lost with it.
    what: str
    worth: str
    application_id: int
    version: int
    schema: Sequence[str]
    synchronous: Literal["OFF", "FULL"]
    # Whether what is deleted is written over.
    secure_delete: bool = False


def open_shared_database(path: Path, form: SharedForm) -> sqlite3.Connection:
    """Open a file, or make it.

    Raises:
        StoreError: if it is not ours alone, is damaged, or of another version or program.
    """
    connection = open_database(path, form.what, _OPEN_SECONDS)
    try:
        _prepare(connection, path, form)
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(
            f"{form.what} {str(path)!r} is damaged or in use: {error}; {form.worth}: "
            "stop every process that uses it, and delete it"
        ) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, form: SharedForm) -> None:
    connection.execute("PRAGMA trusted_schema = OFF")
    if form.secure_delete:
        connection.execute("PRAGMA secure_delete = ON")
    connection.execute(f"PRAGMA synchronous = {form.synchronous}")
    mode = connection.execute("PRAGMA journal_mode = TRUNCATE").fetchone()
    if mode != ("truncate",):
        raise StoreError(f"the file {str(path)!r} has the journal {mode!r}, which several writers can damage")
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
        for statement in form.schema:
            connection.execute(statement)
        # A pragma takes no parameters; both are integers of ours.
        connection.execute(f"PRAGMA application_id = {form.application_id:d}")
        connection.execute(f"PRAGMA user_version = {form.version:d}")
    connection.execute("COMMIT")
    found = [connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")]
    if found != [(form.application_id,), (form.version,)]:
        raise StoreError(f"{str(path)!r} is a file of another program or version: choose another data_dir")
    if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise StoreError(f"the file {str(path)!r} is damaged: stop every process that uses it, and delete it")
    connection.execute("PRAGMA busy_timeout = 0")
