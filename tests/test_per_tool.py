"""`txn: per_tool`: one token for a task's calls of one tool; each call is decided and recorded."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from authz.reused_tokens import ReusedTokens
from identity.authority import Authority
from identity.caller import WorkloadBinding
from identity.canonical import arguments_sha256
from identity.tool_call import ToolCallError, check_call
from tests.fakes import DENY, DOMAIN, NOW, RUNNER, Run, World, reason
from tests.passed_on import call, claims, on, read, txn_of, world


class PerTool(World):
    """A world in which a run shows the same token each time."""

    def __init__(self) -> None:
        super().__init__()
        self.services = world("per_tool").services
        self._tokens: dict[str, str] = {}

    def known_token(self, run: Run, **token: Any) -> str:
        name = f"{run.task.id} {token}"
        if name not in self._tokens:
            self._tokens[name] = self.token(run, **token)
        return self._tokens[name]


def tool_token(made: PerTool, run: Run, tool: str = "read_ticket", **more: Any) -> str:
    token = made.known_token(run, **more)
    return txn_of(made.check(made.request(token, run, body=call(tool, ticket="T-1"))))


def test_one_token_serves_the_calls_of_one_tool() -> None:
    made = PerTool()
    run = made.run("triage")
    tokens = {
        txn_of(made.check(made.request(made.known_token(run), run, body=call("read_ticket", ticket=text))))
        for text in ("T-1", "T-2", "T-3")
    }
    (token,) = tokens
    said = read(made, token, "tickets")
    assert (said.per_tool, said.arguments_sha256, said.tool) == (True, None, "read_ticket")
    # Each call is decided and has its record; all name the one token.
    assert [query["arguments"]["ticket"] for query in made.policy.asked] == ["T-1", "T-2", "T-3"]  # type: ignore[index]  # an object
    assert {record["txn_jti"] for record in made.records()} == {said.jti}
    assert len({entry.id for entry in made.sink.entries}) == 3


def test_a_call_that_the_policy_refuses_gets_no_token_that_is_there() -> None:
    made = PerTool()
    run = made.run("triage")
    tool_token(made, run)
    made.policy.answer = DENY
    denied = made.check(made.request(made.known_token(run), run, body=call("read_ticket", ticket="T-1")))
    assert reason(denied) == "DPT-AGENT-TIER"
    assert made.records()[-1].get("txn_jti") is None


@pytest.mark.parametrize(
    "other",
    [
        lambda made, run: tool_token(made, run, "close_ticket"),
        lambda made, run: tool_token(made, run, jti="k" * 22),
        lambda made, run: tool_token(made, run, scopes=frozenset({"tickets:read"})),
        lambda made, _run: tool_token(made, made.run("triage")),
        lambda made, _run: tool_token(made, made.run("resolver")),
    ],
)
def test_something_else_gets_another_token(other: Callable[[PerTool, Run], str]) -> None:
    made = PerTool()
    run = made.run("triage")
    token = tool_token(made, run)
    assert other(made, run) != token
    assert tool_token(made, run) == token


def test_another_chain_gets_another_token() -> None:
    made = PerTool()
    resolver, triage = made.run("resolver"), made.run("triage")
    alone = tool_token(made, triage)
    chained = txn_of(made.check(made.request(made.token(triage, resolver), triage)))
    assert claims(chained)["act"] != claims(alone)["act"]


def test_what_changed_since_gets_another_token() -> None:
    made = PerTool()
    run = made.run("triage")
    tokens = [tool_token(made, run)]
    made.policy.revision = "another.revision"
    tokens.append(tool_token(made, run))
    made.rights.epoch += 1
    tokens.append(tool_token(made, run))
    assert len(set(tokens)) == 3


def test_new_keys_forget_what_was_issued() -> None:
    made = PerTool()
    run = made.run("triage")
    tool_token(made, run)
    made.authority = Authority.generate(DOMAIN, NOW)
    again = made.token(run, binding=WorkloadBinding(RUNNER))
    txn = txn_of(made.check(made.request(again, principal=str(RUNNER))))
    assert read(made, txn, "tickets").per_tool
    assert len(made.reused) == 1


def test_it_is_used_again_while_half_of_its_life_is_left() -> None:
    made = PerTool()
    run = made.run("triage")
    token = tool_token(made, run)
    made.now += timedelta(seconds=30)
    assert tool_token(made, run) == token
    made.now += timedelta(seconds=1)
    assert tool_token(made, run) != token
    # A clock that went back does not make a token of the future.
    made.now = NOW
    assert claims(tool_token(made, run))["iat"] == int(NOW.timestamp())


@pytest.mark.parametrize("method", ["tools/list", "ping"])
def test_what_is_no_tool_gets_a_token_of_its_own(method: str) -> None:
    made = PerTool()
    run = made.run("triage")
    body = b'{"jsonrpc":"2.0","id":7,"method":"%s"}' % method.encode()
    one, other = (txn_of(made.check(made.request(made.known_token(run), run, body=body))) for _ in range(2))
    assert one != other
    assert not read(made, one, "tickets").per_tool
    assert len(made.reused) == 0


def test_a_service_of_one_token_a_call_is_as_before() -> None:
    made = world()
    run = made.run("triage")
    token = made.token(run)
    one, other = (txn_of(made.check(made.request(token, run))) for _ in range(2))
    assert one != other
    assert read(made, one, "tickets").arguments_sha256 == arguments_sha256({"ticket": "T-1"})


def test_it_is_passed_on_as_any_other() -> None:
    made = PerTool()
    run = made.run("triage")
    second = read(made, txn_of(on(made, tool_token(made, run))), "billing")
    assert (second.per_tool, second.requesters) == (True, (run.spiffe_id,))


def test_one_task_s_tools_take_no_other_s_place() -> None:
    made = PerTool()
    made.reused = ReusedTokens(max_tokens=8, max_of_task=2)
    quiet, loud = made.run("triage"), made.run("resolver")
    token = tool_token(made, quiet)
    for number in range(20):
        tool_token(made, loud, f"tool_{number}")
    assert len(made.reused) == 3
    assert tool_token(made, quiet) == token


def test_a_revocation_ends_the_reuse() -> None:
    made = PerTool()
    run = made.run("triage")
    tool_token(made, run)
    made.rights.tasks[run.task.id] = replace(run.task, ended_at=NOW)
    made.rights.epoch += 1
    denied = made.check(made.request(made.known_token(run), run, body=call("read_ticket", ticket="T-1")))
    assert reason(denied) == "DPT-TASK-ENDED"


# ---------------------------------------------------------------- the server that gets it


def test_a_server_takes_it_only_where_it_is_told_to() -> None:
    """The safe default: a token without the hash of the arguments calls nothing."""
    made = PerTool()
    token = read(made, tool_token(made, made.run("triage")), "tickets")
    body = call("read_ticket", ticket="T-9")
    with pytest.raises(ToolCallError, match="arguments"):
        check_call(token, "POST", body)
    check_call(token, "POST", body, allow_per_tool=True)
    with pytest.raises(ToolCallError, match="target"):
        check_call(token, "POST", call("close_ticket"), allow_per_tool=True)
    with pytest.raises(ToolCallError, match="arguments"):
        check_call(replace(token, per_tool=False), "POST", body, allow_per_tool=True)


def test_a_server_that_takes_it_still_compares_the_hash_of_one_call() -> None:
    made = world()
    run = made.run("triage")
    token = read(made, txn_of(made.check(made.request(made.token(run), run))), "tickets")
    check_call(token, "POST", call("read_ticket", ticket="T-1"), allow_per_tool=True)
    with pytest.raises(ToolCallError, match="arguments"):
        check_call(token, "POST", call("read_ticket", ticket="T-2"), allow_per_tool=True)
