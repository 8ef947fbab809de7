"""The server that is examined, as the run sees it."""

from typing import Protocol

from authz.conformance.message import Answer, Request


class Server(Protocol):
    """Takes requests; whatever happens is an `Answer`."""

    async def send(self, url: str, request: Request) -> Answer:
        """Send a request to an endpoint."""

    async def get(self, url: str) -> Answer:
        """Fetch a public document."""
