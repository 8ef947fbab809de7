"""Tools over HTTP: who sees what they are, who accepts it, and that it is what they looked at."""

import json
from pathlib import Path

import httpx2
import pytest

from authz.codes import Code
from tests.admin_world import uri
from tests.administration_world import (
    ADA,
    ALICE,
    DEPLOY,
    LOCAL,
    NOBODY,
    OLGA,
    OONA,
    Play,
    Who,
    World,
    play_in,
)
from tests.pins_world import BAD, EVIL, GOOD, TOOL, declared
from tests.test_administration import no, ok

AT = f"/pins/billing/{GOOD.name}"
OTHER = declared(description="Deletes one customer, or several.")


@pytest.fixture
def play(tmp_path: Path) -> Play:
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    return play_in(directory)


async def accept(world: World, who: Who, digest: str = BAD.digest, **body: object) -> httpx2.Response:
    return await world.post(who, f"{AT}/accept", {"digest": digest, **body})


async def forget(world: World, who: Who, **body: object) -> httpx2.Response:
    return await world.post(who, f"{AT}/forget", body)


def drifted(world: World) -> None:
    world.pins.learn(GOOD)
    world.pins.learn(BAD)


def test_a_change_is_seen_in_words_accepted_and_recorded_without_them(play: Play) -> None:
    async def scenario(world: World) -> None:
        drifted(world)
        (row,) = ok(await world.get(OLGA, "/pins"))["pins"]
        assert (row["service"], row["tool"], row["state"]) == ("billing", GOOD.name, "changed")
        assert (row["refused"], row["mode"]) == ("DPT-TOOL-CHANGED", "learn")
        assert (row["accepted_by"], row["accepted_sha256"]) == ("learned", GOOD.digest)
        assert row["waiting_sha256"] == BAD.digest
        (line,) = row["changes"]
        assert line.startswith("description changed")
        assert "accepted" not in row
        shown = ok(await world.get(OLGA, AT))
        assert (shown["accepted"], shown["waiting"]["description"]) == (TOOL, EVIL)
        accepted = ok(await accept(world, OLGA, reason="we asked for it"))
        assert (accepted["state"], accepted["accepted_by"]) == ("accepted", uri("olga"))
        assert accepted["changes"] == []
        assert world.pins.refusal(mode="require") is None
        record = world.last
        assert (record["action"], record["outcome"], record["by"]) == ("pins/accept", "ordered", uri("olga"))
        assert record["subject"] == f"tool billing/{GOOD.name}"
        assert record["detail"] == f"accepts sha256 {BAD.digest}, before {GOOD.digest}"
        assert record["reason"] == "we asked for it"
        assert "IMPORTANT" not in str(world.records)
        assert ok(await world.get(OLGA, "/pins"))["pins"] == []

    play(scenario)


def test_an_acceptance_is_on_the_disk_before_it_counts(play: Play) -> None:
    async def scenario(world: World) -> None:
        drifted(world)
        seen: list[object] = []
        world.sink.meanwhile = lambda: seen.append(world.pins.refusal())
        ok(await accept(world, LOCAL))
        assert seen == ["TOOL_CHANGED"]
        assert world.sink.entries[-1].is_durable

    play(scenario)


def test_a_swap_between_the_look_and_the_acceptance_is_accepted_by_nobody(play: Play) -> None:
    async def scenario(world: World) -> None:
        world.pins.learn(GOOD)
        world.pins.learn(OTHER)
        world.pins.after = 60

        def swap() -> None:
            world.pins.learn(BAD)

        world.policy.meanwhile = swap
        no(await accept(world, OLGA, OTHER.digest), 409, Code.CHANGED)
        assert world.pins.refusal() == "TOOL_CHANGED"
        assert world.last["outcome"] == "failed"
        no(await accept(world, OLGA, "0" * 64), 409, Code.CHANGED)

    play(scenario)


def test_what_was_reviewed_elsewhere_is_accepted_with_its_text(play: Play) -> None:
    async def scenario(world: World) -> None:
        pipeline = world.workload(DEPLOY)
        text = GOOD.text.decode()
        ok(await accept(world, pipeline, GOOD.digest, declaration=text))
        assert world.last["detail"] == f"accepts sha256 {GOOD.digest}, before nothing"
        assert world.pins.refusal(mode="require") is None
        assert world.pins.file.declarations("billing", GOOD.name)[GOOD.digest] == TOOL
        # The name in the text is not what counts: it is a tool of this name.
        renamed = json.dumps({**TOOL, "name": "other"})
        ok(await accept(world, pipeline, GOOD.digest, declaration=renamed))

    play(scenario)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"digest": ""},
        {"digest": GOOD.digest.upper()},
        {"digest": f"{GOOD.digest}\n"},
        {"digest": GOOD.digest[:16]},
        {"digest": GOOD.digest, "unknown": 1},
        {"digest": GOOD.digest, "reason": "a\nb"},
        {"digest": GOOD.digest, "declaration": TOOL},
        {"digest": GOOD.digest, "declaration": "{"},
        {"digest": GOOD.digest, "declaration": "[]"},
        {"digest": GOOD.digest, "declaration": '{"a":1,"a":2}'},
        {"digest": GOOD.digest, "declaration": BAD.text.decode()},
    ],
)
def test_refuses_an_acceptance_of_something_else(play: Play, body: dict[str, object]) -> None:
    async def scenario(world: World) -> None:
        world.pins.learn(GOOD)
        no(await world.post(LOCAL, f"{AT}/accept", body), 400, Code.REQUEST_MALFORMED)
        assert world.pins.pin().state == "learned"

    play(scenario)


