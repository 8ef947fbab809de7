"""What a person granted to an agent: "act for me, within this, until then".

- It names one person and one agent; the scopes that it holds, optionally the only tools, and the agents that
  the work may be handed on to.
- It ends by its time or when it is revoked, and what came of it ends with it.
- People and the command line call it a grant; in the code `Grant` is the evidence of one decision.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from identity.authorization_details import MAX_DETAILS, Detail, Details
from identity.caller import Human
from identity.errors import ConsentError, IdentityError
from identity.names import parse_ulid
from identity.qualified_name import parse_registered_name
from identity.scopes import MAX_SCOPES, format_scopes, parse_scopes

MAX_TOOLS: Final = MAX_DETAILS
MAX_DELEGATES: Final = 16

_TOOL: Final = re.compile(r"([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)/([\x21-\x7e]{1,256})")


@dataclass(frozen=True, slots=True)
class Consent:
    """One grant of one person; `tools` are `service/tool`, None where the scopes alone limit it."""

    id: str
    human: str
    agent: str
    scopes: frozenset[str]
    tools: frozenset[str] | None
    delegates_to: frozenset[str]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None

    @classmethod
    def parse(
        cls,
        *,
        id: str,  # noqa: A002 - the member's name
        human: str,
        agent: str,
        scopes: frozenset[str],
        tools: frozenset[str] | None,
        delegates_to: frozenset[str],
        created_at: datetime,
        expires_at: datetime,
        revoked_at: datetime | None = None,
    ) -> "Consent":
        """Check the parts.

        Raises:
            ConsentError: if a part is malformed, there are too many, or it ends before it begins.
        """
        try:
            parse_ulid(id)
            Human.parse_uri(human)
            if parse_scopes(format_scopes(scopes)) != scopes:
                raise ConsentError("a scope with a space in it")
            for name in (agent, *delegates_to):
                parse_registered_name(name)
        except IdentityError as error:
            raise ConsentError(str(error)) from error
        if len(scopes) > MAX_SCOPES or len(delegates_to) > MAX_DELEGATES or agent in delegates_to:
            raise ConsentError(
                f"more than {MAX_DELEGATES} agents to hand on to, or the agent itself among them"
            )
        if tools is not None and not (1 <= len(tools) <= MAX_TOOLS and all(map(_TOOL.fullmatch, tools))):
            raise ConsentError(f"tools are 1 to {MAX_TOOLS} of the form service/tool")
        if expires_at <= created_at:
            raise ConsentError("a grant that ends before it begins")
        return cls(id, human, agent, scopes, tools, delegates_to, created_at, expires_at, revoked_at)

    def is_live(self, now: datetime) -> bool:
        """Say whether it holds now."""
        return self.revoked_at is None and self.created_at <= now < self.expires_at

    def details_for(self, service: str, audience: str) -> Details | None:
        """Return the tools of one service as authorization details; None where tools are not limited.

        Raises:
            ConsentError: if tools are limited, and none of them is of this service.
        """
        if self.tools is None:
            return None
        of_it = sorted(tool.partition("/")[2] for tool in self.tools if tool.partition("/")[0] == service)
        if not of_it:
            raise ConsentError(f"the grant names no tool of {service!r}")
        return tuple(Detail(audience, tool) for tool in of_it)
