"""A request for a person's approval, from the call that needs it to the one call that it lets through.

- Its states: `pending`, then `approved` or `denied`, and `used` once; or `expired`, which is computed:
  nothing has to run for it.
- It is never anything but whole: what a file holds that we did not write is an error.
- Who approved has a standing of their own: an approval of somebody who was contained, or signed out, since is
  worth nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal, cast, get_args

from authz.approvals.key import ApprovalKey
from authz.errors import StoreError
from authz.visible import with_marks
from identity.canonical import sha256_hex
from identity.errors import IdentityError
from identity.names import parse_ulid
from identity.withdrawal import Standing

State = Literal["pending", "approved", "denied", "used", "expired"]
Verdict = Literal["approved", "denied"]

STATES: Final[tuple[State, ...]] = get_args(State)
_NOT_OURS: Final = (
    LookupError,
    TypeError,
    ValueError,
    OverflowError,
    OSError,
    AttributeError,
    RecursionError,
    IdentityError,
)
# What may still come to something: a decision, a use, or a refusal that counts.
OPEN: Final[tuple[State, ...]] = ("pending", "approved", "denied")
_SHOWN: Final = 128


@dataclass(frozen=True, slots=True)
class Approval:
    """One request; `arguments` are there as long as somebody may have to see them, and never with an end."""

    id: str
    key: ApprovalKey
    state: State
    requested_at: datetime
    expires_at: datetime
    decided_by: str | None = None
    decided_at: datetime | None = None
    reason: str = ""
    arguments: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, row: Mapping[str, object], now: datetime) -> "Approval":
        """Read a row of the file.

        Raises:
            StoreError: if we did not write it.
        """
        try:
            parts = json.loads(_text(row["key"]))
            key = ApprovalKey(**{**parts, "via": tuple(parts["via"])})
            state = _text(row["state"])
            requested_at, expires_at = _moment(row["requested_at"]), _moment(row["expires_at"])
            decided_at = None if row["decided_at"] is None else _moment(row["decided_at"])
            decided_by = None if row["decided_by"] is None else _text(row["decided_by"])
            arguments = None if row["arguments"] is None else _text(row["arguments"])
            found = cls(
                id=parse_ulid(_text(row["id"])),
                key=key,
                state=cast("State", state),
                requested_at=requested_at,
                expires_at=expires_at,
                decided_by=decided_by,
                decided_at=decided_at,
                reason=_text(row["reason"]),
                arguments=arguments,
            )
            is_ours = state in STATES and key.digest == row["key_sha256"] and _fits(key, arguments)
        except _NOT_OURS as error:
            raise StoreError("an approval that is not as we wrote it") from error
        if not is_ours:
            raise StoreError("an approval that is not as we wrote it")
        return found.at(now)

    def at(self, now: datetime) -> "Approval":
        """Return it as it is at a time: what was not used in time has expired, and shows nothing any more."""
        if self.state not in OPEN or now < self.expires_at:
            return self
        return Approval(
            id=self.id,
            key=self.key,
            state="expired",
            requested_at=self.requested_at,
            expires_at=self.expires_at,
            decided_by=self.decided_by,
            decided_at=self.decided_at,
            reason=self.reason,
        )


@dataclass(frozen=True, slots=True)
class Spent:
    """An approval that was used, who gave it, and when; whoever uses it looks at their standing."""

    id: str
    by: str
    at: datetime

    @property
    def standing(self) -> Standing:
        """Say what the approval rests on."""
        if self.by.startswith("spiffe://"):
            return Standing(workloads=(self.by,))
        # This machine's operator (`uid:…`) is no person of a provider: nobody could withdraw them.
        human = self.by if "#" in self.by else None
        return Standing(human=human, issued_at=int(self.at.timestamp()))


def key_json(key: ApprovalKey) -> str:
    """Write a key as the file holds it."""
    return json.dumps({name: getattr(key, name) for name in ApprovalKey.__slots__})


def summary(key: ApprovalKey) -> str:
    """Say in one sentence what a person is asked for; what of it is cut, or cannot be seen, is marked."""
    whom = f"for {key.human}" if key.human else "for nobody but itself"
    what = with_marks(key.resource[:_SHOWN])
    if len(key.resource) > _SHOWN:
        what = f"{what}[{len(key.resource) - _SHOWN} characters more]"
    return f"agent {key.agent} asks, {whom}, to use {what} of {key.service} ({key.action})"


def _fits(key: ApprovalKey, arguments: str | None) -> bool:
    """Say whether what would be shown is what the key holds."""
    if arguments is None:
        return True
    return (sha256_hex(arguments.encode()) if arguments else "") == key.arguments_sha256


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _moment(value: object) -> datetime:
    if not isinstance(value, int):
        raise TypeError("not a time")
    return datetime.fromtimestamp(value / 1000, UTC)
