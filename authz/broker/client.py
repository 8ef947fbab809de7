"""Who is at the other end of the connection: a workload of the mesh, or a task of an agent (CA-02).

- Over mTLS the certificate says who it is; on a Unix socket the kernel, or the cluster's API server, does
  (authz/identity_service). What is asked for later is the same.
- The chain that TLS verified is verified again at each request, as an X.509-SVID, with the roots of its own
  trust domain; a certificate alone says who holds a key, not that anybody may do anything.
- Workloads may be of other trust domains, those of the hosts of agents; tasks are of ours only.
- A task counts while it runs, its agent is registered, and its workload may still host that agent.
- Of a task's certificates only the newest counts here: whoever holds an older key can neither renew it nor
  take what is delegated to the task, and a renewal by somebody else does not stay unnoticed.
- An ID below `/agent/` never counts as a workload: a task cannot start tasks.
- Where a JWT-SVID logs a task in (CA-01), the key that stands for the task is the one of its newest
  certificate: what is issued is bound to that key, so a stolen login gives nothing that could be used.
- What was contained is no client: an agent, its workload, its person.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

from authz.authenticate import Registered, check_standing, live_agent, live_task
from authz.broker.deps import Broker
from authz.broker.refusal import refuse
from authz.codes import Code
from authz.errors import AuthenticationError
from identity.caller import Agent, Hop, Human, Task
from identity.errors import CertificateError
from identity.jws import UnverifiedToken
from identity.jwt_svid import verify_jwt_svid
from identity.quick_init import quick_init
from identity.spiffe import SpiffeId, agent_id, parse_agent_task
from identity.withdrawal import Standing, Withdrawals
from identity.x509_svid import X509Svid

_AGENTS = "/agent/"


@quick_init
@dataclass(frozen=True, slots=True)
class Running:
    """A task that runs, and its agent; `withdrawals` are those that neither stands in."""

    hop: Hop
    agent: Agent
    task: Task
    withdrawals: Withdrawals = field(repr=False, compare=False)


@quick_init
@dataclass(frozen=True, slots=True)
class TaskClient:
    """A client that is a running task: the key that stands for it, and until when its login counts.

    `shown` is what its connection proved: that key, the workload that started it, or neither (a JWT-SVID).
    """

    spiffe_id: SpiffeId
    running: Running
    thumbprint: str | None
    not_after: datetime
    shown: Literal["key", "workload", "neither"] = "neither"


@dataclass(frozen=True, slots=True)
class Attested:
    """Who asks about a task: `origin` is the process instance that was seen, `svid` the key it proved."""

    spiffe_id: SpiffeId
    origin: str | None = None
    svid: X509Svid | None = field(default=None, repr=False)


def check_client_id(client_id: str | None, client: TaskClient | SpiffeId) -> None:
    """Refuse a `client_id` that names another than the one who logged in; it is checked, and never used.

    A service is known by its SPIFFE ID; a task by that, by its agent's name, and by its agent's stable ID.

    Raises:
        RefusedError: with TASK_MISMATCH, as `invalid_client`.
    """
    if client_id is None:
        return
    if isinstance(client, TaskClient):
        agent = client.running.hop.agent
        names = {agent, str(agent_id(client.spiffe_id.trust_domain, agent)), str(client.spiffe_id)}
    else:
        names = {str(client)}
    if client_id not in names:
        raise refuse(
            Code.TASK_MISMATCH,
            f"client_id {client_id[:255]!r} is not the client",
            oauth="invalid_client",
            description="client_id names another than the one who logged in",
        )


def authenticate(chain: Sequence[bytes], broker: Broker, now: datetime) -> X509Svid:
    """Verify the certificates of the connection.

    Raises:
        AuthenticationError: with PEER_MISSING if there is none that counts here; that of an agent of another
            trust domain does not.
    """
    if not chain:
        raise AuthenticationError(Code.PEER_MISSING, "no client certificate")
    try:
        svid = broker.peers.verify(chain, now)
    except CertificateError as error:
        raise AuthenticationError(Code.PEER_MISSING, str(error)) from error
    # A task is named by a path; the same path in another trust domain is somebody else's.
    if svid.spiffe_id.trust_domain != broker.trust_domain and svid.spiffe_id.path.startswith(_AGENTS):
        raise AuthenticationError(Code.PEER_MISSING, f"an agent of elsewhere: {str(svid.spiffe_id)!r}")
    return svid


def task_client(svid: X509Svid, registered: Registered, now: datetime) -> TaskClient:
    """Return the running task that the certificate is of.

    Raises:
        AuthenticationError: if it is not of a task, or the task may not act now.
        RefusedError: if a newer certificate has replaced it.
    """
    named = parse_agent_task(svid.spiffe_id)
    if named is None:
        raise AuthenticationError(Code.TASK_UNKNOWN, f"not a task's identity: {str(svid.spiffe_id)!r}")
    found = running(Hop(*named), registered, now)
    check_newest(svid, found.task)
    return TaskClient(svid.spiffe_id, found, svid.thumbprint, svid.not_after, "key")


def assertion_client(unverified_assertion: str, broker: Broker, now: datetime) -> TaskClient:
    """Return the running task that a JWT-SVID for this broker is of (CA-01, `jwt-spiffe`).

    Raises:
        TokenError: if it is not one: the keys are our trust domain's, the audience is our issuer alone.
        AuthenticationError: if it is not of a task, or the task may not act now.
    """
    svid = verify_jwt_svid(
        UnverifiedToken.parse(unverified_assertion),
        {broker.trust_domain: broker.authority.svid_keys},
        audience=broker.settings.issuer,
        now=now,
        leeway=broker.settings.leeway,
    )
    named = parse_agent_task(svid.spiffe_id)
    if named is None:
        raise AuthenticationError(Code.TASK_UNKNOWN, f"not a task's identity: {str(svid.spiffe_id)!r}")
    found = running(Hop(*named), broker.tasks, now)
    not_after = datetime.fromtimestamp(svid.expires_at, UTC)
    return TaskClient(svid.spiffe_id, found, found.task.thumbprint, not_after)


def check_newest(svid: X509Svid, task: Task) -> None:
    """Refuse a certificate of a task that a newer one has replaced.

    Raises:
        RefusedError: with NOT_BOUND.
    """
    if not hmac.compare_digest(svid.thumbprint.encode(), (task.thumbprint or "").encode()):
        text = "this certificate was replaced by a newer one of the same task"
        raise refuse(Code.NOT_BOUND, text, description=text)


def workload_client(spiffe_id: SpiffeId) -> SpiffeId:
    """Return the ID of a client that is a workload.

    Raises:
        AuthenticationError: if it is an agent.
    """
    if spiffe_id.path.startswith(_AGENTS):
        raise AuthenticationError(Code.AGENT_HOST, f"an agent is no workload: {str(spiffe_id)!r}")
    return spiffe_id


def is_as_it_was(found: Running, registered: Registered, now: datetime) -> bool:
    """Say whether what `running` found is what it would find now: the same values, and time is left.

    Agents, tasks and withdrawals are immutable values, so a change of one is another value.
    """
    agent, task = registered.agent(found.hop.agent), registered.task(found.hop.task)
    return (
        agent is found.agent
        and task is found.task
        and registered.withdrawals is found.withdrawals
        and now < found.task.deadline
        and (found.agent.expires_at is None or now < found.agent.expires_at)
    )


@lru_cache(maxsize=1024)  # the persons of our own tasks, at each request of theirs
def _person(uri: str) -> Human:
    return Human.parse_uri(uri)


def running(hop: Hop, registered: Registered, now: datetime) -> Running:
    """Return a task that may act now.

    Raises:
        AuthenticationError: if task or agent is unknown, over, or hosted where it may not be.
    """
    # The first of all: what is withdrawn while this looks is then another value.
    withdrawals = registered.withdrawals
    agent = live_agent(registered, hop.agent, now)
    known = registered.task(hop.task)
    human = _person(known.human) if known and known.human else None
    task = live_task(registered, hop, human, now)
    if task.workload not in agent.hosts:
        raise AuthenticationError(Code.AGENT_HOST, f"{str(task.workload)!r} may not host {agent.name!r}")
    standing = Standing(
        human=task.human,
        agents=(agent.name,),
        tasks=(task.id,),
        workloads=(str(task.workload),),
        issued_at=int(task.started_at.timestamp()),
    )
    check_standing(standing, registered)
    return Running(hop, agent, task, withdrawals)
