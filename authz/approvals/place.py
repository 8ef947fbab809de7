"""Where a person reads about a request: a page below the issuer's URL."""

from typing import Final

APPROVALS: Final = "/approvals"


def page_of(issuer: str, approval_id: str) -> str:
    """Return the URL of a request's page."""
    return f"{issuer.rstrip('/')}{APPROVALS}/{approval_id}"
