"""What one approval is for: one call of one agent, in one run, for one person, by one policy.

- Whatever would make it another call makes another key: where it was sent (one service may have several
  hosts and paths), the arguments, and where nobody reads arguments (plain HTTP, gRPC) the whole request
  target and body, of which the policy sees the path only.
- Another run, another revision of the policy, another way that the work was handed on: another key.
- What a person is shown is the key, and the text whose hash stands in it: nobody approves what they could not
  see. What is too long to be shown is refused.
"""

from dataclasses import dataclass, field
from typing import Final

from authz.approvals.shown import shown
from authz.codes import Code
from authz.errors import ApprovalError
from authz.protocols.operation import Operation
from authz.request import Request
from identity.caller import Caller
from identity.canonical import canonical_json, sha256_hex

VERSION: Final = "deputy.approval/v1"
MAX_RESOURCE: Final = 4096


@dataclass(frozen=True, slots=True)
class ApprovalKey:
    """One call; `human` is None where the agent acts for nobody, `via` names who handed the work on.

    `address` is host and path; a query may hold what is secret, so it stands among what goes with the use.
    """

    human: str | None
    agent: str
    via: tuple[str, ...]
    task: str
    service: str
    address: str
    action: str
    resource: str
    arguments_sha256: str
    revision: str

    @property
    def digest(self) -> str:
        """Name the key: the SHA-256 of its canonical JSON."""
        parts: list[object] = [
            VERSION,
            self.human,
            self.agent,
            list(self.via),
            self.task,
            self.service,
            self.address,
            self.action,
            self.resource,
            self.arguments_sha256,
            self.revision,
        ]
        return sha256_hex(canonical_json(parts))


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that a person is asked about, and its arguments as they are shown; empty where it has none."""

    key: ApprovalKey
    # They may be personal: shown to the person, in no log.
    arguments: str = field(repr=False)

    @classmethod
    def of(
        cls, caller: Caller, operation: Operation, request: Request, *, service: str, revision: str
    ) -> "Asked":
        """Take what is asked for.

        Raises:
            ApprovalError: with APPROVAL_SIZE, if it is too long to be shown.
            InspectionError: if it cannot be written so that all read the same.
        """
        address = _address(request)
        if (longest := max(len(operation.resource_name), len(address))) > MAX_RESOURCE:
            raise ApprovalError(Code.APPROVAL_SIZE, f"a name of {longest} characters")
        arguments = shown(operation, request)
        key = ApprovalKey(
            human=caller.human.uri if caller.human else None,
            agent=caller.agent.name,
            via=tuple(hop.agent for hop in caller.chain[1:]),
            task=caller.task.id,
            service=service,
            address=address,
            action=operation.method,
            resource=operation.resource_name,
            arguments_sha256=sha256_hex(arguments) if arguments else "",
            revision=revision,
        )
        return cls(key, arguments.decode())


def _address(request: Request) -> str:
    port = "" if request.port is None else f":{request.port:d}"
    return f"{request.host}{port}{request.path.partition('?')[0]}"
