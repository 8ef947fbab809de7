"""What a pin is: what counts, what has changed, what is hidden; and a server that attacks by its own list."""

from datetime import timedelta
from typing import Any

import pytest

from authz.codes import Code
from authz.pins.declared import Declared, is_tool_name
from authz.pins.known import KnownPins, PinLimits
from authz.pins.pin import LOOK_AGAIN, Acceptance, Pin, Sighting
from authz.pins.port import PinMode
from authz.pins.review import digest_of
from identity.canonical import CanonicalJsonError, sha256_hex
from tests.approvals_world import later
from tests.fakes import NOW
from tests.pins_world import BAD, EVIL, GOOD, SERVICE, TOOL, declared, tool

A, B, C = (sha256_hex(letter) for letter in (b"a", b"b", b"c"))


def at(seconds: float, digest: str) -> Sighting:
    return Sighting(digest, later(seconds))


def learnt(*digests: str, learns: bool = True, step: float = 100) -> Pin:
    """A pin that saw these, one after the other."""
    pin = Pin(SERVICE, "x")
    for number, digest in enumerate(digests):
        pin = pin.notice(at(number * step, digest), learns=learns)
    return pin


# ---------------------------------------------------------------- the hash


@pytest.mark.parametrize(
    "parts",
    [
        {"description": "Deletes one customer"},
        {"description": "Deletes one customer.\u200b"},
        {"title": "delete a customer"},
        {"inputSchema": {**TOOL["inputSchema"], "required": []}},
        {"inputSchema": {**TOOL["inputSchema"], "additionalProperties": False}},
        {"outputSchema": {"type": "object"}},
        {"annotations": {"destructiveHint": False}},
        {"annotations": {"destructiveHint": 1}},
        {"execution": {"taskSupport": "required"}},
        {"instructions": "a member of tomorrow's specification"},
        {"Description": EVIL},
        # Clients search by it, and choose by it what a person sees: it can be poisoned, too.
        {"_meta": {"anthropic/searchHint": EVIL}},
        {"_meta": {"ui": {"resourceUri": "ui://evil"}}},
        # What is left out must not hold what is read after all.
        {"icons": EVIL},
        {"icons": [EVIL]},
        {"icons": [{"src": f"https://x/ {EVIL}"}]},
        {"icons": [{"src": "data:text/plain,first-call-export"}]},
        {"icons": [{"src": "https://x/y.png", "description": EVIL}]},
        {"icons": [{"src": "https://x/y.png", "sizes": [EVIL]}]},
        {"icons": [{"src": "https://x/y.png", "sizes": EVIL}]},
        {"icons": [{"src": "https://x/y.png", "mimeType": EVIL}]},
        {"icons": [{"src": ["https://x/y.png"]}]},
    ],
)
def test_whatever_a_model_reads_or_a_call_means_is_hashed(parts: dict[str, Any]) -> None:
    # Twice: what is remembered of one is not taken for the other.
    for _ in range(2):
        assert Declared.of("delete_customer", TOOL).digest == GOOD.digest
        assert Declared.of("delete_customer", tool(**parts)).digest != GOOD.digest


@pytest.mark.parametrize(
    "icon",
    [
        {"src": "https://x/y.png?signed=7"},
        {"src": "data:image/png;base64,AA==", "mimeType": "image/png", "sizes": ["48x48", "any"]},
        {"src": "http://x/y.svg", "mimeType": "image/svg+xml", "theme": "dark"},
    ],
)
def test_icons_are_not_hashed(icon: dict[str, Any]) -> None:
    assert Declared.of("delete_customer", tool(icons=[icon])).digest == GOOD.digest


def test_the_order_of_members_is_no_change() -> None:
    turned = dict(reversed(TOOL.items()))
    assert Declared.of("delete_customer", turned).digest == GOOD.digest


def test_a_gateways_prefix_is_no_change() -> None:
    wired = Declared.of("delete_customer", tool(name="billing__delete_customer"))
    assert (wired.digest, wired.text) == (GOOD.digest, GOOD.text)


def test_a_renamed_tool_and_the_same_under_another_name_have_other_hashes() -> None:
    names = ("delete_customer", "Delete_customer", "delete-customer", "delete_customer2")
    assert len({declared(name).digest for name in names}) == len(names)


def test_a_long_declaration_is_hashed_as_a_short_one() -> None:
    for length in (10, 9_000, 1 << 20):
        text = "x" * length
        assert declared(description=text).digest == sha256_hex(declared(description=text).text)


