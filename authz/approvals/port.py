"""The port to approvals: the flow spends one, or asks for one.

- `spend` is one step: of all who present one call, at whatever time and in whatever process, exactly one gets
  the approval. A proxy may repeat its own question (`call`, as for proofs): it is answered as before.
- What cannot be known is refused: an error is no approval.
"""

from datetime import datetime
from typing import Protocol

from authz.approvals.approval import Spent
from authz.approvals.key import ApprovalKey, Asked
from authz.approvals.prompt import Prompt


class Approvals(Protocol):
    """Remembers what people were asked, and what they said."""

    async def spend(self, key: ApprovalKey, now: datetime, call: str) -> Spent | None:
        """Use the approval of a call; None where there is none.

        Raises:
            ApprovalError: with APPROVAL_UNKNOWN, if that cannot be known.
        """
        ...

    async def request(self, asked: Asked, now: datetime) -> Prompt:
        """Ask a person; who asks again for the same call is told of the same request.

        Raises:
            ApprovalError: if a person denied it, too much waits for one, or it cannot be kept.
        """
        ...
