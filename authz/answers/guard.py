"""One answer on its way to the caller: passed, watched, or written anew.

- Whoever the answer is for must still be who they were: looked at with the headers, with each chunk, and
  after every wait, so that a withdrawal wins every race.
- A list is sent on as what we read, encoded anew: whoever reads it reads what we judged. Bytes that were
  judged and then passed on could mean something else to another parser (a name twice, a byte order mark,
  `data:` lines that are split), and the list would be there again.
- What cannot be read, or not be judged, is replaced; the service's own text is never in the replacement.
- Whatever a service sends, at most one answer of 4 MiB is held, and the chunk that came last.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal

from authz.answers.json_answer import MAX_ANSWER, decode, read_object, unreadable, write
from authz.answers.known_lists import Asked, KnownLists
from authz.answers.listing import MEMBER_OF, Listing, read_models
from authz.answers.passage import Passage, require_standing
from authz.answers.replacement import replacement
from authz.answers.rpc_answer import RpcOther, read_answer
from authz.answers.sse import KEEP_ALIVE, Event, EventReader, Skipped, encode
from authz.answers.way import EVENT_STREAM, JSON, Way, way_of
from authz.codes import Code
from authz.errors import AnswerError, AuthenticationError, CodedError, StoreError
from authz.flow import Following, Rights
from authz.headers import Headers
from authz.pins.port import Pins
from authz.policy.port import Policy
from authz.policy.query import Kind, visible_query
from authz.protocols.mcp_era import SESSION_HEADER
from authz.response import DECISION_HEADER, REASON_HEADER
from authz.services import Service
from authz.sessions.port import Sessions

# `pass`: the body need not be looked at. `watch`: each chunk passes as it is. `rewrite`: each is replaced by
# what `on_body` returns. `refuse`: the whole answer is replaced by `status`, `set_headers` and `body`.
Handling = Literal["pass", "watch", "rewrite", "refuse"]

# Each costs the sender less than us: a stream that has more of them is ended.
MAX_REPLACED_EVENTS: Final = 64

_PRIVATE: Final = ("cache-control", "private, no-store")
# What is said of a body that is not the one that is sent on, and what would have another cache keep it.
_OF_THE_BODY: Final = (
    *("content-length", "content-encoding", "content-range", "accept-ranges", "etag", "last-modified"),
    *("content-digest", "repr-digest", "digest", "content-md5", "expires", "age"),
    *("cdn-cache-control", "surrogate-control"),
)
_NOT_KNOWN_YET: Final = frozenset({Code.TASK_UNKNOWN, Code.AGENT_UNKNOWN})
_LLM_ERROR: Final = ("type", "error", "request_id")


@dataclass(frozen=True, slots=True)
class HeadersAnswer:
    """What becomes of an answer whose headers were seen."""

    kind: Handling
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
    # For replicas, as in the flow (authz/flow.py).
    following: Following | None = None
    known: KnownLists = field(default_factory=KnownLists)


class Guard:
    """The state of one answer; made when its headers come, with whose call it answers."""

    def __init__(self, passage: Passage, service: Service, ports: GuardPorts) -> None:
        """Begin with nothing seen; `service` is the one that the passage names."""
        self._passage = passage
        self._service = service
        self._ports = ports
        self._way: Way | None = None
        self._body = bytearray()
        self._is_over = False
        self._events = EventReader()
        self._replaced_events = 0
        # Why something was replaced last, for the log; the caller reads the code's sentence only.
        self.problem: CodedError | None = None

    async def on_headers(self, status: int, headers: Headers, *, end_of_stream: bool) -> HeadersAnswer:
        """Decide what becomes of the answer; never raises an error of ours, but refuses."""
        try:
            await self._stands_at_first()
            await self._bind_session(headers)
            self._way = way_of(self._passage, status, headers, end_of_stream=end_of_stream)
        except CodedError as error:
            return self._refused(error, headers)
        except Exception as error:  # noqa: BLE001 - whatever it is, the host must get an answer
            return self._refused(_internal(error), headers)
        match self._way:
            case "pass" | "watch":
                return HeadersAnswer(self._way)
            case _:
                media_type = EVENT_STREAM if self._way == "events" else JSON
                return HeadersAnswer("rewrite", (("content-type", media_type), _PRIVATE), _OF_THE_BODY)

    async def on_body(self, chunk: bytes, *, end_of_stream: bool) -> bytes:
        """Return what to send in place of a chunk; with `rewrite` that may be nothing until the last one.

        `end_of_stream` is also where trailers follow, or a proxy has buffered the whole body.

        Raises:
            CodedError: if the caller may have no more of it, or nothing of it can be read: the host ends the
                stream.
        """
        await self.still_stands()
        match self._way:
            case "pass" | "watch":
                return chunk
            case "events":
                return b"".join([await self._on_event(event) for event in self._events.feed(chunk)])
            case "list" | "error":
                return await self._on_part(chunk, end_of_stream=end_of_stream)
            case _:
                raise unreadable("a body that was not asked for")

    @property
    def held(self) -> int:
        """Count the bytes that are kept until the rest is there."""
        return len(self._body) + self._events.held

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

    async def _stands_at_first(self) -> None:
        """Look again where another process, which allowed the call, knew of the caller a moment before us."""
        following = self._ports.following
        try:
            await self.still_stands()
        except AuthenticationError as error:
            if following is None or error.code not in _NOT_KNOWN_YET:
                raise
            try:
                await following.learn()
            except StoreError as unread:
                raise AuthenticationError(Code.STALE, str(unread)) from unread
            await self.still_stands()

    async def _bind_session(self, headers: Headers) -> None:
        """Bind the session that `initialize` opens to who asked for it."""
        sessions, passage = self._ports.sessions, self._passage
        if sessions is None or passage.protocol != "mcp" or passage.method != "initialize":
            return
        session_id = headers.one(SESSION_HEADER)
        if session_id is not None:
            await sessions.bind(self._service.name, session_id, passage.owner, self._ports.clock())
            await self.still_stands()

    async def _on_part(self, chunk: bytes, *, end_of_stream: bool) -> bytes:
        if self._is_over:
            return b""
        self._body += chunk
        self._is_over = end_of_stream or len(self._body) > MAX_ANSWER
        if not self._is_over:
            return b""
        body = bytes(self._body)
        self._body.clear()
        if not body:
            return b""
        written, _ = await self._or_replacement(self._whole(body))
        return written

    async def _whole(self, body: bytes) -> bytes:
        if len(body) > MAX_ANSWER:
            raise unreadable(f"more than {MAX_ANSWER} bytes")
        text = decode(body)
        return self._error(text) if self._way == "error" else await self._list(text)

    async def _on_event(self, event: Event | Skipped) -> bytes:
        if isinstance(event, Event) and not event.data:
            return encode(event)
        written, is_whole = await self._or_replacement(self._data(event))
        self._replaced_events += not is_whole
        if self._replaced_events > MAX_REPLACED_EVENTS:
            raise unreadable(f"more than {MAX_REPLACED_EVENTS} events that are not passed on")
        return encode(replace(event if isinstance(event, Event) else KEEP_ALIVE, data=written.decode()))

    async def _data(self, event: Event | Skipped) -> bytes:
        if isinstance(event, Skipped):
            raise unreadable("an event that is too large, or no text")
        return await self._message(event.data or "")

    async def _or_replacement(self, writing: Awaitable[bytes]) -> tuple[bytes, bool]:
        """Return what was written, or what is sent in its place; who is gone gets neither.

        Raises:
            AuthenticationError: if the caller may have no more of it.
        """
        try:
            return await writing, True
        except AuthenticationError:
            raise
        except CodedError as error:
            return self._replaced(error), False
        except Exception as error:  # noqa: BLE001 - as in `on_headers`
            return self._replaced(_internal(error)), False

    async def _list(self, text: str) -> bytes:
        if self._passage.protocol == "llm":
            return await self._cut(read_models(read_object(text), self._service.route))
        return await self._message(text, is_answer=True)

    async def _message(self, text: str, *, is_answer: bool = False) -> bytes:
        """Return a message of MCP as it is sent on; the only one of a body answers the request."""
        answer = read_answer(text, self._asked(), self._ports.known)
        if isinstance(answer, RpcOther):
            if is_answer and not answer.is_error:
                raise unreadable("a request in place of an answer")
            return answer.written
        try:
            return answer.written(await self._cut(answer.listing))
        except AuthenticationError:
            raise
        except CodedError as error:
            raise AnswerError(error.code, error.detail, answer.id) from error
        except Exception as error:
            raise AnswerError(Code.INTERNAL, _fault(error), answer.id) from error

    def _asked(self) -> Asked:
        return Asked(
            self._service.route.tool_prefix,
            MEMBER_OF.get(self._passage.method),
            declares=self._ports.pins is not None and self._service.pins != "off",
        )

    async def _cut(self, listing: Listing) -> bytes:
        """Write a list with what its reader could use."""
        hidden = await self._learn(listing)
        visible: dict[Kind, frozenset[str]] = {}
        for each in listing.lists:
            gone = hidden if each.kind == "tool" else frozenset[str]()
            names = [n for n in each.names if n not in gone and self._passage.may_name(each.kind, n)]
            if names:
                asked = visible_query(
                    self._passage.who, self._service.name, self._passage.protocol, each.kind, names
                )
                visible[each.kind] = await self._ports.policy.visible(asked) & frozenset(names)
        await self.still_stands()
        written = listing.only(visible)
        if len(written) > MAX_ANSWER:
            raise unreadable(f"more than {MAX_ANSWER} bytes as it is written")
        return written

    async def _learn(self, listing: Listing) -> frozenset[str]:
        pins, mode = self._ports.pins, self._service.pins
        if pins is None or mode == "off" or not listing.declared:
            return frozenset()
        return await pins.learn(self._service.name, listing.declared, mode, self._ports.clock())

    def _error(self, text: str) -> bytes:
        """Return the body of a failure as it is sent on: an error of the protocol, and nothing beside it."""
        if self._passage.protocol == "llm":
            document = read_object(text)
            if "error" not in document:
                raise unreadable("a failure that is no error")
            return write({name: document[name] for name in _LLM_ERROR if name in document})
        answer = read_answer(text, self._asked(), self._ports.known)
        if isinstance(answer, RpcOther) and answer.is_error:
            return answer.written
        raise unreadable("a failure that is no error")

    def _replaced(self, error: CodedError) -> bytes:
        self.problem = error
        found = error.rpc_id if isinstance(error, AnswerError) else None
        # Without an id some clients wait for ever.
        rpc_id = self._passage.rpc_id if found is None else found
        return replacement(self._passage, error, rpc_id).body.encode()

    def _refused(self, error: CodedError, headers: Headers) -> HeadersAnswer:
        self.problem = error
        is_grpc = headers.last.get("content-type", b"").lower().startswith(b"application/grpc")
        answer = replacement(self._passage, error, self._passage.rpc_id, is_grpc=is_grpc)
        said = ((REASON_HEADER, error.code.value), (DECISION_HEADER, self._passage.decision_id))
        return HeadersAnswer(
            "refuse", (*answer.headers, _PRIVATE, *said), status=answer.status, body=answer.body.encode()
        )


def _internal(error: Exception) -> CodedError:
    return AnswerError(Code.INTERNAL, _fault(error))


def _fault(error: Exception) -> str:
    return f"{type(error).__name__} in a guard"
