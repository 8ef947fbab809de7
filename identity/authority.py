"""The identity authority of one trust domain at one moment: who signs what, with which key.

- Each role has keys of its own, and no key has two roles: X.509-SVIDs, JWT-SVIDs, the tokens that name a
  human and, where they are served, WIT-SVIDs. Keys of tokens are never in the SPIFFE bundle, the others never
  at the broker's `jwks_uri`.
- The active key of a role signs, and only that; every published key verifies.
- An SVID of a task is for a live task only, and ends with it. None outlives the key that signed it.
- It never changes: who wants to see a rotation asks `LiveAuthority` for the current one.
- Time and lifetimes are arguments.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from identity.bundle import REFRESH_HINT, Bundle, encode_bundle
from identity.caller import Task
from identity.certificate_authority import BACKDATE, CertificateAuthority
from identity.errors import CertificateError, IssuanceUnavailableError, KeyMaterialError, TokenClaimsError
from identity.jwt_svid import issue_jwt_svid
from identity.key_ring import KeyLife, KeyRing, KeySlot, Role, Stage
from identity.keys import KeySet, SigningKey
from identity.spiffe import SpiffeId, TrustDomain, agent_task_id
from identity.x509_svid import issue_x509_svid


@dataclass(frozen=True, slots=True)
class Authority:
    """The keys of one trust domain, by what they may sign; `keys` are the private ones, by `kid`."""

    trust_domain: TrustDomain
    rings: Mapping[Role, KeyRing]
    keys: Mapping[str, SigningKey] = field(repr=False)
    sequence: int = 1
    refresh_hint: int = REFRESH_HINT
    jwt_issuer: str | None = None
    active: Mapping[Role, KeySlot] = field(init=False, repr=False)
    ca: CertificateAuthority = field(init=False, repr=False)
    svid_keys: KeySet = field(init=False, repr=False)
    token_keys: KeySet = field(init=False, repr=False)
    wit_keys: KeySet = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse one key in two roles: a token for a human would then also be an SVID."""
        kids = [slot.kid for ring in self.rings.values() for slot in ring]
        if len(set(kids)) != len(kids):
            raise KeyMaterialError("one key in two roles")
        # The dataclass is frozen; these are parts of it that are asked for at every call.
        active = {role: ring.active for role, ring in self.rings.items() if ring.active is not None}
        object.__setattr__(self, "active", MappingProxyType(active))
        root = self._active("x509")
        if root.certificate is None:
            raise KeyMaterialError("an authority without a certificate")
        object.__setattr__(
            self, "ca", CertificateAuthority(self.trust_domain, root.certificate, self._signing("x509"))
        )
        object.__setattr__(self, "svid_keys", self._published("jwt"))
        object.__setattr__(self, "token_keys", self._published("tokens"))
        object.__setattr__(self, "wit_keys", self._published("wit"))

    @classmethod
    def of(
        cls, ca: CertificateAuthority, jwt_key: SigningKey, token_key: SigningKey, now: datetime
    ) -> "Authority":
        """Make an authority of one active key a role, which live as long as the certificate."""
        keys: dict[Role, SigningKey] = {"x509": ca.key, "jwt": jwt_key, "tokens": token_key}
        rings: dict[Role, KeyRing] = {
            role: KeyRing(
                role,
                (
                    KeySlot(
                        role,
                        Stage.ACTIVE,
                        key.public,
                        published_at=now,
                        not_after=ca.not_after,
                        certificate=ca.certificate if role == "x509" else None,
                    ),
                ),
            )
            for role, key in keys.items()
        }
        return cls(ca.trust_domain, MappingProxyType(rings), {key.kid: key for key in keys.values()})

    @classmethod
    def generate(cls, trust_domain: TrustDomain, now: datetime, life: KeyLife | None = None) -> "Authority":
        """Make a new authority, in memory."""
        ca = CertificateAuthority.generate(trust_domain, now, (life or KeyLife()).lifetime)
        return cls.of(ca, SigningKey.generate(), SigningKey.generate(), now)

    @property
    def jwt_key(self) -> SigningKey:
        """The key that signs JWT-SVIDs."""
        return self._signing("jwt")

    @property
    def token_key(self) -> SigningKey:
        """The key that signs tokens that name a human."""
        return self._signing("tokens")

    @property
    def wit_key(self) -> SigningKey | None:
        """The key that signs WIT-SVIDs, where they are served."""
        return self._signing("wit") if "wit" in self.active else None

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        """The published roots that X.509-SVIDs are verified with, the oldest first."""
        return tuple(slot.certificate for slot in self.rings["x509"] if slot.certificate is not None)

    def issue_task_svid(
        self, task: Task, public_key: ec.EllipticCurvePublicKey, now: datetime, ttl: int
    ) -> bytes:
        """Sign an X.509-SVID of a live task, as DER.

        Raises:
            CertificateError: if the task is over, or the authority has expired.
        """
        if not task.is_live(now):
            raise CertificateError(f"a task that is over: {task.id!r}")
        self._check_clock("x509", now)
        spiffe_id = agent_task_id(self.trust_domain, task.agent, task.id)
        not_after = min(now + timedelta(seconds=ttl), task.deadline)
        return issue_x509_svid(
            ca=self.ca, spiffe_id=spiffe_id, public_key=public_key, not_after=not_after, now=now
        )

    def issue_workload_svid(
        self,
        spiffe_id: SpiffeId,
        public_key: ec.EllipticCurvePublicKey,
        now: datetime,
        ttl: int,
        dns_names: Sequence[str] = (),
    ) -> bytes:
        """Sign an X.509-SVID of a workload of the mesh, as DER.

        Raises:
            CertificateError: if the ID is of another trust domain, or the authority has expired.
        """
        self._check_clock("x509", now)
        return issue_x509_svid(
            ca=self.ca,
            spiffe_id=spiffe_id,
            public_key=public_key,
            not_after=now + timedelta(seconds=ttl),
            now=now,
            dns_names=dns_names,
        )

    def issue_jwt_svid(
        self, spiffe_id: SpiffeId, audience: str, now: datetime, ttl: int, not_after: datetime
    ) -> str:
        """Sign a JWT-SVID that ends with the key that signs it at the latest.

        Raises:
            TokenClaimsError: if the ID is of another trust domain or has no path, or the audience is empty.
            TokenExpiredError: if no time is left.
        """
        if spiffe_id.trust_domain != self.trust_domain:
            raise TokenClaimsError(f"an ID that the authority of {self.trust_domain.name!r} may not sign")
        self._check_clock("jwt", now)
        end = min(not_after, self._active("jwt").not_after)
        return issue_jwt_svid(
            self.jwt_key,
            spiffe_id,
            audience=audience,
            now=now,
            ttl=ttl,
            not_after=end,
            issuer=self.jwt_issuer,
        )

    def bundle(self) -> dict[str, object]:
        """Return the SPIFFE bundle: what verifies SVIDs, and nothing else."""
        return encode_bundle(
            self.roots, self.svid_keys, self.sequence, self.refresh_hint, wit_keys=self.wit_keys
        )

    def trust_bundle(self) -> Bundle:
        """Return what verifies our SVIDs, as a value."""
        return Bundle(
            self.trust_domain, self.roots, self.svid_keys, self.sequence, self.refresh_hint, self.wit_keys
        )

    def token_jwks(self) -> dict[str, object]:
        """Return the JWK Set for the broker's `jwks_uri`: what verifies tokens that name a human."""
        return {"keys": [{**key.jwk(), "use": "sig"} for key in self.token_keys]}

    def _check_clock(self, role: Role, now: datetime) -> None:
        """Refuse to sign for a time at which the key was not there: no verifier would accept it."""
        if now < self._active(role).published_at - BACKDATE:
            raise IssuanceUnavailableError(
                f"the clock says {now.isoformat()}, before the key of role {role!r} was made: set it"
            )

    def _active(self, role: Role) -> KeySlot:
        slot = self.active.get(role)
        if slot is None:
            raise IssuanceUnavailableError(f"no key of role {role!r} is active")
        return slot

    def _signing(self, role: Role) -> SigningKey:
        slot = self._active(role)
        key = self.keys.get(slot.kid)
        if key is None:
            raise KeyMaterialError(f"the private key of {slot.kid!r} is missing")
        return key

    def _published(self, role: Role) -> KeySet:
        return self.rings[role].public_keys if role in self.rings else KeySet.of(())
