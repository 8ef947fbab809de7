"""Tokens that are bound to a key of proofs, at `Check` (CA-05, RFC 9449), and tools that a token is for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from authz.errors import StoreError
from authz.pb import ext_authz_pb2 as pb
from authz.replay import MAX_OF_PRESENTER, ReplayMemory
from authz.store.replay import ReplayFile
from identity.argument_limit import ArgumentLimit
from identity.authorization_details import Detail
from identity.caller import DpopBinding, WorkloadBinding
from identity.canonical import arguments_sha256
from identity.withdrawal import Withdrawal, Withdrawals
from tests.dpop_proofs import KEY, proof
from tests.fakes import NOW, RUNNER, TICKETS, WEB, Run, World, reason

SECONDS = int(NOW.timestamp())
URI = "https://tickets.mesh.example/mcp"
OK = 0


def bound(made: World, run: Run, **more: object) -> str:
    return made.token(run, binding=DpopBinding(KEY.kid), **more)


def send(
    made: World, run: Run, token: str, *proofs: str, scheme: str = "DPoP", http_id: str = "1", **parts: object
) -> pb.CheckResponse:
    headers = [("content-type", "application/json"), ("authorization", f"{scheme} {token}")]
    headers += [("dpop", each) for each in proofs]
    given: dict[str, object] = {"headers": headers, "host": "tickets.mesh.example", **parts}
    message = pb.CheckRequest.FromString(made.request(None, run, **given))
    message.attributes.request.http.id = http_id
    return made.check(message.SerializeToString())


def fresh(token: str, number: int = 0, **changes: Any) -> str:
    return proof(token, **{"htu": URI, "iat": SECONDS, "jti": f"{number:022d}", **changes})


def test_ca05_a_bound_token_counts_with_its_proof() -> None:
    """CA-05: the policy sees a key, and the caller's proof goes no further."""
    made = World()
    run = made.run("triage")
    token = bound(made, run)
    response = send(made, run, token, fresh(token))
    assert response.status.code == OK
    assert {"authorization", "dpop"} <= set(response.ok_response.headers_to_remove)
    assert made.policy.asked[-1]["binding"] == "key"
    # Whoever holds the key, from whichever workload.
    assert send(made, run, token, fresh(token, 1), principal=str(WEB), certificate="").status.code == OK


@pytest.mark.parametrize("scheme", ["dpop", "DPOP", "DPoP"])
def test_the_scheme_is_read_in_any_case(scheme: str) -> None:
    made = World()
    run = made.run("triage")
    token = bound(made, run)
    assert send(made, run, token, fresh(token), scheme=scheme).status.code == OK


def test_ca05_a_bound_token_is_no_bearer_token() -> None:
    """CA-05: RFC 9449 section 7.1: under `Bearer` it is refused, with its proof too."""
    made = World()
    run = made.run("triage")
    token = bound(made, run)
    assert reason(send(made, run, token, fresh(token), scheme="Bearer")) == "DPT-DPOP-MISSING"
    assert reason(send(made, run, token, scheme="Bearer")) == "DPT-DPOP-MISSING"
    assert reason(send(made, run, token)) == "DPT-DPOP-MISSING"
    assert not made.policy.asked


def challenge(response: pb.CheckResponse) -> str:
    headers = {option.header.key: option.header.value for option in response.denied_response.headers}
    return headers["www-authenticate"]


def test_ca05_the_client_is_told_to_make_a_proof() -> None:
    """CA-05: RFC 9449 section 7.1: the challenge is of scheme `DPoP`, with the algorithms that count."""
    made = World()
    run = made.run("triage")
    token = bound(made, run)
    missing = challenge(send(made, run, token, scheme="Bearer"))
    assert missing.startswith('DPoP error="invalid_token", error_description="the token is bound to a key')
    assert 'algs="' in missing
    assert " ES256 " in missing.replace('"', " ")
    wrong = challenge(send(made, run, token, fresh(token, htm="GET")))
    assert wrong.startswith('DPoP error="invalid_dpop_proof", ')


def test_ca05_a_proof_on_another_token_is_no_binding() -> None:
    """CA-05: a token without `cnf.jkt` under `DPoP` is refused, whatever proof is beside it."""
    made = World()
    run, autonomous = made.run("triage"), made.run("nightly-report", human=None)
    for token, who in (
        (made.token(run), run),
        (made.token(run, binding=WorkloadBinding(RUNNER)), run),
        (made.svid(autonomous), autonomous),
    ):
        assert reason(send(made, who, token, fresh(token))) == "DPT-DPOP-INVALID"


