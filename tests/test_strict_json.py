"""Strict JSON: each trick of rules/mcp.md section 3 and of JW-05 that lives in the bytes."""

import json

import pytest

from identity.strict_json import (
    DEFAULT_LIMITS,
    MAX_SAFE_INTEGER,
    Limits,
    StrictJsonError,
    loads,
)
from tests.bombs import BODIES
from tests.calls import count_calls


def reason(data: bytes, limits: Limits = DEFAULT_LIMITS) -> str:
    with pytest.raises(StrictJsonError) as caught:
        loads(data, limits)
    return caught.value.reason


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1}',
        b' {"a" : [1, -2.5e3, true, false, null, "x"]}\r\n\t',
        b"[]",
        b'"text"',
        b"0",
        b"-0",
        b"1e-999",
        '"é\U0001f600\u2028"'.encode(),
        b'"\\ud83d\\ude00"',
        b'"\\\\ud83d"',
        b'{"":{"":1}}',
        str(MAX_SAFE_INTEGER).encode(),
        str(-MAX_SAFE_INTEGER).encode(),
        b'"12345678901234567890"',
        b'{"a":1,"A":2}',
    ],
)
def test_reads_what_has_one_reading(data: bytes) -> None:
    assert loads(data) == json.loads(data)


@pytest.mark.parametrize(
    "data",
    [
        b'{"name":"echo","name":"secret"}',
        b'{"name":"echo","n\\u0061me":"secret"}',
        b'{"params":{"name":"echo","name":"echo"}}',
        b'[{"deep":[{"a":1,"b":2,"a":1}]}]',
        b'{"a":1,"long":12345678901,"a":2}',
        b'{"x":9007199254740991,"x":1}',
        b'{"":1,"":2}',
    ],
)
def test_refuses_duplicate_member_at_any_depth(data: bytes) -> None:
    """JW-05, mcp.md section 3: the last one wins in most readers, the first in some."""
    assert reason(data) == "duplicate-key"


@pytest.mark.parametrize(
    "data",
    [
        b"NaN",
        b'{"amount":NaN}',
        b"[Infinity]",
        b"[-Infinity]",
        b"1e400",
        b"-1e400",
        b"1E+0400",
        b"[" + b"9" * 400 + b".0]",
        b"9007199254740992",
        b"-9007199254740992",
        b'{"id":123456789012345678901234567890}',
        b"1" * 5000,
        b"-" + b"1" * 5000,
    ],
)
def test_refuses_number_that_two_readers_read_in_two_ways(data: bytes) -> None:
    """JW-05: `NaN`, `1e400`, huge integers."""
    assert reason(data) == "number"


@pytest.mark.parametrize(
    "data",
    [
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-16-le"),
        '{"a":1}'.encode("utf-32"),
        '{"a":1}'.encode("utf-7"),
    ],
)
def test_refuses_other_encoding(data: bytes) -> None:
    """mcp.md section 3: `json.loads(bytes)` detects UTF-16 and UTF-32 by itself."""
    if data.decode("utf-8", "replace") != '{"a":1}':
        assert reason(data) in {"encoding", "malformed"}


def test_utf_16_without_mark_is_valid_utf_8_and_still_refused() -> None:
    assert json.loads('{"a":1}'.encode("utf-16-le")) == {"a": 1}
    assert reason('{"a":1}'.encode("utf-16-le")) == "malformed"


@pytest.mark.parametrize(
    "data",
    [
        b'\xef\xbb\xbf{"a":1}',
        b'"\xff"',
        b'"\xc0\xaf"',
        b'"\xed\xa0\x80"',
        b'"\xf4\x90\x80\x80"',
        b'"\xe2\x82"',
    ],
)
def test_refuses_byte_order_mark_and_what_is_not_utf_8(data: bytes) -> None:
    assert reason(data) == "encoding"


@pytest.mark.parametrize(
    "data",
    [
        b'"\\ud83d"',
        b'"\\ude00\\ud83d"',
        b'"\\uD83Dx"',
        b'{"\\ud800":1}',
        b'[["a"],{"b":["\\udfff"]}]',
        b'["\\ud83d","\\ude00"]',
    ],
)
def test_refuses_unpaired_surrogate(data: bytes) -> None:
    assert reason(data) == "surrogate"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b'{"a":1}{"a":2}',
        b'{"a":1}x',
        b"[1,]",
        b'{"a":1,}',
        b"{'a':1}",
        b"{a:1}",
        b'"a\nb"',
        b'"a\x00b"',
        b'"\\x41"',
        b'"\\u 041"',
        b'"\\u+041"',
        b'"\\u12"',
        b"01",
        b"+1",
        b".5",
        b"1.",
        b"0x10",
        b"1_000",
        "\uff11".encode(),
        "1\u0661".encode(),
        b"// c\n1",
        b"True",
        b"nan",
        b"\x0b1",
        "\u00a01".encode(),
        "\u20281".encode(),
        b'{"a":1}\x00',
        b'{"a" "b"}',
        b"]",
        b"]" * 100 + b"[" * 10,
        b"[]" * 65 + b"]",
        b"[" * 10 + b"}" * 100,
        b'"',
        b'"\\',
        b'"\\"',
    ],
)
def test_refuses_what_is_not_one_json_value(data: bytes) -> None:
    assert reason(data) == "malformed"


