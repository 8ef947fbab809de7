"""Which person signed in: ID tokens and access tokens of a provider, and what makes them count."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from authz.broker.access_token import verify_person_access_token
from authz.broker.human import OpenIdPeople
from authz.broker.id_token import IdentityProvider, verify_id_token
from authz.broker.person_token import MayAct, PersonToken, TokenKind
from authz.demo.provider import Key
from authz.errors import ConfigError
from identity.base64url import encode_base64url
from identity.caller import Human, OidcClient
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
from identity.keys import KeySet
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
)

SECONDS = int(NOW.timestamp())
BROKER = "https://broker.mesh.example"
LEEWAY = 30


def verified(
    token: str,
    web: Web | None = None,
    *,
    seconds: int = 0,
    audience: str = CLIENT,
    kind: TokenKind = "id_token",
    broker: str | None = BROKER,
) -> PersonToken:
    people = OpenIdPeople(
        [IdentityProvider(ISSUER, frozenset({audience, "other"}))],
        LEEWAY,
        audience=broker,
        fetch=lambda _: (web or Web.of(provider_of())).fetch,
        monotonic=Ticks(),
    )
    now = NOW + timedelta(seconds=seconds)
    return asyncio.run(people.verify(UnverifiedToken.parse(token), kind, now))


# ---------------------------------------------------------------- the token


@pytest.mark.parametrize("key", [ES256, RS256], ids=["ES256", "RS256"])
def test_id_token_names_the_person_and_how_they_signed_in(key: Key) -> None:
    provider = provider_of(key=key)

    signed_in = verified(id_token(provider), Web.of(provider))

    assert signed_in.human == Human(ISSUER, "lead", ("lead",), "urn:mace:incommon:iap:silver", SECONDS)
    assert (signed_in.kind, signed_in.client) == ("id_token", OidcClient(ISSUER, CLIENT))
    assert (signed_in.issued_at, signed_in.auth_time, signed_in.expires_at) == (
        SECONDS,
        SECONDS,
        SECONDS + 600,
    )
    assert (signed_in.may_act, signed_in.sid) == (None, None)
    assert len(signed_in.token_id) == 64


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"aud": "somebody-else"}, TokenAudienceError),
        ({"aud": []}, TokenAudienceError),
        ({"aud": None}, TokenAudienceError),
        ({"aud": {CLIENT: 1}}, TokenAudienceError),
        ({"aud": [[CLIENT]]}, TokenAudienceError),
        ({"aud": [{CLIENT: 1}]}, TokenAudienceError),
        ({"azp": [CLIENT]}, TokenAudienceError),
        ({"azp": {CLIENT: 1}}, TokenAudienceError),
        ({"aud": [CLIENT, "somebody-else"], "azp": CLIENT}, TokenAudienceError),
        ({"azp": "somebody-else"}, TokenAudienceError),
        ({"aud": [CLIENT, CLIENT]}, TokenClaimsError),
        ({"iss": "https://idp.example/"}, TokenIssuerError),
        ({"iss": "https://evil.example"}, TokenIssuerError),
        ({"iss": None}, TokenIssuerError),
        ({"iss": 1}, TokenIssuerError),
        ({"exp": None}, TokenClaimsError),
        ({"iat": None}, TokenClaimsError),
        ({"iat": SECONDS + LEEWAY + 1}, TokenNotYetValidError),
        ({"nbf": SECONDS + LEEWAY + 1}, TokenNotYetValidError),
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
        ({"auth_time": -1}, TokenClaimsError),
        ({"auth_time": SECONDS + LEEWAY + 1}, TokenNotYetValidError),
        ({"amr": "pwd"}, TokenClaimsError),
        ({"amr": [1]}, TokenClaimsError),
        ({"amr": ["m"] * 17}, TokenClaimsError),
        ({"sid": 1}, TokenClaimsError),
        ({"sid": ""}, TokenClaimsError),
        ({"sid": "s" * 256}, TokenClaimsError),
        ({"sid": "a\nb"}, TokenClaimsError),
        ({"sub": CLIENT}, TokenClaimsError),
        ({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, TokenTypeError),
        ({"typ": "Refresh"}, TokenTypeError),
        ({"typ": "Logout"}, TokenTypeError),
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
    [
        {"typ_": None},
        {"typ_": "jwt"},
        {"typ_": "application/JWT"},
        {"typ": "ID"},
        {"token_use": "id"},
        {"groups": None},
        {"azp": CLIENT},
        {"auth_time": SECONDS + LEEWAY},
    ],
)
def test_accepts_id_token_with(claims: dict[str, object]) -> None:
    assert verified(id_token_with(provider_of(), **claims)).human.subject == "lead"


@pytest.mark.parametrize(
    ("claims", "client"),
    [
        ({"aud": CLIENT}, CLIENT),
        ({"aud": [CLIENT]}, CLIENT),
        ({"aud": "other"}, "other"),
        ({"aud": CLIENT, "azp": "other"}, "other"),
        ({"aud": [CLIENT, "other"], "azp": "other"}, "other"),
        ({"aud": ["other", CLIENT], "azp": CLIENT}, CLIENT),
    ],
)
def test_the_client_is_azp_or_the_one_audience(claims: dict[str, object], client: str) -> None:
    """OpenID Connect Core section 2: it counts for agents whose client it is."""
    assert verified(id_token_with(provider_of(), **claims)).client == OidcClient(ISSUER, client)


def test_session_and_methods_are_kept() -> None:
    token = verified(id_token_with(provider_of(), amr=["pwd", "otp"], sid="s-1", auth_time=SECONDS - 100))
    assert (token.human.amr, token.sid, token.auth_time) == (("pwd", "otp"), "s-1", SECONDS - 100)


@pytest.mark.parametrize(
    ("may_act", "expected"),
    [
        ({"sub": "triage"}, MayAct(None, "triage")),
        ({"iss": BROKER, "sub": "triage"}, MayAct(BROKER, "triage")),
    ],
)
def test_tx10_may_act_is_read_as_a_pair(may_act: dict[str, object], expected: MayAct) -> None:
    """TX-10: `may_act` match (`iss`+`sub`, whole pair); the exchange compares it."""
    assert verified(id_token_with(provider_of(), may_act=may_act)).may_act == expected


@pytest.mark.parametrize(
    "may_act",
    [
        {},
        [],
        "triage",
        True,
        ["triage"],
        {"iss": BROKER},
        {"sub": ""},
        {"sub": 7},
        {"sub": ["triage"]},
        {"sub": "triage", "iss": None},
        {"sub": "triage", "iss": ""},
        {"sub": "triage", "client_id": "x"},
        {"sub": "triage", "may_act": {"sub": "other"}},
        {"sub": "triage\n"},
        {"sub": "s" * 256},
    ],
    ids=str,
)
def test_tx10_refuses_may_act_that_is_no_pair(may_act: object) -> None:
    """TX-10: what we do not know could narrow whom it names, so nothing of it is left out."""
    with pytest.raises(TokenClaimsError):
        verified(id_token_with(provider_of(), may_act=may_act))


@pytest.mark.parametrize(("seconds", "good"), [(600 + LEEWAY - 1, True), (600 + LEEWAY, False)])
def test_jw06_expiry_is_forgiven_for_the_leeway_only(seconds: int, *, good: bool) -> None:
    """JW-06: exact at the leeway."""
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


def test_jw02_refuses_key_of_another_provider() -> None:
    """JW-02: a kid is looked up in the issuer's own set only."""
    other = provider_of("https://other.example", Key.generate("ES256"))
    web, other_web = Web.of(provider_of()), Web.of(other)
    providers = [IdentityProvider(p.issuer, frozenset({CLIENT})) for p in (provider_of(), other)]
    fetches = {ISSUER: web.fetch, other.issuer: other_web.fetch}
    people = OpenIdPeople(providers, LEEWAY, fetch=lambda p: fetches[p.issuer], monotonic=Ticks())
    forged = id_token_with(provider_of(key=other.key))

    with pytest.raises(TokenKeyError):
        asyncio.run(people.verify(UnverifiedToken.parse(forged), "id_token", NOW))


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "HS256", "ES256K", "RS1", "RS512", "PS256", "EdDSA", "Ed25519", "RS256"]
)
def test_jw01_refuses_algorithm_that_is_not_the_keys(alg: str) -> None:
    """JW-01: no HS256 with a public key, no `none`; the last is on the list, and of another key."""
    with pytest.raises(TokenAlgorithmError):
        verified(with_header(alg=alg))


