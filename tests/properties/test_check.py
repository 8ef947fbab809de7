"""Two properties of the flow, over any bytes and over real requests with something changed.

1. Whatever comes in: no exception, a status, a reason code for each denial, one record or one count.
2. An allow comes only with exactly one allow of the policy, one allow record, and no `withdrawn`.
"""

import random
from dataclasses import replace
from functools import cache

from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from authz.codes import find_code
from authz.pb import ext_authz_pb2 as pb
from tests.fakes import ALLOW, APPROVE, DENY, GATEWAY, NOW, WEB, Run, World, reason

ANSWERS = st.sampled_from([ALLOW, DENY, APPROVE, {}, None, ValueError("bug"), MemoryError()])


@cache
def _cast() -> tuple[World, Run, str]:
    """Make keys and tokens once; the flow keeps nothing of a call."""
    world = World()
    run = world.run("triage")
    return world, run, world.token(run)


def _assert_sound(data: bytes, answer: object, *, revoked: bool, full: bool) -> None:
    world, run, _ = _cast()
    world.sink.entries.clear()
    world.policy.asked.clear()
    world.policy.answer = answer
    world.sink.full_after = 0 if full else None

    task = run.task
    world.rights.tasks[task.id] = task
    _counted(world)

    def revoke() -> None:
        world.rights.tasks[task.id] = replace(task, ended_at=NOW)
        world.rights.epoch += 1

    world.policy.act = revoke if revoked else lambda: None
    response = world.check(data)
    assert response.HasField("status")
    effects = [entry.fields["effect"] for entry in world.sink.entries]
    kinds = [entry.kind for entry in world.sink.entries]
    if response.status.code == 0:
        assert (answer, len(world.policy.asked), revoked, full) == (ALLOW, 1, False, False)
        assert (effects, kinds) == (["allow"], ["decision"])
        assert not response.HasField("denied_response")
    else:
        assert find_code(reason(response)) is not None
        assert response.denied_response.status.code >= 200
        assert effects.count("allow") == kinds.count("withdrawn")
        assert full or kinds.count("decision") + _counted(world) == 1


def _counted(world: World) -> int:
    """Return how many refusals were counted only since the last look; the clock stands, so most are."""
    return sum(summary.count for summary in world.strangers.due(NOW, final=True))


@given(st.binary(max_size=4096), ANSWERS)
def test_any_bytes(data: bytes, answer: object) -> None:
    _assert_sound(data, answer, revoked=False, full=False)


@given(st.integers(0, 2**32), ANSWERS, st.booleans(), st.booleans())
def test_real_requests_with_flipped_bytes(seed: int, answer: object, revoked: bool, full: bool) -> None:
    world, run, token = _cast()
    data = bytearray(world.request(token, run))
    chance = random.Random(seed)
    for _ in range(chance.choice([0, 0, 1, 1, 2, 8])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    _assert_sound(bytes(data), answer, revoked=revoked, full=full)


PART = st.one_of(st.binary(max_size=64), st.text(max_size=64).map(str.encode))
PRINTABLE = st.characters(codec="ascii", exclude_categories=["C"])
BODIES = [b"[]", b"{}", b"null", b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}']
NAMES = ["content-type", "mcp-method", "x-deputy-a", "Ab", ""]


@given(
    bearer=st.one_of(st.none(), st.text(PRINTABLE, max_size=200)),
    body=st.one_of(PART, st.sampled_from(BODIES)),
    method=st.sampled_from(["GET", "POST", "DELETE", "PUT", "CONNECT", "", "post"]),
    path=st.sampled_from(["/mcp", "", "*", "//mcp", "/mcp%2f", "/../mcp", "http://x/", "/mcp?x#y"]),
    headers=st.lists(st.tuples(st.sampled_from(NAMES), PART), max_size=4),
    size=st.one_of(st.none(), st.integers(-2, 300)),
    principal=st.one_of(st.sampled_from([str(WEB), "", "spiffe://"]), st.text(max_size=32)),
    certificate=st.text(max_size=64),
)
def test_requests_of_any_parts(**parts: object) -> None:
    world, run, token = _cast()
    bearer = parts.pop("bearer")
    try:
        data = world.request(token if bearer == "" else bearer, run, **parts)  # type: ignore[arg-type]  # as drawn
    except (ValueError, DecodeError):
        return  # not even protobuf can carry it
    _assert_sound(data, ALLOW, revoked=False, full=False)


def test_the_unchanged_request_is_allowed() -> None:
    """Else the properties above would hold of a flow that refuses everything."""
    world, run, token = _cast()
    world.policy.answer, world.policy.act, world.sink.full_after = ALLOW, lambda: None, None
    assert world.check(world.request(token, run), GATEWAY).status.code == pb.Status().code
