"""What stops and releases: the kill switch, from the command line."""

from collections.abc import Mapping
from typing import Any, Literal

from authz.commands.api import Api, is_obeyed, obeyed, with_wait
from authz.commands.output import OK, UNKNOWN, Output, emit_one, printable, say
from authz.commands.where import Where

Contained = Literal["agent", "workload", "human"]


def contain(
    where: Where,
    kind: Contained,
    subject: str,
    reason: str,
    *,
    wait: bool,
    output: Output,
    sessions: bool = False,
) -> int:
    """Stop something until it is released, or take back what a person began until now."""
    body: dict[str, object] = {"kind": kind, "subject": subject, "reason": reason}
    if sessions:
        body["sessions"] = True
    answer = Api.of(where).post("withdrawals", body=with_wait(body, wait=wait))
    done = "is signed out" if sessions else "is contained"
    return _told(answer, f"{kind} {printable(subject)} {done}", output)


def release(where: Where, kind: Contained, subject: str, reason: str, *, wait: bool, output: Output) -> int:
    """Let something act again."""
    body: dict[str, object] = {"kind": kind, "subject": subject, "reason": reason}
    answer = Api.of(where).post("releases", body=with_wait(body, wait=wait))
    return _told(answer, f"{kind} {printable(subject)} is released", output)


def revoke(where: Where, body: Mapping[str, object], reason: str, *, wait: bool, output: Output) -> int:
    """Revoke a token, a task, a lineage or a grant, for good."""
    answer = Api.of(where).post("withdrawals", body=with_wait({**body, "reason": reason}, wait=wait))
    return _told(answer, f"{answer.get('kind')} {answer.get('subject')} is revoked", output)


def _told(answer: Mapping[str, Any], what: str, output: Output) -> int:
    if output is Output.TABLE:
        say(f"{what}: {obeyed(answer)}")
    else:
        emit_one(answer, output, [], name="subject")
    return OK if is_obeyed(answer) else UNKNOWN
