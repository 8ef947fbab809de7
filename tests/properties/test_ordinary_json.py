"""The quick reader of JSON says what the careful one says, or nothing: texts, numbers, names, white space."""

import json
from contextlib import suppress
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from identity.ordinary_json import NotOrdinaryError, read_ordinary
from identity.strict_json import DEFAULT_LIMITS, Limits, StrictJsonError, loads, read_with_care
from tests.mutations import mutated
from tests.properties.test_readers_agree import _ODD_NUMBERS

# Each is a character or an escape within a text; most of them are right.
_CHARS: Final = [
    *(
        "a",
        "e",
        "n",
        "u",
        "0",
        "[",
        "{",
        ":",
        ",",
        " ",
        "/",
        "\x7f",
        "\u00e9",
        "\u2028",
        "\ufeff",
        "\U0001f600",
    ),
    *(r"\n", r"\t", r"\b", r"\f", r"\r", r"\/", r"\"", r"\"", r"\\", r"\\"),
    *(r"\u0061", r"\u0022", r"\u005c", r"\u0000", r"\uFFFF", r"\ud83d\ude00", r"\uD83D\uDE00"),
    *(r"\ud83d", r"\udc00", r"\ud83d\u0041", r"\x41", "\x01", "\n"),
]
_texts = st.lists(st.sampled_from(_CHARS[:33]) | st.sampled_from(_CHARS), max_size=8).map(
    lambda chars: '"{}"'.format("".join(chars))
)
_names = st.sampled_from(['"a"', '"b"', r'"\u0061"', r'"\""', r'"\u0022"', '""']) | _texts
_numbers = (
    st.sampled_from(_ODD_NUMBERS.split())
    | st.floats().map(repr)
    | st.integers(-(2**70), 2**70).map(str)
    # Digits that lie half-way between two doubles, or nearly.
    | st.from_regex(r"\A-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?\Z")
)
_spaces = st.sampled_from([""] * 12 + [" ", "\n", "\t", "\r", "  ", "\x0b"])
_scalars = _texts | _texts | _numbers | st.sampled_from(["true", "false", "null", "[]", "{}", "nul"])


def _list(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(st.builds("{}{}".format, parts, _spaces), max_size=4).map(
        lambda found: f"[{','.join(found)}]"
    )


def _object(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    members = st.builds("{1}{0}{2}:{3}{4}".format, _names, _spaces, _spaces, _spaces, parts)
    return st.lists(members, max_size=4).map(lambda found: f"{{{','.join(found)}}}")


_documents = _object(st.recursive(_scalars, lambda parts: _list(parts) | _object(parts), max_leaves=8)).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)
_limits = st.just(DEFAULT_LIMITS) | st.builds(
    Limits,
    depth=st.integers(1, 5),
    values=st.integers(0, 12),
    keys=st.integers(0, 8),
    integer=st.sampled_from([9, 2**53 - 1, 2**64]),
)


def _careful(data: bytes, limits: Limits) -> str:
    try:
        return repr(read_with_care(data, limits))
    except StrictJsonError as error:
        return error.reason


@given(_documents | _documents.flatmap(mutated) | st.binary(max_size=60).map(b"{".__add__), _limits)
def test_what_the_quick_reader_takes_the_careful_one_reads_alike(data: bytes, limits: Limits) -> None:
    expected = _careful(data, limits)
    # By `repr`, which tells 1 from 1.0 and True, -0.0 from 0.0, and the order of members.
    with suppress(NotOrdinaryError):
        assert repr(read_ordinary(data, limits)) == expected
    try:
        assert repr(loads(data, limits)) == expected
    except StrictJsonError as error:
        assert error.reason == expected


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text(max_size=4), parts, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), _values), st.booleans())
def test_what_a_client_writes_is_ordinary(value: object, ascii_only: bool) -> None:
    """No escape, quote or number that `json.dumps` writes needs the careful reader."""
    try:
        data = json.dumps(value, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return
    assert repr(read_ordinary(data, DEFAULT_LIMITS)) == repr(value)
