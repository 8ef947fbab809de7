"""Any input gives a value or our own error: YAML, grants, verdicts."""

import json
import ntpath
import posixpath
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from authz.errors import GrantsError, PolicyShapeError
from authz.policy import schema
from authz.policy.grants import Grants
from authz.policy.patterns import Pattern, PatternError, is_whole_pattern
from authz.policy.verdict import Verdict
from authz.policy.yaml_strict import YamlError, load_yaml

MAX = 1 << 16
FULL = (Path(__file__).resolve().parents[1] / "policy/grants/full.yaml").read_bytes()
LINES = FULL.splitlines(keepends=True)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
)
YAML_TEXT = st.text(st.sampled_from("ab01.:-+_eE~yno#'\"[]{},&*!|>%? \n\t<=\u00e9\u2028\x85"), max_size=60)


class WithoutDates(yaml.SafeLoader):
    """YAML 1.1, but dates are text, as for YAML 1.2; nothing else may differ from what we read."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - it is how PyYAML is configured
        first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@given(st.binary(max_size=80))
def test_any_bytes_are_yaml_or_an_error_of_ours(data: bytes) -> None:
    with suppress(YamlError):
        load_yaml(data, MAX)


@given(YAML_TEXT)
@example("a: 0")
@example("a: - 1")
@example("- -0")
def test_what_is_accepted_is_what_a_yaml_1_1_reader_reads(text: str) -> None:
    try:
        value = load_yaml(text.encode(), MAX)
    except YamlError:
        return
    try:
        other = yaml.load(text, Loader=WithoutDates)
    except yaml.YAMLError:
        return  # stricter about tabs than libyaml; nobody reads it otherwise
    assert repr(other) == repr(value)


@given(JSON)
def test_json_that_is_accepted_as_yaml_keeps_its_value(value: Any) -> None:
    try:
        read = load_yaml(json.dumps(value).encode(), MAX)
    except YamlError:
        return
    assert read == value


@given(
    st.lists(
        st.tuples(st.integers(0, len(FULL) - 1), st.sampled_from(b"\x00 \n:-[]{}&*!a0\xff#'\"")), max_size=4
    )
)
def test_mutated_grants_are_grants_or_an_error_of_ours(changes: list[tuple[int, int]]) -> None:
    data = bytearray(FULL)
    for place, byte in changes:
        data[place] = byte
    try:
        Grants.parse(bytes(data))
    except GrantsError as error:
        assert str(error).startswith("line ")
        return
    assert schema.problems("grants", load_yaml(bytes(data), MAX)) == ()


@given(st.lists(st.integers(0, len(LINES) - 1), max_size=3), st.randoms(use_true_random=False))
def test_grants_with_lines_lost_or_moved_are_grants_or_an_error_of_ours(lost: list[int], random: Any) -> None:
    lines = [line for number, line in enumerate(LINES) if number not in lost]
    if lost:
        lines.insert(random.randrange(len(lines)), LINES[lost[0]])
    try:
        Grants.parse(b"".join(lines))
    except GrantsError:
        return
    assert schema.problems("grants", load_yaml(b"".join(lines), MAX)) == ()


@given(JSON)
def test_any_value_is_a_verdict_or_an_error_of_ours(value: Any) -> None:
    with suppress(PolicyShapeError):
        Verdict.parse(value, "")


REASONS = st.fixed_dictionaries(
    {
        "code": st.sampled_from(["DPT-DENIED", "DPT-OWN-1", "DPT-ALLOWED", "X", ""]),
        "msg": st.text(max_size=4),
        "rule": st.just("rule"),
        "fix": st.sampled_from(["fix", "", 1]),
        "audience": st.sampled_from(["agent", "operator", "all"]),
    }
)


@given(
    st.fixed_dictionaries(
        {
            "effect": st.sampled_from(["allow", "deny", "approve", "permit"]),
            "reasons": st.lists(REASONS, max_size=2),
            "obligations": st.dictionaries(
                st.sampled_from(["scopes", "needed_scopes", "other"]),
                st.lists(st.text(max_size=3), max_size=2),
            ),
        }
    )
)
def test_every_verdict_that_is_accepted_fits_the_schema(value: Any) -> None:
    try:
        verdict = Verdict.parse(value, "")
    except PolicyShapeError:
        return
    assert schema.problems("result", value) == ()
    assert verdict.effect == "allow" or verdict.reasons


MEANING = st.text(st.sampled_from("ab09()[]|^$-{},*+?.\\\\&~:/dwsb \u00e9\n"), max_size=12)


@given(st.text(max_size=300) | MEANING)
@example("(" * 300)
@example("[" * 256)
@example("((((((((a{255}){255}){255}){255}){255}){255}){255}){255}")
def test_any_text_is_a_pattern_or_an_error_of_ours(text: str) -> None:
    try:
        pattern = Pattern.parse(text)
    except PatternError as error:
        assert str(error).isprintable()
        return
    assert pattern.text == text
    assert is_whole_pattern(pattern.whole)


@given(st.text(max_size=40) | MEANING | MEANING.map("^(?:{})$".format))
def test_a_pattern_that_is_taken_for_whole_is_one(text: str) -> None:
    if is_whole_pattern(text):
        assert Pattern.parse(text[4:-2]).whole == text


@given(MEANING | st.text(st.sampled_from("ab/. ~\\\\%-:;\u00e9"), max_size=12))
def test_a_directory_is_one_below_which_nothing_leads_out(text: str) -> None:
    """Whatever is below by the pattern is below by the file system's own reading, too."""
    grants = {
        "version": 1,
        "tiers": {"t": {"allow": ["read"]}},
        "services": {"s": {"tools": {"t": {"class": "read", "arguments": {"/p": {"below": "docs/"}}}}}},
        "agents": {"a": {"tier": "t", "services": ["s"]}},
    }
    data: Any = Grants.parse(json.dumps(grants).encode()).data
    (limit,) = data["grants"]["services"]["s"]["tools"]["t"]["limits"]
    path = f"docs/{text}"
    if re.fullmatch(limit["pattern"][1:-1], path):
        assert posixpath.normpath(path) == path
        assert ntpath.normpath(path).replace("\\", "/") == path
        assert Path("/root", path.strip()).resolve().is_relative_to("/root/docs")