@pytest.mark.parametrize("path", ["/pins/billing/other", "/pins/nowhere/x", "/pins/tickets/delete_customer"])
def test_what_there_is_not_is_said_to_those_who_may_know(play: Play, path: str) -> None:
    async def scenario(world: World) -> None:
        world.pins.learn(GOOD)
        for send, more in (("GET", ""), ("POST", "/accept"), ("POST", "/forget")):
            body = {"digest": GOOD.digest} if more == "/accept" else {}
            given = {} if send == "GET" else {"json": body}
            no(await world.call(LOCAL, send, path + more, **given), 400, Code.REQUEST_MALFORMED)
            no(await world.call(ALICE, send, path + more, **given), 403, Code.NOT_PERMITTED)

    play(scenario)


def test_a_list_of_one_service_has_all_its_tools_and_of_all_what_waits(play: Play) -> None:
    async def scenario(world: World) -> None:
        drifted(world)
        world.pins.learn(declared("other"))
        world.pins.learn(declared("other"), mode="require", service="tickets")
        found = ok(await world.get(ADA, "/pins"))
        assert [(each["service"], each["tool"]) for each in found["pins"]] == [
            ("billing", GOOD.name),
            ("tickets", "other"),
        ]
        assert found["services"] == [
            {"name": "billing", "mode": "learn", "tools": 2, "refused": 1},
            {"name": "notes", "mode": "off", "tools": 0, "refused": 0},
            {"name": "tickets", "mode": "require", "tools": 1, "refused": 1},
        ]
        assert found["total"] == 2
        of = ok(await world.get(LOCAL, "/pins", params={"service": "billing"}))
        assert [each["tool"] for each in of["pins"]] == [GOOD.name, "other"]
        no(await world.get(LOCAL, "/pins", params={"service": "nowhere"}), 400, Code.REQUEST_MALFORMED)
        no(await world.get(LOCAL, "/pins", params={"tool": "x"}), 400, Code.REQUEST_MALFORMED)

    play(scenario)


def test_what_went_back_is_still_to_be_seen(play: Play) -> None:
    async def scenario(world: World) -> None:
        drifted(world)
        world.pins.learn(GOOD)
        (row,) = ok(await world.get(LOCAL, "/pins"))["pins"]
        assert (row["state"], row["refused"], row["drift_sha256"]) == ("learned", None, BAD.digest)
        assert row["changes"][0].startswith("description changed")
        shown = ok(await world.get(LOCAL, AT))
        assert shown["accepted"] == TOOL

    play(scenario)


def test_what_is_not_kept_is_accepted_by_nobody(play: Play) -> None:
    async def scenario(world: World) -> None:
        long = declared(description="x" * 100_000)
        world.pins.learn(long)
        (row,) = ok(await world.get(LOCAL, "/pins"))["pins"]
        assert (row["waiting_sha256"], row["changes"]) == (
            None,
            ["the declaration is too long, or there is no room for it: nobody can accept it"],
        )
        no(await accept(world, LOCAL, long.digest), 409, Code.CHANGED)
        response = await accept(world, LOCAL, long.digest, declaration=long.text.decode())
        no(response, 413, Code.BODY_TOO_LARGE)

    play(scenario)


def test_who_owns_an_agent_or_is_nobody_accepts_no_tool(play: Play) -> None:
    """An agent that could accept what its servers declare would be told to."""

    async def scenario(world: World) -> None:
        drifted(world)
        for who in (OONA, ADA, ALICE):
            no(await accept(world, who), 403, Code.NOT_PERMITTED)
            no(await forget(world, who), 403, Code.NOT_PERMITTED)
        no(await accept(world, NOBODY), 401, Code.PEER_MISSING)
        assert world.pins.refusal() == "TOOL_CHANGED"

    play(scenario)


def test_a_forgotten_tool_is_recorded_with_what_it_was(play: Play) -> None:
    async def scenario(world: World) -> None:
        drifted(world)
        body = ok(await forget(world, LOCAL, reason="renamed"))
        assert body == {"service": "billing", "tool": GOOD.name, "forgotten": True}
        assert (world.last["action"], world.last["detail"]) == ("pins/forget", f"before sha256 {GOOD.digest}")
        assert world.pins.refusal(mode="require") == "TOOL_UNPINNED"
        no(await forget(world, LOCAL), 400, Code.REQUEST_MALFORMED)

    play(scenario)


def test_nothing_is_accepted_where_the_policy_or_the_log_cannot_be_had(play: Play) -> None:
    async def scenario(world: World) -> None:
        drifted(world)
        world.policy.is_down = True
        no(await accept(world, LOCAL), 503, Code.POLICY_UNAVAILABLE)
        no(await forget(world, LOCAL), 503, Code.POLICY_UNAVAILABLE)
        assert world.pins.refusal() == "TOOL_CHANGED"

    play(scenario)