def test_another_scheme_is_no_credential() -> None:
    made = World()
    run = made.run("triage")
    for scheme in ("Basic", "Txn-Token", "DPoP,Bearer", ""):
        assert reason(send(made, run, made.token(run), scheme=scheme)) == "DPT-TOKEN-MISSING"


@pytest.mark.parametrize(
    "changes",
    [
        {"htm": "GET"},
        {"htu": "https://billing.mesh.example/mcp"},
        {"htu": "https://tickets.mesh.example/other"},
        {"iat": SECONDS - 400},
        {"iat": SECONDS + 400},
        {"ath": None},
        {"ath": "A" * 43},
    ],
)
def test_ca05_a_proof_of_something_else(changes: dict[str, Any]) -> None:
    """CA-05: another method, URI, time or token. The record names the owner: it may be a theft."""
    made = World()
    run = made.run("triage")
    token = bound(made, run)
    assert reason(send(made, run, token, fresh(token, **changes))) == "DPT-DPOP-INVALID"
    (record,) = made.records()
    assert (record["task"], record["code"]) == (run.task.id, "DPT-DPOP-INVALID")


def test_ca05_a_proof_of_another_key() -> None:
    """CA-05: the thief of a token has a key, but not this one."""
    made = World()
    run = made.run("triage")
    token = made.token(run, binding=DpopBinding("A" * 43))
    assert reason(send(made, run, token, fresh(token))) == "DPT-DPOP-INVALID"


def test_ca05_two_proofs_are_none() -> None:
    """CA-05: exactly one `DPoP` header."""
    made = World()
    run = made.run("triage")
    token = bound(made, run)
    assert reason(send(made, run, token, fresh(token), fresh(token, 1))) == "DPT-HEADER-DUPLICATE"


def test_jw09_a_proof_counts_once() -> None:
    """JW-09: who replays it is recorded as a thief, with the owner's name."""
    made = World()
    run = made.run("triage")
    token = bound(made, run)
    assert send(made, run, token, fresh(token), http_id="1").status.code == OK
    again = send(made, run, token, fresh(token), http_id="2")
    assert (reason(again), again.denied_response.status.code) == ("DPT-REPLAYED", 401)
    assert made.records()[-1]["task"] == run.task.id
    assert len(made.policy.asked) == 1
    assert send(made, run, token, fresh(token, 1), http_id="3").status.code == OK


def test_the_proxy_may_ask_again_about_one_request() -> None:
    made = World()
    run = made.run("triage")
    token = bound(made, run)
    given = fresh(token)
    assert [send(made, run, token, given, http_id="1").status.code for _ in range(3)] == [OK] * 3
    # A request that the proxy does not count is not the same one as any.
    other = fresh(token, 1)
    assert send(made, run, token, other, http_id="").status.code == OK
    assert reason(send(made, run, token, other, http_id="")) == "DPT-REPLAYED"


def test_a_proof_is_spent_once_though_rights_move_meanwhile() -> None:
    """Whoever is looked at again is not asked for another proof."""
    made = World()
    run = made.run("triage")
    token = bound(made, run)

    def move() -> None:
        made.rights.epoch += 1

    made.policy.act = move
    assert send(made, run, token, fresh(token), http_id="").status.code == OK


def test_jw09_where_it_cannot_be_known_nobody_passes() -> None:
    """JW-09: the memory is down, or full of this presenter's: unavailable, never allowed."""
    made = World()
    run = made.run("triage")
    token = bound(made, run)

    class Broken(ReplayMemory):
        def first_time(self, *_: object, **__: object) -> bool:
            raise StoreError("down")

    made.replay = Broken()
    response = send(made, run, token, fresh(token))
    assert (reason(response), response.denied_response.status.code) == ("DPT-REPLAY-UNKNOWN", 503)
    assert MAX_OF_PRESENTER > 1
    made.replay = ReplayMemory(max_of_presenter=1)
    assert send(made, run, token, fresh(token, 1)).status.code == OK
    assert reason(send(made, run, token, fresh(token, 2))) == "DPT-REPLAY-UNKNOWN"


def test_jw09_the_file_that_replicas_share(tmp_path: Path) -> None:
    """JW-09: what was spent at one process counts at no other."""
    made = World()
    run = made.run("triage")
    token = bound(made, run)
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    one, other = ReplayFile.open(directory / "replay.db"), ReplayFile.open(directory / "replay.db")
    made.replay = one
    assert send(made, run, token, fresh(token), http_id="1").status.code == OK
    made.replay = other
    assert reason(send(made, run, token, fresh(token), http_id="2")) == "DPT-REPLAYED"
    one.close()
    other.close()


