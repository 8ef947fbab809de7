"""A client of the Python SDK `mcp` 1.x, which the tests run in .cache/peers: one step after the other."""

# mypy: ignore-errors
# Its packages are in .cache/peers, where mypy does not look.

import asyncio
from typing import Any

import httpx
from mcp import ClientSession, McpError, types
from mcp.client.streamable_http import streamable_http_client
from session import ELICITED, ROOT, SAMPLED, dump, headers, say, tls, told


async def _elicit(_context: Any, _params: Any) -> Any:
    return types.ElicitResult(action="accept", content=ELICITED)


async def _sample(_context: Any, _params: Any) -> Any:
    text = types.TextContent(type="text", text=SAMPLED)
    return types.CreateMessageResult(role="assistant", content=text, model="none")


async def _roots(_context: Any) -> Any:
    return types.ListRootsResult(roots=[types.Root(uri=ROOT)])


async def take(session: Any, step: dict[str, Any]) -> Any:
    """Take one step."""
    match step["do"]:
        case "list":
            return await getattr(session, f"list_{step['what']}")()
        case "call":
            told_so_far: list[Any] = []

            async def progress(done: float, total: float | None, _message: str | None) -> None:
                told_so_far.append([done, total])

            found = await session.call_tool(step["name"], step["arguments"], progress_callback=progress)
            return {"result": dump(found), "progress": told_so_far}
        case "read":
            return await session.read_resource(step["uri"])
        case "prompt":
            return await session.get_prompt(step["name"], step["arguments"])
        case "complete":
            ref = types.PromptReference(type="ref/prompt", name=step["name"])
            return await session.complete(ref, step["argument"])
        case "ping":
            return await session.send_ping()


async def attempt(session: Any, step: dict[str, Any]) -> dict[str, Any]:
    """Take one step, and say what the caller of the SDK gets."""
    try:
        found = await take(session, step)
    except McpError as error:
        return {"error": dump(error.error)}
    return {"ok": found if isinstance(found, dict) else dump(found)}


async def main() -> None:
    """Do what is told, in one session."""
    access = told()
    client = httpx.AsyncClient(
        verify=tls(access.get("tls")), headers=headers(access), timeout=60, trust_env=False
    )
    async with (
        client,
        streamable_http_client(f"{access['url']}/mcp", http_client=client) as (read, write, _),
        ClientSession(
            read, write, elicitation_callback=_elicit, sampling_callback=_sample, list_roots_callback=_roots
        ) as session,
    ):
        results = [{"ok": dump(await session.initialize())}]
        for step in access["steps"]:
            results.append(await attempt(session, step))  # noqa: PERF401  # one after the other
    say(results)


asyncio.run(main())
