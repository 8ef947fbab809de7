"""The whole corpus of the shipped policy as questions to both engines; the policy lock is about these."""

from collections.abc import Mapping
from functools import cache

from authz.policy.grants import Grants
from authz.policy.opa_check import Question
from authz.policy.opa_questions import questions
from identity.canonical import canonical_json, sha256_hex
from tests.policy.corpus import generated_cases, grants, load_cases

SEED = 1
GENERATED = 600
QUESTIONS_OF_ONE = 300


def as_grants(data: Mapping[str, object]) -> Grants:
    """Take the data of a case for grants."""
    canonical = canonical_json(data)
    return Grants(canonical, sha256_hex(canonical))


@cache
def corpus() -> tuple[Question, ...]:
    """What people wrote, random questions on random grants, and random ones on grants that people wrote."""
    cases = [*load_cases(), *generated_cases(SEED, GENERATED)]
    asked = [Question(case.name, as_grants(case.data), case.query) for case in cases]
    for name in ("full", "demo"):
        asked += questions(as_grants(grants(name)), SEED, QUESTIONS_OF_ONE)
    return tuple(asked)
