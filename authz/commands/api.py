"""A call to the administration API: of the service beside us over its private socket, or of one elsewhere.

- Beside us it is `data_dir/api.sock`; the socket must be our own user's. Elsewhere it is the broker's URL,
  over TLS, with a person's token from a file or with a workload's certificate.
- What goes wrong is one sentence that says what to do; what a service sends is bounded and made printable.
- A token comes from a file or standard input: the command line is no place for it.
"""

import asyncio
import json
import os
import ssl
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from yarl import URL

from authz.administration.place import ADMIN, API_SOCKET
from authz.commands.identity_client import NotRunningError, ServiceError
from authz.commands.output import printable
from authz.commands.place import read_config
from authz.commands.where import Where
from authz.errors import ConfigError

MAX_ANSWER: Final = 16 << 20
MAX_TOKEN: Final = 16 * 1024
# The barrier waits as long as a lease may last, and a disk may be slow.
_SECONDS: Final = 30.0
_STDIN: Final = Path("-")
_LOCAL: Final = "http://deputy"


@dataclass(frozen=True, slots=True)
class Api:
    """A service, and what is shown to it."""

    base: str
    socket: Path | None
    tls: ssl.SSLContext | None
    bearer: str | None = field(repr=False)

    @classmethod
    def of(cls, where: Where) -> "Api":
        """Find the service.

        Raises:
            ConfigError: if the options do not go together, or a file cannot be read.
            NotRunningError: if none runs beside us.
        """
        if where.url is not None:
            return _elsewhere(where)
        if any((where.ca, where.token_file, where.cert, where.key)):
            raise ConfigError("--ca, --token-file, --cert and --key belong to --url")
        config = read_config(where.config)
        # A replica answers calls only; orders are for the process that it follows.
        data_dir = config.data_dir if config.replica is None else config.replica.of
        path = data_dir / API_SOCKET
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotRunningError(data_dir) from error
        except OSError as error:
            raise ServiceError(
                f"cannot look at {str(path)!r}: {error.strerror}; ask as the user who runs the service"
            ) from error
        if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.geteuid():
            raise ServiceError(
                f"{str(path)!r} is no socket of this user: ask as the user who runs the service"
            )
        return cls(_LOCAL, path, None, None)

    def get(self, *path: str, **query: str | None) -> "Answer":
        """Read something; the parts of a path may hold whatever somebody typed."""
        return asyncio.run(self._send("GET", path, None, query))

    def post(self, *path: str, body: Mapping[str, object]) -> "Answer":
        """Order something."""
        return asyncio.run(self._send("POST", path, body, {}))

    def put(self, *path: str, body: Mapping[str, object]) -> "Answer":
        """Change something."""
        return asyncio.run(self._send("PUT", path, body, {}))

    async def _send(
        self,
        method: str,
        path: Sequence[str],
        body: Mapping[str, object] | None,
        query: Mapping[str, str | None],
    ) -> "Answer":
        connector = (
            aiohttp.UnixConnector(str(self.socket))
            if self.socket is not None
            else aiohttp.TCPConnector(ssl=self.tls or True)
        )
        headers = {"Authorization": f"Bearer {self.bearer}"} if self.bearer else {}
        if not all(path):
            raise ConfigError("a name is empty")
        url = URL("/".join((self.base + ADMIN, *(quote(part, safe="") for part in path))), encoded=True)
        found = {name: value for name, value in query.items() if value is not None}
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector,
                    timeout=aiohttp.ClientTimeout(total=_SECONDS),
                    cookie_jar=aiohttp.DummyCookieJar(),
                ) as session,
                session.request(
                    method, url.with_query(found), json=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                return _answer(response.status, await _read(response))
        except TimeoutError as error:
            raise ServiceError(f"no answer within {_SECONDS:g} s") from error
        except aiohttp.ClientConnectorError as error:
            if self.socket is not None:
                # What an earlier process left behind.
                raise NotRunningError(self.socket.parent) from error
            raise ServiceError(f"the service cannot be reached: {printable(error)[:300]}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ServiceError(f"the service cannot be asked: {printable(error)[:300]}") from error


class Answer(dict[str, Any]):
    """An object of an answer; one that lacks what a Deputy says is of something else."""

    def __missing__(self, name: str) -> Any:  # noqa: ANN401 - JSON
        """Refuse to go on without it."""
        raise ServiceError(f"the answer lacks {name!r}: is this a Deputy of this version?")

    def rows(self, name: str) -> list["Answer"]:
        """Return a member that is a list of objects.

        Raises:
            ServiceError: if it is something else.
        """
        found = self[name]
        if not isinstance(found, list) or not all(isinstance(each, Answer) for each in found):
            raise ServiceError(f"{name!r} of the answer is no list: is this a Deputy of this version?")
        return found


def with_wait(body: dict[str, object], *, wait: bool) -> dict[str, object]:
    """Ask for the barrier."""
    return {**body, "wait": True} if wait else body


def obeyed(answer: Mapping[str, Any]) -> str:
    """Say when the last replica obeyed, as an answer tells it."""
    found, epoch = answer.get("obeyed"), printable(answer.get("epoch"))
    if not isinstance(found, Mapping):
        return f"epoch {epoch}; not waited for replicas"
    replicas = found.get("replicas")
    replicas = replicas if isinstance(replicas, Mapping) else {}
    if not found.get("everywhere"):
        behind = ", ".join(printable(each) for each in found.get("behind") or ["leases that cannot be read"])
        return f"epoch {epoch}; NOT OBEYED EVERYWHERE: {behind}"
    if not replicas:
        return f"epoch {epoch}; obeyed at once: there is no replica beside this service"
    ended = len(found.get("expired") or ())
    last = max(_seconds(each) for each in replicas.values())
    gone = f", {ended} ended meanwhile" if ended else ""
    return f"epoch {epoch}; all {len(replicas)} replicas obey{gone}, the last after {last:.3f} s"


def _seconds(replica: object) -> float:
    seconds = replica.get("seconds") if isinstance(replica, Mapping) else None
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def is_obeyed(answer: Mapping[str, Any]) -> bool:
    """Say whether nobody can still allow what was withdrawn, as far as was asked."""
    found = answer.get("obeyed")
    return not isinstance(found, Mapping) or bool(found.get("everywhere"))


def read_token(path: Path) -> str:
    """Read a token from a file or standard input.

    Raises:
        ConfigError: if it cannot be read, or is no token.
    """
    try:
        if path == _STDIN:
            data = sys.stdin.buffer.read(MAX_TOKEN + 1)
        else:
            with path.open("rb") as file:
                data = file.read(MAX_TOKEN + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the token in {_shown(path)}: {error.strerror}") from error
    token = data.strip()
    if not token or len(data) > MAX_TOKEN or not token.isascii() or len(token.split()) != 1:
        raise ConfigError(f"{_shown(path)} does not hold one token of at most {MAX_TOKEN} bytes")
    return token.decode("ascii")


def _shown(path: Path) -> str:
    """Name a file, unless somebody gave a token in its place: what is printed is kept in logs."""
    name = str(path)
    if name.count(".") >= 2 and name.startswith("ey"):
        return "the file (what was given looks like a token: write it into a file, and name that)"
    return "standard input" if path == _STDIN else repr(name)


def _elsewhere(where: Where) -> Api:
    try:
        url = URL(where.url or "")
    except ValueError as error:
        raise ConfigError("--url is the broker's: https, and no query") from error
    if url.scheme != "https" or not url.host or url.query_string or url.fragment or url.user:
        raise ConfigError("--url is the broker's: https, and no query")
    if (where.cert is None) != (where.key is None):
        raise ConfigError("--cert and --key go together")
    if (where.token_file is None) == (where.cert is None):
        raise ConfigError("with --url say who you are: --token-file, or --cert and --key")
    try:
        tls = ssl.create_default_context(cafile=where.ca)
        if where.cert is not None and where.key is not None:
            # A password of none: a key that is encrypted is refused, and nobody is asked.
            tls.load_cert_chain(where.cert, where.key, password="")
    except (OSError, ValueError) as error:
        raise ConfigError(f"a PEM file cannot be used: {printable(error)[:200]}") from error
    bearer = read_token(where.token_file) if where.token_file is not None else None
    return Api(str(url).rstrip("/"), None, tls, bearer)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > MAX_ANSWER:
            raise ServiceError("the answer is too long")
    return bytes(data)


def _answer(status: int, data: bytes) -> Answer:
    try:
        body = json.loads(data, object_pairs_hook=Answer)
    except (ValueError, RecursionError) as error:
        raise ServiceError(f"answer {status} that is no JSON: is this a Deputy?") from error
    if status < 300 and isinstance(body, Answer):
        return body
    said = body if isinstance(body, dict) else {}
    text = "; ".join(printable(said[name])[:500] for name in ("error", "fix") if said.get(name))
    code = printable(said.get("code") or "")
    raise ServiceError(f"{text or f'answer {status}'}" + (f" [{code}]" if code else ""))
