"""Fetching what an OpenID Provider publishes, and nothing else (JW-07; threat 18: SSRF).

- https only; plain http, to this machine, and its addresses only where the provider is configured as a local
  one.
- The address that the connection goes to is checked, not the name (authz/broker/fetch_address.py): private
  networks only where the provider is configured as one inside of a company. A name that resolves differently
  the next time changes nothing.
- No redirects, no proxy, no cookies, no compression.
- At most 256 kB, in at most two seconds from the first packet to the last byte.
"""

import asyncio
import re
import socket
import ssl
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from authz.broker.fetch_address import is_allowed
from authz.errors import AuthzError

MAX_BYTES: Final = 256 * 1024
TIMEOUT_SECONDS: Final = 2.0

_MAX_AGE: Final = re.compile(r"(?:^|[\s,])max-age=([0-9]{1,9})(?:$|[\s,])")
_MAX_HEADER: Final = 8 * 1024


class FetchError(AuthzError):
    """The document could not be had; no message holds what the other side sent."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document, and for how many seconds its publisher says that it is good."""

    body: bytes
    max_age: int | None


@dataclass(frozen=True, slots=True)
class Fetcher:
    """How the documents of one provider are fetched."""

    allow_loopback: bool
    allow_private: bool = False
    ca_file: Path | None = None
    # None: the system's.
    resolver: AbstractResolver | None = None
    timeout_seconds: float = TIMEOUT_SECONDS

    async def fetch(self, url: str) -> Fetched:
        """Fetch a document.

        Raises:
            FetchError: if the address is not allowed, or the answer is late, long or not 200.
        """
        target = self._target(url)
        try:
            async with asyncio.timeout(self.timeout_seconds):
                return await self._get(target)
        except TimeoutError as error:
            raise FetchError(f"no answer within {self.timeout_seconds:g} s: {url!r}") from error
        except aiohttp.ClientConnectorError as error:
            raise FetchError(f"cannot connect for {url!r}: {error.os_error}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # The text of such an error can quote the other side.
            raise FetchError(f"cannot fetch {url!r}: {type(error).__name__}") from error

    async def _get(self, target: URL) -> Fetched:
        timeout = aiohttp.ClientTimeout(total=self.timeout_seconds)
        plain = target.scheme == "http"
        # The system's certificates take tens of milliseconds to read, and this loop has requests to answer.
        tls = True if plain else await asyncio.to_thread(self._tls)
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    ssl=tls,
                    socket_factory=partial(self._socket, plain),
                    force_close=True,
                    resolver=self.resolver,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=timeout,
                auto_decompress=False,
                max_line_size=_MAX_HEADER,
                max_field_size=_MAX_HEADER,
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            ) as session,
            session.get(target, allow_redirects=False) as response,
        ):
            if response.status != 200 or "Content-Encoding" in response.headers:
                raise FetchError(f"answer {response.status} that is not a plain 200: {str(target)!r}")
            return Fetched(await _read(response), _max_age(response.headers.get("Cache-Control", "")))

    def _target(self, url: str) -> URL:
        try:
            target = URL(url)
        except ValueError as error:
            raise FetchError(f"not a URL: {url[:300]!r}") from error
        local = self.allow_loopback and target.host in {"127.0.0.1", "localhost"}
        if target.scheme != "https" and not (target.scheme == "http" and local):
            raise FetchError(f"not an https URL: {url[:300]!r}")
        if not target.host or target.user is not None or target.password is not None or target.fragment:
            raise FetchError(f"a URL without a host, or with credentials or a fragment: {url[:300]!r}")
        return target

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def _socket(self, plain: bool, address: aiohttp.AddrInfoType) -> socket.socket:  # noqa: FBT001 - by `partial`
        family, kind, protocol, _, place = address
        where = ip_address(str(place[0]).partition("%")[0])
        allowed = is_allowed(where, loopback=self.allow_loopback, private=self.allow_private)
        if not allowed or (plain and not where.is_loopback):
            raise OSError(f"an address that is not allowed: {place[0]!r}")
        return socket.socket(family, kind, protocol)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_BYTES:
            raise FetchError(f"a document longer than {MAX_BYTES} bytes")
    return bytes(body)


def _max_age(cache_control: str) -> int | None:
    if match := _MAX_AGE.search(cache_control.lower()):
        return int(match[1])
    return 0 if re.search(r"no-(?:store|cache)", cache_control.lower()) else None
