"""Fetching the bundle of another trust domain, by either profile (SPIFFE Federation section 5.2).

- `https_web`: the certificate is for the host of the URL and leads to the system's CAs, or to those of a
  file.
- `https_spiffe`: the chain leads to the roots of the endpoint's own trust domain and to no others, and the
  leaf is an X.509-SVID with exactly the ID that was configured. It is checked within the handshake: not a
  byte is sent to anybody else.
- TLS 1.2 or later. No client certificate, no proxy, no cookies, no compression.
- At most three redirects, temporary ones only, each to a URL that could have been configured, and with the
  same checks; none is remembered. A permanent one is a question to the operator (section 7.5.1).
- The address that the connection goes to is checked: link-local, multicast, unspecified and reserved ones are
  refused, and a redirect reaches this machine only if the configured URL did.
- A document has at most 64 KiB and comes within the timeout, redirects included.
- No message holds what the other side sent, save the names in its certificate.
"""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import urljoin

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from yarl import URL

from identity.errors import CertificateError, FederationError
from identity.federation import MAX_BUNDLE, Profile, SpiffeProfile, parse_endpoint_url
from identity.peer_chain import presented_chain
from identity.spiffe import SpiffeId
from identity.x509_svid import verify_x509_svid

TIMEOUT_SECONDS: Final = 10.0

_MAX_REDIRECTS: Final = 3
_MAX_HEADER: Final = 8 * 1024
_TEMPORARY: Final = (302, 303, 307)
_PERMANENT: Final = (301, 308)


@dataclass(frozen=True, slots=True)
class BundleClient:
    """Fetches bundles."""

    timeout_seconds: float = TIMEOUT_SECONDS

    async def fetch(self, url: str, profile: Profile, roots: Sequence[x509.Certificate] = ()) -> bytes:
        """Return what a bundle endpoint serves; `roots` are those of an `https_spiffe` endpoint's domain.

        Raises:
            FederationError: if the endpoint is not the one that is asked for, or its answer not a plain one.
        """
        try:
            async with asyncio.timeout(self.timeout_seconds):
                # Reading the system's CAs takes milliseconds.
                context = await asyncio.to_thread(_context, profile, roots)
                return await _fetch(url, context)
        except TimeoutError as error:
            raise FederationError(f"no answer within {self.timeout_seconds:g} s: {url!r}") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise FederationError(f"not the endpoint {url!r}: {_reason(error.certificate_error)}") from error
        except aiohttp.ClientConnectorError as error:
            raise FederationError(f"cannot connect for {url!r}: {error.os_error}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # The text of such an error can quote the other side.
            raise FederationError(f"cannot fetch {url!r}: {type(error).__name__}") from error


async def _fetch(url: str, context: ssl.SSLContext) -> bytes:
    places = _Places()
    connector = aiohttp.TCPConnector(ssl=context, socket_factory=places.socket, force_close=True)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        max_line_size=_MAX_HEADER,
        max_field_size=_MAX_HEADER,
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
    ) as session:
        for _ in range(1 + _MAX_REDIRECTS):
            answer = await _get(session, url)
            if isinstance(answer, bytes):
                return answer
            url = answer
            places.is_redirected = True
    raise FederationError(f"more than {_MAX_REDIRECTS} redirects, the last to {url!r}")


async def _get(session: aiohttp.ClientSession, url: str) -> bytes | str:
    """Return the document, or the URL of a redirect."""
    async with session.get(URL(url), allow_redirects=False) as response:
        if response.status in _TEMPORARY:
            return parse_endpoint_url(urljoin(url, response.headers.get("Location", "")))
        if response.status in _PERMANENT:
            raise FederationError(f"a permanent redirect: ask its operator for the new URL of {url!r}")
        if response.status != 200 or "Content-Encoding" in response.headers:
            raise FederationError(f"answer {response.status} that is not a plain 200: {url!r}")
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > MAX_BUNDLE:
                raise FederationError(f"a document longer than {MAX_BUNDLE} bytes: {url!r}")
        return bytes(body)


class _Places:
    """The addresses that one fetch may connect to."""

    def __init__(self) -> None:
        self.is_redirected = False
        self._is_local = False

    def socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, place = address
        ip = ip_address(str(place[0]).partition("%")[0])
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        if ip.is_loopback:
            is_allowed = self._is_local or not self.is_redirected
            self._is_local = is_allowed
        else:
            is_allowed = not (ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved)
        if not is_allowed:
            raise OSError(f"an address that is not allowed: {str(ip)!r}")
        return socket.socket(family, kind, protocol)


def _context(profile: Profile, roots: Sequence[x509.Certificate]) -> ssl.SSLContext:
    match profile:
        case SpiffeProfile(endpoint_id):
            if not roots:
                raise FederationError(
                    f"no roots of the endpoint's trust domain {endpoint_id.trust_domain.name!r}"
                )
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            # The ID says who it is; a host name in the certificate would say nothing.
            context.check_hostname = False
            # A root of a bundle is an anchor, self-signed or not (X509-SVID section 5).
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.load_verify_locations(cadata=b"".join(root.public_bytes(Encoding.DER) for root in roots))
            context.sslobject_class = _expecting(endpoint_id, tuple(roots))
        case _:
            context = _web_context(profile.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _web_context(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise FederationError(f"cannot read the CAs in {ca_file!r}: {error.strerror}") from error


def _expecting(endpoint_id: SpiffeId, roots: tuple[x509.Certificate, ...]) -> type[ssl.SSLObject]:
    """Return the TLS of a client that speaks to nobody but this ID."""

    class Expecting(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            # OpenSSL verified the path already; who it is, is said by the rules that count everywhere here.
            domain = endpoint_id.trust_domain
            try:
                svid = verify_x509_svid(presented_chain(self), roots, domain, datetime.now(UTC))
            except CertificateError as error:
                raise ssl.SSLCertVerificationError(1, str(error)) from error
            if svid.spiffe_id != endpoint_id:
                raise ssl.SSLCertVerificationError(
                    1, f"it is {str(svid.spiffe_id)!r}, not {str(endpoint_id)!r}"
                )

    return Expecting


def _reason(error: Exception) -> str:
    found = getattr(error, "verify_message", None) or getattr(error, "strerror", None)
    return str(found or type(error).__name__)
