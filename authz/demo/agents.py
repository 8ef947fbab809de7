"""Agents of the demo, as an agent developer would write them: an identity, a token, a call.

- A runner is a mesh workload that may host agents; it starts tasks at the task service, on its own socket.
- A task has a socket of its own; the Workload API there gives it its X.509-SVID and its JWT-SVIDs.
- Calls are made by the official MCP client; what is reported is what it and Envoy really answered.
"""

import base64
import time
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import grpc
import httpx2
from google.protobuf.message import Message
from mcp import Client
from mcp.client.client import ConnectMode
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from authz.demo.identity import Identity
from authz.demo.proof import ProofAuth, ProofKey
from authz.response import DECISION_HEADER, REASON_HEADER
from identity.pb import task_pb2

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - the name of a type, no secret
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a type, no secret
JWT = "urn:ietf:params:oauth:token-type:jwt"
TASK_SERVICE = "/deputy.identity.v1.TaskService"
TIMEOUT = 10.0
AnswerT = TypeVar("AnswerT", bound=Message)
# A client that knows its server needs no discovery: its first message is the call.
MODERN: ConnectMode = "2026-07-28"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: `decision` is Deputy's id of it, `reason` its code, where it answered at all."""

    status: int
    decision: str
    reason: str
    text: str
    latency_ms: float
    # The client raised, or the tool said that it failed.
    failed: bool = False

    @property
    def allowed(self) -> bool:
        """Say whether the tool answered, and with a result."""
        return not self.reason and self.status == httpx2.codes.OK and not self.failed


@dataclass(frozen=True, slots=True)
class Token:
    """The broker's answer to an exchange; `value` is empty when it refused."""

    value: str = field(repr=False)
    answer: Answer


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool, and how the client finds out what the server speaks."""

    tool: str
    arguments: dict[str, Any]
    mode: ConnectMode


@dataclass(frozen=True, slots=True)
class Places:
    """Where broker and gateway are."""

    broker: str
    gateway: str


@dataclass(frozen=True, slots=True)
class AgentTask:
    """One run of one agent."""

    agent: str
    human: str
    id: str
    identity: Identity
    places: Places
    runner: "Runner"

    async def exchange(
        self,
        audience: str,
        subject_token: str,
        *,
        subject_type: str = ID_TOKEN,
        key: ProofKey | None = None,
        **more: str,
    ) -> Token:
        """Exchange a token for a delegation token (RFC 8693), bound to the SVID or to a key of one's own."""
        headers = {}
        if key is not None:
            headers["dpop"] = key.proof("POST", f"{await self.broker_issuer()}/token")
        form = {
            "grant_type": GRANT_TYPE,
            "audience": audience,
            "subject_token": subject_token,
            "subject_token_type": subject_type,
            **more,
        }
        async with _client(self.identity) as client:
            started = time.perf_counter()
            response = await client.post(f"{self.places.broker}/token", data=form, headers=headers)
            latency = (time.perf_counter() - started) * 1000
        return _token(response, latency)

    async def delegate(self, audience: str, own_token: str, to: "AgentTask") -> Token:
        """Hand on what this task may do to a task of another agent."""
        actor_token = await to.jwt_svid(await self.broker_issuer())
        return await self.exchange(
            audience, own_token, subject_type=ACCESS_TOKEN, actor_token=actor_token, actor_token_type=JWT
        )

    async def jwt_svid(self, audience: str) -> str:
        """Fetch a JWT-SVID of this task from its own socket."""
        return await self.identity.jwt_svid(audience)

    async def broker_issuer(self) -> str:
        """Ask the broker for its issuer name."""
        async with _client(self.identity) as client:
            response = await client.get(f"{self.places.broker}/.well-known/oauth-authorization-server")
        response.raise_for_status()
        return str(response.json()["issuer"])

    async def call(
        self,
        service: str,
        tool: str,
        arguments: dict[str, Any],
        bearer: str,
        mode: ConnectMode = MODERN,
        *,
        key: ProofKey | None = None,
    ) -> Answer:
        """Call a tool with the official MCP client; `auto` asks the server first what it speaks."""
        url = f"{self.places.gateway}/{service}/mcp"
        return await call_tool(self.identity, url, Call(tool, arguments, mode), bearer, key)

    async def post(self, service: str, body: bytes, bearer: str) -> Answer:
        """Post raw bytes to an MCP server, as no honest client would."""
        headers = {
            "authorization": f"Bearer {bearer}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
        }
        async with _client(self.identity) as client:
            started = time.perf_counter()
            response = await client.post(
                f"{self.places.gateway}/{service}/mcp", content=body, headers=headers
            )
            return _answer(response, (time.perf_counter() - started) * 1000)


