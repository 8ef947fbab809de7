"""What a caller is told whose call waits for a person: where that person decides, and in which words.

- It holds nothing that decides: whoever reads it cannot approve by it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """The approval's id, the HTTPS URL of its page, and one sentence for the person."""

    id: str
    url: str
    message: str
