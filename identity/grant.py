"""Evidence that a decision allowed.

- Only `authz/decision.py` makes a grant, and only for an allow; a test walks the code for other places.
- What stands for a caller upstream is issued against a grant: no grant, no identity.
"""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Grant:
    """One allowed action: who, for whom, what, where, by which decision."""

    decision_id: str
    human: str | None
    agent: str
    task: str
    service: str
    action: str
    resource: str
    arguments_sha256: str | None
    scopes: frozenset[str]
    granted_at: datetime
    # The approval that was used for it, where the policy asks for a person's.
    approval: str | None = None
