"""A Protocol Buffers message of a stranger, read by a table of its fields: one reading, or none.

- A field that the table does not have is refused, not skipped: another version of the schema knows it.
- A field that stands once is not repeated (some readers take the last, some merge), and a repeated one is
  never packed: the tables have repeated texts and messages only.
- Numbers are written in their shortest form; texts are UTF-8; nothing is left over; groups are refused.
- What is read is written as ProtoJSON writes it: enumerations by name, bytes in base64, a `Struct` as an
  object.
- Nesting and the number of values are bounded.
"""

import struct
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Final, Literal

from authz.errors import AuthzError
from identity.strict_json import DEFAULT_LIMITS, MAX_SAFE_INTEGER

Kind = Literal["text", "bytes", "int32", "bool", "enum", "message", "struct", "value", "timestamp"]


class ProtobufError(AuthzError):
    """Bytes that are no message of the table, or that two readers could read in two ways."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its JSON name, what it holds, and whether it may stand more than once."""

    name: str
    kind: Kind = "text"
    repeated: bool = False
    message: "Table | None" = None
    names: tuple[str, ...] = ()


Table = Mapping[int, Field]

_VARINT, _BYTES = 0, 2
_WIRE: Final[Mapping[Kind, int]] = {"int32": _VARINT, "bool": _VARINT, "enum": _VARINT}
_MAX_SECONDS: Final = 253_402_300_799  # the end of the year 9999


@dataclass(slots=True)
class _Reader:
    """How much may still be read; one for each message. A field costs what a member of JSON does."""

    values: int = field(default=DEFAULT_LIMITS.keys)

    def count(self, depth: int) -> None:
        self.values -= 1
        if self.values < 0 or depth > DEFAULT_LIMITS.depth:
            raise ProtobufError("too many values, or nested too deep")


def read_message(data: bytes, table: Table) -> Mapping[str, object]:
    """Read a message.

    Raises:
        ProtobufError: if it is none that has one reading.
    """
    return _message(_Reader(), data, table, 1)


def _message(reader: _Reader, data: bytes, table: Table, depth: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for number, wire, raw in _fields(reader, data, depth):
        known = table.get(number)
        if known is None or wire != _WIRE.get(known.kind, _BYTES):
            raise ProtobufError(f"field {number} of this wire type is not known here")
        value = _value_of(reader, known, raw, depth)
        if known.repeated:
            listed = found.setdefault(known.name, [])
            listed.append(value)  # type: ignore[attr-defined]  # a list: only this line sets a repeated field
        elif known.name in found:
            raise ProtobufError(f"field {number} stands twice")
        else:
            found[known.name] = value
    return found


def _value_of(reader: _Reader, known: Field, raw: int | bytes, depth: int) -> object:
    if isinstance(raw, int):
        return _scalar(known, raw)
    match known.kind:
        case "text":
            return _text(raw)
        case "bytes":
            return b64encode(raw).decode()
        case "struct":
            return _struct(reader, raw, depth + 1)
        case "value":
            return _value(reader, raw, depth + 1)
        case "timestamp":
            return _timestamp(reader, raw, depth + 1)
        case _:
            return _message(reader, raw, known.message or {}, depth + 1)


def _scalar(known: Field, raw: int) -> object:
    match known.kind:
        case "bool" if raw in {0, 1}:
            return raw == 1
        case "enum" if raw < len(known.names):
            return known.names[raw]
        case "int32" if raw < 1 << 31:
            return raw
        case _:
            raise ProtobufError(f"a number that is none of {known.name}")


# What follows are the fields of google.protobuf.Struct, Value, ListValue and Timestamp, by their numbers.
def _struct(reader: _Reader, data: bytes, depth: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for number, wire, raw in _fields(reader, data, depth):
        if (number, wire) != (1, _BYTES) or isinstance(raw, int):
            raise ProtobufError("a Struct with a field that it does not have")
        entry = dict[int, object]()
        for part, part_wire, part_raw in _fields(reader, raw, depth):
            if part not in {1, 2} or part_wire != _BYTES or part in entry or isinstance(part_raw, int):
                raise ProtobufError("an entry of a Struct that is not one name and one value")
            entry[part] = _text(part_raw) if part == 1 else _value(reader, part_raw, depth + 1)
        if len(entry) != 2 or entry[1] in found:
            raise ProtobufError("an entry of a Struct without name or value, or twice")
        found[str(entry[1])] = entry[2]
    return found


def _value(reader: _Reader, data: bytes, depth: int) -> object:
    fields = list(_fields(reader, data, depth))
    if len(fields) != 1:
        raise ProtobufError("a Value that is not one value")
    match fields[0]:
        case (1, 0, 0):
            return None
        case (2, 1, bytes(raw)):
            return _number(raw)
        case (3, 2, bytes(raw)):
            return _text(raw)
        case (4, 0, 0 | 1 as raw):
            return raw == 1
        case (5, 2, bytes(raw)):
            return _struct(reader, raw, depth + 1)
        case (6, 2, bytes(raw)):
            return _list(reader, raw, depth + 1)
        case _:
            raise ProtobufError("a Value of no kind that is known")


def _list(reader: _Reader, data: bytes, depth: int) -> list[object]:
    found = []
    for number, wire, raw in _fields(reader, data, depth):
        if (number, wire) != (1, _BYTES) or isinstance(raw, int):
            raise ProtobufError("a ListValue with a field that it does not have")
        found.append(_value(reader, raw, depth + 1))
    return found


def _number(raw: bytes) -> int | float:
    value: float = struct.unpack("<d", raw)[0]
    if not isfinite(value):
        raise ProtobufError("a number that JSON does not have")
    return int(value) if value.is_integer() and abs(value) <= MAX_SAFE_INTEGER else value


def _timestamp(reader: _Reader, data: bytes, depth: int) -> str:
    parts: dict[int, int] = {}
    for number, wire, raw in _fields(reader, data, depth):
        if number not in {1, 2} or wire != _VARINT or number in parts or not isinstance(raw, int):
            raise ProtobufError("a Timestamp with a field that it does not have")
        parts[number] = raw
    seconds, nanos = parts.get(1, 0), parts.get(2, 0)
    if seconds > _MAX_SECONDS or nanos >= 10**9 or nanos % 1000:
        raise ProtobufError("a Timestamp that is none of a calendar, or finer than a microsecond")
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=nanos // 1000)
    return moment.isoformat().replace("+00:00", "Z")


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ProtobufError("a text that is not UTF-8") from error


def _fields(reader: _Reader, data: bytes, depth: int) -> list[tuple[int, int, int | bytes]]:
    """Split a message into its fields: number, wire type, and what stands there."""
    reader.count(depth)
    found: list[tuple[int, int, int | bytes]] = []
    at = 0
    while at < len(data):
        reader.count(depth)
        tag, at = _varint(data, at)
        raw: int | bytes
        match tag & 7:
            case 0:
                raw, at = _varint(data, at)
            case 1:
                raw, at = _cut(data, at, 8)
            case 2:
                size, at = _varint(data, at)
                raw, at = _cut(data, at, size)
            case _:
                raise ProtobufError("a wire type that is not read")
        found.append((tag >> 3, tag & 7, raw))
    return found


def _cut(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    if size > len(data) - at:
        raise ProtobufError("a field that is longer than its message")
    return data[at : at + size], at + size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    for byte in data[at : at + 10]:
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            # A longer form of the same number is refused: it would be another text with one reading.
            if (byte == 0 and shift > 7) or value >= 1 << 64:
                break
            return value, at
    raise ProtobufError("a number that is not written in its shortest form")
