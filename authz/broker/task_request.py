"""What a workload or a task asks of the task endpoint, read strictly.

- A body is one JSON object with the members named here; an unknown one is refused.
- Of a certificate request only the key counts; names in it are ignored.
- No message holds a value: one of them is a person's token.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from authz.broker.refusal import malformed
from identity.errors import AgentNameError, CertificateError
from identity.names import parse_agent_name
from identity.strict_json import Limits, StrictJsonError, loads
from identity.x509_svid import parse_csr

MAX_TASK_SECONDS: Final = 24 * 3600

_LIMITS: Final = Limits(depth=4, keys=16)
_MAX_AUDIENCE: Final = 512


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A task that shall start; `unverified_subject` is the person's ID token, None for nobody."""

    agent: str
    unverified_subject: str | None = field(repr=False)
    lifetime_seconds: int | None

    @classmethod
    def of(cls, agent: str, unverified_subject: str | None, lifetime_seconds: int | None) -> "StartRequest":
        """Read what a client says, whichever way it came.

        Raises:
            RefusedError: with REQUEST_MALFORMED.
        """
        try:
            name = parse_agent_name(agent)
        except AgentNameError as error:
            raise malformed("agent is not the name of an agent") from error
        if lifetime_seconds is not None and not 1 <= lifetime_seconds <= MAX_TASK_SECONDS:
            raise malformed(f"lifetime_seconds is not a whole number from 1 to {MAX_TASK_SECONDS}")
        return cls(name, unverified_subject, lifetime_seconds)


@dataclass(frozen=True, slots=True)
class StartWithKey:
    """A task that shall start with a key that its client holds."""

    start: StartRequest
    public_key: ec.EllipticCurvePublicKey = field(repr=False)

    @classmethod
    def parse(cls, body: bytes) -> "StartWithKey":
        """Read `{agent, subject_token?, lifetime_seconds?, csr}`.

        Raises:
            RefusedError: with REQUEST_MALFORMED.
        """
        members = _members(body, required={"agent", "csr"}, optional={"subject_token", "lifetime_seconds"})
        subject = _text(members, "subject_token") if "subject_token" in members else None
        start = StartRequest.of(_text(members, "agent"), subject, _lifetime(members))
        return cls(start, public_key_of(_text(members, "csr")))


@dataclass(frozen=True, slots=True)
class RenewRequest:
    """A task that needs a new X.509-SVID."""

    public_key: ec.EllipticCurvePublicKey = field(repr=False)

    @classmethod
    def parse(cls, body: bytes) -> "RenewRequest":
        """Read `{csr}`.

        Raises:
            RefusedError: with REQUEST_MALFORMED.
        """
        return cls(public_key_of(_text(_members(body, required={"csr"}), "csr")))


@dataclass(frozen=True, slots=True)
class JwtSvidRequest:
    """A task that needs a JWT-SVID."""

    audience: str

    @classmethod
    def parse(cls, body: bytes) -> "JwtSvidRequest":
        """Read `{audience}`.

        Raises:
            RefusedError: with REQUEST_MALFORMED.
        """
        audience = _text(_members(body, required={"audience"}), "audience")
        if len(audience) > _MAX_AUDIENCE:
            raise malformed("audience is too long")
        return cls(audience)


def public_key_of(csr: str) -> ec.EllipticCurvePublicKey:
    """Return the key of a certificate request in PEM.

    Raises:
        RefusedError: with REQUEST_MALFORMED.
    """
    try:
        return parse_csr(csr.encode())
    except CertificateError as error:
        raise malformed(f"csr: {error}") from error


def _members(
    body: bytes, required: set[str], optional: frozenset[str] | set[str] = frozenset()
) -> Mapping[str, object]:
    try:
        value = loads(body, _LIMITS)
    except StrictJsonError as error:
        raise malformed("the body is not strict JSON") from error
    if not isinstance(value, dict) or not required <= value.keys() <= required | optional:
        names = ", ".join([*sorted(required), *(f"{name} (optional)" for name in sorted(optional))])
        raise malformed(f"the body is not a JSON object with these members: {names}")
    return value


def _text(members: Mapping[str, object], name: str) -> str:
    value = members[name]
    if not isinstance(value, str) or not value:
        raise malformed(f"{name} is not a text")
    return value


def _lifetime(members: Mapping[str, object]) -> int | None:
    if "lifetime_seconds" not in members:
        return None
    value = members["lifetime_seconds"]
    if type(value) is not int:  # not isinstance: a bool is an int
        raise malformed(f"lifetime_seconds is not a whole number from 1 to {MAX_TASK_SECONDS}")
    return value
