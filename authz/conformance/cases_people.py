"""ID: who is who in an issued token: the human, the agent that presents it, and those before it."""

from typing import Final

from authz.conformance.case import AGENTS, skipped
from authz.conformance.judge import Claims, Found, good_claims
from authz.conformance.situation import Situation
from authz.conformance.token import actors


def _not_inverted(situation: Situation, claims: Claims) -> Found:
    chain = actors(claims)
    if not chain:
        return skipped("the issued token has no act")
    people = {claims.get("sub")}
    if situation.subject is not None:
        people.add(situation.subject.unverified_claims.get("sub"))
    return "an actor that is the subject" if any(actor.get("sub") in people for actor in chain) else None


def _sub_kept(situation: Situation, claims: Claims) -> Found:
    subject = situation.subject
    if subject is None or subject.unverified_claims.get("iss") != claims.get("iss"):
        return skipped("the subject token is not of the same issuer")
    return None if claims.get("sub") == subject.unverified_claims.get("sub") else "another sub"


def _inherited(situation: Situation) -> tuple[tuple[Claims, ...], tuple[Claims, ...]]:
    subject, issued = situation.subject, situation.issued
    return (
        actors(subject.unverified_claims) if subject else (),
        actors(issued.unverified_claims) if issued else (),
    )


def _not_truncated(situation: Situation, _: Claims) -> Found:
    before, after = _inherited(situation)
    if not before:
        return skipped("the subject token has no act")
    said = f"{len(after)} actors after {len(before)}"
    return None if len(after) - len(before) in {0, 1} else said


def _unchanged(situation: Situation, _: Claims) -> Found:
    before, after = _inherited(situation)
    if not before:
        return skipped("the subject token has no act")
    if len(after) < len(before):
        return skipped("hops are missing: see ID-04")
    return None if after[-len(before) :] == before else "an inherited actor that was changed"


def _namespace(_: Situation, claims: Claims) -> Found:
    chain = actors(claims)
    if not chain:
        return skipped("the issued token has no act")
    return (
        None if all("iss" in actor and "sub" in actor for actor in chain[:1]) else "an act without iss or sub"
    )


def _both(_: Situation, claims: Claims) -> Found:
    client_id = claims.get("client_id", claims.get("azp"))
    if not isinstance(client_id, str):
        return "no client_id"
    is_person = client_id == claims.get("sub") and bool(actors(claims))
    return "a client_id that is the subject" if is_person else None


CASES: Final = (
    good_claims("ID-01", "not-inverted", "the human in sub, and the agents in act", _not_inverted),
    good_claims("ID-01", "sub-kept", "the sub of the subject token, where both are of one issuer", _sub_kept),
    good_claims("ID-03", "namespace", "an act with iss and sub", _namespace, AGENTS),
    good_claims("ID-04", "not-truncated", "the actors of the subject token, or one more", _not_truncated),
    good_claims("ID-05", "unchanged", "inherited actors as they were", _unchanged),
    good_claims("ID-09", "client-id", "a client_id that is not the human", _both, AGENTS),
)  # fmt: skip
