"""agentgateway's ExtMcp: results go on to whom they are due, lists are cut (ADR 0023)."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from authz.agentgateway.message import Answered
from authz.answers.passage import Passage
from authz.pb import ext_mcp_pb2 as pb
from identity.spiffe import SpiffeId
from identity.withdrawal import Withdrawal, Withdrawals
from tests.extmcp_world import ExtMcpWorld, reason, renamed, told
from tests.fakes import DENY, GATEWAY, NOW, WEB

TOOLS = {"tools": [{"name": "read_ticket", "inputSchema": {}}, {"name": "delete_ticket", "inputSchema": {}}]}


def listed(world: ExtMcpWorld, method: str = "tools/list") -> pb.McpRequestResult:
    result = world.ask(world.message(method, None))
    assert result.WhichOneof("result") == "passed"
    return result


def names(result: pb.McpResponseResult, member: str = "tools", key: str = "name") -> list[str]:
    assert result.WhichOneof("result") == "mutated"
    return [entry[key] for entry in json.loads(result.mutated)[member]]


def test_a_list_is_cut_to_what_the_caller_could_use_without_a_second_record() -> None:
    world = ExtMcpWorld()
    world.policy.hidden = frozenset({"delete_ticket"})
    result = world.answer(world.result_of(listed(world), TOOLS))
    assert names(result) == ["read_ticket"]
    assert [record["kind"] for record in world.records()] == ["decision"]
    assert world.policy.asked[-1]["agent"] == world.policy.asked[0]["agent"]


@pytest.mark.parametrize(
    ("method", "member", "key"),
    [
        ("prompts/list", "prompts", "name"),
        ("resources/list", "resources", "uri"),
        ("resources/templates/list", "resourceTemplates", "uriTemplate"),
    ],
)
def test_every_list_is_cut(method: str, member: str, key: str) -> None:
    world = ExtMcpWorld()
    world.policy.hidden = frozenset({"file:///b"})
    entries = [{key: "file:///a", "name": "file:///a"}, {key: "file:///b", "name": "file:///b"}]
    result = world.answer(world.result_of(listed(world, method), {member: entries}, method))
    assert names(result, member, key) == ["file:///a"]


def test_a_list_of_several_targets_is_judged_by_the_names_that_clients_use() -> None:
    world = ExtMcpWorld(prefixed=True)
    world.policy.hidden = frozenset({"more_read_ticket"})
    both = ("tickets-target", "more")
    passed = world.ask(world.message("tools/list", None, targets=both))
    tools = {"tools": [{"name": f"{target}_read_ticket"} for target in both]}
    result = world.answer(world.result_of(passed, tools, targets=both))
    assert names(result) == ["tickets-target_read_ticket"]


def test_other_results_pass_as_they_are() -> None:
    world = ExtMcpWorld()
    passed = world.ask(world.message())
    result = world.answer(world.result_of(passed, {"content": []}, "tools/call"))
    assert result.WhichOneof("result") == "passed"


@pytest.mark.parametrize(
    "entry",
    [
        b'{"name":"more_a","inputSchema":{"maximum":9223372036854775807}}',
        b'{"name":"more_a","name":"more_b"}',
        b'{"name":"more_a","inputSchema":{"enum":[' + b"1," * 20_000 + b"1]}}",
    ],
    ids=["a large number", "a name twice", "many values"],
)
def test_what_one_target_says_hides_nothing_of_another(entry: bytes) -> None:
    world = ExtMcpWorld(prefixed=True)
    both = ("tickets-target", "more")
    passed = world.ask(world.message("tools/list", None, targets=both))
    raw = b'{"tools":[{"name":"tickets-target_read_ticket"},' + entry + b"]}"
    result = world.answer(world.result_of(passed, None, targets=both, raw=raw))
    assert "tickets-target_read_ticket" in names(result)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"no JSON",
        b'{"tools":[{"name":"secret"}],"tools":[]}',
        b'{"tools":[{"name":"read_ticket","name":"secret"}]}',
        b'{"tools":[],"to\\u006fls":[{"name":"secret"}]}',
        b'{"tools":[]},"error":{"code":1,"message":"out of the envelope"}',
        b'{"tools":[]}}{"tools":[{"name":"secret"}]}',
        b'\xef\xbb\xbf{"tools":[]}',
        '{"tools":[]}'.encode("utf-16"),
        b'{"tools":"secret"}',
        b'{"prompts":[{"name":"secret"}]}',
        b'{"tools":[{"name":7}]}',
    ],
)
def test_a_list_that_cannot_be_read_is_refused_and_nothing_of_it_is_told(raw: bytes) -> None:
    world = ExtMcpWorld()
    world.policy.hidden = frozenset({"secret"})
    result = world.answer(world.result_of(listed(world), None, raw=raw))
    if result.WhichOneof("result") == "mutated":
        assert b"secret" not in result.mutated
        assert b"7" not in result.mutated
    else:
        assert reason(result) == "DPT-ANSWER-UNREADABLE"
        assert b"secret" not in result.SerializeToString()


def test_a_result_without_the_passage_of_a_call_is_refused() -> None:
    """The gateway asks about no request of `completion/complete`, but about its result."""
    world = ExtMcpWorld()
    message = pb.McpResponse(service_names=["tickets-target"], method="completion/complete")
    message.mcp_response = b"{}"
    assert reason(world.answer(message)) == "DPT-PASSAGE-MISSING"
    message.metadata_context.update({"passage": None})
    assert reason(world.answer(message)) == "DPT-PASSAGE-MISSING"
    message.metadata_context.update({"passage": "forged"})
    assert reason(world.answer(message)) == "DPT-PASSAGE-MISSING"


def test_where_answers_are_not_guarded_no_result_is_known() -> None:
    world = ExtMcpWorld()
    world.services = renamed(world.services, is_guarded=False)
    passed = listed(world)
    assert "passage" not in passed.metadata.fields
    assert reason(world.answer(world.result_of(passed, TOOLS))) == "DPT-PASSAGE-MISSING"


def test_a_passage_counts_for_its_own_method_and_service_only() -> None:
    world = ExtMcpWorld()
    passed = world.ask(world.message())
    assert reason(world.answer(world.result_of(passed, TOOLS, "tools/list"))) == "DPT-PASSAGE-MISSING"
    listing = listed(world)
    others = world.result_of(listing, TOOLS, targets=("billing",))
    assert reason(world.answer(others)) == "DPT-PASSAGE-MISSING"
    unknown = world.result_of(listing, TOOLS, targets=("unknown",))
    assert reason(world.answer(unknown)) == "DPT-PASSAGE-MISSING"


@pytest.mark.parametrize("asker", [WEB, None])
def test_a_stranger_brings_no_results(asker: SpiffeId | None) -> None:
    world = ExtMcpWorld()
    result = world.answer(world.result_of(listed(world), TOOLS), asker)
    assert reason(result) == "DPT-ASKER-UNKNOWN"
    assert not result.mutated


def test_a_gateway_brings_results_of_its_own_services_only() -> None:
    world = ExtMcpWorld()
    passage = Passage.parse(listed(world).metadata.fields["passage"].string_value)
    message = world.result_of(listed(world), TOOLS, targets=("files",))
    message.metadata_context.update({"passage": replace(passage, service="files").encode()})
    assert reason(world.answer(message)) == "DPT-ASKER-TARGET"


def test_a_contained_gateway_brings_no_results() -> None:
    world = ExtMcpWorld()
    message = world.result_of(listed(world), TOOLS)
    contained = Withdrawal("workload", str(GATEWAY), None, "why", "who", NOW)
    world.rights.withdrawals = Withdrawals.of([contained])
    assert reason(world.answer(message)) == "DPT-CONTAINED"


@pytest.mark.parametrize("method", ["tools/list", "tools/call"])
def test_a_result_for_a_caller_whose_rights_have_ended_is_withheld_with_a_record(method: str) -> None:
    world = ExtMcpWorld()
    passed = listed(world) if method == "tools/list" else world.ask(world.message())
    message = world.result_of(passed, TOOLS, method)
    world.now = NOW + timedelta(hours=2)
    result = world.answer(message)
    assert reason(result) == "DPT-TASK-ENDED"
    assert told(result)["decision_id"] == world.sink.entries[0].id
    first, last = world.records()
    assert (last["kind"], last["withdraws"]) == ("withdrawn", world.sink.entries[0].id)
    assert first["kind"] == "decision"


def test_a_withdrawal_while_a_list_is_cut_wins_even_if_it_cannot_be_recorded() -> None:
    world = ExtMcpWorld()
    message = world.result_of(listed(world), TOOLS)

    def contain() -> None:
        contained = Withdrawal("agent", "triage", None, "why", "who", NOW)
        world.rights.withdrawals = Withdrawals.of([contained])

    world.policy.act = contain
    world.sink.full_after = 1
    assert reason(world.answer(message)) == "DPT-CONTAINED"


def test_a_list_that_is_too_long_is_refused() -> None:
    world = ExtMcpWorld()
    raw = b'{"tools":[{"name":"read_ticket","description":"' + b"x" * (4 << 20) + b'"}]}'
    assert reason(world.answer(world.result_of(listed(world), None, raw=raw))) == "DPT-ANSWER-UNREADABLE"


def test_a_list_that_no_policy_can_judge_is_refused() -> None:
    world = ExtMcpWorld()
    message = world.result_of(listed(world), TOOLS)
    world.policy.answer = ZeroDivisionError()
    assert reason(world.answer(message)) == "DPT-INTERNAL"


def test_a_fault_withholds_the_result() -> None:
    world = ExtMcpWorld()
    data = world.result_of(listed(world), TOOLS).SerializeToString()
    broken = replace(world.service(), targets=None)  # type: ignore[arg-type]  # the fault
    told_of = asyncio.run(broken.check_response(data, GATEWAY))
    assert reason(pb.McpResponseResult.FromString(told_of)) == "DPT-INTERNAL"


def test_a_fault_of_the_guard_withholds_the_result() -> None:
    world = ExtMcpWorld()
    message = world.result_of(listed(world), TOOLS)
    world.rights.agents = None  # type: ignore[assignment]  # the fault
    assert reason(world.answer(message)) == "DPT-INTERNAL"


def test_a_result_that_cannot_be_read_is_refused_as_the_flow_refuses() -> None:
    world = ExtMcpWorld()
    for data in (b"\xff", pb.McpResponse(method="tools/list").SerializeToString()):
        assert reason(world.answer(data)) == "DPT-REQUEST-MALFORMED"
    unknown = world.result_of(listed(world), TOOLS).SerializeToString() + b"\x9a\x06\x01a"
    assert reason(world.answer(unknown)) == "DPT-REQUEST-MALFORMED"


def test_a_denied_call_has_no_passage() -> None:
    world = ExtMcpWorld()
    world.policy.answer = DENY
    assert not world.ask(world.message()).metadata.fields


def test_no_result_is_in_a_representation() -> None:
    world = ExtMcpWorld()
    message = world.result_of(listed(world), {"tools": [], "secret": "s3cret"})
    assert "s3cret" not in repr(Answered.parse(message.SerializeToString()))
