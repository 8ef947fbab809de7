"""Which policy and which data: the two digests that every record and every answer of OPA carries."""

from dataclasses import dataclass
from typing import Final

_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Revision:
    """SHA-256 of the Rego modules and of the data, lower-case hex."""

    policy: str
    data: str

    @staticmethod
    def is_of_data(shown: str, data: str) -> bool:
        """Say whether a short form names this digest of the data."""
        return shown.endswith(f".{data[:_SHOWN]}")

    def __str__(self) -> str:
        """Write the short form, which stands in records."""
        return f"{self.policy[:_SHOWN]}.{self.data[:_SHOWN]}"
