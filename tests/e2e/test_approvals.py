"""A call that waits for a person, whole: the official client, a real Envoy, the service, the command line.

What a person is asked, what they say, and what the tool server saw: nothing passes that nobody approved, and
what was approved passes once.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.client import ConnectMode
from mcp.client.session import ElicitationFnT
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, ElicitRequestURLParams, ElicitResult, TextContent

from authz.codes import Code
from authz.demo.agents import AgentTask
from authz.demo.signin import CONSOLE_CLIENT, RUNNER_CLIENT
from authz.demo.stage import BILLING, DELETE, Stage
from tests.e2e.conftest import Live
from tests.e2e.services import SECONDS, environment

pytestmark = pytest.mark.e2e
MODERN: ConnectMode = "2026-07-28"


def directory(stage: Stage) -> Path:
    path: Path = stage.world.directory  # type: ignore[attr-defined] # the demo's world has one
    return path


async def deputy(stage: Stage, *arguments: str, code: int = 0) -> str:
    """Run a command on the machine of the service, and return what it printed."""

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "authz", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            env=environment(DEPUTY_CONFIG=str(directory(stage) / "deputy.yaml")),
        )

    done = await asyncio.to_thread(run)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


async def as_person(
    stage: Stage, account: str, *arguments: str, client: str = CONSOLE_CLIENT, code: int = 0
) -> str:
    """Run a command as a person who signed in, at the broker's URL."""
    token, roots = directory(stage) / "id-token", directory(stage) / "roots.pem"
    token.write_text(await stage.world.sign_in(account, client))
    roots.write_bytes(stage.world.runner.identity.roots)
    url = stage.world.runner.places.broker
    shown = ("--url", url, "--ca", str(roots), "--token-file", str(token))
    return await deputy(stage, *arguments, *shown, code=code)


@asynccontextmanager
async def client(
    task: AgentTask, bearer: str, elicit: ElicitationFnT | None = None, mode: ConnectMode = MODERN
) -> AsyncIterator[Client]:
    """The official client of an agent; with `elicit` it says that it can show a URL."""
    headers = {"authorization": f"Bearer {bearer}"}
    url = f"{task.places.gateway}/{BILLING}/mcp"
    async with httpx2.AsyncClient(
        verify=task.identity.tls(), headers=headers, timeout=SECONDS, trust_env=False
    ) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode=mode, elicitation_callback=elicit) as made:
            yield made


