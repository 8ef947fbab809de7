"""One record of the log, and its only spelling.

- A record is one line: canonical JSON (RFC 8785) of a map with ASCII names. The values are texts, integers
  within ±(2^53-1), booleans, null, and lists and maps of them. Without floats, sorted compact JSON is RFC
  8785.
- `seq` counts from 1 without a gap; `prev` is the SHA-256 of the line before (without its newline), 64
  zeros first.
- A line that is not byte for byte what we would have written is not a record.
- A record names people, agents and hashes. Tokens, keys, headers and bodies cannot get in: see
  authz/audit/entry.py.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NoReturn

from pydantic_core import to_json

from authz.errors import AuditError

Json = str | int | bool | None | list["Json"] | dict[str, "Json"]

VERSION: Final = 1
GENESIS: Final = "0" * 64
MAX_INTEGER: Final = 2**53 - 1
# An entry of C2SP tlog-tiles is at most this long; a log that we write can move there.
MAX_RECORD_BYTES: Final = 65_535

_ENCODE: Final = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False, allow_nan=False
).encode
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_WORD: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_ID: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it stands in the log; `members` holds all of it."""

    seq: int
    prev: str
    time: str
    kind: str
    id: str
    members: Mapping[str, Json]

    @classmethod
    def parse(cls, line: bytes) -> "Record":
        """Read a line without its newline.

        Raises:
            AuditError: if the line is not the canonical text of a record of this version.
        """
        members = _members(line)
        if members.get("v") is not VERSION:
            raise AuditError("not a record of version 1")
        record = cls(
            _integer(members.get("seq")),
            _text(members.get("prev"), _HASH, "prev"),
            _text(members.get("time"), _TIME, "time"),
            _text(members.get("kind"), _WORD, "kind"),
            _text(members.get("id"), _ID, "id"),
            members,
        )
        if canonical(members) != line:
            raise AuditError("not the canonical text of its record")
        return record


def canonical(members: Mapping[str, Json]) -> bytes:
    """Return the bytes of a record.

    Raises:
        AuditError: if a text cannot be encoded (a lone surrogate) or a value is not of the types above.
    """
    try:
        return _ENCODE(members).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise AuditError("a record that cannot be written as canonical JSON") from error


def canonical_of_ordered(members: Mapping[str, Json]) -> bytes:
    """Return the bytes of a record whose inner maps have their members in order, as `canonical` would.

    Raises:
        AuditError: if a text cannot be encoded (a lone surrogate) or a name is none.
    """
    try:
        return to_json(dict(sorted(members.items())))
    except (ValueError, TypeError, RecursionError) as error:
        raise AuditError("a record that cannot be written as canonical JSON") from error


def digest(line: bytes) -> str:
    """Return the hash by which the next record names this line."""
    return hashlib.sha256(line).hexdigest()


def timestamp(moment: datetime) -> str:
    """Return RFC 3339 in UTC with microseconds, always of the same width, so that text order is time order.

    Raises:
        ValueError: if the time has no zone.
    """
    if moment.tzinfo is not UTC:
        if moment.tzinfo is None:
            raise ValueError("a time without a zone")
        moment = moment.astimezone(UTC)
    return f"{moment.isoformat(timespec='microseconds')[:26]}Z"


def _refuse_number(text: str) -> NoReturn:
    raise AuditError(f"a number that no record holds: {text[:32]!r}")


def _safe_integer(text: str) -> int:
    # The length first: int() of a long text is quadratic.
    if len(text) > len(str(-MAX_INTEGER)) or abs(value := int(text)) > MAX_INTEGER:
        _refuse_number(text)
    return value


_DECODER: Final = json.JSONDecoder(
    parse_float=_refuse_number, parse_constant=_refuse_number, parse_int=_safe_integer
)


def _members(line: bytes) -> dict[str, Json]:
    if len(line) > MAX_RECORD_BYTES:
        raise AuditError("a line longer than any record")
    try:
        value = _DECODER.decode(line.decode())
    except (ValueError, RecursionError) as error:
        raise AuditError("not JSON") from error
    if not isinstance(value, dict):
        raise AuditError("not a JSON object")
    return value


def _integer(value: Json) -> int:
    if type(value) is not int or value < 1:
        raise AuditError("a record without its number")
    return value


def _text(value: Json, form: re.Pattern[str], member: str) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise AuditError(f"a record without its {member!r}")
    return value
