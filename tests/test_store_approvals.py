"""The file of approvals: once, for one call, in time; in several processes, after a crash, and when full."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from authz.approvals.key import ApprovalKey
from authz.codes import Code
from authz.errors import ApprovalError, ChangedError, StoreError
from authz.store.approvals import KEPT_SECONDS, REPEAT_SECONDS, ApprovalFile, ApprovalLimits
from authz.store.approving import SharedApprovals
from tests.admin_world import uri
from tests.approvals_world import ARGUMENTS, ASKED, KEY, Book, asked, later
from tests.damaged_database import damage_database
from tests.fakes import ISSUER, NOW

ROOT = Path(__file__).parent.parent
Make = Callable[..., Book]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Book] = []

    def book(**limits: int) -> Book:
        made.append(Book(tmp_path / "data", ApprovalLimits(**limits)))
        return made[-1]

    yield book
    for each in made:
        each.file.close()


def code_of(act: Callable[[], object]) -> Code:
    with pytest.raises(ApprovalError) as refused:
        act()
    return refused.value.code


# ---------------------------------------------------------------- once


def test_nothing_is_spent_that_nobody_approved(make: Make) -> None:
    book = make()
    assert book.spend() is None
    waiting = book.request()
    assert book.spend() is None
    assert book.state(waiting) == "pending"


def test_an_approval_is_used_once(make: Make) -> None:
    book = make()
    waiting = book.request()
    book.approve(waiting)
    spent = book.spend()
    assert spent is not None
    assert (spent.id, spent.by, spent.at) == (waiting, uri("alice"), NOW)
    assert book.spend() is None
    assert book.state(waiting) == "used"


def test_after_its_use_the_same_call_is_asked_for_anew(make: Make) -> None:
    book = make()
    first = book.request()
    book.approve(first)
    assert book.spend()
    second = book.request()
    assert second != first
    assert book.spend() is None


OTHERS: dict[str, object] = {
    "human": uri("olga"),
    "agent": "another",
    "via": (),
    "task": "01JD8Z7Y3M5E0QX2V9T4B6N8KB",
    "service": "tickets",
    "address": "billing.example/acme/mcp",
    "action": "prompts/get",
    "resource": "delete_customers",
    "arguments_sha256": "0" * 64,
    "revision": "policy.other",
}


@pytest.mark.parametrize("part", [*OTHERS, "nobody"])
def test_an_approval_is_for_nothing_else(make: Make, part: str) -> None:
    """Another person, agent, way, run, service, action, resource, arguments, revision: another call."""
    book = make()
    book.approve(book.request())
    name, value = ("human", None) if part == "nobody" else (part, OTHERS[part])
    assert book.file.spend(replace(KEY, **{name: value}), NOW, "") is None  # type: ignore[arg-type]  # its part
    assert book.spend() is not None


def test_the_table_of_others_is_complete() -> None:
    assert set(OTHERS) == set(ApprovalKey.__slots__)


def test_parts_of_a_key_cannot_run_into_each_other() -> None:
    """As text beside text they would: `ab`, `c` and `a`, `bc`."""
    digests = {
        asked(service=service, action=action, resource=resource, via=via).key.digest
        for service, action, resource, via in [
            ("ab", "c", "d", ()),
            ("a", "bc", "d", ()),
            ("a", "b", "cd", ()),
            ("ab", "c", "d", ("x", "y")),
            ("ab", "c", "d", ("xy",)),
            ("ab", "c", 'd","', ()),
        ]
    }
    assert len(digests) == 6


def test_a_proxy_that_repeats_its_question_is_answered_as_before(make: Make) -> None:
    """Envoy asks again about one request; nobody else is that request, and it ends with its time."""
    book = make()
    book.approve(book.request())
    spent = book.spend(call="envoy 1")
    assert spent is not None
    assert book.spend(call="envoy 1") == spent
    assert book.spend(call="envoy 2") is None
    assert book.spend(call="") is None
    book.after = REPEAT_SECONDS
    assert book.spend(call="envoy 1") is None


def test_no_call_is_no_repeated_call(make: Make) -> None:
    book = make()
    book.approve(book.request())
    assert book.spend(call="")
    assert book.spend(call="") is None


# ---------------------------------------------------------------- asking again


def test_who_asks_again_is_told_of_the_same_request(make: Make) -> None:
    book = make()
    first = book.request()
    book.after = 30
    assert book.request() == first
    assert len(book.file.newest(book.now)) == 1
    book.approve(first)
    assert book.request() == first


def test_who_was_denied_is_told_so_and_does_not_ask_again(make: Make) -> None:
    """An agent that is told no would ask until the person is tired of it."""
    book = make()
    waiting = book.request()
    book.deny(waiting)
    assert code_of(book.request) is Code.APPROVAL_DENIED
    assert book.spend() is None
    book.after = 600
    assert book.request() != waiting


def test_what_was_approved_can_be_denied_until_it_is_used(make: Make) -> None:
    book = make()
    waiting = book.request()
    book.approve(waiting)
    book.deny(waiting)
    assert book.spend() is None
    with pytest.raises(ChangedError):
        book.approve(waiting)


@pytest.mark.parametrize("end", ["used", "denied", "expired", "approved", "unknown"])
def test_what_does_not_wait_is_not_approved(make: Make, end: str) -> None:
    """A second word, or one that comes late, changes nothing: not the end of its time either."""
    book = make()
    waiting = book.request()
    match end:
        case "used":
            book.approve(waiting)
            book.spend()
        case "denied":
            book.deny(waiting)
        case "approved":
            book.approve(waiting)
            book.after = 200
        case "expired":
            book.after = 600
        case _:
            waiting = "01JD8Z7Y3M5E0QX2V9T4B6N8KZ"
    with pytest.raises(ChangedError):
        book.approve(waiting)
    book.after = max(book.after, 300)
    assert book.spend() is None


# ---------------------------------------------------------------- time


def test_a_request_waits_for_ten_minutes_and_an_approval_for_five(make: Make) -> None:
    book = make()
    waiting = book.request()
    book.after = 599.9
    book.approve(waiting)
    book.after = 599.9 + 299.9
    assert book.spend()
    waiting = book.request()
    book.approve(waiting)
    book.after += 300
    assert book.spend() is None
    assert book.state(waiting) == "expired"


def test_the_times_are_those_of_the_configuration(make: Make) -> None:
    book = make(pending_seconds=60, granted_seconds=30)
    waiting = book.request()
    book.after = 59
    book.approve(waiting)
    book.after = 89
    assert book.spend() is None


def test_threat13_a_clock_that_went_back_brings_nothing_to_life(make: Make) -> None:
    book = make()
    waiting = book.request()
    book.after = 100
    book.approve(waiting)
    book.after = 90
    assert book.spend() is None
    book.after = 110
    assert book.spend() is None
    assert book.state(waiting) == "expired"
    assert b"C-1" not in book.raw()


# ---------------------------------------------------------------- what is left


def test_arguments_leave_the_disk_with_their_use(make: Make) -> None:
    """Not the row alone: SQLite leaves what it deletes where it was, unless it is told otherwise."""
    book = make()
    secret = '{"iban":"DE02120300000000202051"}'
    for end in (book.spend, lambda of: book.deny(book.request(of))):
        of = asked(secret)
        waiting = book.request(of)
        assert b"DE0212" in book.raw()
        found = book.file.find(waiting, NOW)
        assert found is not None
        assert (found.arguments, "DE0212" in repr(found)) == (secret, False)
        if end == book.spend:
            book.approve(waiting)
            assert b"DE0212" in book.raw()
        end(of)
        assert b"DE0212" not in book.raw()
        assert book.state(waiting) in {"used", "denied"}


def test_a_sweep_takes_out_what_expired_and_then_all_of_it(make: Make) -> None:
    book = make()
    waiting, used = book.request(), book.request(asked('{"n":1}'))
    book.approve(used)
    book.spend(asked('{"n":1}'))
    book.after = 600
    found = book.file.find(waiting, book.now)
    assert found is not None
    assert (found.state, found.arguments) == ("expired", None)
    assert b"C-1" in book.raw()
    book.file.sweep(book.now)
    assert b"C-1" not in book.raw()
    assert len(book.file.newest(book.now)) == 2
    book.after = 601 + KEPT_SECONDS
    book.file.sweep(book.now)
    assert book.file.newest(book.now) == ()
    assert book.state(waiting) is None


def test_a_list_is_of_one_person_or_of_all_and_shows_no_arguments(make: Make) -> None:
    book = make()
    mine, anothers, nobodys = (book.request(asked(human=who)) for who in (uri("alice"), uri("olga"), None))
    assert [each.id for each in book.file.newest(NOW, uri("alice"))] == [mine]
    assert [each.id for each in book.file.newest(NOW)] == [mine, anothers, nobodys]
    assert {each.arguments for each in book.file.newest(NOW)} == {None}


def test_what_waits_is_not_hidden_behind_what_was_asked_for_later_or_is_over(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that asks and asks would push the one request that matters out of the list."""
    monkeypatch.setattr("authz.store.approvals.MAX_LISTED", 3)
    book = make()
    first = book.request()
    for number in range(5):
        book.after = number + 1
        book.deny(book.request(asked(f'{{"n":{number}}}')))
    later_on = book.request(asked('{"n":9}'))
    listed = [each.id for each in book.file.newest(book.now)]
    assert listed[0] == first
    assert (listed[-1], len(listed)) == (later_on, 3)


