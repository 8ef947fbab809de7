"""The token endpoint (RFC 8693): bytes in, a token or an OAuth error out.

- The client is a running task: its X.509-SVID over mTLS, or a JWT-SVID (authz/broker/login.py).
- Three kinds of token come out: an access token that names both principals (`at+jwt`), an identity assertion
  for another domain's server (ID-JAG), and a transaction token for one call (transaction_endpoint.py), which
  a service may ask for as well.
- Every answer has its record before it; a token that is recorded as issued is given out, or a second record
  says that it was not.
- The answer's form is that of RFC 8693 section 2.2.1; never a refresh token. An error has the form of
  RFC 6749 section 5.2, and beside it our reason code and the id of the decision (TX-05, TX-06).
"""

from dataclasses import replace
from datetime import UTC, datetime

from authz.audit.facts import Issued
from authz.broker.arrival import Arrival
from authz.broker.client import TaskClient
from authz.broker.deps import Broker
from authz.broker.evidence import Evidence
from authz.broker.exchange import decide_exchange
from authz.broker.form import Form
from authz.broker.login import Login, log_in, proof_of, still_logged_in
from authz.broker.login_form import login_form
from authz.broker.parties import Case
from authz.broker.query import EXCHANGE
from authz.broker.refusal import RefusedError, malformed, oauth_error, refuse, refused_client
from authz.broker.reply import Outcome, RefusalReply, Reply, answer
from authz.broker.token_request import ACCESS_TOKEN, ID_JAG, TokenRequest
from authz.broker.transaction_endpoint import Asked, ask_replacement, decide_transaction, read
from authz.broker.transaction_request import is_replacement, is_transaction
from authz.codes import Code
from identity.authorization_details import details_json
from identity.caller import DpopBinding
from identity.claims import lifetime
from identity.delegation import Delegation, issue_delegation_token
from identity.dpop import DpopProof
from identity.errors import ExchangeError
from identity.id_jag import IdentityAssertion, issue_id_jag
from identity.jws import token_id_of
from identity.scopes import format_scopes

_STATUS = {"invalid_client": 401, "temporarily_unavailable": 503}
_NONCE = "DPoP-Nonce"


async def exchange_token(arrival: Arrival, broker: Broker) -> Reply:
    """Answer one token request; this never raises."""
    now = broker.clock()
    evidence = Evidence("exchange", EXCHANGE, broker.new_id(now), now, arrival.source)
    # Proof and login count once, so that they are not asked for again when rights moved meanwhile.
    known: tuple[TokenRequest, TaskClient, DpopProof | None] | Asked | None = None

    async def decide() -> Outcome:
        nonlocal known
        if known is None:
            known = await _who(arrival, evidence, broker, now)
        if isinstance(known, Asked):
            return await decide_transaction(known, evidence, broker)
        request, client, proof = known
        client = _still(client, broker)
        delegation = await decide_exchange(Case(request, client, proof, broker, evidence, now))
        return _issue(request, delegation, evidence, broker)

    return await answer(decide, evidence, broker, _refusal(broker))


def error_reply(refusal: RefusedError, decision_id: str) -> Reply:
    """Return the error response (RFC 6749 section 5.2)."""
    too_large = refusal.deny.code == Code.BODY_TOO_LARGE.value
    return Reply(
        413 if too_large else _STATUS.get(refusal.oauth, 400),
        {
            "error": refusal.oauth,
            "error_description": refusal.description,
            "deputy_code": refusal.deny.code,
            "decision_id": decision_id,
        },
    )


def _refusal(broker: Broker) -> RefusalReply:
    """Return errors with a nonce beside them, where one was missing (RFC 9449 section 8)."""

    def reply(refusal: RefusedError, decision_id: str) -> Reply:
        error = error_reply(refusal, decision_id)
        if refusal.oauth == "use_dpop_nonce" and broker.nonces is not None:
            return replace(error, headers={_NONCE: broker.nonces.current(broker.clock())})
        return error

    return reply


