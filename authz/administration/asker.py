"""Who asks to administer: this machine's operator, a workload of the mesh, or a person who signed in.

- On the private socket (mode 0600) it is the user that runs the service: the kernel let nobody else in, but
  root, who needs no leave.
- Elsewhere a workload shows its X.509-SVID, and a person a token of their provider: an access token for this
  broker, or an ID token of an application that is known here. Both at once is refused: there would be two who
  ask.
- An agent is nobody here: neither by its certificate nor by a delegation token. What a person may change, no
  agent changes in their name.
- Of a token that was withdrawn, or of a person or a workload that is contained, nothing is taken.
"""

import os
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
from identity.jws import UnverifiedToken
from identity.withdrawal import Standing

_SCHEME = "bearer"


async def ask_who(arrival: Arrival, broker: Broker, now: datetime, *, is_local: bool) -> Actor:
    """Return who asks.

    Raises:
        CodedError, TokenError or RefusedError: if nobody is authenticated, or they are withdrawn.
    """
    if is_local:
        return Actor.of_local(os.getuid())
    if arrival.authorization:
        if arrival.chain:
            text = "show a certificate or a person's token, not both"
            raise refuse(Code.REQUEST_MALFORMED, text, description=text)
        return Actor.of_human((await person_of(arrival, broker, now)).human)
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


def _bearer(arrival: Arrival) -> str:
    if len(arrival.authorization) != 1:
        raise refuse(Code.TOKEN_MISSING, "not exactly one Authorization header")
    scheme, _, token = arrival.authorization[0].partition(" ")
    if scheme.lower() != _SCHEME or not token:
        raise refuse(Code.TOKEN_MISSING, "the scheme is not Bearer")
    return token