# ---------------------------------------------------------------- bounds


def test_one_agent_does_not_flood_its_person_nor_keep_others_from_asking(make: Make) -> None:
    book = make(max_of_agent=3)
    waiting = [book.request(asked(f'{{"n":{n}}}')) for n in range(3)]
    assert code_of(lambda: book.request(asked('{"n":3}'))) is Code.APPROVAL_LIMIT
    assert book.request(asked('{"n":0}')) == waiting[0]
    assert book.request(asked(agent="another"))
    assert book.request(asked(human=uri("olga")))
    assert book.request(asked(human=None))
    # A denial makes no room for the next question: a person who denies is asked less, not more.
    book.deny(waiting[0])
    assert code_of(lambda: book.request(asked('{"n":3}'))) is Code.APPROVAL_LIMIT
    book.approve(waiting[1])
    assert book.spend(asked('{"n":1}'))
    assert book.request(asked('{"n":3}'))
    book.after = 600
    assert book.request(asked('{"n":4}'))


def test_an_agent_for_nobody_has_a_bound_too(make: Make) -> None:
    book = make(max_of_agent=1)
    book.request(asked(human=None))
    assert code_of(lambda: book.request(asked('{"n":1}', human=None))) is Code.APPROVAL_LIMIT


def test_full_is_closed_until_something_ends(make: Make) -> None:
    book = make(max_open=2)
    for number in range(2):
        book.request(asked(agent=f"agent-{number}"))
    assert code_of(book.request) is Code.APPROVAL_LIMIT
    book.after = 600
    assert book.request()


