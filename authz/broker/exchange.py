"""The decision of a token exchange: who is given what, for whom (RFC 8693).

- The person let the agent act, by a grant or by `may_act`; the policy is asked, too, with the whole chain,
  once for each service that the scopes name; nothing given outlives what stands behind it (CL-07).
- A token has a scope of its own service. A scope of a further one lets that one be called on behalf of the
  chain: the service presents what it got (a transaction token). Where the policy refuses that one, its scopes
  are left out.
- What is given is bound to the presenter: to its certificate, to the key of its proof, or to its workload. It
  goes from one key to another only where the client proves the first: a JWT-SVID alone proves none (TX-11).
"""

from datetime import datetime

from authz.broker.basis import Basis, Wanted, handover_basis, names, sign_in_basis
from authz.broker.client import check_client_id
from authz.broker.deps import Broker
from authz.broker.parties import Case, Parties, Presenter, find_parties, is_proved
from authz.broker.query import exchange_query
from authz.broker.refusal import malformed, refuse, refused_by_policy
from authz.broker.token_request import TokenRequest
from authz.codes import Code
from identity.actor_chain import check_chain
from identity.caller import Binding, DpopBinding, KeyBinding, WorkloadBinding
from identity.delegation import Delegation, DelegationToken
from identity.dpop import DpopProof
from identity.errors import ExchangeError, TokenExpiredError
from identity.exchange import SignedIn, Terms, narrow


async def decide_exchange(case: Case) -> Delegation:
    """Decide what the client, or the actor that it names, is given.

    Raises:
        RefusedError, CodedError, TokenError or ExchangeError: if nothing is.
    """
    broker, evidence, request = case.broker, case.evidence, case.request
    min_epoch = broker.tasks.epoch
    # 1. The client is who it says; its own name in the form is checked, never used.
    check_client_id(request.client_id, case.client)
    # 2. The service, before any token is looked at.
    audience, service = find_service(request, broker)
    evidence.service = service
    # 3. The subject is the client's own; the presenter is the client or the actor.
    parties = await find_parties(case)
    binding = evidence.binding = _binding(request, parties.presenter, case.proof)
    evidence.chain, evidence.txn = parties.chain, parties.subject.txn
    _check_rebinding(parties, binding, case)
    # 4. What nobody could allow.
    not_after = parties.not_after
    if not_after <= case.now:
        raise TokenExpiredError("a subject or actor token that has expired")
    max_depth = min(broker.settings.max_depth, *[agent.max_depth for agent in parties.agents])
    check_chain(parties.chain, max_depth)
    # 5. The person.
    services = _services(service, audience, _asked(request, parties.subject), broker)
    _check_locations(request, services)
    wanted = Wanted(services, request.scopes, case.now)
    basis = _basis(parties, wanted, broker)
    # 6. The policy, with the whole chain.
    allowed = await _ask_policy(case, parties, binding, wanted)
    # 7. What is left of everything.
    terms = Terms(
        issuer=broker.settings.issuer,
        trust_domain=broker.authority.trust_domain,
        audience=audience,
        allowed_scopes=allowed if basis.scopes is None else allowed & basis.scopes,
        presenter=parties.presenter.running.hop,
        binding=binding,
        task_deadline=_earlier(not_after, basis.not_after),
        max_ttl=broker.settings.delegation_token_seconds,
        max_depth=max_depth,
        grant_id=basis.grant_id,
        allowed_details=basis.details,
        requested_details=request.details,
        min_epoch=min_epoch,
    )
    delegation = narrow(parties.subject, terms, request.scopes, case.now, broker.new_token_name())
    if {scope.partition(":")[0] for scope in delegation.scopes} <= {name for name, _ in services[1:]}:
        raise ExchangeError("invalid_scope", "none of the requested scopes is of this service")
    return delegation


def find_service(request: TokenRequest, broker: Broker) -> tuple[str, str]:
    """Return audience and service that a request names: a service's own, or another domain's for an ID-JAG.

    Raises:
        RefusedError: if there is none.
    """
    settings = broker.settings
    if request.output == "id-jag":
        target = settings.find_assertion_target(request.audience)
        if target is not None:
            return target.issuer, target.service
    elif (audience := settings.find_audience(request.audience)) is not None:
        return audience, settings.audiences[audience]
    raise refuse(Code.SERVICE_UNKNOWN, f"audience {request.audience[:255]!r}")


