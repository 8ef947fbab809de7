"""What the policy answers, parsed: an effect, its reasons, its obligations.

- An answer has exactly the members of schemas/result.json; anything else is a PolicyShapeError, so a denial.
- A refusal says why: without a reason it has no valid shape.
- An obligation that we do not know is one that we would not fulfil, so it is refused.
- A code of ours that says something else than "the policy refuses" (a bad token, an allow) is refused:
  codes choose the form of the answer.
- The texts are bounded and printable; they reach callers and records.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, cast, get_args

from authz.codes import Code
from authz.errors import PolicyShapeError
from authz.form import Form

Effect = Literal["allow", "deny", "approve"]
Audience = Literal["agent", "operator"]

_EFFECTS: Final = get_args(Effect)
_AUDIENCES: Final = get_args(Audience)

MAX_REASONS: Final = 256
MAX_TEXT: Final = 1024
MAX_SCOPES: Final = 64

_CODE: Final = re.compile(r"DPT(?:-[A-Z0-9]+){1,8}")
_CODE_LENGTH: Final = 64
_FORMS: Final = frozenset({Form.POLICY, Form.SCOPE, Form.REFUSED, Form.UNAVAILABLE})
_FORM_OF: Final = {code.value: code.form for code in Code}
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,128}")  # RFC 6749 section 3.3
_MEMBERS: Final = frozenset({"effect", "reasons", "obligations"})
_REASON_MEMBERS: Final = frozenset({"code", "msg", "rule", "fix", "audience"})
# `scopes`: what a token may carry (exchange). `needed_scopes`: what a call needs, where only that is missing.
_OBLIGATIONS: Final = frozenset({"scopes", "needed_scopes"})


@dataclass(frozen=True, slots=True)
class Reason:
    """One condition that failed; only `audience: agent` is ever shown to a caller."""

    code: str
    msg: str
    rule: str
    fix: str
    audience: Audience

    @classmethod
    def parse(cls, value: object) -> "Reason":
        """Read one reason.

        Raises:
            PolicyShapeError: if it has another form.
        """
        if not isinstance(value, dict) or value.keys() != _REASON_MEMBERS:
            raise PolicyShapeError(f"a reason needs exactly {', '.join(sorted(_REASON_MEMBERS))}")
        if value["audience"] not in _AUDIENCES:
            raise PolicyShapeError("the audience of a reason is agent or operator")
        return cls(
            code=_code(value["code"]),
            msg=_text(value["msg"]),
            rule=_text(value["rule"]),
            fix=_text(value["fix"]),
            audience=cast("Audience", value["audience"]),
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """The policy's answer; the first reason is the main one."""

    effect: Effect
    reasons: tuple[Reason, ...] = ()
    obligations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    revision: str = ""

    @classmethod
    def parse(cls, value: object, revision: str) -> "Verdict":
        """Read the policy's answer; `revision` names policy and data that gave it.

        Raises:
            PolicyShapeError: if it has another form.
        """
        if not isinstance(value, dict) or value.keys() != _MEMBERS:
            raise PolicyShapeError(f"the answer needs exactly {', '.join(sorted(_MEMBERS))}")
        if value["effect"] not in _EFFECTS:
            raise PolicyShapeError("the effect is allow, deny or approve")
        effect = cast("Effect", value["effect"])
        reasons = _reasons(value["reasons"])
        if effect != "allow" and not reasons:
            raise PolicyShapeError(f"the effect {effect} needs a reason")
        return cls(effect, reasons, _obligations(value["obligations"]), revision)


def _reasons(value: object) -> tuple[Reason, ...]:
    if not isinstance(value, list) or len(value) > MAX_REASONS:
        raise PolicyShapeError(f"the reasons are a list of at most {MAX_REASONS}")
    return tuple(Reason.parse(item) for item in value)


def _code(value: object) -> str:
    if not isinstance(value, str) or len(value) > _CODE_LENGTH or not _CODE.fullmatch(value):
        raise PolicyShapeError("a code looks like DPT-TOOL-UNKNOWN")
    if _FORM_OF.get(value, Form.POLICY) not in _FORMS:
        raise PolicyShapeError(f"the code {value} is not one that a policy gives")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or not value.isprintable():
        raise PolicyShapeError(f"a text of a reason is printable and has 1 to {MAX_TEXT} characters")
    return value


def _obligations(value: object) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(value, dict) or not value.keys() <= _OBLIGATIONS:
        raise PolicyShapeError(f"the obligations known here are {', '.join(sorted(_OBLIGATIONS))}")
    return {name: _scopes(scopes) for name, scopes in value.items()}


def _scopes(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_SCOPES:
        raise PolicyShapeError(f"scopes are a list of at most {MAX_SCOPES}")
    if not all(isinstance(scope, str) and _SCOPE.fullmatch(scope) for scope in value):
        raise PolicyShapeError("a scope is text without spaces and quotes (RFC 6749 section 3.3)")
    return tuple(value)
