"""An agent of the official A2A SDK, over JSON-RPC and HTTP+JSON on one port, or over gRPC.

`a2a_agent.py http|grpc <port>`. It greets who sends a text; to `wait` it says that it works,
and works until it is cancelled.
"""

# mypy: ignore-errors
# Its packages are in .cache/peers, where mypy does not look.

import asyncio
import sys
from typing import Any

import grpc
import uvicorn
from a2a.helpers.proto_helpers import (
    new_task_from_user_message,
    new_text_part,
)
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import (
    DefaultRequestHandler,
    GrpcHandler,
)
from a2a.server.routes.agent_card_routes import (
    create_agent_card_routes,
)
from a2a.server.routes.jsonrpc_routes import create_jsonrpc_routes
from a2a.server.routes.rest_routes import create_rest_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import a2a_pb2_grpc
from a2a.types.a2a_pb2 import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
)
from starlette.applications import Starlette

KIND, PORT = sys.argv[1], int(sys.argv[2])


class Greeter(AgentExecutor):
    """Greets, or works until it is told to stop."""

    async def execute(self, context: Any, event_queue: Any) -> None:
        """Do what the message asks for."""
        task = context.current_task or new_task_from_user_message(context.message)
        await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        await updater.start_work()
        text = context.get_user_input()
        if text == "wait":
            await asyncio.Event().wait()
        await updater.add_artifact([new_text_part(f"Hello, {text}")], name="greeting")
        await updater.complete()

    async def cancel(self, context: Any, event_queue: Any) -> None:
        """Say that the work is over."""
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


def card() -> Any:
    """Say what the agent is; who is asked for it at another place goes on there."""
    url = f"http://127.0.0.1:{PORT}"
    bindings = ("GRPC",) if KIND == "grpc" else ("JSONRPC", "HTTP+JSON")
    skill = AgentSkill(id="greet", name="Greet", description="Greets.", tags=["hello"])
    return AgentCard(
        name="greeter",
        description="Greets who sends a text.",
        version="1",
        supported_interfaces=[
            AgentInterface(url=url, protocol_binding=binding, protocol_version="1.0") for binding in bindings
        ],
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[skill],
    )


async def serve_grpc(handler: Any) -> None:
    """Serve until the process ends."""
    server = grpc.aio.server()
    a2a_pb2_grpc.add_A2AServiceServicer_to_server(GrpcHandler(handler), server)
    server.add_insecure_port(f"127.0.0.1:{PORT}")
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    """Serve the agent."""
    made = card()
    handler = DefaultRequestHandler(Greeter(), InMemoryTaskStore(), made)
    if KIND == "grpc":
        asyncio.run(serve_grpc(handler))
        return
    routes = [
        *create_agent_card_routes(made),
        *create_jsonrpc_routes(handler, "/"),
        *create_rest_routes(handler),
    ]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=PORT, log_level="warning")


main()
