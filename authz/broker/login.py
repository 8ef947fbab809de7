"""How a client of the token endpoint logs in: by its certificate, or by a JWT-SVID (CA-01, CA-02, CA-04).

- With a certificate of a task, the client is that task; a JWT-SVID beside it must be of the same one.
- With a certificate of a workload, a JWT-SVID must come with it, of a task that this workload started.
- Without a certificate the JWT-SVID alone logs in. It is a bearer token: whoever has it gets nothing but what
  is bound to the task's own key, unless a proof would bind it to another one. Then it counts once, so that a
  stolen one is noticed by whoever comes second.
- Until somebody is authenticated, the request is a stranger's.
"""

import asyncio
import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime

from authz.authenticate import Registered
from authz.broker.arrival import Arrival
from authz.broker.client import TaskClient, assertion_client, authenticate, is_as_it_was, running, task_client
from authz.broker.deps import Broker
from authz.broker.evidence import Evidence
from authz.broker.refusal import refuse
from authz.codes import Code
from authz.dpop import client_proof, spend
from authz.errors import StoreError
from identity.dpop import DpopProof
from identity.http_uri import HttpUri
from identity.spiffe import parse_agent_task
from identity.x509_svid import X509Svid


@dataclass(frozen=True, slots=True)
class Login:
    """A client that logged in; `unverified_bearer` is the JWT-SVID of one that proved no key."""

    client: TaskClient
    unverified_bearer: str | None = field(default=None, repr=False)


async def log_in(
    arrival: Arrival, unverified_assertion: str | None, evidence: Evidence, broker: Broker, now: datetime
) -> Login:
    """Return the task that the client is.

    Raises:
        AuthenticationError, TokenError or RefusedError: if it is none, or may not act now.
    """
    svid = authenticate(arrival.chain, broker, now) if arrival.chain or not unverified_assertion else None
    if svid is not None:
        evidence.peer = svid.spiffe_id
    client = _client(svid, unverified_assertion, broker, now)
    evidence.peer, evidence.chain = client.spiffe_id, (client.running.hop,)
    return Login(client, unverified_assertion if svid is None else None)


def still_logged_in(client: TaskClient, broker: Broker, now: datetime) -> TaskClient:
    """Return the client as it is now: whoever waited for something may not be the same any more.

    Raises:
        AuthenticationError: if the task may not act now.
        RefusedError: if another key stands for it by now.
    """
    if is_as_it_was(client.running, broker.tasks, now):
        return client
    found = running(client.running.hop, broker.tasks, now)
    if found.task.thumbprint != client.thumbprint:
        raise refuse(Code.NOT_BOUND, "the certificate of the task was replaced meanwhile")
    return replace(client, running=found)


async def proof_of(
    arrival: Arrival, login: Login, broker: Broker, now: datetime, *, endpoint: str
) -> DpopProof | None:
    """Verify the proof that came with a request to an endpoint of ours, and count it; None if none came.

    Raises:
        DpopError: if it does not count.
        AuthenticationError: if it was presented before.
    """
    if not arrival.proofs:
        return None
    proof = client_proof(arrival.proofs, HttpUri.parse(endpoint), now, broker.nonces)
    if proof is not None:
        # The memory may be a file that other processes share.
        presenter = _presenter(login.client)
        await asyncio.to_thread(spend, proof, broker.replay, presenter=presenter, now=now)
        # Only now: whoever lacked a nonce comes again with the same login.
        if login.unverified_bearer is not None:
            await _spend_assertion(login.unverified_bearer, login.client, broker, now)
    return proof


def _client(
    svid: X509Svid | None, unverified_assertion: str | None, broker: Broker, now: datetime
) -> TaskClient:
    registered: Registered = broker.tasks
    if unverified_assertion is None:
        if svid is None:
            raise refuse(Code.PEER_MISSING, "neither a certificate nor an assertion")
        return task_client(svid, registered, now)
    client = assertion_client(unverified_assertion, broker, now)
    if svid is None:
        return client
    if parse_agent_task(svid.spiffe_id) is not None:
        presented = task_client(svid, registered, now)
        if presented.spiffe_id == client.spiffe_id:
            return presented
    elif svid.spiffe_id == client.running.task.workload:
        return replace(client, shown="workload")
    raise refuse(Code.TASK_MISMATCH, "the certificate and the assertion are of two clients")


async def _spend_assertion(
    unverified_assertion: str, client: TaskClient, broker: Broker, now: datetime
) -> None:
    # What is signed, not the signature: an ECDSA signature has a second spelling.
    signed = unverified_assertion.rpartition(".")[0]
    digest = hashlib.sha256(signed.encode("utf-8", "surrogatepass")).hexdigest()
    until = int(client.not_after.timestamp()) + broker.settings.leeway + 1
    try:
        is_first = await asyncio.to_thread(
            broker.replay.first_time, "assertion", digest, until, presenter=_presenter(client), now=now
        )
    except StoreError as error:
        raise refuse(Code.REPLAY_UNKNOWN, str(error)) from error
    if not is_first:
        raise refuse(Code.REPLAYED, "an assertion that was presented before, with a proof")


def _presenter(client: TaskClient) -> str:
    """Name who shares one part of the memory: all runs of one agent."""
    return f"agent {client.running.hop.agent}"
