"""The server that the coming conformance suite asks for in the era of 2026-07-28, with the SDK `mcp` 2.x.

`python conforming.py <port>`. Its tools are those that the texts of the scenarios describe.
"""

# mypy: ignore-errors
# The schema of each tool is made of its annotations, and many are no types of mypy's.

import asyncio
import sys
from typing import Annotated, Any

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import (
    AudioContent,
    CallToolResult,
    Completion,
    ContentBlock,
    CreateMessageRequest,
    ElicitRequest,
    EmbeddedResource,
    GetPromptResult,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    PromptMessage,
    TextContent,
    TextResourceContents,
)
from pydantic import Field

PORT = int(sys.argv[1])
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
IMAGE = ImageContent(type="image", data=PNG, mimeType="image/png")
Outcome = CallToolResult | InputRequiredResult

server = MCPServer("conforming", version="0", log_level="ERROR")


def text(value: str) -> TextContent:
    """Return a block of text."""
    return TextContent(type="text", text=value)


def said(value: str) -> CallToolResult:
    """Return a result of text."""
    return CallToolResult(content=[text(value)])


def embedded(uri: str, value: str) -> EmbeddedResource:
    """Return a resource within a result."""
    return EmbeddedResource(
        type="resource", resource=TextResourceContents(uri=uri, mimeType="text/plain", text=value)
    )


# ---- tools that answer at once


@server.tool()
def test_simple_text() -> str:
    """Return a text."""
    return "This is a simple text response for testing."


@server.tool()
def test_image_content() -> ImageContent:
    """Return an image."""
    return IMAGE


@server.tool()
def test_audio_content() -> AudioContent:
    """Return a sound."""
    return AudioContent(type="audio", data=WAV, mimeType="audio/wav")


@server.tool()
def test_embedded_resource() -> EmbeddedResource:
    """Return a resource."""
    return embedded("test://embedded-resource", "This is an embedded resource content.")


@server.tool()
def test_multiple_content_types() -> list[ContentBlock]:
    """Return one of each."""
    return [text("Multiple content types test:"), IMAGE, embedded("test://mixed", "mixed")]


@server.tool()
def test_error_handling() -> str:
    """Fail."""
    raise ValueError("This tool intentionally returns an error for testing")


@server.tool()
async def test_tool_with_progress(context: Context) -> str:
    """Tell how far it is."""
    for done in (0, 50, 100):
        await context.report_progress(done, 100)
        await asyncio.sleep(0.05)
    return "done"


@server.tool()
async def test_logging_tool(context: Context) -> str:
    """Log, where the client wants to hear it."""
    await context.info("it runs")
    return "logged"


@server.tool()
async def test_missing_capability(context: Context) -> Outcome:
    """Need a model of the client, which may have none."""
    return wanted({"question": sample("Who are you?")})


@server.tool()
def test_streaming_elicitation() -> Outcome:
    """Ask the person, and send nothing else."""
    return wanted({"user_name": ask("What is your name?", "name")})


@server.tool()
def test_header_routing(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})], query: str
) -> str:
    """Take an argument that a header repeats."""
    return f"{region} {query}"


# ---- tools that need something of the client first


def ask(message: str, name: str, kind: str = "string") -> ElicitRequest:
    """Return a question for the person."""
    schema = {"type": "object", "properties": {name: {"type": kind}}, "required": [name]}
    return ElicitRequest(params={"mode": "form", "message": message, "requestedSchema": schema})


def sample(message: str) -> CreateMessageRequest:
    """Return a question for the model."""
    messages = [{"role": "user", "content": {"type": "text", "text": message}}]
    return CreateMessageRequest(params={"messages": messages, "maxTokens": 100})


def answers(context: Context, *names: str) -> list[Any] | None:
    """Return the answers to the questions, if all of them are there."""
    given = context.input_responses or {}
    found = [given[name] for name in names if name in given]
    return found if len(found) == len(names) else None


def wanted(questions: dict[str, Any], state: str | None = None) -> InputRequiredResult:
    """Ask, and go on when the client calls again."""
    return InputRequiredResult(inputRequests=questions, requestState=state)


