"""Who is calling: a credential verified, then bound to the peer that presents it.

- Three credentials count: (a) a delegation token, (b) an agent's own JWT-SVID, which counts only for an
  autonomous agent in a task that was started for nobody: an agent cannot shed its human to gain rights;
  (c) the transaction token of a call, with which the service that got it passes the call on.
- A transaction token stands in `Txn-Token` and nowhere else, alone, and counts from a workload of the very
  service that it names. Person, chain, task and scopes stay what they are; who asked before is kept (CL-04).
- An SVID of another trust domain counts for an agent that is registered under that domain and its name, and
  is verified with that domain's keys alone; what we know of its run is what authz/federated_task.py says.
- The key is chosen by what the credential claims to be, from that issuer's keys alone; kinds never mix.
- A delegation token is always bound: to the key of the peer's certificate, to one attested workload, or to a
  key that proves itself at each request. The last one comes as `DPoP`, every other one as `Bearer` (RFC 9449
  section 7.1).
- Everybody in the chain must still be registered, and every task of it alive.
- Nobody and nothing of it may have been withdrawn: person, agents, runs, workloads, grant, token.
- `verify` and `bind` are two steps, so that the record of a stolen token can name its owner and the thief.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, assert_never

from authz.codes import Code
from authz.dpop import DPOP_SCHEME, verify_possession
from authz.errors import AuthenticationError
from authz.federated_task import federated_task, federated_txn
from authz.presented import passed_on, presented, require_bearer
from authz.request import Request
from authz.services import Service, Services
from authz.token_cache import VerifiedTokens
from identity.caller import (
    MAX_REQUESTERS,
    Agent,
    BindingKind,
    Caller,
    DpopBinding,
    Hop,
    Human,
    KeyBinding,
    Task,
    WorkloadBinding,
)
from identity.delegation import DELEGATION_TYP, DelegationToken, verify_delegation_token
from identity.dpop import DpopProof
from identity.errors import (
    ChainError,
    TokenAlgorithmError,
    TokenAudienceError,
    TokenError,
    TokenExpiredError,
    TokenIssuerError,
    TokenKeyError,
    TokenMalformedError,
    TokenNotYetValidError,
    TokenSignatureError,
    TokenTypeError,
)
from identity.jws import UnverifiedToken
from identity.jwt_svid import SVID_TYPS, JwtSvid, verify_jwt_svid
from identity.keys import KeySet
from identity.qualified_name import hop_of
from identity.spiffe import SpiffeId, TrustDomain, parse_agent_task
from identity.transaction import TransactionToken, verify_passed_on
from identity.withdrawal import CONTAINED, Standing, Withdrawals

Credential = DelegationToken | JwtSvid | TransactionToken

_CODES: dict[type[TokenError], Code] = {
    TokenMalformedError: Code.TOKEN_MALFORMED,
    TokenTypeError: Code.TOKEN_TYPE,
    TokenAlgorithmError: Code.TOKEN_ALG,
    TokenKeyError: Code.TOKEN_KEY,
    TokenSignatureError: Code.TOKEN_SIGNATURE,
    TokenExpiredError: Code.TOKEN_EXPIRED,
    TokenNotYetValidError: Code.TOKEN_NOT_YET,
    TokenIssuerError: Code.TOKEN_ISSUER,
    TokenAudienceError: Code.TOKEN_AUDIENCE,
}


class Registered(Protocol):
    """What is known of agents and their tasks, right now."""

    def agent(self, name: str) -> Agent | None:
        """Return the registered agent."""

    def task(self, task_id: str) -> Task | None:
        """Return the task, also one that has ended but is still remembered."""

    @property
    def withdrawals(self) -> Withdrawals:
        """Return all that is withdrawn."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom we believe at one moment; `svid_keys` are by trust domain, our own among them."""

    trust_domain: TrustDomain
    issuer: str
    token_keys: KeySet
    svid_keys: Mapping[TrustDomain, KeySet]
    leeway: int
    max_depth: int


def verify(
    request: Request, service: Service, trust: Trust, now: datetime, known: VerifiedTokens | None = None
) -> Credential:
    """Verify the credential of the request; it is not bound to anybody yet.

    What is `known` was verified before, under the same trust, and is not verified again.

    Raises:
        AuthenticationError: with the code that says what is wrong.
        RequestError: if the header stands twice or is not text, or there are two credentials.
    """
    _peer(request)
    unverified_passed_on = passed_on(request)
    try:
        if unverified_passed_on is not None:
            return verify_passed_on(
                UnverifiedToken.parse(unverified_passed_on),
                trust.token_keys,
                issuer=trust.issuer,
                trust_domain=trust.trust_domain,
                now=now,
                leeway=trust.leeway,
            )
        text = presented(request).unverified_token
        found = known.find(text, service.audience, trust, now) if known is not None else None
        if found is not None:
            return found
        unverified = UnverifiedToken.parse(text)
        credential = _verify(unverified, service, trust, now)
    except TokenError as error:
        raise AuthenticationError(code_of(error), str(error)) from error
    if known is not None:
        known.keep(text, service.audience, unverified, credential, trust, trust.leeway)
    return credential


