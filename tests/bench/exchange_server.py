"""The process whose token endpoint is measured: the broker as `deputy serve` has it, over plain HTTP.

- Everything is real: registry, grants and audit log on the disk, the embedded policy, HTTP. Only the key sets
  of the providers of people come from memory, as they do in a broker that has asked for them before.
- No two requests carry the same tokens: each login and each sign-in is a signature of its own.
- `bare` runs the signatures that one exchange was seen to check and to make, and nothing else, in the same
  process on the same core. `between` has them run behind each eighth answer of an arm, until it is told of
  another or none; what they take there is timed by itself.
"""

import argparse
import asyncio
import gc
import json
import os
import resource
import sys
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, get_args

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from authz.address import TcpAddress
from authz.broker.app import broker_app
from authz.broker.arrival import Arrival
from authz.broker.deps import Broker
from authz.broker.fetch import Fetched
from authz.broker.form import Form
from authz.broker.human import OpenIdPeople
from authz.broker.reply import Reply
from authz.broker.token_endpoint import exchange_token
from authz.broker.token_request import GRANT_TYPE, ID_TOKEN, JWT_SPIFFE
from authz.broker_parts import providers
from authz.demo.provider import Account, Algorithm, Key, Provider
from authz.hosts.http import App, HttpHost, Receive, Scope, Send
from identity.consent import Consent
from identity.keys import SigningKey, VerificationKey
from identity.names import new_ulid
from identity.signature_algorithms import ECDSA_SCHEMES, RSA_SCHEMES
from identity.spiffe import agent_task_id
from tests.bench.cores import pin
from tests.bench.grants import AGENTS
from tests.bench.messages import say, write_requests
from tests.bench.place import (
    AUDIENCE,
    CLIENT,
    DOMAIN,
    HOUR,
    ISSUER,
    LEAD,
    PROVIDER,
    SCOPES,
    Place,
    open_place,
)

TASKS = 64
REQUESTS = 1024
BEHIND_EACH = 8
FORM = "application/x-www-form-urlencoded"
PASSWORD = "anything"
Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Arm:
    """A broker whose people have a provider that signs with one algorithm, and what is sent to it."""

    broker: Broker
    bodies: list[bytes]


def arm_of(place: Place, algorithm: Algorithm, assertions: list[str]) -> Arm:
    """Return a broker for people whose provider signs in this way."""
    now = place.parts.clock()
    account = Account(LEAD.subject, LEAD.groups, PASSWORD)
    provider = Provider(PROVIDER, Key.generate(algorithm), {LEAD.subject: account}, {CLIENT: HOUR})
    documents = {
        f"{PROVIDER}/.well-known/openid-configuration": provider.discovery(),
        f"{PROVIDER}/jwks": provider.jwks(),
    }

    async def fetch(url: str) -> Fetched:
        return Fetched(json.dumps(documents[url]).encode(), HOUR)

    leeway = place.parts.broker.settings.leeway
    people = OpenIdPeople(providers(place.config), leeway, audience=ISSUER, fetch=lambda _: fetch)
    bodies = [
        body(sign_in(provider, number, now), assertions[number % len(assertions)])
        for number in range(REQUESTS)
    ]
    return Arm(replace(place.parts.broker, people=people), bodies)


def sign_in(provider: Provider, number: int, now: datetime) -> str:
    """Return an ID token that is no other one."""
    form = {"grant_type": "password", "client_id": CLIENT, "username": LEAD.subject, "password": PASSWORD}
    answer = provider.sign_in(Form.parse(encode({**form, "nonce": f"n{number}"})), now)
    return str(answer["id_token"])


def log_ins(place: Place) -> list[str]:
    """Start tasks, note the key of each, let the person grant; return a JWT-SVID for each request."""
    parts, now = place.parts, place.parts.clock()
    consent = Consent.parse(
        id=new_ulid(now, os.urandom(10)),
        human=LEAD.uri,
        agent=AGENTS[0],
        scopes=SCOPES,
        tools=None,
        delegates_to=frozenset(),
        created_at=now,
        expires_at=now + timedelta(seconds=HOUR),
    )
    parts.state.add_consent(consent, now)
    hops = [place.start(AGENTS[0], now) for _ in range(TASKS)]
    for hop in hops:
        parts.state.set_thumbprint(hop.task, "t" * 43)
    authority, end = parts.authority.current, now + timedelta(seconds=HOUR)
    ids = [agent_task_id(DOMAIN, hop.agent, hop.task) for hop in hops]
    return [
        authority.issue_jwt_svid(ids[number % TASKS], ISSUER, now, HOUR, end) for number in range(REQUESTS)
    ]


def body(unverified_id_token: str, assertion: str) -> bytes:
    """Write the form of one exchange."""
    return encode(
        {
            "grant_type": GRANT_TYPE,
            "subject_token": unverified_id_token,
            "subject_token_type": ID_TOKEN,
            "audience": AUDIENCE,
            "scope": " ".join(sorted(SCOPES)),
            "client_assertion_type": JWT_SPIFFE,
            "client_assertion": assertion,
        }
    )


def encode(form: Mapping[str, str]) -> bytes:
    return urllib.parse.urlencode(form).encode()


def http(data: bytes, port: int) -> bytes:
    """Write the request as a client of today does."""
    head = (
        f"POST /token HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n"
        f"Connection: keep-alive\r\nUser-Agent: python-httpx/0.28.1\r\nContent-Length: {len(data)}\r\n"
        f"Content-Type: {FORM}\r\n\r\n"
    )
    return head.encode() + data


