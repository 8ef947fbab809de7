"""The quick reader of JSON: what it must leave to the careful one, and what it must not."""

import json

import pytest

from identity.ordinary_json import NotOrdinaryError, read_ordinary
from identity.strict_json import DEFAULT_LIMITS, Limits, StrictJsonError, loads, read_with_care
from tests.bench.inspection_bodies import LIST, bodies, pathological
from tests.bombs import BODIES


def is_ordinary(data: bytes, limits: Limits = DEFAULT_LIMITS) -> bool:
    try:
        read_ordinary(data, limits)
    except NotOrdinaryError:
        return False
    return True


@pytest.mark.parametrize(
    "data",
    [
        b'{"name":"echo","name":"secret"}',
        b'{"name":"echo","n\\u0061me":"secret"}',
        b'{"name":"echo","name" :"secret"}',
        b'{"a":{"b":1,"b":{}}}',
        # The quotes of the name that is lost, in an escape that has none, in a text, and in a name.
        b'{"a":1,"a":"\\u0022\\u0022"}',
        b'{"a":1,"\\u0022\\u0022":2,"a":3}',
        b'{"a":1,"a":":\\":"}',
        b'{"a":"\\"","a":"\\\\"}',
        b'{"a":"\\\\\\"","\\"":{"\\"":1,"\\"":2}}',
        b'{"":1,"":2}',
    ],
)
def test_two_members_of_one_name_are_never_ordinary(data: bytes) -> None:
    """The parser keeps the last one, so a name that is lost must be seen in the bytes."""
    assert not is_ordinary(data)
    with pytest.raises(StrictJsonError) as caught:
        loads(data)
    assert caught.value.reason == "duplicate-key"


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":"\\"\\"","b":"\\\\","c":"\\\\\\"","d":"\\\\\\\\"}',
        b'{"\\"":"\\n\\"","\\\\":"x\\n\\\\"}',
        b'{"a":"\\u0022","b":"\\u005c"}',
        b'{ "a" : [ "\\ud83d\\ude00" , 1.5e3 , -0 ] }\r\n',
    ],
)
def test_quotes_and_backslashes_in_texts_are_ordinary(data: bytes) -> None:
    assert read_ordinary(data, DEFAULT_LIMITS) == json.loads(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[1]",
        b' {"a":1}',
        b'{"a":1}x',
        b'{"a":1}{"a":1}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e400}',
        b'{"a":9007199254740992}',
        b'{"a":"\\ud83d"}',
        b'{"\\udc00":1}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16-le"),
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":' * 64 + b"1" + b"}" * 64,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        json.dumps({str(number): 1 for number in range(4097)}).encode(),
        json.dumps({"a": [0] * 17_000}).encode(),
    ],
)
def test_what_needs_care_is_left_to_the_careful_reader(data: bytes) -> None:
    assert not is_ordinary(data)


def test_limits_are_exact() -> None:
    assert is_ordinary(b'{"a":[1,2],"b":{"c":3}}', Limits(depth=3, values=5, keys=3, integer=3))
    for limits in (Limits(depth=1), Limits(keys=2), Limits(integer=2), Limits(values=4)):
        assert not is_ordinary(b'{"a":[1,2],"b":{"c":3}}', limits)


@pytest.mark.parametrize("name", [name for name in bodies() if name != LIST])
def test_calls_of_real_clients_are_ordinary(name: str) -> None:
    body = bodies()[name]
    assert read_ordinary(body, DEFAULT_LIMITS) == json.loads(body)


@pytest.mark.parametrize("name", BODIES)
def test_bomb_within_an_object_is_refused_as_the_careful_reader_refuses_it(name: str) -> None:
    """Nothing that is large is built by the parser: the number of values is bounded before it runs."""
    data = b'{"a":' + BODIES[name][0]
    with pytest.raises(StrictJsonError) as caught:
        loads(data)
    with pytest.raises(StrictJsonError) as careful:
        read_with_care(data)
    assert caught.value.reason == careful.value.reason


def test_a_mebibyte_of_escapes_is_read_once() -> None:
    assert not is_ordinary(b'{"a":"' + b'\\"' * 400_000 + b'"}')
    assert is_ordinary(b'{"a":"' + b'x\\"' * 20_000 + b'"}')


def test_texts_of_strangers_are_not_kept() -> None:
    """A parser that remembers short texts would hold what one caller sent while it reads for another."""
    first, second = (read_ordinary(b'{"a":"a short secret"}', DEFAULT_LIMITS) for _ in range(2))
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert first["a"] is not second["a"]


def test_what_is_made_to_be_slow_has_the_reason_that_the_careful_reader_gives() -> None:
    for _, data in pathological():
        try:
            expected: object = read_with_care(data)
        except StrictJsonError as error:
            with pytest.raises(StrictJsonError) as caught:
                loads(data)
            assert caught.value.reason == error.reason
        else:
            assert loads(data) == expected
