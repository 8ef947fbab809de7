"""Identities of workloads, written to disk: for one machine, where no mesh issues them.

- An Envoy gets its certificate as SDS files, which it takes again whenever they change.
- Any other workload gets `svid.pem`, `key.pem` and `roots.pem`, as curl and every TLS library read them.
- Files have mode 0600 in a directory of mode 0700; each appears whole.
- A key is new each time and never leaves its file.
"""

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from authz.mesh.envoy_parts import IDENTITY_SECRET
from authz.mesh.envoy_process import write_private
from authz.mesh.sds import write_sds
from identity.authority import Authority
from identity.keys import SigningKey
from identity.spiffe import SpiffeId

LIFETIME_SECONDS: Final = 600


@dataclass(frozen=True, slots=True)
class IdentityFiles:
    """An X.509-SVID on disk, its key, and the roots to verify others with."""

    spiffe_id: SpiffeId
    certificate: Path
    key: Path
    roots: Path


def write_gateway(
    authority: Authority,
    path: str,
    sds_directory: Path,
    now: datetime,
    dns_names: tuple[str, ...] = ("localhost",),
) -> None:
    """Issue the identity of an Envoy; `path` is that of its SPIFFE ID.

    Raises:
        CertificateError: if the authority has expired.
        OSError: if the files cannot be written.
    """
    chain, key = _issue(authority, SpiffeId(authority.trust_domain, path), now, dns_names)
    write_sds(sds_directory, IDENTITY_SECRET, chain, key, authority.ca.certificate_pem())


def write_workload(authority: Authority, path: str, directory: Path, now: datetime) -> IdentityFiles:
    """Issue the identity of another workload.

    Raises:
        CertificateError: if the authority has expired.
        OSError: if the files cannot be written.
    """
    spiffe_id = SpiffeId(authority.trust_domain, path)
    chain, key = _issue(authority, spiffe_id, now, ())
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    return IdentityFiles(
        spiffe_id,
        certificate=write_private(directory / "svid.pem", chain),
        key=write_private(directory / "key.pem", key),
        roots=write_private(directory / "roots.pem", authority.ca.certificate_pem()),
    )


def _issue(
    authority: Authority, spiffe_id: SpiffeId, now: datetime, dns_names: tuple[str, ...]
) -> tuple[bytes, bytes]:
    key = SigningKey.generate()
    svid = authority.issue_workload_svid(
        spiffe_id, key.private_key.public_key(), now=now, ttl=LIFETIME_SECONDS, dns_names=dns_names
    )
    return ssl.DER_cert_to_PEM_cert(svid).encode(), key.reveal_pem()
