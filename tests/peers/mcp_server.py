"""A server of the official Python SDK, for `mcp` 1.x and 2.x: sessions, and answers as streams of events.

`python mcp_server.py <port>`; what it offers is the same in both.
"""

# mypy: ignore-errors
# Its packages are in .cache/peers, where mypy does not look.

import asyncio
import sys
from importlib.metadata import version
from typing import Any

IS_OLD = version("mcp").startswith("1.")

if IS_OLD:
    from mcp.server.fastmcp import Context, FastMCP
    from mcp.types import Completion, ToolAnnotations
else:
    from mcp.server.mcpserver import Context, MCPServer
    from mcp_types import Completion, ToolAnnotations

PORT = int(sys.argv[1])
server: Any = FastMCP("papers", port=PORT, log_level="ERROR") if IS_OLD else MCPServer("papers")


@server.tool(annotations=ToolAnnotations(title="Say it again", readOnlyHint=True))
def echo(message: str) -> str:
    """Say it again."""
    return f"Echo: {message}"


@server.tool()
def count(words: list[str]) -> dict[str, int]:
    """Count words; the answer is structured."""
    return {word: words.count(word) for word in words}


@server.tool()
async def print_pages(pages: int, context: Context) -> str:
    """Print, and tell how far it is."""
    for page in range(pages):
        await asyncio.sleep(0.05)
        await context.report_progress(page + 1, pages)
    return f"{pages} printed"


@server.tool()
def tear_up() -> str:
    """Do what nobody may."""
    return "gone"


@server.tool()
def fail() -> str:
    """Fail, as tools do."""
    raise ValueError("no paper")


@server.resource("papers://today")
def today() -> str:
    """The paper of today."""
    return "news"


@server.resource("papers://archive/{year}")
def archive(year: str) -> str:
    """The papers of a year."""
    return f"old news of {year}"


@server.prompt()
def summary(topic: str) -> str:
    """Ask for a summary."""
    return f"Sum up {topic}, please."


@server.completion()
async def complete(ref: Any, argument: Any, _context: Any) -> Completion:
    """Complete a topic."""
    topics = ["politics", "police", "sports"]
    return Completion(values=[topic for topic in topics if topic.startswith(argument.value)], hasMore=False)


if IS_OLD:
    server.run(transport="streamable-http")
else:
    asyncio.run(server.run_streamable_http_async(port=PORT))
