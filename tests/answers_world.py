"""Answers to one caller's calls, as a proxy would bring them: through the guard, in chunks."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from authz.answers.guard import Guard, GuardPorts, HeadersAnswer
from authz.answers.passage import Passage
from authz.answers.sse import Event, EventReader
from authz.errors import AuthenticationError, PinError
from authz.headers import Headers
from authz.pins.declared import Declared
from authz.pins.port import PinMode
from authz.protocols.operation import Operation
from authz.protocols.route import Route
from authz.services import Service, Services
from authz.sessions.port import Owner
from tests.fakes import TICKETS, World

JSON = "application/json"
EVENTS = "text/event-stream"
# Of a list; other than what its answer has, as no server would answer.
ASKED_ID = "asked"


@dataclass
class FakePins:
    """Hides what it is told to."""

    hidden: frozenset[str] = frozenset()
    error: PinError | None = None
    learnt: list[tuple[str, tuple[Declared, ...], PinMode]] = field(default_factory=list)

    async def require(self, service: str, tool: str, mode: PinMode) -> None:
        raise AssertionError("no call is answered here")

    async def learn(
        self, service: str, declared: Iterable[Declared], mode: PinMode, now: datetime
    ) -> frozenset[str]:
        del now
        if self.error is not None:
            raise self.error
        self.learnt.append((service, tuple(declared), mode))
        return self.hidden


@dataclass
class FakeSessions:
    """Binds, or refuses as it is told to."""

    error: AuthenticationError | None = None
    bound: list[tuple[str, str, Owner]] = field(default_factory=list)

    async def bind(self, service: str, session_id: str, owner: Owner, now: datetime) -> None:
        del now
        if self.error is not None:
            raise self.error
        self.bound.append((service, session_id, owner))


@dataclass
class Sent:
    """What the caller gets."""

    head: HeadersAnswer
    chunks: list[bytes]
    guard: Guard

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def json(self) -> dict[str, object]:
        document = json.loads(self.head.body or self.body)
        assert isinstance(document, dict)
        return document

    @property
    def result(self) -> dict[str, object]:
        result = self.json["result"]
        assert isinstance(result, dict)
        return result

    @property
    def reason(self) -> str:
        """The code of what was put in place of an answer; empty where nothing was."""
        return reason_of(self.json)

    @property
    def events(self) -> list[Event]:
        reader = EventReader()
        return [event for event in reader.feed(self.body) if isinstance(event, Event)]

    @property
    def messages(self) -> list[dict[str, object]]:
        return [json.loads(event.data) for event in self.events if event.data]


def reason_of(document: Mapping[str, object]) -> str:
    """Return the code in an error of ours."""
    match document:
        case {"error": {"data": {"reason": str(reason)}}} | {"error": {"reason": str(reason)}}:
            return reason
        case {"reason": str(reason)}:
            return reason
        case _:
            return ""


class AnswersWorld(World):
    """A caller, and a service whose answers are guarded."""

    def __init__(self, **more: object) -> None:
        super().__init__()
        plain = Service("tickets", TICKETS, Route("tickets", "mcp"), is_guarded=True)
        self.services = Services.of((plain,), tuple(self.services.askers.values()), None)
        self.caller = self.run("triage")
        response = self.check(self.request(self.token(self.caller), self.caller))
        self.allowed = Passage.parse(response.dynamic_metadata.fields["passage"].string_value)
        self.policy.asked.clear()
        self.service = replace(plain, **more)  # type: ignore[arg-type]  # the tests name real fields
        self.ports = GuardPorts(self.policy, self.rights, lambda: self.now)

    def passage(self, operation: Operation) -> Passage:
        return replace(
            self.allowed,
            protocol=operation.protocol,
            method=operation.method,
            phase=operation.phase,
            rpc_id=operation.rpc_id,
        )

    def answer(
        self,
        *chunks: bytes | str,
        to: str = "tools/list",
        status: int = 200,
        media_type: str | None = JSON,
        headers: Iterable[tuple[str, str]] = (),
        ends: bool = True,
    ) -> Sent:
        """Bring an answer; without chunks it has no body."""
        return asyncio.run(self._answer(chunks, operation_of(to), status, media_type, headers, ends=ends))

    async def _answer(
        self,
        chunks: tuple[bytes | str, ...],
        operation: Operation,
        status: int,
        media_type: str | None,
        headers: Iterable[tuple[str, str]],
        *,
        ends: bool,
    ) -> Sent:
        guard = Guard(self.passage(operation), self.service, self.ports)
        given = [*headers, *([("content-type", media_type)] if media_type is not None else [])]
        read = Headers.parse((name, value.encode("latin-1")) for name, value in given)
        head = await guard.on_headers(status, read, end_of_stream=not chunks)
        sent = Sent(head, [], guard)
        if head.kind != "refuse":
            for number, chunk in enumerate(chunks, 1):
                data = chunk.encode() if isinstance(chunk, str) else chunk
                last = ends and number == len(chunks)
                sent.chunks.append(await guard.on_body(data, end_of_stream=last))
        return sent


def operation_of(method: str) -> Operation:
    """Return what was asked for: `models` and a chat of a model's provider, the rest of an MCP server."""
    if method == "chat.completions":
        return Operation("llm", method, "call", "model", "small")
    if method == "models":
        return Operation("llm", "models", "list", "server", "tickets")
    if method.endswith("/list"):
        return Operation("mcp", method, "list", "server", "tickets", rpc_id=ASKED_ID)
    if "/" in method:
        return Operation("mcp", method, "call", "tool", "read_ticket")
    return Operation("mcp", method, "lifecycle", "server", "tickets")


def tools(*names: str, **more: object) -> dict[str, object]:
    """A result of `tools/list`."""
    return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names], **more}


def response(result: object, rpc_id: object = 7) -> str:
    """A response, as most servers write it."""
    return json.dumps({"jsonrpc": "2.0", "id": rpc_id, "result": result}, separators=(",", ":"))


def names_in(result: object, member: str = "tools", name: str = "name") -> list[str]:
    """Return what a result lists."""
    assert isinstance(result, dict)
    return [element[name] for element in result[member]]
