"""The header for one request: which names its caller could ever use, asked of the policy.

- Only an allowed request for a list gets one, at a service that is said to be such a gateway.
- The policy is asked as it is for every list that is cut: could some call of it be allowed?
- What cannot be known is an error, and so a denial: a gateway without the header may show everything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from authz.kuadrant.capabilities import KINDS, GatewayServer, Member, listed
from authz.kuadrant.token import sign_names
from authz.policy.port import Query
from authz.policy.query import caller_input, visible_query
from authz.protocols.operation import Operation
from authz.services import Service
from identity.authorization_details import tools_at
from identity.caller import Caller
from identity.keys import SigningKey


class NamingPolicy(Protocol):
    """A policy that says of names which could be used, and knows names."""

    def tool_names(self, service: str) -> tuple[str, ...]:
        """Return the names of the tools that this service offers."""

    async def visible(self, query: Query) -> frozenset[str]:
        """Return which of the names this caller could ever use.

        Raises:
            CodedError: if that cannot be known.
        """


@dataclass(frozen=True, slots=True)
class AuthorizedLists:
    """Which of our services are such gateways, with the servers behind each, and the key that they know."""

    gateways: Mapping[str, tuple[GatewayServer, ...]]
    key: SigningKey = field(repr=False)
    issuer: str
    policy: NamingPolicy

    async def header(
        self, caller: Caller, operation: Operation, service: Service, decision_id: str, now: datetime
    ) -> str | None:
        """Return the value of the header for an allowed request; None where it needs none.

        Raises:
            CodedError: if the policy cannot say, or it is too much for a header.
        """
        servers, member = self.gateways.get(service.name), listed(operation)
        if servers is None or member is None:
            return None
        names = {server.name: await self._names(caller, server, member) for server in servers}
        return sign_names(names, member, self.key, self.issuer, service.audience, decision_id, now)

    async def _names(self, caller: Caller, server: GatewayServer, member: Member) -> list[str]:
        candidates = server.candidates(member, self.policy.tool_names(server.service))
        if caller.details is not None:
            # The only tools that the credential is for, and nothing else (RFC 9396).
            only = tools_at(caller.details, server.audience) if member == "tools" else ()
            candidates = {asked: name for asked, name in candidates.items() if asked in only}
        if not candidates:
            return []
        query = visible_query(caller_input(caller), server.service, "mcp", KINDS[member], tuple(candidates))
        visible = await self.policy.visible(query)
        return [name for asked, name in candidates.items() if asked in visible]
