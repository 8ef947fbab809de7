"""The file of pins: first sight, drift, acceptance; in several processes, when full, damaged or gone."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from authz.codes import Code
from authz.errors import ChangedError, PinError, StoreError
from authz.pins.change import PinChange
from authz.pins.declared import Declared
from authz.pins.known import PinLimits
from authz.pins.pin import MAX_LOOKED_AT
from authz.pins.port import PinMode
from tests.damaged_database import damage_database
from tests.fakes import NOW
from tests.pins_world import BAD, EVIL, GOOD, SERVICE, TOOL, PinBook, declared, shared

ROOT = Path(__file__).parent.parent
Make = Callable[..., PinBook]
OTHER = declared(description="Deletes one customer, or several.")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[PinBook] = []

    def book(**limits: int) -> PinBook:
        made.append(PinBook(tmp_path / "data", PinLimits(**limits)))
        return made[-1]

    yield book
    for each in made:
        each.file.close()


def writes(book: PinBook) -> bytes:
    """What moves with each write of the file."""
    return book.path.read_bytes()[24:28]


def raw(book: PinBook) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(book.directory.iterdir()))


# ---------------------------------------------------------------- seen, changed, accepted


def test_what_is_seen_first_counts_and_a_change_of_it_does_not(make: Make) -> None:
    book = make()
    assert book.refusal() is None
    assert book.learn(GOOD) == frozenset()
    assert book.refusal() is None
    assert book.learn(BAD) == {GOOD.name}
    assert book.refusal() == "TOOL_CHANGED"
    kept = book.file.declarations(SERVICE, GOOD.name)
    assert (kept[GOOD.digest], kept[BAD.digest]["description"]) == (TOOL, EVIL)


def test_an_accepted_change_counts(make: Make) -> None:
    book = make()
    book.learn(GOOD)
    book.learn(BAD)
    book.after = 5
    pin = book.accept(BAD, by="uid:7")
    assert pin.accepted is not None
    assert (pin.accepted.by, pin.accepted.at) == ("uid:7", book.now)
    assert book.refusal() is None
    assert book.refusal(mode="require") is None
    assert book.learn(BAD, mode="require") == frozenset()
    assert set(book.file.declarations(SERVICE, GOOD.name)) == {BAD.digest}


def test_where_acceptance_is_required_nothing_counts_by_being_seen(make: Make) -> None:
    book = make()
    assert book.refusal(mode="require") == "TOOL_UNPINNED"
    assert book.learn(GOOD, mode="require") == {GOOD.name}
    assert book.refusal(mode="require") == "TOOL_UNPINNED"
    book.accept(GOOD)
    assert book.learn(GOOD, mode="require") == frozenset()
    assert book.refusal(mode="require") is None


def test_what_was_learnt_before_acceptance_was_required_has_to_be_accepted(make: Make) -> None:
    book = make()
    book.learn(GOOD)
    assert book.learn(GOOD, mode="require") == {GOOD.name}
    book.accept(GOOD)
    assert book.refusal(mode="require") is None


def test_what_was_read_elsewhere_is_accepted_unseen(make: Make) -> None:
    """No list is looked at, or the tools are reviewed before the server is there."""
    book = make()
    book.accept(GOOD, seen=False)
    assert book.refusal(mode="require") is None
    assert book.learn(BAD, mode="require") == {GOOD.name}
    assert book.refusal(mode="require") == "TOOL_CHANGED"


def test_a_swap_between_the_review_and_the_acceptance_is_accepted_by_nobody(make: Make) -> None:
    book = make()
    book.learn(GOOD)
    book.learn(OTHER)
    book.after = 60
    book.learn(BAD)
    with pytest.raises(ChangedError, match="look at it again"):
        book.accept(OTHER)
    assert book.refusal() == "TOOL_CHANGED"


def test_a_swap_that_is_not_noticed_yet_is_a_change_after_the_acceptance(make: Make) -> None:
    book = make()
    for shown in (GOOD, OTHER, BAD):
        book.learn(shown)
    book.accept(OTHER)
    assert book.learn(BAD) == {GOOD.name}
    assert book.refusal() == "TOOL_CHANGED"


@pytest.mark.parametrize("digest", ["0" * 64, GOOD.digest[:16], "", declared("other").digest])
def test_what_nobody_saw_is_accepted_by_its_declaration_only(make: Make, digest: str) -> None:
    book = make()
    book.learn(GOOD)
    with pytest.raises(ChangedError):
        book.file.accept((SERVICE, GOOD.name), digest, "uid:1", NOW)
    with pytest.raises(ChangedError):
        book.file.accept((SERVICE, "unknown"), GOOD.digest, "uid:1", NOW)
    with pytest.raises(ChangedError):
        book.file.accept(("tickets", GOOD.name), GOOD.digest, "uid:1", NOW)


def test_a_tool_that_alternates_stays_denied_until_somebody_decides(make: Make) -> None:
    book = make()
    for number, shown in enumerate((GOOD, BAD, GOOD, BAD)):
        book.after = number * 3600
        book.learn(shown)
    assert book.learn(GOOD) == {GOOD.name}
    assert book.refusal() == "TOOL_CHANGED"
    assert book.pin().waiting == BAD.digest
    book.accept(GOOD)
    assert book.learn(GOOD) == frozenset()
    assert book.refusal() is None


def test_two_callers_who_are_shown_two_lists_see_no_change_of_it_both(make: Make) -> None:
    """A server that poisons for one victim: the victim's list is cut, whatever the others are shown."""
    book = make()
    book.learn(GOOD)
    for number in range(10):
        book.after = number
        assert book.learn(BAD) == {GOOD.name}
        book.learn(GOOD)
    assert book.refusal() == "TOOL_CHANGED"


