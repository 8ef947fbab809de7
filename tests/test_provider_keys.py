"""The keys of an OpenID Provider: found by discovery, kept for a while, never fetched in a crowd (JW-07)."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from authz.broker.fetch import Fetched
from authz.broker.human import OpenIdPeople
from authz.broker.id_token import IdentityProvider
from authz.broker.provider_keys import (
    MAX_FRESH_SECONDS,
    MIN_FRESH_SECONDS,
    RETRY_SECONDS,
    UNKNOWN_KID_SECONDS,
    ProviderKeys,
    ProviderUnavailableError,
)
from authz.demo.provider import Key
from identity.base64url import encode_base64url
from identity.errors import TokenAlgorithmError, TokenError, TokenKeyError
from identity.jws import UnverifiedToken
from tests.broker_fakes import CLIENT, ES256, ISSUER, NOW, Ticks, Web, id_token_with, provider_of

KID = str(ES256.public["kid"])
DISCOVERY = f"{ISSUER}/.well-known/openid-configuration"
Scenario = Callable[[ProviderKeys, Web, Ticks], Awaitable[None]]


def play(scenario: Scenario, max_age: int | None = None) -> None:
    """Run a scenario with keys that nobody asked for yet, the web that they come from, and a clock."""

    async def run() -> None:
        web, ticks = Web.of(provider_of(), max_age), Ticks()
        await scenario(ProviderKeys(ISSUER, web.fetch, ticks), web, ticks)

    asyncio.run(run())


def test_jw07_keys_are_fetched_once_and_kept() -> None:
    """JW-07: cached."""

    async def scenario(keys: ProviderKeys, web: Web, ticks: Ticks) -> None:
        assert (await keys.key_set(KID)).get(KID)
        ticks.seconds += MIN_FRESH_SECONDS
        await keys.key_set(KID)
        assert web.fetches == 1

    play(scenario)


@pytest.mark.parametrize(
    ("max_age", "fresh"),
    [(0, MIN_FRESH_SECONDS), (1, MIN_FRESH_SECONDS), (120, 120.0), (10**9, MAX_FRESH_SECONDS)],
)
def test_jw07_cache_control_counts_within_a_minute_and_a_day(max_age: int, fresh: float) -> None:
    """JW-07: cache by Cache-Control within [60 s, 24 h]."""

    async def scenario(keys: ProviderKeys, web: Web, ticks: Ticks) -> None:
        await keys.key_set(KID)
        ticks.seconds += fresh - 1
        await keys.key_set(KID)
        assert web.fetches == 1
        ticks.seconds += 1
        await keys.key_set(KID)
        assert web.fetches == 2

    play(scenario, max_age)


def test_jw07_unknown_kid_makes_one_fetch_in_thirty_seconds() -> None:
    """JW-07: unknown kid, one refresh per issuer per 30 s."""

    async def scenario(keys: ProviderKeys, web: Web, ticks: Ticks) -> None:
        await keys.key_set(KID)
        for _ in range(50):
            assert (await keys.key_set("unknown")).get("unknown") is None
        assert web.fetches == 1
        ticks.seconds += UNKNOWN_KID_SECONDS - 1
        await keys.key_set("unknown")
        assert web.fetches == 1
        ticks.seconds += 1
        for _ in range(50):
            await keys.key_set("unknown")
        assert web.fetches == 2

    play(scenario)


def test_jw07_unknown_kid_asks_no_faster_while_the_provider_is_down() -> None:
    """JW-07: a fetch that fails is one, too; the keys that we have count on."""

    async def scenario(keys: ProviderKeys, web: Web, ticks: Ticks) -> None:
        await keys.key_set(KID)
        web.break_down()
        ticks.seconds += UNKNOWN_KID_SECONDS
        for _ in range(int(UNKNOWN_KID_SECONDS / RETRY_SECONDS)):
            assert (await keys.key_set("unknown")).get("unknown") is None
            assert (await keys.key_set(KID)).get(KID)
            ticks.seconds += RETRY_SECONDS
        assert web.fetches == 2

    play(scenario)


def test_jw07_a_flood_of_kids_fetches_once_and_keeps_nothing() -> None:
    """JW-07: each of a flood of tokens has a kid of its own."""

    async def scenario(keys: ProviderKeys, web: Web, ticks: Ticks) -> None:
        before = await keys.key_set(KID)
        ticks.seconds += UNKNOWN_KID_SECONDS
        crowd = (keys.key_set(f"kid-{number}") for number in range(2000))
        assert {len(found.keys) for found in await asyncio.gather(*crowd)} == {len(before.keys)}
        assert web.fetches == 2

    play(scenario)


def test_jw07_a_flood_of_issuers_fetches_nothing_and_keeps_nothing() -> None:
    """JW-07: only pre-configured URLs; an issuer that a token names is looked up, and never asked."""
    web = Web.of(provider_of())
    known = IdentityProvider(ISSUER, frozenset({CLIENT}))
    people = OpenIdPeople([known], 30, fetch=lambda _: web.fetch, monotonic=Ticks())

    async def flood() -> None:
        for number in range(200):
            token = id_token_with(provider_of(), iss=f"https://idp-{number}.example")
            with pytest.raises(TokenError):
                await people.verify(UnverifiedToken.parse(token), "id_token", NOW)

    asyncio.run(flood())
    assert web.asked == []


@pytest.mark.parametrize(
    "change",
    [{"typ_": "at+jwt"}, {"typ_": "logout+jwt"}, {"iss": f"{ISSUER}/"}, {"iss": None}],
    ids=["access", "logout", "issuer-with-slash", "no-issuer"],
)
def test_jw07_a_token_that_cannot_count_fetches_nothing(change: dict[str, object]) -> None:
    """JW-07: what no key could make good is refused before a key is asked for."""
    web = Web.of(provider_of())
    known = IdentityProvider(ISSUER, frozenset({CLIENT}))
    people = OpenIdPeople([known], 30, fetch=lambda _: web.fetch, monotonic=Ticks())
    with pytest.raises(TokenError):
        asyncio.run(
            people.verify(UnverifiedToken.parse(id_token_with(provider_of(), **change)), "id_token", NOW)
        )
    assert web.asked == []


def test_jw07_a_token_with_an_algorithm_of_nobodys_fetches_nothing() -> None:
    """JW-07, JW-01: the list of providers is shorter than that of SVIDs."""
    web = Web.of(provider_of())
    known = IdentityProvider(ISSUER, frozenset({CLIENT}))
    people = OpenIdPeople([known], 30, fetch=lambda _: web.fetch, monotonic=Ticks())
    header = encode_base64url(json.dumps({"alg": "ES384", "typ": "JWT", "kid": KID}).encode())
    token = f"{header}.{id_token_with(provider_of()).partition('.')[2]}"
    with pytest.raises(TokenAlgorithmError):
        asyncio.run(people.verify(UnverifiedToken.parse(token), "id_token", NOW))
    assert web.asked == []


def test_jw07_rotated_key_is_found_and_the_old_one_is_gone() -> None:
    """JW-07: the unknown kid's refresh replaces the set as a whole."""

    async def scenario(keys: ProviderKeys, web: Web, ticks: Ticks) -> None:
        await keys.key_set(KID)
        rotated = Key.generate("ES256")
        web.publish(provider_of(key=rotated))
        ticks.seconds += UNKNOWN_KID_SECONDS
        found = await keys.key_set(str(rotated.public["kid"]))
        assert found.get(str(rotated.public["kid"]))
        assert found.get(KID) is None

    play(scenario)


