"""Canonical JSON: RFC 8785, with a fast way for the values where it is proven equal."""

import hashlib
import hmac
from enum import StrEnum

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from identity.canonical import (
    CanonicalJsonError,
    arguments_sha256,
    canonical_json,
    keyed_sha256,
    sha256_hex,
)


class Colour(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        "",
        None,
        True,
        False,
        0,
        -1,
        {"b": 1, "a": [None, True, "x"], "": {}},
        {"literals": [None, True, False], "string": '€$\u000f\nA\'B"\\\\"/'},
        "".join(map(chr, range(0x80))) + "\u2028\u2029\x7f\x80",
        # RFC 8785 section 3.2.3: UTF-16 order, which is not the order of code points.
        {
            "\u20ac": 1,
            "\r": 2,
            "\ufb33": 3,
            "1": 4,
            "\U0001f600": 5,
            "\x80": 6,
            "\xf6": 7,
        },
        {"\ue000": 1, "\U00010000": 2},
        {"\xfc": 1, "\uffff": 2, "z": 3, "": 4, "\u20ac": 5.0},
        [137.0, -137.0, {"a": [0.0, {"b": 1e15, "a": 1.5}]}, float(2**53 - 1)],
        [float(2**53), 1.0],
        [1e-5, 1.0],
        [1e15 + 0.5, 1e-4, 1.0],
        [
            333333333.33333329,
            1e30,
            4.50,
            2e-3,
            0.000000000000000000000000001,
            1.0,
            -0.0,
            1e16,
            1e21,
            5e-324,
        ],
        [
            {"b": 1, "a": 2},
            {"a": 3, "b": 4},
            {"b": 5},
            {"c": 6, "b": 7},
            "x",
            {},
            {},
            {"b": {"d": 1, "c": 2}},
        ],
        [{"\U0001f600": 1, "\ue000": 2}, {"\ue000": 3, "\U0001f600": 4}],
        {Colour.RED: 1, "a": 2},
        [{Colour.RED: 1}, {"red": 2}],
        [{Colour.RED: 1, "\U0001f600": 2, "\ue000": 3}],
        2**53 - 1,
        -(2**53 - 1),
        (1, 2),
        {"kind": Colour.RED},
    ],
)
def test_equals_rfc_8785(value: object) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)  # type: ignore[arg-type]  # any JSON value


SCALARS = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


@given(
    st.recursive(
        SCALARS | NAMES | st.integers(-(2**53), 2**53).map(float),
        lambda part: st.lists(part) | st.dictionaries(NAMES, part),
        max_leaves=20,
    )
)
def test_every_value_equals_rfc_8785(value: object) -> None:
    try:
        expected = rfc8785.dumps(value)  # type: ignore[arg-type]  # any JSON value
    except rfc8785.CanonicalizationError:
        with pytest.raises(CanonicalJsonError):
            canonical_json(value)
    else:
        assert canonical_json(value) == expected


@pytest.mark.parametrize(
    "char", [*map(chr, range(0x21)), '"', "\\", "/", "\x7f", "\x80", "\u2028", "\U0001f600"]
)
def test_long_text_equals_rfc_8785(char: str) -> None:
    text = f"a{char}b{char}" * 2000
    value = {"\xe9": 1, "z": [text], "a": {"b": text, "c": 1.0}, char: text, "t\n": None}
    assert canonical_json(value) == rfc8785.dumps(value)  # type: ignore[arg-type]  # any JSON value


def test_long_text_with_half_a_character_is_our_error() -> None:
    with pytest.raises(CanonicalJsonError):
        canonical_json({"a": "b" * 5000 + "\ud800"})


@pytest.mark.parametrize("depth", [100, 253, 254, 255, 256, 300])
def test_value_that_nests_deeper_than_the_quick_writer_goes_equals_rfc_8785(depth: int) -> None:
    value: object = {"b": 1, "a": 2}
    for _ in range(depth):
        value = [value]
    assert canonical_json(value) == rfc8785.dumps(value)  # type: ignore[arg-type]  # any JSON value


def test_value_that_nests_too_deep_is_our_error() -> None:
    value: object = 1.0
    for _ in range(100_000):
        value = [value]
    with pytest.raises(CanonicalJsonError):
        canonical_json(value)


def test_integral_float_and_integer_have_one_form() -> None:
    assert canonical_json({"amount": 1.0}) == canonical_json({"amount": 1}) == b'{"amount":1}'


@pytest.mark.parametrize(
    "value",
    [
        2**53,
        -(2**53),
        [2**60],
        float("nan"),
        float("inf"),
        {1: "a"},
        {True: "a"},
        {None: "a"},
        {"a": {1, 2}},
        b"bytes",
        object(),
        "\ud800",
        {"\ud800": 1},
        ["\udfff"],
    ],
)
def test_refuses_what_has_no_canonical_form(value: object) -> None:
    with pytest.raises(CanonicalJsonError):
        canonical_json(value)


def test_no_arguments_and_empty_arguments_hash_alike() -> None:
    empty = hashlib.sha256(b"{}").hexdigest()
    assert arguments_sha256(None) == arguments_sha256({}) == empty


def test_hash_does_not_depend_on_order_or_spelling_of_the_body() -> None:
    assert arguments_sha256({"a": 1, "b": "é"}) == arguments_sha256({"b": "\u00e9", "a": 1})
    assert arguments_sha256({"a": 1}) != arguments_sha256({"a": "1"})
    assert arguments_sha256({"a": "é"}) != arguments_sha256({"a": "e\u0301"})


def test_sha256_is_lower_case_hex() -> None:
    assert sha256_hex(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_keyed_hash_depends_on_key_and_digest() -> None:
    one = keyed_sha256(b"k" * 32, "ab" * 32)
    assert one == hmac.new(b"k" * 32, b"ab" * 32, "sha256").hexdigest()
    assert len({one, keyed_sha256(b"l" * 32, "ab" * 32), keyed_sha256(b"k" * 32, "ac" * 32)}) == 3


def test_short_key_hides_nothing() -> None:
    with pytest.raises(ValueError, match="32"):
        keyed_sha256(b"k" * 31, "ab" * 32)