def test_a_name_twice_in_one_list_is_learnt_as_neither(make: Make) -> None:
    book = make()
    assert book.learn(GOOD, BAD) == {GOOD.name}
    assert book.refusal() == "TOOL_UNPINNED"
    assert book.learn(GOOD) == frozenset()
    assert book.learn(GOOD, BAD) == {GOOD.name}
    assert book.pin().departures == 1


def test_a_tool_that_is_gone_is_no_drift(make: Make) -> None:
    book = make()
    book.learn(GOOD, declared("other"))
    book.learn(declared("other"))
    assert book.refusal() is None


def test_a_forgotten_tool_is_one_that_nobody_saw(make: Make) -> None:
    book = make()
    book.learn(GOOD)
    book.learn(BAD)
    assert book.file.forget(SERVICE, GOOD.name).state == "changed"
    assert book.file.declarations(SERVICE, GOOD.name) == {}
    with pytest.raises(ChangedError):
        book.file.forget(SERVICE, GOOD.name)
    assert book.learn(BAD) == frozenset()


def test_services_do_not_share_tools(make: Make) -> None:
    book = make()
    book.learn(GOOD)
    assert book.learn(BAD, service="tickets") == frozenset()
    assert book.refusal() is None
    book.file.forget("tickets", GOOD.name)
    assert set(book.file.declarations(SERVICE, GOOD.name)) == {GOOD.digest}


# ---------------------------------------------------------------- writes


def test_a_list_that_was_seen_before_writes_nothing(make: Make) -> None:
    book = make()
    tools = [declared(f"tool_{n}") for n in range(200)]
    book.learn(*tools)
    before = writes(book)
    for minutes in range(5):
        book.after = minutes * 600
        assert book.learn(*tools) == frozenset()
        assert book.learn(*reversed(tools[:50])) == frozenset()
    assert writes(book) == before


def test_a_server_that_changes_with_each_list_hardly_writes(make: Make) -> None:
    book = make()
    book.learn(GOOD)
    book.learn(BAD)
    before = writes(book)
    for number in range(50):
        book.after = number
        assert book.learn(declared(description=f"version {number}")) == {GOOD.name}
    assert writes(book) == before


