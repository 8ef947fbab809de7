"""SPIFFE IDs and trust domains, parsed once.

- Only canonical text is accepted: lower-case scheme and trust domain, no port, no query, no percent-encoding
  (SPIFFE-ID section 2; go-spiffe rejects the upper-case form, and two spellings of one name are two names).
- At most 255 bytes in all, because `sub` of OpenID Connect is limited to 255.
- Matching is on the whole text: `re.match` with `$` would let a final newline pass.
- IDs are compared as values, never by pattern.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from identity.errors import AgentNameError, SpiffeIdError
from identity.names import parse_agent_name, parse_ulid

MAX_ID_BYTES = 255

_SCHEME = "spiffe://"
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
# No segment is `.` or `..`.
_ID = re.compile(r"spiffe://([a-z0-9._-]{1,255})((?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)*)")


@dataclass(frozen=True, slots=True, order=True)
class TrustDomain:
    """A trust domain such as `mesh.example`."""

    name: str

    @classmethod
    def parse(cls, text: str) -> "TrustDomain":
        """Read a trust domain name.

        Raises:
            SpiffeIdError: if the name is not canonical (SPIFFE-ID section 2.1).
        """
        if not _TRUST_DOMAIN.fullmatch(text):
            raise SpiffeIdError(f"not a trust domain: {text[:MAX_ID_BYTES]!r}")
        return cls(text)

    @property
    def spiffe_id(self) -> "SpiffeId":
        """The ID of the trust domain itself, which has no path (X509-SVID section 3.2)."""
        return SpiffeId(self, "")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """A SPIFFE ID; `path` is empty or starts with a slash."""

    trust_domain: TrustDomain
    path: str

    @classmethod
    def parse(cls, text: str) -> "SpiffeId":
        """Read a SPIFFE ID.

        Raises:
            SpiffeIdError: if the text is not a canonical SPIFFE ID of at most 255 bytes.
        """
        if len(text) > MAX_ID_BYTES:
            raise SpiffeIdError(f"SPIFFE ID longer than {MAX_ID_BYTES} bytes")
        whole = _ID.fullmatch(text)
        if whole is None:
            raise _malformed(text)
        return cls(TrustDomain(whole[1]), whole[2])

    def __str__(self) -> str:
        return f"{_SCHEME}{self.trust_domain.name}{self.path}"


@lru_cache(maxsize=1024)  # a few agents, at every token of theirs
def agent_id(trust_domain: TrustDomain, agent: str) -> SpiffeId:
    """Return the ID of an agent's definition, the class of all its tasks."""
    return _checked(trust_domain, f"/agent/{parse_agent_name(agent)}")


def agent_task_id(trust_domain: TrustDomain, agent: str, task: str) -> SpiffeId:
    """Return the ID of one run of an agent.

    Raises:
        AgentNameError: if the agent's name or the task's ULID is not canonical.
        SpiffeIdError: if the ID would be longer than 255 bytes.
    """
    return _checked(trust_domain, f"/agent/{parse_agent_name(agent)}/task/{parse_ulid(task)}")


def parse_agent_id(spiffe_id: SpiffeId) -> str | None:
    """Return the agent's name if the ID is that of an agent's definition."""
    match spiffe_id.path.split("/"):
        case ["", "agent", name]:
            return _or_none(name)
    return None


def parse_agent_task(spiffe_id: SpiffeId) -> tuple[str, str] | None:
    """Return the agent's name and the task's ULID if the ID is that of an agent's task."""
    match spiffe_id.path.split("/"):
        case ["", "agent", name, "task", task]:
            try:
                return parse_agent_name(name), parse_ulid(task)
            except AgentNameError:
                return None
    return None


def _or_none(name: str) -> str | None:
    try:
        return parse_agent_name(name)
    except AgentNameError:
        return None


def _checked(trust_domain: TrustDomain, path: str) -> SpiffeId:
    spiffe_id = SpiffeId(trust_domain, path)
    if len(str(spiffe_id)) > MAX_ID_BYTES:
        raise SpiffeIdError(f"SPIFFE ID longer than {MAX_ID_BYTES} bytes: {path!r}")
    return spiffe_id


def _malformed(text: str) -> SpiffeIdError:
    """Say what is wrong with a text that is no SPIFFE ID."""
    if not text.startswith(_SCHEME):
        return SpiffeIdError(f"SPIFFE ID does not start with {_SCHEME!r}: {text!r}")
    domain = text.removeprefix(_SCHEME).partition("/")[0]
    if not _TRUST_DOMAIN.fullmatch(domain):
        return SpiffeIdError(f"not a trust domain: {domain!r}")
    return SpiffeIdError(f"SPIFFE ID with a bad path segment: {text!r}")