# ---------------------------------------------------------------- processes, crashes, files


def _start(path: Path, count: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.approval_process", str(path), str(count), str(NOW.timestamp())],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_of_several_processes_one_is_given_each_approval(make: Make) -> None:
    book = make(max_of_agent=1000)
    for number in range(100):
        book.approve(book.request(asked(f'{{"number":{number}}}')))
    processes = [_start(book.path, 100) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    given = [int(n) for process in processes for n in process.communicate(timeout=120)[0].split()]
    assert sorted(given) == list(range(100))
    assert [process.returncode for process in processes] == [0, 0, 0]


def test_what_another_process_asked_is_approved_and_spent_here(make: Make) -> None:
    """A replica asks, the authority decides, and another replica lets the retry through, once."""
    replica, authority, other = make(), make(), make()
    waiting = replica.request()
    authority.approve(waiting)
    assert other.spend() is not None
    assert replica.spend() is None


def test_a_restart_forgets_neither_the_word_nor_the_use(make: Make) -> None:
    book = make()
    waiting = book.request()
    book.file.close()
    again = make()
    again.approve(waiting)
    again.file.close()
    third = make()
    assert third.spend()
    third.file.close()
    assert make().spend() is None


def test_a_locked_file_is_closed_not_open(make: Make) -> None:
    book = make()
    waiting = book.request()
    book.approve(waiting)
    other = sqlite3.connect(book.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for step in (book.spend, book.request, lambda: book.deny(waiting)):
        with pytest.raises(StoreError, match="cannot be known"):
            step()
    other.execute("ROLLBACK")
    other.close()
    assert book.spend()


def test_only_its_user_reads_it(make: Make) -> None:
    book = make()
    book.request()
    assert {stat.S_IMODE(path.stat().st_mode) for path in book.directory.iterdir()} == {0o600}
    book.file.close()
    book.path.chmod(0o640)
    with pytest.raises(StoreError, match="others can get at"):
        make()


@pytest.mark.parametrize("damage", ["other program", "other version", "no database", "torn"])
def test_what_is_no_file_of_approvals_is_refused(make: Make, damage: str) -> None:
    book = make()
    for number in range(30):
        book.request(asked(f'{{"n":{number}}}'))
    book.file.close()
    damage_database(book.path, damage)
    with pytest.raises(StoreError):
        make()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("key", '{"human": null}'),
        ("key", "[]"),
        ("key", "{"),
        ("key", 7),
        ("key_sha256", "0" * 64),
        ("arguments", '{"customer":"C-2"}'),
        ("id", "no ulid"),
        ("expires_at", "never"),
        ("expires_at", 10**18),
    ],
)
def test_a_row_that_we_did_not_write_is_an_error(make: Make, column: str, value: object) -> None:
    """Somebody may have changed what is shown, and left what is approved."""
    book = make()
    waiting = book.request()
    other = sqlite3.connect(book.path)
    other.execute(f"UPDATE approvals SET {column} = ?", (value,))
    other.commit()
    other.close()
    with pytest.raises(StoreError, match="not as we wrote it"):
        book.file.find("no ulid" if column == "id" else waiting, NOW)


@pytest.mark.parametrize("column", ["decided_by", "decided_at"])
def test_an_approval_that_nobody_gave_is_an_error(make: Make, column: str) -> None:
    book = make()
    book.approve(book.request())
    other = sqlite3.connect(book.path)
    other.execute(f"UPDATE approvals SET {column} = NULL")
    other.commit()
    other.close()
    with pytest.raises(StoreError, match="nobody gave"):
        book.spend()


# ---------------------------------------------------------------- the port of the flow


def shared(book: Book) -> SharedApprovals:
    return SharedApprovals(book.file, ISSUER, os.urandom)


def test_a_prompt_names_the_page_and_says_who_asks_for_what(make: Make) -> None:
    prompt = asyncio.run(shared(make()).request(ASKED, NOW))
    assert prompt.url == f"{ISSUER}/approvals/{prompt.id}"
    assert prompt.message == (
        f"agent listed asks, for {uri('alice')}, to use delete_customer of billing (tools/call)"
    )
    assert ARGUMENTS not in prompt.message


def test_what_cannot_be_known_is_a_denial_that_says_so(make: Make) -> None:
    book = make()
    other = sqlite3.connect(book.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    approvals = shared(book)

    async def scenario() -> None:
        for step in (approvals.spend(KEY, NOW, ""), approvals.request(ASKED, NOW), approvals.sweep(NOW)):
            with pytest.raises(ApprovalError) as refused:
                await step
            assert refused.value.code is Code.APPROVAL_UNKNOWN

    asyncio.run(scenario())
    other.execute("ROLLBACK")
    other.close()


def test_of_many_calls_at_once_one_is_given_the_approval(make: Make) -> None:
    book = make()
    book.approve(book.request())
    approvals = shared(book)

    async def scenario() -> list[object]:
        return await asyncio.gather(*(approvals.spend(KEY, later(1), f"envoy {n}") for n in range(20)))

    assert len([found for found in asyncio.run(scenario()) if found is not None]) == 1
    assert ApprovalFile.open(book.path).spend(KEY, later(2), "") is None
