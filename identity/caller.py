"""Who is calling: the human, the agent acting for them, and the chain between.

- A human and an agent are different types; a function that takes one cannot be given the other.
- Each value is made by `parse` or by code that holds parsed parts; past that nobody re-checks.
- A chain is written from the presenter inwards, as `act` is (RFC 8693 section 4.1): `chain[0]` presents.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from identity.authorization_details import Details
from identity.errors import HumanError
from identity.quick_init import quick_init
from identity.spiffe import SpiffeId

MAX_GROUPS = 64
MAX_METHODS = 16
MAX_DEPTH = 8
DEFAULT_DEPTH = 4
# How often one call may be passed on from service to service.
MAX_REQUESTERS = 8

_ISSUER = re.compile(
    r"https://[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]{0,200})?"
    # A provider on the loopback is for development; nobody else can answer there.
    r"|http://(?:127\.0\.0\.1|localhost)(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]{0,200})?"
)
# OpenID Connect Core section 2: `sub` is at most 255 ASCII characters.
_SUBJECT = re.compile(r"[\x21-\x7e]{1,255}")
_GROUP = re.compile(r"[^\x00-\x1f\x7f]{1,64}")


@quick_init
@dataclass(frozen=True, slots=True)
class Human:
    """A person, as an OpenID Provider names them."""

    issuer: str
    subject: str
    groups: tuple[str, ...] = ()
    acr: str | None = None
    auth_time: int | None = None
    # How they signed in (RFC 8176), as the provider says.
    amr: tuple[str, ...] = ()

    @classmethod
    def parse(  # noqa: PLR0917 - as the claims of a token
        cls,
        issuer: str,
        subject: str,
        groups: tuple[str, ...] = (),
        acr: str | None = None,
        auth_time: int | None = None,
        amr: tuple[str, ...] = (),
    ) -> "Human":
        """Read a person's description.

        Raises:
            HumanError: if a part is malformed, too long or too many.
        """
        if not _ISSUER.fullmatch(issuer):
            raise HumanError(f"not an issuer of people that we accept: {issuer[:255]!r}")
        if not _SUBJECT.fullmatch(subject):
            raise HumanError(f"not a subject of at most 255 printable characters: {subject[:255]!r}")
        if len(groups) > MAX_GROUPS or not all(_GROUP.fullmatch(group) for group in groups):
            raise HumanError(
                f"more than {MAX_GROUPS} groups, or one that is empty, long or has control characters"
            )
        if acr is not None and not _SUBJECT.fullmatch(acr):
            raise HumanError(f"not an authentication context class: {acr[:255]!r}")
        if len(amr) > MAX_METHODS or not all(_GROUP.fullmatch(method) for method in amr):
            raise HumanError(f"more than {MAX_METHODS} authentication methods, or one that is malformed")
        return cls(issuer, subject, groups, acr, auth_time, amr)

    @classmethod
    def parse_uri(
        cls,
        uri: str,
        groups: tuple[str, ...] = (),
        acr: str | None = None,
        auth_time: int | None = None,
        amr: tuple[str, ...] = (),
    ) -> "Human":
        """Read `issuer#subject`, the `sub` of the tokens that we issue.

        Raises:
            HumanError: if the text has no `#`, or a part is malformed.
        """
        issuer, hash_, subject = uri.partition("#")
        if not hash_:
            raise HumanError(f"not a person (issuer#subject): {uri[:255]!r}")
        return cls.parse(issuer, subject, groups, acr, auth_time, amr)

    @property
    def uri(self) -> str:
        """`issuer#subject`: an issuer has no fragment, so two providers can never name one person alike."""
        return f"{self.issuer}#{self.subject}"


@dataclass(frozen=True, slots=True)
class OidcClient:
    """An application, as an OpenID Provider knows it: whose people's tokens it receives."""

    issuer: str
    client_id: str


@dataclass(frozen=True, slots=True)
class Agent:
    """A registered definition of an agent; `ceiling` names a tier of the grants."""

    name: str
    owner: str
    sponsor: str
    purpose: str
    ceiling: str
    autonomous: bool = False
    hosts: frozenset[SpiffeId] = frozenset()
    max_depth: int = DEFAULT_DEPTH
    expires_at: datetime | None = None
    sandbox: str | None = None
    # The applications through which people hand it their sign-in; a token of another one does not count.
    clients: frozenset[OidcClient] = frozenset()


@dataclass(frozen=True, slots=True)
class Task:
    """One run of one agent, for one human (`human` is their URI) or for nobody."""

    id: str
    agent: str
    human: str | None
    workload: SpiffeId
    started_at: datetime
    deadline: datetime
    ended_at: datetime | None = None
    # base64url SHA-256 of the newest X.509-SVID (DER): what a token for this task is bound to.
    thumbprint: str | None = None
    # The process instance that started it, as it was attested: `uid:1000`, `pod:<uid>`; None for who came
    # over mTLS, where the workload's key is all that is known.
    origin: str | None = None

    def is_live(self, now: datetime) -> bool:
        """Say whether the run may still act."""
        return self.ended_at is None and now < self.deadline


@dataclass(frozen=True, slots=True)
class Hop:
    """One agent of a delegation chain, in one of its runs."""

    agent: str
    task: str


@dataclass(frozen=True, slots=True)
class KeyBinding:
    """Bound to a key: base64url SHA-256 of the certificate (RFC 8705 section 3.1)."""

    thumbprint: str


@dataclass(frozen=True, slots=True)
class WorkloadBinding:
    """Bound to one attested workload, where the mesh hides the agent's key."""

    workload: SpiffeId


@dataclass(frozen=True, slots=True)
class DpopBinding:
    """Bound to a key that proves itself at each request: its SHA-256 thumbprint (RFC 9449 section 6.1)."""

    jkt: str


Binding = KeyBinding | WorkloadBinding | DpopBinding
BindingKind = Literal["key", "workload", "svid"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Everybody who stands behind one request; only authentication makes it."""

    human: Human | None
    agent: Agent
    task: Task
    chain: tuple[Hop, ...]
    chain_agents: tuple[Agent, ...]
    peer: SpiffeId
    binding: BindingKind
    scopes: frozenset[str]
    token_id: str
    txn: str
    # When the credential ends, in seconds since 1970: what stands for the caller upstream ends with it.
    expires_at: int
    # What a withdrawal could name besides those above; None where the credential has no such thing.
    issued_at: int | None = None
    jti: str | None = None
    grants: tuple[str, ...] = ()
    # The only tools that it is for; None where its scopes alone limit it.
    details: Details | None = None
    # The tokens that the credential was exchanged from.
    parents: tuple[str, ...] = ()
    # Who asked before the peer, where a service passes a call on; the first one first.
    requesters: tuple[SpiffeId, ...] = ()
