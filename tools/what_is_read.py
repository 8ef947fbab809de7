"""Write docs/reference/what-is-read.md from the readers' tables; `--check` says whether it is current."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from authz.protocols import mcp_target as aim
from authz.protocols.a2a import CARD_PATHS
from authz.protocols.a2a_grpc import SERVICE
from authz.protocols.a2a_headers import Version
from authz.protocols.a2a_methods import GET_AGENT_CARD, METHODS, Method
from authz.protocols.a2a_rest import FORMS
from authz.protocols.llm_members import APIS, MODELS_METHOD, MODELS_PATH
from authz.protocols.llm_tools import TYPES
from authz.protocols.mcp import CLIENT_RESPONSE, SESSION_END, STREAM_OPEN
from authz.protocols.mcp_methods import NOTIFICATIONS, REQUESTS
from authz.protocols.mcp_target import ReadTarget

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "what-is-read.md"
VECTORS = ROOT / "tests" / "vectors"

HEAD = """# What Deputy understands

The route of a service says by which protocol its requests are read; nothing in a request does. What is not on
this page is refused: a method, a path or a parameter that nobody here knows may mean anything to the service.

A policy sees `action.protocol`, `action.method`, `action.phase`, `resource.type`, `resource.name` and, where
the table says so, `arguments`. The phase `call` is one thing that is done; `list` asks what there is;
`lifecycle` keeps a session going.

"""

MCP = """## MCP (`protocol: mcp`)

Every revision from 2024-11-05 to 2026-07-28, over Streamable HTTP. The endpoint is every path that ends in
`/mcp`, or the `paths` of the service. The body decides; a header that repeats a part of it must equal it.

"""

A2A = """## A2A (`protocol: a2a`)

Version 1.0 in its three bindings, 0.3 and 0.2 in JSON-RPC, 0.3 in HTTP+JSON with camelCase names.
`action.method` is the name of 1.0, whatever the wire has; the names of a message belong to the version in
`A2A-Version` (none means 0.3). The resource is the agent: type `agent`, its name the tenant, else the
service. `arguments` are the params: path, query and body together in HTTP+JSON, the message in gRPC.

JSON-RPC is a POST to the root of the host, or to the `paths` of the service; the paths of HTTP+JSON stand
below it, and below one segment more where a tenant is meant. gRPC has its own paths, which are read where the
root is the agent's. Beside these nothing is read as A2A, whatever its body says.

A message that registers a push notification besides (`taskPushNotificationConfig`) is refused: that is a call
of its own, whose URL stands in `arguments`, in 1.0 as `/url`, in 0.3 as `/pushNotificationConfig/url`.

The extensions that `A2A-Extensions` names are no facts for a policy, and a method that one of them adds is
refused. What a message asks for stands in its text, so a policy decides on agent, method and tenant.

"""

LLM = """## Calls of models (`protocol: llm`)

OpenAI and Anthropic, and whoever speaks as they do, at the root of the host or below the `paths` of the
service. The resource is the model: type `model`, its name as the request has it. `arguments` are facts, the
same in every API; data classes are looked for in the whole body, and hashes are those of the whole body.

"""

FACTS = """
| fact | what it says |
|---|---|
| `model` | the model, as the request names it |
| `stream` | whether the answer is streamed |
| `n` | how many answers are asked for |
| `max_tokens` | the limit of the answer, under any of its names; not there where none was asked for |
| `max_tool_calls`, `thinking_tokens` | likewise |
| `tools` | the names of the tools that are offered, those of a namespace as `namespace.tool` |
| `tool_types` | who runs them: `function`, `custom` the caller, all others the provider; without dates |
| `mcp_servers` | the MCP servers that the provider is to call: URLs, or names of connectors |
| `store` | whether the provider keeps the answer; `responses` does where nothing is said |
| `background` | whether it works on when the client is gone |
| `continues` | whether it adds a context, a conversation or a container that it kept |
| `service_tier`, `speed`, `betas` | what else is asked for, in the body and in the beta headers |

Refused: every member that the API does not document (a gateway may take `fallbacks`, `models` or `api_base`
for another model or another address), a stored `prompt`, two limits at once, and a tool of another type than
these (`skills` are those of a container or a shell, `mcp` at Anthropic its `mcp_servers`), a tool within
another one that is no namespace, and one with a model of its own:

"""

REST = """## gRPC (`protocol: grpc`)

| on the wire | `method` | phase | resource | arguments |
|---|---|---|---|---|
| POST `/package.Service/Method`, `application/grpc`, `+proto` or `+json` | `rpc` | call | rpc: the path | |

One decision is made for one call, also where it is a stream. gRPC-Web and Connect are refused.

