"""What guarded answers cost, end to end: one Envoy, the same server behind it with ext_proc and without.

- A call of a tool, whose short answer is read, and a list of 200 tools, of which the caller sees half.
- Calls of both services take turns, so that whatever else the machine does, it does to both.
- One connection, one call at a time: it is the time that is added, not how many there can be.

`python -m tests.bench.answers [calls]`
"""

import json
import sys
import time
from typing import Any

import httpx2

from tests.bench.measure import percentile
from tests.e2e.answers_world import VISIBLE, AnswersWorld, answers_world
from tests.e2e.raw_upstream import answer

CALLS = 400
WARM = 50
SHORT = answer(b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"open"}]}}')


def long_list(count: int = 200) -> bytes:
    """A list as servers have it: each tool with a sentence and a schema."""
    schema = {"type": "object", "properties": {"path": {"type": "string"}, "limit": {"type": "integer"}}}
    names = [*VISIBLE["resolver"], *(f"tool_{number}" for number in range(count - 3))]
    described = "Does what its name says, for the project that is named, and says how it went."
    tools = [{"name": name, "description": described, "inputSchema": schema} for name in names]
    return answer(json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}}).encode())


def timed(http: httpx2.Client, url: str, message: dict[str, Any]) -> float:
    begun = time.perf_counter()
    response = http.post(url, json=message)
    taken = time.perf_counter() - begun
    assert response.is_success, response.text
    return taken


def compare(world: AnswersWorld, message: dict[str, Any], calls: int) -> dict[str, list[float]]:
    """Seconds of each call, guarded (`raw`) and not (`open`)."""
    taken: dict[str, list[float]] = {"open": [], "raw": []}
    with world.http("open") as plain, world.http("raw") as guarded:
        clients = {"open": plain, "raw": guarded}
        for number in range(WARM + calls):
            for service, http in clients.items():
                seconds = timed(http, world.url(service), message)
                if number >= WARM:
                    taken[service].append(seconds)
    return taken


def main(calls: int = CALLS) -> None:
    """Measure and print."""
    call = {"method": "tools/call", "params": {"name": "read_page", "arguments": {}}}
    with answers_world() as world:
        for name, said, asked in (
            ("a call of a tool", SHORT, call),
            ("a list of 200 tools", long_list(), {"method": "tools/list", "params": {}}),
        ):
            world.raw.said = said
            taken = compare(world, {"jsonrpc": "2.0", "id": 1, **asked}, calls)
            print(name)
            for percent in (50, 99):
                plain, guarded = (1e3 * percentile(taken[each], percent) for each in ("open", "raw"))
                print(f"  p{percent}: {plain:.2f} ms, guarded {guarded:.2f} ms: {guarded - plain:+.2f} ms")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
