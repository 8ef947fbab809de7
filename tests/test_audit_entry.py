"""What stands in a record, by kind, and what cannot."""

import dataclasses
import json
from datetime import timedelta
from typing import Any

import pytest

from authz.audit import entry as entries
from authz.audit.entry import MAX_STRANGER_BYTES, Entry
from authz.audit.facts import (
    AdminFacts,
    DecisionFacts,
    DriftFacts,
    EventFacts,
    Issued,
    PolicyFacts,
    RegistryFacts,
    Summary,
)
from authz.audit.record import GENESIS, MAX_INTEGER, MAX_RECORD_BYTES, Record, canonical
from identity.caller import Hop, Human
from tests.audit_facts import ALLOWED, LEAD, NOW, TASK, ulid

ID = ulid(1)
ISSUED = Issued(
    kind="delegation-token",
    subject="https://idp.example#lead",
    expires_at=NOW + timedelta(minutes=5),
    audience="tickets",
    token_id="d" * 64,
    scopes=frozenset({"tickets:write", "tickets:read"}),
)


def members(entry: Entry) -> dict[str, Any]:
    line = canonical(entry.members(1, GENESIS))
    assert Record.parse(line).members == json.loads(line)
    parsed: dict[str, Any] = json.loads(line)
    return parsed


ORDERED = AdminFacts(action="agents/retire", outcome="ordered", by="uid:1000", subject="agent triage")


def test_decision_names_both_callers_the_chain_and_the_reason() -> None:
    assert members(entries.decision(ALLOWED, ID, NOW)) == {
        "action": {"protocol": "mcp", "method": "tools/call", "phase": "call"},
        "agent": "triage",
        "approval": ALLOWED.approval,
        "args_hmac": "a" * 64,
        "asker": "spiffe://mesh.example/envoy",
        "autonomous": False,
        "binding": "key",
        "chain": [{"agent": hop.agent, "task": hop.task} for hop in ALLOWED.chain],
        "code": "DPT-ALLOWED",
        "codes": ["DPT-ALLOWED"],
        "detail": "",
        "effect": "allow",
        "human": {"issuer": "https://idp.example", "subject": "lead"},
        "id": ID,
        "kind": "decision",
        "latency_us": 812,
        "payload": ["email"],
        "peer": "spiffe://mesh.example/ns/agents/sa/runner",
        "policy": "0123456789ab.0123456789ab",
        "prev": GENESIS,
        "request_id": "01234567-89ab-cdef-0123-456789abcdef",
        "resource": {"service": "tickets", "type": "tool", "name": "read_ticket"},
        "rule": "deputy.allow",
        "seq": 1,
        "task": TASK,
        "time": "2026-09-01T12:00:00.123456Z",
        "token_id": "b" * 64,
        "txn": ALLOWED.txn,
        "txn_jti": "c" * 64,
        "v": 1,
    }


def test_decision_for_nobody_says_so() -> None:
    written = members(entries.decision(dataclasses.replace(ALLOWED, human=None, autonomous=True), ID, NOW))

    assert written["human"] is None
    assert written["autonomous"] is True


def test_groups_of_a_person_stay_out() -> None:
    person = Human("https://idp.example", "lead", ("secret-group",), "acr-1", 1)

    assert b"secret-group" not in canonical(
        entries.decision(dataclasses.replace(ALLOWED, human=person), ID, NOW).members(1, GENESIS)
    )


def test_exchange_and_issuance_say_what_was_handed_out() -> None:
    for make, kind in ((entries.exchange, "exchange"), (entries.issuance, "issuance")):
        written = members(make(ALLOWED, ISSUED, ID, NOW))
        refused = members(make(dataclasses.replace(ALLOWED, effect="deny"), None, ID, NOW))

        assert written["kind"] == kind
        assert written["issued"] == {
            "audience": "tickets",
            "expires_at": "2026-09-01T12:05:00.123456Z",
            "kind": "delegation-token",
            "scopes": ["tickets:read", "tickets:write"],
            "subject": "https://idp.example#lead",
            "token_id": "d" * 64,
        }
        assert refused["issued"] is None


def test_withdrawal_denies_and_names_the_decision() -> None:
    written = members(entries.withdrawn(ALLOWED, ulid(5), ID, NOW))

    assert (written["effect"], written["withdraws"]) == ("deny", ulid(5))


