"""The identity authority of one trust domain: who signs what, with which key.

- Three keys, never two of them the same: the CA's (X.509-SVIDs), one for JWT-SVIDs, one for the tokens that
  name a human. The third is never in the SPIFFE bundle, the first two are never at the broker's `jwks_uri`.
- An SVID of a task is for a live task only, and ends with it.
- Time and lifetimes are arguments.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from identity.bundle import encode_bundle
from identity.caller import Task
from identity.certificate_authority import CertificateAuthority
from identity.errors import CertificateError, KeyMaterialError, TokenClaimsError
from identity.jwt_svid import issue_jwt_svid
from identity.keys import KeySet, SigningKey
from identity.spiffe import SpiffeId, TrustDomain, agent_task_id
from identity.x509_svid import issue_x509_svid

# Keys do not rotate yet, so the content of the bundle never changes.
_SEQUENCE: Final = 1


@dataclass(frozen=True, slots=True)
class Authority:
    """The keys of one trust domain, by what they may sign."""

    ca: CertificateAuthority
    jwt_key: SigningKey
    token_key: SigningKey

    def __post_init__(self) -> None:
        """Refuse one key in two roles: a token for a human would then also be an SVID."""
        if len({self.ca.key.kid, self.jwt_key.kid, self.token_key.kid}) != 3:
            raise KeyMaterialError("one key in two roles")

    @classmethod
    def generate(cls, trust_domain: TrustDomain, now: datetime) -> "Authority":
        """Make a new authority."""
        return cls(
            CertificateAuthority.generate(trust_domain, now), SigningKey.generate(), SigningKey.generate()
        )

    @property
    def trust_domain(self) -> TrustDomain:
        """The trust domain that the authority speaks for."""
        return self.ca.trust_domain

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        """The roots that X.509-SVIDs are verified with."""
        return (self.ca.certificate,)

    @property
    def svid_keys(self) -> KeySet:
        """The keys that JWT-SVIDs are verified with."""
        return KeySet.of([self.jwt_key.public])

    @property
    def token_keys(self) -> KeySet:
        """The keys that delegation and transaction tokens are verified with."""
        return KeySet.of([self.token_key.public])

    def issue_task_svid(
        self, task: Task, public_key: ec.EllipticCurvePublicKey, now: datetime, ttl: int
    ) -> bytes:
        """Sign an X.509-SVID of a live task, as DER.

        Raises:
            CertificateError: if the task is over, or the authority has expired.
        """
        if not task.is_live(now):
            raise CertificateError(f"a task that is over: {task.id!r}")
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
        """Sign a JWT-SVID that ends with the authority at the latest.

        Raises:
            TokenClaimsError: if the ID is of another trust domain or has no path, or the audience is empty.
            TokenExpiredError: if no time is left.
        """
        if spiffe_id.trust_domain != self.trust_domain:
            raise TokenClaimsError(f"an ID that the authority of {self.trust_domain.name!r} may not sign")
        end = min(not_after, self.ca.not_after)
        return issue_jwt_svid(self.jwt_key, spiffe_id, audience=audience, now=now, ttl=ttl, not_after=end)

    def bundle(self) -> dict[str, object]:
        """Return the SPIFFE bundle: what verifies SVIDs, and nothing else."""
        return encode_bundle(self.roots, self.svid_keys, _SEQUENCE)

    def token_jwks(self) -> dict[str, object]:
        """Return the JWK Set for the broker's `jwks_uri`: what verifies tokens that name a human."""
        return {"keys": [{**key.jwk(), "use": "sig"} for key in self.token_keys]}
