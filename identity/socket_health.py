"""The gRPC health service of a private socket.

- "" and each service of the socket are serving while SVIDs can be issued, and not serving otherwise.
- `Watch` tells of each change; an unknown service is "unknown" there and `NotFound` in `Check`.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from grpc_health.v1 import health_pb2 as pb  # type: ignore[import-untyped]  # no stubs
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from identity.entitlement import Changes
from identity.socket_pace import turn

NAME: Final = "grpc.health.v1.Health"
# What is ready can also change without a word, such as with the clock.
_LOOK_AGAIN_SECONDS: Final = 5.0


class Health:
    """The health service of one socket."""

    def __init__(self, services: Sequence[str], is_ready: Callable[[], bool], changes: Changes) -> None:
        """Answer for these services."""
        self._services = frozenset(services) | {""}
        self._is_ready = is_ready
        self._changes = changes

    def __mapping__(self) -> Mapping[str, Handler]:
        """Return the methods by their gRPC paths."""
        types = (pb.HealthCheckRequest, pb.HealthCheckResponse)
        return {
            f"/{NAME}/Check": Handler(self.check, Cardinality.UNARY_UNARY, *types),
            f"/{NAME}/Watch": Handler(self.watch, Cardinality.UNARY_STREAM, *types),
        }

    async def check(self, stream: Stream[Any, Any]) -> None:
        """Answer once."""
        request = await stream.recv_message()
        if request is None or request.service not in self._services:
            raise GRPCError(Status.NOT_FOUND, "no such service here")
        await stream.send_message(pb.HealthCheckResponse(status=self._status(request.service)))

    async def watch(self, stream: Stream[Any, Any]) -> None:
        """Answer now, and whenever the answer changes."""
        request = await stream.recv_message()
        if request is None:
            raise GRPCError(Status.INVALID_ARGUMENT, "no request")
        told = None
        while True:
            seen, status = self._changes.version, self._status(request.service)
            if status != told:
                await stream.send_message(pb.HealthCheckResponse(status=status))
                told = status
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_SECONDS):
                    await self._changes.wait(seen)
            await turn()

    def _status(self, service: str) -> int:
        known = pb.HealthCheckResponse
        if service not in self._services:
            return int(known.SERVICE_UNKNOWN)
        return int(known.SERVING if self._is_ready() else known.NOT_SERVING)
