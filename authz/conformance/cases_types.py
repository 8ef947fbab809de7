"""TX-04 to TX-06: kinds of token, the answer, and the names of errors."""

import re
from collections.abc import Sequence
from typing import Final

from authz.conformance.case import AGENTS, OURS, Case, Verdict, failed, nothing, skipped
from authz.conformance.judge import (
    claims_of,
    first_wrong,
    is_refusal,
    of_claims,
    of_good,
    refused,
    refused_or,
    refused_token,
    scopes_of,
    short,
)
from authz.conformance.message import Answer, Request
from authz.conformance.situation import TOKEN_TYPE, Need, Profile, Situation
from authz.conformance.token import Jwt

_TOKEN_TYPES: Final = frozenset({"bearer", "dpop", "n_a"})
_KINDS: Final = (f"{TOKEN_TYPE}refresh_token", f"{TOKEN_TYPE}saml1", f"{TOKEN_TYPE}saml2")
_DESCRIPTION: Final = re.compile(r"[ !#-\[\]-~]*")
_CLOCK_SECONDS: Final = 10
GARBAGE: Final = "deputy-conformance-is-no-token"


def _subject(situation: Situation, token: str, kind: str | None = None) -> Request:
    request = situation.inputs.good.with_("subject_token", token)
    return request if kind is None else request.with_("subject_token_type", kind)


def _unknown_type(situation: Situation) -> Sequence[Request]:
    return (situation.inputs.good.with_("subject_token_type", "urn:deputy:conformance:unknown"),)


def _another_type(situation: Situation) -> Sequence[Request]:
    good = situation.inputs.good
    kinds = (kind for kind in _KINDS if kind != situation.inputs.subject.kind)
    return [good.with_("subject_token_type", kind).labelled(kind.removeprefix(TOKEN_TYPE)) for kind in kinds]


def _unsigned_json(situation: Situation) -> Sequence[Request]:
    return (_subject(situation, '{"sub":"deputy-conformance"}', f"{TOKEN_TYPE}unsigned_json"),)


def _requested_unknown(situation: Situation) -> Sequence[Request]:
    return (situation.inputs.good.with_("requested_token_type", "urn:deputy:conformance:unknown"),)


def _requested_refresh(situation: Situation) -> Sequence[Request]:
    return (situation.inputs.good.with_("requested_token_type", f"{TOKEN_TYPE}refresh_token"),)


def _no_refresh(_: Situation, answer: Answer) -> str | None:
    kind = answer.members.get("issued_token_type")
    is_one = "refresh_token" in answer.members or kind == f"{TOKEN_TYPE}refresh_token"
    return "a refresh token" if is_one else None


def _issued_type(_: Situation, answer: Answer) -> str | None:
    said = answer.members.get("issued_token_type")
    return None if isinstance(said, str) and ":" in said else f"issued_token_type {short(said)}"


def _token_type(_: Situation, answer: Answer) -> str | None:
    said = answer.members.get("token_type")
    is_known = isinstance(said, str) and said.lower() in _TOKEN_TYPES
    return None if is_known else f"token_type {short(said)}"


def _expires_in(_: Situation, answer: Answer) -> str | None:
    said = answer.members.get("expires_in")
    return None if type(said) is int and said > 0 else f"expires_in {short(said)}"


def _expires_in_true(situation: Situation, claims: object) -> Verdict | str | None:
    del claims
    said = situation.good[0].members.get("expires_in")
    exp = claims_of(situation.good[0]).get("exp")
    if type(said) is not int or type(exp) is not int:
        return skipped("the answer has no expires_in, or the token no exp")
    left = exp - situation.now
    # `now` is when the first answer had come; a request may take some seconds.
    return None if abs(said - left) <= _CLOCK_SECONDS else f"expires_in {said}, and exp in {left} s"


def _scope_told(situation: Situation, answer: Answer) -> str | None:
    told, claims = answer.members.get("scope"), claims_of(answer)
    meant = scopes_of(told if told is not None else situation.inputs.scope)
    if "scope" in claims and scopes_of(claims["scope"]) != meant:
        held = " ".join(sorted(scopes_of(claims["scope"])))
        return f"scope {short(told)}, and in the token {short(held)}"
    if told is None and situation.inputs.scope is None:
        return "no scope, and none was requested"
    return None


def _garbage(situation: Situation) -> Sequence[Request]:
    return (_subject(situation, GARBAGE),)


def corrupted(token: Jwt) -> Jwt:
    """Return a token whose signature is wrong in its first character."""
    text = token.parts[2]
    return token.with_signature(("B" if text[:1] == "A" else "A") + text[1:])


def _forged(situation: Situation) -> Sequence[Request]:
    token = situation.subject
    return () if token is None else (_subject(situation, corrupted(token).text),)


def _bad_actor(situation: Situation) -> Sequence[Request]:
    actor = situation.inputs.actor
    kind = actor.kind if actor else f"{TOKEN_TYPE}jwt"
    request = situation.inputs.good.with_("actor_token", GARBAGE).with_("actor_token_type", kind)
    return (request,)