def test_other_kinds_are_records_too() -> None:
    registry = RegistryFacts(change="task-started", agent="triage", task=TASK, human=LEAD, by="broker")
    policy = PolicyFacts(change="refused", revision=None, previous="a.b", detail="rego_parse_error")
    summary = Summary(peer="spiffe://mesh.example/x", count=9, since=NOW, until=NOW + timedelta(seconds=1))
    made = [
        entries.registry(registry, ID, NOW),
        entries.policy(policy, ID, NOW),
        entries.service("start", "0.1.0", "", ID, NOW),
        entries.service("stop", "0.1.0", "", ID, NOW),
        entries.recovered(3, "e" * 64, ID, NOW),
        entries.refused(summary, ID, NOW),
    ]

    assert [members(entry)["kind"] for entry in made] == [
        "registry",
        "policy",
        "start",
        "stop",
        "recovered",
        "refused",
    ]
    assert members(made[-1])["count"] == 9


def test_a_tool_that_changed_is_a_strangers_record_that_is_found_by_service_and_tool() -> None:
    facts = DriftFacts(
        change="changed",
        service="billing",
        tool="refund",
        accepted="a" * 64,
        seen="b" * 64,
        seen_at=NOW,
        code="DPT-TOOL-CHANGED",
    )
    entry = entries.drift(facts, ID, NOW + timedelta(seconds=1))
    assert entry.of_stranger
    written = members(entry)
    assert written["resource"] == {"name": "refund", "service": "billing", "type": "tool"}
    assert (written["accepted_sha256"], written["seen_sha256"]) == ("a" * 64, "b" * 64)
    assert (written["effect"], written["code"]) == ("deny", "DPT-TOOL-CHANGED")
    assert written["seen_at"] < written["time"]
    back = members(entries.drift(dataclasses.replace(facts, change="went-back", code=""), ID, NOW))
    assert back["change"] == "went-back"
    assert not {"effect", "code"} & set(back)


def test_what_changes_rights_is_on_the_disk_before_it_acts() -> None:
    """Whatever the log does with the rest; what was refused, or happens at each run, need not wait for it."""
    event = EventFacts(outcome="received", event="session-revoked", party="https://idp.example", jti="j")
    durable = (
        entries.policy(PolicyFacts(change="loaded", revision="a.b"), ID, NOW),
        entries.security_event(event, ID, NOW),
        entries.administration(ORDERED, ID, NOW),
    )
    assert all(entry.is_durable for entry in durable)
    others = (
        entries.policy(PolicyFacts(change="refused", revision=None), ID, NOW),
        entries.security_event(dataclasses.replace(event, outcome="ignored"), ID, NOW),
        entries.administration(dataclasses.replace(ORDERED, outcome="refused"), ID, NOW),
    )
    assert not any(entry.is_durable for entry in others)


