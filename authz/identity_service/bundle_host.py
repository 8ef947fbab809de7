"""The server of the bundle endpoint: TLS for everybody, with one of two certificates.

- `https_web`: a certificate and a key in files, which are looked at again at each handshake.
- `https_spiffe`: our own X.509-SVID; any source of a `Credential` will do, and is asked at each handshake.
- No client certificate is asked for (SPIFFE Federation section 5.2): a client that would offer one of its own
  trust domain is served like any other.
- TLS 1.2 with ephemeral keys and authenticated ciphers, or TLS 1.3, which keeps within Mozilla's intermediate
  compatibility; no tickets, no renegotiation.
- A certificate that cannot be renewed stays: no new connection is worse served than the one before.
- The limits of one client, and of all together, are those of `HttpHost`.
"""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from authz.errors import ConfigError
from authz.hosts.http import App, HttpHost, Limits
from authz.hosts.tls import Credential, server_context

_LOG = logging.getLogger(__name__)

CredentialSource = Callable[[], Credential]


class BundleHost(HttpHost):
    """Serves one ASGI application to anybody, over TLS only."""

    def __init__(self, app: App, credential: CredentialSource, limits: Limits | None = None) -> None:
        """Prepare to serve; nothing is bound yet.

        Raises:
            ConfigError: if there is no certificate to start with, or it is not what it should be.
        """
        super().__init__(app, limits=limits)
        self._source = credential
        self._credential = credential()
        try:
            self._latest = server_context(self._credential)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError(
                f"the certificate of the bundle endpoint does not fit its key: {error}"
            ) from error
        self._first = self._latest
        # OpenSSL calls this in every handshake, also where the client names no server.
        self._first.sni_callback = self._choose

    def _tls_options(self) -> dict[str, Any]:
        return {
            "ssl": self._first,
            "ssl_handshake_timeout": self.limits.handshake_seconds,
            "ssl_shutdown_timeout": self.limits.shutdown_seconds,
        }

    def _choose(
        self, tls: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        try:
            credential = self._source()
            if credential != self._credential:
                self._latest, self._credential = server_context(credential), credential
        except Exception as error:  # noqa: BLE001 - whatever fails, the certificate that we have is better than none
            _LOG.warning("certificate of the bundle endpoint not renewed: %s", type(error).__name__)
        tls.context = self._latest


def credential_files(certificate: Path, key: Path) -> CredentialSource:
    """Return a source that reads two PEM files anew whenever it is asked."""

    def read() -> Credential:
        try:
            return Credential(certificate.read_bytes(), key.read_bytes())
        except OSError as error:
            raise ConfigError(f"cannot read TLS file {error.filename!r}: {error.strerror}") from error

    return read
