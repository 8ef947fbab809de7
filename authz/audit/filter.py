"""Which records somebody asks for.

- A question that is not asked (None) is met by every record; a record that lacks what is asked for does not
  meet it.
- `agent` is met by the one who presents and by every agent of the chain: each of them acted.
- `human` is the subject, or `issuer#subject`, which no two people share.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from authz.audit.record import Json, Record, timestamp

DECISIONS: Final = frozenset({"decision", "exchange", "issuance", "withdrawn", "refused", "drift"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """The questions of `deputy decisions`; `since` is included, `until` is not."""

    kinds: frozenset[str] = DECISIONS
    human: str | None = None
    agent: str | None = None
    task: str | None = None
    tool: str | None = None
    service: str | None = None
    effect: str | None = None
    code: str | None = None
    txn: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, record: Record) -> bool:
        """Say whether a record meets every question."""
        return (
            record.kind in self.kinds
            and (self.since is None or record.time >= timestamp(self.since))
            and (self.until is None or record.time < timestamp(self.until))
            and self._plain_matches(record.members)
            and (self.tool is None or _tool(record.members) == self.tool)
            and (self.service is None or self.service in _services(record.members))
            and (self.human is None or self.human in _human(record.members))
            and (self.agent is None or self.agent in _hops(record.members, "agent"))
            and (self.task is None or self.task in _hops(record.members, "task"))
        )

    def _plain_matches(self, members: Mapping[str, Json]) -> bool:
        return all(
            wanted is None or members.get(member) == wanted
            for member, wanted in (("effect", self.effect), ("code", self.code), ("txn", self.txn))
        )


def _map(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def _tool(members: Mapping[str, Json]) -> Json:
    resource = _map(members.get("resource"))
    return resource.get("name") if resource.get("type") == "tool" else None


def _services(members: Mapping[str, Json]) -> tuple[Json, ...]:
    # The short record of a stranger has no room for a resource.
    return _map(members.get("resource")).get("service"), members.get("service")


def _human(members: Mapping[str, Json]) -> tuple[Json, ...]:
    human = _map(members.get("human"))
    return human.get("subject"), f"{human.get('issuer')}#{human.get('subject')}"


def _hops(members: Mapping[str, Json], member: str) -> list[Json]:
    chain = members.get("chain")
    hops = chain if isinstance(chain, list) else []
    return [members.get(member), *(_map(hop).get(member) for hop in hops)]
