"""Any bytes: a form or our own error; what a client encodes is what we read."""

from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st

from authz.broker.form import MAX_PARAMETERS, Form, FormError

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
