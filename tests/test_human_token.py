"""Which person signed in: ID tokens, the keys behind them, and how the keys are fetched."""

import asyncio
import json
from datetime import timedelta

import pytest

from authz.broker.fetch import MAX_BYTES, Fetched, Fetcher, FetchError
from authz.broker.human import OpenIdPeople
from authz.broker.id_token import IdentityProvider
from authz.broker.person_token import PersonToken
from authz.broker.provider_keys import (
    MAX_FRESH_SECONDS,
    MIN_FRESH_SECONDS,
    RETRY_SECONDS,
    UNKNOWN_KID_SECONDS,
    ProviderKeys,
    ProviderUnavailableError,
)
from authz.demo.provider import Key, Provider, provider_app
from authz.errors import ConfigError
from authz.hosts.http import App, Message, Receive, Scope, Send
from identity.caller import Human
from identity.errors import (
    TokenAlgorithmError,
    TokenAudienceError,
    TokenClaimsError,
    TokenError,
    TokenExpiredError,
    TokenIssuerError,
    TokenKeyError,
    TokenMalformedError,
    TokenNotYetValidError,
    TokenSignatureError,
    TokenTypeError,
)
from identity.jws import UnverifiedToken
from tests.broker_fakes import (
    CLIENT,
    ES256,
    ISSUER,
    NOW,
    RS256,
    Ticks,
    Web,
    id_token,
    id_token_with,
    provider_of,
    serving,
)

LEEWAY = 30


def verified(token: str, web: Web | None = None, *, seconds: int = 0, audience: str = CLIENT) -> PersonToken:
    people = OpenIdPeople(
        [IdentityProvider(ISSUER, frozenset({audience}))],
        LEEWAY,
        fetch=lambda _: (web or Web.of(provider_of())).fetch,
        monotonic=Ticks(),
    )
    return asyncio.run(
        people.verify(UnverifiedToken.parse(token), "id_token", NOW + timedelta(seconds=seconds))
    )


# ---------------------------------------------------------------- the token


@pytest.mark.parametrize("key", [ES256, RS256], ids=["ES256", "RS256"])
def test_id_token_names_the_person_and_how_they_signed_in(key: Key) -> None:
    provider = provider_of(key=key)

    signed_in = verified(id_token(provider), Web.of(provider))

    seconds = int(NOW.timestamp())
    assert signed_in.human == Human(ISSUER, "lead", ("lead",), "urn:mace:incommon:iap:silver", seconds)
    assert signed_in.expires_at == seconds + 600
    assert len(signed_in.token_id) == 64


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"aud": "somebody-else"}, TokenAudienceError),
        ({"aud": []}, TokenAudienceError),
        ({"aud": None}, TokenAudienceError),
        ({"aud": {CLIENT: 1}}, TokenAudienceError),
        ({"aud": [CLIENT, "somebody-else"], "azp": CLIENT}, TokenAudienceError),
        ({"azp": "somebody-else"}, TokenAudienceError),
        ({"aud": [CLIENT, CLIENT]}, TokenClaimsError),
        ({"iss": "https://idp.example/"}, TokenIssuerError),
        ({"iss": "https://evil.example"}, TokenIssuerError),
        ({"iss": None}, TokenIssuerError),
        ({"iss": 1}, TokenIssuerError),
        ({"exp": None}, TokenClaimsError),
        ({"iat": None}, TokenClaimsError),
        ({"iat": int(NOW.timestamp()) + LEEWAY + 1}, TokenNotYetValidError),
        ({"nbf": int(NOW.timestamp()) + LEEWAY + 1}, TokenNotYetValidError),
        ({"sub": None}, TokenClaimsError),
        ({"sub": ""}, TokenClaimsError),
        ({"sub": "a b"}, TokenClaimsError),
        ({"sub": "x" * 256}, TokenClaimsError),
        ({"sub": 7}, TokenClaimsError),
        ({"groups": "lead"}, TokenClaimsError),
        ({"groups": [1]}, TokenClaimsError),
        ({"groups": ["g"] * 65}, TokenClaimsError),
        ({"acr": 1}, TokenClaimsError),
        ({"auth_time": "now"}, TokenClaimsError),
        ({"auth_time": True}, TokenClaimsError),
        ({"act": {"sub": "a"}}, TokenClaimsError),
        ({"may_act": {"sub": "a", "client_id": "b"}}, TokenClaimsError),
        ({"cnf": {"jkt": "a"}}, TokenClaimsError),
        ({"typ": "Bearer"}, TokenTypeError),
        ({"token_use": "access"}, TokenTypeError),
        ({"scope": "openid"}, TokenTypeError),
        ({"client_id": CLIENT}, TokenTypeError),
        ({"typ_": "at+jwt"}, TokenTypeError),
        ({"typ_": "logout+jwt"}, TokenTypeError),
    ],
)
def test_refuses_id_token_with(claims: dict[str, object], error: type[TokenError]) -> None:
    with pytest.raises(error):
        verified(id_token_with(provider_of(), **claims))


