"""The `admin` section of `grants.yaml`: who may administer, by role.

- Three roles: operators may do everything but speak in a person's name, auditors list, transmitters report
  security events.
- People, groups and workloads are told apart, so that a group named like a person is no person.
- Every person and every workload is written out in full, and is one that could come: a name that nobody could
  ever have is a mistake in the file.
- No agent administers: it would sooner or later administer itself.
"""

import re
from collections.abc import Callable
from typing import Final

from authz.policy.grants_limits import Json
from authz.policy.yaml_cursor import Cursor
from identity.caller import Human
from identity.errors import HumanError, SpiffeIdError
from identity.spiffe import SpiffeId

ROLES: Final = ("operators", "auditors", "transmitters")
GROUP: Final = re.compile(r"[^\x00-\x1f\x7f]{1,64}")
GROUP_FORM: Final = "a group of 1 to 64 characters"

_ANY_TEXT: Final = re.compile(r"(?s:.*)")
_MAX_OF_ONE_KIND: Final = 1024
_AGENTS: Final = "/agent/"


def parse_admin(cursor: Cursor) -> Json:
    """Read the section; a role that is left out is nobody's."""
    roles = cursor.members([], ROLES)
    if not roles:
        cursor.refuse(f"nobody stands here: name {', '.join(ROLES)}, or take the key out")
    return {name: _role(roles[name]) if name in roles else _role_of({}) for name in ROLES}


def check_person(at: Cursor, uri: str) -> None:
    """Refuse what is not written as a person is."""
    try:
        Human.parse_uri(uri)
    except HumanError as error:
        at.refuse(f"a person is written as issuer#subject: {error}")


def _role(cursor: Cursor) -> Json:
    kinds = cursor.members([], ["people", "groups", "workloads"])
    if not kinds:
        cursor.refuse("nobody has this role: name people, groups or workloads, or take the key out")
    return _role_of(kinds)


def _role_of(kinds: dict[str, Cursor]) -> Json:
    """Key by every name that the policy looks up."""
    readers: dict[str, Callable[[Cursor], str]] = {
        "people": _person,
        "groups": _group,
        "workloads": _workload,
    }
    return {
        kind: {read(item): True for item in kinds[kind].items(_MAX_OF_ONE_KIND)} if kind in kinds else {}
        for kind, read in readers.items()
    }


def _person(at: Cursor) -> str:
    uri = at.text("text", _ANY_TEXT)
    check_person(at, uri)
    return uri


def _group(at: Cursor) -> str:
    return at.text(GROUP_FORM, GROUP)


def _workload(at: Cursor) -> str:
    text = at.text("text", _ANY_TEXT)
    try:
        path = SpiffeId.parse(text).path
    except SpiffeIdError as error:
        at.refuse(f"a workload is written as its SPIFFE ID: {error}")
    if not path:
        at.refuse("a trust domain is no workload: name a workload of it")
    if path.startswith(_AGENTS):
        at.refuse("an agent does not administer: name the workload that does")
    return text
