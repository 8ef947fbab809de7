"""The log of changes in the state: who follows it learns what to read again, and how far everybody is.

- A change and its row here are one transaction: nobody sees one without the other.
- Numbers only grow and are given out once. After a change that the disk refused there is a gap, and after an
  hour old rows go; who finds a gap reads everything.
- The epoch is the number of the newest change by which somebody could lose a right, or get one back. It is
  kept apart from the rows, and outlives them.
- Only the newest process that began a term writes: an older one, which came back from a pause, is refused.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from authz.audit.record import timestamp
from authz.errors import StoreError
from authz.store.schema import CHANGES, META

ChangeKind = Literal["agent", "task", "consent", "withdrawal", "release"]

KEPT_CHANGES: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the state is: the term of its writer, the newest change, and the newest that moved rights."""

    term: int
    last: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Change:
    """One change; what it is about is read from its table."""

    n: int
    kind: ChangeKind
    subject: str


def read_progress(connection: Connection) -> Progress:
    """Return how far the state is.

    Raises:
        StoreError: if that is not there: somebody else wrote to the file.
    """
    found = {row.name: int(row.value) for row in connection.execute(select(META))}
    if not found.keys() >= {"term", "epoch"}:
        raise StoreError("the state holds no term or no epoch: restore a backup")
    last = connection.execute(select(func.max(CHANGES.c.n))).scalar()
    return Progress(found["term"], max(last or 0, found["epoch"]), found["epoch"])


def read_changes(connection: Connection, after: int, last: int) -> tuple[Change, ...] | None:
    """Return the changes after a number up to another one; None if one between is not there any more."""
    rows = connection.execute(
        select(CHANGES.c.n, CHANGES.c.kind, CHANGES.c.subject)
        .where(CHANGES.c.n > after, CHANGES.c.n <= last)
        .order_by(CHANGES.c.n)
    ).all()
    if len(rows) != last - after:
        return None
    return tuple(Change(*row) for row in rows)


def begin_term(connection: Connection) -> int:
    """Become the one who writes; return the new term."""
    connection.execute(update(META).where(META.c.name == "term").values(value=META.c.value + 1))
    return read_progress(connection).term


def forget_changes(connection: Connection, now: datetime) -> None:
    """Delete old rows, never the newest."""
    newest = select(func.max(CHANGES.c.n)).scalar_subquery()
    old = CHANGES.c.at < timestamp(now - KEPT_CHANGES)
    connection.execute(delete(CHANGES).where(old, CHANGES.c.n < newest))


@dataclass(slots=True)
class Writing:
    """One transaction that changes something; `finish` numbers what it noted."""

    connection: Connection
    now: datetime
    _noted: list[tuple[ChangeKind, str]] = field(default_factory=list)
    _moves: bool = False

    def note(self, kind: ChangeKind, subjects: Iterable[str], *, moves: bool) -> None:
        """Note what changes; `moves` says that somebody's rights may be others now."""
        before = len(self._noted)
        self._noted.extend((kind, subject) for subject in subjects)
        self._moves |= moves and len(self._noted) > before

    def finish(self, known: Progress, at_least: int) -> Progress:
        """Write the rows, numbered from `at_least` or a later number on; return how far the state is then.

        Raises:
            StoreError: if another process has begun a term since.
        """
        found = read_progress(self.connection)
        if known.term and found.term != known.term:
            raise StoreError("another process writes to this state now: this one may not any more")
        if not self._noted:
            # A number that was reserved for nothing is not given out again either.
            return Progress(known.term, max(known.last, found.last), found.epoch)
        first = max(found.last + 1, at_least)
        self.connection.execute(insert(CHANGES), self._rows(first))
        last = first + len(self._noted) - 1
        if self._moves:
            self.connection.execute(update(META).where(META.c.name == "epoch").values(value=last))
        return Progress(known.term, last, last if self._moves else found.epoch)

    def _rows(self, first: int) -> Sequence[dict[str, object]]:
        at = timestamp(self.now)
        return [
            {"n": n, "kind": kind, "subject": subject, "at": at}
            for n, (kind, subject) in enumerate(self._noted, first)
        ]
