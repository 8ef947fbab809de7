"""Grants of people: what I let which agent do for me, until when; and what of it I take back.

- A grant is made by the person who signed in, and by nobody in their name.
- A grant without an end gets one; without scopes it would be nothing, so it is refused.
- The agents that it names are registered. Scopes and tools are checked by the policy when a token is asked
  for: a grant lets an agent use what both have, and gives neither anything.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

from authz.admin import Actor, AdminRequest
from authz.administration.document import consent_json, flag, members, moment, reason_of, text, texts
from authz.administration.order import Order, OrderError
from authz.broker.arrival import Arrival
from identity.caller import Agent, Human
from identity.consent import Consent
from identity.errors import HumanError

DEFAULT_SECONDS: Final = 30 * 24 * 3600
MAX_SECONDS: Final = 400 * 24 * 3600
# In place of a person: the grants of all.
EVERYBODY: Final = "*"


class Consents(Protocol):
    """The state, as far as it holds the grants of people; the writing methods may block for the disk."""

    def agent(self, name: str) -> Agent | None:
        """Return a registered agent."""

    def consent(self, consent_id: str) -> Consent | None:
        """Return a grant."""

    def consents_of(self, human: str) -> tuple[Consent, ...]:
        """Return the grants of a person."""

    def consents(self) -> tuple[Consent, ...]:
        """Return all grants."""

    def add_consent(self, consent: Consent, now: datetime) -> int:
        """Add a grant."""

    def revoke_consent(
        self, consent_id: str, now: datetime, *, by: str | None = None, reason: str = "revoked"
    ) -> int:
        """Revoke a grant and what came of it, and return the epoch."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Whose grants are asked for."""

    human: str | None = None
    agent: str | None = None


async def list_grants(wanted: Filter, state: Consents, actor: Actor, now: datetime) -> Order:
    """Plan a list of grants (GET /admin/v1/grants); a person sees their own, unless they ask for more.

    Raises:
        OrderError: if what is asked for is no person.
    """
    human = whose(wanted.human, actor)

    def body() -> dict[str, object]:
        found = state.consents() if human is None else state.consents_of(human)
        return {
            "grants": [
                consent_json(consent, now)
                for consent in sorted(found, key=lambda each: each.id)
                if wanted.agent in {None, consent.agent}
            ]
        }

    return Order(request=AdminRequest("grants/list", human=human), subject=human or "everybody", body=body)


async def create_grant(arrival: Arrival, new_id: str, state: Consents, actor: Actor, now: datetime) -> Order:
    """Plan a grant of the person who signed in (POST /admin/v1/grants).

    Raises:
        OrderError or ConsentError: if it is malformed, or names an agent that is not registered.
    """
    body = members(
        arrival,
        required=frozenset({"agent", "scopes"}),
        optional=frozenset({"tools", "delegates_to", "expires_at"}),
    )
    if actor.kind != "human":
        raise OrderError("a grant is made by the person who signed in: send their token")
    agent, delegates_to = text(body, "agent"), texts(body, "delegates_to")
    for name in (agent, *sorted(delegates_to)):
        if state.agent(name) is None:
            raise OrderError(f"no agent {name[:208]!r} is registered")
    expires_at = (
        moment(body, "expires_at") if "expires_at" in body else now + timedelta(seconds=DEFAULT_SECONDS)
    )
    if expires_at > now + timedelta(seconds=MAX_SECONDS):
        raise OrderError(f"a grant lasts at most {MAX_SECONDS // 86400} days")
    consent = Consent.parse(
        id=new_id,
        human=actor.id,
        agent=agent,
        scopes=texts(body, "scopes"),
        tools=texts(body, "tools") if "tools" in body else None,
        delegates_to=delegates_to,
        created_at=now,
        expires_at=expires_at,
    )
    request = AdminRequest("grants/create", agent=state.agent(agent), human=actor.id, kind="grant", id=new_id)

    return Order(
        request=request,
        subject=f"grant {new_id}",
        body=lambda: consent_json(consent, now),
        act=partial(state.add_consent, consent, now),
        status=201,
    )


async def revoke_grant(
    consent_id: str, arrival: Arrival, state: Consents, actor: Actor, now: datetime
) -> Order:
    """Plan the end of a grant and of what came of it (POST /admin/v1/grants/{id}/revoke).

    Raises:
        OrderError: if there is no such grant.
    """
    body = members(arrival, required=frozenset(), optional=frozenset({"reason", "wait"}))
    consent = state.consent(consent_id)
    if consent is None:
        raise OrderError(f"no grant {consent_id[:64]!r} is known")
    if "reason" not in body and actor.id != consent.human:
        raise OrderError("missing: reason, for a grant that is not your own")
    reason = reason_of(body) if "reason" in body else "revoked by the person"
    return Order(
        request=AdminRequest(
            "grants/revoke",
            agent=state.agent(consent.agent),
            human=consent.human,
            kind="grant",
            id=consent.id,
        ),
        subject=f"grant {consent.id}",
        body=lambda: consent_json(state.consent(consent.id) or consent, now),
        act=partial(state.revoke_consent, consent.id, now, by=actor.id, reason=reason),
        reason=reason,
        takes_away=True,
        waits=flag(body, "wait"),
    )


def whose(human: str | None, actor: Actor) -> str | None:
    """Return the person who is meant, where one may be named; None is everybody.

    Raises:
        OrderError: if it is no person.
    """
    if human is None:
        return actor.id if actor.kind == "human" else None
    if human == EVERYBODY:
        return None
    try:
        return Human.parse_uri(human).uri
    except HumanError as error:
        raise OrderError("human is not issuer#subject, nor * for everybody") from error
