"""One answer on its way to the caller: passed, watched, or written anew.

- Whoever the answer is for must still be who they were: looked at with the headers, with each chunk, and
  after every wait, so that a withdrawal wins every race.
- A list is sent on as what we read, encoded anew: whoever reads it reads what we judged. Bytes that were
  judged and then passed on could mean something else to another parser (a name twice, a byte order mark,
  `data:` lines that are split), and the list would be there again.
- What cannot be read, or not be judged, is replaced; the service's own text is never in the replacement.
- Whatever a service sends, at most one answer of 4 MiB is held, and the chunk that came last.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from authz.answers.passage import Passage, require_standing
from authz.codes import Code
from authz.errors import AuthenticationError, CodedError, StoreError
from authz.flow import Following, Rights
from authz.headers import Headers
from authz.pins.port import Pins
from authz.policy.port import Policy
from authz.services import Service
from authz.sessions.port import Sessions

# `pass`: the body need not be looked at. `watch`: each chunk passes as it is. `rewrite`: each is replaced by
# what `on_body` returns. `refuse`: the whole answer is replaced by `status`, `set_headers` and `body`.
Kind = Literal["pass", "watch", "rewrite", "refuse"]


@dataclass(frozen=True, slots=True)
class HeadersAnswer:
    """What becomes of an answer whose headers were seen."""

    kind: Kind
    set_headers: tuple[tuple[str, str], ...] = ()
    remove_headers: tuple[str, ...] = ()
    # Of `refuse` only.
    status: int = 200
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class GuardPorts:
    """What all guards share: whom to ask, and what time it is."""

    policy: Policy
    rights: Rights
    clock: Callable[[], datetime]
    pins: Pins | None = None
    sessions: Sessions | None = None
    following: Following | None = None


class Guard:
    """The state of one answer; made when its headers come, with whose call it answers."""

    def __init__(self, passage: Passage, service: Service, ports: GuardPorts) -> None:
        """Begin with nothing seen; `service` is the one that the passage names."""
        self._passage = passage
        self._service = service
        self._ports = ports
        # Why something was replaced last, for the log; the caller reads the code's sentence only.
        self.problem: CodedError | None = None

    async def on_headers(self, status: int, headers: Headers, *, end_of_stream: bool) -> HeadersAnswer:
        """Decide what becomes of the answer; never raises an error of ours, but refuses."""
        raise NotImplementedError

    async def on_body(self, chunk: bytes, *, end_of_stream: bool) -> bytes:
        """Return what to send in place of a chunk; with `rewrite` that may be nothing until the last one.

        `end_of_stream` is also where trailers follow, or a proxy has buffered the whole body.

        Raises:
            CodedError: if the caller may have no more of it: the host ends the stream.
        """
        raise NotImplementedError

    async def still_stands(self) -> None:
        """Look whether the answer may go on: also while nothing flows, when rights or time have moved.

        Raises:
            AuthenticationError: if not: the host ends the stream.
        """
        try:
            if self._ports.following is not None:
                await self._ports.following.refresh()
        except StoreError as error:
            raise AuthenticationError(Code.STALE, str(error)) from error
        require_standing(self._passage, self._ports.rights, self._ports.clock())
