"""What the refused are told: the same facts in every protocol.

- Code, sentence, fix and decision id, and where a person decides about the call; nothing else of a denial.
- JSON is written as UTF-8: the id of a request comes back as clients write it, not escaped.
"""

import json
from dataclasses import dataclass

from authz.approvals.prompt import Prompt
from authz.codes import Code
from authz.decision import Deny
from authz.form import Form

Json = dict[str, object]

# 403 to everybody but who waits for a JSON-RPC answer.
HTTP_STATUS = {
    Form.MALFORMED: 400,
    Form.REFUSED: 403,
    Form.TOKEN: 401,
    Form.SCOPE: 403,
    Form.POLICY: 403,
    Form.UNAVAILABLE: 503,
}
JSON_TYPE = ("content-type", "application/json")

# Made once: json.dumps makes one for each call that is not ASCII.
_ENCODER = json.JSONEncoder(ensure_ascii=False)
_UNREADABLE = frozenset({Code.JSON_MALFORMED, Code.BODY_ENCODING, Code.JSON_SURROGATE})


@dataclass(frozen=True, slots=True)
class Told:
    """All of a denial that leaves the house."""

    form: Form
    reason: str
    message: str
    fix: str
    decision_id: str
    approval: Prompt | None

    @classmethod
    def of(cls, deny: Deny, decision_id: str) -> "Told":
        """Take what may be told."""
        return cls(deny.form, deny.code, deny.message, deny.fix, decision_id, deny.approval)

    @property
    def status(self) -> int:
        """The status of HTTP that fits."""
        return HTTP_STATUS[self.form]

    @property
    def is_unreadable(self) -> bool:
        """Say whether the body is no text of JSON at all."""
        return self.reason in _UNREADABLE

    def facts(self) -> Json:
        """Return what a program can act on."""
        facts: Json = {"reason": self.reason, "fix": self.fix, "decision_id": self.decision_id}
        if self.approval is not None:
            facts["approval"] = {"id": self.approval.id, "url": self.approval.url}
        return facts

    def sentence(self) -> str:
        """Return all of it as one text, for those who show or read nothing else."""
        parts = [f"{self.message} ({self.reason})."]
        # Before what may be long: whoever cuts the text keeps the address.
        if self.approval is not None:
            parts.insert(0, f"A person decides at {self.approval.url} :")
        parts.append(f"What would allow it: {self.fix}.")
        if self.decision_id:
            parts.append(f"Decision {self.decision_id}.")
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Answer:
    """A refusal as it travels; one that hides names no reason anywhere that its client sees."""

    status: int
    body: str
    headers: tuple[tuple[str, str], ...] = (JSON_TYPE,)
    is_hiding: bool = False


def dump(document: Json) -> str:
    """Write JSON."""
    return _ENCODER.encode(document)


def plain_answer(told: Told) -> Answer:
    """Answer whoever speaks plain HTTP."""
    return Answer(told.status, dump({"error": told.message, **told.facts()}))
