"""How answers are judged: was it refused, as it should be; what was granted.

- A refusal is an answer of 4xx without a token. A failure of the server (5xx), an answer that is late and a
  redirect are none: nobody knows what came of the request.
- Of several answers the first that is wrong is what was got.
- What was granted is read from the answer, and from the token where it is a JWT; a member that is absent
  means what RFC 6749 section 5.1 says that it means.
"""

from collections.abc import Callable, Mapping, Sequence

from authz.conformance.case import EVERY, Case, Judge, Verdict, failed, nothing, passed, skipped
from authz.conformance.message import Answer
from authz.conformance.situation import Profile, Situation
from authz.conformance.token import Jwt

Allowed = frozenset[str]
# What a judge of a granted token finds wrong with it, None if nothing.
Look = Callable[[Situation, Answer], str | None]
Claims = Mapping[str, object]
# The same for claims; a verdict where there is nothing to look at.
Found = str | Verdict | None
LookAtClaims = Callable[[Situation, Claims], Found]

INVALID_REQUEST: Allowed = frozenset({"invalid_request"})
# The actor profile says `invalid_grant` for what does not verify (TX-06).
BAD_TOKEN: Mapping[Profile, Allowed] = {
    Profile.RFC8693: INVALID_REQUEST,
    Profile.DEPUTY: INVALID_REQUEST,
    Profile.ACTOR: frozenset({"invalid_request", "invalid_grant"}),
}


def is_refusal(answer: Answer) -> bool:
    """Tell whether the server said no, and nothing else."""
    return 400 <= answer.status < 500 and "access_token" not in answer.members


def refused(*errors: str, statuses: frozenset[int] = frozenset(), closed: bool = False) -> Judge:
    """Expect refusals: with one of these errors, or with any if none is named.

    An answer with one of `statuses` needs no error (405 to a GET, say); `closed` takes an end of the
    connection for a refusal.
    """
    allowed = frozenset(errors)

    def judge(_: Situation, answers: Sequence[Answer]) -> Verdict:
        def is_wrong(answer: Answer) -> bool:
            if closed and answer.problem == "closed":
                return False
            if not is_refusal(answer):
                return True
            return answer.status not in statuses and bool(allowed) and answer.error not in allowed

        return first_wrong(answers, is_wrong)

    return judge


def refused_token() -> Judge:
    """Expect what the profile has for a token that is bad or refused (RFC 8693 section 2.2.2)."""

    def judge(situation: Situation, answers: Sequence[Answer]) -> Verdict:
        allowed = BAD_TOKEN[situation.profile]
        return first_wrong(
            answers, lambda each: each.status != 400 or not is_refusal(each) or each.error not in allowed
        )

    return judge


def refused_login() -> Judge:
    """Expect 401 `invalid_client` (RFC 6749 section 5.2), or a handshake that fails."""

    def judge(_: Situation, answers: Sequence[Answer]) -> Verdict:
        return first_wrong(
            answers,
            lambda each: each.problem != "closed" and (each.status, each.error) != (401, "invalid_client"),
        )

    return judge


def other_than_access(kind: str) -> Callable[[object, Sequence[Answer]], Verdict]:
    """Return what judges an answer that gives out a token of this kind, which is no access token."""

    def judge(_: object, answers: Sequence[Answer]) -> Verdict:
        (answer,) = answers
        members = answer.members
        if answer.unverified_token is None:
            return failed(answer.got)
        if members.get("issued_token_type") != kind:
            return failed(f"issued_token_type {short(members.get('issued_token_type'))}")
        if str(members.get("token_type")).lower() != "n_a":
            return failed(f"token_type {short(members.get('token_type'))}")
        return failed("a refresh token") if "refresh_token" in members else passed(answer.got)

    return judge


def first_wrong(answers: Sequence[Answer], is_wrong: Callable[[Answer], bool]) -> Verdict:
    """Return the first answer that is wrong, or what all of them were."""
    wrong = next((answer for answer in answers if is_wrong(answer)), None)
    if wrong is not None:
        return failed(wrong.got)
    several = f" and {len(answers) - 1} more" if len(answers) > 1 else ""
    return passed(f"{answers[0].got}{several}")


def refused_or(look: Look) -> Judge:
    """Expect a refusal, or a token in which `look` finds nothing wrong."""

    def judge(situation: Situation, answers: Sequence[Answer]) -> Verdict:
        for answer in answers:
            if is_refusal(answer):
                continue
            if answer.unverified_token is None:
                return failed(answer.got)
            if wrong := look(situation, answer):
                return failed(f"{answer.label}: {wrong}" if answer.label else wrong)
        return first_wrong(answers, lambda _: False)

    return judge


def of_good(look: Look) -> Judge:
    """Judge the answer to the good request."""

    def judge(situation: Situation, _: Sequence[Answer]) -> Verdict:
        wrong = look(situation, situation.good[0])
        return failed(wrong) if wrong else passed(situation.good[0].got)

    return judge


def of_claims(look: LookAtClaims) -> Judge:
    """Judge the claims of the issued token."""

    def judge(situation: Situation, _: Sequence[Answer]) -> Verdict:
        issued = situation.issued
        if issued is None:
            return skipped("the issued token is not a JWT")
        wrong = look(situation, issued.unverified_claims)
        if isinstance(wrong, Verdict):
            return wrong
        return failed(wrong) if wrong else passed("as expected")

    return judge


def good_claims(
    rule: str, name: str, expected: str, look: LookAtClaims, must: frozenset[Profile] = EVERY
) -> Case:
    """Return a case about the claims of the token that the good request is answered with."""
    return Case(rule, name, "the good request", expected, nothing, of_claims(look), must)


def claims_of(answer: Answer) -> Mapping[str, object]:
    """Return the claims of the token in an answer; empty if it is not a JWT."""
    token = Jwt.read(answer.unverified_token or "")
    return token.unverified_claims if token is not None else {}


def scopes_of(value: object) -> frozenset[str]:
    """Return the scopes of a claim or a member: a text, or the list that some servers write."""
    match value:
        case str():
            return frozenset(value.split())
        case list():
            return frozenset(str(each) for each in value)
    return frozenset()


def granted_scopes(answer: Answer, requested: str | None) -> frozenset[str]:
    """Return all that was granted, by any reading: answer, token, or what was requested if neither says."""
    claims = claims_of(answer)
    said = [source["scope"] for source in (answer.members, claims) if "scope" in source]
    return frozenset[str]().union(*map(scopes_of, said or [requested]))


def audiences_of(claims: Mapping[str, object]) -> tuple[str, ...]:
    """Return the audiences of a token."""
    match claims.get("aud"):
        case str(one):
            return (one,)
        case list(several):
            return tuple(str(each) for each in several)
    return ()


def short(value: object) -> str:
    """Return a value as a report shows it: quoted, and no longer than a line."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
