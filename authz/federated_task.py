"""The run of an agent of another trust domain: all that is known of it stands in its SVID.

- Such an agent acts for nobody: whom it could act for is known to its own broker only.
- Nobody here can end its run, which therefore ends with its SVID, and no SVID may live for more than an hour.
  Its registration, and the bundle of its trust domain, end it at once.
- The SVID is a bearer token. It counts from the task itself, or from a workload that is registered as its
  host; both are of the agent's own trust domain, so that none of our workloads can make use of a stolen one.
- A ULID is unique within its trust domain only, so the transaction is named after the whole ID: no foreign
  run is ever taken for one of ours.
"""

import hashlib
from datetime import UTC, datetime
from typing import Final

from authz.codes import Code
from authz.errors import AuthenticationError
from identity.base64url import encode_base64url
from identity.caller import Agent, Hop, Task
from identity.jwt_svid import JwtSvid
from identity.spiffe import SpiffeId

MAX_SVID_SECONDS: Final = 3600


def federated_task(svid: JwtSvid, hop: Hop, agent: Agent, peer: SpiffeId, now: datetime) -> Task:
    """Return the run that a verified SVID of another trust domain is of, if `peer` may show it.

    Raises:
        AuthenticationError: with HUMAN_MISSING, TOKEN_CLAIMS or NOT_BOUND.
    """
    if not agent.autonomous:
        raise AuthenticationError(Code.HUMAN_MISSING, "an agent of another trust domain, not autonomous")
    started_at = _issued_at(svid, now)
    if svid.expires_at - started_at > MAX_SVID_SECONDS:
        raise AuthenticationError(Code.TOKEN_CLAIMS, f"an SVID that lives for more than {MAX_SVID_SECONDS} s")
    is_host = peer in agent.hosts and peer.trust_domain == svid.spiffe_id.trust_domain
    if peer != svid.spiffe_id and not is_host:
        raise AuthenticationError(Code.NOT_BOUND, "the SVID is another workload's")
    return Task(
        id=hop.task,
        agent=hop.agent,
        human=None,
        workload=peer,
        started_at=datetime.fromtimestamp(started_at, UTC),
        deadline=datetime.fromtimestamp(svid.expires_at, UTC),
    )


def federated_txn(svid: JwtSvid) -> str:
    """Name the transaction of a foreign run, differently from every one of ours."""
    return encode_base64url(hashlib.sha256(str(svid.spiffe_id).encode()).digest())


def _issued_at(svid: JwtSvid, now: datetime) -> int:
    """Return when it was issued: now, where it does not say so or says that this is still to come."""
    seconds = int(now.timestamp())
    return seconds if svid.issued_at is None else min(svid.issued_at, seconds)
