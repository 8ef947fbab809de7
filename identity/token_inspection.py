"""One token of a stranger, explained: its dialect, who acts for whom in it, and what is wrong with it.

- A token is at most 16 kB of three strict base64url parts; its header and claims are JSON objects that have
  one reading, nested at most 32 deep (JW-05). What cannot be read is refused with the rule that it breaks.
- Its signature is checked only with the key that `kid` names in a set that somebody gave, and only by keys
  for what the token is: the key of a JWT-SVID never vouches for a token that names a human.
- What it says is `unverified_caller`; only where the signature is right it is `caller`. Even then it is for
  the one who gave the set to know that its keys are those of `iss`: some publish one set for many issuers.
- Neither the token nor its signature is in a report, and nothing of it is unbounded.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from identity.base64url import Base64UrlError, decode_base64url
from identity.bundle import JWT_USE
from identity.dialect import ABOUT, Dialect, detect
from identity.dialect_actors import Actors, read_actors
from identity.dialect_caller import NormalisedCaller, judge_token
from identity.dialect_findings import Finding, Judged, error
from identity.errors import TokenAlgorithmError, TokenSignatureError
from identity.inspect_keys import TrustMaterial
from identity.inspection import InspectionError, Verification, moment, seconds, shown
from identity.strict_json import Limits, StrictJsonError, loads

MAX_TOKEN: Final = 16 * 1024

NOTHING_VERIFIED: Final = (
    "nothing is verified: anybody can write such a token; give the issuer's keys with --jwks"
)
VERIFIED: Final = "the signature is right by a key of the set; that the set is that of `iss` is yours to know"

_LIMITS: Final = Limits(depth=32, keys=512, integer=2**64 - 1)
_TIMES: Final = frozenset({"exp", "iat", "nbf", "auth_time"})
# What is shown of the claims: who, for whom, where to, how long. The rest may be a person's own.
_CLAIMS: Final = (
    *("iss", "sub", "sub_profile", "client_id", "client_profile", "azp", "appid", "oid", "tid", "idtyp"),
    *("xms_act_fct", "xms_sub_fct", "xms_par_app_azp", "identity_type", "delegation_depth", "may_act"),
    *("aud", "scope", "scp", "scopes", "txn", "req_wl", "cnf", "acr", "auth_time", "iat", "nbf", "exp"),
)


class _UnreadableError(Exception):
    """The parts of a token cannot be read; the finding says by which rule."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.sentence)
        self.finding = finding


@dataclass(frozen=True, slots=True)
class _Token:
    typ: str
    header: Mapping[str, object]
    unverified_claims: Mapping[str, object]
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokenReport:
    """What a token is, what it says and what is wrong with it."""

    dialect: Dialect
    parts: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]
    verification: Verification
    verdict: str
    unverified_caller: NormalisedCaller | None

    @property
    def caller(self) -> NormalisedCaller | None:
        """Who calls for whom, where the signature was checked and is right."""
        return self.unverified_caller if self.verification == "verified" else None

    @property
    def refusal(self) -> Finding | None:
        """The one reason why the token stands for no caller."""
        return next((finding for finding in self.findings if finding.severity == "error"), None)

    def row(self) -> dict[str, object]:
        """Return all of it, for machines."""
        about, said, known, refusal = ABOUT[self.dialect], self.unverified_caller, self.caller, self.refusal
        return {
            "dialect": self.dialect.value,
            "title": about.title,
            "source": about.source,
            "parts": dict(self.parts),
            "findings": [_finding_row(finding) for finding in self.findings],
            "refused": None if refusal is None else _finding_row(refusal),
            "verification": self.verification,
            "verdict": self.verdict,
            "caller": None if known is None else known.row(),
            "unverified_caller": None if said is None or known is not None else said.row(),
        }


