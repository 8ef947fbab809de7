"""Introspection (RFC 7662): whether a delegation token counts now, for whom it concerns.

- Asked are the same registry, tasks and withdrawals as at `Check`, so that nobody is told "active" of a token
  that a call would not pass with.
- What is unknown, over, taken back, or none of the client's business is `{"active": false}` and nothing else.
- `chain_complete` is true: every agent of the chain was verified here, none is hearsay (ID-06).
- Who asks for a signed answer gets one that is for them alone (RFC 9701).
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from authz.authenticate import caller_of, code_of
from authz.broker.arrival import Arrival
from authz.broker.concerned import Asker, read_question, token_of
from authz.broker.deps import Broker
from authz.broker.evidence import Evidence
from authz.broker.parties import verify_subject
from authz.broker.reply import Outcome, Reply, answer
from authz.broker.token_endpoint import error_reply
from authz.codes import Code
from authz.decision import Deny, denied, refused
from authz.errors import CodedError
from identity.caller import DpopBinding
from identity.delegation import DelegationToken
from identity.errors import TokenError
from identity.jws import UnverifiedToken, sign
from identity.signature_algorithms import SIGNING_ALGORITHM

INTROSPECT: Final = "token-introspection"
SIGNED: Final = "token-introspection+jwt"
SIGNING_ALGORITHMS: Final = (SIGNING_ALGORITHM,)

# How the token came to be is nobody's business but ours.
_KEPT_BACK: Final = frozenset({"min_epoch", "grants", "parents"})
_INACTIVE: Final = {"active": False}
_ACCEPT: Final = re.compile(rf"\s*application/{re.escape(SIGNED)}\s*(?:;.*)?", re.IGNORECASE)


async def introspect_token(arrival: Arrival, broker: Broker) -> Reply:
    """Answer one question about a token; this never raises."""
    now = broker.clock()
    evidence = Evidence("exchange", INTROSPECT, broker.new_id(now), now, arrival.source)

    async def decide() -> Outcome:
        form, asker = await read_question(arrival, evidence, broker, now)
        claims = _claims(token_of(form), asker, evidence, broker, now)
        if isinstance(claims, Deny):
            no = _reply(_INACTIVE, arrival, asker, broker, now)
            return Outcome(evidence.refused(claims, broker.clock()), no, is_no=True)
        return Outcome(evidence.told(broker.clock()), _reply(claims, arrival, asker, broker, now))

    return await answer(decide, evidence, broker, error_reply)


def _claims(
    unverified_text: str, asker: Asker, evidence: Evidence, broker: Broker, now: datetime
) -> dict[str, object] | Deny:
    """Return what is said of a token that counts, or why it does not."""
    try:
        token = verify_subject(UnverifiedToken.parse(unverified_text), broker, now)
        evidence.human, evidence.chain = token.human, token.chain
        evidence.token_id, evidence.txn, evidence.jti = token.token_id, token.txn, token.jti
        evidence.service = broker.settings.audiences[token.audience]
        if not (asker.presents(token, broker) or asker.serves(token, broker)):
            return denied(Code.NOT_BOUND, "the token is none of the client's")
        if token.min_epoch > broker.tasks.epoch:
            return denied(
                Code.STALE, f"a token of epoch {token.min_epoch}, and we are at {broker.tasks.epoch}"
            )
        caller_of(token, asker.spiffe_id, "key", broker.tasks, now)
    except TokenError as error:
        return denied(code_of(error), str(error))
    except CodedError as error:
        return refused(error)
    return _active(token)


def _active(token: DelegationToken) -> dict[str, object]:
    claims = {name: value for name, value in token.to_claims().items() if name not in _KEPT_BACK}
    kind = "DPoP" if isinstance(token.binding, DpopBinding) else "Bearer"
    return {"active": True, "token_type": kind, "chain_complete": True, **claims}


def _reply(
    claims: Mapping[str, object], arrival: Arrival, asker: Asker, broker: Broker, now: datetime
) -> Reply:
    if not _wants_signed(arrival):
        return Reply(200, claims)
    answer_claims = {
        "iss": broker.settings.issuer,
        "aud": str(asker.spiffe_id),
        "iat": int(now.timestamp()),
        "token_introspection": claims,
    }
    return Reply(200, None, signed=sign(broker.authority.token_key, SIGNED, answer_claims))


def _wants_signed(arrival: Arrival) -> bool:
    return any(map(_ACCEPT.fullmatch, arrival.accept.split(",")))