@pytest.mark.parametrize(
    "claims",
    [{"typ_": None}, {"typ_": "jwt"}, {"typ": "ID"}, {"token_use": "id"}, {"groups": None}, {"azp": CLIENT}],
)
def test_accepts_id_token_with(claims: dict[str, object]) -> None:
    assert verified(id_token_with(provider_of(), **claims)).human.subject == "lead"


@pytest.mark.parametrize(("seconds", "good"), [(600 + LEEWAY - 1, True), (600 + LEEWAY, False)])
def test_expiry_is_forgiven_for_the_leeway_only(seconds: int, *, good: bool) -> None:
    token = id_token(provider_of())

    if good:
        assert verified(token, seconds=seconds).human.subject == "lead"
    else:
        with pytest.raises(TokenExpiredError):
            verified(token, seconds=seconds)


def test_expiry_is_told_before_the_wrong_audience() -> None:
    with pytest.raises(TokenExpiredError):
        verified(id_token(provider_of()), seconds=3600, audience="another")


def test_refuses_token_signed_by_another_key_of_the_same_name() -> None:
    forger = provider_of(key=Key.generate("ES256"))
    published = provider_of(key=forger.key)
    token = id_token(published)
    body, _, _ = token.rpartition(".")
    other = id_token(provider_of(key=forger.key), "clerk").rpartition(".")[2]

    with pytest.raises(TokenSignatureError):
        verified(f"{body}.{other}", Web.of(published))


def test_refuses_key_of_another_provider() -> None:
    """JW-02: a kid is looked up in the issuer's own set only."""
    other = provider_of("https://other.example", Key.generate("ES256"))
    web, other_web = Web.of(provider_of()), Web.of(other)
    providers = [IdentityProvider(p.issuer, frozenset({CLIENT})) for p in (provider_of(), other)]
    fetches = {ISSUER: web.fetch, other.issuer: other_web.fetch}
    people = OpenIdPeople(providers, LEEWAY, fetch=lambda p: fetches[p.issuer], monotonic=Ticks())
    forged = id_token_with(provider_of(key=other.key))

    with pytest.raises(TokenKeyError):
        asyncio.run(people.verify(UnverifiedToken.parse(forged), "id_token", NOW))


def test_refuses_algorithm_that_is_not_the_keys() -> None:
    """JW-01: no HS256 with a public key, no `none`."""
    import base64

    _, claims, signature = id_token(provider_of()).split(".")
    for alg in ("none", "None", "HS256", "ES256K", "RS512"):
        header = base64.urlsafe_b64encode(
            json.dumps({"alg": alg, "kid": ES256.public["kid"]}).encode()
        ).rstrip(b"=")
        with pytest.raises(TokenAlgorithmError):
            verified(f"{header.decode()}.{claims}.{signature}")
    rs256 = base64.urlsafe_b64encode(json.dumps({"alg": "RS256", "kid": ES256.public["kid"]}).encode())
    with pytest.raises(TokenAlgorithmError):
        verified(f"{rs256.rstrip(b'=').decode()}.{claims}.{signature}")


def test_refuses_token_without_kid() -> None:
    import base64

    _, claims, signature = id_token(provider_of()).split(".")
    header = base64.urlsafe_b64encode(b'{"alg":"ES256"}').rstrip(b"=").decode()
    with pytest.raises(TokenKeyError):
        verified(f"{header}.{claims}.{signature}")


def test_refuses_token_of_1_mib_before_any_crypto() -> None:
    with pytest.raises(TokenMalformedError):
        UnverifiedToken.parse("a" * (1 << 20))


def test_two_providers_of_one_issuer_are_refused() -> None:
    provider = IdentityProvider(ISSUER, frozenset({CLIENT}))
    with pytest.raises(ConfigError):
        OpenIdPeople([provider, provider], LEEWAY)


# ---------------------------------------------------------------- the keys


def keys_of(web: Web, ticks: Ticks) -> ProviderKeys:
    return ProviderKeys(ISSUER, web.fetch, ticks)


KID = str(ES256.public["kid"])


