"""Questions about administration to compare two engines with, as opa_questions.py makes those about calls.

- Each fits deputy.admin/v1; the same seed gives the same ones.
- The actors are those of the grants' roles, owners, and people who look like them; a proposed agent differs
  from the registered one in few parts, for that is where a denial turns into an allow.
"""

from collections.abc import Iterator, Mapping
from random import Random
from typing import Any, Final, get_args

from authz.admin import Action, RevokedKind
from authz.policy.grants import Grants
from authz.policy.modules import ADMIN_VERSION
from authz.policy.opa_check import Question

Json = Any  # as in opa_questions.py

_OWNER: Final = "https://idp.mesh.example#owner"
_PEOPLE: Final = (_OWNER, "https://idp.mesh.example#somebody", "https://idp.mesh.example#Owner")
_WORKLOADS: Final = ("spiffe://mesh.example/ns/ci/sa/deploy", "spiffe://mesh.example/ns/agents/sa/runner")
_CLIENTS: Final = tuple({"issuer": "https://idp.mesh.example", "client_id": name} for name in "abc")
_TIMES: Final = (None, 0, 1_800_000_000, 1_900_000_000)
_SANDBOXES: Final = (None, "gvisor", "kata")
_STRANGER: Final = "no-such-name"
_KINDS: Final = (*get_args(RevokedKind), None)


def admin_questions(grants: Grants, seed: int, count: int) -> Iterator[Question]:
    """Make questions about some grants."""
    making = _Making(grants.data["grants"], Random(seed))  # noqa: S311 - nothing here is secret
    for number in range(count):
        yield Question(f"administration, seed {seed}, question {number}", grants, making.query())


class _Making:
    def __init__(self, grants: Json, random: Random) -> None:
        self._random = random
        self._tiers = [*sorted(grants["tiers"]), _STRANGER]
        roles = list(grants.get("admin", {}).values())
        named = {
            kind: sorted({name for role in roles for name in role[kind]})
            for kind in ("people", "groups", "workloads")
        }
        self._people = [*named["people"] * 2, *_PEOPLE]
        self._groups = [*named["groups"], *named["people"], _STRANGER]
        self._workloads = [*named["workloads"], *_WORKLOADS]

    def query(self) -> Mapping[str, object]:
        """Make one question."""
        actor = self._actor()
        action = self._random.choice([*get_args(Action), *["agents/change"] * 12, *["approvals/approve"] * 2])
        agent = self._agent(actor["id"])
        compares = action in {"agents/change", "agents/register"}
        is_new = action == "agents/register" and self._maybe(70)
        return {
            "version": ADMIN_VERSION,
            "actor": actor,
            "action": action,
            "target": {
                "agent": None if is_new or self._maybe(8) else agent,
                "proposed": self._changed(agent, actor["id"]) if compares and not self._maybe(4) else None,
                "human": self._random.choice([None, actor["id"], *self._people])
                if actor["kind"] == "human"
                else self._random.choice([None, *self._people]),
                "workload": self._random.choice([None, *self._workloads]),
                "contained_by": self._random.choice([None, "uid:1000", actor["id"], *_PEOPLE]),
                "kind": self._random.choice(_KINDS),
                "id": self._random.choice([None, agent["name"]]),
            },
        }

    def _maybe(self, percent: int) -> bool:
        return self._random.randrange(100) < percent

    def _some(self, values: Json) -> list[Json]:
        return [value for value in values if self._maybe(50)]

    def _actor(self) -> dict[str, Json]:
        match self._random.randrange(10):
            case 0:
                return {"kind": "local", "id": "uid:1000", "groups": []}
            case 1 | 2:
                return {"kind": "workload", "id": self._random.choice(self._workloads), "groups": []}
            case _:
                groups = sorted(set(self._some(self._groups))) if self._maybe(30) else []
                return {"kind": "human", "id": self._random.choice(self._people), "groups": groups}

    def _agent(self, actor: str) -> dict[str, Json]:
        return {
            "name": self._random.choice(["triage", "other.example/triage"]),
            "owner": actor if self._maybe(60) else self._random.choice([*self._people, "a team"]),
            "sponsor": self._random.choice(self._people),
            "ceiling": self._random.choice(self._tiers),
            "autonomous": self._maybe(50),
            "hosts": self._some(_WORKLOADS),
            "clients": self._some(_CLIENTS),
            "max_depth": self._random.choice([1, 4, 8]),
            "expires_at": self._random.choice(_TIMES),
            "sandbox": self._random.choice(_SANDBOXES),
        }

    def _changed(self, agent: dict[str, Json], actor: str) -> dict[str, Json]:
        other = self._agent(actor)
        parts = self._random.sample(sorted(other), self._random.choice([0, 1, 1, 2, 3]))
        return {**agent, **{part: other[part] for part in parts}}
