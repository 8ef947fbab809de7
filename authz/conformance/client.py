"""A client that believes nothing: HTTP to a server that may be broken in any way.

- https only; plain http only to this machine.
- No redirects, no proxy, no cookies, no compression: what is sent goes where it was told to, or nowhere.
- At most 256 kB of an answer, and five seconds from the first packet to the last byte.
- Each request has a connection of its own, with the certificate of its login: one that a server closed cannot
  spoil the next.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Final

import aiohttp
from yarl import URL

from authz.conformance.login import Certificate, CertificateLogin
from authz.conformance.message import Answer, Request, Wire, wire
from authz.errors import ConfigError

MAX_BYTES: Final = 256 * 1024
TIMEOUT_SECONDS: Final = 5.0

_MAX_HEADER: Final = 16 * 1024
_GET: Final = Wire("GET", "", (("Accept", "application/json"),), b"")
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class HttpServer:
    """A server behind HTTP; `tls` holds a context for each certificate, and one for none."""

    tls: Mapping[Certificate | None, ssl.SSLContext] = field(repr=False)
    timeout_seconds: float = TIMEOUT_SECONDS

    async def send(self, url: str, request: Request) -> Answer:
        """Send a request to an endpoint."""
        sent, login = wire(request), request.login
        query = f"{'&' if '?' in url else '?'}{sent.query}" if sent.query else ""
        certificate = login.certificate if isinstance(login, CertificateLogin) else None
        return await self._ask(URL(f"{url}{query}", encoded=True), sent, certificate, request.label)

    async def get(self, url: str) -> Answer:
        """Fetch a public document."""
        check_url(url)
        return await self._ask(URL(url), _GET, None, "")

    async def _ask(self, target: URL, sent: Wire, certificate: Certificate | None, label: str) -> Answer:
        context = self.tls.get(certificate, self.tls[None])
        try:
            async with (
                asyncio.timeout(self.timeout_seconds),
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=context, force_close=True),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                    max_line_size=_MAX_HEADER,
                    max_field_size=_MAX_HEADER,
                    headers={"User-Agent": "deputy-conformance", "Accept-Encoding": "identity"},
                ) as session,
                session.request(
                    sent.method,
                    target,
                    # A list, because a header may stand twice.
                    headers=list(sent.headers),
                    # aiohttp warns of a long body that is bytes.
                    data=BytesIO(sent.body) if sent.body else None,
                    allow_redirects=False,
                ) as response,
            ):
                return await _read(response, label)
        except TimeoutError:
            return Answer.missing("late", label)
        except aiohttp.ClientConnectorError as error:
            return Answer.missing("closed", label, f"cannot connect: {error.os_error}")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # The text of such an error can quote the other side.
            return Answer.missing("closed", label, type(error).__name__)


async def _read(response: aiohttp.ClientResponse, label: str) -> Answer:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_BYTES:
            return Answer.missing("long", label)
    return Answer.of(response.status, response.headers, bytes(body), label)


def check_url(url: str) -> None:
    """Refuse a URL to which nothing is sent.

    Raises:
        ConfigError: if it is not https, or http on this machine.
    """
    try:
        target = URL(url)
    except ValueError as error:
        raise ConfigError(f"not a URL: {url[:300]!r}") from error
    is_local = target.scheme == "http" and target.host in _LOOPBACK
    if (target.scheme != "https" and not is_local) or not target.host:
        raise ConfigError(f"not an https URL, nor http on this machine: {url[:300]!r}")
    if target.user is not None or target.password is not None or target.fragment:
        raise ConfigError(f"a URL with credentials or a fragment: {url[:300]!r}")