@pytest.mark.parametrize("value", [{1, 2}, 2**60, float("inf"), "\ud800", {"a": object()}])
def test_what_cannot_be_written_in_one_way_has_no_hash(value: object) -> None:
    with pytest.raises(CanonicalJsonError):
        declared(description=value)


def test_a_declaration_is_not_in_a_log() -> None:
    assert "IMPORTANT" not in repr(BAD)


@pytest.mark.parametrize("name", ["", "a" * 129, "delete customer", "d\u0435lete", "a\n", "a/b", "a\u200b"])
def test_letters_that_look_alike_are_in_no_name(name: str) -> None:
    assert not is_tool_name(name)


# ---------------------------------------------------------------- states


def test_what_is_seen_first_is_learnt() -> None:
    pin = learnt(A)
    assert (pin.state, pin.refusal("learn"), pin.waiting) == ("learned", None, A)
    assert pin.accepted == Acceptance(A, "learned", NOW)


def test_what_was_learnt_counts_for_nobody_who_asks_for_an_acceptance() -> None:
    assert learnt(A).refusal("require") is Code.TOOL_UNPINNED
    assert learnt(A).accept(A, "uid:1", NOW).refusal("require") is None


def test_without_learning_what_is_seen_waits() -> None:
    pin = learnt(A, B, learns=False)
    assert (pin.state, pin.waiting, pin.refusal("require")) == ("new", B, Code.TOOL_UNPINNED)
    assert pin.refusal("learn") is Code.TOOL_UNPINNED


def test_a_tool_of_which_nothing_is_known_is_new_and_not_changed() -> None:
    pin = Pin(SERVICE, "x")
    assert (pin.is_changed, pin.state, pin.waiting) == (False, "new", None)


def test_a_change_is_a_denial_until_somebody_decides() -> None:
    pin = learnt(A, B)
    assert (pin.state, pin.waiting) == ("changed", B)
    assert {pin.refusal(mode) for mode in ("learn", "require")} == {Code.TOOL_CHANGED}
    assert pin.refusal("off") is None
    assert pin.accept(B, "uid:1", NOW).refusal("require") is None


def test_what_went_back_once_is_itself_again_and_the_change_stays_to_be_seen() -> None:
    pin = learnt(A, B, A)
    assert (pin.state, pin.refusal("learn")) == ("learned", None)
    assert pin.drift is not None
    assert pin.drift.digest == B


@pytest.mark.parametrize("shown", [(A, B, A, B), (A, B, A, C), (A, B, A, B, A), (A, B, A, C, A, A)])
def test_what_alternates_is_denied_whatever_it_shows(shown: tuple[str, ...]) -> None:
    """Who reviews is shown the one face, whom it is meant for the other."""
    pin = learnt(*shown)
    assert (pin.state, pin.refusal("learn")) == ("changed", Code.TOOL_CHANGED)
    # What it showed stays what can be looked at.
    assert pin.waiting == next(digest for digest in reversed(shown) if digest != A)
    assert pin.notice(at(9_999, A), learns=True) is pin


def test_who_alternates_and_is_accepted_anew_begins_anew() -> None:
    pin = learnt(A, B, A, B).accept(B, "uid:1", NOW)
    assert (pin.state, pin.departures, pin.drift) == ("accepted", 0, None)


def test_the_old_one_that_is_accepted_again_counts_once_the_server_shows_it() -> None:
    pin = learnt(A, B, A, B).accept(A, "uid:1", NOW)
    assert (pin.state, pin.waiting) == ("changed", B)
    assert pin.notice(at(999, A), learns=True).state == "accepted"


def test_what_was_accepted_in_advance_waits_for_the_server() -> None:
    pin = learnt(A).accept(C, "uid:1", NOW)
    assert (pin.state, pin.waiting, pin.digests) == ("changed", A, frozenset({A, C}))
    assert Pin(SERVICE, "x").accept(C, "uid:1", NOW).refusal("require") is None


def test_a_server_that_changes_with_each_list_is_written_down_once_a_minute() -> None:
    """Else each list of it would be a write, and a reading by every process."""
    pin, last = learnt(A, B), learnt(A, B).drift
    assert last is not None
    assert pin.notice(at(101, C), learns=True) is pin
    again = pin.notice(Sighting(C, last.at + LOOK_AGAIN), learns=True)
    assert again.waiting == C
    # A clock that went back does not make it wait for longer.
    assert pin.notice(Sighting(C, last.at - timedelta(days=1)), learns=True).waiting == C