def test_keys_are_fetched_once_and_kept() -> None:
    async def scenario() -> None:
        web, ticks = Web.of(provider_of()), Ticks()
        keys = keys_of(web, ticks)
        assert (await keys.key_set(KID)).get(KID)
        ticks.seconds += MIN_FRESH_SECONDS
        await keys.key_set(KID)
        assert web.fetches == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("max_age", "fresh"),
    [(0, MIN_FRESH_SECONDS), (1, MIN_FRESH_SECONDS), (120, 120.0), (10**9, MAX_FRESH_SECONDS)],
)
def test_cache_control_counts_within_a_minute_and_a_day(max_age: int, fresh: float) -> None:
    async def scenario() -> None:
        web, ticks = Web.of(provider_of(), max_age), Ticks()
        keys = keys_of(web, ticks)
        await keys.key_set(KID)
        ticks.seconds += fresh - 1
        await keys.key_set(KID)
        assert web.fetches == 1
        ticks.seconds += 1
        await keys.key_set(KID)
        assert web.fetches == 2

    asyncio.run(scenario())


def test_unknown_kid_makes_one_fetch_in_thirty_seconds() -> None:
    async def scenario() -> None:
        web, ticks = Web.of(provider_of()), Ticks()
        keys = keys_of(web, ticks)
        await keys.key_set(KID)
        for _ in range(50):
            assert (await keys.key_set("unknown")).get("unknown") is None
        assert web.fetches == 1
        ticks.seconds += UNKNOWN_KID_SECONDS
        for _ in range(50):
            await keys.key_set("unknown")
        assert web.fetches == 2

    asyncio.run(scenario())


def test_rotated_key_is_found() -> None:
    async def scenario() -> None:
        web, ticks = Web.of(provider_of()), Ticks()
        keys = keys_of(web, ticks)
        await keys.key_set(KID)
        rotated = Key.generate("ES256")
        web.publish(provider_of(key=rotated))
        ticks.seconds += UNKNOWN_KID_SECONDS
        found = await keys.key_set(str(rotated.public["kid"]))
        assert found.get(str(rotated.public["kid"]))
        assert found.get(KID) is None

    asyncio.run(scenario())


def test_a_crowd_shares_one_fetch() -> None:
    async def scenario() -> None:
        web = Web.of(provider_of())
        web.gate = asyncio.Event()
        keys = keys_of(web, Ticks())
        crowd = [asyncio.create_task(keys.key_set(KID)) for _ in range(100)]
        await asyncio.sleep(0)
        web.gate.set()
        await asyncio.gather(*crowd)
        assert web.fetches == 1

    asyncio.run(scenario())


def test_a_provider_that_is_down_is_not_asked_by_a_crowd() -> None:
    async def scenario() -> None:
        web, ticks = Web.of(provider_of()), Ticks()
        web.break_down()
        keys = keys_of(web, ticks)
        for _ in range(20):
            with pytest.raises(ProviderUnavailableError):
                await keys.key_set(KID)
        assert web.fetches == 1
        web.publish(provider_of())
        ticks.seconds += RETRY_SECONDS
        assert (await keys.key_set(KID)).get(KID)

    asyncio.run(scenario())


def test_known_keys_outlive_the_provider_by_a_day_at_most() -> None:
    async def scenario() -> None:
        web, ticks = Web.of(provider_of()), Ticks()
        keys = keys_of(web, ticks)
        await keys.key_set(KID)
        web.break_down()
        ticks.seconds += MAX_FRESH_SECONDS
        assert (await keys.key_set(KID)).get(KID)
        ticks.seconds += 1
        with pytest.raises(ProviderUnavailableError):
            await keys.key_set(KID)

    asyncio.run(scenario())


def _jwks(*keys: dict[str, object]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


PRIVATE = dict(ES256.private.as_dict(private=True))


@pytest.mark.parametrize(
    "jwks",
    [
        _jwks(ES256.public, {**PRIVATE, "kid": "p"}),
        _jwks(ES256.public, {"kty": "oct", "k": "c2VjcmV0", "kid": "s"}),
        _jwks(ES256.public, ES256.public),
        _jwks(*({**ES256.public, "kid": str(number)} for number in range(101))),
        b'{"keys":[],"keys":[]}',
        b"<html>",
        b"[]",
    ],
    ids=["private", "symmetric", "same-kid", "too-many", "duplicate-member", "not-json", "not-a-set"],
)
def test_a_bad_set_is_believed_in_nothing(jwks: bytes) -> None:
    async def scenario() -> None:
        web, ticks = Web.of(provider_of()), Ticks()
        keys = keys_of(web, ticks)
        await keys.key_set(KID)
        web.documents[f"{ISSUER}/jwks"] = Fetched(jwks, None)
        ticks.seconds += UNKNOWN_KID_SECONDS
        with pytest.raises(ProviderUnavailableError):
            await keys.key_set("unknown")
        with pytest.raises(ProviderUnavailableError):
            await keys.key_set(KID)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example", "jwks_uri": f"{ISSUER}/jwks"},
        {"issuer": ISSUER + "/", "jwks_uri": f"{ISSUER}/jwks"},
        {"jwks_uri": f"{ISSUER}/jwks"},
        {"issuer": ISSUER},
        {"issuer": ISSUER, "jwks_uri": ["x"]},
        [],
    ],
)
def test_discovery_must_be_of_the_configured_issuer(document: object) -> None:
    web = Web.of(provider_of())
    web.documents[f"{ISSUER}/.well-known/openid-configuration"] = Fetched(json.dumps(document).encode(), None)

    with pytest.raises(ProviderUnavailableError):
        asyncio.run(keys_of(web, Ticks()).key_set(KID))


