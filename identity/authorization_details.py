"""Which tools a token is for, with which arguments (RFC 9396).

- One type exists, `mcp_tool_call`: one tool of one service, optionally with one hash of its arguments and
  limits of single arguments. An unknown type or member is refused: it could be one that narrows.
- A token without details is limited by its scopes alone; one with details calls the tools that they name and
  no others.
- Refining only narrows (NR-04): what is granted is a pair of one detail held and one detail wanted, with the
  limits of both. A detail that refines none of those held is refused.
- Without any details left a token would be unlimited; so nothing left is an error, never an empty list.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from identity.argument_limit import ArgumentLimit
from identity.canonical import arguments_sha256
from identity.errors import ExchangeError

TYPE: Final = "mcp_tool_call"
ACTION: Final = "tools/call"
MAX_DETAILS: Final = 32
MAX_LIMITS: Final = 16

_MEMBERS: Final = frozenset({"type", "locations", "actions", "tool", "args_sha256", "limits"})
_REQUIRED: Final = frozenset({"type", "locations", "actions", "tool"})
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_TOOL: Final = re.compile(r"[\x21-\x7e]{1,256}")
_LOCATION: Final = re.compile(r"[\x21-\x7e]{1,512}")


@dataclass(frozen=True, slots=True)
class Detail:
    """Calls of one tool; `location` is the audience of its service."""

    location: str
    tool: str
    arguments_sha256: str | None = None
    limits: tuple[ArgumentLimit, ...] = ()

    @classmethod
    def parse(cls, value: object) -> "Detail":
        """Read one authorization detail.

        Raises:
            ExchangeError: with invalid_authorization_details.
        """
        if not isinstance(value, dict) or not _REQUIRED <= value.keys() <= _MEMBERS:
            raise _refused("an authorization detail without a member, or with one that we do not know")
        if value["type"] != TYPE or value["actions"] != [ACTION]:
            raise _refused(f"the type is not {TYPE}, or its actions are not {ACTION} alone")
        match value["locations"], value["tool"]:
            case [str() as location], str() as tool:
                pass
            case _:
                raise _refused("an authorization detail takes one location and one tool")
        if not (_LOCATION.fullmatch(location) and _TOOL.fullmatch(tool)):
            raise _refused("a location or a tool that is empty, long or not printable")
        digest, limits = value.get("args_sha256"), value.get("limits", [])
        if digest is not None and not (isinstance(digest, str) and _SHA256.fullmatch(digest)):
            raise _refused("args_sha256 is not 64 hex digits")
        if not isinstance(limits, list) or len(limits) > MAX_LIMITS:
            raise _refused(f"limits is not a list of at most {MAX_LIMITS}")
        return cls(location, tool, digest, tuple(ArgumentLimit.parse(limit) for limit in limits))

    def to_json(self) -> dict[str, object]:
        """Return the form that `parse` reads."""
        detail: dict[str, object] = {
            "type": TYPE,
            "locations": [self.location],
            "actions": [ACTION],
            "tool": self.tool,
        }
        if self.arguments_sha256 is not None:
            detail["args_sha256"] = self.arguments_sha256
        if self.limits:
            detail["limits"] = [limit.to_json() for limit in self.limits]
        return detail

    def covers(self, location: str, tool: str, arguments: Mapping[str, object]) -> bool:
        """Say whether a call of a tool is within this detail."""
        return covers((self,), location, tool, arguments)

    def joined(self, other: "Detail") -> "Detail | None":
        """Return what both allow, None if that is nothing."""
        if (self.location, self.tool) != (other.location, other.tool):
            return None
        hashes = {self.arguments_sha256, other.arguments_sha256} - {None}
        if len(hashes) > 1:
            return None
        limits = tuple(dict.fromkeys((*self.limits, *other.limits)))
        if len(limits) > MAX_LIMITS:
            raise _refused(f"more than {MAX_LIMITS} limits of one tool")
        return Detail(self.location, self.tool, next(iter(hashes), None), limits)


Details = tuple[Detail, ...]


def parse_details(value: object) -> Details:
    """Read `authorization_details`: a list of at least one.

    Raises:
        ExchangeError: with invalid_authorization_details.
    """
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_DETAILS:
        raise _refused(f"authorization_details is not a list of 1 to {MAX_DETAILS}")
    return tuple(dict.fromkeys(Detail.parse(detail) for detail in value))


def details_json(details: Details) -> list[dict[str, object]]:
    """Return the form that `parse_details` reads."""
    return [detail.to_json() for detail in details]


def refine(held: Details | None, wanted: Details | None) -> Details | None:
    """Return what both allow; None is no limit to single tools.

    Raises:
        ExchangeError: if a wanted detail refines none of those held, or too many come of them.
    """
    if held is None or wanted is None:
        return wanted if held is None else held
    granted: dict[Detail, None] = {}
    for detail in wanted:
        both = [joint for one in held if (joint := one.joined(detail)) is not None]
        if not both:
            raise _refused("an authorization detail that goes beyond what is held")
        granted.update(dict.fromkeys(both))
    if len(granted) > MAX_DETAILS:
        raise _refused(f"more than {MAX_DETAILS} authorization details come of it")
    return tuple(granted)


def joined(held: Details | None, allowed: Details | None) -> Details | None:
    """Return what is within both; unlike in `refine`, either may name what the other does not.

    Raises:
        ExchangeError: if nothing is, or too many come of them.
    """
    if held is None or allowed is None:
        return allowed if held is None else held
    pairs = (one.joined(other) for one in held for other in allowed)
    both = tuple(dict.fromkeys(pair for pair in pairs if pair is not None))
    if not both:
        raise _refused("none of the tools that are held may be called by this agent")
    if len(both) > MAX_DETAILS:
        raise _refused(f"more than {MAX_DETAILS} authorization details come of it")
    return both


def tools_at(details: Details, location: str) -> tuple[str, ...]:
    """Return the tools of one place that some call of is covered, each once."""
    return tuple(dict.fromkeys(detail.tool for detail in details if detail.location == location))


def covers(details: Details | None, location: str, tool: str, arguments: Mapping[str, object]) -> bool:
    """Say whether a call of a tool is within what a token is for."""
    if details is None:
        return True
    meant = [detail for detail in details if (detail.location, detail.tool) == (location, tool)]
    # Arguments may be long, and a token may name the hashes of many: they are hashed once, and only then.
    hashes = any(detail.arguments_sha256 is not None for detail in meant)
    digest = arguments_sha256(arguments) if hashes else None
    return any(
        detail.arguments_sha256 in {None, digest} and all(limit.allows(arguments) for limit in detail.limits)
        for detail in meant
    )


def _refused(text: str) -> ExchangeError:
    return ExchangeError("invalid_authorization_details", text)
