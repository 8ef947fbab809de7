"""The actors in a stranger's `act` claim, and what can be told of who somebody is by their claims alone.

- Nothing here is verified: what a claim says is what somebody wrote.
- A chain is read outermost first, without recursion, in time linear in its depth; of a chain of any depth
  only the first `MAX_DEPTH` actors are kept, the rest is counted.
- A kind is `agent` or `human` only where a claim or the form of a name says so; anything else is unknown.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from identity.caller import MAX_DEPTH
from identity.errors import SpiffeIdError
from identity.spiffe import SpiffeId

Kind = Literal["agent", "human", "unknown"]

# draft-mora-oauth-entity-profiles-01 and the actor profile; Auth0 issues these five.
AGENT_PROFILES: Final = frozenset({"ai_agent", "service"})
KNOWN_PROFILES: Final = AGENT_PROFILES | {"user", "browser_app", "native_app"}
# highflame-ai/zeroid docs/spec/zeroid-oauth-extensions.md section 3.2.
_MACHINE_TYPES: Final = frozenset({"agent", "application", "mcp_server", "service"})

_MAIL: Final = re.compile(r"[^@\s|]{1,64}@[A-Za-z0-9.-]{1,190}")
# auth0.com/docs: `<connection>|<id>` is a user, `<client id>@clients` a machine.
_CONNECTION: Final = re.compile(r"[a-z0-9-]{2,64}\|[^|]{1,190}")
_MACHINE_ENDINGS: Final = ("@clients", ".gserviceaccount.com")


@dataclass(frozen=True, slots=True)
class Actor:
    """One `act` object; `path` is where it stands in the claims."""

    path: str
    unverified_members: Mapping[str, object]

    @property
    def unverified_sub(self) -> str | None:
        """The name that the actor is given, None where it is not text."""
        return text_or_none(self.unverified_members.get("sub"))

    @property
    def unverified_iss(self) -> str | None:
        """The namespace of that name, None where it is not text."""
        return text_or_none(self.unverified_members.get("iss"))

    @property
    def kind(self) -> Kind:
        """What the actor is said to be."""
        return kind_of(self.unverified_members)


@dataclass(frozen=True, slots=True)
class Actors:
    """A chain, outermost first: the first actors of it, how many there are, where it stops being one."""

    shown: tuple[Actor, ...]
    depth: int
    # The path of the first `act` that is not an object.
    broken_at: str | None


def read_actors(unverified_claims: Mapping[str, object]) -> Actors:
    """Read the chain of some claims; an empty one where there is no `act`."""
    shown: list[Actor] = []
    depth = 0
    holder = unverified_claims
    while "act" in holder:
        inner = holder["act"]
        path = ".".join(["act"] * min(depth + 1, MAX_DEPTH + 1))
        if not isinstance(inner, Mapping):
            return Actors(tuple(shown), depth, path)
        if depth < MAX_DEPTH:
            shown.append(Actor(path, inner))
        depth += 1
        holder = inner
    return Actors(tuple(shown), depth, None)


def text_or_none(value: object) -> str | None:
    """Return a value that is text and not empty."""
    return value if isinstance(value, str) and value else None


def profiles(members: Mapping[str, object]) -> frozenset[str] | None:
    """Return the words of `sub_profile`, None where it is missing or not text."""
    value = text_or_none(members.get("sub_profile"))
    return None if value is None else frozenset(value.split())


def is_workload_id(text: str | None) -> bool:
    """Say whether a name is, or tries to be, a SPIFFE or WIMSE ID."""
    return text is not None and text[:10].lower().startswith(("spiffe:", "wimse:"))


def names_its_namespace(text: str | None) -> bool:
    """Say whether a name is the SPIFFE ID of a workload, which no two trust domains can share."""
    try:
        return text is not None and bool(SpiffeId.parse(text).path)
    except SpiffeIdError:
        return False


def clients(unverified_claims: Mapping[str, object]) -> dict[str, str]:
    """Return the clients that a token was issued to, by the claim that says so."""
    found = {name: text_or_none(unverified_claims.get(name)) for name in ("client_id", "azp", "appid", "cid")}
    return {name: client for name, client in found.items() if client is not None}


def kind_of(members: Mapping[str, object]) -> Kind:
    """Say what somebody is: by their classification first, then by the form of their name."""
    said = profiles(members)
    if said is not None and said & KNOWN_PROFILES:
        return "agent" if said & AGENT_PROFILES and "user" not in said else _of_user(said)
    name = text_or_none(members.get("sub"))
    if name is None:
        return "unknown"
    if is_workload_id(name) or name.lower().endswith(_MACHINE_ENDINGS):
        return "agent"
    return "human" if _MAIL.fullmatch(name) or _CONNECTION.fullmatch(name) else "unknown"


def is_agent_subject(unverified_claims: Mapping[str, object]) -> bool:
    """Say whether the top-level subject is an agent, or its own client (ID-01: it must be the human)."""
    name = text_or_none(unverified_claims.get("sub"))
    machine = unverified_claims.get("identity_type")
    return (
        kind_of(unverified_claims) == "agent"
        # Whatever else it is called: a person with the name of a workload could pass as its SVID.
        or is_workload_id(name)
        or (name is not None and name in clients(unverified_claims).values())
        or (isinstance(machine, str) and machine in _MACHINE_TYPES)
    )


def inversion(unverified_claims: Mapping[str, object], actors: Actors) -> str | None:
    """Return how it can be told that `sub` and `act` have changed places, None where nothing says so.

    - An agent as subject for whom an agent acts is no inversion by itself: RFC 8693 allows it. It is one
      where the subject presents the token, or where ZeroID's claims say who issued it.
    """
    if not actors.shown:
        return None
    outer, subject = actors.shown[0], text_or_none(unverified_claims.get("sub"))
    if outer.kind == "human" and "user" in (profiles(outer.unverified_members) or ()):
        said = profiles(unverified_claims)
        if said is None or "user" not in said:
            return "`act.sub_profile` says that the actor is the user"
    if not is_agent_subject(unverified_claims):
        return None
    if outer.kind == "human":
        return "the subject is an agent and the actor is named as people are"
    if subject is not None and subject in clients(unverified_claims).values():
        return "the subject is the client that the token was issued to"
    if "identity_type" in unverified_claims or "delegation_depth" in unverified_claims:
        return (
            "the subject is an agent and the claims are those of ZeroID, which puts the delegator into `act`"
        )
    return (
        None if outer.kind == "agent" else "the subject is an agent, and nothing says that the actor is one"
    )


def _of_user(said: frozenset[str]) -> Kind:
    # `user ai_agent` is an answer to a question with one answer: none.
    return "human" if "user" in said and not said & AGENT_PROFILES else "unknown"
