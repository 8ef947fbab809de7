"""What `deputy identity` prints of keys and federation: rows for machines, words for people."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from authz.commands.output import Row
from authz.identity_service.status import ROLE_NAMES, STAGE_NAMES
from identity.pb import authority_pb2 as pb

STATUS_VERSION: Final = "deputy.identity-status/v1"
KEY_COLUMNS: Final = {
    "role": "role",
    "stage": "stage",
    "key": "kid",
    "age": "age",
    "ends": "ends",
    "next": "next",
}
DOMAIN_COLUMNS: Final = {
    "trust domain": "trust_domain",
    "profile": "profile",
    "roots": "roots",
    "jwt keys": "jwt_keys",
    "sequence": "sequence",
    "fetched": "fetched",
    "problem": "problem",
    "url": "url",
}
_STEPS: Final = {"prepare": "next key published", "activate": "next key signs"}


def status_row(status: pb.AuthorityStatus, *, running: bool) -> dict[str, Any]:
    """Return everything of a status."""
    at = _moment(status.at)
    return {
        "version": STATUS_VERSION,
        "running": running,
        "trust_domain": status.trust_domain,
        "bundle_sequence": status.sequence,
        "key_store": status.key_store,
        "at": _text(status.at),
        "roles": [_role_row(role, at) for role in status.roles],
        "federation": [domain_row(domain) for domain in status.federation],
    }


def _role_row(role: pb.RoleStatus, at: datetime) -> dict[str, Any]:
    step = {"action": role.next_step, "at": _text(role.next_step_at)} if role.next_step else None
    keys = [
        {
            "kid": key.key_id,
            "stage": STAGE_NAMES.get(key.stage, "unknown"),
            "published_at": _text(key.published_at),
            "age_seconds": int((at - _moment(key.published_at)).total_seconds()),
            "not_after": _text(key.not_after),
            "tainted": key.tainted,
        }
        for key in role.keys
    ]
    return {"role": ROLE_NAMES.get(role.role, "unknown"), "keys": keys, "next_step": step}


def domain_row(domain: pb.FederatedDomain) -> dict[str, Any]:
    """Return everything of a federated trust domain."""
    return {
        "trust_domain": domain.trust_domain,
        "url": domain.url,
        "profile": domain.profile,
        "endpoint_spiffe_id": domain.endpoint_spiffe_id or None,
        "roots": domain.roots,
        "jwt_keys": domain.jwt_keys,
        "sequence": domain.sequence if domain.HasField("sequence") else None,
        "fetched_at": _text(domain.fetched_at) if domain.HasField("fetched_at") else None,
        "tried_at": _text(domain.tried_at) if domain.HasField("tried_at") else None,
        "problem": domain.problem or None,
    }


def status_lines(status: pb.AuthorityStatus, *, running: bool) -> Iterator[tuple[str, object]]:
    """Say what is said once."""
    yield "trust domain", status.trust_domain
    yield "service", "running" if running else "not running: this is what its files say"
    yield "bundle", f"sequence {status.sequence}"
    yield "private keys", {"files": "in files", "pkcs11": "in a PKCS#11 token"}.get(status.key_store, "?")
    wrong = sum(is_failing(domain) for domain in status.federation)
    count = len(status.federation)
    failing = f", {wrong} of them with a problem ('deputy identity federation list')" if wrong else ""
    yield "federation", f"{count} trust domain{'' if count == 1 else 's'}{failing}" if count else "none"


def key_rows(status: pb.AuthorityStatus) -> Iterable[Row]:
    """Return a row for each key, with ages in words."""
    at = _moment(status.at)
    for role in status.roles:
        for key in role.keys:
            active = key.stage == pb.STAGE_ACTIVE
            yield {
                "role": ROLE_NAMES.get(role.role, "unknown"),
                "stage": STAGE_NAMES.get(key.stage, "unknown") + (", tainted" if key.tainted else ""),
                "kid": key.key_id,
                "age": span(at - _moment(key.published_at)),
                "ends": f"in {span(_moment(key.not_after) - at)}",
                "next": _next(role, at) if active else "",
            }


def domain_rows(domains: Iterable[pb.FederatedDomain], now: datetime) -> Iterable[Row]:
    """Return a row for each trust domain, with ages in words."""
    for domain in domains:
        fetched = (
            span(now - _moment(domain.fetched_at)) + " ago" if domain.HasField("fetched_at") else "never"
        )
        yield {**domain_row(domain), "fetched": fetched}


def is_failing(domain: pb.FederatedDomain) -> bool:
    """Say whether the last attempt gave no bundle; a remark about the one it gave is no failure."""
    return bool(domain.problem) and not domain.problem.startswith("remark:")


def span(time: timedelta) -> str:
    """Say how long something is, in its two largest units."""
    seconds = int(abs(time.total_seconds()))
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    for at, (unit, size) in enumerate(units):
        if seconds >= size or unit == "s":
            text = f"{seconds // size} {unit}"
            rest = seconds % size // units[at + 1][1] if unit != "s" else 0
            text += f" {rest} {units[at + 1][0]}" if rest else ""
            return f"-{text}" if time < timedelta() and seconds else text
    return "0 s"


def _next(role: pb.RoleStatus, at: datetime) -> str:
    if not role.next_step:
        return ""
    left = _moment(role.next_step_at) - at
    what = _STEPS.get(role.next_step, role.next_step)
    return f"{what} in {span(left)}" if left > timedelta() else f"{what} now"


def _moment(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(UTC)


def _text(stamp: Timestamp) -> str:
    return _moment(stamp).isoformat(timespec="seconds").replace("+00:00", "Z")
