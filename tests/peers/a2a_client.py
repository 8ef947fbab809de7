"""A client of the official A2A SDK: one step after the other, over the binding that it is told."""

# mypy: ignore-errors
# Its packages are in .cache/peers, where mypy does not look.

import asyncio
from pathlib import Path
from typing import Any

import grpc
import httpx
from a2a.client import (
    A2ACardResolver,
    ClientConfig,
    ClientFactory,
    minimal_agent_card,
)
from a2a.helpers.proto_helpers import new_text_message
from a2a.types.a2a_pb2 import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    Role,
    SendMessageRequest,
    SubscribeToTaskRequest,
    TaskState,
)
from a2a.utils.errors import A2AError
from google.protobuf.json_format import MessageToDict
from session import headers, say, tls, told

Results = list[dict[str, Any]]


def message(text: str) -> Any:
    """Return a request that sends a text."""
    return SendMessageRequest(message=new_text_message(text, role=Role.ROLE_USER))


class Walk:
    """What one client does after the other; `blocking` streams nothing."""

    def __init__(self, blocking: Any, streaming: Any) -> None:
        self.blocking, self.streaming, self.task = blocking, streaming, ""

    async def send(self) -> Any:
        """Send a text, and wait for the answer."""
        (answer,) = [found async for found in self.blocking.send_message(message("Ada"))]
        self.task = answer.task.id
        return MessageToDict(answer)

    async def stream(self) -> Any:
        """Send a text, and take what comes as it comes."""
        return [MessageToDict(found) async for found in self.streaming.send_message(message("Grace"))]

    async def get(self) -> Any:
        """Ask for the task of the first message."""
        return MessageToDict(await self.blocking.get_task(GetTaskRequest(id=self.task, history_length=5)))

    async def cancel(self) -> Any:
        """Cancel what runs, from beside its stream, and see the stream end."""
        seen, cancelled = [], None
        async for event in self.streaming.send_message(message("wait")):
            seen.append(event.WhichOneof("payload"))
            if event.status_update.status.state == TaskState.TASK_STATE_WORKING:
                request = CancelTaskRequest(id=event.status_update.task_id)
                cancelled = MessageToDict(await self.blocking.cancel_task(request))
        return {"events": seen, "cancelled": cancelled}

    async def list(self) -> Any:
        """Ask for all tasks."""
        return MessageToDict(await self.blocking.list_tasks(ListTasksRequest()))

    async def subscribe(self) -> Any:
        """Ask for the stream of a task."""
        request = SubscribeToTaskRequest(id=self.task)
        return [MessageToDict(found) async for found in self.streaming.subscribe(request)]


async def attempt(walk: Walk, step: str) -> dict[str, Any]:
    """Take one step, and say what the caller of the SDK gets."""
    try:
        return {"ok": await getattr(walk, step)()}
    except A2AError as error:
        found = {"type": type(error).__name__, "message": str(error), "data": error.data}
        if isinstance(error.__cause__, httpx.HTTPStatusError):
            found["answer"] = error.__cause__.response.json()
        return {"error": found}


def channel(access: dict[str, Any]) -> Any:
    """Return a gRPC channel with what shows who calls, where that is asked."""
    address = access["grpc"]
    if "tls" not in access:
        return grpc.aio.insecure_channel(address)
    ca, cert, key = (Path(access["tls"][name]).read_bytes() for name in ("ca", "cert", "key"))

    def authorize(_: object, done: Any) -> None:
        done((("authorization", f"Bearer {access['token']}"),), None)

    credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(ca, key, cert),
        grpc.metadata_call_credentials(authorize),
    )
    options = [
        ("grpc.default_authority", access["host"]),
        ("grpc.ssl_target_name_override", "localhost"),
    ]
    return grpc.aio.secure_channel(address, credentials, options=options)


async def find_card(access: dict[str, Any], http: Any) -> Any:
    """Ask for the card of an agent; its interfaces are where it was asked for."""
    if access["binding"] == "GRPC":
        card = minimal_agent_card(access["grpc"], ["GRPC"])
        card.capabilities.streaming = True
        return card
    card = await A2ACardResolver(http, access["url"]).get_agent_card()
    for interface in card.supported_interfaces:
        # Envoy leads `/<service>/` to the agent, and nothing without the slash.
        interface.url = access["url"] + ("/" if interface.protocol_binding == "JSONRPC" else "")
    return card


async def main() -> None:
    """Do what is told."""
    access = told()
    http = httpx.AsyncClient(
        verify=tls(access.get("tls")), headers=headers(access), timeout=60, trust_env=False
    )
    async with http:
        card = await find_card(access, http)
        made = [
            ClientFactory(
                ClientConfig(
                    streaming=streaming,
                    httpx_client=http,
                    grpc_channel_factory=lambda _: channel(access),
                    supported_protocol_bindings=[access["binding"]],
                )
            ).create(card)
            for streaming in (False, True)
        ]
        walk = Walk(*made)
        results: Results = [{"ok": [skill.name for skill in card.skills]}]
        for step in access["steps"]:
            results.append(await attempt(walk, step))  # one after the other
        for client in made:
            await client.close()
    say(results)


asyncio.run(main())
