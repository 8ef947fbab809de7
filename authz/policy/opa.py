"""The policy on a real OPA, over REST: a Unix socket in a private directory, or mTLS.

- OPA has the Rego from disk (`deputy policy build`); the data is put there by us, in one transaction with its
  digest, and again whenever an answer shows that it is not there: an OPA that was restarted empty.
- Each answer must carry the digests of the policy and the data that we expect, else it does not count.
- Deadline, size and form of an answer are bounded; whatever goes wrong is an error, and an error is a denial.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from authz.errors import PolicyLoadError, PolicyRevisionError, PolicyShapeError, PolicyUnavailableError
from authz.policy.grants import NO_CLASSES, Grants
from authz.policy.modules import entry_point, without_answer
from authz.policy.names import asked_names, in_batches, read_visible
from authz.policy.opa_bundle import ANSWER_KEYS, ANSWER_PATH, DIGEST_NAME
from authz.policy.port import Query
from authz.policy.revision import Revision
from authz.policy.verdict import Verdict
from identity.strict_json import Limits, StrictJsonError, loads

MAX_ANSWER_BYTES: Final = 256 * 1024
MAX_CONNECTIONS: Final = 64
PUSH_SECONDS: Final = 10.0
FAULTS_TO_UNREADY: Final = 3

_UNIX: Final = "unix://"
# The host of a request over a Unix socket; no name is looked up.
_LOCAL: Final = "http://opa"
_LIMITS: Final = Limits(depth=32, keys=4096)
_FAULTS: Final = (aiohttp.ClientError, TimeoutError, OSError)


@dataclass(frozen=True, slots=True)
class OpaAddress:
    """Where OPA listens; the files are for https only."""

    url: str
    timeout_seconds: float
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(slots=True)
class OpaClient:
    """The connections to one OPA; made in the running event loop, shared by one engine after another."""

    address: OpaAddress
    _session: aiohttp.ClientSession | None = field(default=None, repr=False)

    @property
    def base(self) -> str:
        """The URL that requests go to."""
        return _LOCAL if self.address.url.startswith(_UNIX) else self.address.url

    def session(self) -> aiohttp.ClientSession:
        """Return the session, made at first use.

        Raises:
            PolicyLoadError: if the TLS files are not what they should be.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self._connector(),
                trust_env=False,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def close(self) -> None:
        """Let the connections go."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _connector(self) -> aiohttp.BaseConnector:
        if self.address.url.startswith(_UNIX):
            path = self.address.url.removeprefix(_UNIX)
            return aiohttp.UnixConnector(path=path, limit=MAX_CONNECTIONS)
        if self.address.certificate is None or self.address.ca is None:
            raise PolicyLoadError("https to OPA takes ca, certificate and key")
        try:
            context = ssl.create_default_context(cafile=str(self.address.ca))
            context.load_cert_chain(self.address.certificate, self.address.key)
        except (OSError, ssl.SSLError) as error:
            raise PolicyLoadError("the TLS files for OPA cannot be used") from error
        return aiohttp.TCPConnector(ssl=context, limit=MAX_CONNECTIONS)


class OpaPolicy:
    """One policy with one set of data, on an OPA."""

    def __init__(self, client: OpaClient, policy_digest: str, grants: Grants) -> None:
        """Expect these digests; nothing is sent yet."""
        self._client = client
        self._grants = grants
        self._expected = Revision(policy_digest, grants.digest)
        self._payload = grants.payload_classes()
        self._tools = grants.tool_names()
        self._synced = False
        self._faults = 0
        self._closed = False
        self._pushing: asyncio.Task[None] | None = None
        self._no_push = asyncio.Event()
        self._no_push.set()

    @property
    def revision(self) -> str:
        """Name the policy and the data that answers must come from."""
        return str(self._expected)

    @property
    def ready(self) -> bool:
        """Say whether it answers by the expected revision; one slow answer is no reason to say no."""
        return self._synced and self._faults < FAULTS_TO_UNREADY

    def payload_classes(self, service: str) -> frozenset[str]:
        """Return the classes of data that have a rule on this service."""
        return self._payload.get(service, NO_CLASSES)

    def tool_names(self, service: str) -> tuple[str, ...]:
        """Return the names of the tools that this service offers."""
        return self._tools.get(service, ())

    async def activate(self) -> None:
        """Put the data there; an OPA that cannot be reached gets it later.

        Raises:
            PolicyLoadError: if OPA refuses the data.
            PolicyShapeError: if its answer is none.
        """
        self._closed = False
        with contextlib.suppress(PolicyUnavailableError):
            await self._push()

    async def maintain(self) -> None:
        """Put the data there again if it is not; called now and then."""
        if not self.ready and not self._closed:
            with contextlib.suppress(PolicyUnavailableError, PolicyShapeError, PolicyLoadError):
                await self._push()

    async def decide(self, query: Query) -> Verdict:
        """Ask OPA.

        Raises:
            PolicyUnavailableError: if it does not answer in time, or with an error.
            PolicyRevisionError: if another policy or other data answered.
            PolicyShapeError: if the answer is not one.
        """
        return Verdict.parse(await self._ask(query), self.revision)

    async def visible(self, query: Query) -> frozenset[str]:
        """Ask OPA which names of a list are visible.

        Raises:
            PolicyUnavailableError: if it does not answer in time, or with an error.
            PolicyRevisionError: if another policy or other data answered.
            PolicyShapeError: if the list is too long, or the answer is not one.
        """
        names = asked_names(query)
        found: set[str] = set()
        for question, batch in in_batches(query, names):
            found |= read_visible(await self._ask(question), batch)
        return frozenset(found)

    async def close(self) -> None:
        """Stop putting data there; what is under way may still be answered."""
        self._closed = True
        if self._pushing is not None:
            self._pushing.cancel()

    async def _ask(self, query: Query) -> object:
        await self._wait_for_push()
        body = json.dumps({"input": query}, allow_nan=False).encode()
        path = f"/v1/data/{ANSWER_PATH}?strict-builtin-errors=true"
        status, data = await self._exchange("POST", path, body)
        if status != 200:
            raise PolicyUnavailableError(f"OPA answered with status {status}")
        answer = _result(data)
        got = (answer.get("policy"), answer.get("data_digest"))
        if got != (self._expected.policy, self._expected.data):
            self._lost()
            raise PolicyRevisionError("OPA runs another policy or other data")
        entry = entry_point(query)
        if ANSWER_KEYS[entry] not in answer:
            raise without_answer(entry)
        self._synced, self._faults = True, 0
        return answer[ANSWER_KEYS[entry]]

    def _lost(self) -> None:
        """Note that OPA lacks our data, and put it there at once, one push at a time."""
        self._synced = False
        if not self._closed and (self._pushing is None or self._pushing.done()):
            self._pushing = asyncio.create_task(self.maintain())

    async def _wait_for_push(self) -> None:
        """Let data that is under way arrive: a question asked before would be answered by the old data."""
        try:
            async with asyncio.timeout(self._client.address.timeout_seconds):
                await self._no_push.wait()
        except TimeoutError as error:
            raise PolicyUnavailableError("OPA takes long to take the grants") from error

    async def _push(self) -> None:
        self._no_push.clear()
        try:
            await self._put_data()
        finally:
            self._no_push.set()

    async def _put_data(self) -> None:
        patch = [
            {"op": "add", "path": f"/{name}", "value": value} for name, value in self._grants.data.items()
        ]
        patch.append({"op": "add", "path": f"/{DIGEST_NAME}", "value": self._grants.digest})
        status, _ = await self._exchange("PATCH", "/v1/data", json.dumps(patch).encode(), PUSH_SECONDS)
        if status != 204:
            raise PolicyLoadError(f"OPA refused the grants with status {status}: see its log")
        status, data = await self._exchange("GET", f"/v1/data/{ANSWER_PATH}/policy", b"", PUSH_SECONDS)
        found = _parse(data).get("result") if status == 200 else None
        if found != self._expected.policy:
            raise PolicyLoadError(
                "OPA runs another policy: write ours with 'deputy policy build' and start OPA with it"
            )
        self._synced, self._faults = True, 0

    async def _exchange(
        self, method: str, path: str, body: bytes, seconds: float | None = None
    ) -> tuple[int, bytes]:
        timeout = aiohttp.ClientTimeout(total=seconds or self._client.address.timeout_seconds)
        # Not compressed: OPA compresses every answer of 1 KiB or more, and the bound is on what is sent.
        headers = {
            "accept-encoding": "identity",
            "content-type": "application/json-patch+json" if method == "PATCH" else "application/json",
        }
        url = self._client.base + path
        try:
            session = self._client.session()
            async with session.request(
                method, url, data=body, headers=headers, allow_redirects=False, timeout=timeout
            ) as response:
                data = await response.content.read(MAX_ANSWER_BYTES + 1)
                while len(data) <= MAX_ANSWER_BYTES and not response.content.at_eof():
                    more = await response.content.read(MAX_ANSWER_BYTES + 1 - len(data))
                    data += more
        except _FAULTS as error:
            self._faults += 1
            if not isinstance(error, TimeoutError):
                # It may be another OPA that answers next, without our data.
                self._synced = False
            raise PolicyUnavailableError(f"OPA does not answer: {type(error).__name__}") from error
        if len(data) > MAX_ANSWER_BYTES:
            raise PolicyUnavailableError(f"OPA answered with more than {MAX_ANSWER_BYTES} bytes")
        return response.status, data


def _result(data: bytes) -> Mapping[str, object]:
    result = _parse(data).get("result")
    return result if isinstance(result, dict) else {}


def _parse(data: bytes) -> Mapping[str, object]:
    try:
        value = loads(data, _LIMITS)
    except StrictJsonError as error:
        raise PolicyShapeError(f"OPA's answer is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise PolicyShapeError("OPA's answer is not a JSON object")
    return value