def inspect_token(text: str, material: TrustMaterial | None, now: datetime) -> TokenReport:
    """Explain a compact JWS.

    Raises:
        InspectionError: if it is longer than 16 kB, or has not the form of a token at all.
    """
    if len(text) > MAX_TOKEN:
        raise InspectionError(f"longer than {MAX_TOKEN} characters: nobody reads so long a token (JW-05)")
    try:
        token = _read(text)
    except _UnreadableError as problem:
        return TokenReport(Dialect.OTHER, (), (problem.finding,), "failed", "it cannot be read", None)
    actors = read_actors(token.unverified_claims)
    dialect = detect(token.typ, token.unverified_claims, actors)
    caller, findings = judge_token(
        Judged(token.typ, token.header, token.unverified_claims, dialect, actors, now)
    )
    report = TokenReport(
        dialect, tuple(_parts(token, actors)), findings, "not-verified", NOTHING_VERIFIED, caller
    )
    if material is None:
        return report
    wrong = _check_signature(dialect, token, material)
    if wrong is None:
        return replace(report, verification="verified", verdict=VERIFIED)
    # First, as nothing else that it says counts.
    return replace(
        report,
        findings=(wrong, *findings),
        verification="failed",
        verdict=wrong.sentence,
        unverified_caller=None,
    )


def _read(text: str) -> _Token:
    parts = text.split(".")
    if len(parts) == 5:
        raise _UnreadableError(error("JW-03", "header.enc", "it is encrypted (JWE): send a signed token"))
    if len(parts) != 3 or not text.isascii():
        raise InspectionError("not a token: three parts of base64url with dots between")
    header, claims = _object(parts[0], "header"), _object(parts[1], "claims")
    # An unsigned token has an empty last part (RFC 7515 appendix A.5): its `alg` is judged with the header.
    signature = _decoded(parts[2], "signature") if parts[2] else b""
    typ = header.get("typ", "")
    plain = typ.lower().removeprefix("application/") if isinstance(typ, str) and typ.isascii() else "?"
    return _Token(plain, header, claims, text.rpartition(".")[0].encode("ascii"), signature)


def _decoded(part: str, name: str) -> bytes:
    try:
        return decode_base64url(part)
    except Base64UrlError as problem:
        raise _UnreadableError(error("JW-05", name, f"the {name} is not strict base64url")) from problem


def _object(part: str, name: str) -> Mapping[str, object]:
    try:
        value = loads(_decoded(part, name), _LIMITS)
    except StrictJsonError as problem:
        rule = "ID-04" if (name, problem.reason) == ("claims", "depth") else "JW-05"
        raise _UnreadableError(
            error(rule, name, f"the {name} is not JSON that everybody reads alike: {problem}")
        ) from problem
    if not isinstance(value, dict):
        raise _UnreadableError(error("JW-05", name, f"the {name} is not a JSON object"))
    return value


def _parts(token: _Token, actors: Actors) -> Iterator[tuple[str, str]]:
    for name in ("alg", "typ", "kid"):
        if name in token.header:
            yield f"header {name}", shown(token.header[name])
    for name in _CLAIMS:
        if name not in token.unverified_claims:
            continue
        value = token.unverified_claims[name]
        when = seconds(value) if name in _TIMES else None
        yield name, shown(value) if when is None else f"{value} ({moment(when)})"
    for actor in actors.shown:
        members = {name: value for name, value in actor.unverified_members.items() if name != "act"}
        yield actor.path, shown(members)


def _check_signature(dialect: Dialect, token: _Token, material: TrustMaterial) -> Finding | None:
    """Return what is wrong with the signature, None if it is right."""
    uses = (JWT_USE, "sig") if dialect is Dialect.JWT_SVID else ("sig",)
    kid = token.header.get("kid")
    sets = [material.keys[use] for use in uses if use in material.keys]
    key = next((found for keys in sets if isinstance(kid, str) and (found := keys.get(kid))), None)
    if key is None:
        return error(
            "JW-02",
            "header.kid",
            "no key of the set for such tokens has its `kid`: get the issuer's set anew",
        )
    try:
        key.verify(token.signature, token.signing_input, token.header.get("alg"))
    except TokenAlgorithmError:
        return error(
            "JW-01", "header.alg", f"its algorithm is not the {' or '.join(key.algorithms)} of its key"
        )
    except TokenSignatureError as problem:
        return error("JW-01", "signature", f"its signature is wrong: {problem}")
    return None


def _finding_row(finding: Finding) -> dict[str, object]:
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "claim": finding.claim,
        "sentence": finding.sentence,
    }
