"""TX-07 to TX-12: who may act for whom, and what nobody can say about himself."""

from collections.abc import Mapping, Sequence
from typing import Final

from authz.conformance.case import AGENTS, Case, Judge, Verdict, failed, nothing, skipped
from authz.conformance.judge import (
    claims_of,
    first_wrong,
    is_refusal,
    of_claims,
    refused,
    refused_or,
    refused_token,
)
from authz.conformance.login import SecretLogin
from authz.conformance.message import Answer, Request
from authz.conformance.situation import ACCESS_TOKEN, Need, Presented, Situation
from authz.conformance.token import Jwt, actors

_MARK: Final = "deputy-conformance-override"
_FAR: Final = 4102444800  # 2100-01-01
# What a stranger may send as a parameter, and must find in no claim.
_OVERRIDES: Final[tuple[tuple[str, str], ...]] = (
    ("act", f'{{"sub":"{_MARK}"}}'),
    ("sub", _MARK),
    ("cnf", f'{{"jkt":"{_MARK}"}}'),
    ("txn", _MARK),
    ("iss", f"https://{_MARK}.invalid"),
    ("exp", str(_FAR)),
    ("jti", _MARK),
    ("may_act", f'{{"sub":"{_MARK}"}}'),
    ("claims", f'{{"sub":"{_MARK}"}}'),
)


def presented(situation: Situation, subject: Presented) -> Request:
    """Return the good request with another subject token and its type."""
    request = situation.inputs.good.with_("subject_token", subject.unverified_token)
    return request.with_("subject_token_type", subject.kind)


def _alone(request: Request) -> Request:
    return request.without("actor_token", "actor_token_type")


def onward(situation: Situation, answer: Answer) -> Request:
    """Return the good request with the token of an answer as subject token, and without an actor."""
    kind = answer.members.get("issued_token_type")
    token = answer.unverified_token or ""
    return _alone(presented(situation, Presented(token, kind if isinstance(kind, str) else ACCESS_TOKEN)))


def _without_actor(situation: Situation) -> Sequence[Request]:
    return (_alone(situation.inputs.good),)


def _issued_without_actor(situation: Situation) -> Sequence[Request]:
    return (onward(situation, situation.good[0]),)


def _no_act(_: Situation, answer: Answer) -> str | None:
    claims = claims_of(answer)
    if not claims:
        return None  # opaque: nobody can see
    return None if actors(claims) else "a token without act"


def _impersonation(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    subject = situation.subject
    if subject is not None and actors(subject.unverified_claims):
        return skipped("the subject token holds act: see TX-08")
    return _judged_act(situation, answers)


def _judged_act(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    if any(each.unverified_token is not None and not claims_of(each) for each in answers):
        return skipped("the issued token is not a JWT, so its act cannot be seen")
    return refused_or(_no_act)(situation, answers)


def _keeps(what: str) -> Judge:
    """Expect that the act of a token without an actor is not lost."""

    def judge(situation: Situation, answers: Sequence[Answer]) -> Verdict:
        token = situation.subject if what == "subject" else situation.issued
        held = actors(token.unverified_claims) if token is not None else ()
        if not held:
            return skipped(f"the {what} token holds no act")
        for answer in answers:
            claims = claims_of(answer)
            if claims and actors(claims)[-len(held) :] != held:
                return failed("a token that lost the act of the one before")
        return _judged_act(situation, answers)

    return judge


def _found(situation: Situation) -> Sequence[Request]:
    good, other = situation.inputs.good, situation.inputs.other_login
    found = onward(situation, situation.good[0])
    return (
        Request(good.form, other, label="the subject token"),
        Request(_alone(good).form, other, label="the subject token without an actor"),
        Request(found.form, other, label="the issued token"),
    )


def _found_refused(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    locked_out = [answer for answer in answers if answer.error == "invalid_client"]
    if len(locked_out) == len(answers):
        return skipped(f"the second client could not log in: {locked_out[0].got}")
    return refused()(situation, answers)


def _ungranted(situation: Situation) -> Sequence[Request]:
    subject = situation.inputs.ungranted_subject
    return () if subject is None else (presented(situation, subject),)


def _second(situation: Situation) -> Sequence[Request]:
    subject = situation.inputs.second_subject
    return () if subject is None else (_alone(presented(situation, subject)),)


def _still_bound(situation: Situation, claims: Mapping[str, object]) -> str | Verdict | None:
    subject = situation.subject
    if subject is None or not isinstance(subject.unverified_claims.get("cnf"), dict):
        return skipped("the subject token is not bound (no cnf)")
    return None if isinstance(claims.get("cnf"), dict) and claims["cnf"] else "a token without cnf"


def _override(situation: Situation) -> Sequence[Request]:
    good = situation.inputs.good
    return [good.adding(name, value).labelled(name) for name, value in _OVERRIDES]


def _overridden(_: Situation, answer: Answer) -> str | None:
    token = Jwt.read(answer.unverified_token or "")
    if token is None:
        return None
    claims = token.unverified_claims
    return "its value is in the token" if _MARK in str(claims) or claims.get("exp") == _FAR else None


def _other_client_id(situation: Situation) -> Sequence[Request]:
    return (situation.inputs.good.adding("client_id", _MARK),)


def _client_id_refused(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    login = situation.inputs.login
    # Two values of one parameter are refused for another reason (TX-03).
    if login.client_id is not None and not (isinstance(login, SecretLogin) and login.method == "basic"):
        return skipped("the client logs in with a client_id in the form")
    return first_wrong(answers, lambda each: not is_refusal(each))


CASES: Final = (
    Case(
        "TX-07", "impersonation", "the good request without an actor token",
        "a refusal, or a token whose act names who acts", _without_actor, _impersonation, AGENTS,
    ),
    Case(
        "TX-08", "subject-act", "a subject token that holds act, without an actor token",
        "a refusal, or a token that holds the same act", _without_actor, _keeps("subject"),
    ),
    Case(
        "TX-08", "issued-act", "the issued token as a subject token, without an actor token",
        "a refusal, or a token that holds the same act", _issued_without_actor, _keeps("issued"),
        needs=(Need.JWT_ISSUED,),
    ),
    Case(
        "TX-09", "found-token", "a token of the first client, sent by the second one",
        "a refusal", _found, _found_refused, AGENTS, (Need.OTHER_CLIENT,),
    ),
    Case(
        "TX-10", "no-grant", "the token of a person who granted this client nothing",
        "a refusal", _ungranted, refused(), AGENTS, (Need.UNGRANTED,),
    ),
    Case(
        "TX-11", "bound-to-another", "a subject token that is bound to somebody else, without an actor",
        "400 invalid_request (actor-profile: or invalid_grant)", _second, refused_token(),
        needs=(Need.SECOND_SUBJECT,),
    ),
    Case(
        "TX-11", "never-unbound", "the good request, if its subject token is bound",
        "a token that is bound", nothing, of_claims(_still_bound),
    ),
    Case(
        "TX-12", "override", "a parameter with the name of a claim",
        "a refusal, or a token without its value", _override, refused_or(_overridden),
        needs=(Need.JWT_ISSUED,),
    ),
    Case(
        "TX-12", "client-id", "the client_id of somebody else beside the login",
        "a refusal", _other_client_id, _client_id_refused,
    ),
)  # fmt: skip
