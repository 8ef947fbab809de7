"""Strangers cannot fill the log, and none of their refusals goes uncounted."""

from datetime import datetime, timedelta

from authz.audit.facts import Summary
from authz.audit.strangers import REST, Admission, Rates, Strangers
from tests.audit_facts import NOW


def at(seconds: float) -> datetime:
    return NOW.replace(microsecond=0) + timedelta(seconds=seconds)


def admit(strangers: Strangers, peer: str, now: datetime, times: int) -> list[Admission]:
    return [strangers.admit(peer, now) for _ in range(times)]


def recorded(answers: list[Admission]) -> int:
    return answers.count(Admission.RECORD)


def test_first_refusals_of_a_second_are_recorded_and_the_rest_counted() -> None:
    strangers = Strangers(Rates(per_peer=3))

    assert admit(strangers, "a", at(0), 5) == [Admission.RECORD] * 3 + [Admission.COUNT] * 2
    assert recorded(admit(strangers, "a", at(0.9), 5)) == 0
    assert recorded(admit(strangers, "a", at(1), 5)) == 3


def test_one_peer_does_not_spend_the_records_of_another() -> None:
    strangers = Strangers(Rates(per_peer=3))
    admit(strangers, "a", at(0), 100)

    assert recorded(admit(strangers, "b", at(0), 100)) == 3


def test_summary_comes_when_its_second_is_over_and_once() -> None:
    strangers = Strangers(Rates(per_peer=1))
    admit(strangers, "a", at(0.25), 8)

    assert strangers.due(at(0.9)) == ()
    assert strangers.due(at(1.1)) == (Summary(peer="a", count=7, since=at(0.25), until=at(1.1)),)
    assert strangers.due(at(2.1)) == ()


def test_end_of_the_service_brings_every_summary() -> None:
    strangers = Strangers(Rates(per_peer=1))
    admit(strangers, "a", at(0), 3)

    assert [summary.count for summary in strangers.due(at(0.5), final=True)] == [2]


def test_changing_names_gains_nothing() -> None:
    strangers = Strangers(Rates(per_peer=10, all_peers=50, peers=16))
    answers = [strangers.admit(f"peer-{number}", at(0)) for number in range(10_000)]

    assert recorded(answers) == 50
    assert len(strangers._peers) == 16


def test_summaries_are_bounded_and_the_largest_come_first() -> None:
    strangers = Strangers(Rates(per_peer=1, summaries=2))
    for number in range(1, 6):
        admit(strangers, f"peer-{number}", at(0), 1 + number)

    summaries = strangers.due(at(1))

    assert [(summary.peer, summary.count) for summary in summaries] == [
        ("peer-5", 5),
        ("peer-4", 4),
        (REST, 6),
    ]


def test_every_refusal_is_recorded_or_in_one_count() -> None:
    strangers = Strangers(Rates(per_peer=2, all_peers=20, peers=8, summaries=3))
    answers = []
    counted = 0
    for step in range(3_000):
        answers.append(strangers.admit(f"peer-{step * step % 31}", at(step / 500)))
        if step % 400 == 0:
            counted += sum(summary.count for summary in strangers.due(at(step / 500)))
    counted += sum(summary.count for summary in strangers.due(at(7), final=True))

    assert recorded(answers) + counted == 3_000


def test_peer_seen_longest_ago_makes_room() -> None:
    strangers = Strangers(Rates(per_peer=1, peers=2))
    for peer in ("a", "b", "a", "c"):
        strangers.admit(peer, at(0))

    assert list(strangers._peers) == ["a", "c"]


def test_clock_that_goes_back_opens_no_flood_and_loses_no_count() -> None:
    strangers = Strangers(Rates(per_peer=2))
    admit(strangers, "a", at(100), 10)

    assert recorded(admit(strangers, "a", at(50), 10)) == 2
    assert sum(summary.count for summary in strangers.due(at(51))) == 16


def test_summary_that_the_log_refused_comes_again() -> None:
    strangers = Strangers(Rates(per_peer=1))
    admit(strangers, "a", at(0), 8)
    [summary] = strangers.due(at(1))
    strangers.put_back(summary)

    assert strangers.due(at(2)) == (Summary(peer=REST, count=7, since=at(0), until=at(2)),)
    assert strangers.due(at(3)) == ()


def test_a_refusal_that_is_only_counted_is_in_the_next_summary() -> None:
    strangers = Strangers()
    for _ in range(3):
        strangers.count("(the host itself: busy)", NOW)
    (summary,) = strangers.due(NOW, final=True)
    assert (summary.peer, summary.count) == ("(the host itself: busy)", 3)
    assert strangers.due(NOW, final=True) == ()
