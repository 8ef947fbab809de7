"""Server-Sent Events: whatever the chunks, the same events; what is written is read as it was meant."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.answers.sse import KEEP_ALIVE, MAX_EVENT, Event, EventReader, Skipped, encode


def _read(*chunks: bytes) -> list[Event | Skipped]:
    reader = EventReader()
    return [event for chunk in chunks for event in reader.feed(chunk)]


def _independent(data: bytes) -> list[tuple[str, str, str | None]]:
    """Read a whole stream as WHATWG HTML 9.2.6 says, step by step: type, data, last event id."""
    text = data.decode().removeprefix("\ufeff")
    found: list[tuple[str, str, str | None]] = []
    kind, buffer, last_id = "", "", None
    lines = re.split("\r\n|\r|\n", text)
    # What stands behind the last line end is no line.
    for line in lines[:-1]:
        if not line:
            if buffer:
                found.append((kind or "message", buffer[:-1], last_id))
            kind, buffer = "", ""
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                kind = value
            elif name == "data":
                buffer += value + "\n"
            elif name == "id" and "\0" not in value:
                last_id = value
    return found


LINES = st.sampled_from(
    b"data: a|data:b|data|data:  c|event: message|event|id: 7|id|retry: 10|retry: x|: ping||||"
    b"other: 1|data: \xc3\xa9|Data: no|data : no".split(b"|")
)
TEXT = st.characters(codec="utf-8")
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.lists(st.tuples(LINES, ENDS), max_size=30).map(lambda lines: b"".join(a + b for a, b in lines))


@given(STREAMS, st.lists(st.integers(0, 400), max_size=12), st.sampled_from([b"", b"\xef\xbb\xbf"]))
def test_any_cut_into_chunks_gives_the_same_events(stream: bytes, cuts: list[int], mark: bytes) -> None:
    stream = mark + stream
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[start:end] for start, end in pairwise(places)]
    assert _read(*chunks) == _read(stream)
    assert _read(*(bytes([byte]) for byte in stream)) == _read(stream)


@given(STREAMS)
def test_what_is_read_is_what_an_independent_reader_reads(stream: bytes) -> None:
    last_id: str | None = None
    found: list[tuple[str, str, str | None]] = []
    for event in _read(stream):
        assert isinstance(event, Event)
        last_id = event.id if event.id is not None else last_id
        if event.data is not None:
            found.append((event.event or "message", event.data, last_id))
    assert found == _independent(stream)


PLAIN = st.text(TEXT, max_size=20).filter(str.isprintable)


@given(
    st.lists(
        st.builds(
            Event,
            data=st.text(TEXT, max_size=40),
            event=st.none() | PLAIN,
            id=st.none() | PLAIN,
            retry=st.none() | st.integers(0, 10**15 - 1),
        ),
        max_size=5,
    )
)
def test_what_is_written_is_read_as_it_was_meant(events: list[Event]) -> None:
    stream = b"".join(map(encode, events))
    last_id: str | None = None
    meant = []
    for event in events:
        last_id = event.id if event.id is not None else last_id
        meant.append((event.event or "message", re.sub("\r\n|\r", "\n", event.data or ""), last_id))
    assert _independent(stream) == meant
    # Ours reads the same, or refuses to guess.
    assert [each.data for each in _read(stream) if isinstance(each, Event)] == [data for _, data, _ in meant]


def test_several_data_lines_are_one_text() -> None:
    assert _read(b'data: {"a":\ndata: 1}\n\n') == [Event('{"a":\n1}')]


def test_a_byte_order_mark_counts_at_the_very_start_only() -> None:
    assert _read(b"\xef\xbb", b"\xbfdata: a\n\n") == [Event("a")]
    assert _read(b"data: a\n\n\xef\xbb\xbfdata: b\n\n") == [Event("a"), KEEP_ALIVE]
    assert _read(b"\xef", b"data: a\n\n") == [KEEP_ALIVE]


def test_an_event_without_its_blank_line_is_none() -> None:
    assert _read(b"data: a\n\ndata: b\n") == [Event("a")]


def test_an_event_that_primes_the_id_has_empty_data() -> None:
    assert _read(b"id: 1\ndata:\n\n", b"retry: 500\nid: 2\n\n") == [
        Event("", id="1"),
        Event(None, id="2", retry=500),
    ]
    assert encode(Event("", id="1")) == b"id: 1\ndata: \n\n"


def test_a_comment_is_passed_on_without_what_it_says() -> None:
    assert [encode(event) for event in _read(b': {"tools":[]}\r\n\r\n') if isinstance(event, Event)] == [
        b":\n\n"
    ]


def test_an_event_beyond_the_limit_is_skipped_and_the_next_one_is_read() -> None:
    huge = b"data: " + b"a" * (MAX_EVENT + 1)
    assert _read(huge + b"\n\ndata: b\n\n") == [Skipped(), Event("b")]
    assert _read(huge, b"", b"a", b"\r", b"\ndata: more\n", b"\ndata: b\n\n") == [Skipped(), Event("b")]


def test_an_event_of_many_small_lines_is_bounded() -> None:
    lines = b"data: 0123456789\n" * (MAX_EVENT // 16 + 1)
    assert _read(lines + b"\n" + b"data: b\n\n") == [Skipped(), Event("b")]


def test_a_line_that_never_ends_is_not_kept() -> None:
    reader = EventReader()
    for _ in range(6):
        assert list(reader.feed(b"a" * (1 << 20))) == []
    assert list(reader.feed(b"\n\n")) == [Skipped()]


@pytest.mark.parametrize("field", [b"data: \xff", b"id: \xff", b"event: \xff", b"data: \xed\xa0\x80"])
def test_bytes_that_are_not_utf_8_are_not_replaced(field: bytes) -> None:
    assert _read(field + b"\ndata: x\n\ndata: a\n\n") == [Skipped(), Event("a")]


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\0"])
def test_what_other_clients_take_for_the_end_of_a_line_is_in_no_name_and_no_id(end: str) -> None:
    for name in ("id", "event"):
        stream = f'{name}: a{end}data: {{"tools":[]}}\ndata: b\n\n'.encode()
        assert _read(stream) == [Skipped()]
        with pytest.raises(ValueError, match="printable"):
            encode(Event("b", **{name: f"a{end}data: x"}))  # type: ignore[arg-type]  # a name or an id


def test_a_retry_that_is_no_number_is_left_out() -> None:
    assert _read(b"retry: 1e3\ndata: a\n\n", b"retry: " + b"9" * 16 + b"\ndata: a\n\n") == [
        Event("a"),
        Event("a"),
    ]
