"""A call to the service that runs on a data directory, over its `admin.sock`.

- The socket must be our own user's: what somebody else put there is not spoken to.
- What goes wrong is one sentence that says what to do; what a service sends is made printable.
"""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from grpclib import GRPCError, Status
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.exceptions import StreamTerminatedError
from h2.exceptions import ProtocolError

from authz.commands.output import printable
from authz.errors import AuthzError

SERVICE: Final = "deputy.identity.v1.AuthorityService"
SOCKET_NAME: Final = "admin.sock"
# A change may have to be kept on a slow device, and a bundle to be fetched.
_SECONDS: Final = 60.0

_Result = TypeVar("_Result")


class ServiceError(AuthzError):
    """A service that does not run, or does not do what it was asked."""


class NotRunningError(ServiceError):
    """No service runs on a data directory."""

    def __init__(self, data_dir: Path) -> None:
        """Say what to do."""
        super().__init__(
            f"no service is running on the data directory {str(data_dir)!r}: start it with "
            "'deputy serve --config FILE'"
        )


class Service:
    """The service behind a channel."""

    def __init__(self, channel: Channel) -> None:
        """Call over a channel."""
        self._channel = channel

    async def call(self, name: str, request: Any, reply: Any) -> Any:  # noqa: ANN401 - the message that the method is for
        """Call a method that answers once."""
        method: UnaryUnaryMethod[Any, Any] = UnaryUnaryMethod(
            self._channel, f"/{SERVICE}/{name}", type(request), reply
        )
        return await method(request, timeout=_SECONDS)

    async def stream(self, name: str, request: Any, reply: Any) -> AsyncIterator[Any]:  # noqa: ANN401 - the message that the method is for
        """Call a method that answers step by step."""
        method: UnaryStreamMethod[Any, Any] = UnaryStreamMethod(
            self._channel, f"/{SERVICE}/{name}", type(request), reply
        )
        async with method.open() as stream:
            await stream.send_message(request, end=True)
            async for message in stream:
                yield message


def with_service(data_dir: Path, act: Callable[[Service], Awaitable[_Result]]) -> _Result:
    """Do something with the service of a data directory.

    Raises:
        NotRunningError: if there is none.
        ServiceError: if it refuses.
    """

    async def run() -> _Result:
        async with service_of(data_dir) as service:
            return await act(service)

    return asyncio.run(run())


@asynccontextmanager
async def service_of(data_dir: Path) -> AsyncIterator[Service]:
    """Connect to the service of a data directory, and wrap what goes wrong.

    Raises:
        NotRunningError: if there is none.
        ServiceError: if it refuses.
    """
    path = data_dir / SOCKET_NAME
    _require_ours(path, data_dir)
    channel = Channel(path=str(path))
    try:
        yield Service(channel)
    except GRPCError as error:
        raise _refused(error) from error
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NotRunningError(data_dir) from error
    except TimeoutError as error:
        raise ServiceError(f"the service did not answer within {_SECONDS:.0f} s: see its log") from error
    except (StreamTerminatedError, ProtocolError) as error:
        raise ServiceError("the service ended the call: is it still running? Ask again") from error
    except OSError as error:
        raise ServiceError(f"cannot reach {str(path)!r}: {error.strerror or error}") from error
    finally:
        channel.close()


def _require_ours(path: Path, data_dir: Path) -> None:
    try:
        state = path.lstat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotRunningError(data_dir) from error
    except OSError as error:
        raise ServiceError(
            f"cannot look at {str(path)!r}: {error.strerror}; ask as the user that runs the service"
        ) from error
    if not stat.S_ISSOCK(state.st_mode):
        raise ServiceError(f"{str(path)!r} is not a socket: move it away and start the service again")
    if state.st_uid != os.geteuid():
        raise ServiceError(
            f"{str(path)!r} is that of uid {state.st_uid}: ask as that user, who runs the service"
        )


def _refused(error: GRPCError) -> ServiceError:
    if error.status is Status.UNIMPLEMENTED:
        return ServiceError("the service that runs is of another version: restart it")
    return ServiceError(printable(error.message or error.status.name.lower().replace("_", " "))[:1000])
