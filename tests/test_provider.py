"""The demo's OpenID Provider: what a relying party sees is real."""

import asyncio
import json
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from authz.broker.form import Form
from authz.broker.human import OpenIdPeople
from authz.broker.id_token import IdentityProvider
from authz.broker.provider_keys import MAX_FRESH_SECONDS, UNKNOWN_KID_SECONDS
from authz.demo.provider import (
    ACCOUNTS,
    PASSWORDS_FILE,
    PROVIDER_FILE,
    Key,
    SignInError,
    new_accounts,
    provider_app,
    write_json,
)
from identity.errors import TokenKeyError
from identity.jws import UnverifiedToken
from identity.keys import KeySet
from tests.broker_fakes import CLIENT, ES256, ISSUER, NOW, PASSWORD, RS256, Ticks, provider_of, serving

PLAIN = {"grant_type": "password", "client_id": CLIENT, "username": "lead", "password": PASSWORD}


def form(**changes: str | None) -> Form:
    fields = {name: value for name, value in {**PLAIN, **changes}.items() if value is not None}
    return Form({name: (value,) for name, value in fields.items()})


# ---------------------------------------------------------------- the tokens


@pytest.mark.parametrize("key", [RS256, ES256], ids=["RS256", "ES256"])
def test_an_id_token_says_who_signed_in_how_and_until_when(key: Key) -> None:
    provider = provider_of(key=key)
    answer = provider.sign_in(form(nonce="n-1"), NOW)
    token = UnverifiedToken.parse(str(answer["id_token"]))
    now = int(NOW.timestamp())
    assert dict(token.header) == {"alg": key.algorithm, "kid": key.public["kid"], "typ": "JWT"}
    assert dict(token.unverified_claims) == {
        "iss": ISSUER,
        "sub": "lead",
        "aud": CLIENT,
        "azp": CLIENT,
        "iat": now,
        "exp": now + 600,
        "auth_time": now,
        "acr": "urn:mace:incommon:iap:silver",
        "groups": ["lead"],
        "nonce": "n-1",
    }
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 600)


def test_no_nonce_comes_back_that_was_not_sent() -> None:
    token = UnverifiedToken.parse(str(provider_of().sign_in(form(), NOW)["id_token"]))
    assert "nonce" not in token.unverified_claims


def test_the_client_short_lived_gets_three_seconds() -> None:
    token = UnverifiedToken.parse(str(provider_of().sign_in(form(client_id="short-lived"), NOW)["id_token"]))
    assert token.unverified_claims["exp"] == int(NOW.timestamp()) + 3


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"grant_type": None}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code"}, "unsupported_grant_type"),
        ({"client_id": None}, "invalid_client"),
        ({"client_id": "unknown"}, "invalid_client"),
        ({"username": "nobody"}, "invalid_grant"),
        ({"username": None}, "invalid_grant"),
        ({"password": "wrong"}, "invalid_grant"),
        ({"password": "é"}, "invalid_grant"),
        ({"password": None}, "invalid_grant"),
    ],
)
def test_refuses_a_sign_in(changes: dict[str, str | None], error: str) -> None:
    with pytest.raises(SignInError) as raised:
        provider_of().sign_in(form(**changes), NOW)
    assert raised.value.error == error
    assert PASSWORD not in str(raised.value)


@pytest.mark.parametrize("key", [RS256, ES256], ids=["RS256", "ES256"])
def test_the_key_set_holds_public_keys_only(key: Key) -> None:
    jwks = provider_of(key=key).jwks()
    keys = KeySet.parse_jwks(json.dumps(jwks).encode(), use=None)
    assert set(keys.keys) == {key.public["kid"]}
    assert "d" not in key.public


def test_nothing_secret_can_be_printed() -> None:
    provider = provider_of()
    assert PASSWORD not in repr(provider)
    assert str(dict(ES256.private.as_dict(private=True))["d"]) not in repr(provider)


def test_every_start_makes_new_passwords() -> None:
    first, second = new_accounts(), new_accounts()
    passwords = [account.password for account in (*first.values(), *second.values())]
    assert set(first) == set(ACCOUNTS) == {"lead", "clerk"}
    assert len(set(passwords)) == 4
    assert all(len(password) >= 24 for password in passwords)


# ---------------------------------------------------------------- over HTTP


