"""Revocation (RFC 7009): whoever presents a token, or hosts who does, takes it back.

- With a token fall all that were exchanged from it, for they name it (CA-07). `lineage=true` takes back all
  that came of one sign-in; that is for the agent that it began with, by a token of its own. An agent that the
  work was handed on to stops what it got, and not the one that it got it from.
- A token that is unknown, over or broken is no error: there is nothing left to take back. One of a kind that
  cannot be taken back here is `unsupported_token_type`.
- A token of somebody else is refused: whoever finds one cannot stop its owner.
- What anybody may take back is bounded and forgotten in minutes, so that nobody fills the memory with it.
- The withdrawal keeps the token's person, by its signature, so that others can be told.
- The order is recorded, durably, before it acts; it acts on the next call.
"""

from datetime import datetime
from sys import intern
from typing import Final

from authz.audit.entry import administration
from authz.audit.facts import AdminFacts
from authz.authenticate import code_of
from authz.broker.arrival import Arrival
from authz.broker.concerned import Asker, read_question, token_of
from authz.broker.deps import Broker
from authz.broker.evidence import Evidence
from authz.broker.form import Form, FormError
from authz.broker.parties import verify_subject
from authz.broker.refusal import malformed, refuse
from authz.broker.reply import Outcome, Reply, answer
from authz.broker.token_endpoint import error_reply
from authz.codes import Code
from authz.decision import denied
from authz.errors import StoreError
from authz.store.held_withdrawals import MAX_WITHDRAWALS, kept_until
from identity.delegation import DELEGATION_TYP, DelegationToken
from identity.errors import TokenError
from identity.jws import UnverifiedToken
from identity.withdrawal import Kind, Withdrawal

REVOKE: Final = "token-revocation"

_DONE: Final = Reply(200, {})


async def revoke_token(arrival: Arrival, broker: Broker) -> Reply:
    """Answer one order to take a token back; this never raises."""
    now = broker.clock()
    evidence = Evidence("exchange", REVOKE, broker.new_id(now), now, arrival.source)

    async def decide() -> Outcome:
        form, asker = await read_question(arrival, evidence, broker, now)
        unverified_text, is_lineage = token_of(form), _is_lineage(form)
        try:
            token = _verified(unverified_text, broker, now)
        except TokenError as error:
            # Nothing is withdrawn, so nothing else is.
            return Outcome(evidence.refused(denied(code_of(error), str(error)), now), _DONE, is_no=True)
        return _order(token, asker, evidence, broker, now, is_lineage=is_lineage)

    return await answer(decide, evidence, broker, error_reply)


def _verified(unverified_text: str, broker: Broker, now: datetime) -> DelegationToken:
    """Return a delegation token of ours.

    Raises:
        TokenError: if it is none that counts.
        RefusedError: with unsupported_token_type if it is well-formed, and of another kind.
    """
    unverified = UnverifiedToken.parse(unverified_text)
    if unverified.typ != DELEGATION_TYP:
        text = "only delegation tokens are revoked here"
        raise refuse(Code.TOKEN_TYPE, text, oauth="unsupported_token_type", description=text)
    return verify_subject(unverified, broker, now)


def _order(
    token: DelegationToken,
    asker: Asker,
    evidence: Evidence,
    broker: Broker,
    now: datetime,
    *,
    is_lineage: bool,
) -> Outcome:
    evidence.human, evidence.chain = token.human, token.chain
    evidence.token_id, evidence.txn, evidence.jti = token.token_id, token.txn, token.jti
    evidence.service = broker.settings.audiences[token.audience]
    if not asker.presents(token, broker):
        raise refuse(Code.NOT_BOUND, "the token is another's")
    if is_lineage and len(token.chain) > 1:
        text = "a lineage is taken back by the agent that it began with"
        raise refuse(Code.NOT_BOUND, text, description=text)
    by, reason = str(asker.spiffe_id), "revoked by its presenter" if asker.client else "revoked by its host"
    kind: Kind = "txn" if is_lineage else "token"
    subject = token.txn if is_lineage else token.jti
    if is_lineage and len(broker.tasks.withdrawals) >= MAX_WITHDRAWALS:
        raise StoreError("too much is withdrawn to take back a lineage")
    # Of one person very many may be held: their name is held once.
    human = intern(token.human.uri)
    # No token outlives the one that its lineage began with, and that one lives no longer than any token.
    withdrawal = Withdrawal(kind, subject, None, reason, by, now, kept_until("token", now), human)
    facts = AdminFacts(
        action="tokens/revoke",
        outcome="ordered",
        by=by,
        subject=f"{kind} {subject}",
        reason=reason,
        human=token.human,
        agent=token.client_id,
        epoch=broker.tasks.epoch,
    )
    return Outcome(
        administration(facts, evidence.decision_id, now),
        _DONE,
        lambda: broker.tasks.withdraw(withdrawal, now),
        withdraws=True,
    )


def _is_lineage(form: Form) -> bool:
    try:
        match form.one("lineage"):
            case None | "false":
                return False
            case "true":
                return True
    except FormError as error:
        raise malformed(str(error)) from error
    raise malformed("lineage is neither true nor false")
