"""The token endpoint (RFC 8693): bytes in, a delegation token or an OAuth error out.

- The client logs in with the X.509-SVID of a running task over mTLS, and in no other way (CA-02, CA-04).
- Every answer has its record before it; a token that is recorded as issued is given out, or a second record
  says that it was not.
- The answer's form is that of RFC 8693 section 2.2.1; never a refresh token. An error has the form of
  RFC 6749 section 5.2, and beside it our reason code and the id of the decision (TX-05, TX-06).
"""

import hashlib
from datetime import UTC, datetime

from authz.audit.facts import Issued
from authz.broker.arrival import Arrival
from authz.broker.client import TaskClient, authenticate, task_client
from authz.broker.deps import Broker
from authz.broker.evidence import Evidence
from authz.broker.exchange import Case, decide_exchange
from authz.broker.form import is_form
from authz.broker.query import EXCHANGE
from authz.broker.refusal import RefusedError, malformed, oauth_error, refused_client
from authz.broker.reply import Outcome, Reply, answer
from authz.broker.token_request import ACCESS_TOKEN, TokenRequest
from authz.codes import Code
from identity.delegation import Delegation, issue_delegation_token
from identity.errors import ExchangeError
from identity.scopes import format_scopes

_STATUS = {"invalid_client": 401, "temporarily_unavailable": 503}


async def exchange_token(arrival: Arrival, broker: Broker) -> Reply:
    """Answer one token request; this never raises."""
    now = broker.clock()
    evidence = Evidence("exchange", EXCHANGE, broker.new_id(now), now, arrival.source)

    async def decide() -> Outcome:
        client = _client(arrival, broker, evidence, now)
        request = _parse(arrival)
        delegation = await decide_exchange(Case(request, client, broker, evidence, now))
        return _issue(delegation, evidence, broker)

    return await answer(decide, evidence, broker, error_reply)


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


def _client(arrival: Arrival, broker: Broker, evidence: Evidence, now: datetime) -> TaskClient:
    try:
        svid = authenticate(arrival.chain, broker, now)
        evidence.peer = svid.spiffe_id
        client = task_client(svid, broker.tasks, now)
    except Exception as error:
        raise refused_client(error) from error
    evidence.chain = (client.running.hop,)
    return client


def _parse(arrival: Arrival) -> TokenRequest:
    """Check the form of the HTTP request (TX-01), then that of the token request."""
    if arrival.method != "POST" or arrival.has_query:
        raise malformed("a token request is a POST without a query")
    if arrival.has_authorization:
        raise malformed("a client logs in with its certificate and nothing else")
    if not is_form(arrival.content_type):
        raise malformed("the content type is not application/x-www-form-urlencoded")
    try:
        return TokenRequest.parse(arrival.bounded_body())
    except ExchangeError as error:
        raise malformed(error.description, oauth_error(error.error)) from error


def _issue(delegation: Delegation, evidence: Evidence, broker: Broker) -> Outcome:
    token = issue_delegation_token(broker.authority.token_key, delegation)
    evidence.jti = delegation.jti
    issued = Issued(
        kind="delegation-token",
        subject=delegation.human.uri,
        expires_at=datetime.fromtimestamp(delegation.expires_at, UTC),
        audience=delegation.audience,
        token_id=hashlib.sha256(token.encode("ascii")).hexdigest(),
        scopes=delegation.scopes,
    )
    body = {
        "access_token": token,
        "issued_token_type": ACCESS_TOKEN,
        # Bound by a certificate, a token is still of type Bearer (RFC 8705 section 3).
        "token_type": "Bearer",
        "expires_in": delegation.expires_at - delegation.issued_at,
        "scope": format_scopes(delegation.scopes),
        "decision_id": evidence.decision_id,
    }
    return Outcome(evidence.allowed(issued, broker.clock()), Reply(200, body))
