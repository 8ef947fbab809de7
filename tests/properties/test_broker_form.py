"""Any bytes: a form or our own error; what a client encodes is what we read."""

import re
from urllib.parse import unquote_to_bytes, urlencode

from hypothesis import given
from hypothesis import strategies as st

from authz.broker.form import MAX_PARAMETERS, Form, FormError

# The rule in one expression, each part read by itself.
_PAIR = re.compile(rb"((?:[!-$'-*,-<>-~+]++|%[0-9A-Fa-f]{2})++)=((?:[!-$'-~+]++|%[0-9A-Fa-f]{2})*+)")
# What a form is made of, so that many of these are forms, and nearly as many are none.
_PARTS = st.lists(
    st.sampled_from(
        [b"a", b"=", b"&", b"%41", b"%c3%A9", b"%e9", b"+", b"%", b"%4", b"%g1", b"\n", b"\xe9", b"~"]
    )
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_form_or_our_error(body: bytes) -> None:
    try:
        form = Form.parse(body)
    except FormError:
        return
    assert all(values for values in form.values.values())


@given(st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=MAX_PARAMETERS))
def test_what_a_client_encodes_is_what_we_read(pairs: list[tuple[str, str]]) -> None:
    form = Form.parse(urlencode(pairs).encode())

    expected: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        expected[name] = (*expected.get(name, ()), value)
    assert form.values == expected


def _by_the_rule(body: bytes) -> dict[str, tuple[str, ...]] | None:
    values: dict[str, tuple[str, ...]] = {}
    for pair in body.split(b"&") if body else []:
        match = _PAIR.fullmatch(pair)
        if match is None:
            return None
        try:
            name, value = (unquote_to_bytes(part.replace(b"+", b" ")).decode() for part in match.groups())
        except UnicodeDecodeError:
            return None
        values[name] = (*values.get(name, ()), value)
    return values


@given(_PARTS.map(b"".join))
def test_a_form_is_what_the_rule_says_and_nothing_else(body: bytes) -> None:
    try:
        found: object = Form.parse(body).values
    except FormError as error:
        found = _by_the_rule(body) if "more than" in str(error) else None

    assert found == _by_the_rule(body)
