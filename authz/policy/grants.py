"""`grants.yaml`: who may do what, written in tiers, turned into the data of the policy.

- All or nothing: a file with one mistake is refused whole, in one sentence with line and key.
- Every name that is used is defined: a tier, a service. An unknown key is refused, never skipped.
- An agent of another trust domain is written with its domain, so that no grant is for two agents.
- Nothing stands for everything: an empty file, an empty list and a wildcard are refused.
- The data is keyed by every name the policy looks up, so that no decision walks over grants; it is canonical
  JSON, and the digest is that of its bytes.
- docs/reference/grants.md describes each key; schemas/grants.json says the same to an editor.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from authz.errors import GrantsError
from authz.policy.grants_admin import GROUP, GROUP_FORM, check_person, parse_admin
from authz.policy.grants_limits import Json
from authz.policy.grants_service import CLASSES, LABEL, LABEL_FORM, parse_service
from authz.policy.yaml_cursor import Cursor
from authz.policy.yaml_strict import YamlError, parse_yaml
from identity.canonical import canonical_json, sha256_hex
from identity.qualified_name import MAX_NAME

VERSION: Final = 1
NO_CLASSES: Final[frozenset[str]] = frozenset()
MAX_BYTES: Final = 4 << 20
_MAX_TIERS: Final = 64
_MAX_SERVICES: Final = 4096
_MAX_NAMES: Final = 100_000
_MAX_SERVICES_OF_ONE: Final = 1024

_ANY_TEXT: Final = re.compile(r"(?s:.*)")
# As identity/qualified_name.py reads it: a label, behind the trust domain where that is not ours.
_AGENT: Final = re.compile(rf"{LABEL.pattern}|(?=.{{1,{MAX_NAME}}}\Z)[a-z0-9._-]+/{LABEL.pattern}")
_AGENT_FORM: Final = f"{LABEL_FORM}, behind 'trust.domain/' for an agent of another trust domain"


@dataclass(frozen=True, slots=True)
class Grants:
    """Grants that were read whole; `canonical` is their data as RFC 8785 writes it."""

    canonical: bytes
    digest: str

    @classmethod
    def parse(cls, data: bytes) -> "Grants":
        """Read the bytes of a grants file.

        Raises:
            GrantsError: if anything in the file is unknown, undefined or empty.
        """
        try:
            document = parse_yaml(data, MAX_BYTES)
        except YamlError as error:
            raise GrantsError(str(error)) from error
        canonical = canonical_json({"grants": _file(Cursor(document.value, (), document, GrantsError))})
        return cls(canonical, sha256_hex(canonical))

    @property
    def data(self) -> Mapping[str, object]:
        """Return the data for Rego, a fresh copy each time."""
        return cast("dict[str, object]", json.loads(self.canonical))

    def payload_classes(self) -> Mapping[str, frozenset[str]]:
        """Return the classes of data that have a rule, by the service they are sent to; read at each call."""
        content: Mapping[str, Mapping[str, Mapping[str, Mapping[str, object]]]] = json.loads(self.canonical)
        # A test's data need not be grants.
        services = content.get("grants", {}).get("services", {})
        return {
            name: frozenset(cast("Json", service["payload"]))
            for name, service in services.items()
            if "payload" in service
        }

    def tool_names(self) -> Mapping[str, tuple[str, ...]]:
        """Return the names of the tools that each service offers; no other tool is ever allowed."""
        content: Mapping[str, Mapping[str, Mapping[str, Json]]] = json.loads(self.canonical)
        services = content.get("grants", {}).get("services", {})
        return {name: tuple(cast("Json", service.get("tools", {}))) for name, service in services.items()}


def _file(cursor: Cursor) -> Json:
    if cursor.value is None:
        cursor.refuse("the grants are empty: begin with 'version: 1'")
    members = cursor.members(["version", "tiers", "services", "agents"], ["humans", "admin"])
    if type(version := members["version"].value) is not int or version != VERSION:
        members["version"].refuse(f"this program reads version {VERSION}")
    tiers = {name: _tier(at) for name, at in members["tiers"].entries(LABEL, LABEL_FORM, _MAX_TIERS).items()}
    services = {
        name: parse_service(name, at)
        for name, at in members["services"].entries(LABEL, LABEL_FORM, _MAX_SERVICES).items()
    }
    humans = members["humans"].members([], ["groups", "subjects"]) if "humans" in members else {}
    return {
        "tiers": tiers,
        "services": services,
        "groups": _groups(humans["groups"], services) if "groups" in humans else {},
        "subjects": _subjects(humans["subjects"], services) if "subjects" in humans else {},
        "agents": {
            name: _agent(at, tiers, services)
            for name, at in members["agents"].entries(_AGENT, _AGENT_FORM, _MAX_NAMES).items()
        },
        # Only where it is written, so that the digest of grants without it stays what it was.
        **({"admin": parse_admin(members["admin"])} if "admin" in members else {}),
    }


def _tier(cursor: Cursor) -> Json:
    """Read a tier: which classes are allowed outright, and which need a person's approval."""
    members = cursor.members([], ["allow", "approve"])
    if not members:
        cursor.refuse("a tier needs allow or approve")
    levels: Json = {}
    for level, at in members.items():
        for item in at.items(len(CLASSES)):
            name = item.choice(CLASSES, "a class")
            if name in levels:
                item.refuse(f"the class {name} is in allow and in approve: keep one")
            levels[name] = level
    return levels


def _groups(cursor: Cursor, services: Mapping[str, object]) -> Json:
    if cursor.value == {}:
        return {}
    entries = cursor.entries(GROUP, GROUP_FORM, _MAX_NAMES)
    return {name: _classes_by_service(at, services) for name, at in entries.items()}


def _subjects(cursor: Cursor, services: Mapping[str, object]) -> Json:
    if cursor.value == {}:
        return {}
    entries = cursor.entries(_ANY_TEXT, "text", _MAX_NAMES)
    for name, at in entries.items():
        check_person(at, name)
    return {name: _classes_by_service(at, services) for name, at in entries.items()}


def _classes_by_service(cursor: Cursor, services: Mapping[str, object]) -> Json:
    entries = cursor.entries(LABEL, LABEL_FORM, _MAX_SERVICES_OF_ONE)
    return {_known(at, name, services): _classes(at) for name, at in entries.items()}


def _classes(cursor: Cursor) -> Json:
    return {item.choice(CLASSES, "a class"): True for item in cursor.items(len(CLASSES))}


def _agent(cursor: Cursor, tiers: Mapping[str, object], services: Mapping[str, object]) -> Json:
    members = cursor.members(["tier", "services"])
    return {
        "tier": members["tier"].choice(list(tiers), "a tier of this file"),
        "services": {
            _known(item, item.text(LABEL_FORM, LABEL), services): True
            for item in members["services"].items(_MAX_SERVICES_OF_ONE)
        },
    }


def _known(cursor: Cursor, name: str, services: Mapping[str, object]) -> str:
    if name not in services:
        cursor.refuse(
            f"the service {name!r} is not listed under services: list it there, or correct the name"
        )
    return name
