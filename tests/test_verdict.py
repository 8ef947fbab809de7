"""The policy's answer: exactly one form, everything else is a denial."""

from typing import Any

import pytest

from authz.codes import Code
from authz.errors import PolicyShapeError
from authz.policy import schema
from authz.policy.verdict import MAX_REASONS, MAX_SCOPES, MAX_TEXT, Reason, Verdict


def reason(**changes: object) -> dict[str, object]:
    """Return a reason, with changes."""
    return {
        "code": "DPT-AGENT-TIER",
        "msg": "the tier does not reach",
        "rule": "hop_has",
        "fix": "raise it",
        "audience": "agent",
        **changes,
    }


def answer(**changes: object) -> dict[str, object]:
    """Return an answer, with changes."""
    return {"effect": "deny", "reasons": [reason()], "obligations": {}, **changes}


def test_reads_a_denial_with_its_reasons_in_order() -> None:
    second = reason(code="DPT-SCOPE-MISSING", audience="operator")
    verdict = Verdict.parse(answer(reasons=[reason(), second]), "p.d")
    assert verdict.effect == "deny"
    assert [found.code for found in verdict.reasons] == ["DPT-AGENT-TIER", "DPT-SCOPE-MISSING"]
    assert verdict.reasons[1] == Reason(
        "DPT-SCOPE-MISSING", "the tier does not reach", "hop_has", "raise it", "operator"
    )
    assert verdict.revision == "p.d"


def test_reads_an_allow() -> None:
    verdict = Verdict.parse(
        answer(effect="allow", reasons=[], obligations={"scopes": ["tickets:read"]}), "p.d"
    )
    assert verdict == Verdict("allow", (), {"scopes": ("tickets:read",)}, "p.d")


def test_an_allow_may_say_why() -> None:
    value = answer(effect="allow", reasons=[reason(code="DPT-OBSERVE")])
    assert Verdict.parse(value, "").reasons[0].code == "DPT-OBSERVE"


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        "allow",
        1,
        [],
        {},
        [answer()],
        {"effect": "allow"},
        {"allow": True},
        answer(revision="x"),
        answer(effect="Allow"),
        answer(effect="<undefined>"),
        answer(effect=True),
        answer(effect=None),
        answer(effect=["allow"]),
        answer(effect={"allow": 1}),
        answer(reasons=None),
        answer(reasons={}),
        answer(reasons=[]),
        answer(effect="approve", reasons=[]),
        answer(reasons=["DPT-DENIED"]),
        answer(reasons=[reason()] * (MAX_REASONS + 1)),
        answer(reasons=["<undefined>"]),
        answer(reasons=[{}]),
        answer(reasons=[reason(extra=1)]),
        answer(reasons=[reason(code="dpt-denied")]),
        answer(reasons=[reason(code="DPT-DENIED\n")]),
        answer(reasons=[reason(code="DPT-")]),
        answer(reasons=[reason(code="DPT-" + "A" * 64)]),
        answer(reasons=[reason(code=None)]),
        answer(reasons=[reason(msg="")]),
        answer(reasons=[reason(msg="a\r\nSet-Cookie: b")]),
        answer(reasons=[reason(msg="a" * (MAX_TEXT + 1))]),
        answer(reasons=[reason(rule=None)]),
        answer(reasons=[reason(fix=["x"])]),
        answer(reasons=[reason(audience="everybody")]),
        answer(reasons=[reason(audience=["agent"])]),
        answer(obligations=None),
        answer(obligations=[]),
        answer(obligations={"rate_limit": 5}),
        answer(obligations={"scopes": "tickets:read"}),
        answer(obligations={"scopes": [1]}),
        answer(obligations={"scopes": ["a b"]}),
        answer(obligations={"scopes": ['a"b']}),
        answer(obligations={"scopes": [""]}),
        answer(obligations={"scopes": ["a"] * (MAX_SCOPES + 1)}),
    ],
)
def test_refuses_an_answer_of_another_form_and_so_does_the_schema(value: object) -> None:
    with pytest.raises(PolicyShapeError) as caught:
        Verdict.parse(value, "")
    assert caught.value.code is Code.POLICY_SHAPE
    # Python's `$` lets a line end pass, so the schema is the laxer one there.
    assert schema.problems("result", value) != () or "\n" in str(value) or "\\n" in str(value)


@pytest.mark.parametrize("code", ["DPT-ALLOWED", "DPT-TOKEN-EXPIRED", "DPT-NOT-BOUND", "DPT-JSON-MALFORMED"])
def test_a_policy_cannot_speak_with_codes_that_are_not_its_own(code: str) -> None:
    with pytest.raises(PolicyShapeError, match="is not one that a policy gives"):
        Verdict.parse(answer(reasons=[reason(code=code)]), "")


def test_a_policy_may_have_codes_of_its_own() -> None:
    assert (
        Verdict.parse(answer(reasons=[reason(code="DPT-TOOL-ARG-012")]), "").reasons[0].code
        == "DPT-TOOL-ARG-012"
    )


def test_what_is_accepted_fits_the_schema() -> None:
    largest: list[Any] = [reason(msg="é" * MAX_TEXT)] * MAX_REASONS
    value = answer(reasons=largest, obligations={"needed_scopes": ["a:b"] * MAX_SCOPES})
    Verdict.parse(value, "")
    assert schema.problems("result", value) == ()
