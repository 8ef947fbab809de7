"""The hash chain: what follows what.

- `Head` is the newest record of a log: its number and its hash. The log writes it beside the segments, so
  that records dropped from the end are missed.
- `follow` accepts a line only as the very next record of a log; it is how a writer reads its own tail at
  start.
"""

import re
from dataclasses import dataclass
from typing import Final

from authz.audit.record import GENESIS, MAX_INTEGER, Record, canonical, digest
from authz.errors import AuditError

MAX_HEAD_BYTES: Final = 256
_HEAD: Final = re.compile(rb'\{"hash":"([0-9a-f]{64})","seq":(0|[1-9][0-9]{0,15}),"v":1\}\n')


@dataclass(frozen=True, slots=True)
class Head:
    """The number and the hash of the newest record; an empty log has number 0."""

    seq: int
    hash: str

    @classmethod
    def parse(cls, data: bytes) -> "Head":
        """Read the head that was written beside a log.

        Raises:
            AuditError: if the bytes are not exactly what `to_bytes` gives.
        """
        match = _HEAD.fullmatch(data)
        if match is None or int(match[2]) > MAX_INTEGER:
            raise AuditError("not the head of an audit log")
        head = cls(int(match[2]), match[1].decode())
        if (head.seq == 0) != (head.hash == GENESIS):
            raise AuditError("not the head of an audit log: an empty one has no hash")
        return head

    def to_bytes(self) -> bytes:
        """Return the bytes to write beside the log."""
        return canonical({"hash": self.hash, "seq": self.seq, "v": 1}) + b"\n"


EMPTY: Final = Head(0, GENESIS)


def follow(head: Head, line: bytes) -> Head:
    """Return the head after a line (without its newline).

    Raises:
        AuditError: if the line is not the record that comes next.
    """
    record = Record.parse(line)
    if record.seq != head.seq + 1:
        raise AuditError(f"record {record.seq} stands where record {head.seq + 1} belongs")
    if record.prev != head.hash:
        raise AuditError(f"record {record.seq} does not name the hash of record {head.seq}")
    return Head(record.seq, digest(line))
