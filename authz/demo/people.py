"""People of the demo: they sign in, say which agent may act for them, and take it back.

- A person asks the broker over TLS with the ID token of a sign-in of their own, and without a certificate: no
  agent, which has another sign-in of theirs, and no operator grants in anybody's name.
- What a grant names is what the person lets the agent do at most; what both may is for the policy to say.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx2

TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True)
class GrantRequest:
    """What a person wants to grant; without `tools`, all tools of the scopes."""

    agent: str
    scopes: tuple[str, ...]
    tools: tuple[str, ...] | None = None
    delegates_to: tuple[str, ...] = ()

    def body(self) -> dict[str, object]:
        """Return what the broker is told."""
        tools = {} if self.tools is None else {"tools": list(self.tools)}
        return {
            "agent": self.agent,
            "scopes": list(self.scopes),
            "delegates_to": list(self.delegates_to),
            **tools,
        }


# What the people of the demo let agents do before it begins. The lead lets resolver hand work on to triage.
GRANTS: Final[Mapping[str, tuple[GrantRequest, ...]]] = {
    "lead": (
        GrantRequest("triage", ("tickets:read", "tickets:write")),
        GrantRequest(
            "resolver",
            ("tickets:read", "tickets:write", "billing:read", "billing:write", "billing:destroy"),
            delegates_to=("triage",),
        ),
    ),
    "clerk": (GrantRequest("resolver", ("tickets:read", "tickets:write", "billing:read", "billing:write")),),
}


@dataclass(frozen=True, slots=True)
class Grants:
    """The grants of people at a broker; `roots` are those of its certificate, PEM."""

    broker: str
    roots: bytes

    async def create(self, id_token: str, grant: GrantRequest) -> str:
        """Make a grant of the person who signed in, and return its id.

        Raises:
            HTTPStatusError: if it is refused.
        """
        made = await self._post("grants", id_token, grant.body())
        return str(made["id"])

    async def revoke(self, id_token: str, grant: str) -> None:
        """Revoke a grant of the person who signed in, and all that came of it.

        Raises:
            HTTPStatusError: if it is refused.
        """
        await self._post(f"grants/{grant}/revoke", id_token, {"reason": "not needed any more", "wait": True})

    async def _post(self, path: str, id_token: str, body: Mapping[str, object]) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {id_token}"}
        tls = ssl.create_default_context(cadata=self.roots.decode("ascii"))
        async with httpx2.AsyncClient(verify=tls, timeout=TIMEOUT, trust_env=False) as client:
            response = await client.post(f"{self.broker}/admin/v1/{path}", json=body, headers=headers)
        answer: dict[str, Any] = response.raise_for_status().json()
        return answer
