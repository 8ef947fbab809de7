"""Write docs/reference/clients.md from what the tests expect; `--check` says whether it is current."""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "clients.md"
EXPECTED = ROOT / "tests" / "vectors" / "real_clients.json"

HEAD = """# Other people's clients and servers

Each client below works with each server below, first directly and then through a real Envoy with Deputy, the
shipped policy, grants for what the server offers, and guarded answers. It begins a session, asks for the
lists, calls tools (with progress told on the way, with structured and annotated answers, with questions back
to the person and to the model), reads resources, gets prompts and completions. What it gets must be the same
both ways, value for value, but for the tool that is not granted: the list does not have it.

The tests do it on every run (`tests/e2e/test_real_*.py`; what has JavaScript in it, in `make test-full`), and
this page is made from what they compare with.

## MCP

| Server | Answers compared | """
CLIENTS = """ |
|---|---|---|---|---|---|
"""
DENIED = """
Where a server closes the stream of a call, the client comes back for the rest, with the last event it saw.

A tool that is not granted, and one that the server does not have, is an error to each of these clients: code
403, the sentence, and `reason`, `fix` and `decision_id` in `data`. The session goes on.

## The conformance suite of MCP

"""
CONFORMANCE = """
The suite cannot send credentials, so a second Envoy adds them in the tests. Of the released suite no check,
message or detail differs, whether answers are guarded or passed. The server of its first row does all that
the suite asks for; `server-everything` does not, and fails in the same way with Deputy as without.

The coming suite looks at what a server refuses in the era of 2026-07-28. Deputy refuses before it, with the
same numbers; these checks end otherwise:

| Without → with | Checks | Why |
|---|---|---|
"""
AGENTS = """
## A2A

An agent and a client of the SDK `a2a-sdk` %s: card, message, stream, task, and the end of a task whose
stream is open. A denied operation is an `A2AClientError`, and the client goes on.

| Binding | Answers compared | What the client shows of a denial |
|---|---|---|
"""
SHOWN = {
    "JSONRPC": "the sentence, as text of the error",
    "HTTP+JSON": "status 403; the sentence is in the answer, which the SDK keeps as the error's cause",
    "GRPC": "the sentence, `reason`, `fix` and decision, as text of the error",
}
TAIL = """
Over JSON-RPC the address of the agent ends in a slash, `https://gateway/<service>/`: without it Envoy finds
no route. For gRPC the agent has a host of its own, since its paths have no prefix.
"""


def page() -> str:
    """Return the page's text."""
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
    node = _node()
    old, new = _pinned("tools/peers.lock", "mcp"), _pinned("requirements.lock", "mcp")
    sdk = node["@modelcontextprotocol/sdk"]
    servers = {
        "python-1": f"Python `mcp` {old}, FastMCP",
        "python-2": f"Python `mcp` {new}, both eras",
        "everything": f"`server-everything` {node['@modelcontextprotocol/server-everything']}",
        "conforming": f"TypeScript SDK {sdk}, resumed streams",
    }
    clients = (f"Python `mcp` {old}", f"`mcp` {new}, legacy", f"`mcp` {new}, auto", f"TypeScript SDK {sdk}")
    parts = [HEAD, " | ".join(clients), CLIENTS]
    answers = expected["clients"]["answers"]
    same = "same | " * (len(clients) - 1) + "same"
    parts += [f"| {name} | {answers[server]} | {same} |\n" for server, name in servers.items()]
    parts += [DENIED, *_conformance(expected["conformance"], servers, node)]
    parts.append(AGENTS % _pinned("tools/peers.lock", "a2a-sdk"))
    parts += [
        f"| {binding} | {count} | {SHOWN[binding]} |\n"
        for binding, count in expected["agents"]["answers"].items()
    ]
    return "".join([*parts, TAIL])


def _conformance(
    expected: Mapping[str, Any], servers: Mapping[str, str], node: Mapping[str, str]
) -> Iterator[str]:
    released = f"{node['@modelcontextprotocol/conformance']}, all scenarios"
    coming = f"{node['conformance-next']}, required by 2026-07-28"
    modern = f"Python `mcp` {_pinned('requirements.lock', 'mcp')}"
    of_released = expected["released"]
    yield "| Suite | Server | Without Deputy | With |\n|---|---|---|---|\n"
    for server, kind in (("conforming", "conforming"), ("everything", "asked")):
        counted = _counts(of_released[kind])
        name = servers[server].partition(",")[0]
        yield f"| {released} | {name} | {counted} | the same |\n"
    of_coming = expected["coming"]
    yield f"| {coming} | {modern} | {_counts(of_coming['without'])} | {_counts(of_coming['with'])} |\n"
    yield CONFORMANCE
    grouped: dict[tuple[str, str], list[str]] = {}
    for case in of_coming["differences"]:
        name = case["check"].partition(": ")[2]
        grouped.setdefault((case["differs"].lower(), case["reason"]), []).append(f"`{name}`")
    for (differs, reason), names in grouped.items():
        yield f"| {differs} | {'<br>'.join(names)} | {reason} |\n"


def _counts(found: Mapping[str, int]) -> str:
    names = {"SUCCESS": "passed", "FAILURE": "failed", "WARNING": "warnings"}
    return ", ".join(f"{found[status]} {name}" for status, name in names.items() if status in found)


def _pinned(lock: str, name: str) -> str:
    found = re.search(rf"(?m)^{re.escape(name)}==(\S+)", (ROOT / lock).read_text(encoding="utf-8"))
    if found is None:
        raise LookupError(f"{lock} does not pin {name!r}")
    return found[1]


def _node() -> dict[str, str]:
    locked = json.loads((ROOT / "tests/node/package-lock.json").read_text(encoding="utf-8"))["packages"]
    return {path.removeprefix("node_modules/"): entry["version"] for path, entry in locked.items() if path}


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(
            0 if PAGE.read_text(encoding="utf-8") == page() else f"{PAGE.name} is not current: run {__file__}"
        )
    PAGE.write_text(page(), encoding="utf-8")