def test_what_is_not_kept_is_never_learnt() -> None:
    long = Sighting(A, NOW, is_kept=False)
    pin = Pin(SERVICE, "x").notice(long, learns=True)
    assert (pin.state, pin.refusal("learn")) == ("new", Code.TOOL_UNPINNED)
    assert pin.notice(at(999, A), learns=True) is pin
    assert pin.notice(at(999, B), learns=True).state == "learned"


def test_nothing_new_is_nothing_to_write() -> None:
    for pin in (learnt(A), learnt(A, B), learnt(A, B, A), learnt(A, learns=False)):
        assert pin.seen is not None
        assert pin.notice(Sighting(pin.seen.digest, later(9_999)), learns=False) is pin


# ---------------------------------------------------------------- all of them


def known(*pins: Pin, tools: int = 2000) -> KnownPins:
    return KnownPins(pins, PinLimits(tools=tools))


def good(mode: PinMode = "learn") -> Pin:
    pin = Pin(SERVICE, GOOD.name).notice(Sighting(GOOD.digest, NOW), learns=True)
    return pin if mode == "learn" else pin.accept(GOOD.digest, "uid:1", NOW)


def test_a_tool_that_nobody_saw_is_allowed_to_learn_from_and_not_without_an_acceptance() -> None:
    assert known().refusal(SERVICE, "x", "learn") is None
    assert known().refusal(SERVICE, "x", "require") is Code.TOOL_UNPINNED
    assert known().refusal(SERVICE, "x", "off") is None


def test_pins_are_a_services_own() -> None:
    pins = known(good("require"))
    assert pins.refusal(SERVICE, GOOD.name, "require") is None
    assert pins.refusal("tickets", GOOD.name, "require") is Code.TOOL_UNPINNED
    assert pins.of("tickets") == {}


def test_full_is_closed() -> None:
    pins = known(good(), tools=1)
    assert pins.refusal(SERVICE, "unknown", "learn") is Code.TOOL_UNPINNED
    assert pins.refusal(SERVICE, GOOD.name, "learn") is None
    assert not pins.is_news(SERVICE, [declared("unknown")], "learn", NOW)
    assert pins.hidden(SERVICE, [GOOD, declared("unknown")], "learn") == {"unknown"}


def test_where_nobody_looks_nothing_is_news_and_nothing_hidden() -> None:
    assert not known(good()).is_news(SERVICE, [BAD], "off", NOW)
    assert known(good()).hidden(SERVICE, [BAD], "off") == frozenset()


@pytest.mark.parametrize("mode", ["learn", "require"])
def test_a_list_of_what_was_accepted_is_no_news(mode: PinMode) -> None:
    pins = known(good(mode))
    assert not pins.is_news(SERVICE, [GOOD, GOOD], mode, NOW)
    assert pins.hidden(SERVICE, [GOOD, GOOD], mode) == frozenset()


def test_a_changed_tool_is_hidden_from_the_first_list_that_has_it() -> None:
    pins = known(good())
    assert pins.is_news(SERVICE, [BAD], "learn", NOW)
    assert pins.hidden(SERVICE, [BAD], "learn") == {GOOD.name}


def test_a_name_that_stands_twice_is_shown_with_neither() -> None:
    for shown in ([GOOD, BAD], [BAD, GOOD]):
        assert known(good()).hidden(SERVICE, shown, "learn") == {GOOD.name}
        assert known().hidden(SERVICE, shown, "learn") == {GOOD.name}


def test_the_same_content_under_another_name_is_another_tool() -> None:
    pins = known(good("require"))
    other = declared("delete_customers")
    assert pins.hidden(SERVICE, [other], "require") == {other.name}
    assert pins.refusal(SERVICE, other.name, "require") is Code.TOOL_UNPINNED


def test_a_name_that_no_call_could_have_is_hidden_and_not_remembered() -> None:
    odd = declared("d\u0435lete_customer")
    assert not known().is_news(SERVICE, [odd], "learn", NOW)
    assert known().hidden(SERVICE, [odd], "learn") == {odd.name}


# ---------------------------------------------------------------- a review


def test_one_digest_stands_for_all_that_was_reviewed() -> None:
    assert digest_of({"x": A}) == A
    assert digest_of({"x": A, "y": B}) == digest_of({"y": B, "x": A})
    several = [
        {"x": A, "y": B},
        {"x": B, "y": A},
        {"x": A, "y": C},
        {"x": A, "y": B, "z": C},
        {"x": A, "z": B},
    ]
    assert len({digest_of(each) for each in several}) == len(several)
