"""Where a record goes before the answer does.

- `append` returns when the record is where it must be; until then nothing may be answered but a denial.
- Whoever implements this raises AuditError and nothing else.
"""

from dataclasses import dataclass
from typing import Protocol

from authz.audit.entry import Entry


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a record stands in the log, and its id (for a decision: the decision's)."""

    seq: int
    id: str


class Sink(Protocol):
    """Takes records, one at a time."""

    async def append(self, entry: Entry) -> Receipt:
        """Write one record.

        Raises:
            AuditError: if the record is not written. The answer is then a denial.
        """