def test_depth_limit_is_exact() -> None:
    def nested(depth: int) -> bytes:
        return b'{"a":' * (depth - 1) + b"[]" + b"}" * (depth - 1)

    assert loads(nested(64)) == json.loads(nested(64))
    assert reason(nested(65)) == "depth"
    assert loads(b"[[[]]]", Limits(depth=3)) == [[[]]]
    assert reason(b"[[[]]]", Limits(depth=2)) == "depth"
    assert loads(b"[" + b"[]," * 500 + b"[]]", Limits(depth=2))


@pytest.mark.parametrize(
    "data",
    [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 50_000 + b"]" * 50_000, b"[{" * 3000],
)
def test_refuses_deep_nesting_before_the_parser_recurs(data: bytes) -> None:
    """JW-05: nesting is counted in the bytes, so the depth of the stack does not matter."""
    assert reason(data) == "depth"


def test_parser_that_recurs_too_deep_is_our_error() -> None:
    """A limit that is set too high ends in the same error."""
    assert reason(b"[" * 100_000 + b"]" * 100_000, Limits(depth=200_000, values=400_000)) == "depth"


def test_brackets_within_text_are_not_nesting() -> None:
    texts = ["[" * 5000, '"[{' * 500, "\\[" * 500, "[\\"]
    assert loads(json.dumps(texts).encode()) == texts


def test_escaped_quotes_do_not_hide_nesting() -> None:
    assert reason(b'["\\\\",' + b"[" * 70 + b"]" * 71) == "depth"
    assert reason(b'["\\"",' + b"[" * 70 + b"]" * 71) == "depth"


def test_unterminated_text_of_escaped_quotes_is_read_once() -> None:
    """Each quote could start a new search; 200,000 of them take minutes in a quadratic search."""
    assert reason(b"[" * 65 + b'"' + b'\\"' * 200_000) == "depth"
    assert reason(b"[]" * 65 + b'"' + b'\\"' * 200_000) == "malformed"


def test_number_of_members_is_limited_over_the_whole_document() -> None:
    limits = Limits(keys=3)
    assert loads(b'[{"a":1},{"a":1,"b":":::::"}]', limits) == [
        {"a": 1},
        {"a": 1, "b": ":::::"},
    ]
    assert reason(b'[{"a":1},{"a":1},{"a":1,"b":2}]', limits) == "keys"
    assert reason(json.dumps({str(i): i for i in range(4097)}).encode()) == "keys"
    assert len(loads(json.dumps({str(i): i for i in range(4096)}).encode())) == 4096  # type: ignore[arg-type]  # a dict


def test_number_of_values_is_limited_over_the_whole_document() -> None:
    limits = Limits(values=3)
    for accepted in (
        b"[1,2,3]",
        b'{"a":[1,2]}',
        b"[[],{ },[\n]]",
        b'["],[", ",,,{{", ""]',
        b'"[,[,[,["',
        b"1",
    ):
        assert loads(accepted, limits) == json.loads(accepted)
    for refused in (
        b"[1,2,3,4]",
        b'{"a":[1,2,3]}',
        b"[[],[[]],[]]",
        b'["","","",""]',
        b'{"a":1,"b":[{"c":1}]}',
    ):
        assert reason(refused, limits) == "keys"


@pytest.mark.parametrize("text", [b"\\\\", b'\\"', b'\\\\\\"', b"\\\\\\\\", b'\\\\\\\\\\"'])
def test_escapes_do_not_hide_values(text: bytes) -> None:
    limits = Limits(values=2)
    assert loads(b'["' + text + b',[,[",1]', limits)
    assert reason(b'["' + text + b'",1,2]', limits) == "keys"
    assert reason(b'["' + text + b',[",[[1]]]', Limits(depth=2)) == "depth"


@pytest.mark.parametrize("name", BODIES)
def test_bomb_is_refused_in_a_few_passes(name: str) -> None:
    """Threat 6 (rules/reliability.md section 2): none is read once a level, and no value of it is built."""
    data, expected = BODIES[name]
    assert reason(data) == expected
    assert count_calls(lambda: reason(data)) < 80


def test_message_does_not_repeat_the_document() -> None:
    with pytest.raises(StrictJsonError) as caught:
        loads(b'{"password":"hunter2","password":"hunter2"}')
    assert "hunter2" not in str(caught.value)
    assert "password" not in str(caught.value)


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_alone_in_text_and_after_a_value(byte: int) -> None:
    for data in (bytes([byte]), b'"' + bytes([byte]) + b'"', b"1" + bytes([byte])):
        try:
            value = loads(data)
        except StrictJsonError:
            continue
        assert value == json.loads(data)


@pytest.mark.parametrize("data", [b"{}{}", b'{"a":1}}', b'{"a":1},{"b":2}', b"{} {}"])
def test_what_stands_behind_an_object_is_refused(data: bytes) -> None:
    with pytest.raises(StrictJsonError) as refused:
        loads(data)
    assert refused.value.reason == "malformed"


def test_members_are_counted_once_whatever_stands_around_the_object() -> None:
    """A number of sixteen digits makes the reader count, and white space is no reason to count again."""
    data = b'{"a":1000000000000000,"b":{"c":1}}'
    limits = Limits(keys=3)
    for around in (data, data + b"\n", b" " + data, b" " + data + b" "):
        assert loads(around, limits) == {"a": 10**15, "b": {"c": 1}}
        with pytest.raises(StrictJsonError):
            loads(around, Limits(keys=2))
