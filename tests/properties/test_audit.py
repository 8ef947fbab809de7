"""Whatever is known of a call, its record can be written, read, and proven."""

import dataclasses
import json
import string
from collections.abc import Mapping
from typing import Any

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from authz.audit.chain import EMPTY, Head, follow
from authz.audit.entry import MAX_STRANGER_BYTES, Entry, decision, exchange, stranger, withdrawn
from authz.audit.facts import DecisionFacts, Issued
from authz.audit.record import GENESIS, MAX_INTEGER, Json, Record, canonical, canonical_of_ordered, digest
from authz.audit.text import ascii_name, name, sentence
from authz.audit.verify import verify_lines
from authz.errors import AuditError
from identity.caller import Hop, Human
from tests.audit_facts import NOW, allowed, ulid

# All of Unicode, with what makes trouble more often than chance would.
TEXTS = st.text(
    st.one_of(
        st.characters(),
        st.characters(categories=["Cs", "Cc", "Zl", "Zp", "Cf"]),
        st.sampled_from('\\"\n\r\0\u2028{}'),
    ),
    max_size=400,
)
INTEGERS = st.integers(-MAX_INTEGER, MAX_INTEGER)
HUMANS = st.builds(Human, TEXTS, TEXTS)
HOPS = st.lists(st.builds(Hop, TEXTS, TEXTS), max_size=9).map(tuple)


def _field(field: "dataclasses.Field[Any]") -> st.SearchStrategy[Any]:
    special: Mapping[str, st.SearchStrategy[Any]] = {
        "effect": st.sampled_from(["allow", "deny"]),
        "codes": st.lists(TEXTS, max_size=20).map(tuple),
        "payload": st.lists(TEXTS, max_size=20).map(tuple),
        "human": st.none() | HUMANS,
        "chain": HOPS,
        "autonomous": st.booleans(),
        "latency_us": st.integers(),
    }
    plain = TEXTS if field.type is str else st.none() | TEXTS
    return special.get(field.name, plain)


FACTS = st.fixed_dictionaries({field.name: _field(field) for field in dataclasses.fields(DecisionFacts)}).map(
    lambda fields: DecisionFacts(**fields)
)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(string.ascii_letters + string.punctuation, max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters(max_codepoint=127), max_size=8), JSON, max_size=6))
def test_canonical_bytes_equal_rfc_8785(members: dict[str, Json]) -> None:
    assert canonical(members) == rfc8785.dumps(members)


@given(FACTS, st.integers(1, MAX_INTEGER))
def test_any_facts_make_one_canonical_line(facts: DecisionFacts, seq: int) -> None:
    issued = Issued(kind="task", subject=facts.detail, expires_at=NOW, scopes=frozenset(facts.codes))
    entries: list[Entry] = [
        decision(facts, ulid(1), NOW),
        exchange(facts, issued, ulid(2), NOW),
        withdrawn(facts, facts.detail, ulid(3), NOW),
        stranger(facts, ulid(4), NOW),
    ]
    for entry in entries:
        line = canonical(entry.members(seq, GENESIS))
        assert line == canonical_of_ordered(entry.members(seq, GENESIS))
        assert b"\n" not in line
        assert len(line.decode().splitlines()) == 1
        assert line == rfc8785.dumps(json.loads(line))
        record = Record.parse(line)
        assert (record.seq, record.id, record.kind) == (seq, entry.id, entry.kind)
        assert not entry.of_stranger or len(line) < MAX_STRANGER_BYTES


@given(FACTS, st.sampled_from(["kind", "effect", "seq", "prev"]))
def test_no_text_forges_a_member(facts: DecisionFacts, member: str) -> None:
    record = Record.parse(canonical(decision(facts, ulid(1), NOW).members(5, GENESIS)))

    assert (
        record.members[member]
        == {"kind": "decision", "effect": facts.effect, "seq": 5, "prev": GENESIS}[member]
    )


@given(TEXTS, st.integers(36, 300))
def test_written_text_is_printable_and_bounded(text: str, limit: int) -> None:
    for written in (name(text, limit), sentence(text, limit), ascii_name(text, limit)):
        assert written.isprintable()
        assert len(written) <= limit
        written.encode()
    assert ascii_name(text, limit).isascii()


@given(TEXTS, TEXTS)
def test_two_names_stay_two(first: str, second: str) -> None:
    assert (name(first) == name(second)) == (first == second)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_record_a_head_or_our_error(data: bytes) -> None:
    for read in (Record.parse, Head.parse, lambda line: follow(EMPTY, line)):
        try:
            read(data)
        except AuditError:
            continue
        raise AssertionError(data)


LINES: list[bytes] = []
_head = EMPTY
for _number in range(6):
    _line = canonical(allowed(_number).members(_head.seq + 1, _head.hash))
    _head = follow(_head, _line)
    LINES.append(_line + b"\n")
HEAD = _head


def _verified(lines: list[bytes]) -> bool:
    return verify_lines([("000000000001.jsonl", line) for line in lines], HEAD).ok


@given(st.lists(st.sampled_from(LINES), max_size=9))
def test_only_the_whole_log_in_order_is_ok(lines: list[bytes]) -> None:
    assert _verified(lines) == (lines == LINES)


@given(st.integers(0, 5), st.data())
def test_any_change_of_a_line_is_found(index: int, data: st.DataObject) -> None:
    line = LINES[index]
    start = data.draw(st.integers(0, len(line)))
    stop = data.draw(st.integers(start, min(len(line), start + 40)))
    changed = line[:start] + data.draw(st.binary(max_size=40)) + line[stop:]
    whole = b"".join([*LINES[:index], changed, *LINES[index + 1 :]])
    lines = [part + b"\n" for part in whole.split(b"\n")]
    lines[-1] = lines[-1][:-1]

    assert _verified([part for part in lines if part]) == (whole == b"".join(LINES))
    assert digest(line[:-1]) != digest(changed[:-1]) or line == changed
