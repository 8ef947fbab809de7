"""What people were asked, and what they said: the requests in the file that the processes of a machine share.

- Of all who spend one approval, in whatever process, exactly one is given it, and it is on the disk before it
  is answered.
- One call has at most one request that is open: who asks again is told of the same, and who asks for what was
  denied a moment ago is told that. So no agent wears a person down by asking.
- Bounded: what waits of one agent for one person, what waits in all, how long each lasts. Full is closed.
- The arguments go when they are of no more use: with the use, the denial, or the end of the time, within one
  sweep of it. The request without them stays for an hour, and then the audit log alone knows of it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from authz.approvals.approval import Approval, Spent, Verdict, key_json
from authz.approvals.key import ApprovalKey, Asked
from authz.codes import Code
from authz.errors import ApprovalError, ChangedError, StoreError
from authz.store.approvals_database import IS_OPEN, ApprovalDatabase

# An Envoy that asks again does so within its timeout.
REPEAT_SECONDS: Final = 30
KEPT_SECONDS: Final = 3600
MAX_LISTED: Final = 1000
_FORGET_AT_ONCE: Final = 256
# All but the arguments: a long list is read every second by whoever watches. What waits comes first, and of
# it what ends soonest, so that nothing waits unseen behind what was asked for later, or is over.
_LISTED: Final = (
    "SELECT id, key_sha256, key, state, requested_at, expires_at, decided_by, decided_at, reason, "
    "NULL AS arguments FROM approvals WHERE ?1 IS NULL OR human = ?1 "
    "ORDER BY state = 'pending' AND expires_at > ?3 DESC, "
    "CASE WHEN state = 'pending' AND expires_at > ?3 THEN requested_at ELSE -requested_at END LIMIT ?2"
)


@dataclass(frozen=True, slots=True)
class ApprovalLimits:
    """How long a request waits, how long what was approved may be used, and how many may wait."""

    pending_seconds: int = 600
    granted_seconds: int = 300
    max_of_agent: int = 32
    max_open: int = 10_000


DEFAULT_LIMITS: Final = ApprovalLimits()


class ApprovalFile:
    """The requests; made by `open`."""

    def __init__(self, database: ApprovalDatabase, limits: ApprovalLimits) -> None:
        self._database = database
        self._limits = limits

    @classmethod
    def open(cls, path: Path, limits: ApprovalLimits = DEFAULT_LIMITS) -> "ApprovalFile":
        """Open the file, or make it.

        Raises:
            StoreError: if it is not ours alone, is damaged, or of another version or program.
        """
        return cls(ApprovalDatabase.open(path), limits)

    def close(self) -> None:
        """Let the file go."""
        self._database.close()

    def spend(self, key: ApprovalKey, now: datetime, call: str) -> Spent | None:
        """See `authz.approvals.port.Approvals.spend`.

        Raises:
            StoreError: if it cannot be known.
        """
        database, at, named, digest = self._database, _milliseconds(now), _call(call), key.digest
        with database.transaction(at):
            row = database.one(
                "UPDATE approvals SET state = 'used', used_at = ?, call = ?, arguments = NULL "
                "WHERE key_sha256 = ? AND state = 'approved' AND expires_at > ? RETURNING *",
                *(at, named, digest, at),
            )
            if row is not None:
                database.set_clock(at)
            elif named:
                row = database.one(
                    "SELECT * FROM approvals "
                    "WHERE key_sha256 = ? AND state = 'used' AND call = ? AND used_at > ?",
                    *(digest, named, at - REPEAT_SECONDS * 1000),
                )
        found = None if row is None else Approval.parse(row, now)
        if found is None:
            return None
        if found.decided_by is None or found.decided_at is None:
            raise StoreError("an approval that nobody gave")
        return Spent(found.id, found.decided_by, found.decided_at)

    def request(self, asked: Asked, now: datetime, new_id: Callable[[], str]) -> str:
        """Ask a person, and return the id of the request, be it new or not.

        Raises:
            ApprovalError: with APPROVAL_DENIED or APPROVAL_LIMIT.
            StoreError: if it cannot be kept.
        """
        database, key, at, digest = self._database, asked.key, _milliseconds(now), asked.key.digest
        with database.transaction(at):
            self._expire("key_sha256 = ?", (digest,), at)
            known = database.one(
                f"SELECT id, state FROM approvals WHERE key_sha256 = ? AND {IS_OPEN}",  # noqa: S608 - ours
                digest,
            )
            if known is not None:
                if known["state"] == "denied":
                    raise ApprovalError(Code.APPROVAL_DENIED, f"approval {known['id']}")
                return str(known["id"])
            self._check_room(key, at)
            approval_id, expires_at = new_id(), at + self._limits.pending_seconds * 1000
            database.all(
                "INSERT INTO approvals (id, key_sha256, key, human, agent, state, requested_at, expires_at, "
                "arguments) VALUES (?, ?, ?, ?, ?, 'pending', ?, ?, ?)",
                *(approval_id, digest, key_json(key), key.human, key.agent, at, expires_at, asked.arguments),
            )
            database.set_clock(at)
        return approval_id

    def decide(self, approval_id: str, verdict: Verdict, by: str, reason: str, now: datetime) -> Approval:
        """Approve what waits, or deny it; what was approved and not used yet can still be denied.

        Raises:
            ChangedError: if there is nothing (any more) to decide.
            StoreError: if it cannot be kept.
        """
        database, at, limits = self._database, _milliseconds(now), self._limits
        seconds = limits.granted_seconds if verdict == "approved" else limits.pending_seconds
        with database.transaction(at):
            row = database.one(
                "UPDATE approvals SET state = ?1, decided_by = ?2, decided_at = ?3, reason = ?4, "
                "expires_at = ?5, arguments = CASE ?1 WHEN 'approved' THEN arguments END "
                "WHERE id = ?6 AND (state = 'pending' OR (?1 = 'denied' AND state = 'approved')) "
                "AND expires_at > ?3 RETURNING *",
                *(verdict, by, at, reason, at + seconds * 1000, approval_id),
            )
            if row is None:
                raise ChangedError(f"approval {approval_id[:26]!r} does not wait for a decision (any more)")
            database.set_clock(at)
        return Approval.parse(row, now)

    def find(self, approval_id: str, now: datetime) -> Approval | None:
        """Return one request.

        Raises:
            StoreError: if it cannot be read.
        """
        with self._database.transaction(_milliseconds(now)):
            row = self._database.one("SELECT * FROM approvals WHERE id = ?", approval_id)
        return None if row is None else Approval.parse(row, now)

    def newest(self, now: datetime, human: str | None = None) -> tuple[Approval, ...]:
        """Return what waits, and the newest of the rest, without arguments; `human` is whose alone.

        Raises:
            StoreError: if they cannot be read.
        """
        at = _milliseconds(now)
        with self._database.transaction(at):
            rows = self._database.all(_LISTED, human, MAX_LISTED, at)
        found = [Approval.parse(row, now) for row in rows]
        return tuple(sorted(found, key=lambda each: (each.requested_at, each.id)))

    def sweep(self, now: datetime) -> None:
        """Take the arguments out of what has expired, and forget what ended long ago.

        Raises:
            StoreError: if that cannot be done.
        """
        at = _milliseconds(now)
        with self._database.transaction(at):
            self._expire("TRUE", (), at)
            self._database.all(
                "DELETE FROM approvals WHERE id IN (SELECT id FROM approvals "
                "WHERE expires_at <= ? AND state IN ('used', 'expired') ORDER BY expires_at LIMIT ?)",
                *(at - KEPT_SECONDS * 1000, _FORGET_AT_ONCE),
            )

    def _check_room(self, key: ApprovalKey, at: int) -> None:
        """Look at the bounds; what a person denied a moment ago counts, else asking would never end.

        Raises:
            ApprovalError: with APPROVAL_LIMIT.
        """
        mine, values, limits = "human IS ? AND agent = ?", (key.human, key.agent), self._limits
        self._expire(mine, values, at)
        if self._count(mine, values) >= limits.max_of_agent:
            raise ApprovalError(Code.APPROVAL_LIMIT, f"{limits.max_of_agent} of agent {key.agent!r}")
        if self._count("TRUE", ()) >= limits.max_open:
            self._expire("TRUE", (), at)
            if self._count("TRUE", ()) >= limits.max_open:
                raise ApprovalError(Code.APPROVAL_LIMIT, f"{limits.max_open} in all")

    def _expire(self, which: str, values: tuple[str | None, ...], at: int) -> None:
        """End what is over; `which` is a condition of ours."""
        self._database.all(
            f"UPDATE approvals SET state = 'expired', arguments = NULL WHERE {which} "  # noqa: S608 - ours
            f"AND {IS_OPEN} AND expires_at <= ?",
            *(*values, at),
        )

    def _count(self, which: str, values: tuple[str | None, ...]) -> int:
        row = self._database.one(
            f"SELECT count(*) AS number FROM approvals WHERE {which} AND {IS_OPEN}",  # noqa: S608 - ours
            *values,
        )
        return 0 if row is None else int(str(row["number"]))


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _call(call: str) -> bytes:
    """Name a proxy's question without what it is; an empty name is no call."""
    return hashlib.sha256(call.encode("utf-8", "surrogatepass")).digest() if call else b""
