"""Which processes are which workload: what an operator registers for a Unix socket, and how a peer matches.

- A process is told apart by its uid, which the kernel vouches for. gid and the executable's hash narrow that;
  alone they say nothing: every Python agent is the same interpreter, and anybody may copy a file.
- The hash of an interpreter is never known (`Peer.executable_sha256` is None), so it never matches.
- Where a workload has a socket of its own, the socket is the selector, and none else is needed.
- A uid is that of a workload or that of an agent, never both: one process would be two things.
- An agent's task is never registered: an ID below `/agent/` exists as long as its task does.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from identity.entitlement import MAX_HINT, Peer
from identity.errors import AgentNameError, AttestationError, SpiffeIdError
from identity.names import parse_agent_name
from identity.spiffe import SpiffeId, TrustDomain

MAX_UID: Final = 2**32 - 2  # 2**32 - 1 is "nobody in particular" to the kernel
# What the kernel shows for a uid of a user namespace that it cannot translate: many users look like this one.
OVERFLOW_UID: Final = 65534
MAX_REGISTRATIONS: Final = 4096

_AGENTS: Final = "/agent/"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_DNS_NAME: Final = re.compile(
    r"(?=.{1,253}$)(?:\*\.)?[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*|[0-9a-f.:]{2,45}"
)


@dataclass(frozen=True, slots=True)
class Registration:
    """One workload: its ID, and the processes that are it; a selector that is None is not looked at."""

    spiffe_id: SpiffeId
    uid: int | None = None
    gid: int | None = None
    executable_sha256: str | None = None
    hint: str = ""
    dns_names: tuple[str, ...] = ()

    @classmethod
    def parse(
        cls,
        spiffe_id: str,
        trust_domain: TrustDomain,
        *,
        uid: int | None = None,
        gid: int | None = None,
        executable_sha256: str | None = None,
        hint: str = "",
        dns_names: Iterable[str] = (),
        own_socket: bool = False,
    ) -> "Registration":
        """Read the registration of a workload; `own_socket` says that nobody else is let in where it asks.

        Raises:
            AttestationError: if the selectors do not say for sure who it is, or a part is malformed.
        """
        known = _workload_id(spiffe_id, trust_domain)
        if uid is None and not own_socket:
            text = "needs a uid or a socket of its own: gid and executable alone do not say who it is"
            raise AttestationError(f"workload {spiffe_id!r} {text}")
        if executable_sha256 is not None and uid is None:
            text = "needs a uid beside executable_sha256: anybody may run a copy of the file"
            raise AttestationError(f"workload {spiffe_id!r} {text}")
        if executable_sha256 is not None and not _SHA256.fullmatch(executable_sha256):
            raise AttestationError(
                f"workload {spiffe_id!r}: executable_sha256 is not 64 digits of lower-case hex"
            )
        _check_number(spiffe_id, "uid", uid)
        _check_number(spiffe_id, "gid", gid)
        if len(hint.encode()) > MAX_HINT or not hint.isprintable():
            raise AttestationError(f"workload {spiffe_id!r}: hint is not {MAX_HINT} printable bytes at most")
        names = tuple(dns_names)
        if wrong := [name for name in names if not _DNS_NAME.fullmatch(name)]:
            raise AttestationError(f"workload {spiffe_id!r}: not a DNS name or address: {wrong[0][:255]!r}")
        return cls(known, uid, gid, executable_sha256, hint, names)

    def matches(self, peer: Peer) -> bool:
        """Say whether a process is this workload; an executable that nobody could read is none."""
        return (
            self.uid in {None, peer.uid}
            and self.gid in {None, peer.gid}
            and (self.executable_sha256 is None or self.executable_sha256 == peer.executable_sha256)
        )


@dataclass(frozen=True, slots=True)
class AgentUid:
    """A uid that runs one agent and nothing else, where a task cannot have a socket of its own."""

    uid: int
    agent: str

    @classmethod
    def parse(cls, uid: int, agent: str) -> "AgentUid":
        """Read an entry of `agent_uids`.

        Raises:
            AttestationError: if the uid or the agent's name is not one.
        """
        try:
            name = parse_agent_name(agent)
        except AgentNameError as error:
            raise AttestationError(f"agent_uids: {error}") from error
        _check_number(f"agent {name}", "uid", uid)
        return cls(uid, name)


@dataclass(frozen=True, slots=True)
class Registrations:
    """Everybody who may come to the shared socket, by uid: thousands of streams ask at each change."""

    workloads: Mapping[int, tuple[Registration, ...]]
    agents: Mapping[int, str]

    @classmethod
    def of(cls, workloads: Sequence[Registration], agent_uids: Sequence[AgentUid] = ()) -> "Registrations":
        """Take the registrations of one socket, the default of a process with several first.

        Raises:
            AttestationError: if two of them contradict each other.
        """
        if len(workloads) + len(agent_uids) > MAX_REGISTRATIONS:
            raise AttestationError(f"more than {MAX_REGISTRATIONS} registrations on one socket")
        agents = {entry.uid: entry.agent for entry in agent_uids}
        if len(agents) != len(agent_uids):
            raise AttestationError("agent_uids: a uid stands twice; one uid runs one agent")
        if len(set(workloads)) != len(workloads):
            raise AttestationError("a workload is registered twice")
        by_uid: dict[int, tuple[Registration, ...]] = {}
        for registration in workloads:
            uid = registration.uid
            if uid is None:
                raise AttestationError(f"workload {str(registration.spiffe_id)!r} needs a uid here")
            if uid in agents:
                raise AttestationError(f"uid {uid} is a workload's and an agent's: it must be one of them")
            by_uid[uid] = (*by_uid.get(uid, ()), registration)
        return cls(MappingProxyType(by_uid), MappingProxyType(agents))

    def of_peer(self, peer: Peer) -> tuple[Registration, ...]:
        """Return the workloads that a process is, one entry an ID."""
        found: dict[SpiffeId, Registration] = {}
        for registration in self.workloads.get(peer.uid, ()):
            if registration.matches(peer):
                found.setdefault(registration.spiffe_id, registration)
        return tuple(found.values())


def _workload_id(text: str, trust_domain: TrustDomain) -> SpiffeId:
    try:
        spiffe_id = SpiffeId.parse(text)
    except SpiffeIdError as error:
        raise AttestationError(str(error)) from error
    if spiffe_id.trust_domain != trust_domain or not spiffe_id.path:
        raise AttestationError(f"not the ID of a workload of {trust_domain.name!r}: {text!r}")
    if f"{spiffe_id.path}/".startswith(_AGENTS):
        raise AttestationError(f"the ID of an agent, whose tasks are started and not registered: {text!r}")
    return spiffe_id


def _check_number(whose: str, name: str, number: int | None) -> None:
    if number is None:
        return
    if type(number) is not int or not 0 <= number <= MAX_UID or number == OVERFLOW_UID:
        raise AttestationError(f"{whose!r}: {name} {number!r} is not one that tells a user apart")