def _services(
    service: str, audience: str, scopes: frozenset[str], broker: Broker
) -> tuple[tuple[str, str], ...]:
    """Return the services that the scopes name, the token's own first; a name that is none is left out."""
    further = {scope.partition(":")[0] for scope in scopes} - {service}
    known = ((name, broker.settings.audience_of(name)) for name in sorted(further))
    return ((service, audience), *((name, found) for name, found in known if found is not None))


def _check_locations(request: TokenRequest, services: tuple[tuple[str, str], ...]) -> None:
    """Refuse details of a service that the token is not for: nobody would ever hold a call against them."""
    audiences = {audience for _, audience in services}
    if any(detail.location not in audiences for detail in request.details or ()):
        text = "an authorization detail is of a service that the scopes do not name"
        raise ExchangeError("invalid_authorization_details", text)


def _basis(parties: Parties, wanted: Wanted, broker: Broker) -> Basis:
    consents = broker.tasks.consents_of(parties.human.uri)
    agent = parties.agents[0]
    if parties.sign_in is not None:
        may_act = parties.sign_in.may_act
        if may_act is None:
            return sign_in_basis(parties.sign_in, agent, consents, wanted)
        ours = (broker.settings.issuer, broker.trust_domain)
        if not names(may_act, agent, parties.human.issuer, ours):
            raise refuse(Code.MAY_ACT, f"may_act names {may_act.sub!r}")
        return Basis()
    if not parties.is_handed_on or not isinstance(parties.subject, DelegationToken):
        return Basis()
    origin = broker.tasks.consent(parties.subject.grants[0]) if parties.subject.grants else None
    return handover_basis(parties.subject, agent, origin, consents, wanted)


async def _ask_policy(case: Case, parties: Parties, binding: Binding, wanted: Wanted) -> frozenset[str]:
    """Return the scopes that the policy allows; a policy that names none allows none (NR-02)."""
    allowed: set[str] = set()
    for service, _ in wanted.services:
        verdict = await case.broker.policy.decide(
            exchange_query(
                human=parties.human,
                agents=parties.agents,
                task=parties.presenter.running.task,
                peer=case.client.spiffe_id,
                binding=binding,
                scopes=_asked(case.request, parties.subject),
                service=service,
            )
        )
        case.evidence.revision = verdict.revision
        if verdict.effect == "allow":
            allowed.update(verdict.obligations.get("scopes", ()))
        elif service == wanted.services[0][0]:
            raise refused_by_policy(verdict)
    return frozenset(allowed)


def _binding(request: TokenRequest, presenter: Presenter, proof: DpopProof | None) -> Binding:
    if request.binding == "workload":
        if proof is not None and request.unverified_actor is None:
            raise malformed("a token is bound to the key of a proof or to a workload, not to both")
        return WorkloadBinding(presenter.running.task.workload)
    # A proof is the client's; an actor's token is bound to the actor.
    if proof is not None and request.unverified_actor is None:
        return DpopBinding(proof.jkt)
    if presenter.thumbprint is None:
        raise refuse(Code.NOT_BOUND, f"task {presenter.running.task.id!r} has no key to bind to")
    return KeyBinding(presenter.thumbprint)


def _check_rebinding(parties: Parties, binding: Binding, case: Case) -> None:
    """Refuse to take a token that is bound to something which the client did not prove to something else.

    The key of a task stands for it also where it is not shown: nobody else could use what is bound to it. An
    assertion for another domain's server is bound to no key.

    Raises:
        RefusedError: with NOT_BOUND.
    """
    subject = parties.subject
    if parties.is_handed_on or not isinstance(subject, DelegationToken):
        return
    stays = isinstance(binding, KeyBinding) or binding == subject.binding
    if not (stays and case.request.output == "access_token") and not is_proved(subject.binding, case.client):
        raise refuse(Code.NOT_BOUND, "a token is bound anew by whoever proves what it was bound to")


def _asked(request: TokenRequest, subject: SignedIn | DelegationToken) -> frozenset[str]:
    held = subject.scopes if isinstance(subject, DelegationToken) else None
    if request.scopes is None:
        return held or frozenset()
    return request.scopes if held is None else request.scopes & held


def _earlier(one: datetime, other: datetime | None) -> datetime:
    return one if other is None else min(one, other)