def _verify(
    unverified: UnverifiedToken, service: Service, trust: Trust, now: datetime
) -> DelegationToken | JwtSvid:
    if unverified.typ == DELEGATION_TYP:
        return verify_delegation_token(
            unverified,
            trust.token_keys,
            issuer=trust.issuer,
            audience=service.audience,
            now=now,
            leeway=trust.leeway,
            max_depth=trust.max_depth,
        )
    if unverified.typ in SVID_TYPS:
        return verify_jwt_svid(
            unverified, trust.svid_keys, audience=service.audience, now=now, leeway=trust.leeway
        )
    raise TokenTypeError(f"not a delegation token or a JWT-SVID: typ {unverified.typ!r}")


def bind(  # noqa: PLR0917 - all that a credential is held against
    credential: Credential,
    request: Request,
    registered: Registered,
    trust: Trust,
    now: datetime,
    services: Services | None = None,
) -> Caller:
    """Bind a verified credential to the peer, the registry and the tasks.

    Of `services` the workloads may pass calls on; without them nobody may.

    Raises:
        AuthenticationError: with the code that says what is wrong.
        RequestError: if a header that is needed stands twice or is not text.
    """
    return bind_with_proof(credential, request, registered, trust, now, services)[0]


def bind_with_proof(  # noqa: PLR0917 - as `bind`
    credential: Credential,
    request: Request,
    registered: Registered,
    trust: Trust,
    now: datetime,
    services: Services | None = None,
) -> tuple[Caller, DpopProof | None]:
    """Bind as `bind` does, and return the proof that the caller then has spent.

    Raises:
        AuthenticationError: with the code that says what is wrong.
        RequestError: if a header that is needed stands twice or is not text.
    """
    peer = _peer(request)
    match credential:
        case DelegationToken():
            kind, proof = _check_binding(credential, peer, request, trust, now)
            return caller_of(credential, peer, kind, registered, now), proof
        case JwtSvid():
            require_bearer(request)
            return _bind_svid(credential, peer, registered, trust, now), None
        case TransactionToken():
            check_workload(credential, peer, services)
            return caller_of(credential, peer, "workload", registered, now), None
        case _:
            assert_never(credential)


def check_workload(token: TransactionToken, peer: SpiffeId, services: Services | None) -> None:
    """Refuse a transaction token of whoever is no workload of the service that it was made for.

    Raises:
        AuthenticationError: with NOT_BOUND.
    """
    service = services.by_name.get(token.service) if services is not None else None
    if service is None or peer not in service.workloads:
        raise AuthenticationError(Code.NOT_BOUND, f"the transaction token is for {token.service!r}")


def caller_of(
    token: DelegationToken | TransactionToken,
    peer: SpiffeId,
    kind: BindingKind,
    registered: Registered,
    now: datetime,
) -> Caller:
    """Return who stands behind a token that is bound to its peer: all registered, alive, and not withdrawn.

    Raises:
        AuthenticationError: with the code that says what is wrong.
    """
    agents = tuple(live_agent(registered, hop.agent, now) for hop in token.chain)
    tasks = tuple(live_task(registered, hop, token.human, now) for hop in token.chain)
    if len(agents) > min(agent.max_depth for agent in agents):
        raise AuthenticationError(Code.CHAIN_DEPTH, f"{len(agents)} agents, and one of them allows fewer")
    caller = Caller(
        human=token.human,
        agent=agents[0],
        task=tasks[0],
        chain=token.chain,
        chain_agents=agents,
        peer=peer,
        binding=kind,
        scopes=token.scopes,
        token_id=token.token_id,
        txn=token.txn,
        expires_at=token.expires_at,
        issued_at=token.issued_at,
        jti=token.jti,
        grants=token.grants,
        details=token.details,
        requesters=_requesters(token) if isinstance(token, TransactionToken) else (),
        parents=token.parents,
    )
    workloads = (*(task.workload for task in tasks), *caller.requesters)
    check_standing(Standing.of(caller, workloads), registered)
    return caller


def _requesters(token: TransactionToken) -> tuple[SpiffeId, ...]:
    requesters = (*token.requesters, token.requester)
    if len(requesters) > MAX_REQUESTERS:
        raise AuthenticationError(Code.CHAIN_DEPTH, f"passed on more than {MAX_REQUESTERS} times")
    return requesters


def code_of(error: TokenError) -> Code:
    """Return the reason code of a token error."""
    if isinstance(error, ChainError):
        return Code.CHAIN_DEPTH if error.reason == "depth" else Code.CHAIN_CYCLE
    return _CODES.get(type(error), Code.TOKEN_CLAIMS)


