"""What a stream of secret discovery is due, request by request: the rules of xDS, and what breaks them."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from hypothesis import given
from hypothesis import strategies as st

from identity.pb import sds_pb2 as pb
from identity.sds_secrets import NamedSecret
from identity.sds_stream import MAX_LINES, MAX_NAME, MAX_NAMES, DeltaSubscription, WorldSubscription

NONE: frozenset[str] = frozenset()


def secrets(**versions: str) -> dict[str, NamedSecret]:
    return {
        name: NamedSecret(name, version, AnyMessage(value=f"{name} {version}".encode()))
        for name, version in versions.items()
    }


def ask(*names: str, nonce: str = "", version: str = "", refused: str | None = None) -> pb.DiscoveryRequest:
    request = pb.DiscoveryRequest(resource_names=names, response_nonce=nonce, version_info=version)
    if refused is not None:
        request.error_detail.message = refused
    return request


def change(
    *names: str,
    minus: tuple[str, ...] = (),
    nonce: str = "",
    refused: str | None = None,
    has: dict[str, str] | None = None,
) -> pb.DeltaDiscoveryRequest:
    request = pb.DeltaDiscoveryRequest(
        resource_names_subscribe=names,
        resource_names_unsubscribe=minus,
        response_nonce=nonce,
        initial_resource_versions=has or {},
    )
    if refused is not None:
        request.error_detail.message = refused
    return request


def world(*names: str, **versions: str) -> tuple[WorldSubscription, pb.DiscoveryResponse]:
    """A stream that has asked for names and got its first answer."""
    stream = WorldSubscription()
    stream.receive(ask(*names))
    answer = stream.answer(secrets(**versions), NONE)
    assert answer is not None
    return stream, answer


def delta(*names: str, **versions: str) -> tuple[DeltaSubscription, pb.DeltaDiscoveryResponse]:
    stream = DeltaSubscription()
    stream.receive(change(*names))
    answer = stream.answer(secrets(**versions), NONE)
    assert answer is not None
    return stream, answer


def bodies(answer: pb.DiscoveryResponse | None) -> list[str]:
    assert answer is not None
    return [body.value.decode() for body in answer.resources]


def sent(answer: pb.DeltaDiscoveryResponse | None) -> dict[str, str]:
    assert answer is not None
    return {resource.name: resource.version for resource in answer.resources}


# ---- state of the world


def test_the_first_request_is_answered_with_all_that_it_names() -> None:
    _, answer = world("a", "b", a="1", b="1")
    assert bodies(answer) == ["a 1", "b 1"]
    assert answer.nonce
    assert answer.version_info


def test_a_first_request_for_nothing_that_exists_is_answered_so_that_nobody_waits() -> None:
    _, answer = world("unknown")
    assert bodies(answer) == []


def test_an_ack_is_not_answered() -> None:
    stream, answer = world("a", a="1")
    stream.receive(ask("a", nonce=answer.nonce, version=answer.version_info))
    assert not stream.is_due
    assert stream.answer(secrets(a="1"), NONE) is None


def test_a_nack_is_logged_and_not_answered_with_what_was_refused() -> None:
    stream, answer = world("a", a="1")
    for _ in range(5):
        stream.receive(ask("a", nonce=answer.nonce, refused="bad\nkey"))
        assert not stream.is_due
        assert stream.answer(secrets(a="1"), NONE) is None
    assert stream.take_lines() == [r"refused by the client: 'bad\nkey'"]
    assert bodies(stream.answer(secrets(a="2"), NONE)) == ["a 2"]


def test_a_changed_version_is_pushed_once() -> None:
    stream, first = world("a", "b", a="1", b="1")
    second = stream.answer(secrets(a="2", b="1"), NONE)
    assert bodies(second) == ["a 2", "b 1"]
    assert second is not None
    assert second.nonce != first.nonce
    assert second.version_info != first.version_info
    assert stream.answer(secrets(a="2", b="1"), NONE) is None


def test_a_stale_nonce_is_ignored_names_and_all() -> None:
    stream, first = world("a", a="1")
    stream.answer(secrets(a="2"), NONE)
    stream.receive(ask("a", "b", nonce=first.nonce))
    assert not stream.is_due
    assert stream.wanted(()) == ("a",)


def test_a_nonce_that_we_never_gave_is_ignored() -> None:
    stream, _ = world("a", a="1")
    stream.receive(ask("b", nonce="99"))
    assert stream.wanted(()) == ("a",)


def test_a_nonce_of_an_earlier_stream_does_not_hide_the_first_request() -> None:
    stream = WorldSubscription()
    stream.receive(ask("a", nonce="7", version="v"))
    assert bodies(stream.answer(secrets(a="1"), NONE)) == ["a 1"]


def test_a_name_that_is_added_is_answered_and_one_that_is_dropped_is_not() -> None:
    stream, first = world("a", a="1")
    stream.receive(ask("a", "b", nonce=first.nonce))
    second = stream.answer(secrets(a="1", b="1"), NONE)
    assert bodies(second) == ["a 1", "b 1"]
    assert second is not None
    stream.receive(ask("b", nonce=second.nonce))
    assert not stream.is_due
    assert stream.answer(secrets(b="1"), NONE) is None


def test_a_name_that_was_dropped_is_sent_again_when_it_is_asked_for_again() -> None:
    stream, first = world("a", "b", a="1", b="1")
    stream.receive(ask("b", nonce=first.nonce))
    stream.receive(ask("a", "b", nonce=first.nonce))
    assert bodies(stream.answer(secrets(a="1", b="1"), NONE)) == ["a 1", "b 1"]


def test_to_drop_the_last_name_is_to_want_nothing_and_not_everything() -> None:
    stream, first = world("a", a="1")
    stream.receive(ask(nonce=first.nonce))
    assert stream.wanted(("a", "b")) == ()
    assert stream.answer({}, NONE) is None


@pytest.mark.parametrize("names", [(), ("*",), ("",)])
def test_to_name_nothing_at_first_is_to_want_everything(names: tuple[str, ...]) -> None:
    stream, _ = world(*names, a="1")
    assert stream.wanted(("b", "a")) == ("a", "b")


def test_everything_can_be_asked_for_beside_names_and_given_back() -> None:
    stream, first = world("default", default="1")
    stream.receive(ask("default", "*", nonce=first.nonce))
    assert stream.wanted(("a",)) == ("a", "default")
    second = stream.answer(secrets(a="1", default="1"), NONE)
    assert bodies(second) == ["a 1", "default 1"]
    assert second is not None
    stream.receive(ask("default", nonce=second.nonce))
    assert stream.wanted(("a",)) == ("default",)


def test_what_is_gone_is_missing_from_the_next_answer() -> None:
    stream, _ = world("a", "b", a="1", b="1")
    assert bodies(stream.answer(secrets(a="1"), NONE)) == ["a 1"]
    assert stream.answer(secrets(a="1"), NONE) is None


def test_what_cannot_be_issued_now_is_neither_gone_nor_new() -> None:
    stream, _ = world("a", "b", a="1", b="1")
    assert stream.answer(secrets(b="1"), frozenset("a")) is None
    assert bodies(stream.answer(secrets(b="2"), frozenset("a"))) == ["b 2"]
    assert stream.answer(secrets(a="1", b="2"), NONE) is None
    assert stream.answer(secrets(a="2", b="2"), NONE) is not None


def test_the_version_of_an_answer_is_that_of_its_content_on_every_stream() -> None:
    _, first = world("a", "b", a="1", b="1")
    _, second = world("b", "a", a="1", b="1")
    _, third = world("a", "b", a="1", b="2")
    assert first.version_info == second.version_info != third.version_info


def test_a_client_that_comes_back_with_a_version_may_hold_what_it_names() -> None:
    stream = WorldSubscription()
    stream.receive(ask("gone", version="v"))
    assert stream.holds("gone")
    fresh = WorldSubscription()
    fresh.receive(ask("gone"))
    assert not fresh.holds("gone")


# ---- delta


def test_delta_sends_what_is_named_and_says_what_does_not_exist() -> None:
    _, answer = delta("a", "unknown", a="1")
    assert sent(answer) == {"a": "1"}
    assert list(answer.removed_resources) == ["unknown"]


def test_delta_says_once_that_something_does_not_exist_and_sends_it_when_it_does() -> None:
    stream, _ = delta("unknown")
    assert stream.answer({}, NONE) is None
    assert sent(stream.answer(secrets(unknown="1"), NONE)) == {"unknown": "1"}


def test_delta_sends_the_change_alone() -> None:
    stream, _ = delta("a", "b", a="1", b="1")
    answer = stream.answer(secrets(a="2", b="1"), NONE)
    assert sent(answer) == {"a": "2"}
    assert stream.answer(secrets(a="2", b="1"), NONE) is None


def test_delta_ack_and_nack_are_not_answered() -> None:
    stream, answer = delta("a", a="1")
    stream.receive(change(nonce=answer.nonce))
    assert not stream.is_due
    for _ in range(3):
        stream.receive(change(nonce=answer.nonce, refused="no"))
    assert not stream.is_due
    assert stream.answer(secrets(a="1"), NONE) is None
    assert stream.take_lines() == ["refused by the client: 'no'"]


def test_delta_subscribes_whatever_the_nonce() -> None:
    """A nonce acknowledges an answer; it says nothing about the names."""
    stream, first = delta("a", a="1")
    stream.answer(secrets(a="2"), NONE)
    stream.receive(change("b", nonce=first.nonce))
    assert sent(stream.answer(secrets(a="2", b="1"), NONE)) == {"b": "1"}


def test_delta_unsubscribes() -> None:
    stream, _ = delta("a", "b", a="1", b="1")
    stream.receive(change(minus=("a", "never")))
    assert stream.wanted(()) == ("b",)
    assert stream.answer(secrets(b="1"), NONE) is None
    stream.receive(change("a"))
    assert sent(stream.answer(secrets(a="1", b="1"), NONE)) == {"a": "1"}


def test_delta_to_subscribe_again_is_to_be_sent_again() -> None:
    stream, _ = delta("a", a="1")
    stream.receive(change("a"))
    assert sent(stream.answer(secrets(a="1"), NONE)) == {"a": "1"}


def test_delta_takes_up_where_an_earlier_stream_ended() -> None:
    stream = DeltaSubscription()
    stream.receive(change("a", "b", "c", has={"a": "1", "b": "1", "c": "1", "not asked for": "1"}))
    assert stream.holds("c")
    answer = stream.answer(secrets(a="1", b="2"), NONE)
    assert sent(answer) == {"b": "2"}
    assert answer is not None
    assert list(answer.removed_resources) == ["c"]


def test_delta_an_empty_version_of_an_earlier_stream_does_not_pass_for_absence() -> None:
    stream = DeltaSubscription()
    stream.receive(change("a", has={"a": ""}))
    answer = stream.answer({}, NONE)
    assert answer is not None
    assert list(answer.removed_resources) == ["a"]


def test_delta_what_an_earlier_stream_had_counts_in_the_first_request_only() -> None:
    stream, _ = delta("a", a="1")
    stream.receive(change(has={"a": "2"}))
    assert stream.answer(secrets(a="2"), NONE) is not None


def test_delta_everything_and_back() -> None:
    stream, first = delta(a="1")
    assert stream.wanted(("a",)) == ("a",)
    assert sent(first) == {"a": "1"}
    answer = stream.answer(secrets(b="1"), NONE)
    assert sent(answer) == {"b": "1"}
    assert answer is not None
    assert list(answer.removed_resources) == ["a"]
    stream.receive(change("a"))
    assert stream.wanted(("b",)) == ("a", "b")
    stream.receive(change(minus=("*",)))
    assert stream.wanted(("b",)) == ("a",)


def test_delta_everything_is_answered_even_when_it_is_nothing() -> None:
    _, answer = delta()
    assert sent(answer) == {}
    assert not answer.removed_resources


def test_delta_what_cannot_be_issued_now_is_not_gone() -> None:
    stream, _ = delta("a", a="1")
    assert stream.answer({}, frozenset("a")) is None
    stream.receive(change("b"))
    assert stream.answer({}, frozenset("ab")) is None
    assert sent(stream.answer(secrets(a="1", b="1"), NONE)) == {"b": "1"}


# ---- what a client could do to us


def big_world(names: list[str]) -> Any:
    stream = WorldSubscription()
    stream.receive(ask(*names))
    return stream


def big_delta(names: list[str]) -> Any:
    stream = DeltaSubscription()
    stream.receive(change(*names))
    return stream


STREAMS = pytest.mark.parametrize("made", [big_world, big_delta])


@STREAMS
def test_names_beyond_the_bound_are_left_out_and_the_stream_goes_on(made: Callable[[list[str]], Any]) -> None:
    stream = made([f"n{number}" for number in range(10 * MAX_NAMES)])
    assert len(stream.wanted(())) == MAX_NAMES
    assert len(stream.take_lines()) == MAX_LINES


@STREAMS
def test_a_name_that_is_too_long_is_left_out_and_shown_in_part(made: Callable[[list[str]], Any]) -> None:
    stream = made(["x" * (MAX_NAME + 1), "y" * MAX_NAME, "z"])
    assert stream.wanted(()) == ("y" * MAX_NAME, "z")
    (line,) = stream.take_lines()
    assert len(line) < 200


def test_delta_names_that_add_up_over_requests_are_bounded() -> None:
    stream = DeltaSubscription()
    for number in range(3 * MAX_NAMES):
        stream.receive(change(f"n{number}"))
        stream.answer({}, NONE)
    assert len(stream.wanted(())) == MAX_NAMES
    assert len(stream.sent) <= MAX_NAMES


def test_delta_versions_of_an_earlier_stream_are_bounded() -> None:
    stream = DeltaSubscription()
    stream.receive(change("*", has={f"n{number}": "v" * 10_000 for number in range(3 * MAX_NAMES)}))
    assert len(stream.sent) <= MAX_NAMES
    assert max(map(len, stream.sent.values())) <= MAX_NAME


@STREAMS
def test_each_name_is_warned_of_once_and_in_safe_words(made: Callable[[list[str]], Any]) -> None:
    stream = made(["evil\r\nINFO all is well"])
    for _ in range(3):
        stream.leave_out("evil\r\nINFO all is well")
    (line,) = stream.take_lines()
    assert line == r"left out, not a secret of this caller: 'evil\r\nINFO all is well'"


def test_refusals_without_end_are_a_bounded_number_of_lines() -> None:
    stream = WorldSubscription()
    stream.receive(ask("a"))
    lines = []
    for number in range(10 * MAX_LINES):
        answer = stream.answer(secrets(a=str(number)), NONE)
        assert answer is not None
        stream.receive(ask("a", nonce=answer.nonce, refused="x" * 10_000))
        lines += stream.take_lines()
    assert len(lines) == MAX_LINES
    assert max(map(len, lines)) < 200


def test_a_key_that_a_refusal_quotes_is_cut_off() -> None:
    stream, answer = world("a", a="1")
    quoted = 'cannot load: private_key { inline_string: "-----BEGIN PRIVATE KEY-----\\nMIGH'
    stream.receive(ask("a", nonce=answer.nonce, refused=quoted))
    (line,) = stream.take_lines()
    assert "cannot load" in line
    assert "BEGIN" not in line
    assert "MIGH" not in line


NAMES = st.sampled_from(["a", "b", "c", "*", "", "default"])
REQUESTS = st.lists(
    st.one_of(
        st.tuples(st.just("hear"), st.lists(NAMES, max_size=4), st.booleans(), st.booleans()),
        st.tuples(st.just("look"), st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"))),
    ),
    max_size=30,
)


@given(REQUESTS)
def test_whatever_is_asked_the_client_ends_with_what_there_is(steps: list[Any]) -> None:
    """A client that takes each answer has, of what it wants, what exists; and nothing is sent twice."""
    for stream, request in ((WorldSubscription(), ask), (DeltaSubscription(), change)):
        any_stream: Any = stream
        any_stream.receive(request())
        has: dict[str, str] = {}
        exists: dict[str, str] = {}
        nonce = ""
        for step in steps:
            if step[0] == "hear":
                any_stream.receive(
                    request(*step[1], nonce=nonce if step[2] else "", refused="x" if step[3] else None)
                )
            else:
                exists = step[1]
            wanted = {name: v for name, v in exists.items() if name in any_stream.wanted(tuple(exists))}
            answer = any_stream.answer(secrets(**wanted), NONE)
            if answer is not None:
                nonce = answer.nonce
                if isinstance(answer, pb.DiscoveryResponse):
                    has = dict(body.value.decode().split(" ") for body in answer.resources)
                else:
                    has |= sent(answer)
                    has = {name: v for name, v in has.items() if name not in answer.removed_resources}
            assert {name: has.get(name) for name in wanted} == wanted
            assert any_stream.answer(secrets(**wanted), NONE) is None


def test_nothing_here_logs_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        big_world(["unknown"]).leave_out("unknown")
    assert not caplog.records
