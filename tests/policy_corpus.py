"""The whole corpus of the shipped policy as questions to both engines; the policy lock is about these."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from authz.policy.grants import Grants
from authz.policy.opa_admin_questions import admin_questions
from authz.policy.opa_check import Question
from authz.policy.opa_questions import list_questions, questions
from identity.canonical import canonical_json, sha256_hex
from tests.policy.corpus import generated_cases, grants, load_cases

SEED = 1
GENERATED = 600
QUESTIONS_OF_ONE = 300
LISTS_OF_ONE = 300
CHANGES_OF_ONE = 400

OLGA, OMAR, ADA = (f"https://idp.mesh.example#{name}" for name in ("olga", "omar", "ada"))
_ROLE: Mapping[str, object] = {"people": {}, "groups": {}, "workloads": {}}
ROLES: Mapping[str, Mapping[str, object]] = {
    "operators": {
        "people": {OLGA: True, OMAR: True},
        "groups": {"platform": True},
        "workloads": {"spiffe://mesh.example/ns/ci/sa/deploy": True},
    },
    "auditors": {**_ROLE, "people": {ADA: True}, "groups": {"audit": True}},
    "transmitters": {**_ROLE, "workloads": {"spiffe://mesh.example/ns/idp/sa/signals": True}},
}


def as_grants(data: Mapping[str, object]) -> Grants:
    """Take the data of a case for grants."""
    canonical = canonical_json(data)
    return Grants(canonical, sha256_hex(canonical))


def with_roles(data: Mapping[str, Any], roles: Mapping[str, object] = ROLES) -> Grants:
    """Let some people administer."""
    return as_grants({"grants": {**data["grants"], "admin": roles}})


def administration() -> Iterator[Question]:
    """Who may administer: with all roles, with nobody in them, and with no such section."""
    for name in ("full", "demo"):
        data = grants(name)
        for held in (with_roles(data), with_roles(data, dict.fromkeys(ROLES, _ROLE)), as_grants(data)):
            yield from admin_questions(held, SEED, CHANGES_OF_ONE)


@cache
def corpus() -> tuple[Question, ...]:
    """What people wrote, random questions on random grants, and random ones on grants that people wrote."""
    cases = [*load_cases(), *generated_cases(SEED, GENERATED)]
    asked = [Question(case.name, as_grants(case.data), case.query) for case in cases]
    for name in ("full", "demo"):
        asked += questions(as_grants(grants(name)), SEED, QUESTIONS_OF_ONE)
        asked += list_questions(as_grants(grants(name)), SEED, LISTS_OF_ONE)
    for case in generated_cases(SEED, GENERATED)[:LISTS_OF_ONE]:
        asked += list_questions(as_grants(case.data), SEED, 1)
    return (*asked, *administration())