## Plain HTTP (`protocol: http`)

| on the wire | `method` | phase | resource | arguments |
|---|---|---|---|---|
| any method, any path in its one spelling | the HTTP method | call | path: the path | |

The query and the host stand in `request.path` and `request.host`. A parameter `_method`, in the query or in
the body of a POST, is refused: frameworks run another method for it.

"""

TRICKS = """## The known tricks, and what becomes of them

Each line is a file of `tests/vectors`, which the tests read; a number says how many cases end that way.

| protocol | what is tried | what becomes of it |
|---|---|---|
"""

AIMS: dict[ReadTarget, tuple[str, str, str]] = {
    aim.lifecycle: ("lifecycle", "server: the service", ""),
    aim.listing: ("list", "server: the service", ""),
    aim.tool: ("call", "tool: `name`, without the gateway's prefix", "`arguments`"),
    aim.prompt: ("call", "prompt: `name`", "`arguments`"),
    aim.resource: ("call", "resource: `uri`", ""),
    aim.task: ("call", "task: `taskId`", ""),
    aim.completion: ("call", "what `ref` refers to: prompt or resource", ""),
    aim.subscription: ("call", "resource: the one subscribed to; without one: lifecycle, server", ""),
}


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    head = "| on the wire | `method` | phase | resource | arguments |\n|---|---|---|---|---|\n"
    return head + "".join(f"| {' | '.join(row)} |\n".replace("  |", " |") for row in rows)


def _mcp() -> str:
    rows = [
        (f"`{name}`", f"`{name}`", *AIMS[method.read_target])
        for name, method in [*REQUESTS.items(), *NOTIFICATIONS.items()]
    ]
    lifecycle = AIMS[aim.lifecycle]
    rows += [
        ("GET, the stream of a session", f"`{STREAM_OPEN}`", *lifecycle),
        ("DELETE, its end", f"`{SESSION_END}`", *lifecycle),
        ("a client's response, in a session", f"`{CLIENT_RESPONSE}`", *lifecycle),
    ]
    return MCP + _table(rows) + "\n"


def _a2a_wire(method: Method) -> str:
    forms = [form for form in FORMS if form.name == method.name]
    paths = [f"{form.http_method} `/{form.template}`" for form in forms if Version.NEW in form.versions]
    older = [f"{form.http_method} `/v1/{form.template}`" for form in forms if Version.OLD in form.versions]
    names = [f"`{method.name}`", *([f"0.3 `{method.old_name}`"] if method.old_name else [])]
    return "<br>".join([*names, *paths, *older, f"gRPC `{SERVICE}{method.name}`"])


def _a2a() -> str:
    rows = [
        (_a2a_wire(method), f"`{method.name}`", "call", "agent: the tenant, else the service", "the params")
        for method in METHODS.values()
    ]
    cards = "<br>".join(f"GET `{path}`" for path in CARD_PATHS)
    rows.append((cards, f"`{GET_AGENT_CARD}`", "lifecycle", "agent: the service", ""))
    return A2A + _table(rows) + "\n"


def _llm() -> str:
    rows = [
        (f"POST `{api.path}`", f"`{api.method}`", "call", "model: `model`", "the facts")
        for api in APIS.values()
    ]
    rows.append((f"GET `{MODELS_PATH}`", f"`{MODELS_METHOD}`", "list", "server: the service", ""))
    types = [
        f"- `{method}`: {', '.join(f'`{name}`' for name in sorted(known))}\n"
        for method, known in TYPES.items()
    ]
    return LLM + _table(rows) + FACTS + "".join(types) + "\n"


def _tricks() -> str:
    rows = []
    for folder in ("mcp", "a2a", "llm", "grpc"):
        for path in sorted((VECTORS / folder).glob("*.json")):
            vector = json.loads(path.read_text(encoding="utf-8"))
            ends: dict[str, int] = {}
            for case in vector["cases"]:
                is_refused = case["expect"].startswith("DPT-")
                end = f"`{case['expect']}`" if is_refused else "read"
                ends[end] = ends.get(end, 0) + 1
            answers = ", ".join(
                f"{end} {count}" for end, count in sorted(ends.items(), key=lambda end: -end[1])
            )
            rows.append(f"| {folder} | {vector['comment']} | {answers} |\n")
    return TRICKS + "".join(rows)


def page() -> str:
    """Return the page's text."""
    return HEAD + _mcp() + _a2a() + _llm() + REST + _tricks()


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(
            0 if PAGE.read_text(encoding="utf-8") == page() else f"{PAGE.name} is not current: run {__file__}"
        )
    PAGE.write_text(page(), encoding="utf-8")
