"""NR-05, ID-02, ID-06 to ID-08: what becomes of a token from hop to hop, and who may use it.

- A second hop is the issued token, exchanged again by the same client without an actor.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from authz.conformance.case import AGENTS, OURS, Case, Verdict, failed, passed, skipped
from authz.conformance.cases_delegation import onward
from authz.conformance.judge import (
    Claims,
    Found,
    claims_of,
    good_claims,
    granted_scopes,
    is_refusal,
    refused,
    refused_or,
    scopes_of,
    short,
)
from authz.conformance.login import AssertionLogin
from authz.conformance.message import Answer, Request
from authz.conformance.situation import TOKEN_TYPE, Need, Situation
from authz.conformance.token import actors

_INSTANCE: Final = "agent_instance"


# ---------------------------------------------------------------- NR-05


def _again(situation: Situation) -> Sequence[Request]:
    return (onward(situation, situation.good[0]),)


def _narrower(situation: Situation, answer: Answer) -> str | None:
    before, after = situation.issued, claims_of(answer)
    if before is None or not after:
        return None  # opaque: nobody can see
    claims = before.unverified_claims
    changed = [name for name in ("iss", "sub", "txn") if name in claims and claims[name] != after.get(name)]
    if changed:
        return f"another {', '.join(changed)}"
    end, later = claims.get("exp"), after.get("exp")
    if isinstance(end, int) and (not isinstance(later, int) or later > end):
        return "a later exp"
    more = scopes_of(after.get("scope")) - scopes_of(claims.get("scope"))
    return f"more scopes: {short(' '.join(sorted(more)))}" if more else None


def _held(situation: Situation) -> list[str]:
    return sorted(granted_scopes(situation.good[0], situation.inputs.scope))


def _one_scope(situation: Situation) -> Sequence[Request]:
    scopes = _held(situation)
    return (situation.inputs.good.with_("scope", scopes[0]),) if len(scopes) > 1 else ()


def _all_scopes(situation: Situation, answers: Sequence[Answer]) -> Sequence[Request]:
    if answers[0].unverified_token is None:
        return ()
    return (onward(situation, answers[0]).with_("scope", " ".join(_held(situation))),)


def _not_regained(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    if len(answers) < 2:
        return skipped(f"no token with one scope: {answers[0].got}")
    before, after = answers
    if is_refusal(after):
        return passed(after.got)
    if after.unverified_token is None:
        return failed(after.got)
    # Without a word about scopes it is what was asked for (RFC 6749 section 5.1).
    one, every = _held(situation)[0], " ".join(_held(situation))
    more = granted_scopes(after, every) - granted_scopes(before, one)
    return failed(f"{after.got}, with {short(' '.join(sorted(more)))}") if more else passed(after.got)


# ---------------------------------------------------------------- ID-02


def _pair(situation: Situation) -> tuple[Claims, Claims]:
    tokens = (situation.issued, situation.issued_again)
    first, second = (token.unverified_claims if token is not None else {} for token in tokens)
    return first, second


def _stable(situation: Situation, claims: Claims) -> Found:
    first, second = _pair(situation)
    if not actors(claims) or not second:
        return skipped("the issued tokens have no act")
    named = [
        (actors(each)[0].get("sub") if actors(each) else None, each.get("client_id"))
        for each in (first, second)
    ]
    return None if named[0] == named[1] else "two names for one agent"


def _instance(situation: Situation, claims: Claims) -> Found:
    first, second = _pair(situation)
    if not actors(claims) or not actors(second):
        return skipped("the issued tokens have no act")
    named = [actors(each)[0].get(_INSTANCE) for each in (first, second)]
    if named[0] is None:
        return f"no {_INSTANCE}"
    return None if named[0] == named[1] else "two instances of one run"


# ---------------------------------------------------------------- ID-06 to ID-08


def _by_inner(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    if len(actors(situation.issued.unverified_claims if situation.issued else {})) < 2:
        return skipped("the issued token has no inner actor")
    return refused()(situation, answers)


def _not_inferred(situation: Situation, claims: Claims) -> Found:
    subject = situation.subject
    if subject is None or actors(subject.unverified_claims):
        return skipped("the subject token is no JWT, or holds act")
    number = len(actors(claims))
    most = 1 if situation.inputs.actor is None else 2
    return f"{number} actors" if number > most else None


def _autonomous(situation: Situation) -> Sequence[Request]:
    inputs = situation.inputs
    kept = ("audience", "resource", "scope")
    form = (("grant_type", "client_credentials"), *(pair for pair in inputs.good.form if pair[0] in kept))
    requests = [replace(inputs.good, form=form, label="its own credentials")]
    if isinstance(inputs.login, AssertionLogin):
        own = inputs.good.without("actor_token", "actor_token_type")
        own = own.with_("subject_token", inputs.login.assertion)
        requests.append(own.with_("subject_token_type", f"{TOKEN_TYPE}jwt").labelled("its own assertion"))
    return requests


def _for_nobody(situation: Situation, answer: Answer) -> str | None:
    claims = claims_of(answer)
    subject, sub = situation.subject, claims.get("sub")
    if actors(claims):
        return "a token with act"
    is_person = subject is not None and sub is not None and sub == subject.unverified_claims.get("sub")
    return "a token of the person" if is_person else None


CASES: Final = (
    Case(
        "NR-05", "second-hop", "the issued token, exchanged again",
        "a refusal, or a token with no more scopes, no later exp, the same sub and txn", _again,
        refused_or(_narrower), AGENTS, (Need.JWT_ISSUED,),
    ),
    Case(
        "NR-05", "regained", "a token with one scope, exchanged for one with all",
        "a refusal, or a token with no more", _one_scope, _not_regained, follow=_all_scopes,
    ),
    good_claims("ID-02", "stable", "one act sub and client_id in all tokens of an agent", _stable, AGENTS),
    good_claims("ID-02", "instance", f"one {_INSTANCE} in all tokens of a run", _instance, OURS),
    Case(
        "ID-06", "inner-presenter", "the issued token, sent by the client, who is an inner actor of it",
        "a refusal", _again, _by_inner, AGENTS, (Need.ACTOR, Need.JWT_ISSUED),
    ),
    good_claims(
        "ID-07", "not-inferred", "no actor but who presents, where the subject token has no act",
        _not_inferred, AGENTS,
    ),
    Case(
        "ID-08", "autonomous", "a token of the agent that acts for nobody",
        "a refusal, or a token whose sub is the agent, without act", _autonomous,
        refused_or(_for_nobody), AGENTS,
    ),
)  # fmt: skip
