"""Other people's clients, as programs that take one step after the other and say what their SDK gives.

What differs from run to run is left out of a result: times, and the names that servers and clients make up,
which are numbered in their order.
"""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.conftest import ROOT
from tests.e2e.real_world import PACKAGES, PYTHON, Command, RealWorld, javascript, peers
from tests.e2e.services import environment

Step = dict[str, Any]
Result = dict[str, Any]

_TIMES: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z|\b[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\s?[AP]M)?\b"
)
_IDS: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Client:
    """One client: its command, and what else it is told."""

    name: str
    program: str
    options: Mapping[str, str] = field(default_factory=dict)

    def command(self) -> Command:
        program = ROOT / "tests" / self.program
        if program.suffix == ".cjs":
            return javascript(program)
        return [PYTHON, program] if "mcp2" in program.name else peers(program)

    def walk(self, access: Mapping[str, Any], steps: Sequence[Any]) -> list[Result]:
        """Take the steps in one session; return what came of its begin and of each of them."""
        done = subprocess.run(
            self.command(),
            input=json.dumps({**self.options, **access, "steps": list(steps)}),
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
            env=environment(NODE_PATH=str(PACKAGES)),
        )
        # A client that was thrown out of its session says nothing.
        assert done.returncode == 0, done.stderr[-3000:]
        results: list[Result] = json.loads(_comparable(done.stdout))
        assert len(results) == 1 + len(steps)
        return results

    def both_ways(self, world: RealWorld, service: str, steps: Sequence[Any]) -> tuple[list[Result], ...]:
        """Take the steps without Deputy, and with it."""
        return (self.walk(world.plain(service), steps), self.walk(world.access(service), steps))


def _comparable(text: str) -> str:
    known: dict[str, str] = {}
    text = _TIMES.sub("<time>", text)
    return _IDS.sub(lambda found: known.setdefault(found[0], f"<id {len(known)}>"), text)


PYTHON_CLIENTS: Final = (
    Client("mcp1", "peers/mcp1_client.py"),
    Client("mcp2-legacy", "peers/mcp2_client.py", {"mode": "legacy"}),
    Client("mcp2-auto", "peers/mcp2_client.py", {"mode": "auto"}),
)
TYPESCRIPT: Final = Client("typescript", "node/client.cjs")

_LISTS: Final = tuple(
    {"do": "list", "what": what} for what in ("tools", "resources", "resource_templates", "prompts")
)


def call(name: str, **arguments: Any) -> Step:
    return {"do": "call", "name": name, "arguments": arguments}


# What there is to do at each server, and what must be among the answers: equal ones could be empty ones.
PAPERS: Final = (
    *_LISTS,
    call("echo", message="hi ☃"),
    call("count", words=["a", "b", "a"]),
    call("print_pages", pages=3),
    call("fail"),
    {"do": "read", "uri": "papers://today"},
    {"do": "read", "uri": "papers://archive/1999"},
    {"do": "prompt", "name": "summary", "arguments": {"topic": "sports"}},
    {"do": "complete", "name": "summary", "argument": {"name": "topic", "value": "pol"}},
)
IN_PAPERS: Final = (
    "Echo: hi ☃",
    {"a": 2, "b": 1},
    [[1, 3], [2, 3], [3, 3]],
    "old news of 1999",
    ["politics", "police"],
)
EVERYTHING_STEPS: Final = (
    *_LISTS,
    call("echo", message="hi ☃"),
    call("get-sum", a=1.5, b=2),
    call("trigger-long-running-operation", duration=0.4, steps=4),
    call("get-annotated-message", messageType="success", includeImage=True),
    call("get-structured-content", location="Chicago"),
    call("get-resource-reference", resourceType="Text", resourceId=1),
    call("trigger-elicitation-request"),
    call("trigger-sampling-request", prompt="what?"),
    call("get-roots-list"),
    {"do": "read", "uri": "demo://resource/dynamic/text/1"},
    {"do": "prompt", "name": "args-prompt", "arguments": {"city": "Turin"}},
    {"do": "complete", "name": "completable-prompt", "argument": {"name": "department", "value": "S"}},
    {"do": "ping"},
)
IN_EVERYTHING: Final = (
    "Echo: hi ☃",
    "The sum of 1.5 and 2 is 3.5.",
    [[1, 4], [2, 4], [3, 4], [4, 4]],
    {"priority": 0.7, "audience": ["user"]},
    {"temperature": 36, "conditions": "Light rain / drizzle", "humidity": 82},
    ["Sales", "Support"],
)
# Its stream is closed under the client, which comes back for the answer with the last event that it saw.
RECONNECTING: Final = (call("test_reconnection"), call("test_tool_with_progress"), {"do": "ping"})
IN_RECONNECTING: Final = ("Reconnection test completed successfully", [[0, 100], [50, 100], [100, 100]])


def values(found: Any) -> list[Any]:
    """Return every value in it, however deep, and itself."""
    inner = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
    return [found, *(value for each in inner for value in values(each))]


def denied(service: str, tool: str, typescript: bool) -> Result:
    """What each client makes of a tool that is not listed: code, sentence, reason, fix and decision."""
    sentence = f"the tool {tool} is not listed for {service}"
    return {
        "code": 403,
        "message": f"MCP error 403: {sentence}" if typescript else sentence,
        "data": {"reason": "DPT-TOOL-UNKNOWN", "fix": "an operator lists it with its class in grants.yaml"},
    }
