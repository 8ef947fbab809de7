"""The decision: allowed with a grant, or denied with a reason.

- Two outcomes, no third: an error is a denial whose code says that we cannot know.
- A denial is falsy and an allow is truthy, whatever their fields hold.
- This file alone makes a `Grant`; a test walks the code for other places.
- `approve` is a denial until a person has approved this very call: code APPROVAL_REQUIRED. An approval turns
  nothing else into an allow: what the policy denies stays denied, whoever approved it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from authz.approvals.approval import Spent
from authz.approvals.prompt import Prompt
from authz.codes import Code, find_code
from authz.errors import CodedError
from authz.form import Form
from authz.policy.verdict import Verdict
from authz.protocols.operation import Operation
from identity.caller import Caller
from identity.grant import Grant

UNKNOWN_REVISION = ""
_ALLOWED = Code.ALLOWED.value


@dataclass(frozen=True, slots=True)
class Allow:
    """The action may happen; the grant is the evidence."""

    grant: Grant
    revision: str
    obligations: Mapping[str, object]

    @property
    def code(self) -> str:
        """The reason code of every allow."""
        return _ALLOWED

    def __bool__(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Deny:
    """The action may not happen; `message` and `fix` are for the caller, `detail` for the record."""

    code: str
    form: Form
    message: str
    fix: str
    rule: str = ""
    detail: str = ""
    codes: tuple[str, ...] = ()
    revision: str = UNKNOWN_REVISION
    # The scopes that alone would have allowed it; a client is told to get them only then.
    needed_scopes: tuple[str, ...] = ()
    # Where a person decides about this very call.
    approval: Prompt | None = None

    def __bool__(self) -> bool:
        return False


Decision = Allow | Deny


def decide(
    verdict: Verdict,
    caller: Caller,
    operation: Operation,
    *,
    service: str,
    decision_id: str,
    now: datetime,
    approval: Spent | None = None,
) -> Decision:
    """Turn the policy's verdict into a decision; only here does a grant come to be."""
    if verdict.effect != "allow" and (verdict.effect != "approve" or approval is None):
        return denied_by(verdict)
    return Allow(
        grant=Grant(
            decision_id=decision_id,
            human=caller.human.uri if caller.human else None,
            agent=caller.agent.name,
            task=caller.task.id,
            service=service,
            action=operation.method,
            resource=operation.resource_name,
            arguments_sha256=operation.arguments_sha256,
            scopes=caller.scopes,
            granted_at=now,
            approval=approval.id if approval is not None else None,
        ),
        revision=verdict.revision,
        obligations=verdict.obligations,
    )


def awaited(verdict: Verdict, prompt: Prompt) -> Deny:
    """Deny what waits for a person, and say where that person decides."""
    return replace(denied_by(verdict), approval=prompt)


def refused(error: CodedError, revision: str = UNKNOWN_REVISION) -> Deny:
    """Turn an error of ours into a denial."""
    return denied(error.code, error.detail, revision)


def denied(code: Code, detail: str = "", revision: str = UNKNOWN_REVISION) -> Deny:
    """Deny with one of our own codes."""
    return Deny(
        code=code.value,
        form=code.form,
        message=code.sentence,
        fix=code.fix,
        detail=detail,
        codes=(code.value,),
        revision=revision,
    )


def denied_by(verdict: Verdict) -> Deny:
    """Deny with the policy's first reason; the caller is told the first one that is for agents."""
    otherwise = Code.APPROVAL_REQUIRED if verdict.effect == "approve" else Code.DENIED
    if not verdict.reasons:
        return denied(otherwise, revision=verdict.revision)
    first, needed = verdict.reasons[0], verdict.obligations.get("needed_scopes", ())
    told = next((reason for reason in verdict.reasons if reason.audience == "agent"), None)
    return Deny(
        code=first.code,
        form=Form.SCOPE if needed else _form(first.code),
        message=told.msg if told else otherwise.sentence,
        fix=told.fix if told else otherwise.fix,
        rule=first.rule,
        detail="; ".join(reason.msg for reason in verdict.reasons),
        codes=tuple(reason.code for reason in verdict.reasons),
        revision=verdict.revision,
        needed_scopes=needed,
    )


def _form(code: str) -> Form:
    """Return the form of a code; policies may have codes of their own, which travel as policy denials."""
    known = find_code(code)
    # More scope would help only where the policy names it; else a client would log in again for nothing.
    return known.form if known and known.form is not Form.SCOPE else Form.POLICY
