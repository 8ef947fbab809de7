"""Signing in at the demo's OpenID Provider: as a runner of agents does for a person, or as that person."""

import json
from dataclasses import dataclass
from pathlib import Path

import httpx2

from authz.demo.provider import PASSWORDS_FILE, PROVIDER_FILE
from identity.caller import Human

RUNNER_CLIENT = "runner"
# Where people sign in for themselves: to say what agents may do. No agent has this application.
CONSOLE_CLIENT = "console"


@dataclass(frozen=True, slots=True)
class SignIn:
    """The provider's address; passwords stay in its file."""

    issuer: str
    directory: Path

    @classmethod
    def read(cls, directory: Path) -> "SignIn":
        """Read what the provider wrote once it served."""
        about = json.loads((directory / PROVIDER_FILE).read_bytes())
        return cls(about["issuer"], directory)

    def human(self, account: str) -> Human:
        """Return the person behind an account."""
        return Human.parse(self.issuer, account)

    async def id_token(self, account: str, client: str = RUNNER_CLIENT) -> str:
        """Sign an account in and return its ID token."""
        passwords = json.loads((self.directory / PASSWORDS_FILE).read_bytes())
        form = {
            "grant_type": "password",
            "client_id": client,
            "username": account,
            "password": passwords[account],
        }
        async with httpx2.AsyncClient(trust_env=False) as http:
            discovered = await http.get(f"{self.issuer}/.well-known/openid-configuration")
            response = await http.post(discovered.raise_for_status().json()["token_endpoint"], data=form)
        return str(response.raise_for_status().json()["id_token"])
