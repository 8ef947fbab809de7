"""What an SVID costs beside the calls of `cryptography` that it contains.

- Bare are the calls alone, on values that are made already: for a JWT-SVID one signature and the two numbers
  in it; for an X.509-SVID a key, a builder with the same extensions, the signature and the DER.
- Minted is what `Authority` gives: IDs, times and lifetimes checked, the name of the key, the token's text.
"""

import os
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from identity.authority import Authority
from identity.keys import SigningKey
from identity.names import new_ulid
from identity.spiffe import TrustDomain, agent_task_id
from tests.bench.measure import Cost, Work, costs

JWT: Final = "JWT-SVID"
X509: Final = "X.509-SVID with its key"
TTL: Final = 600

Minting = dict[str, dict[str, Cost]]


def measure_minting(*, seconds: float) -> Minting:
    """Return for each kind of SVID what it costs, and what its bare calls cost."""
    now = datetime.now(UTC)
    authority = Authority.generate(TrustDomain.parse("mesh.example"), now)
    works = {JWT: jwt_arms(authority, now), X509: x509_arms(authority, now)}
    return {name: costs(arms, seconds=seconds, rounds=24) for name, arms in works.items()}


def jwt_arms(authority: Authority, now: datetime) -> dict[str, Work]:
    spiffe_id = agent_task_id(authority.trust_domain, "triage", new_ulid(now, os.urandom(10)))
    audience, end = "https://broker.mesh.example", now + timedelta(hours=1)
    key, algorithm = authority.jwt_key.private_key, ec.ECDSA(hashes.SHA256())

    def mint() -> str:
        return authority.issue_jwt_svid(spiffe_id, audience, now, 60, end)

    signing_input = mint().rpartition(".")[0].encode()
    return {"bare": lambda: decode_dss_signature(key.sign(signing_input, algorithm)), "minted": mint}


def x509_arms(authority: Authority, now: datetime) -> dict[str, Work]:
    spiffe_id = agent_task_id(authority.trust_domain, "triage", new_ulid(now, os.urandom(10)))

    def mint() -> bytes:
        key = SigningKey.generate()
        return authority.issue_workload_svid(spiffe_id, key.private_key.public_key(), now, TTL)

    example = x509.load_der_x509_certificate(mint())
    same = [(part.value, part.critical) for part in example.extensions]
    constant = [part for part in same if not isinstance(part[0], x509.SubjectKeyIdentifier)]
    issuer, nobody = authority.ca.certificate.subject, x509.Name([])
    start, end = now.replace(microsecond=0), example.not_valid_after_utc
    signer = authority.ca.key.private_key

    def bare() -> bytes:
        public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
        builder = x509.CertificateBuilder(issuer, nobody, public_key, x509.random_serial_number(), start, end)
        for value, critical in constant:
            builder = builder.add_extension(value, critical)
        own = x509.SubjectKeyIdentifier.from_public_key(public_key)
        certificate = builder.add_extension(own, critical=False).sign(signer, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.DER)

    return {"bare": bare, "minted": mint}
