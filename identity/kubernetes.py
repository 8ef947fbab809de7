"""Attestation of pods: their projected ServiceAccount tokens, asked about at the API server (TokenReview).

- https only, verified with the cluster's CA alone; no redirects, no proxy, no cookies, no compression.
- We speak with our own service account's token, read anew each time, since the kubelet rotates it.
- At most 16 questions at a time and 64 that wait, each for five seconds at most: strangers cannot make us
  flood the API server. An answer has at most 64 kB.
- Nothing is remembered: a pod that is deleted is refused as soon as the API server knows (it remembers good
  answers for ten seconds itself).
- No token is in a message, a `repr` or a log.
"""

import asyncio
import os
import re
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
from yarl import URL

from identity.errors import AttestationError, IssuanceUnavailableError
from identity.pod_identity import MAX_ANSWER, REVIEW_PATH, PodIdentity, token_review

TIMEOUT_SECONDS: Final = 5.0
MAX_AT_ONCE: Final = 16
MAX_WAITING: Final = 64

_MAX_OWN_TOKEN: Final = 16 * 1024
_MAX_HEADER: Final = 8 * 1024
_OWN_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 section 2.1
_GOOD: Final = frozenset({200, 201})
_OUR_FAULT: Final = {
    401: "our own ServiceAccount token is not accepted",
    403: "our own service account may not create tokenreviews: bind system:auth-delegator to it",
}


@dataclass(frozen=True, slots=True)
class ApiServer:
    """The API server of a cluster, and the audience that tokens for us name."""

    url: URL
    ca_file: Path
    token_file: Path
    audience: str

    @classmethod
    def parse(cls, url: str, ca_file: Path, token_file: Path, audience: str) -> "ApiServer":
        """Read the settings of a cluster.

        Raises:
            AttestationError: if the URL is not a plain https one, or the audience is empty.
        """
        try:
            target = URL(url)
        except ValueError as error:
            raise AttestationError(f"not a URL of an API server: {url[:300]!r}") from error
        has_more = target.user is not None or target.password is not None or target.query or target.fragment
        if target.scheme != "https" or not target.host or has_more:
            raise AttestationError(f"not a plain https URL of an API server: {url[:300]!r}")
        if not audience:
            raise AttestationError("no audience: the tokens of all pods would pass")
        return cls(target, ca_file, token_file, audience)

    @property
    def review_url(self) -> URL:
        """Where tokens are reviewed; a proxy in front may have a path of its own."""
        return self.url.with_path(self.url.path.rstrip("/") + REVIEW_PATH)


class KubernetesAttestor:
    """Says which pod holds a token."""

    def __init__(self, api_server: ApiServer, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Ask one API server."""
        self._api = api_server
        self._timeout_seconds = timeout_seconds
        self._asking = asyncio.Semaphore(MAX_AT_ONCE)
        self._waiting = 0

    async def attest(self, token: str) -> PodIdentity:
        """Return the pod that a token belongs to.

        Raises:
            AttestationError: if it is not, for sure, the token of one pod and for our audience.
            IssuanceUnavailableError: if the API server cannot be asked now.
        """
        question = token_review(token, self._api.audience)
        if self._waiting >= MAX_AT_ONCE + MAX_WAITING:
            raise IssuanceUnavailableError("too many pods ask at once")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeout_seconds), self._asking:
                answer = await self._ask(question)
        except TimeoutError as error:
            raise IssuanceUnavailableError(
                f"no answer of the API server within {self._timeout_seconds:g} s"
            ) from error
        except aiohttp.ClientSSLError as error:
            raise IssuanceUnavailableError(
                f"the API server is not the one of {str(self._api.ca_file)!r}"
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Without its text and itself: both may quote the other side, or our headers.
            raise IssuanceUnavailableError(f"cannot ask the API server: {type(error).__name__}") from None
        finally:
            self._waiting -= 1
        return PodIdentity.parse(answer, self._api.audience)

    async def _ask(self, question: bytes) -> bytes:
        headers = {
            "Authorization": f"Bearer {_read_own_token(self._api.token_file)}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls(), force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._timeout_seconds),
                auto_decompress=False,
                max_line_size=_MAX_HEADER,
                max_field_size=_MAX_HEADER,
            ) as session,
            session.post(
                self._api.review_url, data=question, headers=headers, allow_redirects=False
            ) as response,
        ):
            if response.status not in _GOOD:
                reason = _OUR_FAULT.get(response.status, f"it answered {response.status}")
                raise IssuanceUnavailableError(f"the API server reviews no tokens for us: {reason}")
            if response.content_type != "application/json" or "Content-Encoding" in response.headers:
                raise AttestationError("an answer that is not plain JSON")
            return await _read(response)

    def _tls(self) -> ssl.SSLContext:
        # Given a file, it loads no other roots; read anew each time, since a cluster's CA rotates too.
        context = ssl.create_default_context(cafile=self._api.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


def _read_own_token(path: Path) -> str:
    """Read our own token; the kubelet makes its file a link, so links are followed."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(file, "rb") as reader:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise IssuanceUnavailableError(f"our own ServiceAccount token is no file: {str(path)!r}")
            data = reader.read(_MAX_OWN_TOKEN + 1)
    except OSError as error:
        raise IssuanceUnavailableError(
            f"cannot read our own ServiceAccount token {str(path)!r}: {error.strerror}"
        ) from error
    text = data.decode("latin-1").strip()
    if len(data) > _MAX_OWN_TOKEN or not _OWN_TOKEN.fullmatch(text):
        raise IssuanceUnavailableError(f"our own ServiceAccount token is not one: {str(path)!r}")
    return text


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER:
            raise AttestationError(f"an answer longer than {MAX_ANSWER} bytes")
    return bytes(body)
