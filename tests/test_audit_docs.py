"""The reference of the record names every member that we write."""

import re
from pathlib import Path
from typing import get_args

from authz.audit import entry as entries
from authz.audit.entry import Kind
from authz.audit.facts import (
    AdminFacts,
    DriftChange,
    DriftFacts,
    EventFacts,
    EventOutcome,
    FederationChange,
    FederationFacts,
    Issued,
    IssuedKind,
    KeyFacts,
    KeyOutcome,
    PolicyChange,
    PolicyFacts,
    RegistryChange,
    RegistryFacts,
    Summary,
)
from authz.audit.record import GENESIS, Json
from identity.key_ring import Action, Role
from tests.audit_facts import ALLOWED, NOW, ulid

REFERENCE = (Path(__file__).resolve().parent.parent / "docs/reference/audit-record.md").read_text("utf-8")
WORDS = set(re.findall(r"[a-z][a-z0-9_-]*", " ".join(re.findall(r"`([^`]+)`", REFERENCE))))


def names(value: Json) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*(names(inner) for inner in value.values()))
    return set().union(*(names(inner) for inner in value)) if isinstance(value, list) else set()


def test_reference_names_every_kind_and_change() -> None:
    changes = (
        PolicyChange,
        RegistryChange,
        Action,
        FederationChange,
        DriftChange,
        KeyOutcome,
        Role,
        EventOutcome,
        IssuedKind,
    )
    assert {*get_args(Kind)}.union(*(get_args(change) for change in changes)) <= WORDS


def test_reference_names_every_member() -> None:
    issued = Issued(kind="task", subject="x", expires_at=NOW)
    made = [
        entries.exchange(ALLOWED, issued, ulid(1), NOW),
        entries.withdrawn(ALLOWED, ulid(1), ulid(2), NOW),
        entries.stranger(ALLOWED, ulid(3), NOW),
        entries.refused(Summary(peer="", count=1, since=NOW, until=NOW), ulid(4), NOW),
        entries.policy(PolicyFacts(change="loaded", revision="r"), ulid(5), NOW),
        entries.registry(RegistryFacts(change="agent-retired", agent="triage"), ulid(6), NOW),
        entries.keys(KeyFacts(change="prepare", role="x509", kid=None, by="clock"), ulid(9), NOW),
        entries.federation(
            FederationFacts(
                change="federation-added", trust_domain="x", url="https://x", profile="https_web", by="x"
            ),
            ulid(10),
            NOW,
        ),
        entries.drift(
            DriftFacts(
                change="changed", service="s", tool="t", accepted="a", seen="b", seen_at=NOW, code="c"
            ),
            ulid(13),
            NOW,
        ),
        entries.security_event(
            EventFacts(outcome="sent", event="e", party="https://x", jti="j"), ulid(11), NOW
        ),
        entries.administration(
            AdminFacts(action="agents/contain", outcome="ordered", by="uid:1", subject="agent triage"),
            ulid(12),
            NOW,
        ),
        entries.service("stop", "0.1.0", "", ulid(7), NOW),
        entries.recovered(1, "", ulid(8), NOW),
    ]
    written = set().union(*(names(entry.members(1, GENESIS)) for entry in made))

    assert written - WORDS == set()
