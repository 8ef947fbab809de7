"""Who takes how much of what all answers share: places, memory, time."""

import pytest

from authz.answers.room import Room, StreamLimits
from authz.answers.shares import BURST_SECONDS, Shares
from authz.codes import Code
from authz.errors import AnswerError
from authz.sessions.port import Owner

ANA, BEN = "oidc:ana", "oidc:ben"


def is_full(room: Room, owner: Owner) -> bool:
    try:
        room.enter(owner)
    except AnswerError as error:
        assert error.code is Code.OVERLOADED
        return True
    return False


def test_one_person_cannot_take_an_agent_from_all_others() -> None:
    room = Room(StreamLimits(streams_of_owner=2, streams_of_agent=3))
    assert [is_full(room, Owner(ANA, "bot")) for _ in range(3)] == [False, False, True]
    assert [is_full(room, Owner(BEN, "bot")) for _ in range(2)] == [False, True]
    assert not is_full(room, Owner(ANA, "other"))


def test_an_agent_of_nobody_has_what_an_agent_has() -> None:
    room = Room(StreamLimits(streams_of_owner=1, streams_of_agent=2))
    assert [is_full(room, Owner(None, "bot")) for _ in range(3)] == [False, False, True]


def test_open_answers_leave_room_for_those_that_pass_at_once() -> None:
    limits = StreamLimits()
    assert limits.open_streams < limits.streams
    room = Room(StreamLimits(open_streams=2))
    assert [is_full(room, Owner(None, name)) for name in "abc"] == [False, False, True]


def test_who_leaves_makes_room() -> None:
    room = Room(StreamLimits(open_streams=1, streams_of_owner=1, streams_of_agent=1))
    for _ in range(3):
        room.enter(Owner(ANA, "bot"))
        room.leave(Owner(ANA, "bot"))


def test_a_server_that_never_ends_its_lists_leaves_room_for_others() -> None:
    room = Room(StreamLimits(held_bytes=100, held_bytes_of_service=40))
    room.hold("hostile", 40)
    with pytest.raises(AnswerError) as caught:
        room.hold("hostile", 1)
    assert caught.value.code is Code.OVERLOADED
    # What was refused is let go by whoever held it.
    room.hold("hostile", -1)
    room.hold("honest", 40)
    with pytest.raises(AnswerError):
        room.hold("another", 21)
    room.hold("hostile", -40)
    room.hold("another", 19)


def test_a_service_waits_as_long_as_it_took_and_others_do_not() -> None:
    shares = Shares()
    shares.charge("hostile", BURST_SECONDS / 2, 0.0)
    assert shares.wait("hostile", 0.0) == 0
    shares.charge("hostile", 1.0, 1.0)
    assert shares.wait("hostile", 1.0) == pytest.approx(2.0 - BURST_SECONDS)
    assert shares.wait("honest", 1.0) == 0
    assert shares.wait("hostile", 3.0) == 0


def test_a_clock_that_goes_back_frees_nobody() -> None:
    shares = Shares()
    shares.charge("hostile", 1.0, 10.0)
    assert shares.wait("hostile", 5.0) == pytest.approx(2.0 - BURST_SECONDS)
