"""Forms of strangers: one reading, or none."""

import pytest

from authz.broker.form import MAX_PARAMETERS, Form, FormError, is_form


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (b"", {}),
        (b"a=1", {"a": ("1",)}),
        (b"a=1&b=2&a=3", {"a": ("1", "3"), "b": ("2",)}),
        (b"a=", {"a": ("",)}),
        (b"a=b=c", {"a": ("b=c",)}),
        (b"grant_type=urn:ietf:params:oauth:x", {"grant_type": ("urn:ietf:params:oauth:x",)}),
        (b"a=x+y%20z%2B", {"a": ("x y z+",)}),
        (b"a=%C3%A9", {"a": ("é",)}),
        (b"%61=1", {"a": ("1",)}),
        (b"a=%00", {"a": ("\0",)}),
    ],
)
def test_reads_pairs(body: bytes, values: dict[str, tuple[str, ...]]) -> None:
    assert Form.parse(body).values == values


@pytest.mark.parametrize(
    "body",
    [
        b"a",
        b"=1",
        b"&",
        b"a=1&",
        b"&a=1",
        b"a=1&&b=2",
        b"a=%",
        b"a=%4",
        b"a=%zz",
        b"a=%C3",
        b"a=%ff",
        b"a=\xc3\xa9",
        b"a=1 2",
        b"a=1\n",
        b"a=\0",
        b'{"a":1}',
        b"\xef\xbb\xbfa=1",
    ],
)
def test_refuses_what_has_two_readings(body: bytes) -> None:
    with pytest.raises(FormError):
        Form.parse(body)


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_is_read_as_itself_or_refused(byte: int) -> None:
    try:
        form = Form.parse(b"a=" + bytes([byte]))
    except FormError:
        assert chr(byte) in "&%" or not 0x21 <= byte <= 0x7E
        return
    assert form.values == {"a": (" " if chr(byte) == "+" else chr(byte),)}


def test_a_repeated_parameter_is_refused_when_it_is_asked_for() -> None:
    form = Form.parse(b"a=1&a=1")

    with pytest.raises(FormError, match="'a' is repeated"):
        form.one("a")


def test_a_repeated_parameter_without_value_is_still_repeated() -> None:
    with pytest.raises(FormError):
        Form.parse(b"a=&a=1").one("a")


def test_a_parameter_without_value_counts_as_absent() -> None:
    form = Form.parse(b"a=")

    assert form.one("a") is None
    assert "a" in form
    assert "b" not in form


def test_too_many_parameters_are_refused() -> None:
    Form.parse(b"&".join([b"a=1"] * MAX_PARAMETERS))
    with pytest.raises(FormError):
        Form.parse(b"&".join([b"a=1"] * (MAX_PARAMETERS + 1)))


def test_no_value_can_be_printed() -> None:
    assert "secret" not in repr(Form.parse(b"password=secret"))


@pytest.mark.parametrize(
    ("content_type", "said"),
    [
        ("application/x-www-form-urlencoded", True),
        ("Application/X-WWW-Form-Urlencoded; charset=UTF-8", True),
        ('application/x-www-form-urlencoded;charset="utf-8"', True),
        ("application/x-www-form-urlencoded; charset=utf-16", False),
        ("application/x-www-form-urlencoded, application/json", False),
        ("application/json", False),
        ("multipart/form-data", False),
        ("", False),
        (None, False),
    ],
)
def test_content_type(content_type: str | None, *, said: bool) -> None:
    assert is_form(content_type) is said
