"""Regular expressions in grants: what is read means the same on every engine, and the rest is refused."""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authz.errors import PolicyLoadError
from authz.policy.embedded import EmbeddedPolicy, syntax_trees
from authz.policy.grants import Grants
from authz.policy.modules import Module, Modules
from authz.policy.patterns import MAX_LENGTH, Pattern, PatternError, is_whole_pattern
from authz.policy.portability import check_portability
from identity.canonical import canonical_json, sha256_hex
from tests.real_opa import RealOpa

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"s": {"type": "string"}},
    "required": ["s"],
}
REGO = "package deputy\n\ndecision := [found | some p in data.patterns; found := regex.match(p, input.s)]\n"
LETTERS = "aAzZ09_-/.,:;@#%&~!^$|\\()[]{}?*+ \n\r\t\x00\x7f\u00e9e\u0301\u017f\u212a\u0660\U0001f600\ufeff"

NOT_ALIKE = "is not read alike by every engine: "
ONLY = "only punctuation of patterns is escaped"
FLAG = "after '(' is a flag, a name or a look-around: write a plain group, or escape it"
WHOLE = "is not needed, for the whole value is matched: leave it out, or escape it"
TWICE = "repeats a repetition: put that into a group, or escape it"
NO_COUNT = "begins no count such as {2}, {2,} or {2,5}: escape it with '\\'"
NOT_COUNTED = "begins a count that is not of 1 to 255, the smaller number first"
EMPTY = "stands where a character is expected: an alternative of nothing is not accepted"
CLASS = "within a class is read in several ways: escape it with '\\'"
ASCII = "is not printable ASCII: allow it with a class of what is not meant, such as [^/]"
SET = "within a class is an operation of some engines: write it once"
LONG = "with its repetitions written out the pattern is "

