"""The `admin` section of grants.yaml: what is read and refused, and what becomes of it."""

from typing import Any

import pytest

from authz.errors import GrantsError
from authz.policy import schema
from authz.policy.grants_admin import ROLES
from tests.test_grants import base, parse

OLGA = "https://idp.example#olga"
DEPLOY = "spiffe://mesh.example/ns/ci/sa/deploy"
NOBODY: dict[str, Any] = {"people": {}, "groups": {}, "workloads": {}}


def _with(admin: object) -> dict[str, Any]:
    return {**base(), "admin": admin}


def _operators(**named: object) -> dict[str, Any]:
    return _with({"operators": named})


def test_each_name_is_a_key_of_its_role_and_kind() -> None:
    grants = _with(
        {
            "operators": {"people": [OLGA], "groups": ["platform", "sre"], "workloads": [DEPLOY]},
            "auditors": {"groups": ["audit"]},
        }
    )
    data: Any = parse(grants).data

    assert schema.problems("grants", grants) == ()
    assert data["grants"]["admin"] == {
        "operators": {
            "people": {OLGA: True},
            "groups": {"platform": True, "sre": True},
            "workloads": {DEPLOY: True},
        },
        "auditors": {**NOBODY, "groups": {"audit": True}},
        "transmitters": NOBODY,
    }


def test_grants_without_the_section_have_the_data_and_the_digest_that_they_had() -> None:
    data: Any = parse(base()).data

    assert "admin" not in data["grants"]
    assert parse(base()).digest != parse(_operators(people=[OLGA])).digest


def test_the_schema_knows_the_same_roles() -> None:
    admin: Any = schema.schema("grants")["properties"]
    assert tuple(admin["admin"]["properties"]) == ROLES


@pytest.mark.parametrize(
    "grants",
    [
        _with({}),
        _with(None),
        _with([]),
        _with({"owners": {"people": [OLGA]}}),
        _with({"operators": {}}),
        _with({"operators": [OLGA]}),
        _operators(humans=[OLGA]),
        _operators(people=[]),
        _operators(people=OLGA),
        _operators(people={OLGA: True}),
        _operators(people=[OLGA, OLGA]),
        _operators(people=["olga"]),
        _operators(people=["*"]),
        _operators(people=[f"{OLGA} "]),
        _operators(people=["http://idp.example#olga"]),
        _operators(people=[DEPLOY]),
        _operators(people=[1]),
        _operators(people=[None]),
        _operators(groups=[""]),
        _operators(groups=["a\x00"]),
        _operators(groups=["a" * 65]),
        _operators(groups=[True]),
        _operators(workloads=["deploy"]),
        _operators(workloads=["*"]),
        _operators(workloads=["spiffe://mesh.example"]),
        _operators(workloads=["spiffe://mesh.example/"]),
        _operators(workloads=["spiffe://mesh.example/ns/*"]),
        _operators(workloads=["SPIFFE://mesh.example/ns/ci"]),
        _operators(workloads=["spiffe://MESH.example/ns/ci"]),
        _operators(workloads=[OLGA]),
        _operators(workloads=["spiffe://mesh.example/" + "a" * 256]),
    ],
    ids=lambda grants: str(grants["admin"])[:70],
)
def test_refuses_what_names_nobody_and_so_does_the_schema(grants: dict[str, Any]) -> None:
    with pytest.raises(GrantsError, match=r"\Aline 1, admin"):
        parse(grants)
    assert schema.problems("grants", grants) != ()


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        (
            {"workloads": ["spiffe://mesh.example/agent/triage/task/01ARZ3NDEKTSV4RRFFQ69G5FAV"]},
            "an agent does not administer: name the workload that does",
        ),
        (
            {"workloads": ["spiffe://mesh.example/agent/triage"]},
            "an agent does not administer: name the workload that does",
        ),
        ({"workloads": ["spiffe://mesh.example/a/../b"]}, "a workload is written as its SPIFFE ID: "),
        ({"people": ["https://idp.example:x#olga"]}, "a person is written as issuer#subject: "),
    ],
)
def test_a_refusal_says_what_to_write(named: dict[str, object], sentence: str) -> None:
    with pytest.raises(GrantsError, match=r"\Aline 1, admin\.operators\.(people|workloads)\.0: ") as caught:
        parse(_operators(**named))
    assert sentence in str(caught.value)
