"""The set of what is withdrawn: changed copies, and who is denied by which of them."""

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from identity.bucket_map import BUCKETS, BucketMap
from identity.errors import WithdrawalError
from identity.withdrawal import Standing, Withdrawal, Withdrawals
from tests.state_world import LEAD, NOW, OTHER, ulid, withdrawal

SOON, LATE = NOW + timedelta(minutes=1), NOW + timedelta(hours=1)


def token(end: object = None, name: str = "jti-1") -> Withdrawal:
    return Withdrawal("token", name, None, "stolen", "admin", NOW, end)  # type: ignore[arg-type]  # a time


def test_a_changed_copy_changes_nothing_else() -> None:
    empty = Withdrawals()
    one = empty.plus(token(SOON))
    two = one.plus(withdrawal("human", LEAD, before=5))
    none = two.minus(token()).minus(withdrawal("human", LEAD, before=1))

    assert [len(each) for each in (empty, one, two, none)] == [0, 1, 2, 0]
    assert one.items == (token(SOON),)
    assert two == Withdrawals.of(two.items)
    assert none == empty
    assert none.minus(token()) is not none
    assert one.find(Standing(jti="jti-1")) == token(SOON)
    assert none.find(Standing(jti="jti-1")) is None


def test_two_of_one_subject_take_back_what_either_does() -> None:
    second = int(NOW.timestamp())
    early_for_long = withdrawal("human", LEAD, before=second, end=LATE)
    late_for_short = withdrawal("human", LEAD, before=second + 60, end=SOON)
    for order in ((early_for_long, late_for_short), (late_for_short, early_for_long)):
        (held,) = Withdrawals.of(order).items
        assert (held.before, held.expires_at) == (second + 60, LATE)
        added = Withdrawals().plus(order[0]).plus(order[1])
        assert added.items == (held,)


@pytest.mark.parametrize("kind", ["token", "txn"])
def test_whose_it_was_is_known_of_a_token_and_a_lineage(kind: Any) -> None:
    plain = Withdrawal(kind, "j" * 22, None, "stolen", "admin", NOW, SOON)
    known = dataclasses.replace(plain, human=LEAD)
    assert (plain.human, known.human) == (None, LEAD)
    # Who is denied does not depend on it.
    standing = Standing(jti="j" * 22) if kind == "token" else Standing(txn="j" * 22)
    assert Withdrawals.of([plain]).find(standing) == plain
    assert Withdrawals.of([known]).find(standing) == known
    # Who was told of nobody's is told once more, and then never again.
    assert (known.covers(plain), known.covers(known), plain.covers(known)) == (True, True, False)
    for order in ((plain, known), (known, plain)):
        assert Withdrawals.of(order).items == Withdrawals().plus(order[0]).plus(order[1]).items == (known,)


def test_who_presents_what_an_operator_revoked_does_not_become_its_author() -> None:
    operators = Withdrawal("txn", "t" * 22, None, "stolen", "admin", NOW, LATE)
    its_own = Withdrawal("txn", "t" * 22, None, "mine", "spiffe://mesh.example/x", NOW, SOON, LEAD)
    expected = dataclasses.replace(operators, human=LEAD)
    assert Withdrawals().plus(operators).plus(its_own).items == (expected,)
    assert Withdrawals.of([operators, its_own]).items == (expected,)
    # What lasts longer is another withdrawal, with its own author.
    later = dataclasses.replace(its_own, expires_at=LATE + timedelta(seconds=1))
    assert operators.joined(later) == later


@pytest.mark.parametrize("human", ["", "lead", "https://idp.example", f"{LEAD}\n", "https://idp.example#"])
def test_refuses_a_person_whom_it_cannot_name(human: str) -> None:
    with pytest.raises(WithdrawalError, match="not a person"):
        Withdrawal("token", "j" * 22, None, "stolen", "admin", NOW, SOON, human)


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        ("human", LEAD),
        ("agent", "triage"),
        ("workload", "spiffe://mesh.example/x"),
        ("task", ulid(1)),
        ("grant", ulid(2)),
    ],
)
def test_what_names_its_person_itself_or_has_none_keeps_none(kind: Any, subject: str) -> None:
    with pytest.raises(WithdrawalError, match="does not keep"):
        Withdrawal(kind, subject, None, "stolen", "admin", NOW, None, OTHER)


