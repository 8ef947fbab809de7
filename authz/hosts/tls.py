"""The TLS side of the servers: what a listener presents, whom it lets in, and who that is.

- Certificates and roots change while it runs: each handshake asks again, so a renewed certificate or a
  withdrawn root counts from the next connection on. Who is connected already is verified again at each call
  (authz/peers.py), and old connections end by age (see the host's limits).
- What cannot be renewed stays as it was: no new connection is worse served than the one before, and a
  certificate that has run out is refused by the other side. Roots never stay: without any, nobody comes in.
- The key is never printed.
"""

import logging
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

import grpc

from authz.errors import ConfigError
from authz.peers import Peers
from identity.certificate_authority import CertificateAuthority
from identity.errors import CertificateError
from identity.spiffe import TrustDomain
from identity.x509_svid import MAX_CERTIFICATE, MAX_CHAIN

_LOG = logging.getLogger(__name__)
_END: Final = "-----END CERTIFICATE-----"
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


@dataclass(frozen=True, slots=True)
class Credential:
    """What a server presents: its certificate chain and the key of it, PEM."""

    certificate_chain: bytes
    private_key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not (self.certificate_chain and self.private_key):
            raise ConfigError("TLS needs a certificate chain and its key")


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """One certificate chain, its key, and the roots that client certificates must lead to; all PEM."""

    certificate_chain: bytes
    private_key: bytes = field(repr=False)
    client_roots: bytes

    def __post_init__(self) -> None:
        if not (self.certificate_chain and self.private_key and self.client_roots):
            raise ConfigError("TLS needs a certificate chain, its key and the roots of the clients")


TlsSource = Callable[[], TlsMaterial]


class ListenerTls:
    """TLS of one listener: a source of what counts now, and those who may connect."""

    def __init__(self, credential: Callable[[], Credential], peers: Peers) -> None:
        """Take what the listener presents, and who may connect to it.

        Raises:
            IdentityError: if there is nothing to present yet.
            ConfigError: if there is nothing to present yet.
        """
        self.peers = peers
        self._source = credential
        self._credential = credential()
        self._problem = ""

    def __call__(self) -> TlsMaterial:
        """Return what counts for the handshake that begins now."""
        try:
            self._credential, self._problem = self._source(), ""
        except Exception as error:  # noqa: BLE001  # whatever fails, the certificate that we have is better than none
            # Once, not at each handshake: strangers begin as many as they like.
            if self._problem != str(error):
                self._problem = str(error)
                _LOG.warning("certificate not renewed; the last one stays: %s", error)
        roots = self.peers.roots_pem() or _root_of_nobody()
        return TlsMaterial(self._credential.certificate_chain, self._credential.private_key, roots)


def server_context(credential: Credential) -> ssl.SSLContext:
    """Return the TLS of an HTTPS server: 1.2 or later, ephemeral keys, no tickets, no renegotiation.

    Raises:
        ssl.SSLError: if the key is not that of the certificate, or one of them is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    with _as_file(credential.private_key + b"\n" + credential.certificate_chain) as name:
        context.load_cert_chain(name)
    return context


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Give a key a file name, because Python's ssl reads keys from files only.

    In memory where the system can do that; else a file of mode 0600 that is gone at once.
    """
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("deputy"), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile(prefix="deputy-") as named:
            named.write(content)
            named.flush()
            yield named.name


@cache
def _root_of_nobody() -> bytes:
    """Return a root whose key is gone: TLS libraries take an empty pool for the system's, or for an error."""
    now = datetime.now(UTC)
    return CertificateAuthority.generate(
        TrustDomain.parse("nobody.invalid"), now, timedelta(seconds=1)
    ).certificate_pem()


def ders_of(pem: bytes) -> tuple[bytes, ...]:
    """Return the certificates of a chain, which nobody has verified, as DER.

    Raises:
        CertificateError: if there are too many, or anything else is between them.
    """
    if len(pem) > MAX_CHAIN * MAX_CERTIFICATE:
        raise CertificateError(f"a certificate chain of {len(pem)} bytes")
    try:
        parts = pem.decode("ascii").split(_END)
        if parts.pop().strip():
            raise ValueError("text after the last certificate")
        return tuple(ssl.PEM_cert_to_DER_cert(part.strip() + _END) for part in parts)
    except ValueError as error:
        raise CertificateError("a certificate chain that is not PEM") from error


def server_credentials(source: TlsSource) -> grpc.ServerCredentials:
    """Make credentials that follow the source.

    Raises:
        ConfigError: if the source has nothing to start with.
    """
    latest = source()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal latest
        try:
            material = source()
        except Exception as error:  # noqa: BLE001  # gRPC would fail the handshake; what we have is better
            _LOG.warning("tls material not renewed: %s", error)
            return None
        if material == latest:
            return None
        latest = material
        return _configuration(material)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(latest),
        fetch,  # type: ignore[arg-type]  # None means "no change"; the stub does not know
        require_client_authentication=True,
    )


def _configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.private_key, material.certificate_chain)], root_certificates=material.client_roots
    )
