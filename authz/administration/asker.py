"""Who asks to administer: this machine's operator, a workload of the mesh, or a person who signed in.

- On the private socket (mode 0600) it is the user that runs the service: the kernel let nobody else in, but
  root, who needs no leave.
- Elsewhere a workload shows its X.509-SVID, and a person a token of their provider: an access token for this
  broker, or an ID token of an application that is known here. Both at once is refused: there would be two who
  ask.
- An agent is nobody here: neither by its certificate nor by a delegation token, nor by the sign-in that a
  person handed it: a token of an application of agents (`agents[].clients`) administers nothing, or the agent
  that holds it would make its own grant. What a person may change, no agent changes in their name.
- Of a token that was withdrawn, or of a person or a workload that is contained, nothing is taken.
"""

import os
from collections.abc import Callable, Iterable
from datetime import datetime

from authz.admin import Actor
from authz.authenticate import check_standing
from authz.broker.arrival import Arrival
from authz.broker.client import authenticate, workload_client
from authz.broker.deps import Broker
from authz.broker.person_token import PersonToken, TokenKind
from authz.broker.refusal import refuse
from authz.codes import Code
from authz.errors import AuthenticationError
from identity.caller import Agent
from identity.jws import UnverifiedToken
from identity.withdrawal import Standing

_SCHEME = "bearer"

Agents = Callable[[], Iterable[Agent]]


async def ask_who(
    arrival: Arrival, broker: Broker, agents: Agents, now: datetime, *, is_local: bool
) -> Actor:
    """Return who asks; `agents` gives the registered ones.

    Raises:
        CodedError, TokenError or RefusedError: if nobody is authenticated, or they are withdrawn.
    """
    if is_local:
        return Actor.of_local(os.getuid())
    if arrival.authorization:
        if arrival.chain:
            text = "show a certificate or a person's token, not both"
            raise refuse(Code.REQUEST_MALFORMED, text, description=text)
        person = await person_of(arrival, broker, now)
        _require_no_agents(person, agents())
        return Actor.of_human(person.human)
    svid = authenticate(arrival.chain, broker, now)
    try:
        workload = workload_client(svid.spiffe_id)
    except AuthenticationError as error:
        text = "an agent administers nothing: ask with a person's token, or as a workload"
        raise refuse(Code.NOT_PERMITTED, str(error), description=text) from error
    check_standing(Standing(workloads=(str(workload),)), broker.tasks)
    return Actor.of_workload(workload)


async def person_of(arrival: Arrival, broker: Broker, now: datetime) -> PersonToken:
    """Return the person whose token came with a request.

    Raises:
        CodedError, TokenError or RefusedError: if none did, or it does not count.
    """
    token = UnverifiedToken.parse(_bearer(arrival))
    # An ID token has no type of its own; what calls itself an access token is read as one.
    kind: TokenKind = "id_token"
    if token.typ == "at+jwt" or token.unverified_claims.get("typ") == "Bearer":
        kind = "access_token"
    person = await broker.people.verify(token, kind, now)
    check_standing(Standing(human=person.human.uri, issued_at=person.began), broker.tasks)
    return person


def _require_no_agents(person: PersonToken, agents: Iterable[Agent]) -> None:
    agent = next((agent for agent in agents if person.client in agent.clients), None)
    if agent is not None:
        raise refuse(
            Code.NOT_PERMITTED,
            f"the token is of {person.client.client_id!r}, an application of agent {agent.name!r}",
            description="this sign-in is an agent's to use: sign in with an application of no agent",
        )


def _bearer(arrival: Arrival) -> str:
    if len(arrival.authorization) != 1:
        raise refuse(Code.TOKEN_MISSING, "not exactly one Authorization header")
    scheme, _, token = arrival.authorization[0].partition(" ")
    if scheme.lower() != _SCHEME or not token:
        raise refuse(Code.TOKEN_MISSING, "the scheme is not Bearer")
    return token