def test_jw07_a_crowd_shares_one_fetch() -> None:
    """JW-07: single-flight."""

    async def scenario(keys: ProviderKeys, web: Web, ticks: Ticks) -> None:
        web.gate = asyncio.Event()
        crowd = [asyncio.create_task(keys.key_set(KID)) for _ in range(100)]
        await asyncio.sleep(0)
        web.gate.set()
        await asyncio.gather(*crowd)
        assert web.fetches == 1

    play(scenario)


def test_jw07_who_goes_away_ends_the_fetch_for_nobody_else() -> None:
    """JW-07: single-flight; a client that hangs up could else keep everybody's keys from being renewed."""

    async def scenario(keys: ProviderKeys, web: Web, ticks: Ticks) -> None:
        web.gate = asyncio.Event()
        impatient = asyncio.create_task(keys.key_set("unknown"))
        await asyncio.sleep(0)
        patient = asyncio.create_task(keys.key_set(KID))
        await asyncio.sleep(0)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        web.gate.set()
        assert (await patient).get(KID)
        assert web.fetches == 1

    play(scenario)


def test_jw07_while_it_fetches_a_known_kid_does_not_wait() -> None:
    """JW-07: an unknown kid and a slow provider hold up nobody whose key we have."""

    async def scenario(keys: ProviderKeys, web: Web, ticks: Ticks) -> None:
        await keys.key_set(KID)
        ticks.seconds += UNKNOWN_KID_SECONDS
        web.gate = asyncio.Event()
        stranger = asyncio.create_task(keys.key_set("unknown"))
        await asyncio.sleep(0)
        assert (await asyncio.wait_for(keys.key_set(KID), 10)).get(KID)
        assert not stranger.done()
        web.gate.set()
        await stranger

    play(scenario)


