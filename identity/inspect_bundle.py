"""SPIFFE bundles and JWK Sets, explained rule by rule (SPIFFE Trust Domain and Bundle)."""

from collections.abc import Iterator, Mapping
from typing import Final

from identity.bundle import JWT_USE, X509_USE
from identity.certificate_authority import UNREADABLE, authority_domain
from identity.errors import CertificateError, KeyMaterialError
from identity.inspect_keys import LIMITS, WIT_USE, root_of
from identity.inspection import (
    MAX_PARTS,
    Finding,
    Inspection,
    InspectionError,
    judge,
    moment,
    shown,
    unchecked,
)
from identity.keys import VerificationKey, jwks
from identity.strict_json import StrictJsonError, loads

_SPEC: Final = "Bundle"
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})


def inspect_json(data: bytes) -> Inspection:
    """Explain a JSON document.

    Raises:
        InspectionError: if it is no key, key set or bundle.
    """
    try:
        document = loads(data, LIMITS)
    except StrictJsonError as error:
        raise InspectionError(f"JSON that does not have one reading (B-7): {error}") from error
    if isinstance(document, dict) and "kty" in document:
        return _key(document)
    if not isinstance(document, dict) or "keys" not in document:
        raise InspectionError("JSON that is no bundle, key set or key: no member `keys` or `kty`")
    try:
        entries = list(jwks(document))
    except KeyMaterialError as error:
        raise InspectionError(f"a key set that cannot be read (B-1): {error}") from error
    is_bundle = "spiffe_sequence" in document or any(entry.get("use") == X509_USE for entry in entries)
    kind = "spiffe-bundle" if is_bundle else "jwk-set"
    what = "a SPIFFE bundle: what verifies the SVIDs of one trust domain" if is_bundle else "a JWK Set"
    findings = tuple(_findings(document, entries, is_bundle=is_bundle))
    parts = tuple(_parts(document, entries))
    verdict = "a bundle does not say whose it is: that is known from where it was fetched"
    return Inspection(kind, what, parts, findings, "not-signed", verdict)


def _key(jwk: Mapping[str, object]) -> Inspection:
    is_private = bool(_PRIVATE & jwk.keys())
    kind = "private-key" if is_private else "public-key"
    what = "a PRIVATE key, as a JWK: keep it from everybody" if is_private else "a public key, as a JWK"
    return Inspection(
        kind, what, (("key", _named(jwk)),), (), "not-signed", "a key by itself is signed by nobody"
    )


def _findings(
    document: Mapping[str, object], entries: list[Mapping[str, object]], *, is_bundle: bool
) -> Iterator[Finding]:
    meaning = "a key set" if entries else "an empty key set: everything of this trust domain is revoked"
    yield Finding("B-1", f"{_SPEC} 4.1.3", "ok", meaning)
    yield judge(
        "B-3",
        "RFC 7517 9.2",
        holds=not any(_PRIVATE & entry.keys() or entry.get("kty") == "oct" for entry in entries),
        ok="nothing in it is private",
        failed="it holds a PRIVATE key: replace that key, and see who could read it",
    )
    if is_bundle:
        yield from _numbers(document)
    for number, entry in enumerate(entries[:MAX_PARTS], start=1):
        yield from _entry(number, entry)
    kids = [kid for entry in entries if (kid := entry.get("kid")) is not None]
    yield judge(
        "B-3",
        f"{_SPEC} 4.2",
        holds=len({str(kid) for kid in kids}) == len(kids),
        ok="no two keys have one name",
        failed="two keys have one name",
    )


def _numbers(document: Mapping[str, object]) -> Iterator[Finding]:
    for name, meaning in (("spiffe_sequence", "grows with every change"), ("spiffe_refresh_hint", "seconds")):
        value = document.get(name)
        if name not in document:
            yield unchecked("B-2", f"{_SPEC} 4.1", f"{name} is missing, which is allowed")
        else:
            yield judge(
                "B-2",
                f"{_SPEC} 4.1",
                holds=type(value) is int and value >= 0,
                ok=f"{name} is a whole number ({meaning})",
                failed=f"{name} is not a whole number",
            )


def _entry(number: int, entry: Mapping[str, object]) -> Iterator[Finding]:
    use = entry.get("use")
    if use == X509_USE:
        yield judge(
            "B-3",
            f"{_SPEC} 4.2",
            holds="kid" not in entry and _root_domain(entry) is not None,
            ok=f"key {number}: exactly one authority's certificate, without a kid",
            failed=f"key {number}: not exactly one authority's certificate without a kid",
        )
    elif use in {JWT_USE, WIT_USE}:
        yield judge(
            "B-3",
            f"{_SPEC} 4.2",
            holds=isinstance(entry.get("kid"), str) and bool(entry["kid"]),
            ok=f"key {number}: has a name",
            failed=f"key {number}: has no kid",
        )
    elif use not in {None, "sig"}:
        yield unchecked("B-3", f"{_SPEC} 4.2", f"key {number}: its use is not known, so readers leave it out")


def _parts(document: Mapping[str, object], entries: list[Mapping[str, object]]) -> Iterator[tuple[str, str]]:
    for name in ("spiffe_sequence", "spiffe_refresh_hint"):
        if name in document:
            yield name, shown(document[name])
    for number, entry in enumerate(entries[:MAX_PARTS], start=1):
        yield f"key {number}", f"{shown(entry.get('use') or 'no use')}: {_described(entry)}"


def _described(entry: Mapping[str, object]) -> str:
    if entry.get("use") != X509_USE:
        return _named(entry)
    try:
        root = root_of(entry)
        end = moment(root.not_valid_after_utc)
    except (CertificateError, *UNREADABLE):
        return "unreadable"
    return f"root of {_root_domain(entry) or 'nobody'}, until {end}"


def _named(jwk: Mapping[str, object]) -> str:
    public = {name: value for name, value in jwk.items() if name not in _PRIVATE}
    if public.get("kty") == "oct":
        return "a symmetric key: whoever verifies with it can also sign"
    try:
        key = VerificationKey.parse_jwk({"kid": "unnamed", **public, "key_ops": ["verify"]})
    except KeyMaterialError:
        return f"{shown(jwk.get('kty'))}, of a kind that we do not use"
    return f"{' or '.join(key.algorithms)}, kid {shown(jwk.get('kid', 'missing'))}"


def _root_domain(entry: Mapping[str, object]) -> str | None:
    try:
        return authority_domain(root_of(entry)).name
    except (CertificateError, *UNREADABLE):
        return None
