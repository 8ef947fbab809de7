"""What `inspect` says of a thing: what it is, its parts, and each rule of the standard with its verdict.

- A rule that could not be looked at is `not-checked`, never `ok`.
- `verified` means that a signature was checked with keys that the caller gave; nothing else means it.
- No part holds a private key, a signature, or a token inside a token; each is one bounded line.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from identity.errors import IdentityError, SpiffeIdError
from identity.spiffe import MAX_ID_BYTES, SpiffeId

Outcome = Literal["ok", "failed", "not-checked"]
Verification = Literal["verified", "failed", "not-verified", "not-signed"]

MAX_INPUT: Final = 256 * 1024
MAX_SHOWN: Final = 400
MAX_PARTS: Final = 64

_TOKEN: Final = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{7,}(?:\.[A-Za-z0-9_-]*)+")
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
_PRIVATE_PEM: Final = "PRIVATE KEY-----"
_SPEC_ID: Final = "SPIFFE-ID"


class InspectionError(IdentityError):
    """Nothing that can be inspected."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule of rules/spiffe.md, the section it comes from, and whether it is kept."""

    rule: str
    section: str
    outcome: Outcome
    sentence: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """One thing that was found in the input."""

    kind: str
    what: str
    parts: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]
    verification: Verification
    verdict: str

    @property
    def is_refused(self) -> bool:
        """Say whether a rule is broken or a signature is wrong."""
        return self.verification == "failed" or any(one.outcome == "failed" for one in self.findings)

    def row(self) -> dict[str, object]:
        """Return all of it, for machines."""
        return {
            "kind": self.kind,
            "what": self.what,
            "parts": dict(self.parts),
            "rules": [
                {"rule": one.rule, "section": one.section, "outcome": one.outcome, "sentence": one.sentence}
                for one in self.findings
            ],
            "verified": self.verification == "verified",
            "verification": self.verification,
            "verdict": self.verdict,
        }


def judge(rule: str, section: str, *, holds: bool, ok: str, failed: str) -> Finding:
    """Return the finding of a rule that was looked at."""
    return Finding(rule, section, "ok" if holds else "failed", ok if holds else failed)


def unchecked(rule: str, section: str, sentence: str) -> Finding:
    """Return the finding of a rule that could not be looked at, and why."""
    return Finding(rule, section, "not-checked", sentence)


def shown(value: object) -> str:
    """Return a value in one bounded line, without what must not be seen."""
    text = value if isinstance(value, str) else json.dumps(_without_secrets(value), ensure_ascii=True)
    text = _TOKEN.sub("[a token, not shown]", text)
    if _PRIVATE_PEM in text:
        return "[a private key, not shown]"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}… ({len(text)} characters)"


def moment(value: datetime) -> str:
    """Return a time as it is shown."""
    return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def seconds(value: object) -> datetime | None:
    """Return the time of a claim that is a whole number of seconds."""
    if type(value) is not int or value < 0:
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def spiffe_id_findings(text: str, *, of_leaf: bool) -> tuple[SpiffeId | None, tuple[Finding, ...]]:
    """Judge a text that should be a SPIFFE ID, rule by rule (SPIFFE-ID section 2)."""
    scheme, _, rest = text.partition("://")
    domain, slash, path = rest.partition("/")
    has_scheme = scheme == "spiffe" and not set("?#") & set(text)
    findings = [
        judge(
            "ID-1",
            f"{_SPEC_ID} 2",
            holds=has_scheme,
            ok="the scheme is `spiffe`, in lower case, without query or fragment",
            failed="not `spiffe://` in lower case, or with a query or fragment",
        ),
        judge(
            "ID-2",
            f"{_SPEC_ID} 2.1",
            holds=bool(re.fullmatch(r"[a-z0-9._-]{1,255}", domain)),
            ok="the trust domain is of a-z, 0-9, dot, dash and underscore",
            failed="a trust domain of other characters: no port, user, upper case or percent sign is allowed",
        ),
        judge(
            "ID-3",
            f"{_SPEC_ID} 2.2",
            holds=not slash or _is_path(path),
            ok="every segment of the path is one that the standard allows",
            failed="a segment of the path is empty, is a dot, or has a character that is not allowed",
        ),
        judge(
            "ID-4",
            f"{_SPEC_ID} 2.3",
            holds=len(text.encode("utf-8", "replace")) <= MAX_ID_BYTES,
            ok=f"at most {MAX_ID_BYTES} bytes, so that it fits the `sub` of OpenID Connect",
            failed=f"longer than {MAX_ID_BYTES} bytes, which OpenID Connect allows for `sub`",
        ),
    ]
    if of_leaf:
        findings.append(
            judge(
                "ID-6",
                "X509-SVID 5.2",
                holds=bool(slash and path),
                ok="it has a path, so it names a workload",
                failed="it has no path: that is the name of a whole trust domain",
            )
        )
    try:
        return SpiffeId.parse(text), tuple(findings)
    except SpiffeIdError:
        return None, tuple(findings)


def _is_path(path: str) -> bool:
    segments = path.split("/")
    return all(re.fullmatch(r"[A-Za-z0-9._-]+", one) and one not in {".", ".."} for one in segments)


def _without_secrets(value: object, depth: int = 8) -> object:
    if depth == 0:
        return "..."
    if isinstance(value, Mapping):
        return {
            str(name): "[private, not shown]" if name in _PRIVATE else _without_secrets(inner, depth - 1)
            for name, inner in list(value.items())[:MAX_PARTS]
        }
    if isinstance(value, list):
        return [_without_secrets(inner, depth - 1) for inner in value[:MAX_PARTS]]
    return value