REFUSED = {
    "\\d": f"'\\\\d' at character 1 {NOT_ALIKE}write [0-9]",
    "a\\W": f"'\\\\W' at character 2 {NOT_ALIKE}write [A-Za-z0-9_]",
    "[\\s]": f"'\\\\s' at character 2 {NOT_ALIKE}write the characters that are meant, such as [ ]",
    "\\bx": f"'\\\\b' at character 1 {NOT_ALIKE}write the characters that may stand there",
    "(a)\\1": f"'\\\\1' at character 4 {NOT_ALIKE}{ONLY}",
    "\\p{L}": f"'\\\\p' at character 1 {NOT_ALIKE}{ONLY}",
    "\\Qa.b\\E": f"'\\\\Q' at character 1 {NOT_ALIKE}{ONLY}",
    "\\<": f"'\\\\<' at character 1 {NOT_ALIKE}{ONLY}",
    "a\\": f"'\\\\' at character 2 {NOT_ALIKE}{ONLY}",
    "(?i)a": f"'?' at character 2 {FLAG}",
    "(?=a)": f"'?' at character 2 {FLAG}",
    "^a": f"'^' at character 1 {WHOLE}",
    "a$": f"'$' at character 2 {WHOLE}",
    "a*?": f"'?' at character 3 {TWICE}",
    "a++": f"'+' at character 3 {TWICE}",
    "a{2}{3}": f"'{{' at character 5 {TWICE}",
    "*a": "'*' at character 1 repeats nothing: escape it with '\\'",
    "{2}": "'{' at character 1 repeats nothing: escape it with '\\'",
    "a{": f"'{{' at character 2 {NO_COUNT}",
    "a{,2}": f"'{{' at character 2 {NO_COUNT}",
    "a{02}": f"'{{' at character 2 {NO_COUNT}",
    "a{1, 2}": f"'{{' at character 2 {NO_COUNT}",
    "a{0}": f"'{{' at character 2 {NOT_COUNTED}",
    "a{256}": f"'{{' at character 2 {NOT_COUNTED}",
    "a{3,2}": f"'{{' at character 2 {NOT_COUNTED}",
    "a}": "'}' at character 2 closes nothing: escape it with '\\'",
    "]": "']' at character 1 closes nothing: escape it with '\\'",
    "a)": "')' at character 2 closes a group that was not opened: escape it with '\\'",
    "a)|(b": "')' at character 2 closes a group that was not opened: escape it with '\\'",
    "(a": "the end of the pattern comes before a group is closed: add ')'",
    "[a": "the end of the pattern comes before a class is closed: add ']'",
    "()": f"')' at character 2 {EMPTY}",
    "|a": f"'|' at character 1 {EMPTY}",
    "a|": f"the end of the pattern {EMPTY}",
    "[]": "']' at character 2 closes a class of nothing: escape it with '\\'",
    "[^]": "']' at character 3 closes a class of nothing: escape it with '\\'",
    "[]a]": "']' at character 2 closes a class of nothing: escape it with '\\'",
    "[z-a]": "'a' at character 4 ends a range before it begins: write it in the order of ASCII",
    "[-a]": f"'-' at character 2 {CLASS}",
    "[a-c-e]": f"'-' at character 5 {CLASS}",
    "[+--]": f"'-' at character 4 {CLASS}",
    "[a^]": f"'^' at character 3 {CLASS}",
    "[[:alpha:]]": f"'[' at character 2 {CLASS}",
    "[a&&b]": f"'&&' at character 3 {SET}",
    "[a~~b]": f"'~~' at character 3 {SET}",
    "é": f"'é' at character 1 {ASCII}",
    "a\n": f"'\\n' at character 2 {ASCII}",
    "(((((((((a)))))))))": "'(' at character 9 opens a group inside of 8 others, which are the most",
    "": "a pattern has 1 to 256 characters",
    "a" * 257: "a pattern has 1 to 256 characters",
    "(a{100}){7}": f"{LONG}707 long, and 600 is the most",
    "[^/]{60}": f"{LONG}660 long, and 600 is the most",
}
ADMITTED = [
    "a",
    "[a-z0-9_.-]+",
    "ORD-[0-9]{4}",
    r"\\\.\+\*\?\(\)\|\[\]\{\}\^\$\-\/",
    r"[\]\[\^\-\\]",
    "[^<>]{0,50}",
    "[ -~]*",
    "(a|b(c|d)?)+",
    "(x+x+)+y",
    "([a-z]*)*",
    ".*a.{45}",
    "a{3,}",
    "a{0,2}b",
    "[a-]",
    "EUR|CHF",
    "\"&~#%'`",
    "((((((((a))))))))",
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_engines_may_read_differently_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(PatternError) as caught:
        Pattern.parse(text)
    assert str(caught.value) == REFUSED[text]
    assert str(caught.value).isprintable()
    assert not is_whole_pattern(f"^(?:{text})$") or len(text) > MAX_LENGTH


@pytest.mark.parametrize("text", ADMITTED)
def test_what_engines_read_alike_is_admitted(text: str) -> None:
    assert Pattern.parse(text).text == text
    assert is_whole_pattern(Pattern.parse(text).whole)


@pytest.mark.parametrize(
    "text", ["a", "^a$", "(?:a)", "^(?:a)", "(?:a)$", "^(a)$", "^(?:a)|(?:b)$", "^(?:)$"]
)
def test_a_pattern_that_may_match_a_part_is_not_whole(text: str) -> None:
    assert not is_whole_pattern(text)


# ---- on the engines


@pytest.fixture(scope="module")
def opa(opa_binary: Path) -> Iterator[RealOpa]:
    with RealOpa.start(opa_binary) as running:
        yield running


def _embedded(patterns: list[str]) -> EmbeddedPolicy:
    modules = Modules.of([Module("p.rego", REGO)])
    data: dict[str, Any] = {"patterns": patterns}
    assert check_portability(syntax_trees(modules), data, SCHEMA).runtime == "rvm"
    canonical = canonical_json(data)
    return EmbeddedPolicy(modules, Grants(canonical, sha256_hex(canonical)))


def _require_same(opa: RealOpa, patterns: list[str], texts: list[str]) -> int:
    """Ask three engines; return how often something matched."""
    assert opa.load("p.rego", REGO, {"patterns": patterns})
    policy, matched = _embedded(patterns), 0
    for text in texts:
        status, answer = opa.ask("deputy/decision", {"s": text})
        here = policy.evaluate({"s": text})
        python = [re.fullmatch(pattern[1:-1], text) is not None for pattern in patterns]
        assert (status, answer["result"]) == (200, here), (patterns, text)
        assert here == python, (patterns, text)
        matched += sum(python)
    return matched


class _Making:
    """Patterns of the subset, and texts that they match or nearly match."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def pattern(self) -> str:
        while True:
            text = self._alternatives(0)
            try:
                return Pattern.parse(text).whole
            except PatternError:
                continue

    def _alternatives(self, depth: int) -> str:
        return "|".join(self._sequence(depth) for _ in range(self._random.choice([1, 1, 1, 2, 3])))

    def _sequence(self, depth: int) -> str:
        return "".join(self._atom(depth) + self._count() for _ in range(self._random.randrange(1, 5)))

    def _atom(self, depth: int) -> str:
        kind = self._random.randrange(6 if depth < 3 else 5)
        letter = self._random.choice("aAz0_-/:@#%&~! ")
        match kind:
            case 0 | 1:
                return letter
            case 2:
                return "\\" + self._random.choice("\\.+*?()|[]{}^$-/")
            case 3:
                items = [
                    "a-z",
                    "A-Z",
                    "0-9",
                    "!-/",
                    " -~",
                    "_",
                    "\\]",
                    "\\[",
                    "\\^",
                    "\\-",
                    "\\\\",
                    "#",
                    ".",
                    "$",
                    "a",
                ]
                chosen = "".join(self._random.sample(items, self._random.randrange(1, 4)))
                return f"[{self._random.choice(['', '^'])}{chosen}{self._random.choice(['', '-'])}]"
            case 4:
                return self._random.choice([".", letter])
            case _:
                return f"({self._alternatives(depth + 1)})"

    def _count(self) -> str:
        return self._random.choice(["", "", "", "", "*", "+", "?", "{2}", "{1,3}", "{2,}", "{0,2}"])

    def garbage(self) -> str:
        """Make text of the characters that mean something; little of it is a pattern."""
        letters = "ab09()[]|^$-{},*+?.\\&~:/dDwsbpQE ="
        return "".join(self._random.choice(letters) for _ in range(self._random.randrange(1, 9)))

    def text(self) -> str:
        pool = self._random.choice([LETTERS, "aA0-/", "aA0z_-/:@#%&~! ", ".+*?()|[]{}^$-/\\"])
        return "".join(self._random.choice(pool) for _ in range(self._random.randrange(9)))


def test_random_patterns_match_alike(opa: RealOpa) -> None:
    making = _Making(20_261_121)
    matched = 0
    for _ in range(20):
        patterns = [making.pattern() for _ in range(30)]
        matched += _require_same(opa, patterns, [making.text() for _ in range(40)])
    assert matched > 500


def test_whatever_is_admitted_of_random_text_matches_alike(opa: RealOpa) -> None:
    making = _Making(7)
    found: set[str] = set()
    while len(found) < 400:
        text = making.garbage()
        try:
            found.add(Pattern.parse(text).whole)
        except PatternError:
            continue
    patterns = sorted(found)
    for at in range(0, len(patterns), 40):
        _require_same(opa, patterns[at : at + 40], [making.text() for _ in range(40)])


def test_written_patterns_match_alike(opa: RealOpa) -> None:
    texts = [
        "",
        "a",
        "aa",
        "aab",
        "a\n",
        "\n",
        "ORD-0042",
        "ORD-004\u0662",
        "bcbd",
        "xxxy",
        "\u00e9",
        "E\u0301",
    ]
    texts += [
        "\\.+*?()|[]{}^$-/",
        "]",
        "\\",
        "EUR",
        "eur",
        "\u017f",
        "\u212a",
        "a" * 46,
        "\x00",
        "\U0001f600",
    ]
    assert _require_same(opa, [Pattern.parse(text).whole for text in ADMITTED], texts) > 20


@pytest.mark.parametrize(
    "atom",
    [
        "a?",
        "[a-z]?",
        ".?",
        "[^a]?",
        "(a|b)?",
        "(a?)?",
        "(((((((a)))))))?",
        "(ab|c[^d])*",
        "[!#%')+13579;=?ACEGIKMOQSUWY_acegikmoqsuwy{}]?",
        "[^!#%')+13579;=?ACEGIKMOQSUWY_acegikmoqsuwy{}]?",
        "[^!#%]*",
    ],
)
def test_the_largest_pattern_of_each_kind_runs_on_every_engine(atom: str, opa: RealOpa) -> None:
    """Each compiles to at most 100 KiB, or regorus would fail, and that call with it."""
    found = ""
    for count in range(1, 256):
        try:
            found = Pattern.parse(f"({atom}){{{count}}}").whole
        except PatternError:
            break
    one, longer = atom.removesuffix("?"), ""
    for count in range(1, MAX_LENGTH // len(one)):
        try:
            longer = Pattern.parse(atom * count).whole
        except PatternError:
            break
    texts = ["", "a", "b" * 50, "\u00e9" * 100]
    policy = _embedded([found, longer])
    assert opa.load("p.rego", REGO, {"patterns": [found, longer]})
    for text in texts:
        assert policy.evaluate({"s": text}) == opa.ask("deputy/decision", {"s": text})[1]["result"]
    assert min(len(found), len(longer)) > len(atom)


# ---- what the portability walk lets a policy look up


def _walk(rego: str, data: dict[str, Any]) -> str:
    modules = Modules.of([Module("p.rego", f"package deputy\n\n{rego}\n")])
    return check_portability(syntax_trees(modules), data, SCHEMA).runtime


LOOKUP = "decision := 1 if regex.match(data.limits[input.s].pattern, input.s)"


def test_a_pattern_may_be_looked_up_where_all_that_may_be_found_are_whole() -> None:
    data = {"limits": {"a": {"pattern": "^(?:a)$"}, "b": {"pattern": "^(?:[0-9]+)$"}, "c": {"max": 1}}}
    assert _walk(LOOKUP, data) == "rvm"
    assert _walk(LOOKUP, {"limits": {}}) == "rvm"
    assert _walk(LOOKUP, {"limits": {f"n{at}": {"pattern": "^(?:a)$"} for at in range(100)}}) == "rvm"


@pytest.mark.parametrize(
    ("rego", "pattern"),
    [
        (LOOKUP, r"\d"),
        (LOOKUP, r"^(?:\d)$"),
        (LOOKUP, "a"),
        (LOOKUP, "^(?:(?i)a)$"),
        (LOOKUP, 1),
        (LOOKUP, None),
        (LOOKUP, ["^(?:a)$"]),
        ("decision := 1 if regex.match(input.s, data.limits.a.pattern)", "^(?:a)$"),
        ('decision := 1 if regex.match(concat("", [data.limits.a.pattern, "|b"]), input.s)', "^(?:a)$"),
        ('decision := 1 if regex.match(trim(data.limits.a.pattern, "^"), input.s)', "^(?:a)$"),
    ],
)
def test_no_other_pattern_may_be_looked_up(rego: str, pattern: object) -> None:
    with pytest.raises(PolicyLoadError, match=r"regex\.match"):
        _walk(rego, {"limits": {"a": {"pattern": pattern}, "b": {"pattern": "^(?:a)$"}}})


def test_one_pattern_that_is_none_spoils_a_whole_table() -> None:
    table: dict[str, Any] = {f"n{at}": {"pattern": "^(?:a)$"} for at in range(100)}
    table["n50"] = json.loads('{"pattern": "a"}')
    with pytest.raises(PolicyLoadError, match=r"regex\.match"):
        _walk(LOOKUP, {"limits": table})
