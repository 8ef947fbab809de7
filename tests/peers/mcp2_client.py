"""A client of the Python SDK `mcp` 2.x: one step after the other, in the mode that it is told."""

# mypy: ignore-errors
# As its twin mcp1_client.py, whose SDK mypy cannot see.

import asyncio
from typing import Any

import httpx2
import mcp_types as types
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from session import ELICITED, ROOT, SAMPLED, dump, headers, say, tls, told


async def _elicit(_context: Any, _params: Any) -> Any:
    return types.ElicitResult(action="accept", content=ELICITED)


async def _sample(_context: Any, _params: Any) -> Any:
    text = types.TextContent(type="text", text=SAMPLED)
    return types.CreateMessageResult(role="assistant", content=text, model="none")


async def _roots(_context: Any) -> Any:
    return types.ListRootsResult(roots=[types.Root(uri=ROOT)])


async def take(client: Client, step: dict[str, Any]) -> Any:
    """Take one step."""
    match step["do"]:
        case "list":
            return await getattr(client, f"list_{step['what']}")()
        case "call":
            told_so_far: list[Any] = []

            async def progress(done: float, total: float | None, _message: str | None) -> None:
                told_so_far.append([done, total])

            found = await client.call_tool(step["name"], step["arguments"], progress_callback=progress)
            return {"result": dump(found), "progress": told_so_far}
        case "read":
            return await client.read_resource(step["uri"])
        case "prompt":
            return await client.get_prompt(step["name"], step["arguments"])
        case "complete":
            ref = types.PromptReference(type="ref/prompt", name=step["name"])
            return await client.complete(ref, step["argument"])
        case "ping":
            return await client.send_ping()


async def attempt(client: Client, step: dict[str, Any]) -> dict[str, Any]:
    """Take one step, and say what the caller of the SDK gets."""
    try:
        found = await take(client, step)
    except MCPError as error:
        return {"error": {"code": error.code, "message": error.message, "data": error.data}}
    return {"ok": found if isinstance(found, dict) else dump(found)}


async def main() -> None:
    """Do what is told, in one session."""
    access = told()
    http = httpx2.AsyncClient(
        verify=tls(access.get("tls")), headers=headers(access), timeout=60, trust_env=False
    )
    transport = streamable_http_client(f"{access['url']}/mcp", http_client=http)
    client = Client(
        transport,
        mode=access.get("mode", "auto"),
        elicitation_callback=_elicit,
        sampling_callback=_sample,
        list_roots_callback=_roots,
    )
    async with http, client:
        first = {
            "protocolVersion": client.protocol_version,
            "serverInfo": dump(client.server_info),
            "capabilities": dump(client.server_capabilities),
        }
        results = [{"ok": first}]
        for step in access["steps"]:
            results.append(await attempt(client, step))  # noqa: PERF401  # one after the other
    say(results)


asyncio.run(main())
