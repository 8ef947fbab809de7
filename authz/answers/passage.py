"""Whose call an answer is to: written at `Check`, read where the answer comes by.

- It travels in Envoy's dynamic metadata, which no client writes. It is not signed: a proxy that would forge
  one sees the whole answer anyway. Who brings it is authenticated, and asks about its own services only.
- It says who the caller was. Whether they still may is looked up anew, each time: agents, runs, withdrawals.
- It is read strictly, like everything that comes from outside.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, cast, get_args

from authz.authenticate import Registered, check_standing, live_agent, live_task
from authz.codes import Code
from authz.errors import AnswerError, AuthenticationError
from authz.policy.query import caller_input
from authz.protocols.json_rpc import is_id
from authz.protocols.operation import Operation, Phase, Protocol
from authz.services import Service
from authz.sessions.port import Owner
from identity.authorization_details import tools_at
from identity.caller import Caller, Hop, Human
from identity.errors import IdentityError
from identity.strict_json import loads
from identity.withdrawal import Standing

# The field of the dynamic metadata.
PASSAGE_FIELD: Final = "passage"
# Sixty-four groups and a chain of eight are the most that a caller has.
MAX_BYTES: Final = 64 << 10

_MEMBERS: Final = frozenset(
    {"decision_id", "service", "protocol", "method", "phase", "rpc_id", "who", "tools", "standing", "runs"}
    | {"ends_at"}
)
_STANDING: Final = tuple(Standing.__dataclass_fields__)
_TUPLES: Final = frozenset({"agents", "tasks", "workloads", "grants", "parents"})


@dataclass(frozen=True, slots=True)
class Passage:
    """One allowed call whose answer is guarded."""

    decision_id: str
    service: str
    protocol: Protocol
    method: str
    phase: Phase
    # What the client waits for, where the answer that it gets is not the service's.
    rpc_id: str | int | None = field(repr=False)
    # The part of a question to the policy that says who is calling.
    who: Mapping[str, object] = field(repr=False)
    # The only tools that the credential is for, and nothing else; None where it has no details (RFC 9396).
    tools: tuple[str, ...] | None
    # All that the caller acts by, and the runs of ours that must be alive. A run of another trust domain is
    # known by its end only.
    standing: Standing = field(repr=False)
    runs: tuple[Hop, ...]
    ends_at: int

    @classmethod
    def of(cls, caller: Caller, operation: Operation, *, service: Service, decision_id: str) -> "Passage":
        """Take a call that was allowed."""
        is_foreign = caller.binding == "svid" and "/" in caller.agent.name
        return cls(
            decision_id=decision_id,
            service=service.name,
            protocol=operation.protocol,
            method=operation.method,
            phase=operation.phase,
            rpc_id=operation.rpc_id,
            who=caller_input(caller),
            tools=None if caller.details is None else tools_at(caller.details, service.audience),
            standing=Standing.of(caller, (caller.task.workload, *caller.requesters)),
            runs=() if is_foreign else caller.chain,
            ends_at=int(caller.task.deadline.timestamp()),
        )

    @classmethod
    def parse(cls, text: str) -> "Passage":
        """Read what `encode` wrote.

        Raises:
            AnswerError: with PASSAGE_MISSING, if it is something else.
        """
        try:
            return _parse(text)
        except (KeyError, TypeError, ValueError, IdentityError) as error:
            raise AnswerError(Code.PASSAGE_MISSING, f"not a passage: {type(error).__name__}") from error

    def encode(self) -> str:
        """Write it as JSON."""
        # `asdict` copies each part of each part first, which takes longer than all of the rest.
        parts = {
            "decision_id": self.decision_id,
            "service": self.service,
            "protocol": self.protocol,
            "method": self.method,
            "phase": self.phase,
            "rpc_id": self.rpc_id,
            "who": self.who,
            "tools": self.tools,
            "standing": {name: getattr(self.standing, name) for name in _STANDING},
            "runs": [{"agent": run.agent, "task": run.task} for run in self.runs],
            "ends_at": self.ends_at,
        }
        return json.dumps(parts, separators=(",", ":"))

    def may_name(self, kind: str, name: str) -> bool:
        """Say whether the credential is for such a thing at all; what the policy says is another question."""
        return self.tools is None or (kind == "tool" and name in self.tools)

    @property
    def owner(self) -> Owner:
        """Whose sessions are the caller's."""
        return Owner(self.standing.human, self.standing.agents[0])


def require_standing(passage: Passage, registered: Registered, now: datetime) -> None:
    """Refuse an answer to whom it is due no more.

    Raises:
        AuthenticationError: with the code that says what has ended, or was withdrawn.
    """
    if now >= datetime.fromtimestamp(passage.ends_at, UTC):
        raise AuthenticationError(Code.TASK_ENDED, f"task {passage.standing.tasks[0]!r}")
    for agent in passage.standing.agents:
        live_agent(registered, agent, now)
    human = Human.parse_uri(passage.standing.human) if passage.standing.human else None
    workloads = [live_task(registered, run, human, now).workload for run in passage.runs]
    check_standing(passage.standing, registered)
    # Those of the runs behind the presenter's, which its credential does not name.
    check_standing(Standing(workloads=tuple(map(str, workloads))), registered)


def _parse(text: str) -> Passage:
    data = text.encode()
    if not 0 < len(data) <= MAX_BYTES:
        raise ValueError("nothing, or too much")
    value = loads(data)
    if not isinstance(value, dict) or value.keys() != _MEMBERS:
        raise ValueError("other members")
    if value["protocol"] not in get_args(Protocol) or value["phase"] not in get_args(Phase):
        raise ValueError("no such protocol, or phase")
    texts = [value[name] for name in ("decision_id", "service", "method")]
    if not all(isinstance(each, str) and each for each in texts) or not isinstance(value["who"], dict):
        raise ValueError("a text is something else")
    if not (value["rpc_id"] is None or is_id(value["rpc_id"])):
        raise ValueError("an id is something else")
    ends_at = value["ends_at"]
    if type(ends_at) is not int:
        raise ValueError("no time")
    standing = _standing(value["standing"])
    datetime.fromtimestamp(ends_at, UTC)
    return Passage(
        decision_id=texts[0],
        service=texts[1],
        protocol=cast("Protocol", value["protocol"]),
        method=texts[2],
        phase=cast("Phase", value["phase"]),
        rpc_id=value["rpc_id"],
        who=value["who"],
        tools=None if value["tools"] is None else _texts(value["tools"]),
        standing=standing,
        runs=tuple(_run(each) for each in value["runs"]),
        ends_at=ends_at,
    )


def _standing(value: object) -> Standing:
    if not isinstance(value, dict) or value.keys() != set(_STANDING):
        raise ValueError("another standing")
    for name in ("human", "txn", "jti"):
        if type(value[name]) not in {str, type(None)}:
            raise ValueError("a name is something else")
    if type(value["issued_at"]) not in {int, type(None)} or not value["agents"] or not value["tasks"]:
        raise ValueError("nobody, or no time")
    if value["human"] is not None:
        Human.parse_uri(value["human"])
    parts: dict[str, Any] = {name: _texts(part) if name in _TUPLES else part for name, part in value.items()}
    return Standing(**parts)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError("a list is something else")
    return tuple(value)


def _run(value: object) -> Hop:
    match value:
        case {"agent": str(agent), "task": str(task), **rest} if not rest:
            return Hop(agent, task)
        case _:
            raise ValueError("no run")