@pytest.mark.parametrize("mode", ["learn", "require"])
def test_a_server_that_changes_one_tool_after_another_hardly_writes(make: Make, mode: PinMode) -> None:
    """Each write is a record and a look by all processes: else one server would slow all others down."""
    book = make()
    names = [f"tool-{number}" for number in range(200)]
    for version in range(2):
        book.learn(*(declared(name, description=str(version)) for name in names), mode=mode)
    written = 0
    for second in range(60, 180):
        book.after, before = second, writes(book)
        some = names[second - 60 :: 120]
        book.learn(*(declared(name, description=f"at {second}") for name in some), mode=mode)
        written += writes(book) != before
    assert 0 < written <= 2 * MAX_LOOKED_AT
    assert {book.refusal(name, mode) for name in names} <= {"TOOL_CHANGED", "TOOL_UNPINNED"}


def test_of_many_that_change_again_at_once_some_are_written(make: Make) -> None:
    book, told = make(), list[PinChange]()
    names = [f"tool-{number}" for number in range(200)]
    for version in range(3):
        book.after = version * 100
        book.file.learn(
            SERVICE,
            [declared(name, description=str(version)) for name in names],
            "learn",
            book.now,
            told.append,
        )
    assert len(told) == len(names) + MAX_LOOKED_AT
    assert all(book.refusal(name) == "TOOL_CHANGED" for name in names)


def test_what_is_too_long_is_no_write_with_each_list(make: Make) -> None:
    book = make()
    long = declared(description="x" * (1 << 20))
    assert book.learn(long) == {GOOD.name}
    before = writes(book)
    for hours in range(3):
        book.after = hours * 3600
        assert book.learn(long) == {GOOD.name}
    assert writes(book) == before


# ---------------------------------------------------------------- bounds


def test_a_description_of_a_megabyte_is_denied_and_not_kept(make: Make) -> None:
    book = make()
    long = declared(description="x" * (1 << 20))
    assert book.learn(long) == {GOOD.name}
    assert book.refusal() == "TOOL_UNPINNED"
    assert book.path.stat().st_size < 100_000
    for seen in (True, False):
        with pytest.raises(ChangedError):
            book.accept(long, seen=seen)
    assert book.learn(GOOD) == frozenset()
    book.after = 60
    assert book.learn(long) == {GOOD.name}
    assert book.refusal() == "TOOL_CHANGED"
    assert set(book.file.declarations(SERVICE, GOOD.name)) == {GOOD.digest}


def test_of_ten_thousand_tools_so_many_are_kept_and_the_rest_is_denied(make: Make) -> None:
    book = make(tools=200)
    tools = [declared(f"tool_{n}") for n in range(1000)]
    hidden = book.learn(*tools)
    assert len(hidden) == 800
    assert book.refusal("tool_0") is None
    assert book.refusal("tool_999") == "TOOL_UNPINNED"
    assert book.refusal("never_seen") == "TOOL_UNPINNED"
    before = writes(book)
    assert book.learn(*tools) == hidden
    assert writes(book) == before
    with pytest.raises(ChangedError, match="no room"):
        book.accept(declared("one_more"), seen=False)
    book.file.forget(SERVICE, "tool_0")
    book.accept(declared("one_more"), seen=False)


def test_all_declarations_of_a_service_are_bounded_together(make: Make) -> None:
    book = make(service_bytes=20_000)
    tools = [declared(f"tool_{n}", description="x" * 3000) for n in range(10)]
    hidden = book.learn(*tools)
    assert hidden == {f"tool_{n}" for n in range(6, 10)}
    assert book.refusal("tool_9") == "TOOL_UNPINNED"
    assert book.learn(*tools, service="tickets") == hidden


def test_old_words_of_a_tool_are_forgotten(make: Make) -> None:
    book = make()
    for number in range(40):
        book.after = number * 60
        book.learn(declared(description=f"{number:02}" * 2000))
    assert len(book.file.declarations(SERVICE, GOOD.name)) == 2
    assert book.path.stat().st_size < 100_000