def _peer(request: Request) -> SpiffeId:
    if request.peer is None:
        raise AuthenticationError(Code.PEER_MISSING)
    return request.peer


def _check_binding(
    token: DelegationToken, peer: SpiffeId, request: Request, trust: Trust, now: datetime
) -> tuple[BindingKind, DpopProof | None]:
    match token.binding:
        case KeyBinding(thumbprint):
            require_bearer(request)
            shown = request.peer_thumbprint or ""
            owner = (token.chain[0].agent, token.chain[0].task)
            same_key = hmac.compare_digest(shown.encode(), thumbprint.encode())
            if not same_key or peer.trust_domain != trust.trust_domain or parse_agent_task(peer) != owner:
                raise AuthenticationError(Code.NOT_BOUND, "the token is bound to another key")
            return "key", None
        case WorkloadBinding(workload):
            require_bearer(request)
            if peer != workload:
                raise AuthenticationError(Code.NOT_BOUND, "the token is bound to another workload")
            return "workload", None
        case DpopBinding(jkt):
            given = presented(request)
            if given.scheme != DPOP_SCHEME:
                raise AuthenticationError(Code.DPOP_MISSING, "the token comes as Bearer")
            return "key", verify_possession(given.unverified_token, jkt, request, now)
        case _:
            assert_never(token.binding)


def _bind_svid(svid: JwtSvid, peer: SpiffeId, registered: Registered, trust: Trust, now: datetime) -> Caller:
    hop = hop_of(svid.spiffe_id, trust.trust_domain)
    if hop is None:
        raise AuthenticationError(
            Code.TOKEN_TYPE, f"not the SVID of an agent's task: {str(svid.spiffe_id)!r}"
        )
    agent = live_agent(registered, hop.agent, now)
    is_ours = svid.spiffe_id.trust_domain == trust.trust_domain
    if is_ours:
        task = _own_task(svid, hop, agent, peer, registered, now)
    else:
        task = federated_task(svid, hop, agent, peer, now)
    caller = Caller(
        human=None,
        agent=agent,
        task=task,
        chain=(hop,),
        chain_agents=(agent,),
        peer=peer,
        binding="svid",
        scopes=frozenset(),
        token_id=svid.token_id,
        txn=task.id if is_ours else federated_txn(svid),
        expires_at=svid.expires_at,
    )
    check_standing(Standing.of(caller, [task.workload]), registered)
    return caller


def _own_task(  # noqa: PLR0917 - all that one run is held against
    svid: JwtSvid, hop: Hop, agent: Agent, peer: SpiffeId, registered: Registered, now: datetime
) -> Task:
    task = registered.task(hop.task)
    if task is None:
        raise AuthenticationError(Code.TASK_UNKNOWN)
    if task.human is not None or not agent.autonomous:
        raise AuthenticationError(Code.HUMAN_MISSING)
    live_task(registered, hop, None, now)
    # The SVID is a bearer token: it counts only from its own task, or from the workload that hosts the task.
    if peer not in {svid.spiffe_id, task.workload}:
        raise AuthenticationError(Code.NOT_BOUND, "the SVID is another workload's")
    return task


def check_standing(standing: Standing, registered: Registered) -> None:
    """Refuse whoever acts by something that was withdrawn.

    Raises:
        AuthenticationError: with REVOKED or CONTAINED.
    """
    withdrawal = registered.withdrawals.find(standing)
    if withdrawal is not None:
        code = Code.CONTAINED if withdrawal.kind in CONTAINED and withdrawal.before is None else Code.REVOKED
        raise AuthenticationError(code, f"{withdrawal.kind} {withdrawal.subject!r}")


def live_agent(registered: Registered, name: str, now: datetime) -> Agent:
    """Return a registered agent that has not expired.

    Raises:
        AuthenticationError: with AGENT_UNKNOWN or AGENT_EXPIRED.
    """
    agent = registered.agent(name)
    if agent is None:
        raise AuthenticationError(Code.AGENT_UNKNOWN, f"agent {name!r}")
    if agent.expires_at is not None and agent.expires_at <= now:
        raise AuthenticationError(Code.AGENT_EXPIRED, f"agent {name!r}")
    return agent


def live_task(registered: Registered, hop: Hop, human: Human | None, now: datetime) -> Task:
    """Return the task of a hop, alive and started for this very agent and human.

    Raises:
        AuthenticationError: with TASK_UNKNOWN, TASK_ENDED or TASK_MISMATCH.
    """
    task = registered.task(hop.task)
    if task is None:
        raise AuthenticationError(Code.TASK_UNKNOWN, f"task {hop.task!r}")
    if not task.is_live(now):
        raise AuthenticationError(Code.TASK_ENDED, f"task {hop.task!r}")
    if task.agent != hop.agent or task.human != (human.uri if human else None):
        raise AuthenticationError(Code.TASK_MISMATCH, f"task {hop.task!r}")
    return task
