"""Strict YAML: one reading or none."""

import pytest
import yaml

from authz.policy.yaml_strict import MAX_DEPTH, YamlError, load_yaml, parse_yaml

MAX = 1 << 16


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1", {"a": 1}),
        ("a: -1", {"a": -1}),
        ("a: 0.5", {"a": 0.5}),
        ("a: 1.5e+3", {"a": 1500.0}),
        ("a: true", {"a": True}),
        ("a: null", {"a": None}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ("a: 'yes'", {"a": "yes"}),
        ('a: "010"', {"a": "010"}),
        ("a: |\n  yes\n", {"a": "yes\n"}),
        ("a: text with spaces", {"a": "text with spaces"}),
        ("a: https://idp.example#sam", {"a": "https://idp.example#sam"}),
        ("a: 127.0.0.1:9191", {"a": "127.0.0.1:9191"}),
        ("a: 2027-01-01T00:00:00Z", {"a": "2027-01-01T00:00:00Z"}),
        ("[a, [b], {c: d}]", ["a", ["b"], {"c": "d"}]),
        ('{"a": {"b": [1, 2.5, "x", null, false]}}', {"a": {"b": [1, 2.5, "x", None, False]}}),
        ("9007199254740991", 9007199254740991),
    ],
)
def test_reads_what_every_reader_reads_alike(text: str, value: object) -> None:
    assert load_yaml(text.encode(), MAX) == value


@pytest.mark.parametrize(
    "scalar",
    [
        *("yes", "no", "on", "off", "y", "N", "Yes", "TRUE", "False", "NULL", "Null"),
        *("010", "0o17", "0x1F", "0b1", "1_000", "+1", "1e3", "1.", ".5", "1.5e3", "1:30", "190:20:30"),
        *(".inf", "-.INF", ".nan", "9007199254740992", "1e999", "1.0e+999", "=", "<<"),
    ],
)
def test_refuses_scalars_that_readers_read_differently(scalar: str) -> None:
    with pytest.raises(YamlError, match=r"line 1: .*quote it"):
        load_yaml(f"a: {scalar}".encode(), MAX)
    assert load_yaml(f"a: '{scalar}'".encode(), MAX) == {"a": scalar}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"a: 1\na: 2",
        b"a: {b: 1, 'b': 2}",
        b"a: &x 1",
        b"a: *x",
        b"a: &x [1]\nb: *x",
        b"<<: {a: 1}",
        b"a: !!str 1",
        b"a: !!python/object/apply:os.system [id]",
        b"a: !x 1",
        b"! a",
        b"1: a",
        b"true: a",
        b"null: a",
        b"on: push",
        b"? [a]\n: b",
        b"? {a: b}\n: c",
        b"&x a: b",
        b"a: 1\n---\nb: 2",
        b"a: 1\n...\n---\n",
        b"a: [",
        b"a: b: c",
        b"\ta: 1",
        b"a: 'x",
        b"\xef\xbb\xbfa: 1",
        b"a: \xff",
        b"a: \x00",
        "a: 1".encode("utf-16"),
        b"[" * (MAX_DEPTH + 2),
        b"{a: " * (MAX_DEPTH + 2),
        b"[" * 20_000,
        b"a: 1" + b" " * MAX,
    ],
)
def test_refuses(text: bytes) -> None:
    with pytest.raises(YamlError, match=r"\Aline \d+: "):
        load_yaml(text, MAX)


def test_an_error_names_the_line() -> None:
    with pytest.raises(YamlError) as caught:
        load_yaml(b"a: 1\nb:\n  c: 1\n  c: 2\n", MAX)
    assert caught.value.line == 4
    assert str(caught.value) == "line 4: the key 'c' stands twice: keep one"


def test_lines_of_all_parts_are_known() -> None:
    lines = parse_yaml(b"a:\n  b:\n    - x\n    - {c: 1}\n", MAX).lines
    assert lines == {
        (): 1,
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "b", 0): 3,
        ("a", "b", 1): 4,
        ("a", "b", 1, "c"): 4,
    }


def test_nests_as_deep_as_it_says() -> None:
    load_yaml(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, MAX)


def test_both_parsers_of_yaml_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"# comment\na: [1, {b: 'c'}]\nd: |\n  e\nf: \"\\u00e9\"\n"
    fast = parse_yaml(text, MAX)
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert parse_yaml(text, MAX) == fast
