"""Names of agents and of their runs."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.errors import AgentNameError
from identity.names import ENTROPY_BYTES, new_ulid, parse_agent_name, parse_ulid

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.mark.parametrize("name", ["a", "triage", "nightly-report", "0", "a" * 63])
def test_accepts_a_dns_label(name: str) -> None:
    assert parse_agent_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a.b", "a/b", "a\n", "a" * 64, "ä", "*"])
def test_refuses_another_name(name: str) -> None:
    with pytest.raises(AgentNameError):
        parse_agent_name(name)


@given(st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES))
def test_a_new_ulid_is_one(entropy: bytes) -> None:
    assert parse_ulid(new_ulid(NOW, entropy)) == new_ulid(NOW, entropy)


def test_ulids_sort_by_time() -> None:
    high, low = b"\xff" * ENTROPY_BYTES, b"\x00" * ENTROPY_BYTES
    assert new_ulid(NOW, high) < new_ulid(NOW + timedelta(milliseconds=1), low)


def test_known_ulid() -> None:
    assert new_ulid(datetime.fromtimestamp(1469918176.385, UTC), bytes(10))[:10] == "01ARYZ6S41"


@pytest.mark.parametrize(
    "text", ["", "01ARYZ6S41TSV4RRFFQ69G5FA", "81ARYZ6S41TSV4RRFFQ69G5FAV", "01aryz6s41tsv4rrffq69g5fav"]
)
def test_refuses_another_ulid(text: str) -> None:
    with pytest.raises(AgentNameError):
        parse_ulid(text)


@pytest.mark.parametrize("letter", "ILOU")
def test_refuses_letters_that_crockford_leaves_out(letter: str) -> None:
    with pytest.raises(AgentNameError):
        parse_ulid("01ARYZ6S41TSV4RRFFQ69G5FA" + letter)


def test_refuses_too_little_entropy() -> None:
    with pytest.raises(ValueError, match="10 bytes"):
        new_ulid(NOW, b"short")
