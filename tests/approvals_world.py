"""Requests for approval of the tests: whose, for what, and a memory of one process in place of the file."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from authz.approvals.approval import Approval, Spent, summary
from authz.approvals.key import ApprovalKey, Asked
from authz.approvals.place import page_of
from authz.approvals.prompt import Prompt
from authz.store.approvals import ApprovalFile, ApprovalLimits
from authz.store.approvals_database import APPROVALS_FILE
from identity.canonical import sha256_hex
from identity.names import new_ulid
from tests.admin_world import uri
from tests.fakes import ISSUER, NOW

ARGUMENTS = '{"customer":"C-1"}'
KEY = ApprovalKey(
    human=uri("alice"),
    agent="listed",
    via=("triage",),
    task="01JD8Z7Y3M5E0QX2V9T4B6N8KA",
    service="billing",
    address="billing.example/mcp",
    action="tools/call",
    resource="delete_customer",
    arguments_sha256=sha256_hex(ARGUMENTS.encode()),
    revision="policy.data",
)
ASKED = Asked(KEY, ARGUMENTS)


def asked(arguments: str = ARGUMENTS, **parts: object) -> Asked:
    """A request like ASKED, with other parts of its key or other arguments."""
    digest = sha256_hex(arguments.encode()) if arguments else ""
    return Asked(replace(KEY, arguments_sha256=digest, **parts), arguments)  # type: ignore[arg-type]  # its parts


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@dataclass
class Book:
    """A file of approvals, and the time."""

    directory: Path
    limits: ApprovalLimits = field(default_factory=ApprovalLimits)
    after: float = 0
    _number: int = 0

    def __post_init__(self) -> None:
        self.file = ApprovalFile.open(self.path, self.limits)

    @property
    def path(self) -> Path:
        return self.directory / APPROVALS_FILE

    @property
    def now(self) -> datetime:
        return later(self.after)

    def new_id(self) -> str:
        self._number += 1
        return new_ulid(self.now, self._number.to_bytes(10))

    def request(self, of: Asked = ASKED) -> str:
        return self.file.request(of, self.now, self.new_id)

    def approve(self, approval_id: str, by: str = uri("alice")) -> Approval:
        return self.file.decide(approval_id, "approved", by, "", self.now)

    def deny(self, approval_id: str, by: str = uri("alice")) -> Approval:
        return self.file.decide(approval_id, "denied", by, "not now", self.now)

    def spend(self, of: Asked = ASKED, call: str = "") -> Spent | None:
        return self.file.spend(of.key, self.now, call)

    def state(self, approval_id: str) -> str | None:
        found = self.file.find(approval_id, self.now)
        return None if found is None else found.state

    def raw(self) -> bytes:
        """All bytes that the disk has of it."""
        return b"".join(path.read_bytes() for path in sorted(self.directory.iterdir()))


@dataclass
class MemoryApprovals:
    """The port without a file: what was approved by a person's word in the test."""

    waiting: dict[ApprovalKey, Prompt] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    approved: dict[ApprovalKey, Spent] = field(default_factory=dict)
    used: dict[tuple[ApprovalKey, str], Spent] = field(default_factory=dict)
    error: Exception | None = None

    def approve(self, by: str = "uid:1000", at: datetime = NOW) -> None:
        """Approve all that waits."""
        for key, prompt in self.waiting.items():
            self.approved[key] = Spent(prompt.id, by, at)
        self.waiting.clear()

    async def spend(self, key: ApprovalKey, now: datetime, call: str) -> Spent | None:
        if self.error is not None:
            raise self.error
        found = self.approved.pop(key, None)
        if found is None:
            return self.used.get((key, call)) if call else None
        self.used[key, call] = found
        return found

    async def request(self, asked: Asked, now: datetime) -> Prompt:
        self.asked.append(asked)
        if asked.key not in self.waiting:
            approval_id = new_ulid(now, len(self.asked).to_bytes(10))
            self.waiting[asked.key] = Prompt(approval_id, page_of(ISSUER, approval_id), summary(asked.key))
        return self.waiting[asked.key]
