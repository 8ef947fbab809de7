"""The port to the policy: a question and its verdict, or which of a list of names; the engines stand behind.

- A question is plain JSON of the form deputy.input/v1 (schemas/input.json; authz/policy/query.py builds it),
  or of deputy.admin/v1 (schemas/admin.json; authz/admin.py builds it): its version chooses who answers.
- An engine that cannot answer raises; it never returns a verdict of its own making.
"""

from collections.abc import Mapping
from typing import Protocol

from authz.policy.verdict import Verdict

Query = Mapping[str, object]


class Policy(Protocol):
    """Decides by a policy and its data."""

    @property
    def revision(self) -> str:
        """Name policy and data that the next answer will come from."""
        ...

    def payload_classes(self, service: str) -> frozenset[str]:
        """Return the classes of data that have a rule on this service: what to look for in a call."""
        ...

    async def decide(self, query: Query) -> Verdict:
        """Answer one question.

        Raises:
            PolicyUnavailableError: if the engine cannot be asked, or fails.
            PolicyRevisionError: if another revision answered than the one we expect.
            PolicyShapeError: if the answer is not one.
        """
        ...

    async def visible(self, query: Query) -> frozenset[str]:
        """Return which names of a list this caller could ever use; a policy may hide all, and add none.

        Raises:
            PolicyUnavailableError: if the engine cannot be asked, or fails.
            PolicyRevisionError: if another revision answered than the one we expect.
            PolicyShapeError: if the list is too long to be asked about, or the answer is not one.
        """
        ...
