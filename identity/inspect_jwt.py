"""JSON Web Tokens, explained rule by rule: SVIDs, our tokens that name a human, and those of others.

- The type in the header says which rules are asked; a type that lies fails the rules of what it claims to be.
- A signature is checked with the key that its `kid` names in the bundle that was given, for its use only: the
  key of a JWT-SVID never vouches for a token that names a human (the `sub` conflict, rules/spiffe.md).
- The token is not repeated, and neither is its signature.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from identity.base64url import Base64UrlError, decode_base64url
from identity.bundle import JWT_USE
from identity.errors import TokenAlgorithmError, TokenSignatureError
from identity.inspect_keys import WIT_USE, TrustMaterial
from identity.inspect_x509 import NOTHING_VERIFIED
from identity.inspection import (
    MAX_PARTS,
    Finding,
    Inspection,
    InspectionError,
    Verification,
    judge,
    moment,
    seconds,
    shown,
    spiffe_id_findings,
    unchecked,
)
from identity.jws import MAX_TOKEN
from identity.keys import KeySet
from identity.spiffe import SpiffeId
from identity.strict_json import Limits, StrictJsonError, loads

ALGORITHMS: Final = frozenset(f"{kind}{bits}" for kind in ("RS", "ES", "PS") for bits in (256, 384, 512))
_LIMITS: Final = Limits(depth=32, keys=512, integer=2**64 - 1)
_HEADER: Final = frozenset({"alg", "kid", "typ"})
_JWT: Final = "JWT-SVID"
_WIT: Final = "WIT-SVID"
# What each kind is, and what its key is published for (`sig`: at the issuer's `jwks_uri`).
_KINDS: Final = {
    "jwt-svid": ("a JWT-SVID: which workload or agent's task is calling", (JWT_USE, "sig")),
    "wit-svid": ("a WIT-SVID: a workload's identity, with the key that it must prove", (WIT_USE,)),
    "delegation-token": ("a delegation token: for whom an agent acts, and which one (RFC 8693)", ("sig",)),
    "transaction-token": (
        "a transaction token: one allowed call, for the service behind the proxy",
        ("sig",),
    ),
    "access-token": ("an access token of another issuer (RFC 9068)", ("sig",)),
    "jwt": ("a JWT of another kind", ("sig", JWT_USE)),
}


@dataclass(frozen=True, slots=True)
class _Read:
    """A token whose parts could be read; nothing of it is known to be true."""

    typ: str
    header: Mapping[str, object]
    unverified_claims: Mapping[str, object]
    signing_input: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """With what a token is compared."""

    material: TrustMaterial | None
    audience: str | None
    now: datetime


def looks_like_jwt(text: str) -> bool:
    """Say whether a text has the form of a compact JWS or JWE."""
    return text.startswith("eyJ") and text.count(".") in {2, 4}


def inspect_jwt(text: str, asked: Asked) -> Inspection:
    """Explain a compact JWS.

    Raises:
        InspectionError: if its parts cannot be read at all.
    """
    token = _read(text)
    kind = _kind(token)
    findings = tuple(_findings(kind, token, asked))
    verification, verdict = _verification(kind, token, asked)
    return Inspection(kind, _KINDS[kind][0], tuple(_parts(token)), findings, verification, verdict)


def _read(text: str) -> _Read:
    if len(text) > MAX_TOKEN:
        raise InspectionError(f"a token longer than {MAX_TOKEN} characters: nobody of ours accepts it")
    parts = text.split(".")
    if len(parts) != 3:
        raise InspectionError("a token of five parts is encrypted (JWE): an SVID is never (J-1)")
    header, claims = _object(parts[0], "header"), _object(parts[1], "claims")
    try:
        signature = decode_base64url(parts[2])
    except Base64UrlError as error:
        raise InspectionError("a token whose signature is not strict base64url") from error
    typ = header.get("typ", "")
    plain = typ.lower().removeprefix("application/") if isinstance(typ, str) and typ.isascii() else "?"
    return _Read(plain, header, claims, text.rpartition(".")[0].encode("ascii"), signature)


def _object(part: str, name: str) -> Mapping[str, object]:
    try:
        value = loads(decode_base64url(part), _LIMITS)
    except Base64UrlError as error:
        raise InspectionError(f"a token whose {name} is not strict base64url") from error
    except StrictJsonError as error:
        raise InspectionError(f"a token whose {name} is not JSON that has one reading: {error}") from error
    if not isinstance(value, dict):
        raise InspectionError(f"a token whose {name} is not a JSON object")
    return value


def _kind(token: _Read) -> str:
    subject = token.unverified_claims.get("sub")
    match token.typ:
        case "wit+jwt":
            return "wit-svid"
        case "at+jwt":
            return "delegation-token" if "act" in token.unverified_claims else "access-token"
        case "txntoken+jwt":
            return "transaction-token"
    is_spiffe = isinstance(subject, str) and subject.lower().startswith("spiffe:")
    return "jwt-svid" if is_spiffe else "jwt"


def _parts(token: _Read) -> Iterator[tuple[str, str]]:
    for name, value in list(token.header.items())[:MAX_PARTS]:
        yield f"header {shown(name)[:64]}", shown(value)
    for name, value in list(token.unverified_claims.items())[:MAX_PARTS]:
        when = seconds(value) if name in {"exp", "iat", "nbf", "auth_time"} else None
        yield shown(name)[:64], f"{value} ({moment(when)})" if when else shown(value)


def _findings(kind: str, token: _Read, asked: Asked) -> Iterator[Finding]:
    match kind:
        case "jwt-svid":
            yield from _jwt_svid(token, asked)
        case "wit-svid":
            yield from _wit_svid(token, asked)
        case "delegation-token" | "transaction-token":
            yield from _for_a_human(kind, token, asked)
        case _:
            yield _algorithm("J-2", "RFC 8725 3.1", token)
            yield _end("J-7", "RFC 7519 4.1.4", token, asked.now)
            yield from _audience("J-6", "RFC 7519 4.1.3", token, asked)


def _jwt_svid(token: _Read, asked: Asked) -> Iterator[Finding]:
    yield _header("J-1", f"{_JWT} 2", token)
    yield _algorithm("J-2", f"{_JWT} 2.1", token)
    yield judge(
        "J-3",
        f"{_JWT} 2.3",
        holds=token.typ in {"", "jwt", "jose"},
        ok="the type is absent, JWT or JOSE",
        failed=f"the type {shown(token.typ)!r} is that of another kind of token",
    )
    yield _kid("J-4", f"{_JWT} 2.2", token)
    yield from _subject("J-5", f"{_JWT} 3.1", token)
    yield from _audience("J-6", f"{_JWT} 3.2", token, asked)
    yield _end("J-7", f"{_JWT} 3.3", token, asked.now)
    yield from _begin(token, asked.now)


def _wit_svid(token: _Read, asked: Asked) -> Iterator[Finding]:
    claims = token.unverified_claims
    yield judge(
        "W-1",
        f"{_WIT} 2",
        holds=token.header.keys() == _HEADER and token.header.get("alg") in ALGORITHMS,
        ok="the header holds kid, typ and an allowed alg, and nothing else",
        failed="the header must hold kid, typ and an allowed alg, and nothing else",
    )
    yield from _subject("W-2", f"{_WIT} 3", token)
    yield _end("W-2", f"{_WIT} 3", token, asked.now)
    confirmation = claims.get("cnf")
    jwk = confirmation.get("jwk") if isinstance(confirmation, Mapping) else None
    bound = isinstance(jwk, Mapping) and jwk.get("alg") in ALGORITHMS and "d" not in jwk
    yield judge(
        "W-2",
        f"{_WIT} 3",
        holds=bound,
        ok="it is bound to a public key, which names its algorithm",
        failed="it is not bound to a public key that names an allowed algorithm",
    )
    yield judge(
        "W-3",
        f"{_WIT} 3",
        holds="aud" not in claims,
        ok="it has no audience, as the standard asks",
        failed="it has an audience, which it must not",
    )
    issuer = claims.get("iss", "")
    yield judge(
        "W-4",
        f"{_WIT} 3",
        holds=isinstance(issuer, str) and not issuer.lower().startswith(("http:", "https:")),
        ok="it names no issuer that OpenID Connect Discovery could find",
        failed="it names an issuer that OpenID Connect Discovery could find",
    )
    yield unchecked("W-6", f"{_WIT} 5", "it is worth nothing alone: its holder must prove the key in `cnf`")


def _for_a_human(kind: str, token: _Read, asked: Asked) -> Iterator[Finding]:
    claims = token.unverified_claims
    yield _header("SUB", "rules/spiffe.md", token)
    yield _algorithm("J-2", "RFC 8725 3.1", token)
    yield _kid("J-4", "RFC 7515 4.1.4", token)
    actor = claims.get("act")
    who = actor.get("sub") if isinstance(actor, Mapping) else None
    if kind == "delegation-token" or actor is not None:
        yield judge(
            "SUB",
            "RFC 8693 4.1",
            holds=isinstance(who, str) and who.startswith("spiffe://"),
            ok="the subject is the human, the actor is the agent's SPIFFE ID",
            failed="no actor with a SPIFFE ID: it does not say which agent acts",
        )
    yield judge(
        "SUB",
        "RFC 7800 3.1",
        holds=isinstance(claims.get("cnf"), Mapping) or kind == "transaction-token",
        ok="it is bound to its presenter, or to one call",
        failed="it is bound to nobody: whoever finds it could use it",
    )
    if asked.material is not None and JWT_USE in asked.material.keys:
        kid = token.header.get("kid")
        yield judge(
            "SUB",
            "rules/spiffe.md",
            holds=not isinstance(kid, str) or asked.material.keys[JWT_USE].get(kid) is None,
            ok="its key is none that verifies JWT-SVIDs",
            failed="its key also verifies JWT-SVIDs, so it could pass as an SVID of the human that it names",
        )
    yield from _audience("J-6", "RFC 7519 4.1.3", token, asked)
    yield _end("J-7", "RFC 7519 4.1.4", token, asked.now)
    yield from _begin(token, asked.now)


def _header(rule: str, section: str, token: _Read) -> Finding:
    more = ", ".join(sorted(shown(name) for name in token.header.keys() - _HEADER))
    return judge(
        rule,
        section,
        holds=not more,
        ok="the header holds alg, kid and typ and nothing else",
        failed=f"the header holds more than alg, kid and typ: {more}"[:200],
    )


def _algorithm(rule: str, section: str, token: _Read) -> Finding:
    algorithm = token.header.get("alg")
    return judge(
        rule,
        section,
        holds=isinstance(algorithm, str) and algorithm in ALGORITHMS,
        ok=f"the algorithm {algorithm} is one of the nine that are allowed",
        failed=f"the algorithm {shown(algorithm)} is none of RS, ES or PS with 256, 384 or 512",
    )


def _kid(rule: str, section: str, token: _Read) -> Finding:
    return judge(
        rule,
        section,
        holds=isinstance(token.header.get("kid"), str) and bool(token.header["kid"]),
        ok="it names its key",
        failed="it does not name its key, so SPIRE and go-spiffe refuse it",
    )


def _subject(rule: str, section: str, token: _Read) -> Iterator[Finding]:
    subject = token.unverified_claims.get("sub")
    spiffe_id, findings = (
        spiffe_id_findings(subject, of_leaf=True) if isinstance(subject, str) else (None, ())
    )
    yield judge(
        rule,
        section,
        holds=spiffe_id is not None and bool(spiffe_id.path),
        ok="the subject is the SPIFFE ID of a workload",
        failed="the subject is not the SPIFFE ID of a workload",
    )
    yield from findings


def _audience(rule: str, section: str, token: _Read, asked: Asked) -> Iterator[Finding]:
    value = token.unverified_claims.get("aud")
    audiences = [value] if isinstance(value, str) else value
    named = (
        isinstance(audiences, list) and bool(audiences) and all(isinstance(a, str) and a for a in audiences)
    )
    if not named or not isinstance(audiences, list):
        yield Finding(rule, section, "failed", "no audience, or an empty one")
        return
    one = (
        "one audience"
        if len(audiences) == 1
        else "several audiences, which the standard allows and we do not"
    )
    yield Finding(rule, section, "ok", one)
    if asked.audience is None:
        yield unchecked("J-9", section, "say with --audience whether the audience is you")
    else:
        yield judge(
            "J-9",
            section,
            holds=asked.audience in audiences,
            ok="the audience that was asked for is there",
            failed="it is for another audience",
        )


def _end(rule: str, section: str, token: _Read, now: datetime) -> Finding:
    end = seconds(token.unverified_claims.get("exp"))
    if end is None:
        return Finding(rule, section, "failed", "no `exp` that is a whole number: it would hold for ever")
    return judge(
        rule, section, holds=now < end, ok=f"it ends at {moment(end)}", failed=f"it ended at {moment(end)}"
    )


def _begin(token: _Read, now: datetime) -> Iterator[Finding]:
    for name in ("nbf", "iat"):
        if name not in token.unverified_claims:
            continue
        start = seconds(token.unverified_claims[name])
        yield judge(
            "J-9",
            "RFC 7519 4.1",
            holds=start is not None and start <= now,
            ok=f"`{name}` has passed",
            failed=f"`{name}` is still to come, or is no whole number",
        )


def _verification(kind: str, token: _Read, asked: Asked) -> tuple[Verification, str]:
    if asked.material is None:
        return "not-verified", NOTHING_VERIFIED
    keys, kid = _keys_of(kind, token, asked.material), token.header.get("kid")
    if isinstance(keys, str):
        return "failed", keys
    key = next((found for one in keys if isinstance(kid, str) and (found := one.get(kid))), None)
    if key is None:
        return "failed", f"no key of the bundle has its kid and is for a {kind}, or of a kind that we verify"
    try:
        key.verify(token.signature, token.signing_input, token.header.get("alg"))
    except TokenAlgorithmError:
        return "failed", f"its algorithm is not the {' or '.join(key.algorithms)} of its key"
    except TokenSignatureError as error:
        return "failed", f"its signature is wrong: {error}"
    return "verified", "its signature is right; time and audience are judged above"


def _keys_of(kind: str, token: _Read, material: TrustMaterial) -> list[KeySet] | str:
    """Return the keys that may speak for a token, or why there are none."""
    if kind in {"jwt-svid", "wit-svid"} and material.trust_domain is not None:
        subject = token.unverified_claims.get("sub")
        spiffe_id: SpiffeId | None = (
            spiffe_id_findings(subject, of_leaf=True)[0] if isinstance(subject, str) else None
        )
        if spiffe_id is None or spiffe_id.trust_domain != material.trust_domain:
            return f"the bundle is that of {material.trust_domain.name!r}, which is not the subject's (J-10)"
    return [material.keys[use] for use in _KINDS[kind][1] if use in material.keys]
