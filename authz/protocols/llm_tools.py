"""The tools that a request offers to a model: their names, and of what type they are.

- A type tells who runs a tool: `function` and `custom` are run by the caller, the others by the provider, on
  its own machines and with its own network (`web_search`, `code_interpreter`, `mcp`, …). Dates of a type's
  revision are taken off: `web_search_20250305` is `web_search`.
- A type that we do not know is refused: it may hold further tools, or another model.
- Tools that stand elsewhere count as well: in a namespace, among the input, as an option, as MCP servers, as
  skills of a machine that the provider runs.
- A tool has one name and no model of its own: gateways differ in where they look for a name, and the model
  that a policy allowed is the one that the request names.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from authz.errors import InspectionError
from authz.protocols.members import MemberNames
from authz.protocols.reader_codes import LLM

MAX_TOOLS = 512
MAX_URL_CHARS = 2048

FUNCTION: Final = "function"
CUSTOM: Final = "custom"
WEB_SEARCH: Final = "web_search"
MCP: Final = "mcp"
NAMESPACE: Final = "namespace"
SKILLS: Final = "skills"

# By API, since one word means two things: only Anthropic's have dates, and only it has tools without a type.
TYPES: Final[Mapping[str, frozenset[str]]] = {
    "chat.completions": frozenset({FUNCTION, CUSTOM}),
    "responses": frozenset(
        {
            FUNCTION,
            CUSTOM,
            NAMESPACE,
            MCP,
            WEB_SEARCH,
            "apply_patch",
            "code_interpreter",
            "computer",
            "computer_use_preview",
            "file_search",
            "image_generation",
            "local_shell",
            "programmatic_tool_calling",
            "shell",
            "tool_search",
            "web_search_preview",
        }
    ),
    "messages": frozenset(
        {
            CUSTOM,
            WEB_SEARCH,
            "bash",
            "code_execution",
            "computer",
            "mcp_toolset",
            "memory",
            "text_editor",
            "tool_search_tool_bm25",
            "tool_search_tool_regex",
            "web_fetch",
        }
    ),
}

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_URL = re.compile(rf"https?://[!-~]{{1,{MAX_URL_CHARS}}}")
_DATE = re.compile(r"_(?:20[0-9]{6}|20[0-9]{2}_[0-9]{2}_[0-9]{2})\Z")
_TOOL = MemberNames.of("type", "name", "function", "custom", "tools", "server_url", "connector_id", "model")
_SERVER = MemberNames.of("type", "url", "name", "authorization_token", "tool_configuration")
_CONTAINER = MemberNames.of("skills")
_MACHINES = ("container", "environment")
# What one tool has in one place only, according to its API and its type.
_INNER = frozenset({FUNCTION, CUSTOM, "tools"})
_ITEM = MemberNames.of("type", "tools")
# Items of an input that bring tools along, and the one that only repeats what a server was asked for.
_BRINGING = frozenset({"additional_tools", "tool_search_output"})
_REPEATING = "mcp_list_tools"


@dataclass(slots=True)
class Tools:
    """What is offered so far."""

    api: str
    names: list[str] = field(default_factory=list)
    types: set[str] = field(default_factory=set)
    servers: list[str] = field(default_factory=list)

    def read(self, body: Mapping[str, object], content: str) -> None:
        """Read every place of a body where tools stand.

        Raises:
            InspectionError: with LLM_BODY or JSON_LOOKALIKE_KEY.
        """
        for tool in _objects(body.get("tools"), "tools"):
            self._add(tool)
        for function in _objects(body.get("functions"), "functions"):
            self._add_named(FUNCTION, function)
        if body.get("web_search_options") is not None:
            self.types.add(WEB_SEARCH)
        for server in _objects(body.get("mcp_servers"), "mcp_servers"):
            self._add_server(server)
        self._add_machine(body.get("container"))
        given = body.get(content)
        for item in given if isinstance(given, list) else ():
            self._read_item(item)

    def _read_item(self, item: object) -> None:
        if not isinstance(item, dict):
            raise InspectionError(LLM.params, "something among the input that is not an object")
        _ITEM.check_lookalikes(item, LLM, "an item of the input")
        if "tools" not in item or item.get("type") == _REPEATING:
            return
        if item.get("type") not in _BRINGING:
            raise InspectionError(LLM.params, "an item of the input that has tools")
        for tool in _objects(item["tools"], "tools of an item"):
            self._add(tool)

    def _add(self, tool: Mapping[str, object], inside: str = "") -> None:
        _TOOL.check_lookalikes(tool, LLM, "a tool")
        kind = self._type(tool)
        self._refuse_hidden(tool, kind)
        self.types.add(kind)
        for name in _MACHINES:
            self._add_machine(tool.get(name))
        if kind == MCP:
            self._add_address(tool.get("server_url"), tool.get("connector_id"))
        elif kind == NAMESPACE:
            self._add_namespace(tool, inside)
        elif self.api == "chat.completions":
            # There its own name stands one level down; a second one could be taken for it.
            self._add_named(kind, None if "name" in tool else tool.get(kind))
        elif "name" in tool or kind in {FUNCTION, CUSTOM}:
            self._add_named(kind, tool, inside)

    def _refuse_hidden(self, tool: Mapping[str, object], kind: str) -> None:
        place = kind if self.api == "chat.completions" else "tools" if kind == NAMESPACE else ""
        if not _INNER.isdisjoint(tool.keys() - {place}):
            raise InspectionError(LLM.params, "a tool with another one inside")
        if tool.get("model") is not None:
            raise InspectionError(LLM.params, "a tool with a model of its own")

    def _add_machine(self, machine: object) -> None:
        if not isinstance(machine, dict):
            return
        _CONTAINER.check_lookalikes(machine, LLM, "a container")
        if machine.get("skills") is not None:
            self.types.add(SKILLS)

    def _add_namespace(self, tool: Mapping[str, object], inside: str) -> None:
        if inside:
            raise InspectionError(LLM.params, "a namespace in a namespace")
        name = _named(tool)
        for inner in _objects(tool.get("tools"), "tools of a namespace"):
            self._add(inner, f"{name}.")

    def _type(self, tool: Mapping[str, object]) -> str:
        written = tool.get("type")
        if written is None and self.api == "messages":
            return CUSTOM
        if not isinstance(written, str) or _DATE.sub("", written) not in TYPES[self.api]:
            raise InspectionError(LLM.params, f"a tool of an unknown type: {str(written)[:80]!r}")
        return _DATE.sub("", written)

    def _add_named(self, kind: str, tool: object, inside: str = "") -> None:
        if len(self.names) >= MAX_TOOLS:
            raise InspectionError(LLM.params, f"more than {MAX_TOOLS} tools")
        if not isinstance(tool, dict):
            raise InspectionError(LLM.params, f"a tool without its {kind!r}")
        _TOOL.check_lookalikes(tool, LLM, "a tool")
        self.types.add(kind)
        self.names.append(inside + _named(tool))

    def _add_server(self, server: Mapping[str, object]) -> None:
        _SERVER.check(server, LLM, "an MCP server")
        self.types.add(MCP)
        self._add_address(server.get("url"), None)

    def _add_address(self, url: object, connector: object) -> None:
        if (url is None) == (connector is None):
            raise InspectionError(LLM.params, "an MCP server with two addresses, or with none")
        if len(self.servers) >= MAX_TOOLS:
            raise InspectionError(LLM.params, f"more than {MAX_TOOLS} MCP servers")
        pattern, address = (_URL, url) if connector is None else (_NAME, connector)
        if not isinstance(address, str) or not pattern.fullmatch(address):
            raise InspectionError(LLM.params, "an MCP server without an address that can be read")
        self.servers.append(address)


def _named(tool: Mapping[str, object]) -> str:
    name = tool.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InspectionError(LLM.params, "a tool without a name that can be read")
    return name


def _objects(value: object, what: str) -> Iterator[Mapping[str, object]]:
    """Yield the objects of a list, where there is one; null is none."""
    if value is None:
        return
    if not isinstance(value, list):
        raise InspectionError(LLM.params, f"{what} that are not a list")
    for part in value:
        if not isinstance(part, dict):
            raise InspectionError(LLM.params, f"{what} that are not objects")
        yield part