def text_of(result: CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


def deletions(stage: Stage) -> int:
    """How often the tool server was let delete."""
    lines = (directory(stage) / BILLING / "upstream.jsonl").read_text().splitlines()
    contexts = [json.loads(line)["transaction"]["tctx"] for line in lines if '"verified"' in line]
    return len([context for context in contexts if context.get("tool") == DELETE.tool])


class Screen:
    """What an agent's client shows to its person; the person does something about it, or nothing."""

    def __init__(
        self, decide: Callable[[str], Awaitable[object]] | None = None, action: str = "accept"
    ) -> None:
        self.shown: list[ElicitRequestURLParams] = []
        self.decide, self.action = decide, action

    @property
    def last(self) -> str:
        return self.shown[-1].url.rpartition("/")[2]

    async def __call__(self, context: Any, params: Any) -> ElicitResult:
        assert isinstance(params, ElicitRequestURLParams)
        self.shown.append(params)
        if self.decide is not None:
            await self.decide(self.last)
        return ElicitResult(action=self.action)  # type: ignore[arg-type]  # one of three words


async def agents(stage: Stage) -> tuple[AgentTask, str]:
    return await stage.task("resolver", "lead"), await stage.token("resolver", "lead", BILLING)


def test_a_destructive_call_passes_once_after_a_person_has_seen_and_approved_it(live: Live) -> None:
    async def play(stage: Stage) -> None:
        task, bearer = await agents(stage)
        before = deletions(stage)

        async def decide(approval: str) -> None:
            assert deletions(stage) == before
            seen = json.loads(await deputy(stage, "approvals", "show", approval, "-o", "json"))
            assert seen["arguments"] == DELETE.arguments
            assert (seen["agent"], seen["resource"]) == ("resolver", DELETE.tool)
            assert seen["human"] == stage.world.human_uri("lead")
            await deputy(stage, "approvals", "approve", approval)

        screen = Screen(decide)
        async with client(task, bearer, screen) as made:
            result = await made.call_tool(DELETE.tool, DELETE.arguments)
        assert text_of(result) == "deleted C-9"
        assert len(screen.shown) == 1
        assert deletions(stage) == before + 1

        # The same call again is another one: it is asked for anew, and not made.
        again = Screen(action="decline")
        async with client(task, bearer, again) as made:
            with pytest.raises((MCPError, RuntimeError)):
                await made.call_tool(DELETE.tool, DELETE.arguments)
        assert again.shown
        assert again.last != screen.last
        assert deletions(stage) == before + 1
        log = "".join(path.read_text() for path in (directory(stage) / "data" / "audit").glob("*.jsonl"))
        assert log.count(screen.last) >= 3
        assert "C-9" not in log

    live.run(play)


def test_ca06_a_client_that_accepts_for_its_person_gets_nowhere(live: Live) -> None:
    """CA-06: a confirmation at the agent's own client is no authorization."""

    async def play(stage: Stage) -> None:
        task, bearer = await agents(stage)
        before, screen = deletions(stage), Screen()
        async with client(task, bearer, screen) as made:
            with pytest.raises(RuntimeError, match="rounds"):
                await made.call_tool(DELETE.tool, DELETE.arguments)
        assert len({params.url for params in screen.shown}) == 1
        assert len(screen.shown) > 1
        assert deletions(stage) == before
        listed = await deputy(stage, "approvals", "list", "-o", "name")
        assert listed.split().count(screen.last) == 1

    live.run(play)


def test_a_person_approves_with_their_own_sign_in_and_no_agent_with_the_one_it_has(live: Live) -> None:
    async def play(stage: Stage) -> None:
        task, bearer = await agents(stage)

        async def decide(approval: str) -> None:
            with_agents = {"client": RUNNER_CLIENT}
            refused = await as_person(stage, "lead", "approvals", "approve", approval, code=1, **with_agents)
            assert "DPT-NOT-PERMITTED" in refused
            refused = await as_person(stage, "clerk", "approvals", "approve", approval, code=1)
            assert "DPT-NOT-PERMITTED" in refused
            assert "approved" in await as_person(stage, "lead", "approvals", "approve", approval)

        screen = Screen(decide)
        async with client(task, bearer, screen) as made:
            result = await made.call_tool(DELETE.tool, {"customer": "C-10"})
        assert text_of(result) == "deleted C-10"

    live.run(play)


def test_other_arguments_than_those_approved_wait_and_a_denial_is_said(live: Live) -> None:
    async def play(stage: Stage) -> None:
        task, bearer = await agents(stage)
        before, screen = deletions(stage), Screen()

        async with client(task, bearer) as made:
            with pytest.raises(MCPError) as waits:
                await made.call_tool(DELETE.tool, {"customer": "C-11"})
            approval = waits.value.data["approval"]["url"].rpartition("/")[2]
            await deputy(stage, "approvals", "approve", approval)
            with pytest.raises(MCPError) as other:
                await made.call_tool(DELETE.tool, {"customer": "C-12"})
            assert other.value.data["reason"] == Code.APPROVAL_REQUIRED
            denied = other.value.data["approval"]["url"].rpartition("/")[2]
            assert denied != approval
            await deputy(stage, "approvals", "deny", denied, "--reason", "not this one")
            with pytest.raises(MCPError) as refused:
                await made.call_tool(DELETE.tool, {"customer": "C-12"})
            assert refused.value.data["reason"] == Code.APPROVAL_DENIED
            assert deletions(stage) == before
            assert text_of(await made.call_tool(DELETE.tool, {"customer": "C-11"})) == "deleted C-11"
        assert deletions(stage) == before + 1
        assert not screen.shown

    live.run(play)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_a_client_that_shows_no_url_reads_it_and_the_page_says_how(live: Live, mode: ConnectMode) -> None:
    async def play(stage: Stage) -> None:
        task, bearer = await agents(stage)
        async with client(task, bearer, mode=mode) as made:
            with pytest.raises(MCPError) as waits:
                await made.call_tool(DELETE.tool, {"customer": f"C-{mode}"})
        url = waits.value.data["approval"]["url"]
        page = url.removeprefix(await task.broker_issuer())
        async with httpx2.AsyncClient(verify=task.identity.tls(), trust_env=False) as http:
            answer = await http.get(f"{task.places.broker}{page}")
        assert answer.status_code == 200
        assert f"deputy approvals show {url.rpartition('/')[2]}" in answer.text
        assert DELETE.tool not in answer.text

    live.run(play)


def test_an_approval_does_not_help_an_agent_that_is_contained(live: Live) -> None:
    """While the agent is contained its approval is worth nothing; the person who gave it was not stopped."""

    async def play(stage: Stage) -> None:
        task, bearer = await agents(stage)
        arguments = {"customer": "C-13"}
        async with client(task, bearer) as made:
            with pytest.raises(MCPError) as waits:
                await made.call_tool(DELETE.tool, arguments)
            await deputy(
                stage, "approvals", "approve", waits.value.data["approval"]["url"].rpartition("/")[2]
            )
            await deputy(stage, "agents", "contain", "resolver", "--reason", "a drill")
            with pytest.raises(MCPError):
                await made.call_tool(DELETE.tool, arguments)
            await deputy(stage, "agents", "release", "resolver", "--reason", "over")
            assert text_of(await made.call_tool(DELETE.tool, arguments)) == "deleted C-13"

    live.run(play)


def test_watch_tells_of_a_call_that_comes(live: Live) -> None:
    async def play(stage: Stage) -> None:
        task, bearer = await agents(stage)
        async with client(task, bearer) as made:
            with pytest.raises(MCPError) as waits:
                await made.call_tool(DELETE.tool, {"customer": "C-14"})
        told = await deputy(stage, "approvals", "watch", "--timeout", "0", "-o", "name")
        assert waits.value.data["approval"]["url"].rpartition("/")[2] in told.split()

    live.run(play)
