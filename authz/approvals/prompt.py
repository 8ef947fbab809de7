"""What a caller is told whose call waits for a person: where that person decides, and in which words.

- It holds nothing that decides: whoever reads it cannot approve by it.
"""

from dataclasses import dataclass
from typing import Final

# By this name a client is asked to show the URL, and by it the client says that it did, which proves nothing.
# The server gets that with the retry, so it is no name that a server has for a question of its own.
INPUT: Final = "deputy.approval"


@dataclass(frozen=True, slots=True)
class Prompt:
    """The approval's id, the HTTPS URL of its page, and one sentence for the person."""

    id: str
    url: str
    message: str
