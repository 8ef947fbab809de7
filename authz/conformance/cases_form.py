"""TX-01 to TX-03: the HTTP request, the grant type, the parameters."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from authz.conformance.case import OURS, Case, nothing
from authz.conformance.judge import of_good, refused
from authz.conformance.message import Answer, Request
from authz.conformance.situation import ACCESS_TOKEN, GRANT_TYPE, Situation
from authz.conformance.token import json_of

# Any of these says no to a request that is not a POST of a form.
_NO_FORM: Final = frozenset({404, 405, 406, 411, 415})
_SINGLE: Final = ("grant_type", "subject_token", "subject_token_type", "scope", "requested_token_type")


def _get(situation: Situation) -> Sequence[Request]:
    good = situation.inputs.good
    return (replace(good, method="GET", query=good.form, form=()),)


def _query(situation: Situation) -> Sequence[Request]:
    good = situation.inputs.good
    split = good.without("subject_token")
    query = tuple(pair for pair in good.form if pair[0] == "subject_token")
    return (
        replace(good, query=good.form, form=()).labelled("all in the query"),
        replace(split, query=query).labelled("subject_token in the query"),
    )


def _json_body(situation: Situation) -> Sequence[Request]:
    good = situation.inputs.good
    return (replace(good, content_type="application/json", body=json_of(dict(good.form))),)


def _multipart(situation: Situation) -> Sequence[Request]:
    good, mark = situation.inputs.good, "conformance-4c5b"
    parts = (
        f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in good.form
    )
    body = f"{''.join(parts)}--{mark}--\r\n".encode()
    return (replace(good, content_type=f"multipart/form-data; boundary={mark}", body=body),)


def _not_stored(_: Situation, answer: Answer) -> str | None:
    said = answer.headers.get("cache-control", "")
    return None if "no-store" in said.lower() else f"Cache-Control {said!r}"


def _json_answer(_: Situation, answer: Answer) -> str | None:
    said = answer.headers.get("content-type", "")
    return None if answer.is_json else f"Content-Type {said!r}"


def _grant_missing(situation: Situation) -> Sequence[Request]:
    good = situation.inputs.good
    return (good.without("grant_type").labelled("absent"), good.with_("grant_type", "").labelled("empty"))


def _grant_unknown(situation: Situation) -> Sequence[Request]:
    good = situation.inputs.good
    return (
        good.with_("grant_type", "urn:deputy:conformance:unknown").labelled("unknown"),
        good.with_("grant_type", GRANT_TYPE.upper()).labelled("in capitals"),
        good.with_("grant_type", f"{GRANT_TYPE} ").labelled("with a space"),
    )


def _without_subject(situation: Situation) -> Sequence[Request]:
    good = situation.inputs.good
    return (
        good.without("subject_token").labelled("absent"),
        good.with_("subject_token", "").labelled("empty"),
    )


def _without_subject_type(situation: Situation) -> Sequence[Request]:
    good = situation.inputs.good
    return (
        good.without("subject_token_type").labelled("absent"),
        good.with_("subject_token_type", "").labelled("empty"),
    )


def _actor_alone(situation: Situation) -> Sequence[Request]:
    inputs = situation.inputs
    actor = (inputs.actor or inputs.subject).unverified_token
    return (inputs.good.without("actor_token_type").with_("actor_token", actor),)


def _actor_type_alone(situation: Situation) -> Sequence[Request]:
    inputs = situation.inputs
    kind = inputs.actor.kind if inputs.actor else ACCESS_TOKEN
    return (inputs.good.without("actor_token").with_("actor_token_type", kind),)


def _repeated(situation: Situation) -> Sequence[Request]:
    good = situation.inputs.good
    return [
        good.adding(name, value).labelled(f"{name} twice")
        for name in _SINGLE
        if (value := good.one(name)) is not None
    ]


CASES: Final = (
    Case(
        "TX-01", "get", "the good request as GET, its parameters in the query",
        "400 invalid_request, or 405", _get, refused("invalid_request", statuses=_NO_FORM),
    ),
    Case(
        "TX-01", "query", "parameters in the query of the URL",
        "400 invalid_request", _query, refused("invalid_request", statuses=_NO_FORM),
    ),
    Case(
        "TX-01", "json-body", "the parameters as a JSON body",
        "400 invalid_request, or 415", _json_body, refused("invalid_request", statuses=_NO_FORM),
    ),
    Case(
        "TX-01", "multipart", "the parameters as multipart/form-data",
        "400 invalid_request, or 415", _multipart, refused("invalid_request", statuses=_NO_FORM), OURS,
    ),
    Case(
        "TX-01", "no-store", "the good request",
        "an answer with Cache-Control: no-store", nothing, of_good(_not_stored),
    ),
    Case(
        "TX-01", "json-answer", "the good request",
        "an answer of Content-Type application/json", nothing, of_good(_json_answer),
    ),
    Case(
        "TX-02", "grant-missing", "no grant_type",
        "400 invalid_request", _grant_missing,
        refused("invalid_request", "unsupported_grant_type"),
    ),
    Case(
        "TX-02", "grant-unknown", "another grant_type",
        "400 unsupported_grant_type", _grant_unknown, refused("unsupported_grant_type"),
    ),
    Case(
        "TX-03", "no-subject-token", "no subject_token",
        "400 invalid_request", _without_subject, refused("invalid_request"),
    ),
    Case(
        "TX-03", "no-subject-token-type", "no subject_token_type",
        "400 invalid_request", _without_subject_type, refused("invalid_request"),
    ),
    Case(
        "TX-03", "actor-token-alone", "an actor_token without actor_token_type",
        "400 invalid_request", _actor_alone, refused("invalid_request"),
    ),
    Case(
        "TX-03", "actor-token-type-alone", "an actor_token_type without actor_token",
        "400 invalid_request", _actor_type_alone, refused("invalid_request"),
    ),
    Case(
        "TX-03", "repeated-parameter", "a parameter that stands twice",
        "400 invalid_request", _repeated, refused("invalid_request"),
    ),
)  # fmt: skip
