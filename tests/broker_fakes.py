"""People, providers and clocks for the broker's tests: real keys, fakes of our own ports only."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from authz.broker.fetch import Fetched, FetchError
from authz.broker.form import Form
from authz.demo.provider import Account, Key, Provider
from authz.hosts.address import TcpAddress
from authz.hosts.http import App, HttpHost

NOW = datetime(2026, 11, 21, 8, 0, 0, tzinfo=UTC)
ISSUER = "https://idp.example"
CLIENT = "agent-runner"
# Made once: a test that needs a key of its own makes one.
RS256 = Key.generate("RS256")
ES256 = Key.generate("ES256")
PASSWORD = "correct horse"

Published = dict[str, object]


def provider_of(issuer: str = ISSUER, key: Key = ES256) -> Provider:
    """The demo's provider, with people whose passwords the tests know."""
    accounts = {
        "lead": Account("lead", ("lead",), PASSWORD),
        "clerk": Account("clerk", ("clerk",), PASSWORD),
    }
    return Provider(issuer, key, accounts, {CLIENT: 600, "short-lived": 3, "other": 600})


def id_token(provider: Provider, person: str = "lead", now: datetime = NOW, client: str = CLIENT) -> str:
    body = f"grant_type=password&client_id={client}&username={person}&password={PASSWORD.replace(' ', '+')}"
    return str(provider.sign_in(Form.parse(body.encode()), now)["id_token"])


def id_token_with(provider: Provider, **claims: object) -> str:
    """An ID token with claims added, changed, or (with a value of None) left out; `typ_` is the header's."""
    from joserfc import jwt

    plain = {
        "iss": provider.issuer,
        "sub": "lead",
        "aud": CLIENT,
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 600,
    }
    header = {
        "alg": provider.key.algorithm,
        "kid": provider.key.public["kid"],
        "typ": claims.pop("typ_", "JWT"),
    }
    header = {name: value for name, value in header.items() if value is not None}
    body = {name: value for name, value in {**plain, **claims}.items() if value is not None}
    return jwt.encode(header, body, provider.key.private, algorithms=[provider.key.algorithm])


@dataclass
class Web:
    """Documents by URL; counts what was asked for."""

    documents: dict[str, Fetched | FetchError] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None

    @classmethod
    def of(cls, provider: Provider, max_age: int | None = None) -> "Web":
        web = cls()
        web.publish(provider, max_age)
        return web

    def publish(self, provider: Provider, max_age: int | None = None) -> None:
        import json

        discovery, jwks = json.dumps(provider.discovery()), json.dumps(provider.jwks())
        self.documents[f"{provider.issuer}/.well-known/openid-configuration"] = Fetched(
            discovery.encode(), None
        )
        self.documents[f"{provider.issuer}/jwks"] = Fetched(jwks.encode(), max_age)

    def break_down(self) -> None:
        self.documents = {url: FetchError("down") for url in self.documents}

    @property
    def fetches(self) -> int:
        """How often the key set was asked for."""
        return sum(url.endswith("openid-configuration") for url in self.asked)

    async def fetch(self, url: str) -> Fetched:
        self.asked.append(url)
        if self.gate is not None:
            await self.gate.wait()
        found = self.documents.get(url, FetchError("not found"))
        if isinstance(found, FetchError):
            raise found
        return found


@dataclass
class Ticks:
    """A monotonic clock that moves when it is told to."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


@asynccontextmanager
async def serving(app: App) -> AsyncIterator[str]:
    """Serve an application on a port of the loopback, without TLS; gives its base URL."""
    host = HttpHost(app)
    address = await host.listen(TcpAddress("127.0.0.1", 0))
    try:
        yield f"http://{address}"
    finally:
        await host.close(grace_seconds=0.1)
