"""JW-06, ID-07, and JW-03 to JW-05 again: subject tokens that are wrong, and have a good signature.

- They are signed with the key that the operator hands in (`--subject-key-file`), on a test system.
- The first request of each case is a copy of the good subject token, signed anew. If that is refused, the
  refusals of the others say nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from authz.conformance.case import AGENTS, EVERY, OURS, Case, Judge, Verdict, failed, passed, skipped
from authz.conformance.judge import claims_of, granted_scopes, is_refusal, refused, short
from authz.conformance.message import Answer, Request
from authz.conformance.proof import resigned
from authz.conformance.situation import Need, Profile, Situation
from authz.conformance.token import Jwt, json_of

Changes = Mapping[str, Jwt]
_SKEW: Final = 60
_LATER: Final = 600


def _signed(change: Callable[[Jwt, int], Changes]) -> Callable[[Situation], Sequence[Request]]:
    def send(situation: Situation) -> Sequence[Request]:
        token, signer = situation.subject, situation.inputs.subject_signer
        if token is None or signer is None:
            return ()
        good = situation.inputs.good
        copies = {"as it was": token, **change(token, situation.now)}
        return [
            good.with_("subject_token", resigned(copy, signer).text).labelled(label)
            for label, copy in copies.items()
        ]

    return send


def _after_the_good(judge: Judge) -> Judge:
    def judged(situation: Situation, answers: Sequence[Answer]) -> Verdict:
        good, *others = answers
        if good.unverified_token is None:
            return skipped(f"the subject token, signed with --subject-key-file, was refused: {good.got}")
        return judge(situation, others) if others else skipped("the subject token has nothing of this kind")

    return judged


def _with(token: Jwt, **claims: object) -> Jwt:
    return token.with_claims({**token.unverified_claims, **claims})


def _expired(token: Jwt, now: int) -> Changes:
    return {
        f"{_SKEW + 1} s ago": _with(token, exp=now - _SKEW - 1),
        "an hour ago": _with(token, exp=now - 3600),
    }


def _not_yet(token: Jwt, now: int) -> Changes:
    return {"nbf": _with(token, nbf=now + _LATER)}


def _from_later(token: Jwt, now: int) -> Changes:
    return {"iat": _with(token, iat=now + _LATER)}


def _critical(token: Jwt, _: int) -> Changes:
    return {
        "unknown": token.adding(crit=["deputy-conformance"], **{"deputy-conformance": 1}),
        "empty": token.adding(crit=[]),
        "b64": token.adding(crit=["b64"], b64=False),
    }


def _types(token: Jwt, _: int) -> Changes:
    own = str(token.unverified_header.get("typ")).lower().removeprefix("application/")
    others = ("txntoken+jwt", "oauth-id-jag+jwt", "dpop+jwt", "secevent+jwt", "logout+jwt")
    return {typ: token.adding(typ=typ) for typ in others if typ != own}


def _ambiguous(token: Jwt, _: int) -> Changes:
    claims = json_of(token.unverified_claims)
    return {
        "two sub": token.with_claims(b'{"sub":"deputy-conformance",' + claims[1:]),
        "a second value": token.with_claims(claims + b"{}"),
        "exp as a text": _with(token, exp=str(token.unverified_claims.get("exp"))),
        "exp beyond all numbers": token.with_claims(claims[:-1] + b',"deputy":1e400}'),
    }


def _endless(token: Jwt, _: int) -> Changes:
    return {"no exp": token.with_claims(_without(token.unverified_claims, "exp"))}


# ---------------------------------------------------------------- ID-07


def _unclassified(token: Jwt, _: int) -> Changes:
    claims, act = token.unverified_claims, token.unverified_claims.get("act")
    changed = {"at the top": _without(claims, "sub_profile")}
    if isinstance(act, dict):
        changed["of the actor"] = {**claims, "act": _without(act, "sub_profile")}
    return {label: token.with_claims(each) for label, each in changed.items() if each != claims}


def _without(members: Mapping[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in members.items() if key != name}


def _no_gain(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    good, *others = answers
    scope = situation.inputs.scope
    for answer in others:
        if is_refusal(answer):
            continue
        if answer.unverified_token is None:
            return failed(answer.got)
        if more := granted_scopes(answer, scope) - granted_scopes(good, scope):
            return failed(f"{answer.got}, with {short(' '.join(sorted(more)))}")
    return passed(others[0].got)


def _unclassified_judged(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    return _after_the_good(lambda held, _: _no_gain(held, answers))(situation, answers)


def _claimed(token: Jwt, _: int) -> Changes:
    act = token.unverified_claims.get("act")
    if not isinstance(act, dict):
        return {}
    return {"client_profile": _with(token, act={**act, "client_profile": "deputy-conformance"})}


def _not_believed(_: Situation, answers: Sequence[Answer]) -> Verdict:
    for answer in answers:
        if is_refusal(answer):
            continue
        outside = {name: value for name, value in claims_of(answer).items() if name != "act"}
        if answer.unverified_token is None or "deputy-conformance" in str(outside):
            return failed(f"{answer.got}, and its value is beside act")
    return passed(answers[0].got)


_NEEDS: Final = (Need.JWT_SUBJECT, Need.SUBJECT_SIGNER)


def _case(
    rule: str,
    name: str,
    title: str,
    change: Callable[[Jwt, int], Changes],
    must: frozenset[Profile] = EVERY,
) -> Case:
    judge = _after_the_good(refused())
    return Case(
        rule, name, f"{title}, with a good signature", "a refusal", _signed(change), judge, must, _NEEDS
    )


CASES: Final = (
    _case("JW-06", "expired", "a subject token that has expired", _expired),
    _case("JW-06", "endless", "a subject token without exp", _endless, AGENTS),
    _case("JW-06", "not-yet", f"a subject token that is valid in {_LATER} s (nbf)", _not_yet),
    _case("JW-06", "from-later", f"a subject token that is made in {_LATER} s (iat)", _from_later, OURS),
    _case("JW-03", "crit-signed", "a subject token with crit", _critical),
    _case("JW-04", "typ-signed", "a subject token with the typ of another kind", _types),
    _case("JW-05", "ambiguous-signed", "a subject token of two readings", _ambiguous, AGENTS),
    Case(
        "ID-07", "unclassified", "the subject token without a sub_profile, with a good signature",
        "a refusal, or no more scopes than with it", _signed(_unclassified), _unclassified_judged,
        AGENTS, _NEEDS,
    ),
    Case(
        "ID-07", "client-profile", "a subject token with client_profile in act, with a good signature",
        "a refusal, or a token that does not say so itself", _signed(_claimed),
        _after_the_good(_not_believed), AGENTS, _NEEDS,
    ),
)  # fmt: skip
