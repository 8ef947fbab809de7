"""Bombs through the whole flow: refused with the right reason, and with no more work than an ordinary call.

Threats 5 and 6 (rules/reliability.md section 2), held down by counting calls; `make bench` has the times.
"""

import asyncio

import pytest

from authz.check import check
from authz.codes import Code
from authz.pb import ext_authz_pb2 as pb
from tests.bombs import BODIES, headers, tokens
from tests.calls import count_calls
from tests.check_requests import MCP_HEADERS
from tests.fakes import GATEWAY, World, reason

# An ordinary call makes about a thousand.
MOST = 5_000
CODES = {
    "depth": Code.JSON_DEPTH,
    "keys": Code.JSON_KEYS,
    "number": Code.JSON_NUMBER,
    "surrogate": Code.JSON_SURROGATE,
    "malformed": Code.JSON_MALFORMED,
}
WORLD = World()
RUN = WORLD.run("triage")
TOKEN = WORLD.token(RUN)
TOKENS = dict(tokens(TOKEN))
HEADERS = dict(headers())


def refuse(data: bytes) -> str:
    """Check twice, so that nothing is counted that is made once; return the reason."""
    flow = WORLD.flow()
    asyncio.run(check(data, GATEWAY, flow))
    answers: list[bytes] = []

    async def again() -> None:
        answers.append(await check(data, GATEWAY, flow))

    assert count_calls(lambda: asyncio.run(again())) < MOST
    return reason(pb.CheckResponse.FromString(answers[0]))


@pytest.mark.parametrize("name", BODIES)
def test_body(name: str) -> None:
    body, why = BODIES[name]
    assert refuse(WORLD.request(TOKEN, RUN, body=body)) == CODES[why]


@pytest.mark.parametrize("name", TOKENS)
def test_token(name: str) -> None:
    assert refuse(WORLD.request(TOKENS[name], RUN)).startswith("DPT-TOKEN-")


@pytest.mark.parametrize("name", HEADERS)
def test_headers(name: str) -> None:
    fields = [*MCP_HEADERS, ("authorization", f"Bearer {TOKEN}"), *HEADERS[name]]
    assert refuse(WORLD.request(None, RUN, headers=fields)) == Code.REQUEST_MALFORMED
