"""Humans, agents and their tasks."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.caller import MAX_GROUPS, Human, Task
from identity.errors import HumanError
from identity.spiffe import SpiffeId

ISSUER = "https://idp.example"
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def test_a_human_is_named_by_issuer_and_subject() -> None:
    human = Human.parse(ISSUER, "alice", ("staff",), "mfa", 1)
    assert human.uri == "https://idp.example#alice"
    assert Human.parse_uri(human.uri, ("staff",), "mfa", 1) == human


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255))
def test_two_humans_never_share_a_name(subject: str) -> None:
    """A subject may hold '#'; the issuer cannot, so the first one splits."""
    human = Human.parse(ISSUER, subject)
    assert Human.parse_uri(human.uri) == human


@pytest.mark.parametrize(
    "issuer",
    [
        "",
        "http://idp.example",
        "https://idp.example?x",
        "https://idp.example#x",
        "https://user@idp.example",
        "https://idp.example/\n",
        "https://",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "ftp://127.0.0.1",
    ],
)
def test_refuses_an_issuer_that_is_not_a_plain_https_url(issuer: str) -> None:
    with pytest.raises(HumanError):
        Human.parse(issuer, "alice")


@pytest.mark.parametrize(
    "issuer", ["http://127.0.0.1:8080", "http://localhost", "https://idp.example:8443/realms/x"]
)
def test_accepts_loopback_for_development(issuer: str) -> None:
    assert Human.parse(issuer, "alice").issuer == issuer


@pytest.mark.parametrize("subject", ["", "a" * 256, "a b", "a\n", "é", "\x00"])
def test_refuses_a_subject_that_is_not_printable_ascii(subject: str) -> None:
    with pytest.raises(HumanError):
        Human.parse(ISSUER, subject)


@pytest.mark.parametrize("groups", [("",), ("a\n",), ("a" * 65,), ("g",) * (MAX_GROUPS + 1)])
def test_refuses_groups_that_are_empty_long_or_many(groups: tuple[str, ...]) -> None:
    with pytest.raises(HumanError):
        Human.parse(ISSUER, "alice", groups)


def test_refuses_a_uri_without_subject() -> None:
    with pytest.raises(HumanError):
        Human.parse_uri(ISSUER)


def test_refuses_a_malformed_authentication_context() -> None:
    with pytest.raises(HumanError):
        Human.parse(ISSUER, "alice", acr="\n")


@pytest.mark.parametrize(
    ("moment", "ended", "live"),
    [(0, None, True), (59, None, True), (60, None, False), (61, None, False), (1, 0, False)],
)
def test_a_task_lives_until_its_deadline_or_its_end(moment: int, ended: int | None, *, live: bool) -> None:
    workload = SpiffeId.parse("spiffe://td/ns/a/sa/b")
    ended_at = None if ended is None else NOW + timedelta(seconds=ended)
    task = Task("01", "triage", None, workload, NOW, NOW + timedelta(seconds=60), ended_at)
    assert task.is_live(NOW + timedelta(seconds=moment)) is live