HOSTILE = [
    "x" * 100_000,
    '"' * 1000,
    "\\" * 1000,
    "\n" * 1000,
    "\ud800" * 1000,
    "é" * 1000,
    "\U0001f600" * 1000,
    '\\"' * 1000,
    "",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_refusal_of_a_stranger_fits_in_512_bytes(text: str) -> None:
    facts = DecisionFacts(
        effect="deny",
        code="DPT-MCP-HEADER-MISMATCH",
        peer=text,
        asker=text,
        request_id=text,
        service=text,
        method=text,
        resource_name=text,
        detail=text,
    )
    made = entries.stranger(facts, ID, NOW)
    line = canonical(made.members(MAX_INTEGER, GENESIS)) + b"\n"

    assert len(line) <= MAX_STRANGER_BYTES
    assert made.of_stranger
    assert Record.parse(line[:-1]).members["code"] == "DPT-MCP-HEADER-MISMATCH"


def test_short_refusal_of_a_stranger_keeps_what_matters_most() -> None:
    facts = dataclasses.replace(
        ALLOWED, effect="deny", code="DPT-TOKEN-MISSING", detail="no Authorization header"
    )
    written = members(entries.stranger(facts, ID, NOW))

    assert written["peer"] == ALLOWED.peer
    assert written["asker"] == ALLOWED.asker
    assert written["request_id"] == ALLOWED.request_id
    assert written["service"] == "tickets"
    # Whatever they claim to be is not yet known.
    assert not written.keys() & {"human", "agent", "task", "txn"}


def test_summary_of_strangers_fits_in_512_bytes() -> None:
    summary = Summary(peer="\\" * 4000, count=2**70, since=NOW, until=NOW)

    assert (
        len(canonical(entries.refused(summary, ID, NOW).members(MAX_INTEGER, GENESIS))) < MAX_STRANGER_BYTES
    )


def test_facts_have_no_place_for_a_secret() -> None:
    # Names and hashes only: whoever adds `headers`, `body`, `token` or `arguments` meets this test.
    kinds = (DecisionFacts, DriftFacts, Issued, RegistryFacts, PolicyFacts, Summary)
    allowed = {"token_id"}
    for kind in kinds:
        for field in dataclasses.fields(kind):
            words = set(field.name.split("_"))
            assert field.name in allowed or not words & {
                "token",
                "header",
                "headers",
                "body",
                "arguments",
                "key",
            }
            assert "bytes" not in str(field.type)
            assert "Mapping" not in str(field.type)
            assert "object" not in str(field.type)


def test_largest_decision_is_still_a_record() -> None:
    wide = "\U0001f600" * 300
    texts = {
        field.name: wide for field in dataclasses.fields(DecisionFacts) if field.type in {str, str | None}
    }
    facts = DecisionFacts(
        **{**texts, "effect": "deny"},  # type: ignore[arg-type]  # names from the fields themselves
        human=Human(wide, wide),
        codes=(wide,) * 100,
        chain=(Hop(wide, wide),) * 100,
    )

    assert len(texts) > 15
    assert len(canonical(entries.decision(facts, ID, NOW).members(MAX_INTEGER, GENESIS))) < MAX_RECORD_BYTES


def test_numbers_are_kept_in_range() -> None:
    for latency, written in ((-5, 0), (2**60, MAX_INTEGER)):
        entry = entries.decision(dataclasses.replace(ALLOWED, latency_us=latency), ID, NOW)
        assert members(entry)["latency_us"] == written


# What must not stand in a record as it came: a direction override, a backslash, a token, too long a name.
UNFIT = ["\u202egnp.exe", "a\\b", "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln", "x" * 300]
TEXTS = [each.name for each in dataclasses.fields(DecisionFacts) if each.type in {str, str | None}]
PARTS: dict[str, dict[str, Any]] = {
    "codes": {"codes": ("DPT-A", "%")},
    "payload": {"payload": ("email", "%")},
    "chain": {"chain": (Hop("triage", TASK), Hop("%", TASK))},
    "task of a hop": {"chain": (Hop("triage", "%"),)},
    "issuer": {"human": Human("%", "lead")},
    "subject": {"human": Human("https://idp.example", "%")},
    **{text: {text: "%"} for text in TEXTS},
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("unfit", UNFIT)
def test_whatever_a_text_of_a_decision_is_it_is_made_fit(part: str, unfit: str) -> None:
    """The texts are looked at all at once: one that was forgotten would stand there as it came."""
    put = put_into(PARTS[part], unfit)
    line = canonical(entries.decision(dataclasses.replace(ALLOWED, **put), ID, NOW).members(1, GENESIS))
    found = json.loads(line)
    assert not [text for text in texts_in(found) if unfit in text and not is_fit(part, text)]
    assert line != canonical(entries.decision(ALLOWED, ID, NOW).members(1, GENESIS))


def put_into(value: Any, text: str) -> Any:
    """Put a text where the mark stands."""
    match value:
        case "%":
            return text
        case dict():
            return {key: put_into(each, text) for key, each in value.items()}
        case tuple():
            return tuple(put_into(each, text) for each in value)
        case Hop():
            return Hop(put_into(value.agent, text), put_into(value.task, text))
        case Human():
            return Human(put_into(value.issuer, text), put_into(value.subject, text))
        case _:
            return value


def texts_in(value: Any) -> list[str]:
    match value:
        case str():
            return [value]
        case list():
            return [text for each in value for text in texts_in(each)]
        case dict():
            return [text for each in value.values() for text in texts_in(each)]
        case _:
            return []


def is_fit(part: str, text: str) -> bool:
    """A sentence is for people: it may be longer than a name, and backslashes stay."""
    return part == "detail" and text.isprintable() and "eyJ" not in text
