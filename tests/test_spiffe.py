"""SPIFFE IDs: rules ID-1 to ID-6."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.errors import AgentNameError, SpiffeIdError
from identity.spiffe import (
    MAX_ID_BYTES,
    SpiffeId,
    TrustDomain,
    agent_id,
    agent_task_id,
    parse_agent_id,
    parse_agent_task,
)

TASK = "01K0000000000000000000000A"
DOMAIN_BYTES = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789._-")
SEGMENT_BYTES = DOMAIN_BYTES | frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://td",
        "spiffe://_td/a",
        "spiffe://-td./a",
        "spiffe://1.2.3.4/a",
        "spiffe://td/a/b.c/...",
        "spiffe://td/.x",
    ],
)
def test_id_2_and_3_accepts_what_the_standard_allows(text: str) -> None:
    """ID-2, ID-3: dots, hyphens and numbers are no special cases."""
    assert str(SpiffeId.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "td/a",
        "spiffe:/td/a",
        "Spiffe://td/a",
        "SPIFFE://td/a",
        "spiffe://TD/a",
        "spiffe:///a",
        "spiffe://",
        "spiffe://td/",
        "spiffe://td/a/",
        "spiffe://td//a",
        "spiffe://td/.",
        "spiffe://td/..",
        "spiffe://td/a/../b",
        "spiffe://td:8443/a",
        "spiffe://user@td/a",
        "spiffe://td/a?b",
        "spiffe://td/a#b",
        "spiffe://td/a%2fb",
        "spiffe://td/alice@example.org",
        "spiffe://td/a\n",
        "spiffe://td\n/a",
        " spiffe://td/a",
        "spiffe://td/a\x00",
        "spiffe://td/é",
        "spiffe://tд/a",
    ],
)
def test_id_1_to_5_refuses_what_is_not_canonical(text: str) -> None:
    """ID-1, ID-2, ID-3, ID-5: two texts never name one identity."""
    with pytest.raises(SpiffeIdError):
        SpiffeId.parse(text)


@pytest.mark.parametrize("byte", range(256))
def test_id_2_every_byte_in_the_trust_domain(byte: int) -> None:
    """ID-2: more places are in test_rules_spiffe_id.py."""
    text = f"spiffe://a{chr(byte)}b/x"
    if byte in DOMAIN_BYTES:
        assert str(SpiffeId.parse(text)) == text
    elif byte == ord("/"):
        assert SpiffeId.parse(text).trust_domain == TrustDomain("a")
    else:
        with pytest.raises(SpiffeIdError):
            SpiffeId.parse(text)


@pytest.mark.parametrize("byte", range(256))
def test_id_3_every_byte_in_a_segment(byte: int) -> None:
    """ID-3: more places are in test_rules_spiffe_id.py."""
    text = f"spiffe://td/a{chr(byte)}b"
    if byte in SEGMENT_BYTES or byte == ord("/"):
        assert str(SpiffeId.parse(text)) == text
    else:
        with pytest.raises(SpiffeIdError):
            SpiffeId.parse(text)


@given(
    st.lists(
        st.sampled_from(["spiffe://", "a", "A", ".", "..", "/", "//", "-", "_", "%", "\n", "é", ":"])
    ).map("".join)
)
def test_id_1_to_5_the_parts_say_what_the_whole_is(text: str) -> None:
    """Each part is looked at by itself here."""
    scheme, domain, path = text[:9], *(text[9:].partition("/")[::2])
    segments = path.split("/") if "/" in text[9:] else []
    is_id = (
        scheme == "spiffe://"
        and re.fullmatch(r"[a-z0-9._-]{1,255}", domain) is not None
        and all(re.fullmatch(r"[A-Za-z0-9._-]+", one) and one not in {".", ".."} for one in segments)
    )
    try:
        parsed = SpiffeId.parse(text)
    except SpiffeIdError:
        assert not is_id
    else:
        assert is_id
        assert (str(parsed), parsed.trust_domain.name, parsed.path) == (text, domain, text[9 + len(domain) :])


def test_id_4_refuses_more_than_255_bytes() -> None:
    """ID-4: of the whole."""
    longest = "spiffe://td/" + "a" * (MAX_ID_BYTES - len("spiffe://td/"))
    assert len(str(SpiffeId.parse(longest))) == MAX_ID_BYTES
    with pytest.raises(SpiffeIdError):
        SpiffeId.parse(longest + "a")


def test_id_6_a_trust_domain_has_an_id_without_a_path() -> None:
    """ID-6: that of its authority."""
    assert str(TrustDomain.parse("td").spiffe_id) == "spiffe://td"
    assert str(TrustDomain.parse("td")) == "td"


def test_names_a_task_of_an_agent() -> None:
    domain = TrustDomain.parse("mesh.example")
    task = agent_task_id(domain, "triage", TASK)
    assert str(task) == f"spiffe://mesh.example/agent/triage/task/{TASK}"
    assert parse_agent_task(task) == ("triage", TASK)
    assert parse_agent_id(agent_id(domain, "triage")) == "triage"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/agent/triage",
        f"/agent/triage/task/{TASK.lower()}",
        f"/agent/triage/task/{TASK}/x",
        f"/agent/Triage/task/{TASK}",
        "/ns/a/sa/b",
        f"/x/agent/triage/task/{TASK}",
    ],
)
def test_other_paths_are_no_task(path: str) -> None:
    assert parse_agent_task(SpiffeId.parse(f"spiffe://td{path}")) is None


@pytest.mark.parametrize(
    ("agent", "task"), [("a b", TASK), ("../x", TASK), ("triage", "x"), ("triage", TASK + "/y")]
)
def test_refuses_to_build_an_id_of_bad_parts(agent: str, task: str) -> None:
    with pytest.raises(AgentNameError):
        agent_task_id(TrustDomain("td"), agent, task)


def test_refuses_an_id_that_grows_too_long() -> None:
    with pytest.raises(SpiffeIdError):
        agent_task_id(TrustDomain("d" * 230), "triage", TASK)
