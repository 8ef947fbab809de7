"""A small OpenID Provider for the demonstration and the tests. Not for production.

- What a relying party sees is real: a discovery document, a JWK Set, and signed ID tokens.
- What a person does at a browser is not there: the two accounts sign in with the resource owner's password
  (RFC 6749 section 4.3, which RFC 9700 section 2.4 forbids outside of demonstrations).
- Passwords are made at start and stand in a file of mode 0600; nothing prints them.
- It binds 127.0.0.1 only.
- The client `short-lived` gets ID tokens of three seconds, so that expiry can be seen.

`python -m authz.demo.provider --directory DIR` writes its address to DIR/provider.json once it serves.
"""

import argparse
import asyncio
import hmac
import json
import os
import secrets
import signal
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, get_args

from joserfc import jwt
from joserfc.jwk import ECKey, KeyParameters, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from authz.address import TcpAddress
from authz.broker.form import Form, FormError, is_form
from authz.hosts.http import BodyMissingError, BodyTooLargeError, HttpHost, read_body

Algorithm = Literal["RS256", "ES256"]

ACCOUNTS: Final = {"lead": ("lead",), "clerk": ("clerk",)}
SHORT_LIVED: Final = "short-lived"
ID_TOKEN_SECONDS: Final = 600
SHORT_LIVED_SECONDS: Final = 3
PROVIDER_FILE: Final = "provider.json"
PASSWORDS_FILE: Final = "passwords.json"

_MAX_BODY: Final = 8 * 1024
_ACR: Final = "urn:mace:incommon:iap:silver"
_NO_STORE: Final = {"Cache-Control": "no-store"}


class SignInError(Exception):
    """A sign-in that is refused; `error` is the OAuth code (RFC 6749 section 5.2)."""

    def __init__(self, error: str, description: str) -> None:
        """Keep the OAuth code beside the description."""
        super().__init__(description)
        self.error = error


@dataclass(frozen=True, slots=True)
class Account:
    """A person of the demonstration."""

    name: str
    groups: tuple[str, ...]
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Key:
    """The signing key; `public` is its entry in the JWK Set."""

    algorithm: Algorithm
    private: RSAKey | ECKey = field(repr=False)

    @classmethod
    def generate(cls, algorithm: Algorithm) -> "Key":
        """Make a new key with a random name."""
        options: KeyParameters = {"use": "sig", "alg": algorithm, "kid": secrets.token_hex(8)}
        if algorithm == "ES256":
            return cls(algorithm, ECKey.generate_key("P-256", options))
        return cls(algorithm, RSAKey.generate_key(2048, options))

    @property
    def public(self) -> dict[str, object]:
        """The public key, as a JWK."""
        return dict(self.private.as_dict(private=False))


@dataclass(frozen=True, slots=True)
class Provider:
    """The provider without its sockets: sign-in forms in, tokens out."""

    issuer: str
    key: Key
    accounts: Mapping[str, Account]
    clients: Mapping[str, int]  # client id -> lifetime of its ID tokens in seconds

    def discovery(self) -> dict[str, object]:
        """Describe the provider (OpenID Connect Discovery section 3), as far as it exists.

        There is no authorization endpoint, and so none is named, though the specification asks for one.
        """
        return {
            "issuer": self.issuer,
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "grant_types_supported": ["password"],
            "response_types_supported": [],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [self.key.algorithm],
            "scopes_supported": ["openid"],
            "token_endpoint_auth_methods_supported": ["none"],
            "claims_supported": [
                "iss", "sub", "aud", "azp", "exp", "iat", "auth_time", "acr", "nonce", "groups"
            ],
        }  # fmt: skip

    def jwks(self) -> dict[str, object]:
        """Return the public keys."""
        return {"keys": [self.key.public]}

    def sign_in(self, form: Form, now: datetime) -> dict[str, object]:
        """Check a password and issue an ID token (OpenID Connect Core section 3.1.3.3).

        Raises:
            SignInError: with the OAuth error.
        """
        if form.one("grant_type") != "password":
            raise SignInError("unsupported_grant_type", "only the password grant exists here")
        client = form.one("client_id") or ""
        if client not in self.clients:
            raise SignInError("invalid_client", "unknown client_id")
        account = self._account(form.one("username") or "", form.one("password") or "")
        seconds = self.clients[client]
        return {
            # OAuth asks for an access token; this one opens nothing.
            "access_token": secrets.token_urlsafe(24),
            "token_type": "Bearer",
            "expires_in": seconds,
            "id_token": self._id_token(account, client, seconds, form.one("nonce"), int(now.timestamp())),
        }

    def _account(self, name: str, password: str) -> Account:
        account = self.accounts.get(name)
        expected = account.password if account else secrets.token_urlsafe()
        if not hmac.compare_digest(expected.encode(), password.encode()) or account is None:
            raise SignInError("invalid_grant", "wrong name or password")
        return account

    def _id_token(self, account: Account, client: str, seconds: int, nonce: str | None, now: int) -> str:
        header = {"alg": self.key.algorithm, "kid": self.key.public["kid"], "typ": "JWT"}
        claims: dict[str, object] = {
            "iss": self.issuer,
            "sub": account.name,
            "aud": client,
            "azp": client,
            "iat": now,
            "exp": now + seconds,
            "auth_time": now,
            "acr": _ACR,
            "groups": list(account.groups),
        }
        if nonce is not None:
            claims["nonce"] = nonce
        return jwt.encode(header, claims, self.key.private, algorithms=[self.key.algorithm])