async def _who(
    arrival: Arrival, evidence: Evidence, broker: Broker, now: datetime
) -> tuple[TokenRequest, TaskClient, DpopProof | None] | Asked:
    """Log the client in, then read what it asks for."""
    try:
        form, assertion = _login_of(arrival)
    except RefusedError:
        # Whoever shows a certificate is known by it, whatever the form is.
        if arrival.chain:
            await _logged_in(arrival, None, evidence, broker, now)
        raise
    if is_replacement(form):
        return ask_replacement(arrival, form, evidence, broker, now)
    login = await _logged_in(arrival, assertion, evidence, broker, now)
    if is_transaction(form):
        transaction = read(form)
        proof = await proof_of(arrival, login, broker, now, endpoint=broker.settings.token_endpoint)
        return Asked(transaction, login.client, proof)
    try:
        request = TokenRequest.parse(form)
    except ExchangeError as error:
        raise malformed(error.description, oauth_error(error.error)) from error
    proof = await proof_of(arrival, login, broker, now, endpoint=broker.settings.token_endpoint)
    return request, login.client, proof


def _still(client: TaskClient, broker: Broker) -> TaskClient:
    try:
        return still_logged_in(client, broker, broker.clock())
    except Exception as error:
        raise refused_client(error) from error


async def _logged_in(
    arrival: Arrival, assertion: str | None, evidence: Evidence, broker: Broker, now: datetime
) -> Login:
    try:
        return await log_in(arrival, assertion, evidence, broker, now)
    except Exception as error:
        raise refused_client(error) from error


def _login_of(arrival: Arrival) -> tuple[Form, str | None]:
    """Check the form of the HTTP request (TX-01), and find the login in it."""
    if arrival.method != "POST" or arrival.has_query:
        raise malformed("a token request is a POST without a query")
    return login_form(arrival)


def _issue(request: TokenRequest, delegation: Delegation, evidence: Evidence, broker: Broker) -> Outcome:
    if request.output == "id-jag":
        return _issue_assertion(request, delegation, evidence, broker)
    token = issue_delegation_token(broker.authority.token_key, delegation)
    evidence.jti = delegation.jti
    issued = Issued(
        kind="delegation-token",
        subject=delegation.human.uri,
        expires_at=datetime.fromtimestamp(delegation.expires_at, UTC),
        audience=delegation.audience,
        token_id=token_id_of(token),
        scopes=delegation.scopes,
    )
    # Bound by a certificate, a token is still of type Bearer (RFC 8705 section 3).
    kind = "DPoP" if isinstance(delegation.binding, DpopBinding) else "Bearer"
    body = {"issued_token_type": ACCESS_TOKEN, "token_type": kind, **_common(token, delegation, evidence)}
    return Outcome(evidence.allowed(issued, broker.clock()), Reply(200, body))


def _issue_assertion(
    request: TokenRequest, delegation: Delegation, evidence: Evidence, broker: Broker
) -> Outcome:
    """Turn what the agent would be given into an assertion for another domain's server (CL-05)."""
    target = broker.settings.find_assertion_target(request.audience)
    client_id = target.clients.get(delegation.client_id) if target is not None else None
    if client_id is None:
        raise refuse(Code.SERVICE_UNKNOWN, f"{delegation.client_id!r} is not known at that server")
    ttl = broker.settings.id_jag_seconds
    issued_at, expires_at = lifetime(broker.clock(), ttl, delegation.expires_at)
    assertion = IdentityAssertion(
        issuer=delegation.issuer,
        trust_domain=delegation.trust_domain,
        human=delegation.human,
        audience=delegation.audience,
        client_id=client_id,
        scopes=delegation.scopes,
        chain=delegation.chain,
        txn=delegation.txn,
        jti=delegation.jti,
        issued_at=issued_at,
        expires_at=expires_at,
        details=delegation.details,
    )
    token = issue_id_jag(broker.authority.token_key, assertion)
    evidence.jti = assertion.jti
    issued = Issued(
        kind="id-jag",
        subject=delegation.human.uri,
        expires_at=datetime.fromtimestamp(expires_at, UTC),
        audience=delegation.audience,
        token_id=token_id_of(token),
        scopes=delegation.scopes,
    )
    given = replace(delegation, issued_at=issued_at, expires_at=expires_at)
    body = {"issued_token_type": ID_JAG, "token_type": "N_A", **_common(token, given, evidence)}
    return Outcome(evidence.allowed(issued, broker.clock()), Reply(200, body))


def _common(token: str, delegation: Delegation, evidence: Evidence) -> dict[str, object]:
    # RFC 9396 section 7: the client is told what was granted, be it what it asked for or less.
    details = delegation.details
    return {
        **({} if details is None else {"authorization_details": details_json(details)}),
        "access_token": token,
        "expires_in": delegation.expires_at - delegation.issued_at,
        "scope": format_scopes(delegation.scopes),
        "decision_id": evidence.decision_id,
    }