def with_header(**changes: object) -> str:
    _, claims, signature = id_token(provider_of()).split(".")
    header = {"alg": "ES256", "kid": ES256.public["kid"], **changes}
    return f"{encode_base64url(json.dumps(header).encode())}.{claims}.{signature}"


def test_jw02_refuses_token_without_kid() -> None:
    """JW-02: no key is guessed."""
    header = encode_base64url(b'{"alg":"ES256"}')
    _, claims, signature = id_token(provider_of()).split(".")
    with pytest.raises(TokenKeyError):
        verified(f"{header}.{claims}.{signature}")


@pytest.mark.parametrize("member", ["jku", "x5u", "jwk", "x5c"])
def test_jw02_a_key_in_the_header_is_never_used(member: str) -> None:
    """JW-02: it is ignored, and so the signature, which it would make good, is not."""
    forger = Key.generate("ES256")
    own: dict[str, Any] = {
        "jku": "https://evil.example/jwks",
        "x5u": "https://evil.example/cert",
        "jwk": forger.public,
        "x5c": ["AA=="],
    }
    from joserfc import jws

    header = {"alg": "ES256", "kid": ES256.public["kid"], member: own[member]}
    claims = json.dumps({"iss": ISSUER, "sub": "lead", "aud": CLIENT, "iat": SECONDS, "exp": SECONDS + 60})
    registry = jws.JWSRegistry(strict_check_header=False)
    forged = jws.serialize_compact(header, claims, forger.private, registry=registry)
    web = Web.of(provider_of())
    with pytest.raises(TokenSignatureError):
        verified(forged, web)
    assert all(url.startswith(ISSUER) for url in web.asked)


