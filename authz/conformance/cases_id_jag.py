"""CL-05: assertions for another domain's authorization server (ID-JAG).

- `--id-jag-audience` names a server for which this one makes them for this client.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from authz.conformance.case import AGENTS, Case, Verdict, failed, passed
from authz.conformance.judge import audiences_of, first_wrong, is_refusal, other_than_access, refused, short
from authz.conformance.message import Answer, Request
from authz.conformance.situation import ACCESS_TOKEN, TOKEN_TYPE, Need, Situation
from authz.conformance.token import Jwt

ID_JAG: Final = f"{TOKEN_TYPE}id-jag"
_TYP: Final = "oauth-id-jag+jwt"
_REQUIRED: Final = ("iss", "sub", "aud", "client_id", "jti", "exp", "iat")
_JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def _asked(situation: Situation, audience: str | None) -> Request:
    names = ("audience", "resource", "actor_token", "actor_token_type")
    request = situation.inputs.good.without(*names).with_("requested_token_type", ID_JAG)
    return request.with_("audience", audience or "")


def _good(situation: Situation) -> Sequence[Request]:
    return (_asked(situation, situation.inputs.id_jag_audience),)


def _claims(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    (answer,) = answers
    token = Jwt.read(answer.unverified_token or "")
    if token is None:
        return failed(answer.got if answer.unverified_token is None else "an ID-JAG that is not a JWT")
    claims, typ = token.unverified_claims, token.unverified_header.get("typ")
    absent = [name for name in _REQUIRED if name not in claims]
    if typ != _TYP:
        return failed(f"typ {short(typ)}")
    if absent:
        return failed(f"no {', '.join(absent)}")
    if audiences_of(claims) != (situation.inputs.id_jag_audience,):
        return failed(f"aud {short(claims['aud'])}")
    return passed("as expected")


def _unknown(situation: Situation) -> Sequence[Request]:
    return (_asked(situation, situation.inputs.unknown_audience),)


def _two(situation: Situation) -> Sequence[Request]:
    wanted = _asked(situation, situation.inputs.id_jag_audience)
    return (wanted.adding("audience", situation.inputs.unknown_audience),)


def _one_audience(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    (answer,) = answers
    token = Jwt.read(answer.unverified_token or "")
    if token is not None and audiences_of(token.unverified_claims) == (situation.inputs.id_jag_audience,):
        return passed("one aud")
    return first_wrong(answers, lambda each: not is_refusal(each))


def _here(situation: Situation, answers: Sequence[Answer]) -> Sequence[Request]:
    token, good = answers[0].unverified_token, situation.inputs.good
    if token is None:
        return ()
    subject = good.without("actor_token", "actor_token_type").with_("subject_token", token)
    form = (("grant_type", _JWT_BEARER), ("assertion", token))
    return (
        subject.with_("subject_token_type", ACCESS_TOKEN).labelled("as an access token"),
        subject.with_("subject_token_type", ID_JAG).labelled("as a subject token"),
        replace(good, form=form, label="as a grant"),
    )


def _not_here(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    first, *others = answers
    return refused()(situation, others) if first.unverified_token is not None else failed(first.got)


_NEEDS: Final = (Need.ID_JAG,)

CASES: Final = (
    Case(
        "CL-05", "answer", "an ID-JAG for another server",
        "issued_token_type id-jag, token_type N_A, no refresh token", _good,
        other_than_access(ID_JAG), AGENTS, _NEEDS,
    ),
    Case(
        "CL-05", "claims", "an ID-JAG for another server",
        f"typ {_TYP}, {', '.join(_REQUIRED)}, one aud", _good, _claims, AGENTS, _NEEDS,
    ),
    Case(
        "CL-05", "unknown-audience", "an ID-JAG for a server that nobody knows",
        "a refusal", _unknown, refused(), needs=_NEEDS,
    ),
    Case(
        "CL-05", "two-audiences", "an ID-JAG for two servers",
        "a refusal, or one aud", _two, _one_audience, AGENTS, _NEEDS,
    ),
    Case(
        "CL-05", "not-here", "the ID-JAG at the server that made it",
        "a refusal", _good, _not_here, needs=_NEEDS, follow=_here,
    ),
)  # fmt: skip
