"""The chain of agents that stands behind a token: `act` within `act` (RFC 8693 section 4.1).

- The outermost `act` presents the token; the innermost agent was the first (ID-01).
- An actor is the pair of its namespace and its name (ID-03): `iss` is the issuer, `sub` the agent's SPIFFE
  ID.
- The depth is limited and never truncated (ID-04); no task stands twice, and no agent comes back after
  another.
- An actor with a member that we do not know is refused: it could be one that narrows.
"""

from collections.abc import Mapping
from functools import lru_cache
from itertools import groupby
from typing import Final

from identity.caller import MAX_DEPTH, Hop
from identity.claims import text_claim
from identity.errors import AgentNameError, ChainError, SpiffeIdError, TokenClaimsError
from identity.names import parse_ulid
from identity.spiffe import SpiffeId, TrustDomain, agent_id, parse_agent_id

AI_AGENT: Final = "ai_agent"

_ACTOR_MEMBERS: Final = frozenset({"iss", "sub", "sub_profile", "agent_instance"})


def check_chain(chain: tuple[Hop, ...], max_depth: int) -> None:
    """Refuse a chain that is empty, too deep or that visits somebody twice.

    Raises:
        ChainError: with the reason `depth` or `cycle`.
    """
    if not 1 <= max_depth <= MAX_DEPTH:
        raise ValueError(f"a depth limit that is not between 1 and {MAX_DEPTH}: {max_depth}")
    if not 1 <= len(chain) <= max_depth:
        raise ChainError("depth", f"a chain of {len(chain)} agents where 1 to {max_depth} are allowed")
    if len({hop.task for hop in chain}) != len(chain):
        raise ChainError("cycle", "a chain that visits a task twice")
    if len(chain) == 1:
        return
    # One agent may hand over to another task of its own (ID-05); after somebody else it may not come back.
    visits = [agent for agent, _ in groupby(hop.agent for hop in chain)]
    if len(set(visits)) != len(visits):
        raise ChainError("cycle", "a chain in which an agent comes back after another one")


def encode_act(chain: tuple[Hop, ...], issuer: str, trust_domain: TrustDomain) -> dict[str, object]:
    """Return the `act` claim of a chain that `check_chain` accepts."""
    act: dict[str, object] = {}
    for hop in reversed(chain):
        inner = {"act": act} if act else {}
        act = {
            "iss": issuer,
            "sub": str(agent_id(trust_domain, hop.agent)),
            "sub_profile": AI_AGENT,
            "agent_instance": hop.task,
            **inner,
        }
    return act


def parse_act(act: object, issuer: str, max_depth: int) -> tuple[TrustDomain, tuple[Hop, ...]]:
    """Read the trust domain and the chain of an `act` claim, without recursion.

    Raises:
        ChainError: if it is too deep, or visits somebody twice.
        TokenClaimsError: if an actor is not an agent of this issuer, or is of another trust domain than the
        rest.
    """
    domains: set[TrustDomain] = set()
    chain: list[Hop] = []
    actors: list[object] = [act]
    for actor in actors:
        if len(chain) == max_depth:
            raise ChainError("depth", f"a chain of more than {max_depth} agents")
        if not isinstance(actor, dict) or actor.keys() - {"act"} != _ACTOR_MEMBERS:
            raise TokenClaimsError("an actor without one of its members, or with one that we do not know")
        trust_domain, hop = _hop(actor, issuer)
        domains.add(trust_domain)
        chain.append(hop)
        if "act" in actor:
            actors.append(actor["act"])
    check_chain(tuple(chain), max_depth)
    if len(domains) != 1:
        raise TokenClaimsError("a chain over more than one trust domain")
    return domains.pop(), tuple(chain)


def _hop(actor: Mapping[str, object], issuer: str) -> tuple[TrustDomain, Hop]:
    if actor["iss"] != issuer or actor["sub_profile"] != AI_AGENT:
        raise TokenClaimsError("an actor of another issuer, or one that is not an agent")
    try:
        trust_domain, agent = _agent(text_claim(actor, "sub"))
        return trust_domain, Hop(agent, parse_ulid(text_claim(actor, "agent_instance")))
    except (SpiffeIdError, AgentNameError) as error:
        raise TokenClaimsError(f"an actor that is not an agent: {error}") from error


@lru_cache(maxsize=1024)  # the same agents at every call; a name that is refused is not kept
def _agent(text: str) -> tuple[TrustDomain, str]:
    subject = SpiffeId.parse(text)
    agent = parse_agent_id(subject)
    if agent is None:
        raise TokenClaimsError(f"an actor that is not an agent: {text!r}")
    return subject.trust_domain, agent
