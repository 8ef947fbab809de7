"""An identity from a Workload API socket, as a workload or an agent uses it: PyPI `spiffe` keeps it current.

- Nothing is on disk: the key comes over the socket and stays in memory, also for the TLS library.
- Each connection presents the newest certificate, and trusts the newest roots of its own trust domain.
"""

import asyncio
import os
import ssl
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import serialization
from spiffe import WorkloadApiClient, X509Source

_PATIENCE = 20.0
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class Identity:
    """The default identity of one socket."""

    socket: str
    _client: WorkloadApiClient = field(repr=False)
    _source: X509Source = field(repr=False)

    @classmethod
    async def open(cls, socket: str) -> "Identity":
        """Connect to `unix:///…`, and wait for the first SVID.

        Raises:
            PySpiffeError: if nobody answers there, or this process has no identity there.
        """
        client = WorkloadApiClient(socket)
        try:
            source = await asyncio.to_thread(X509Source, client, timeout_in_seconds=_PATIENCE)
        except BaseException:
            client.close()
            raise
        return cls(socket, client, source)

    @property
    def spiffe_id(self) -> str:
        """Who this is."""
        return str(self._source.get_x509_context().default_svid.spiffe_id)

    def reveal(self) -> tuple[bytes, bytes]:
        """Return the newest certificate chain and its private key, PEM; they belong together."""
        svid = self._source.get_x509_context().default_svid
        key = svid.private_key.private_bytes(
            _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return b"".join(each.public_bytes(_PEM) for each in svid.cert_chain), key

    @property
    def roots(self) -> bytes:
        """The roots of its trust domain, PEM."""
        context = self._source.get_x509_context()
        bundle = context.x509_bundle_set.get_bundle_for_trust_domain(
            context.default_svid.spiffe_id.trust_domain
        )
        authorities = bundle.x509_authorities if bundle is not None else ()
        return b"".join(each.public_bytes(_PEM) for each in authorities)

    def tls(self) -> ssl.SSLContext:
        """Return a client context that presents the SVID."""
        context = ssl.create_default_context(cadata=self.roots.decode("ascii"))
        # Python's ssl reads keys from files only; this one is in memory, and gone with the block.
        with os.fdopen(os.memfd_create("svid"), "wb") as file:
            file.write(b"".join(self.reveal()))
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        return context

    async def jwt_svid(self, audience: str) -> str:
        """Fetch a JWT-SVID for an audience."""
        svid = await asyncio.to_thread(self._client.fetch_jwt_svid, {audience})
        return str(svid.token)

    def close(self) -> None:
        """Let go of the socket."""
        self._source.close()
        self._client.close()