# ---------------------------------------------------------------- processes, crashes, files


def _start(directory: Path, word: str, count: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.pin_process", str(directory), word, str(count)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_of_processes_that_learn_at_once_the_first_decides_and_the_others_see_drift(make: Make) -> None:
    book, count = make(), 15
    processes = [_start(book.directory, word, count) for word in ("one", "two", "three")]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    hidden = [int(process.communicate(timeout=120)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    pins = book.known().of(SERVICE)
    assert len(pins) == count
    assert {pin.state for pin in pins.values()} == {"changed"}
    # Two of three see drift; the first, too, where another one came before it had its answer.
    assert 2 * count <= sum(hidden) <= 3 * count
    words = {book.file.declarations(SERVICE, name)[pin.accepted.digest]["description"]  # type: ignore[union-attr]  # changed
             for name, pin in pins.items()}  # fmt: skip
    assert words <= {"one", "two", "three"}


def test_what_another_process_writes_counts_at_the_next_call(make: Make) -> None:
    here, there = make(), make()
    here.learn(GOOD)
    assert there.refusal() is None
    here.learn(BAD)
    assert there.refusal() == "TOOL_CHANGED"
    there.accept(BAD)
    assert here.refusal() is None
    there.file.forget(SERVICE, GOOD.name)
    assert here.refusal(mode="require") == "TOOL_UNPINNED"


def test_two_changes_at_one_moment_are_both_seen(make: Make) -> None:
    """By the time of the file they would be one: its clock ticks every few milliseconds."""
    here, there = make(), make()
    for number in range(60):
        there.accept(declared(f"tool_{number}"), seen=False)
        assert here.refusal(f"tool_{number}", mode="require") is None


def test_a_restart_forgets_nothing(make: Make) -> None:
    book = make()
    book.learn(GOOD)
    book.learn(BAD)
    book.file.close()
    assert make().refusal() == "TOOL_CHANGED"


def test_only_its_user_reads_it(make: Make) -> None:
    book = make()
    book.learn(GOOD)
    assert {stat.S_IMODE(path.stat().st_mode) for path in book.directory.iterdir()} == {0o600}
    book.file.close()
    book.path.chmod(0o640)
    with pytest.raises(StoreError, match="others can get at"):
        make()


@pytest.mark.parametrize("damage", ["other program", "other version", "no database", "torn"])
def test_what_is_no_file_of_pins_is_refused(make: Make, damage: str) -> None:
    book = make()
    book.learn(*(declared(f"tool_{n}") for n in range(50)))
    book.file.close()
    damage_database(book.path, damage)
    with pytest.raises(StoreError):
        make()


@pytest.mark.parametrize("gone", ["deleted", "replaced", "emptied", "moved", "moved and replaced"])
def test_a_file_that_is_gone_is_not_believed_from_memory(make: Make, gone: str) -> None:
    """Others would write into the new one, and what counts here would be what nobody can change any more."""
    book = make()
    book.learn(GOOD)
    assert book.refusal() is None
    if gone == "emptied":
        os.truncate(book.path, 0)
    elif "moved" in gone:
        # It still has a name, as where somebody keeps the old one before they put a copy back.
        book.path.rename(book.path.with_suffix(".old"))
    else:
        book.path.unlink()
    if "replaced" in gone:
        make().learn(GOOD)
    with pytest.raises(StoreError, match="pins"):
        book.refusal()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("accepted", "no digest"),
        ("accepted", 7),
        ("accepted_by", None),
        ("accepted_at", "never"),
        ("seen", "0" * 63),
        ("seen_at", 10**18),
        ("departures", -1),
        ("departures", "many"),
    ],
)
def test_a_row_that_we_did_not_write_is_an_error(make: Make, column: str, value: object) -> None:
    book = make()
    book.learn(GOOD)
    other = sqlite3.connect(book.path)
    other.execute(f"UPDATE pins SET {column} = ?", (value,))
    other.commit()
    other.close()
    with pytest.raises(StoreError, match="not as we wrote it"):
        book.refusal()


@pytest.mark.parametrize("text", ["{", "[]", "7"])
def test_a_declaration_that_we_did_not_write_is_an_error(make: Make, text: str) -> None:
    book = make()
    book.learn(GOOD)
    other = sqlite3.connect(book.path)
    other.execute("UPDATE declarations SET text = ?", (text,))
    other.commit()
    other.close()
    with pytest.raises(StoreError, match="not as we wrote it"):
        book.file.declarations(SERVICE, GOOD.name)


# ---------------------------------------------------------------- the port of the flow


def code_of(book: PinBook, mode: PinMode = "learn") -> Code | None:
    try:
        asyncio.run(shared(book).require(SERVICE, GOOD.name, mode))
    except PinError as error:
        assert EVIL not in str(error)
        return error.code
    return None


def test_the_port_refuses_by_code_and_names_hashes_only(make: Make) -> None:
    book = make()
    assert code_of(book) is None
    assert code_of(book, "require") is Code.TOOL_UNPINNED
    book.learn(GOOD)
    assert code_of(book) is None
    assert code_of(book, "require") is Code.TOOL_UNPINNED
    book.learn(BAD)
    assert code_of(book) is Code.TOOL_CHANGED
    with pytest.raises(PinError, match=f"accepted {GOOD.digest}, seen {BAD.digest}"):
        asyncio.run(shared(book).require(SERVICE, GOOD.name, "learn"))


def test_the_port_hides_what_has_changed(make: Make) -> None:
    pins, later_on = shared(make()), NOW + timedelta(seconds=1)

    async def scenario() -> None:
        assert await pins.learn(SERVICE, [GOOD], "learn", NOW) == frozenset()
        assert await pins.learn(SERVICE, [GOOD], "learn", later_on) == frozenset()
        assert await pins.learn(SERVICE, [BAD], "learn", later_on) == {GOOD.name}

    asyncio.run(scenario())


def test_switched_off_nothing_is_looked_at(make: Make) -> None:
    book = make()
    book.path.unlink()
    pins = shared(book)
    asyncio.run(pins.require(SERVICE, GOOD.name, "off"))
    assert asyncio.run(pins.learn(SERVICE, [GOOD], "off", NOW)) == frozenset()


def test_what_cannot_be_known_is_a_denial_that_says_so(make: Make) -> None:
    book = make()
    other = sqlite3.connect(book.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert code_of(book) is Code.PINS_UNKNOWN
    with pytest.raises(PinError) as refused:
        asyncio.run(shared(book).learn(SERVICE, [GOOD], "learn", NOW))
    assert refused.value.code is Code.PINS_UNKNOWN
    other.execute("ROLLBACK")
    assert code_of(book) is None
    other.execute("BEGIN IMMEDIATE")
    # Nobody has written yet: what is known is what there is, and only who would write waits.
    assert code_of(book) is None
    with pytest.raises(PinError):
        asyncio.run(shared(book).learn(SERVICE, [GOOD], "learn", NOW))
    other.close()
    book.path.unlink()
    assert code_of(book) is Code.PINS_UNKNOWN


def test_many_who_learn_one_list_at_once_write_it_once(make: Make) -> None:
    book = make()
    pins, tools = shared(book), [declared(f"tool_{n}") for n in range(50)]
    before = int.from_bytes(writes(book))

    async def scenario() -> list[frozenset[str]]:
        return await asyncio.gather(*(pins.learn(SERVICE, tools, "learn", NOW) for _ in range(20)))

    assert set(asyncio.run(scenario())) == {frozenset()}
    assert int.from_bytes(writes(book)) == before + 1


def test_the_file_holds_what_was_declared_and_no_more(make: Make) -> None:
    book = make()
    book.learn(Declared.of(GOOD.name, {**TOOL, "icons": [{"src": "https://x/s3cret"}]}))
    assert b"s3cret" not in raw(book)
