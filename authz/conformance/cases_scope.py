"""NR-01 to NR-03: scopes and targets only narrow."""

from collections.abc import Callable, Sequence
from typing import Final

from authz.conformance.case import AGENTS, OURS, Case, Judge, Verdict, failed, passed, skipped
from authz.conformance.judge import (
    Claims,
    Found,
    audiences_of,
    claims_of,
    good_claims,
    granted_scopes,
    is_refusal,
    refused,
    scopes_of,
    short,
)
from authz.conformance.message import Answer, Request
from authz.conformance.situation import Need, Situation

_UNKNOWN: Final = "deputy-conformance:unknown"


def _held(situation: Situation) -> frozenset[str]:
    return granted_scopes(situation.good[0], situation.inputs.scope)


def _wider(situation: Situation) -> Sequence[Request]:
    inputs = situation.inputs
    wider = inputs.wider_scope or ""
    both = " ".join([*sorted(_held(situation)), wider])
    return (
        inputs.good.with_("scope", both).labelled("beside what may be granted"),
        inputs.good.with_("scope", wider).labelled("alone"),
    )


def _unknown(situation: Situation) -> Sequence[Request]:
    return (situation.inputs.good.with_("scope", _UNKNOWN),)


def _prefix(situation: Situation) -> Sequence[Request]:
    """Ask for what begins like a scope that is held, and for what it begins."""
    held = next(iter(sorted(_held(situation), key=len, reverse=True)), "")
    asked = {part for part in (held[:-1], f"{held}:more", f"{held.partition(':')[0]}:*") if part and held}
    good = situation.inputs.good
    return [good.with_("scope", scope).labelled(short(scope)) for scope in sorted(asked - _held(situation))]


def _not_granted(scopes_asked: Callable[[Situation], frozenset[str]]) -> Judge:
    """Expect `invalid_scope`, or a token with nothing of these scopes."""

    def judge(situation: Situation, answers: Sequence[Answer]) -> Verdict:
        if not answers:
            return skipped("no scope was granted to the good request")
        for answer in answers:
            granted = granted_scopes(answer, None) & scopes_asked(situation)
            if answer.unverified_token is not None and "scope" not in {*answer.members, *claims_of(answer)}:
                return failed(f"{answer.got}, and no scope, which says: as requested")
            if answer.unverified_token is not None and granted:
                return failed(f"{answer.got}, with {short(' '.join(sorted(granted)))}")
            if answer.unverified_token is None and (
                not is_refusal(answer) or answer.error != "invalid_scope"
            ):
                return failed(answer.got)
        return passed(answers[0].got)

    return judge


def _wider_scopes(situation: Situation) -> frozenset[str]:
    return scopes_of(situation.inputs.wider_scope) - _held(situation)


def _asked_parts(situation: Situation) -> frozenset[str]:
    return frozenset(request.one("scope") or "" for request in _prefix(situation))


def _omitted(situation: Situation) -> Sequence[Request]:
    return (situation.inputs.good.without("scope"),)


def _within_subject(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    subject = situation.subject
    if subject is None or "scope" not in subject.unverified_claims:
        return skipped("the subject token does not say its scopes")
    answer = answers[0]
    if is_refusal(answer):
        return passed(answer.got)
    if answer.unverified_token is None:
        return failed(answer.got)
    more = granted_scopes(answer, None) - scopes_of(subject.unverified_claims["scope"])
    if more:
        return failed(f"{answer.got}, with {short(' '.join(sorted(more)))}, which the subject does not have")
    return passed(answer.got)


def _second_target(situation: Situation) -> Sequence[Request]:
    inputs = situation.inputs
    return [
        inputs.good.adding(name, inputs.unknown_audience).labelled(f"as {name}")
        for name in dict.fromkeys((inputs.target_name, "audience", "resource"))
    ]


def _no_unknown_target(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    for answer in answers:
        if is_refusal(answer):
            continue
        said = audiences_of(claims_of(answer))
        if answer.unverified_token is None or situation.inputs.unknown_audience in said:
            return failed(f"{answer.got}, for {short(said)}")
    return passed(answers[0].got)


def _malformed_target(situation: Situation) -> Sequence[Request]:
    good = situation.inputs.good.without("audience", "resource")
    value = situation.inputs.targets[0][1]
    return (
        good.with_("resource", f"{value}#fragment").labelled("a fragment"),
        good.with_("resource", "/relative").labelled("no absolute URI"),
    )


def _look_alike(situation: Situation) -> Sequence[Request]:
    name, value = situation.inputs.targets[0]
    good = situation.inputs.good.without("audience", "resource")
    return (
        good.with_(name, f"{value}.deputy-conformance.invalid").labelled("with a longer host"),
        good.with_(name, f"{value}@deputy-conformance.invalid").labelled("as user of another host"),
        good.with_(name, f"{value}/../deputy-conformance").labelled("with a path that leads elsewhere"),
        good.with_(name, f"{value}\x00").labelled("with a NUL"),
    )


def _audience(situation: Situation, claims: Claims) -> Found:
    wanted, said = [value for _, value in situation.inputs.targets], audiences_of(claims)
    if not wanted:
        return skipped("needs --audience or --resource")
    return None if set(said) == set(wanted) else f"aud {short(said)}"


def _one_audience(situation: Situation, claims: Claims) -> Found:
    if len(situation.inputs.targets) > 1:
        return skipped("several targets were asked for")
    said = audiences_of(claims)
    if not said:
        return skipped("the issued token has no aud: see CL-01")
    return None if len(said) == 1 else f"aud {short(said)}"


CASES: Final = (
    Case(
        "NR-01", "wider-scope", "a scope that the subject does not have",
        "invalid_scope, or a token without it", _wider, _not_granted(_wider_scopes),
        needs=(Need.WIDER_SCOPE,),
    ),
    Case(
        "NR-01", "unknown-scope", "a scope that does not exist",
        "400 invalid_scope", _unknown, refused("invalid_scope"),
    ),
    Case(
        "NR-01", "part-of-a-scope", "a scope that begins like one that is held, or is begun by it",
        "invalid_scope, or a token without it", _prefix, _not_granted(_asked_parts),
    ),
    Case(
        "NR-02", "scope-omitted", "no scope",
        "a refusal, or scopes that the subject token has", _omitted, _within_subject, AGENTS,
    ),
    Case(
        "NR-03", "second-target", "a target that does not exist beside the good one",
        "a refusal, or a token that is not for it", _second_target, _no_unknown_target,
    ),
    Case(
        "NR-03", "malformed-target", "a resource that is no absolute URI, or has a fragment",
        "400 invalid_target", _malformed_target, refused("invalid_target", "invalid_request"), AGENTS,
        (Need.TARGET,),
    ),
    Case(
        "NR-03", "look-alike", "a target that only looks like the good one",
        "a refusal", _look_alike, refused(), needs=(Need.TARGET,),
    ),
    good_claims("NR-03", "audience", "aud is the target that was asked for", _audience, AGENTS),
    good_claims("NR-03", "one-audience", "one aud", _one_audience, OURS),
)  # fmt: skip