@dataclass(frozen=True, slots=True)
class Runner:
    """A mesh workload that may host agents; `opened` are the identities that it opened for them."""

    identity: Identity
    places: Places
    opened: list[Identity] = field(default_factory=list, repr=False)

    async def start(self, agent: str, human: str = "", subject_token: str = "") -> AgentTask:
        """Start a task of an agent, for a human or for nobody; it gets a Workload API of its own."""
        request = task_pb2.StartTaskRequest(agent=agent, id_token=subject_token)
        started = await self._call("StartTask", request, task_pb2.StartTaskResponse)
        identity = await Identity.open(started.identity.endpoint_socket)
        self.opened.append(identity)
        return AgentTask(agent, human, started.task, identity, self.places, self)

    async def end(self, task: AgentTask) -> None:
        """End a task: its identity and all that came of it count no more."""
        await self._call("EndTask", task_pb2.EndTaskRequest(task=task.id), task_pb2.EndTaskResponse)
        self.opened.remove(task.identity)
        task.identity.close()

    async def _call(self, method: str, request: Message, answer: type[AnswerT]) -> AnswerT:
        async with grpc.aio.insecure_channel(self.identity.socket) as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[Message, AnswerT] = channel.unary_unary(
                f"{TASK_SERVICE}/{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=answer.FromString,
            )
            return await call(request, timeout=TIMEOUT)

    def close(self) -> None:
        """Let go of all sockets."""
        for identity in (*self.opened, self.identity):
            identity.close()


async def call_tool(
    identity: Identity, url: str, call: Call, bearer: str, key: ProofKey | None = None
) -> Answer:
    """Call a tool with the official MCP client, and report the last answer that it was given."""
    seen: list[httpx2.Response] = []

    async def keep(response: httpx2.Response) -> None:
        seen.append(response)

    text, failed = "", True
    started = time.perf_counter()
    async with _client(identity, bearer, key) as http:
        http.event_hooks["response"].append(keep)
        try:
            async with Client(streamable_http_client(url, http_client=http), mode=call.mode) as client:
                started = time.perf_counter()
                result = await client.call_tool(call.tool, call.arguments)
                text = " ".join(getattr(part, "text", "") for part in result.content)
                failed = bool(result.is_error)
        except* MCPError as errors:
            text = "; ".join(str(error) for error in _leaves(errors))
    if not seen:
        raise RuntimeError(f"no answer from {url!r}")
    # The SDK asks for more than the call; where it got that far, the call's own answer counts.
    calls = [response for response in seen if b'"tools/call"' in response.request.content]
    answer = _answer((calls or seen)[-1], (time.perf_counter() - started) * 1000)
    return replace(answer, text=text, failed=failed)


def tampered(token: str) -> str:
    """Change one bit of a token's signature."""
    head, _, signature = token.rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
    raw[10] ^= 1
    return f"{head}.{base64.urlsafe_b64encode(raw).rstrip(b'=').decode()}"


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found


def _client(identity: Identity, bearer: str = "", key: ProofKey | None = None) -> httpx2.AsyncClient:
    headers = {"authorization": f"Bearer {bearer}"} if bearer and key is None else {}
    auth = None if key is None else ProofAuth(key, bearer)
    return httpx2.AsyncClient(
        verify=identity.tls(), headers=headers, auth=auth, timeout=TIMEOUT, trust_env=False
    )


def _answer(response: httpx2.Response, latency_ms: float) -> Answer:
    reason = response.headers.get(REASON_HEADER, "")
    text = "" if response.is_stream_consumed is False else response.text[:200]
    return Answer(response.status_code, response.headers.get(DECISION_HEADER, ""), reason, text, latency_ms)


def _token(response: httpx2.Response, latency_ms: float) -> Token:
    body = response.json()
    answer = Answer(
        response.status_code,
        body.get("decision_id", ""),
        body.get("deputy_code", ""),
        body.get("error_description", ""),
        latency_ms,
    )
    return Token(body.get("access_token", ""), answer)