def test_a_stranger_s_proof_spends_nothing() -> None:
    """Whoever is refused before has not used up the owner's proof."""
    made = World()
    run = made.run("triage")
    token = bound(made, run)
    made.rights.withdrawals = Withdrawals.of([Withdrawal("agent", "triage", None, "why", "who", NOW)])
    assert reason(send(made, run, token, fresh(token))) == "DPT-CONTAINED"
    made.rights.withdrawals = Withdrawals()
    assert send(made, run, token, fresh(token)).status.code == OK


# ---------------------------------------------------------------- tools that a token is for


def body(tool: str = "read_ticket", method: str = "tools/call", **arguments: object) -> bytes:
    params: dict[str, object] = {"name": tool, "arguments": arguments} if method == "tools/call" else {}
    if method == "prompts/get":
        params = {"name": tool}
    return json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).encode()


def asked(made: World, data: bytes, *details: Detail) -> str:
    run = made.run("triage")
    response = made.check(made.request(made.token(run, details=details), run, body=data))
    assert (response.status.code == OK) == (reason(response) == "")
    return reason(response)


def test_nr04_details_name_the_only_tools() -> None:
    """NR-04: the tool as the policy knows it, of the service whose audience the location is."""
    made = World()
    mine = Detail(TICKETS, "read_ticket")
    assert asked(made, body(), mine) == ""
    assert asked(made, body("close_ticket"), mine) == "DPT-DETAILS"
    assert asked(made, body(), Detail("https://billing.mesh.example", "read_ticket")) == "DPT-DETAILS"
    assert asked(made, body("close_ticket"), mine, Detail(TICKETS, "close_ticket")) == ""


def test_nr04_a_gateway_s_prefix_is_none_of_the_tool_s_name() -> None:
    """NR-04: whoever puts the prefix into a detail covers nothing."""
    made = World()
    prefixed = replace(
        made.services.by_name["tickets"],
        route=replace(made.services.by_name["tickets"].route, tool_prefix="t__"),
    )
    made.services = replace(made.services, by_name={**made.services.by_name, "tickets": prefixed})
    assert asked(made, body("t__read_ticket"), Detail(TICKETS, "read_ticket")) == ""
    assert asked(made, body("t__read_ticket"), Detail(TICKETS, "t__read_ticket")) == "DPT-DETAILS"


def test_nr04_limits_and_hash_of_the_arguments() -> None:
    """NR-04: a value beyond a limit, a missing one, another hash."""
    made = World()
    small = Detail(TICKETS, "read_ticket", None, (ArgumentLimit.parse({"path": "/count", "max": 3}),))
    assert asked(made, body(count=3), small) == ""
    for arguments in ({"count": 4}, {"count": "3"}, {"count": True}, {}):
        assert asked(made, body(**arguments), small) == "DPT-DETAILS"
    exact = Detail(TICKETS, "read_ticket", arguments_sha256({"ticket": "T-1"}))
    assert asked(made, body(ticket="T-1"), exact) == ""
    assert asked(made, body(ticket="T-2"), exact) == "DPT-DETAILS"


@pytest.mark.parametrize("method", ["initialize", "ping", "tools/list", "prompts/list"])
def test_nr04_list_and_lifecycle_pass(method: str) -> None:
    """NR-04: what keeps a session going, and what asks what there is."""
    params: dict[str, object] = {}
    if method == "initialize":
        params = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "a", "version": "1"},
        }
    data = json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).encode()
    assert asked(World(), data, Detail(TICKETS, "read_ticket")) == ""


def test_nr04_a_call_of_what_is_no_tool_is_not_covered() -> None:
    """NR-04: a prompt with the tool's name is another thing."""
    made = World()
    assert asked(made, body(method="prompts/get"), Detail(TICKETS, "read_ticket")) == "DPT-DETAILS"


def test_a_call_beyond_the_details_is_recorded_and_not_asked_about() -> None:
    made = World()
    assert asked(made, body("close_ticket"), Detail(TICKETS, "read_ticket")) == "DPT-DETAILS"
    (record,) = made.records()
    assert (record["effect"], record["agent"]) == ("deny", "triage")
    assert "close_ticket" in str(record)
    assert not made.policy.asked
