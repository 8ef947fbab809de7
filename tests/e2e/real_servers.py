"""The MCP servers of other people that the tests run, and the grants that allow all of what they offer."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from tests.conftest import ROOT
from tests.e2e.real_world import PACKAGES, PYTHON, Server, javascript, peers

_METHODS: Final = (
    "completion/complete",
    "prompts/get",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
)


def _grants(*tools: str, more: Iterable[str] = ()) -> dict[str, Any]:
    return {
        "tools": {tool: {"class": "read"} for tool in tools},
        "methods": dict.fromkeys((*_METHODS, *more), "read"),
    }


_EVERYTHING_TOOLS: Final = (
    "echo",
    "get-annotated-message",
    "get-resource-links",
    "get-resource-reference",
    "get-roots-list",
    "get-structured-content",
    "get-sum",
    "get-tiny-image",
    "gzip-file-as-resource",
    "simulate-research-query",
    "toggle-simulated-logging",
    "toggle-subscriber-updates",
    "trigger-elicitation-request",
    "trigger-elicitation-request-async",
    "trigger-long-running-operation",
    "trigger-sampling-request",
    "trigger-sampling-request-async",
    "trigger-url-elicitation",
)
# What the scenarios of the conformance suite call.
SCENARIO_TOOLS: Final = (
    "json_schema_2020_12_tool",
    "test_audio_content",
    "test_elicitation",
    "test_elicitation_sep1034_defaults",
    "test_elicitation_sep1330_enums",
    "test_embedded_resource",
    "test_error_handling",
    "test_image_content",
    "test_multiple_content_types",
    "test_reconnection",
    "test_sampling",
    "test_simple_text",
    "test_tool_with_logging",
    "test_tool_with_progress",
)
_TASKS: Final = ("tasks/get", "tasks/result", "tasks/cancel")
# Its tool `get-env` tells the environment of the server, so nobody may call it.
EVERYTHING_DENIED: Final = "get-env"
EVERYTHING: Final = Server(
    "everything",
    lambda _: javascript(
        PACKAGES / "@modelcontextprotocol/server-everything/dist/index.js", "streamableHttp"
    ),
    _grants(*_EVERYTHING_TOOLS, more=_TASKS),
)
# The suite calls tools that it does not have, and what is not listed is denied before the server can say so.
ASKED_EVERYTHING: Final = replace(
    EVERYTHING,
    name="asked",
    grants=_grants(EVERYTHING_DENIED, *_EVERYTHING_TOOLS, *SCENARIO_TOOLS, more=_TASKS),
)
CONFORMING: Final = Server(
    "conforming",
    lambda port: javascript(ROOT / "tests/node/conforming.cjs", str(port)),
    _grants(*SCENARIO_TOOLS),
)
# The same with answers that come back as they are, as it is where the configuration says nothing.
UNGUARDED: Final = replace(CONFORMING, name="unguarded", is_guarded=False)
# The same with a tool that nobody may call: a difference that the comparison has to find.
NARROWED: Final = replace(
    CONFORMING, name="narrowed", grants=_grants(*(tool for tool in SCENARIO_TOOLS if "simple" not in tool))
)

# Its tool `tear_up` is what nobody may call.
_PAPERS: Final = _grants("count", "echo", "fail", "print_pages")
PYTHON_1: Final = Server(
    "python-1", lambda port: peers(ROOT / "tests/peers/mcp_server.py", str(port)), _PAPERS
)
PYTHON_2: Final = Server(
    "python-2", lambda port: [PYTHON, ROOT / "tests/peers/mcp_server.py", str(port)], _PAPERS
)

# `ListTasks` and `SubscribeToTask` are what nobody may do.
_AGENT: Final = {
    "a2a": dict.fromkeys(("SendMessage", "SendStreamingMessage", "GetTask", "CancelTask"), "write")
}
AGENT: Final = Server(
    "agent", lambda port: peers(ROOT / "tests/peers/a2a_agent.py", "http", str(port)), _AGENT, "a2a"
)
GRPC_AGENT: Final = Server(
    "grpc-agent",
    lambda port: peers(ROOT / "tests/peers/a2a_agent.py", "grpc", str(port)),
    _AGENT,
    "a2a",
    is_grpc=True,
)

# What the scenarios of the coming suite call besides; some the server does not have, and it says so itself.
_MODERN_TOOLS: Final = (
    *(tool for tool in SCENARIO_TOOLS if "sep1" not in tool),
    "confirm_delete",
    "failing_job",
    "greet",
    "multi_input",
    "protocol_error_job",
    "slow_compute",
    "test_header_routing",
    "test_input_required_result_capabilities",
    "test_input_required_result_elicitation",
    "test_input_required_result_list_roots",
    "test_input_required_result_multi_round",
    "test_input_required_result_multiple_inputs",
    "test_input_required_result_request_state",
    "test_input_required_result_sampling",
    "test_input_required_result_tampered_state",
    "test_logging_tool",
    "test_missing_capability",
    "test_streaming_elicitation",
    "test_tool_with_task",
)
MODERN_SERVER: Final = Server(
    "modern",
    lambda port: [PYTHON, ROOT / "tests/peers/conforming.py", str(port)],
    _grants(*_MODERN_TOOLS, more=(*_TASKS, "tasks/update", "subscriptions/listen")),
)
