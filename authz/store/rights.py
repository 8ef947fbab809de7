"""What people granted and what was withdrawn, as SQL over one transaction.

- Nothing is deleted that still counts; what ended is kept for questions, and forgotten later.
- One containment of a subject lasts at a time: it is released once, by somebody, for a reason.
- A withdrawal that takes back no more than one that stands already is not written again.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from authz.audit.record import timestamp
from authz.errors import StoreError
from authz.store.agents import require_registered
from authz.store.changes import Writing
from authz.store.rows import consent_row, read_consent, read_withdrawal, withdrawal_row
from authz.store.schema import CONSENTS, WITHDRAWALS
from identity.consent import Consent
from identity.withdrawal import Kind, Withdrawal

# Revoking frees a place among those that hold at once, so this bounds what one person can make us keep.
MAX_CONSENTS_A_DAY: Final = 500


@dataclass(frozen=True, slots=True)
class Release:
    """The end of a containment."""

    kind: Kind
    subject: str
    by: str
    reason: str
    at: datetime


def add_consent(writing: Writing, consent: Consent) -> None:
    """Keep what a person granted.

    Raises:
        StoreError: if its agent is not registered, its id is taken, or that person made too many today.
    """
    require_registered(writing.connection, consent.agent, "nobody can grant it anything")
    today = select(func.count()).where(
        CONSENTS.c.human == consent.human,
        CONSENTS.c.created_at > timestamp(writing.now - timedelta(days=1)),
    )
    if (writing.connection.execute(today).scalar() or 0) >= MAX_CONSENTS_A_DAY:
        raise StoreError(f"this person made {MAX_CONSENTS_A_DAY} grants within a day: wait")
    writing.connection.execute(insert(CONSENTS).values(consent_row(consent)))
    writing.note("consent", [consent.id], moves=False)


def revoke_consent(writing: Writing, consent_id: str, withdrawal: Withdrawal) -> None:
    """Take back what a person granted, and all that came of it; what is revoked stays so."""
    held = CONSENTS.c.id == consent_id, CONSENTS.c.revoked_at.is_(None)
    revoked = update(CONSENTS).where(*held).values(revoked_at=timestamp(writing.now))
    if writing.connection.execute(revoked).rowcount:
        writing.note("consent", [consent_id], moves=True)
    withdraw(writing, withdrawal)


def withdraw(writing: Writing, withdrawal: Withdrawal) -> None:
    """Write a withdrawal, unless one stands that takes back as much for as long.

    Of a person's sign-outs the last one counts, and the earlier ones end with it: a person may sign out each
    second, and each time all that count are read.
    """
    connection, at = writing.connection, timestamp(writing.now)
    standing = select(WITHDRAWALS).where(
        WITHDRAWALS.c.kind == withdrawal.kind,
        WITHDRAWALS.c.subject == withdrawal.subject,
        WITHDRAWALS.c.released_at.is_(None),
        or_(WITHDRAWALS.c.expires_at.is_(None), WITHDRAWALS.c.expires_at > at),
    )
    rows = connection.execute(standing.order_by(WITHDRAWALS.c.n)).mappings()
    read = ((int(row["n"]), read_withdrawal(row)) for row in rows)
    held = [(n, one) for n, one in read if one.is_containment is withdrawal.is_containment]
    # Of several containments of a subject the newest says who may release it.
    counting = held[-1:] if withdrawal.is_containment else held
    if any(one.covers(withdrawal) for _, one in counting):
        return
    number = connection.execute(insert(WITHDRAWALS).values(withdrawal_row(withdrawal))).lastrowid
    earlier = [n for n, one in held if one.before is not None and withdrawal.covers(one)]
    if earlier:
        connection.execute(update(WITHDRAWALS).where(WITHDRAWALS.c.n.in_(earlier)).values(expires_at=at))
    writing.note("withdrawal", [str(number)], moves=True)


def release(writing: Writing, ended: Release) -> bool:
    """End a containment; False if there is none."""
    contained = (
        WITHDRAWALS.c.kind == ended.kind,
        WITHDRAWALS.c.subject == ended.subject,
        WITHDRAWALS.c.before.is_(None),
        WITHDRAWALS.c.released_at.is_(None),
    )
    numbers = list(writing.connection.scalars(select(WITHDRAWALS.c.n).where(*contained)))
    values = {
        "released_at": timestamp(ended.at),
        "released_by": ended.by,
        "release_reason": ended.reason,
    }
    writing.connection.execute(update(WITHDRAWALS).where(*contained).values(values))
    writing.note("release", map(str, numbers), moves=True)
    return bool(numbers)


def read_consents(connection: Connection, since: datetime) -> tuple[Consent, ...]:
    """Return what people granted that ends after a time, also what was revoked.

    Raises:
        StoreError: if one is not as we wrote it.
    """
    rows = connection.execute(select(CONSENTS).where(CONSENTS.c.expires_at > timestamp(since)))
    return tuple(read_consent(row) for row in rows.mappings())


def read_withdrawals(connection: Connection, now: datetime) -> tuple[Withdrawal, ...]:
    """Return what is withdrawn, in the order in which it was.

    Raises:
        StoreError: if one is not as we wrote it.
    """
    lasting = or_(WITHDRAWALS.c.expires_at.is_(None), WITHDRAWALS.c.expires_at > timestamp(now))
    held = select(WITHDRAWALS).where(WITHDRAWALS.c.released_at.is_(None), lasting)
    rows = connection.execute(held.order_by(WITHDRAWALS.c.n))
    return tuple(read_withdrawal(row) for row in rows.mappings())


def forget_rights(connection: Connection, before: datetime) -> None:
    """Delete what ended before a time."""
    at = timestamp(before)
    connection.execute(delete(CONSENTS).where(or_(CONSENTS.c.expires_at < at, CONSENTS.c.revoked_at < at)))
    connection.execute(
        delete(WITHDRAWALS).where(or_(WITHDRAWALS.c.expires_at < at, WITHDRAWALS.c.released_at < at))
    )