def test_no_end_is_later_than_any() -> None:
    assert Withdrawals.of([token(), token(LATE)]).items == (token(),)
    assert Withdrawals.of([token(LATE), token()]).items == (token(),)


@pytest.mark.parametrize(
    ("standing", "other", "covered"),
    [
        (token(LATE), token(SOON), True),
        (token(SOON), token(SOON), True),
        (token(SOON), token(LATE), False),
        (token(SOON), token(), False),
        (token(), token(LATE), True),
        (withdrawal("human", LEAD, before=5), withdrawal("human", LEAD, before=4), True),
        (withdrawal("human", LEAD, before=5), withdrawal("human", LEAD, before=6), False),
        # A stop is released some day; what was signed in before stays taken back.
        (withdrawal("human", LEAD), withdrawal("human", LEAD, before=4), False),
        (withdrawal("human", LEAD, before=5), withdrawal("human", LEAD), False),
    ],
)
def test_what_stands_covers_what_takes_back_no_more(
    standing: Withdrawal, other: Withdrawal, covered: bool
) -> None:
    assert standing.covers(other) is covered
    assert Withdrawals().plus(standing).covers(other) is covered
    assert not Withdrawals().covers(other)


def test_a_person_is_stopped_as_a_whole_and_up_to_a_time_apart() -> None:
    both = Withdrawals.of([withdrawal("human", LEAD), withdrawal("human", LEAD, before=5)])
    assert both.containment("human", LEAD) is not None
    assert both.find(Standing(human=LEAD, issued_at=6)) is not None
    sessions = both.minus(withdrawal("human", LEAD))
    assert sessions.containment("human", LEAD) is None
    assert sessions.find(Standing(human=LEAD, issued_at=6)) is None
    assert sessions.find(Standing(human=LEAD, issued_at=5)) is not None
    # Who cannot say when it began is denied.
    assert sessions.find(Standing(human=LEAD)) is not None
    assert sessions.find(Standing(human=OTHER)) is None


def test_a_name_of_one_kind_is_none_of_another() -> None:
    withdrawn = Withdrawals.of([withdrawal("task", ulid(1)), withdrawal("agent", "triage")])
    assert withdrawn.find(Standing(grants=(ulid(1),), jti=ulid(1), txn=ulid(1))) is None
    assert withdrawn.find(Standing(human="triage", jti="triage", txn="triage")) is None


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "everything"},
        {"reason": " "},
        {"reason": "x" * 501},
        {"reason": "two\nlines"},
        {"before": 5},
        {"subject": ""},
        {"subject": "x" * 801},
        {"subject": "a\x00b"},
        {"kind": "agent", "subject": "Not A Name"},
        {"kind": "task", "subject": "no-ulid"},
        {"kind": "grant", "subject": "no-ulid"},
        {"kind": "workload", "subject": "https://mesh.example"},
        {"kind": "human", "subject": "lead"},
    ],
)
def test_refuses_what_names_nothing_or_has_no_reason(change: dict[str, object]) -> None:
    with pytest.raises(WithdrawalError):
        dataclasses.replace(token(), **change)  # type: ignore[arg-type]  # each is wrong


def test_only_what_lasts_until_it_is_released_is_a_containment() -> None:
    assert withdrawal("agent", "triage").is_containment
    assert not withdrawal("human", LEAD, before=5).is_containment
    assert not token().is_containment


def test_a_mapping_of_many_is_as_a_dictionary() -> None:
    pairs = [(f"key-{n % 3000}", n) for n in range(4000)]
    expected = dict(pairs)
    for mapping in (BucketMap.of(pairs), _added(pairs)):
        assert len(mapping) == len(expected)
        assert sorted(mapping.values()) == sorted(expected.values())
        assert all(mapping.get(key) == value for key, value in expected.items())
    smaller = BucketMap.of(pairs).minus("key-7")
    assert smaller.get("key-7") is None
    assert len(smaller) == 2999
    assert smaller.minus("key-7") is smaller


def test_a_changed_mapping_shares_all_but_one_bucket() -> None:
    one: BucketMap[str, int] = BucketMap.of((f"key-{n}", n) for n in range(10_000))
    two = one.plus("another", 1)
    assert sum(old is new for old, new in zip(one._buckets, two._buckets, strict=True)) == BUCKETS - 1


def _added(pairs: list[tuple[str, int]]) -> BucketMap[str, int]:
    mapping: BucketMap[str, int] = BucketMap()
    for key, value in pairs:
        mapping = mapping.plus(key, value)
    return mapping