def new_accounts() -> dict[str, Account]:
    """Make the accounts of the demonstration, with new passwords."""
    return {name: Account(name, groups, secrets.token_urlsafe(18)) for name, groups in ACCOUNTS.items()}


def provider_app(provider: Provider, clock: Callable[[], datetime]) -> Starlette:
    """Make the ASGI application of a provider."""

    async def discovery(_: Request) -> Response:
        return JSONResponse(provider.discovery(), headers={"Cache-Control": "max-age=60"})

    async def jwks(_: Request) -> Response:
        return JSONResponse(provider.jwks(), headers={"Cache-Control": "max-age=60"})

    async def token(request: Request) -> Response:
        try:
            if not is_form(request.headers.get("content-type")):
                raise SignInError("invalid_request", "the content type is not that of a form")
            form = Form.parse(await read_body(request.receive, _MAX_BODY))
            return JSONResponse(provider.sign_in(form, clock()), headers=_NO_STORE)
        except SignInError as error:
            status = 401 if error.error == "invalid_client" else 400
            return _refused(error.error, str(error), status)
        except (FormError, BodyTooLargeError, BodyMissingError) as error:
            return _refused("invalid_request", str(error) or "the body is too large", 400)

    return Starlette(
        routes=[
            Route("/.well-known/openid-configuration", discovery),
            Route("/jwks", jwks),
            Route("/token", token, methods=["POST"]),
        ]
    )


async def serve(directory: Path, port: int, algorithm: Algorithm, clients: Mapping[str, int]) -> None:
    """Serve until SIGTERM or SIGINT; the address and the passwords are in files of the directory."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    holder: list[Starlette] = []

    async def app(scope: object, receive: object, send: object) -> None:
        # The issuer names the port, which is known only once we listen.
        await holder[0](scope, receive, send)  # type: ignore[arg-type] # Starlette's names for the ASGI types

    host = HttpHost(app)
    address = await host.listen(TcpAddress("127.0.0.1", port))
    provider = Provider(f"http://{address}", Key.generate(algorithm), new_accounts(), clients)
    holder.append(provider_app(provider, lambda: datetime.now(UTC)))
    passwords = {account.name: account.password for account in provider.accounts.values()}
    write_json(directory / PASSWORDS_FILE, passwords)
    about = {"issuer": provider.issuer, "clients": dict(clients), "pid": os.getpid()}
    write_json(directory / PROVIDER_FILE, {**about, "passwords_file": PASSWORDS_FILE})
    await stop.wait()
    await host.close(grace_seconds=1.0)


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write a file of mode 0600 that is either complete or not there."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=2)
            file.write("\n")
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _refused(error: str, description: str, status: int) -> Response:
    return JSONResponse({"error": error, "error_description": description}, status, _NO_STORE)


def _client(text: str) -> tuple[str, int]:
    name, _, seconds = text.partition(":")
    return name, int(seconds or ID_TOKEN_SECONDS)


def main(arguments: list[str] | None = None) -> None:
    """Run the provider as a process of its own."""
    parser = argparse.ArgumentParser(description="OpenID Provider for the demonstration; not for production")
    parser.add_argument(
        "--directory", type=Path, required=True, help="where provider.json and passwords.json go"
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 lets the system choose")
    parser.add_argument("--algorithm", choices=get_args(Algorithm), default="RS256")
    parser.add_argument(
        "--client", type=_client, action="append", default=[], metavar="ID[:SECONDS]", help="a client id"
    )
    options = parser.parse_args(arguments)
    clients = {
        SHORT_LIVED: SHORT_LIVED_SECONDS,
        **dict(options.client or [("agent-runner", ID_TOKEN_SECONDS)]),
    }
    asyncio.run(serve(options.directory, options.port, options.algorithm, clients))


if __name__ == "__main__":
    main()
