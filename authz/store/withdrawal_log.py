"""The withdrawals in the order in which they were written, each with the person behind it, to tell others.

- A connection of its own, read-only: who reads here never holds the writer up, and what is damaged or busy
  delays nobody but the reader.
- What was released since is left out. A number is never given out twice (`AUTOINCREMENT`).
- A person is known of a withdrawal of a person, of a grant, which names who made it, of a task, which names
  for whom it runs, and of a token or a transaction, where its row says whose it was.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy import and_, case, create_engine, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from authz.errors import StoreError
from authz.store.rows import read_withdrawal
from authz.store.schema import CONSENTS, TASKS, WITHDRAWALS
from identity.withdrawal import Withdrawal

_BUSY_SECONDS: Final = 0.25

_GRANT: Final = and_(WITHDRAWALS.c.kind == "grant", WITHDRAWALS.c.subject == CONSENTS.c.id)
_TASK: Final = and_(WITHDRAWALS.c.kind == "task", WITHDRAWALS.c.subject == TASKS.c.id)
_HUMAN: Final = case(
    (WITHDRAWALS.c.kind == "human", WITHDRAWALS.c.subject),
    (WITHDRAWALS.c.kind == "grant", CONSENTS.c.human),
    (WITHDRAWALS.c.kind == "task", TASKS.c.human),
    else_=WITHDRAWALS.c.human,
).label("person")
_ALL: Final = (
    select(WITHDRAWALS, _HUMAN)
    .outerjoin(CONSENTS, _GRANT)
    .outerjoin(TASKS, _TASK)
    .where(WITHDRAWALS.c.released_at.is_(None))
    .order_by(WITHDRAWALS.c.n)
)


@dataclass(frozen=True, slots=True)
class Written:
    """A withdrawal, its number, and the URI of the person whom it concerns, where that is known."""

    number: int
    withdrawal: Withdrawal
    human: str | None


class WithdrawalLog:
    """The withdrawals of one state."""

    def __init__(self, path: Path) -> None:
        """Name the file; it is opened by each reading."""
        self._path = path
        self._engine = create_engine("sqlite://", creator=self._connect, poolclass=NullPool)

    def after(self, number: int, limit: int) -> tuple[Written, ...]:
        """Return the withdrawals after a number, at most so many; this blocks for the disk.

        Raises:
            StoreError: if they cannot be read.
        """
        try:
            with self._engine.connect() as connection:
                rows = connection.execute(_ALL.where(WITHDRAWALS.c.n > number).limit(limit)).mappings().all()
        except (sqlite3.Error, SQLAlchemyError) as error:
            reason = getattr(error, "orig", error)
            raise StoreError(f"the state {str(self._path)!r} cannot be read: {reason}") from error
        return tuple(Written(int(row["n"]), read_withdrawal(row), row["person"]) for row in rows)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{quote(str(self._path))}?mode=ro",
            uri=True,
            timeout=_BUSY_SECONDS,
            check_same_thread=False,
        )
