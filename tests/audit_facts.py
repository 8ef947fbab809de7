"""Facts, entries and logs for the tests of the audit log."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from authz.audit.entry import Entry, decision
from authz.audit.facts import DecisionFacts
from authz.audit.log import AuditLog, LogSettings
from identity.caller import Hop, Human
from identity.names import new_ulid

NOW = datetime(2026, 9, 1, 12, 0, 0, 123456, tzinfo=UTC)
LEAD = Human("https://idp.example", "lead", ("lead",))


def ulid(number: int) -> str:
    return new_ulid(NOW + timedelta(milliseconds=number), number.to_bytes(10))


TASK = ulid(900)
ORCHESTRATOR_TASK = ulid(901)

ALLOWED = DecisionFacts(
    effect="allow",
    code="DPT-ALLOWED",
    codes=("DPT-ALLOWED",),
    rule="deputy.allow",
    human=LEAD,
    agent="triage",
    task=TASK,
    chain=(Hop("triage", TASK), Hop("resolver", ORCHESTRATOR_TASK)),
    peer="spiffe://mesh.example/ns/agents/sa/runner",
    asker="spiffe://mesh.example/envoy",
    binding="key",
    protocol="mcp",
    method="tools/call",
    phase="call",
    service="tickets",
    resource_type="tool",
    resource_name="read_ticket",
    args_hmac="a" * 64,
    payload=("email",),
    approval=ulid(903),
    policy="0123456789ab.0123456789ab",
    token_id="b" * 64,
    txn=ulid(902),
    txn_jti="c" * 64,
    request_id="01234567-89ab-cdef-0123-456789abcdef",
    latency_us=812,
)


def allowed(number: int) -> Entry:
    return decision(ALLOWED, ulid(number), NOW + timedelta(seconds=number))


def open_log(directory: Path, settings: LogSettings | None = None) -> AuditLog:
    return AuditLog.open(directory, settings or LogSettings(), ulid(999), NOW)


def write_log(
    directory: Path, records: int, segment_bytes: int = 1 << 20, make: Callable[[int], Entry] = allowed
) -> list[bytes]:
    """Write a closed log and return its lines."""
    log = open_log(directory, LogSettings(segment_bytes=segment_bytes))
    for number in range(records):
        log.write(make(number))
    log.close()
    return log_bytes(directory).splitlines(keepends=True)


def log_bytes(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.glob("*.jsonl")))
