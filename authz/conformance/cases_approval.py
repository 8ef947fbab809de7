"""CA-06: nothing is approved without a person (CIBA, and RFC 8628 for devices).

- No person is asked here but the one whom `--login-hint` names; that one is asked once, and need not answer.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from authz.conformance.case import Case, Verdict, failed, passed
from authz.conformance.cases_types import GARBAGE
from authz.conformance.judge import first_wrong, is_refusal, refused, short
from authz.conformance.message import Answer, Request
from authz.conformance.situation import Need, Situation

_CIBA: Final = "urn:openid:params:grant-type:ciba"
_DEVICE: Final = "urn:ietf:params:oauth:grant-type:device_code"
_WAITING: Final = frozenset({"authorization_pending", "slow_down"})


def _polls(situation: Situation) -> Sequence[Request]:
    good = situation.inputs.good
    return (
        replace(good, form=(("grant_type", _CIBA), ("auth_req_id", GARBAGE)), label="CIBA"),
        replace(good, form=(("grant_type", _DEVICE), ("device_code", GARBAGE)), label="a device"),
    )


def _question(situation: Situation) -> Request:
    inputs = situation.inputs
    form = (
        ("scope", inputs.scope or "openid"),
        ("login_hint", inputs.login_hint or GARBAGE),
        ("binding_message", "conformance"),
    )
    return replace(inputs.good, form=form, endpoint="backchannel_authentication", proofs=())


def _anonymous(situation: Situation) -> Sequence[Request]:
    return (replace(_question(situation), login=None),)


def _ask(situation: Situation) -> Sequence[Request]:
    return (_question(situation),)


def _poll(situation: Situation, answers: Sequence[Answer]) -> Sequence[Request]:
    name = answers[0].members.get("auth_req_id")
    if not isinstance(name, str):
        return ()
    poll = replace(situation.inputs.good, form=(("grant_type", _CIBA), ("auth_req_id", name)))
    return (poll.labelled("the first poll"), poll.labelled("the second poll"))


def _pending(_: Situation, answers: Sequence[Answer]) -> Verdict:
    first, *polls = answers
    if not polls:
        return failed(f"{first.got}, without an auth_req_id")
    expires = first.members.get("expires_in")
    if type(expires) is not int:
        return failed(f"expires_in {short(expires)}")
    wrong = next((poll for poll in polls if not is_refusal(poll) or poll.error not in _WAITING), None)
    return passed(polls[0].got) if wrong is None else failed(wrong.got)


def _refused_anonymous(_: Situation, answers: Sequence[Answer]) -> Verdict:
    return first_wrong(answers, lambda each: each.problem != "closed" and not is_refusal(each))


_BACKCHANNEL: Final = (Need.BACKCHANNEL,)

CASES: Final = (
    Case(
        "CA-06", "unknown", "a poll for an approval that nobody was asked for",
        "a refusal", _polls, refused(),
    ),
    Case(
        "CA-06", "anonymous", "a question to a person (CIBA) without a login",
        "a refusal", _anonymous, _refused_anonymous, needs=_BACKCHANNEL,
    ),
    Case(
        "CA-06", "pending", "a question to a person (CIBA), and two polls before anybody could answer",
        "expires_in, then authorization_pending or slow_down", _ask, _pending,
        needs=(Need.BACKCHANNEL, Need.LOGIN_HINT), follow=_poll,
    ),
)  # fmt: skip
