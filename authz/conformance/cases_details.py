"""NR-04: authorization details only narrow (RFC 9396).

- Asked for are the details that the operator says are granted; what each member of a type means is not known
  here. A detail refines another of its type if it holds what that one holds, of a list of texts a part.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from authz.conformance.case import Case, Verdict, failed, passed, skipped
from authz.conformance.cases_delegation import onward
from authz.conformance.judge import claims_of, is_refusal, refused, short
from authz.conformance.message import Answer, Request
from authz.conformance.situation import Need, Situation
from authz.conformance.token import json_text

Detail = Mapping[str, object]
_MARK: Final = "deputy-conformance"
_MEMBER: Final = "authorization_details"
_MAX_CHANGES: Final = 16


def _asking(request: Request, *details: object) -> Request:
    return request.with_(_MEMBER, json_text(list(details)))


def _good(situation: Situation) -> Sequence[Request]:
    return (_asking(situation.inputs.good, *situation.inputs.details),)


def details_of(answer: Answer) -> tuple[Detail, ...]:
    """Return the details of an answer, or else of the token in it."""
    for source in (answer.members, claims_of(answer)):
        match source.get(_MEMBER):
            case list(several):
                return tuple(each for each in several if isinstance(each, dict))
    return ()


def _refines(one: Detail, wanted: Detail) -> bool:
    return all(name in one and _is_part(one[name], value) for name, value in wanted.items())


def _is_part(one: object, wanted: object) -> bool:
    match one, wanted:
        case list(some), list(several) if all(isinstance(each, str) for each in several):
            return bool(some) and all(each in several for each in some)
    return one == wanted


def _beyond(granted: Sequence[Detail], held: Sequence[Detail]) -> str | None:
    if not granted:
        return "without authorization_details, which says: everything"
    is_wide = not all(any(_refines(each, one) for one in held) for each in granted)
    return "with more than was granted before" if is_wide else None


def _told(_: Situation, answers: Sequence[Answer]) -> Verdict:
    (answer,) = answers
    if answer.unverified_token is None:
        return failed(answer.got)
    said = answer.members.get(_MEMBER)
    return passed(answer.got) if isinstance(said, list) and said else failed(f"{_MEMBER} {short(said)}")


def _granted(situation: Situation, answers: Sequence[Answer]) -> Verdict:
    (answer,) = answers
    if answer.unverified_token is None:
        return failed(answer.got)
    granted = details_of(answer)
    if not granted and not claims_of(answer):
        return skipped("neither the answer nor the token, which is no JWT, says its details")
    wrong = _beyond(granted, situation.inputs.details)
    return passed(answer.got) if wrong is None else failed(f"{answer.got}, {wrong}")


def _unknown_member(situation: Situation) -> Sequence[Request]:
    details = [{**detail, "deputy_conformance": True} for detail in situation.inputs.details]
    return (_asking(situation.inputs.good, *details),)


def _malformed(situation: Situation) -> Sequence[Request]:
    good, first = situation.inputs.good, situation.inputs.details[0]
    typeless = {name: value for name, value in first.items() if name != "type"}
    return (
        good.with_(_MEMBER, json_text(first)).labelled("no list"),
        _asking(good, typeless).labelled("no type"),
        _asking(good, {**first, "type": 7}).labelled("a type that is no text"),
        good.with_(_MEMBER, json_text([first])[:-1]).labelled("cut off"),
    )


def _wider(details: Sequence[Detail]) -> Iterator[tuple[str, Detail]]:
    """Change each member to what was not granted, or leave it out."""
    for detail in details:
        for name, value in detail.items():
            if name == "type":
                continue
            rest = {key: held for key, held in detail.items() if key != name}
            yield f"no {name}", rest
            match value:
                case str():
                    yield f"another {name}", {**rest, name: f"{value}-{_MARK}"}
                case list() if all(isinstance(each, str) for each in value):
                    yield f"one more of {name}", {**rest, name: [*value, _MARK]}


def _widened(situation: Situation, answers: Sequence[Answer]) -> Sequence[Request]:
    if answers[0].unverified_token is None:
        return ()
    held = onward(situation, answers[0])
    changes = list(_wider(situation.inputs.details))[:_MAX_CHANGES]
    return [
        held.labelled("without details"),
        *(_asking(held, detail).labelled(label[:40]) for label, detail in changes),
    ]


def _narrow(_: Situation, answers: Sequence[Answer]) -> Verdict:
    first, *others = answers
    held = details_of(first)
    if first.unverified_token is None or not held:
        return skipped(f"no token that says its details: {first.got}")
    for answer in others:
        if is_refusal(answer):
            continue
        if answer.unverified_token is None:
            return failed(answer.got)
        if not claims_of(answer) and not details_of(answer):
            return skipped("the issued token is not a JWT, so its details cannot be seen")
        if wrong := _beyond(details_of(answer), held):
            return failed(f"{answer.got}, {wrong}")
    return passed(others[0].got)


_NEEDS: Final = (Need.DETAILS,)

CASES: Final = (
    Case(
        "NR-04", "told", "authorization details that are granted",
        "an answer with those that were granted", _good, _told, needs=_NEEDS,
    ),
    Case(
        "NR-04", "granted", "authorization details that are granted",
        "a token with no more than was asked for", _good, _granted, needs=_NEEDS,
    ),
    Case(
        "NR-04", "unknown-member", "authorization details with an unknown member",
        "400 invalid_authorization_details", _unknown_member, refused("invalid_authorization_details"),
        needs=_NEEDS,
    ),
    Case(
        "NR-04", "malformed", "authorization details that are malformed",
        "400 invalid_authorization_details", _malformed, refused("invalid_authorization_details"),
        needs=_NEEDS,
    ),
    Case(
        "NR-04", "widened", "a token with details exchanged for one with others, with more or without",
        "a refusal, or details that refine those before", _good, _narrow, needs=_NEEDS, follow=_widened,
    ),
)  # fmt: skip
