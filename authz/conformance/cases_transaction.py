"""CL-02 to CL-04: transaction tokens (draft-ietf-oauth-transaction-tokens-10).

- Asked for is one for the token that the good request was answered with, where that is the client's own; else
  for the given subject token.
- What a service does with one, or writes to its log, is not seen here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from authz.conformance.case import AGENTS, OURS, Case, Verdict, failed, passed, skipped
from authz.conformance.cases_delegation import onward
from authz.conformance.judge import (
    audiences_of,
    claims_of,
    granted_scopes,
    is_refusal,
    other_than_access,
    refused,
    scopes_of,
    short,
)
from authz.conformance.login import JWT_BEARER, AssertionLogin
from authz.conformance.message import Answer, Request
from authz.conformance.situation import ACCESS_TOKEN, TOKEN_TYPE, Need, Situation
from authz.conformance.token import Jwt

TXN_TOKEN: Final = f"{TOKEN_TYPE}txn_token"
_TYP: Final = "txntoken+jwt"
_REQUIRED: Final = ("iat", "aud", "exp", "txn", "sub", "scope", "req_wl")
_LONGEST: Final = 300  # seconds


def _asked(situation: Situation, scope: str | None = None) -> Request:
    inputs = situation.inputs
    alone = inputs.good.without("actor_token", "actor_token_type")
    request = alone if inputs.actor is not None else onward(situation, situation.good[0])
    request = request.without("audience", "resource", "authorization_details")
    request = request.with_("requested_token_type", TXN_TOKEN).with_("audience", inputs.txn_audience or "")
    if inputs.request_details is not None:
        request = request.with_("request_details", inputs.request_details)
    return request if scope is None else request.with_("scope", scope)


def _good(situation: Situation) -> Sequence[Request]:
    return (_asked(situation),)


def _claims(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    (answer,) = answers
    token = Jwt.read(answer.unverified_token or "")
    if token is None:
        return failed(answer.got if answer.unverified_token is None else "a Txn-Token that is not a JWT")
    claims, header = token.unverified_claims, token.unverified_header
    absent = [name for name in _REQUIRED if name not in claims]
    if "act" in claims and "iss" not in claims:
        absent.append("iss beside act")
    if header.get("typ") != _TYP or "kid" not in header:
        return failed(f"typ {short(header.get('typ'))}, kid {short(header.get('kid'))}")
    if absent:
        return failed(f"no {', '.join(absent)}")
    if audiences_of(claims) != (situation.inputs.txn_audience,):
        return failed(f"aud {short(claims['aud'])}")
    return passed("as expected")


def _lifetime(_: Situation, answers: Sequence[Answer]) -> Verdict:
    claims = claims_of(answers[0])
    begin, end = claims.get("iat"), claims.get("exp")
    if type(begin) is not int or type(end) is not int:
        return skipped("no Txn-Token with iat and exp: see CL-02/claims")
    said = f"{end - begin} s"
    return passed(said) if end - begin <= _LONGEST else failed(said)


def _incomplete(situation: Situation) -> Sequence[Request]:
    request = _asked(situation)
    return [request.without(name).labelled(f"no {name}") for name in ("audience", "scope")]


def _no_inbound(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    (answer,) = answers
    if answer.unverified_token is None:
        return failed(answer.got)
    text = str(claims_of(answer))
    inbound = (situation.inputs.subject.unverified_token, situation.good[0].unverified_token or "")
    parts = [part for token in inbound for part in token.split(".")[-2:] if len(part) > 16]
    return failed("a token within it") if any(part in text for part in parts) else passed("as expected")


def _elsewhere(situation: Situation, answers: Sequence[Answer]) -> Sequence[Request]:
    token, good = answers[0].unverified_token, situation.inputs.good
    if token is None:
        return ()
    subject = good.without("actor_token", "actor_token_type").with_("subject_token", token)
    return (
        subject.with_("subject_token_type", ACCESS_TOKEN).labelled("as an access token"),
        replace(good, login=AssertionLogin(token, JWT_BEARER), label="as a login"),
    )


def _not_elsewhere(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    first, *others = answers
    return refused()(situation, others) if first.unverified_token is not None else failed(first.got)


# ---------------------------------------------------------------- in place of another one


def _replacing(situation: Situation, held: Answer, scope: str | None) -> Request:
    inputs = situation.inputs
    form = [
        ("grant_type", inputs.good.one("grant_type") or ""),
        ("subject_token", held.unverified_token or ""),
        ("subject_token_type", TXN_TOKEN),
        ("requested_token_type", TXN_TOKEN),
        ("audience", inputs.txn_audience or ""),
    ]
    details = inputs.next_request_details or inputs.request_details
    more = (("scope", scope), ("request_details", details))
    form += [(name, value) for name, value in more if value is not None]
    return Request(tuple(form), inputs.service_login)


def _replace(situation: Situation, answers: Sequence[Answer]) -> Sequence[Request]:
    held = answers[0]
    return () if held.unverified_token is None else (_replacing(situation, held, situation.inputs.scope),)


def _kept(_: Situation, answers: Sequence[Answer]) -> Verdict:
    before, after = claims_of(answers[0]), claims_of(answers[-1])
    if len(answers) < 2 or not before or not after:
        return failed(answers[-1].got)
    other = [name for name in ("txn", "sub", "aud") if before.get(name) != after.get(name)]
    if other:
        return failed(f"another {', '.join(other)}")
    more = scopes_of(after.get("scope")) - scopes_of(before.get("scope"))
    return failed(f"with {short(' '.join(sorted(more)))} more") if more else passed("as expected")


def _one_scope(situation: Situation) -> Sequence[Request]:
    scopes = (situation.inputs.scope or "").split()
    return (_asked(situation, scopes[0]),) if len(scopes) > 1 else ()


def _not_regained(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    if len(answers) < 2:
        return failed(answers[0].got)
    before, after = answers
    if is_refusal(after):
        return passed(after.got)
    if after.unverified_token is None:
        return failed(after.got)
    every = situation.inputs.scope or ""
    more = granted_scopes(after, every) - granted_scopes(before, every.partition(" ")[0])
    return failed(f"{after.got}, with {short(' '.join(sorted(more)))}") if more else passed(after.got)


_NEEDS: Final = (Need.TRANSACTION,)
_REPLACED: Final = (Need.TRANSACTION, Need.SERVICE)
_FOR: Final[Mapping[str, str]] = {"asked": "a transaction token", "given": "the transaction token"}

CASES: Final = (
    Case(
        "CL-02", "answer", _FOR["asked"],
        "issued_token_type txn_token, token_type N_A, no refresh token", _good,
        other_than_access(TXN_TOKEN), AGENTS, _NEEDS,
    ),
    Case(
        "CL-02", "claims", _FOR["asked"],
        f"typ {_TYP}, a kid, {', '.join(_REQUIRED)}, and iss beside act", _good, _claims, AGENTS, _NEEDS,
    ),
    Case(
        "CL-02", "incomplete", "a transaction token without an audience, or without a scope",
        "400 invalid_request", _incomplete, refused("invalid_request"), AGENTS, _NEEDS,
    ),
    Case(
        "CL-07", "transaction", _FOR["asked"],
        f"at most {_LONGEST} s from iat to exp", _good, _lifetime, OURS, _NEEDS,
    ),
    Case(
        "CL-03", "no-inbound-token", _FOR["asked"],
        "no token within it", _good, _no_inbound, needs=_NEEDS,
    ),
    Case(
        "CL-03", "no-credential", f"{_FOR['given']} as an access token, and as a login",
        "a refusal", _good, _not_elsewhere, needs=_NEEDS, follow=_elsewhere,
    ),
    Case(
        "CL-04", "kept", f"{_FOR['given']}, replaced by the service",
        "the same txn, sub and aud, and no more scopes", _good, _kept, AGENTS, _REPLACED, _replace,
    ),
    Case(
        "CL-04", "regained", "a transaction token with one scope, replaced by one with all",
        "a refusal, or one with no more", _one_scope, _not_regained, AGENTS, _REPLACED, _replace,
    ),
)  # fmt: skip
