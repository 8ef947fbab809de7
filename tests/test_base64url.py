"""Base64url: one text for one value."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.base64url import Base64UrlError, decode_base64url, encode_base64url


@pytest.mark.parametrize("data", [b"", b"\x00", b"ab", b"abc", b"\xff\xfe\xfd\xfc"])
def test_round_trip(data: bytes) -> None:
    assert decode_base64url(encode_base64url(data)) == data


@pytest.mark.parametrize(
    "text",
    [
        "A",
        "AAAAA",
        "AA==",
        "AA=",
        "AB",
        "AAB",
        "A+AA",
        "A/AA",
        "AA A",
        "AAA\n",
        " AAA",
        "AAÀ",
        "AA.A",
        "QQ\u0301",
    ],
)
def test_jw05_refuses_every_second_text_of_a_value(text: str) -> None:
    """JW-05: wrong alphabet, padding, and bits left over in the last character."""
    with pytest.raises(Base64UrlError):
        decode_base64url(text)


@pytest.mark.parametrize("byte", range(256))
def test_every_last_character(byte: int) -> None:
    for start in ("", "A", "AA", "AAA"):
        text = start + chr(byte)
        try:
            data = decode_base64url(text)
        except Base64UrlError:
            continue
        assert encode_base64url(data) == text


@given(st.text(max_size=12) | st.text("AZaz09-_=+/", max_size=12))
def test_any_text_is_the_one_text_of_a_value_or_our_error(text: str) -> None:
    try:
        data = decode_base64url(text)
    except Base64UrlError:
        return
    assert encode_base64url(data) == text
    assert base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) == data