# ---------------------------------------------------------------- the fetch

LOCAL = Fetcher(allow_loopback=True)


def answering(status: int, headers: dict[str, str], body: bytes) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        start: Message = {"type": "http.response.start", "status": status, "headers": raw}
        await send(start)
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return app


def fetched(app: App, fetcher: Fetcher = LOCAL, path: str = "/jwks") -> Fetched:
    async def scenario() -> Fetched:
        async with serving(app) as base:
            return await fetcher.fetch(base + path)

    return asyncio.run(scenario())


def test_fetches_what_a_real_provider_publishes() -> None:
    async def scenario() -> None:
        holder: list[Provider] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await provider_app(holder[0], lambda: NOW)(scope, receive, send)

        async with serving(app) as base:
            holder.append(provider_of(base))
            known = IdentityProvider(base, frozenset({CLIENT}), allow_loopback=True)
            people = OpenIdPeople([known], LEEWAY)
            signed_in = await people.verify(UnverifiedToken.parse(id_token(holder[0])), "id_token", NOW)
            assert signed_in.human.uri == f"{base}#lead"

    asyncio.run(scenario())


def test_reads_max_age() -> None:
    assert fetched(answering(200, {"Cache-Control": "public, max-age=77"}, b"{}")) == Fetched(b"{}", 77)
    assert fetched(answering(200, {"Cache-Control": "no-store"}, b"{}")).max_age == 0
    assert fetched(answering(200, {}, b"{}")).max_age is None


def test_refuses_redirect() -> None:
    with pytest.raises(FetchError, match="302"):
        fetched(answering(302, {"Location": "http://169.254.169.254/latest"}, b""))


@pytest.mark.parametrize("status", [201, 204, 304, 404, 500])
def test_refuses_status(status: int) -> None:
    with pytest.raises(FetchError):
        fetched(answering(status, {}, b""))


def test_refuses_compressed_answer() -> None:
    with pytest.raises(FetchError):
        fetched(answering(200, {"Content-Encoding": "gzip"}, b"{}"))


def test_refuses_answer_of_5_mb() -> None:
    with pytest.raises(FetchError, match=str(MAX_BYTES)):
        fetched(answering(200, {}, b" " * 5_000_000))


def test_gives_up_on_a_provider_that_hangs() -> None:
    async def hang(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    with pytest.raises(FetchError, match=r"within 0\.1 s"):
        fetched(hang, Fetcher(allow_loopback=True, timeout_seconds=0.1))


def test_gives_up_on_a_provider_that_drips() -> None:
    async def drip(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b" ", "more_body": True})
            await asyncio.sleep(0.02)

    with pytest.raises(FetchError, match=r"within 0\.2 s"):
        fetched(drip, Fetcher(allow_loopback=True, timeout_seconds=0.2))


def test_refuses_a_provider_that_speaks_no_http() -> None:
    async def scenario() -> None:
        async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-x\r\n")
            writer.close()

        server = await asyncio.start_server(babble, "127.0.0.1", 0)
        async with server:
            with pytest.raises(FetchError):
                await LOCAL.fetch(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "url",
    [
        "http://idp.example/jwks",
        "http://127.0.0.1:1/jwks",
        "ftp://idp.example/jwks",
        "file:///etc/passwd",
        "https://user:password@idp.example/jwks",
        "https://idp.example/jwks#x",
        "https://",
        "jwks",
        "",
        "https://[::1",
    ],
)
def test_refuses_url(url: str) -> None:
    with pytest.raises(FetchError):
        asyncio.run(Fetcher(allow_loopback=False).fetch(url))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "localhost", "169.254.169.254", "[fe80::1]", "0.0.0.0", "[::ffff:127.0.0.1]",
     "[::ffff:169.254.169.254]", "224.0.0.1", "240.0.0.1", "127.1", "2130706433"],
)  # fmt: skip
def test_refuses_address(host: str) -> None:
    """JW-07, threat 18: the address is checked, whatever the name says."""
    with pytest.raises(FetchError, match=r"not allowed|InvalidUrlClientError"):
        asyncio.run(Fetcher(allow_loopback=False).fetch(f"https://{host}:1/jwks"))


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "0.0.0.0", "224.0.0.1"])
def test_a_local_provider_opens_the_loopback_only(host: str) -> None:
    with pytest.raises(FetchError, match="not allowed"):
        asyncio.run(LOCAL.fetch(f"https://{host}:1/jwks"))
