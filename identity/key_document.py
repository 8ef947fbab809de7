"""The state of an authority, without its private keys: which key is in which slot, until when.

- It says everything that survives a restart, and holds nothing that is secret: slots, roots, public keys, the
  sequence number of the bundle.
- A document that is truncated, of another version or of another trust domain is refused whole: with new keys
  in its place, everybody would silently be a stranger.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from identity.certificate_authority import UNREADABLE, authority_domain
from identity.errors import AuthorityStateError, CertificateError, KeyMaterialError, SpiffeIdError
from identity.key_ring import ROLES, KeyRing, KeySlot, Role, Stage
from identity.keys import VerificationKey
from identity.spiffe import TrustDomain
from identity.strict_json import Limits, StrictJsonError, loads

VERSION: Final = 2

_MEMBERS: Final = frozenset({"version", "trust_domain", "sequence", "slots"})
_SLOT: Final = frozenset(
    {"role", "stage", "kid", "public", "certificate", "published_at", "not_after", "tainted"}
)
_LIMITS: Final = Limits(depth=8)


@dataclass(frozen=True, slots=True)
class KeyDocument:
    """What an authority remembers beside its private keys."""

    trust_domain: TrustDomain
    sequence: int
    rings: Mapping[Role, KeyRing]

    @classmethod
    def empty(cls, trust_domain: TrustDomain) -> "KeyDocument":
        """Return the document of an authority that has no keys yet."""
        return cls(trust_domain, 0, MappingProxyType({}))

    @classmethod
    def parse(cls, data: bytes) -> "KeyDocument":
        """Read a document that `encode` wrote.

        Raises:
            KeyMaterialError: if it is truncated, damaged, or of another version.
        """
        try:
            document = loads(data, _LIMITS)
        except StrictJsonError as error:
            raise KeyMaterialError(f"not the state of an authority: {error}") from error
        if not isinstance(document, dict) or document.keys() != _MEMBERS:
            raise KeyMaterialError("not the state of an authority")
        version, sequence, slots = document["version"], document["sequence"], document["slots"]
        if type(version) is not int or version != VERSION:
            raise KeyMaterialError(f"the state of an authority of another version than {VERSION}")
        if type(sequence) is not int or sequence < 1 or not isinstance(slots, list):
            raise KeyMaterialError("the state of an authority without a sequence number or slots")
        try:
            trust_domain = TrustDomain.parse(_text(document, "trust_domain"))
            parsed = [_slot(slot, trust_domain) for slot in slots]
            return cls(trust_domain, sequence, _rings(parsed))
        except (SpiffeIdError, CertificateError, AuthorityStateError, *UNREADABLE) as error:
            raise KeyMaterialError(f"a damaged state of an authority: {error}") from error

    def encode(self) -> bytes:
        """Write the document."""
        document = {
            "version": VERSION,
            "trust_domain": self.trust_domain.name,
            "sequence": self.sequence,
            "slots": [_members(slot) for ring in self.rings.values() for slot in ring],
        }
        return json.dumps(document, indent=1).encode("ascii") + b"\n"


def _members(slot: KeySlot) -> dict[str, object]:
    certificate = slot.certificate
    return {
        "role": slot.role,
        "stage": slot.stage.value,
        "kid": slot.kid,
        "public": slot.public.jwk(),
        "certificate": certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
        if certificate is not None
        else None,
        "published_at": _moment_text(slot.published_at),
        "not_after": _moment_text(slot.not_after),
        "tainted": slot.tainted,
    }


def _slot(members: object, trust_domain: TrustDomain) -> KeySlot:
    if not isinstance(members, dict) or members.keys() != _SLOT or type(members["tainted"]) is not bool:
        raise KeyMaterialError("a slot with other members than those of a key")
    role = next((role for role in ROLES if role == members["role"]), None)
    public = members["public"]
    if role is None or not isinstance(public, dict):
        raise KeyMaterialError("a slot without a role or a public key")
    key = VerificationKey.parse_jwk(public)
    certificate = _certificate(members, role, key, trust_domain)
    if key.kid != members["kid"] or _thumbprint(key) != key.kid:
        raise KeyMaterialError("a slot whose key is not the one that it names")
    return KeySlot(
        role=role,
        stage=Stage(_text(members, "stage")),
        public=key,
        published_at=_moment(members, "published_at"),
        not_after=_moment(members, "not_after"),
        certificate=certificate,
        tainted=members["tainted"],
    )


def _thumbprint(key: VerificationKey) -> str:
    if not isinstance(key.public_key, ec.EllipticCurvePublicKey):
        raise KeyMaterialError("a slot whose key is not on P-256")
    return VerificationKey.of(key.public_key).kid


def _certificate(
    members: Mapping[str, object], role: Role, key: VerificationKey, trust_domain: TrustDomain
) -> x509.Certificate | None:
    if (members["certificate"] is None) != (role != "x509"):
        raise KeyMaterialError("a root without its certificate, or a certificate of another key")
    if members["certificate"] is None:
        return None
    certificate = x509.load_pem_x509_certificate(_text(members, "certificate").encode("ascii"))
    if authority_domain(certificate) != trust_domain or certificate.public_key() != key.public_key:
        raise KeyMaterialError("a root of another trust domain or of another key")
    return certificate


def _rings(slots: list[KeySlot]) -> Mapping[Role, KeyRing]:
    present = {slot.role for slot in slots}
    return MappingProxyType(
        {
            role: KeyRing(role, tuple(slot for slot in slots if slot.role == role))
            for role in ROLES
            if role in present
        }
    )


def _text(members: Mapping[str, object], name: str) -> str:
    value = members[name]
    if not isinstance(value, str) or not value.isascii():
        raise KeyMaterialError(f"a state whose {name} is not text")
    return value


def _moment(members: Mapping[str, object], name: str) -> datetime:
    moment = datetime.fromisoformat(_text(members, name))
    if moment.utcoffset() is None:
        raise KeyMaterialError(f"a state whose {name} has no time zone")
    return moment.astimezone(UTC)


def _moment_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