async def bare_of(arm: Arm) -> tuple[Work, dict[str, int]]:
    """Watch one exchange; return its signatures as work, and how often each kind is checked or made."""
    seen: list[tuple[str, Work]] = []
    verify, sign = VerificationKey.verify, SigningKey.sign

    def watched_verify(
        key: VerificationKey, signature: bytes, data: bytes, algorithm: object = "ES256"
    ) -> None:
        seen.append((f"verify {algorithm}", _bare_verify(key, signature, data, str(algorithm))))
        verify(key, signature, data, algorithm)

    def watched_sign(key: SigningKey, data: bytes) -> bytes:
        scheme = ECDSA_SCHEMES["ES256"].signature
        seen.append(("sign ES256", lambda: key.private_key.sign(data, scheme)))
        return sign(key, data)

    await ask(arm, 0)
    type.__setattr__(VerificationKey, "verify", watched_verify)
    type.__setattr__(SigningKey, "sign", watched_sign)
    try:
        await ask(arm, 1)
    finally:
        type.__setattr__(VerificationKey, "verify", verify)
        type.__setattr__(SigningKey, "sign", sign)
    works = [work for _, work in seen]
    names = [name for name, _ in seen]

    def bare() -> None:
        for work in works:
            work()

    return bare, {name: names.count(name) for name in sorted(set(names))}


def _bare_verify(key: VerificationKey, signature: bytes, data: bytes, algorithm: str) -> Work:
    public_key = key.public_key
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        half = len(signature) // 2
        der = encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
        ecdsa = ECDSA_SCHEMES["ES256"].signature
        return lambda: public_key.verify(der, data, ecdsa)
    scheme = RSA_SCHEMES["RS256"]
    return lambda: public_key.verify(signature, data, scheme.padding, scheme.digest)


async def ask(arm: Arm, number: int) -> Reply:
    """Exchange in this process, without HTTP."""
    data = arm.bodies[number % len(arm.bodies)]
    reply = await exchange_token(Arrival("POST", "127.0.0.1", (), data, FORM), arm.broker)
    if reply.status != 200:
        raise RuntimeError(f"an exchange of the benchmark is refused: {reply.body}")
    return reply


def time_bare(work: Work, seconds: float) -> dict[str, object]:
    """Repeat the bare work for so many seconds."""
    times = 0
    start, cpu = time.perf_counter(), used()
    while (took := time.perf_counter() - start) < seconds:
        work()
        times += 1
    return {"calls": times, "seconds": took, "cpu": used() - cpu}


class Between:
    """The bare signatures behind some of the answers of a broker, timed by themselves."""

    def __init__(self, bare: Mapping[str, Work]) -> None:
        self._bare = bare
        self._arm: str | None = None
        self._answers = self._times = 0
        self._seconds = 0.0

    def behind(self, name: str, app: App) -> App:
        """Return the application of an arm, with its signatures behind each eighth answer when it is on."""

        async def followed(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, send)
            if self._arm == name:
                self._answers += 1
                if self._answers % BEHIND_EACH == 1:
                    start = time.perf_counter()
                    self._bare[name]()
                    self._seconds += time.perf_counter() - start
                    self._times += 1

        return followed

    def turn(self, arm: str | None) -> dict[str, object]:
        """Go on with another arm, or none; say how often it was done since, and how long that took."""
        done: dict[str, object] = {"calls": self._times, "seconds": self._seconds}
        self._arm, self._answers, self._times, self._seconds = arm, 0, 0, 0.0
        return done


def used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@asynccontextmanager
async def arms(directory: Path) -> AsyncIterator[tuple[dict[str, dict[str, Any]], dict[str, Work], Between]]:
    """Open everything and listen, once for each algorithm of a provider."""
    async with open_place(directory) as place:
        assertions = log_ins(place)
        found: dict[str, dict[str, Any]] = {}
        bare: dict[str, Work] = {}
        between = Between(bare)
        hosts: list[HttpHost] = []
        for algorithm in get_args(Algorithm):
            arm = arm_of(place, algorithm, assertions)
            bare[algorithm], counted = await bare_of(arm)
            host = HttpHost(between.behind(algorithm, broker_app(arm.broker, lambda: True)))
            hosts.append(host)
            address = await host.listen(TcpAddress("127.0.0.1", 0))
            port = address.port if isinstance(address, TcpAddress) else 0
            path = directory / f"{algorithm}.bin"
            write_requests(path, [http(data, port) for data in arm.bodies])
            found[algorithm] = {"port": port, "requests": str(path), "counted": counted}
        try:
            yield found, bare, between
        finally:
            for host in hosts:
                await host.close(grace_seconds=0)


async def main(directory: Path) -> None:
    loop = asyncio.get_running_loop()
    async with arms(directory) as (found, bare, between):
        # As `deputy serve` does it.
        gc.collect()
        gc.freeze()
        say(found)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            question = json.loads(line)
            if question["do"] == "bare":
                say(time_bare(bare[question["arm"]], question["seconds"]))
            elif question["do"] == "between":
                say(between.turn(question["arm"]))
            else:
                say({"cpu": used()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--pinned", action="store_true")
    options = parser.parse_args()
    if options.pinned:
        pin(0)
    asyncio.run(main(options.directory))