def test_jw05_refuses_token_of_1_mib_before_any_crypto() -> None:
    """JW-05: token size."""
    with pytest.raises(TokenMalformedError):
        UnverifiedToken.parse("a" * (1 << 20))


def test_two_providers_of_one_issuer_are_refused() -> None:
    provider = IdentityProvider(ISSUER, frozenset({CLIENT}))
    with pytest.raises(ConfigError):
        OpenIdPeople([provider, provider], LEEWAY)


# ---------------------------------------------------------------- access tokens


def access_token(**changes: object) -> str:
    """A person's access token for the broker, as RFC 9068 has it; changes as in `id_token_with`."""
    right: dict[str, object] = {
        "typ_": "at+jwt",
        "aud": BROKER,
        "client_id": CLIENT,
        "jti": "J" * 22,
        "scope": "openid",
        "auth_time": SECONDS - 10,
    }
    return id_token_with(provider_of(), **{**right, **changes})


# As Keycloak issues them, unless it is told to follow RFC 9068.
KEYCLOAKS: dict[str, object] = {
    "typ_": "JWT",
    "typ": "Bearer",
    "azp": CLIENT,
    "client_id": None,
    "sid": "session",
    "auth_time": None,
}


def accessed(**changes: object) -> PersonToken:
    return verified(access_token(**changes), kind="access_token")


def test_access_token_names_the_person_and_the_client() -> None:
    token = accessed(groups=["lead"], amr=["pwd"], may_act={"sub": "triage"})
    assert (token.kind, token.client) == ("access_token", OidcClient(ISSUER, CLIENT))
    assert token.human == Human(ISSUER, "lead", ("lead",), None, SECONDS - 10, ("pwd",))
    assert (token.issued_at, token.expires_at) == (SECONDS, SECONDS + 600)
    assert token.may_act == MayAct(None, "triage")