def _unknown_target(situation: Situation) -> Sequence[Request]:
    inputs = situation.inputs
    good = inputs.good.without("audience", "resource")
    return (good.with_(inputs.target_name, inputs.unknown_audience),)


def _well_formed_error(_: Situation, answers: Sequence[Answer]) -> Verdict:
    def is_wrong(answer: Answer) -> bool:
        text = answer.members.get("error_description", "")
        said = isinstance(text, str) and _DESCRIPTION.fullmatch(text) is not None
        return not (is_refusal(answer) and answer.is_json and answer.error is not None and said)

    return first_wrong(answers, is_wrong)


def _no_echo(_: Situation, answers: Sequence[Answer]) -> Verdict:
    if any(GARBAGE.encode() in answer.body for answer in answers):
        return failed("an answer that repeats the token")
    return first_wrong(answers, lambda answer: not is_refusal(answer))


def _details(situation: Situation) -> Sequence[Request]:
    good = situation.inputs.good
    unknown = '[{"type":"deputy-conformance-unknown"}]'
    return (
        good.with_("authorization_details", "{not json").labelled("not JSON"),
        good.with_("authorization_details", unknown).labelled("an unknown type"),
    )


def _details_refused(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    told = "authorization_details_types_supported" in situation.document
    if not told and situation.profile is not Profile.DEPUTY:
        return skipped("the metadata names no authorization_details_types_supported")
    return refused("invalid_authorization_details")(situation, answers)


def _proof(situation: Situation) -> Sequence[Request]:
    good = situation.inputs.good
    return (Request(good.form, good.login, headers=(("DPoP", GARBAGE),)),)


def _proof_refused(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    told = "dpop_signing_alg_values_supported" in situation.document
    if not told and situation.profile is not Profile.DEPUTY:
        return skipped("the metadata names no dpop_signing_alg_values_supported")
    return refused("invalid_dpop_proof")(situation, answers)


CASES: Final = (
    Case(
        "TX-04", "unknown-type", "a subject_token_type that does not exist",
        "400 invalid_request", _unknown_type, refused("invalid_request"),
    ),
    Case(
        "TX-04", "another-type", "the subject token, said to be a refresh token or SAML",
        "400 invalid_request", _another_type, refused("invalid_request"),
    ),
    Case(
        "TX-04", "unsigned-json", "plain JSON as a subject token",
        "400 invalid_request", _unsigned_json, refused("invalid_request"),
    ),
    Case(
        "TX-04", "requested-unknown", "a requested_token_type that does not exist",
        "400 invalid_request", _requested_unknown, refused("invalid_request"),
    ),
    Case(
        "TX-05", "issued-token-type", "the good request",
        "an issued_token_type", nothing, of_good(_issued_type),
    ),
    Case(
        "TX-05", "token-type", "the good request",
        "a token_type of Bearer, DPoP or N_A", nothing, of_good(_token_type),
    ),
    Case(
        "TX-05", "expires-in", "the good request",
        "expires_in, a whole number of seconds", nothing, of_good(_expires_in), OURS,
    ),
    Case(
        "TX-05", "expires-in-true", "the good request",
        "expires_in says what exp in the token says", nothing, of_claims(_expires_in_true),
        needs=(Need.JWT_ISSUED,),
    ),
    Case(
        "TX-05", "scope-told", "the good request",
        "scope, where it is not what was requested", nothing, of_good(_scope_told),
    ),
    Case(
        "TX-05", "no-refresh-token", "the good request",
        "no refresh_token", nothing, of_good(_no_refresh), OURS,
    ),
    Case(
        "TX-05", "refresh-token-requested", "a refresh token as requested_token_type",
        "400 invalid_request, or a token of another type", _requested_refresh, refused_or(_no_refresh), OURS,
    ),
    Case(
        "TX-06", "garbage", "a subject token that is none",
        "400 invalid_request (actor-profile: or invalid_grant)", _garbage, refused_token(),
    ),
    Case(
        "TX-06", "forged", "a subject token with a wrong signature",
        "400 invalid_request (actor-profile: or invalid_grant)", _forged, refused_token(),
        needs=(Need.JWT_SUBJECT,),
    ),
    Case(
        "TX-06", "bad-actor", "an actor token that is none",
        "400 invalid_request (actor-profile: or invalid_grant)", _bad_actor, refused_token(),
    ),
    Case(
        "TX-06", "unknown-target", "a target that does not exist",
        "400 invalid_target", _unknown_target, refused("invalid_target"), AGENTS,
    ),
    Case(
        "TX-06", "error-form", "a request that must be refused",
        "JSON with error, and a description of printable ASCII", _garbage, _well_formed_error,
    ),
    Case(
        "TX-06", "no-echo", "a subject token that is none",
        "an answer that does not repeat it", _garbage, _no_echo, AGENTS,
    ),
    Case(
        "TX-06", "authorization-details", "authorization_details that nobody can know",
        "400 invalid_authorization_details", _details, _details_refused,
    ),
    Case(
        "TX-06", "dpop-proof", "a DPoP header that is no proof",
        "400 invalid_dpop_proof", _proof, _proof_refused,
    ),
)  # fmt: skip
