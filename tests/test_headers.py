"""Headers: one value or a refusal, and bytes that nobody asks for harm nobody."""

import pytest

from authz.codes import Code
from authz.errors import RequestError
from authz.headers import MAX_HEADER_BYTES, MAX_HEADERS, Headers


def code_of(*fields: tuple[str, bytes]) -> Code:
    with pytest.raises(RequestError) as refused:
        Headers.parse(fields)
    return refused.value.code


def test_returns_the_one_value() -> None:
    headers = Headers.parse([("a", b"1"), ("b", b"2")])
    assert (headers.one("a"), headers.one("b"), headers.one("c")) == ("1", "2", None)
    assert headers.names() == {"a", "b"}


def test_empty_value_is_not_an_absent_header() -> None:
    assert Headers.parse([("a", b"")]).one("a") == ""


@pytest.mark.parametrize("values", [(b"1", b"2"), (b"1", b"1"), (b"1", b""), (b"1", b"2", b"3")])
def test_refuses_to_choose_between_two_values(values: tuple[bytes, ...]) -> None:
    headers = Headers.parse([("b", b"x"), *(("a", value) for value in values)])
    with pytest.raises(RequestError) as refused:
        headers.one("a")
    assert refused.value.code == Code.HEADER_DUPLICATE
    assert headers.one("b") == "x"


@pytest.mark.parametrize("byte", [*range(0x20), 0x7F, *range(0x80, 0x100)])
def test_refuses_a_value_that_is_not_printable_ascii(byte: int) -> None:
    headers = Headers.parse([("a", bytes([0x61, byte])), ("b", b"x")])
    with pytest.raises(RequestError) as refused:
        headers.one("a")
    assert refused.value.code == Code.HEADER_ENCODING
    assert headers.one("b") == "x"


@pytest.mark.parametrize("byte", range(0x20, 0x7F))
def test_returns_every_printable_byte(byte: int) -> None:
    assert Headers.parse([("a", bytes([byte]))]).one("a") == chr(byte)


def test_refuses_valid_utf8_beyond_ascii() -> None:
    with pytest.raises(RequestError):
        Headers.parse([("a", "\ufffd".encode())]).one("a")


@pytest.mark.parametrize(
    "name", ["", "A", "Authorization", "a b", "a\n", "a\x00", "a:", "::a", ":", "é", "a/b", "a" * 256]
)
def test_refuses_what_is_not_a_lower_case_name(name: str) -> None:
    assert code_of((name, b"1")) == Code.REQUEST_MALFORMED


@pytest.mark.parametrize("name", [":path", "x-a", "a_b", "a!#$%&'*+.^_`|~-9", "a" * 255])
def test_accepts_tokens_and_pseudo_headers(name: str) -> None:
    assert Headers.parse([(name, b"1")]).one(name) == "1"


def test_refuses_more_than_200_headers() -> None:
    fields = [(f"x-{number}", b"") for number in range(MAX_HEADERS)]
    Headers.parse(fields)
    assert code_of(*fields, ("x", b"")) == Code.REQUEST_MALFORMED


def test_refuses_headers_of_more_than_128_kib() -> None:
    Headers.parse([("a", b"x" * (MAX_HEADER_BYTES - 1))])
    assert code_of(("a", b"x" * MAX_HEADER_BYTES)) == Code.REQUEST_MALFORMED
    assert code_of(("a" * MAX_HEADER_BYTES, b"x")) == Code.REQUEST_MALFORMED


def test_representation_shows_no_value() -> None:
    assert "hunter2" not in repr(
        Headers.parse([("authorization", b"hunter2"), ("authorization", b"hunter2")])
    )