def test_over_http() -> None:
    async def scenario() -> None:
        app = provider_app(provider_of(), lambda: NOW)
        async with serving(app) as base, httpx2.AsyncClient(trust_env=False) as http:
            answer = await http.post(f"{base}/token", data=PLAIN)
            assert answer.status_code == 200
            assert answer.headers["cache-control"] == "no-store"
            for status, data in ((401, {**PLAIN, "client_id": "x"}), (400, {**PLAIN, "password": "x"})):
                assert (await http.post(f"{base}/token", data=data)).status_code == status
            twice = [("grant_type", "password"), *PLAIN.items()]
            headers = {"content-type": "application/x-www-form-urlencoded"}
            body = "&".join(f"{name}={value.replace(' ', '+')}" for name, value in twice)
            assert (await http.post(f"{base}/token", content=body, headers=headers)).status_code == 400
            assert (await http.post(f"{base}/token", json=PLAIN)).status_code == 400
            long = {**PLAIN, "password": "x" * 10_000}
            assert (await http.post(f"{base}/token", data=long)).status_code == 400
            assert (await http.get(f"{base}/token")).status_code == 405

    asyncio.run(scenario())


# ---------------------------------------------------------------- as a process


@contextmanager
def running(directory: Path, *arguments: str) -> Iterator[dict[str, Any]]:
    """Run the provider as a process of its own, until the end of the block."""
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "authz.demo.provider",
        "--directory",
        str(directory),
        *arguments,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        while not (directory / PROVIDER_FILE).exists():
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
            time.sleep(0.02)
        yield json.loads((directory / PROVIDER_FILE).read_text())
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
        assert (process.returncode, output) == (0, "")


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_as_a_process_it_signs_people_in_whom_a_relying_party_believes(
    tmp_path: Path, algorithm: str
) -> None:
    async def scenario(about: dict[str, Any]) -> None:
        passwords = json.loads((tmp_path / about["passwords_file"]).read_text())
        async with httpx2.AsyncClient(trust_env=False) as http:
            discovery = (await http.get(about["issuer"] + "/.well-known/openid-configuration")).json()
            assert discovery["issuer"] == about["issuer"]
            assert discovery["id_token_signing_alg_values_supported"] == [algorithm]
            sign_in = {**PLAIN, "client_id": "runner", "password": passwords["lead"]}
            answer = await http.post(discovery["token_endpoint"], data=sign_in)
        known = IdentityProvider(about["issuer"], frozenset({"runner"}), allow_loopback=True)
        token = UnverifiedToken.parse(answer.json()["id_token"])
        believed = await OpenIdPeople([known], 30).verify(token, "id_token", datetime.now(UTC))
        assert believed.human.uri == f"{about['issuer']}#lead"
        assert believed.human.groups == ("lead",)

    with running(tmp_path, "--client", "runner", "--client", "slow:60", "--algorithm", algorithm) as about:
        assert about["clients"] == {"short-lived": 3, "runner": 600, "slow": 60}
        assert about["issuer"].startswith("http://127.0.0.1:")
        for name in (PROVIDER_FILE, PASSWORDS_FILE):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        asyncio.run(scenario(about))


def test_jw07_a_process_that_changes_its_keys_is_followed(tmp_path: Path) -> None:
    """JW-07: while it is away its old keys count; a new one after the next refresh."""
    ticks = Ticks()
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()

    async def sign_in(about: dict[str, Any], directory: Path) -> UnverifiedToken:
        passwords = json.loads((directory / about["passwords_file"]).read_text())
        data = {**PLAIN, "client_id": "runner", "password": passwords["lead"]}
        async with httpx2.AsyncClient(trust_env=False) as http:
            answer = await http.post(about["issuer"] + "/token", data=data)
        return UnverifiedToken.parse(answer.json()["id_token"])

    async def scenario() -> None:
        with running(first, "--client", "runner") as about:
            known = IdentityProvider(about["issuer"], frozenset({"runner"}), allow_loopback=True)
            people = OpenIdPeople([known], 30, monotonic=ticks)
            before = await sign_in(about, first)
            person = (await people.verify(before, "id_token", datetime.now(UTC))).human
        ticks.seconds += MAX_FRESH_SECONDS - 1
        # It is away, and its keys are no longer fresh: those that we hold count.
        assert (await people.verify(before, "id_token", datetime.now(UTC))).human == person
        port = about["issuer"].rpartition(":")[2]
        # The same address, and so the same issuer; its keys are new at each start.
        with running(second, "--client", "runner", "--port", port) as again:
            assert again["issuer"] == about["issuer"]
            after = await sign_in(again, second)
            with pytest.raises(TokenKeyError):
                await people.verify(after, "id_token", datetime.now(UTC))
            ticks.seconds += UNKNOWN_KID_SECONDS
            assert (await people.verify(after, "id_token", datetime.now(UTC))).human.uri == person.uri
            with pytest.raises(TokenKeyError):
                await people.verify(before, "id_token", datetime.now(UTC))

    asyncio.run(scenario())


def test_a_file_is_complete_or_not_there(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