@server.tool()
def test_input_required_result_elicitation(context: Context) -> Outcome:
    """Ask the person."""
    found = answers(context, "user_name")
    content = getattr(found[0], "content", None) if found else None
    if not isinstance(content, dict) or "name" not in content:
        return wanted({"user_name": ask("What is your name?", "name")})
    return said(f"Hello, {content['name']}!")


@server.tool()
def test_input_required_result_sampling(context: Context) -> Outcome:
    """Ask the model."""
    found = answers(context, "capital_question")
    if found is None:
        return wanted({"capital_question": sample("What is the capital of France?")})
    return said(f"The model says {found[0].content.text}")


@server.tool()
def test_input_required_result_list_roots(context: Context) -> Outcome:
    """Ask for the roots."""
    found = answers(context, "client_roots")
    if found is None:
        return wanted({"client_roots": ListRootsRequest()})
    return said(" ".join(str(root.uri) for root in found[0].roots))


@server.tool()
def test_input_required_result_request_state(context: Context) -> Outcome:
    """Ask with a state, and see it again."""
    if answers(context, "confirm") is None or context.request_state != "asked":
        return wanted({"confirm": ask("Please confirm", "ok", "boolean")}, "asked")
    return said("state-ok")


@server.tool()
def test_input_required_result_tampered_state(context: Context) -> Outcome:
    """Ask with a state that nobody may change."""
    if context.request_state is None:
        return wanted({"confirm": ask("Please confirm", "ok", "boolean")}, "asked")
    return said("state-ok")


@server.tool()
def test_input_required_result_multiple_inputs(context: Context) -> Outcome:
    """Ask everybody at once."""
    if answers(context, "user_name", "greeting", "client_roots") is None:
        questions = {
            "user_name": ask("What is your name?", "name"),
            "greeting": sample("Generate a greeting"),
            "client_roots": ListRootsRequest(),
        }
        return wanted(questions, "asked")
    return said("all there")


@server.tool()
def test_input_required_result_multi_round(context: Context) -> Outcome:
    """Ask twice."""
    if answers(context, "step2") is not None:
        return said("both there")
    if answers(context, "step1") is not None:
        return wanted({"step2": ask("Step 2: What is your favorite color?", "color")}, "second")
    return wanted({"step1": ask("Step 1: What is your name?", "name")}, "first")


@server.tool()
def test_input_required_result_capabilities(context: Context) -> Outcome:
    """Ask for what the client can do."""
    can = context.client_capabilities
    questions: dict[str, Any] = {}
    if can is not None and can.sampling is not None:
        questions["greeting"] = sample("Generate a greeting")
    if can is not None and can.elicitation is not None:
        questions["user_name"] = ask("What is your name?", "name")
    return wanted(questions) if questions else said("nobody to ask")


# ---- prompts, resources, completion


@server.prompt()
def test_simple_prompt() -> str:
    """A prompt."""
    return "This is a simple prompt for testing."


@server.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """A prompt with two arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@server.prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list[Any]:  # noqa: N803  # the scenario's name
    """A prompt with a resource."""
    return [{"role": "user", "content": embedded(resourceUri, "Embedded resource content for testing.")}]


@server.prompt()
def test_prompt_with_image() -> list[Any]:
    """A prompt with an image."""
    return [{"role": "user", "content": IMAGE}]


@server.prompt()
def test_input_required_result_prompt(context: Context) -> GetPromptResult | InputRequiredResult:
    """A prompt that needs something of the person first."""
    if answers(context, "user_context") is None:
        return wanted({"user_context": ask("What context should the prompt use?", "context")})
    return GetPromptResult(messages=[PromptMessage(role="user", content=text("with context"))])


@server.resource("test://static-text", mime_type="text/plain")
def static_text() -> str:
    """A text."""
    return "This is the content of the static text resource."


@server.resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """An image."""
    return PNG.encode()


@server.resource("test://template/{id}/data", mime_type="application/json")
def template(id: str) -> str:  # noqa: A002  # the scenario's name
    """A text for each name."""
    return f'{{"id": "{id}", "templateTest": true}}'


@server.completion()
async def complete(_ref: Any, _argument: Any, _context: Any) -> Completion:
    """Complete what begins."""
    return Completion(values=["paris", "park"], total=2, has_more=False)


asyncio.run(server.run_streamable_http_async(port=PORT))
