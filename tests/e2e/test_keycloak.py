"""People who sign in at a real Keycloak: its tokens, by its discovery, with its own idea of each claim."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from authz.broker.app import broker_app
from authz.broker.human import OpenIdPeople
from authz.broker.person_token import PersonToken, TokenKind
from authz.broker.provider_keys import DEFAULT_FRESH_SECONDS, UNKNOWN_KID_SECONDS
from authz.codes import Code
from identity.caller import OidcClient
from identity.errors import (
    TokenAlgorithmError,
    TokenAudienceError,
    TokenClaimsError,
    TokenError,
    TokenExpiredError,
    TokenKeyError,
    TokenTypeError,
)
from identity.jws import UnverifiedToken
from tests.broker_fakes import Ticks, broker_alone, check_refused, consent, serving_tls
from tests.e2e.keycloak_world import Keycloak, running_keycloak

# A start from nothing: the distribution, its own build, the server.
pytestmark = [pytest.mark.full, pytest.mark.e2e, pytest.mark.timeout(900)]

BROKER = "https://broker.mesh.example"
OURS = ("agent-runner", "by-the-book", "elsewhere", "machine")


@pytest.fixture(scope="module")
def keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keycloak]:
    with running_keycloak(tmp_path_factory.mktemp("keycloak")) as running:
        yield running


def verified(keycloak: Keycloak, token: str, kind: TokenKind, *, seconds: int = 0) -> PersonToken:
    people = OpenIdPeople([keycloak.provider(*OURS)], 30, audience=BROKER)
    now = datetime.now(UTC) + timedelta(seconds=seconds)
    return asyncio.run(people.verify(UnverifiedToken.parse(token), kind, now))


def test_a_person_of_keycloak_by_id_token(keycloak: Keycloak) -> None:
    token = verified(keycloak, keycloak.sign_in("agent-runner")["id_token"], "id_token")

    assert token.human.issuer == keycloak.issuer
    assert token.human.uri == f"{keycloak.issuer}#{token.human.subject}"
    assert sorted(token.human.groups) == ["lead", "staff"]
    assert token.client == OidcClient(keycloak.issuer, "agent-runner")
    assert token.sid
    assert token.issued_at < token.expires_at


def test_a_person_of_keycloak_by_access_token(keycloak: Keycloak) -> None:
    tokens = keycloak.sign_in("agent-runner")
    token = verified(keycloak, tokens["access_token"], "access_token")

    assert token.human == verified(keycloak, tokens["id_token"], "id_token").human
    assert token.client == OidcClient(keycloak.issuer, "agent-runner")
    assert token.kind == "access_token"


def test_an_access_token_of_the_type_of_rfc_9068(keycloak: Keycloak) -> None:
    text = keycloak.sign_in("by-the-book")["access_token"]

    assert UnverifiedToken.parse(text).typ == "at+jwt"
    assert verified(keycloak, text, "access_token").client.client_id == "by-the-book"


@pytest.mark.parametrize(("token", "kind"), [("id_token", "id_token"), ("access_token", "access_token")])
def test_a_token_of_a_client_that_is_not_ours(keycloak: Keycloak, token: str, kind: TokenKind) -> None:
    """It is a right token, of the right person, for somebody else's application."""
    with pytest.raises(TokenAudienceError):
        verified(keycloak, keycloak.sign_in("stranger")[token], kind)


def test_an_access_token_for_another_audience(keycloak: Keycloak) -> None:
    """A service that received it cannot use it here."""
    with pytest.raises(TokenAudienceError):
        verified(keycloak, keycloak.sign_in("elsewhere")["access_token"], "access_token")


@pytest.mark.parametrize(
    ("token", "kind", "error"),
    [
        ("id_token", "id_token", TokenTypeError),
        ("access_token", "access_token", TokenClaimsError),
    ],
)
def test_a_service_account_is_no_person(
    keycloak: Keycloak, token: str, kind: TokenKind, error: type[TokenError]
) -> None:
    """Client credentials: Keycloak gives even an ID token, with an account of its own as `sub`."""
    with pytest.raises(error):
        verified(keycloak, keycloak.log_in("machine")[token], kind)


def test_jw04_no_kind_of_keycloaks_tokens_stands_for_another(keycloak: Keycloak) -> None:
    """JW-04: ID token and access token have one type, `JWT`; the refresh token has a symmetric algorithm."""
    tokens = keycloak.sign_in("agent-runner")
    with pytest.raises(TokenError):
        verified(keycloak, tokens["access_token"], "id_token")
    with pytest.raises(TokenError):
        verified(keycloak, tokens["id_token"], "access_token")
    for kind in ("id_token", "access_token"):
        with pytest.raises(TokenAlgorithmError):
            verified(keycloak, tokens["refresh_token"], kind)


def test_an_expired_token_of_keycloak(keycloak: Keycloak) -> None:
    token = keycloak.sign_in("agent-runner")["id_token"]
    with pytest.raises(TokenExpiredError):
        verified(keycloak, token, "id_token", seconds=3600)


def test_jw07_rotation_of_keycloaks_keys_is_followed(keycloak: Keycloak) -> None:
    """JW-07: the new key counts after one refresh in 30 s; the old one until it is published no longer."""
    ticks = Ticks()
    people = OpenIdPeople([keycloak.provider(*OURS)], 30, audience=BROKER, monotonic=ticks)

    async def subject(text: str) -> str:
        found = await people.verify(UnverifiedToken.parse(text), "id_token", datetime.now(UTC))
        return found.human.subject

    async def scenario() -> None:
        before = keycloak.sign_in("agent-runner")["id_token"]
        person = await subject(before)

        keycloak.rotate()
        after = keycloak.sign_in("agent-runner")["id_token"]
        assert UnverifiedToken.parse(after).header["kid"] != UnverifiedToken.parse(before).header["kid"]
        with pytest.raises(TokenKeyError):
            await subject(after)
        ticks.seconds += UNKNOWN_KID_SECONDS
        assert await subject(after) == await subject(before) == person

        keycloak.retire()
        assert await subject(before) == person
        ticks.seconds += DEFAULT_FRESH_SECONDS
        assert await subject(after) == person
        with pytest.raises(TokenKeyError):
            await subject(before)

    asyncio.run(scenario())


def test_a_person_of_keycloak_gets_their_agent_its_token(keycloak: Keycloak) -> None:
    """The whole way: sign in, task, exchange; an application that is not the agent's gets it nothing."""
    right = keycloak.sign_in("agent-runner")["id_token"]
    person = verified(keycloak, right, "id_token").human

    async def scenario() -> None:
        world = broker_alone()
        people = OpenIdPeople([keycloak.provider(*OURS)], 30, audience=world.broker.settings.issuer)
        world.broker = replace(world.broker, people=people)
        world.tasks.change("triage", clients=frozenset({OidcClient(keycloak.issuer, "agent-runner")}))
        world.tasks.consents = [consent("triage", person.uri)]
        app = broker_app(world.broker, lambda: True)
        async with serving_tls(app, world.broker.authority, world.clock.now) as base:
            world.base = base + world.broker.settings.path
            task = await world.start(person=None, subject_token=right)
            token = world.verified(str((await world.exchange(task, right)).json()["access_token"]))
            assert token.human.uri == person.uri
            assert sorted(token.human.groups) == ["lead", "staff"]
            assert token.chain[0].agent == "triage"

            wrong = keycloak.sign_in("by-the-book")["id_token"]
            before = len(world.sink.entries)
            answer = await world.exchange(task, wrong)
            check_refused(world, answer, before, "invalid_request", Code.CLIENT_UNREGISTERED)

    asyncio.run(scenario())
