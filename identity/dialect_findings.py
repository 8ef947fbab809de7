"""What is wrong with a token, whoever issued it: header, times, audience, scopes, binding.

- Rules are those of the checklist for token exchange. `error` is what we refuse; `warning` is what is
  ignored, or weakens who trusts the token; `note` is what to know. Each sentence says what to do.
- Nothing is verified here. Text of the token in a sentence is quoted and bounded.
- The number of findings is bounded, whatever the token holds.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, cast

from identity.dialect import Dialect
from identity.dialect_actors import Actors
from identity.errors import TokenAudienceError
from identity.inspection import moment, seconds, shown
from identity.scopes import ScopeError, parse_scopes
from identity.signature_algorithms import SVID_ALGORITHMS

Severity = Literal["error", "warning", "note"]

LEEWAY: Final = 30  # seconds (JW-06)
LONG_LIFETIME: Final = 3600
MAX_KID: Final = 256

_KEY_MEMBERS: Final = ("jku", "jwk", "x5u", "x5c")
_EXTENSIONS: Final = ("crit", "b64", "zip", "enc")
_KID: Final = re.compile(r"[A-Za-z0-9._~:=+-]+")
_AUDIENCE: Final = re.compile(r"[a-z][a-z0-9+.-]*:[^\s#]+", re.IGNORECASE)
# In the order in which issuers write them: RFC 9068, Entra and Okta, ZeroID.
_SCOPE_CLAIMS: Final = ("scope", "scp", "scopes")
# Those of the table of confirmation methods (RFC 7800, 8705, 9449), and our own.
_BINDINGS: Final = frozenset({"x5t#S256", "jkt", "jwk", "kid", "workload"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that a token breaks, or makes worth knowing."""

    rule: str
    severity: Severity
    claim: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What is judged: a token of a stranger, its dialect and actors, and when."""

    typ: str
    header: Mapping[str, object]
    unverified_claims: Mapping[str, object]
    dialect: Dialect
    actors: Actors
    now: datetime


def error(rule: str, claim: str, sentence: str) -> Finding:
    """Return a finding that refuses the token."""
    return Finding(rule, "error", claim, sentence)


def warning(rule: str, claim: str, sentence: str) -> Finding:
    """Return a finding that refuses nothing."""
    return Finding(rule, "warning", claim, sentence)


def token_findings(judged: Judged) -> Iterator[Finding]:
    """Judge what every token has."""
    yield from _header(judged)
    yield from _required(judged)
    yield from _times(judged)
    yield from _audience(judged.unverified_claims)
    yield from _binding(judged.unverified_claims)


def scope_findings(unverified_claims: Mapping[str, object]) -> Iterator[Finding]:
    """Judge the scopes of a token that somebody acts with: unknown is never unlimited (NR-02)."""
    if read_scopes(unverified_claims) is None:
        yield error(
            "NR-02",
            "scope",
            "no scopes, or none that can be read in one way: unknown is not unlimited; ask the issuer for "
            "`scope`",
        )


def read_audience(unverified_claims: Mapping[str, object]) -> str:
    """Return the one audience of a token.

    Raises:
        TokenAudienceError: if there is none, or more than one (NR-03).
    """
    match unverified_claims.get("aud"):
        case str(one) | [str(one)] if one:
            return one
        case [_, _, *_]:
            raise TokenAudienceError(
                "several audiences: each of them could use it at the others; ask for one"
            )
    raise TokenAudienceError("no audience that is one text: everybody who sees it could use it anywhere")


def read_scopes(unverified_claims: Mapping[str, object]) -> frozenset[str] | None:
    """Return the scopes of a token; None if there are none, or two claims tell different ones."""
    found: set[frozenset[str]] = set()
    for name in _SCOPE_CLAIMS:
        if name not in unverified_claims:
            continue
        value = unverified_claims[name]
        if isinstance(value, list) and value and all(isinstance(one, str) and one for one in value):
            value = " ".join(value)
        try:
            found.add(parse_scopes(value if isinstance(value, str) else ""))
        except ScopeError:
            return None
    return found.pop() if len(found) == 1 else None


def _header(judged: Judged) -> Iterator[Finding]:
    header = judged.header
    algorithm = header.get("alg")
    if algorithm not in SVID_ALGORITHMS:
        yield error(
            "JW-01",
            "header.alg",
            f"the algorithm {shown(algorithm)[:64]!r} is not accepted: sign with one of RS, PS or ES and "
            "256, 384 or 512",
        )
    for name in _EXTENSIONS:
        if name in header:
            yield error("JW-03", f"header.{name}", f"`{name}` changes how the token is read: leave it out")
    for name in _KEY_MEMBERS:
        if name in header:
            yield warning(
                "JW-02", f"header.{name}", f"`{name}` is never followed: publish the key at the `jwks_uri`"
            )
    yield from _kid(header)
    if judged.typ != "at+jwt" and judged.actors.depth and judged.dialect is not Dialect.TRANSACTION_TOKEN:
        yield Finding(
            "JW-04",
            "note",
            "header.typ",
            "the type is not `at+jwt`: only its claims keep it from being an ID token",
        )


def _kid(header: Mapping[str, object]) -> Iterator[Finding]:
    kid = header.get("kid")
    if kid is None:
        yield warning(
            "JW-02", "header.kid", "it does not name its key, so no key set can verify it: set `kid`"
        )
    elif not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID:
        yield error(
            "JW-02", "header.kid", f"`kid` is not text of 1 to {MAX_KID} characters: use a thumbprint"
        )
    elif not _KID.fullmatch(kid):
        yield warning(
            "JW-02",
            "header.kid",
            "`kid` has characters of paths, queries or markup: it is only ever a name that is looked up",
        )


def _required(judged: Judged) -> Iterator[Finding]:
    claims = judged.unverified_claims
    is_entra = judged.dialect in {Dialect.ENTRA_AGENT, Dialect.ENTRA}
    is_transaction = judged.dialect is Dialect.TRANSACTION_TOKEN
    for name in ("iss", "sub"):
        if not isinstance(claims.get(name), str) or not claims[name]:
            # The base draft of transaction tokens lets `iss` away, but not beside `act` (CL-02).
            yield error(
                "CL-02" if is_transaction else "CL-01",
                name,
                f"no `{name}`: nobody can say who the subject is",
            )
    for name in ("iat", "jti"):
        if name not in claims and not (is_entra and name == "jti" and "uti" in claims):
            yield warning(
                "CL-01", name, f"no `{name}`: it cannot be named in a record, or limited in its age"
            )
    if not is_transaction and "client_id" not in claims and judged.actors.depth:
        yield warning(
            "CL-01", "client_id", "no `client_id`, which RFC 9068 requires: say to which client it was issued"
        )
    if is_transaction:
        for name in ("txn", "scope", "req_wl"):
            if not isinstance(claims.get(name), str):
                yield error("CL-02", name, f"a transaction token without `{name}`: it is not one")


def _times(judged: Judged) -> Iterator[Finding]:
    claims, now = judged.unverified_claims, int(judged.now.timestamp())
    times = {name: _seconds(claims.get(name)) for name in ("exp", "nbf", "iat")}
    for name, value in times.items():
        if value is None and name in claims:
            yield error("JW-05", name, f"`{name}` is not a whole number of seconds since 1970")
    end, begin = times["exp"], times["iat"]
    if "exp" not in claims:
        yield error("CL-01", "exp", "no `exp`: it would hold for ever")
    elif end is not None and end <= now - LEEWAY:
        yield error("JW-06", "exp", f"it ended at {_moment(end)}: get a new one")
    for name in ("nbf", "iat"):
        value = times[name]
        if value is not None and value > now + LEEWAY:
            yield error(
                "CL-07", name, f"`{name}` is still to come, at {_moment(value)}: check the issuer's clock"
            )
    if end is not None and begin is not None and end - begin > LONG_LIFETIME:
        yield warning(
            "CL-07",
            "exp",
            f"it holds for {end - begin} seconds: what an agent holds should end within minutes",
        )


def _seconds(value: object) -> int | None:
    return None if seconds(value) is None else cast("int", value)


def _moment(value: int) -> str:
    return moment(datetime.fromtimestamp(value, UTC))


def _audience(claims: Mapping[str, object]) -> Iterator[Finding]:
    try:
        audience = read_audience(claims)
    except TokenAudienceError as problem:
        yield error("NR-03" if isinstance(claims.get("aud"), list) else "CL-01", "aud", str(problem))
        return
    if isinstance(claims["aud"], list):
        yield warning("NR-03", "aud", "a list of one audience: write the text alone, as a list invites more")
    if not _AUDIENCE.fullmatch(audience):
        yield warning(
            "NR-03",
            "aud",
            f"the audience {shown(audience)[:128]!r} is no absolute URI without fragment: it names no "
            "service outside the issuer's own registry",
        )


def _binding(claims: Mapping[str, object]) -> Iterator[Finding]:
    if "cnf" not in claims:
        yield warning(
            "CL-08", "cnf", "it is bound to nobody, so whoever finds it can use it: ask for mTLS or DPoP"
        )
        return
    confirmation = claims["cnf"]
    if not isinstance(confirmation, Mapping) or len(confirmation) != 1:
        yield error("CL-08", "cnf", "`cnf` must have exactly one member, the key of the current presenter")
    elif not confirmation.keys() <= _BINDINGS:
        yield warning(
            "CL-08", "cnf", f"bound in a way that we do not know: {shown(list(confirmation))[:64]!r}"
        )
