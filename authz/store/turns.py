"""One process's turns in an SQLite file that others write, too (authz/store/shared_database.py).

- A transaction that writes holds the write lock of the file. What fails in between changes nothing.
- Others are waited for in equal steps, for so long and no longer: SQLite's own waiting sleeps longer each
  time, so that the busy starve others.
- A file that was deleted, or has another name now, is wrong: who opens it by its name has another one, where
  what is kept here counts for nothing.
- Whatever is wrong with the file is a StoreError that says what cannot be known because of it.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic, sleep
from typing import Literal, TypeVar

from authz.errors import StoreError

T = TypeVar("T")


class Turns:
    """A connection, used by one thread at a time; `unknown` ends the sentence "it cannot be known …"."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        unknown: str,
        busy_seconds: float,
        pause_seconds: float = 0.001,
    ) -> None:
        self.connection = connection
        self._path = _path_of(connection)
        self._place = _place(self._path)
        self._unknown = unknown
        self._busy_seconds = busy_seconds
        self._pause_seconds = pause_seconds
        self._lock = Lock()

    def close(self) -> None:
        """Let the file go, once nobody has a turn."""
        with self._lock:
            self.connection.close()

    def require_place(self) -> None:
        """Look whether the file still is the one that has its name; this waits for nobody.

        Raises:
            StoreError: if not.
        """
        if self._place is None or _place(self._path) != self._place:
            raise StoreError(
                f"it cannot be known {self._unknown}: the file {self._path!r} was replaced: "
                "start again every process"
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have the connection alone; others may write the file between two steps.

        Raises:
            StoreError: if something is wrong with the file.
        """
        with self._lock:
            self.require_place()
            try:
                yield
            except sqlite3.Error as error:
                raise StoreError(f"it cannot be known {self._unknown}: {error}") from error

    @contextmanager
    def inside(self, begin: Literal["BEGIN", "BEGIN IMMEDIATE"] = "BEGIN IMMEDIATE") -> Iterator[None]:
        """Be in a transaction, within `held`; it is committed on the way out."""
        self.insist(lambda: self.connection.execute(begin))
        try:
            yield
            self.insist(lambda: self.connection.execute("COMMIT"))
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    @contextmanager
    def transaction(self, begin: Literal["BEGIN", "BEGIN IMMEDIATE"] = "BEGIN IMMEDIATE") -> Iterator[None]:
        """Have the connection alone, in one transaction.

        Raises:
            StoreError: if the file cannot be held, read or written.
        """
        with self.held(), self.inside(begin):
            yield

    def insist(self, step: Callable[[], T]) -> T:
        """Do what others may be in the way of."""
        give_up_at = monotonic() + self._busy_seconds
        while True:
            try:
                return step()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > give_up_at:
                    raise
                sleep(self._pause_seconds)


def _path_of(connection: sqlite3.Connection) -> str:
    (_, _, path) = connection.execute("PRAGMA database_list").fetchone()
    return str(path)


def _place(path: str) -> tuple[int, int] | None:
    """Say which file has this name; None where none has."""
    try:
        state = os.lstat(path)
    except OSError:
        return None
    return state.st_dev, state.st_ino
