"""Any bytes are a value or our error, and an accepted value is what everybody reads."""

import json

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from identity.canonical import CanonicalJsonError, canonical_json
from identity.strict_json import Limits, StrictJsonError, loads

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text(), parts, max_size=4),
    max_leaves=12,
)
fragments = st.lists(
    st.sampled_from([*b'[]{},:"\\ \n019-+.eEtrufalsn/x', 0x00, 0x7F, 0x80, 0xED, 0xEF, 0xFF]).map(
        lambda byte: bytes([byte])
    )
    | st.sampled_from(
        [
            b'"a":',
            b"\\ud83d",
            b"\\u0061",
            b"1e400",
            b"NaN",
            b"[[",
            b"]]",
            b"9007199254740993",
            b"{}",
        ]
    ),
    max_size=30,
).map(b"".join)


def read_or_reason(data: bytes) -> object:
    try:
        return loads(data)
    except StrictJsonError as error:
        return error.reason


@given(st.binary(max_size=200) | fragments, st.integers(1, 4), st.integers(0, 4))
def test_any_bytes_are_a_value_or_our_error(data: bytes, depth: int, keys: int) -> None:
    try:
        value = loads(data, Limits(depth=depth, keys=keys))
    except StrictJsonError:
        return
    assert value == json.loads(data)


@given(values, st.booleans())
def test_any_json_reads_as_json_loads_reads_it(value: object, ascii_only: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    read = read_or_reason(data)
    if read in ("number", "surrogate", "encoding"):
        return
    assert read == json.loads(data)
    json.dumps(read, ensure_ascii=False).encode()


def size(value: object) -> tuple[int, int]:
    """Count values below the top level, and levels of nesting."""
    if not isinstance(value, dict | list):
        return 0, 0
    parts = [size(part) for part in (value.values() if isinstance(value, dict) else value)]
    return len(parts) + sum(count for count, _ in parts), 1 + max((depth for _, depth in parts), default=0)


@given(values, st.booleans(), st.sampled_from([None, 1]))
def test_limits_of_values_and_nesting_are_exact(value: object, ascii_only: bool, indent: int | None) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    read = read_or_reason(data)
    if read in ("number", "surrogate", "encoding"):
        return
    count, depth = size(read)
    assert loads(data, Limits(values=count, depth=depth)) == read
    for limits, expected in ((Limits(values=count - 1), "keys"), (Limits(depth=depth - 1), "depth")):
        try:
            loads(data, limits)
        except StrictJsonError as error:
            assert error.reason == expected
        else:
            assert not isinstance(read, dict | list) or not read


@given(values)
def test_canonical_form_is_that_of_rfc_8785(value: object) -> None:
    try:
        expected = rfc8785.dumps(value)  # type: ignore[arg-type]  # any JSON value
    except (rfc8785.CanonicalizationError, UnicodeError):
        expected = None
    try:
        assert canonical_json(value) == expected
    except CanonicalJsonError:
        assert expected is None


@given(values)
def test_canonical_form_is_stable_over_the_wire(value: object) -> None:
    try:
        canonical = canonical_json(value)
    except CanonicalJsonError:
        return
    read = read_or_reason(canonical)
    # A float such as 1e17 is written with its digits, which is no integer that everybody reads alike.
    assert read == "number" or canonical_json(read) == canonical