def test_jw07_a_provider_that_is_down_is_not_asked_by_a_crowd() -> None:
    """JW-07: what failed is not repeated at once."""

    async def scenario(keys: ProviderKeys, web: Web, ticks: Ticks) -> None:
        web.break_down()
        for _ in range(20):
            with pytest.raises(ProviderUnavailableError):
                await keys.key_set(KID)
        assert web.fetches == 1
        web.publish(provider_of())
        ticks.seconds += RETRY_SECONDS
        assert (await keys.key_set(KID)).get(KID)

    play(scenario)


def test_jw07_known_keys_outlive_the_provider_by_a_day_at_most() -> None:
    """JW-07, JW-06: stale-while-error is bounded, by a monotonic clock."""

    async def scenario(keys: ProviderKeys, web: Web, ticks: Ticks) -> None:
        await keys.key_set(KID)
        web.break_down()
        ticks.seconds += MAX_FRESH_SECONDS
        assert (await keys.key_set(KID)).get(KID)
        ticks.seconds += 1
        with pytest.raises(ProviderUnavailableError):
            await keys.key_set(KID)

    play(scenario)


# ---------------------------------------------------------------- what is published


def jwks(*keys: dict[str, object]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


PRIVATE = dict(ES256.private.as_dict(private=True))


@pytest.mark.parametrize(
    "published",
    [
        jwks(ES256.public, {**PRIVATE, "kid": "p"}),
        jwks(ES256.public, {**PRIVATE, "kid": "p", "use": "enc"}),
        jwks(ES256.public, {"kty": "oct", "k": "c2VjcmV0", "kid": "s"}),
        jwks(ES256.public, {"kty": "oct", "kid": "s"}),
        jwks(ES256.public, {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "r", "p": "Aw"}),
        jwks(ES256.public, {"kty": "OKP", "crv": "Ed25519", "x": "AA", "d": "AA", "kid": "o"}),
        jwks(ES256.public, {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA", "priv": "AA", "kid": "q"}),
        jwks(ES256.public, ES256.public),
        jwks(*({**ES256.public, "kid": str(number)} for number in range(101))),
        jwks(ES256.public) + b" " * (256 * 1024),
        jwks(ES256.public) + b"{}",
        b'{"keys":[],"keys":[]}',
        b"<html>",
        b"[]",
        b"",
        b"\xff\xfe",
    ],
    ids=[
        "private",
        "private-of-another-use",
        "symmetric",
        "symmetric-without-k",
        "rsa-prime",
        "private-ed25519",
        "private-ml-dsa",
        "same-kid",
        "too-many",
        "too-long",
        "trailing-data",
        "duplicate-member",
        "not-json",
        "not-a-set",
        "empty",
        "not-utf-8",
    ],
)
def test_jw07_a_bad_set_is_believed_in_nothing(published: bytes) -> None:
    """JW-07: private or symmetric keys reject the set; size, number; and the set before it goes too."""

    async def scenario(keys: ProviderKeys, web: Web, ticks: Ticks) -> None:
        await keys.key_set(KID)
        web.documents[f"{ISSUER}/jwks"] = Fetched(published, None)
        ticks.seconds += UNKNOWN_KID_SECONDS
        with pytest.raises(ProviderUnavailableError) as raised:
            await keys.key_set("unknown")
        assert str(PRIVATE["d"]) not in str(raised.value)
        with pytest.raises(ProviderUnavailableError):
            await keys.key_set(KID)

    play(scenario)


def test_jw07_a_hundred_keys_are_accepted() -> None:
    """JW-07: at most 100 keys."""

    async def scenario(keys: ProviderKeys, web: Web, ticks: Ticks) -> None:
        many = jwks(*({**ES256.public, "kid": str(number)} for number in range(100)))
        web.documents[f"{ISSUER}/jwks"] = Fetched(many, None)
        assert len((await keys.key_set("0")).keys) == 100

    play(scenario)


@pytest.mark.parametrize(
    "jwk",
    [
        {**ES256.public, "use": "enc"},
        {**ES256.public, "alg": "ES256K", "crv": "secp256k1"},
        {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": "A" * 43, "kid": KID},
        {"kty": "OKP", "crv": "Ed25519", "alg": "Ed25519", "x": "A" * 43, "kid": KID},
        {**ES256.public, "key_ops": ["sign"]},
    ],
    ids=["enc", "ES256K", "EdDSA", "Ed25519", "signs"],
)
def test_jw01_a_key_that_providers_may_not_sign_with_verifies_nothing(jwk: dict[str, object]) -> None:
    """JW-01: the list is the issuer's, and the key's; `EdDSA` and its newer name `Ed25519` are not on it."""

    async def scenario(keys: ProviderKeys, web: Web, ticks: Ticks) -> None:
        web.documents[f"{ISSUER}/jwks"] = Fetched(jwks(jwk), None)
        assert (await keys.key_set(KID)).get(KID) is None

    play(scenario)


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example", "jwks_uri": f"{ISSUER}/jwks"},
        {"issuer": ISSUER + "/", "jwks_uri": f"{ISSUER}/jwks"},
        {"jwks_uri": f"{ISSUER}/jwks"},
        {"issuer": ISSUER},
        {"issuer": ISSUER, "jwks_uri": ["x"]},
        {"issuer": ISSUER, "jwks_uri": None},
        [],
    ],
)
def test_jw07_discovery_must_be_of_the_configured_issuer(document: object) -> None:
    """JW-07: only pre-configured URLs, and what they themselves name (Discovery section 4.3)."""

    async def scenario(keys: ProviderKeys, web: Web, ticks: Ticks) -> None:
        web.documents[DISCOVERY] = Fetched(json.dumps(document).encode(), None)
        with pytest.raises(ProviderUnavailableError):
            await keys.key_set(KID)

    play(scenario)


@pytest.mark.parametrize(
    "document",
    [b"<html>", b"", b'{"issuer":"' + ISSUER.encode() + b'","issuer":"x"}', b"[" * 100_000, b"\xff"],
    ids=["html", "empty", "duplicate-member", "nested", "not-utf-8"],
)
def test_jw07_discovery_must_be_strict_json(document: bytes) -> None:
    """JW-07, JW-05: wrong content is an error of the provider, and none of ours."""

    async def scenario(keys: ProviderKeys, web: Web, ticks: Ticks) -> None:
        web.documents[DISCOVERY] = Fetched(document, None)
        with pytest.raises(ProviderUnavailableError):
            await keys.key_set(KID)

    play(scenario)


@pytest.mark.parametrize(
    "kid", ["", "k" * 256, "k" * 3000, "../../etc/passwd\x00", "' OR '1'='1", 7, None, [KID], {"kid": KID}]
)
def test_jw02_a_kid_is_an_opaque_name(kid: object) -> None:
    """JW-02: paths, SQL, NUL and kilobytes are names that nobody has; some, nobody can have."""
    web = Web.of(provider_of())
    people = OpenIdPeople(
        [IdentityProvider(ISSUER, frozenset({CLIENT}))], 30, fetch=lambda _: web.fetch, monotonic=Ticks()
    )
    token = id_token_with(provider_of()).split(".")
    token[0] = encode_base64url(json.dumps({"alg": "ES256", "typ": "JWT", "kid": kid}).encode())
    with pytest.raises(TokenKeyError):
        asyncio.run(people.verify(UnverifiedToken.parse(".".join(token)), "id_token", NOW))
    assert bool(web.asked) == (isinstance(kid, str) and 0 < len(kid) < 256)