@pytest.mark.parametrize(
    "changes",
    [
        KEYCLOAKS,
        {**KEYCLOAKS, "typ_": "at+jwt"},
        {"typ_": "application/AT+JWT"},
        {"aud": [BROKER]},
        {"azp": CLIENT},
        {"token_use": "access"},
        {"client_id": "other"},
        {"sid": "session", "auth_time": None},
    ],
)
def test_accepts_access_token_with(changes: dict[str, object]) -> None:
    assert accessed(**changes).human.subject == "lead"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"aud": "https://tickets.mesh.example"}, TokenAudienceError),
        ({"aud": CLIENT}, TokenAudienceError),
        ({"aud": "account"}, TokenAudienceError),
        ({"aud": [BROKER, "https://tickets.mesh.example"]}, TokenAudienceError),
        ({"aud": [BROKER, BROKER]}, TokenAudienceError),
        ({"aud": f"{BROKER}/"}, TokenAudienceError),
        ({"aud": BROKER.upper()}, TokenAudienceError),
        ({"aud": {BROKER: 1}}, TokenAudienceError),
        ({"aud": [[BROKER]]}, TokenAudienceError),
        ({"aud": []}, TokenAudienceError),
        ({"aud": None}, TokenAudienceError),
        ({"client_id": "unknown"}, TokenAudienceError),
        ({"azp": "unknown", "client_id": None}, TokenAudienceError),
        ({"client_id": None}, TokenClaimsError),
        ({"client_id": 7}, TokenClaimsError),
        ({"client_id": [CLIENT]}, TokenClaimsError),
        ({"azp": "other"}, TokenClaimsError),
        ({"iss": "https://evil.example"}, TokenIssuerError),
        ({"iat": None}, TokenClaimsError),
        ({"exp": None}, TokenClaimsError),
        ({"iat": SECONDS + LEEWAY + 1}, TokenNotYetValidError),
        ({"auth_time": SECONDS + LEEWAY + 1}, TokenNotYetValidError),
        ({"auth_time": "now"}, TokenClaimsError),
        ({"sub": None}, TokenClaimsError),
        ({"events": {}}, TokenTypeError),
        ({"typ_": "JWT"}, TokenTypeError),
        ({"typ_": None}, TokenTypeError),
        ({"typ_": "JWT", "typ": "ID"}, TokenTypeError),
        ({"typ_": "JWT", "token_use": "access"}, TokenTypeError),
        ({"typ": "ID"}, TokenTypeError),
        ({"typ": "Refresh"}, TokenTypeError),
        ({"typ": "Offline"}, TokenTypeError),
        ({"typ": "DPoP"}, TokenTypeError),
        ({"token_use": "id"}, TokenTypeError),
        ({"typ_": "oauth-id-jag+jwt"}, TokenTypeError),
        ({"typ_": "txntoken+jwt"}, TokenTypeError),
        ({"typ_": "token-introspection+jwt"}, TokenTypeError),
    ],
)
def test_refuses_access_token_with(changes: dict[str, object], error: type[TokenError]) -> None:
    with pytest.raises(error):
        accessed(**changes)


@pytest.mark.parametrize("cnf", [{"jkt": "a" * 43}, {"x5t#S256": "a" * 43}, {}, "x"])
def test_tx11_refuses_access_token_that_is_bound_to_a_key(cnf: object) -> None:
    """TX-11: a sender-constrained subject token needs proof of its key, and none is taken here."""
    with pytest.raises(TokenClaimsError):
        accessed(cnf=cnf)


@pytest.mark.parametrize("act", [{"sub": "agent"}, {"sub": "a", "act": {"sub": "b"}}, {}, "x"])
def test_tx08_refuses_access_token_in_which_somebody_acts_already(act: object) -> None:
    """TX-08: it would come out without them."""
    with pytest.raises(TokenClaimsError):
        accessed(act=act)


@pytest.mark.parametrize(
    "changes",
    [
        {"auth_time": None},
        {**KEYCLOAKS, "sid": None, "sub": "service-account-uuid"},
        {"sub": CLIENT},
        {"sub": CLIENT, "auth_time": None},
    ],
)
def test_refuses_access_token_that_a_client_got_for_itself(changes: dict[str, object]) -> None:
    """A client's own token (client credentials) would make a person of an application."""
    with pytest.raises(TokenClaimsError, match="no person signed in"):
        accessed(**changes)


def test_a_provider_speaks_for_its_own_issuer_only() -> None:
    """Its keys may be right: a key that two providers share makes neither of them the other."""
    keys = KeySet.parse_jwks({"keys": [ES256.public]}, use=None)
    other = IdentityProvider("https://other.example", frozenset({CLIENT}))
    with pytest.raises(TokenIssuerError):
        verify_id_token(UnverifiedToken.parse(id_token(provider_of())), keys, other, NOW, LEEWAY)
    with pytest.raises(TokenIssuerError):
        verify_person_access_token(
            UnverifiedToken.parse(access_token()), keys, other, audience=BROKER, now=NOW, leeway=LEEWAY
        )


def test_jw04_neither_kind_stands_for_the_other() -> None:
    """JW-04: ID token and access token of one provider, both of type JWT."""
    with pytest.raises(TokenAudienceError):
        verified(id_token(provider_of()), kind="access_token")
    with pytest.raises(TokenTypeError):
        verified(id_token_with(provider_of(), aud=BROKER, azp=CLIENT), kind="access_token")
    with pytest.raises(TokenTypeError):
        verified(access_token())
    with pytest.raises(TokenTypeError):
        verified(access_token(**KEYCLOAKS, aud=CLIENT))


def test_no_access_token_counts_where_no_audience_is_configured() -> None:
    with pytest.raises(TokenAudienceError):
        verified(access_token(), kind="access_token", broker=None)


def test_access_token_that_expired_is_told_before_its_audience() -> None:
    with pytest.raises(TokenExpiredError):
        verified(access_token(aud="another"), kind="access_token", seconds=3600)
