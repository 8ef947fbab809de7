"""The conformance runner: each case passes a good server, and finds one that breaks its rule alone."""

import asyncio
from functools import cache

import pytest

from authz.conformance.checklist import CHECKLIST
from authz.conformance.report import Report
from authz.conformance.run import Plan, run
from authz.conformance.situation import Inputs, Profile
from tests.conformance_server import ISSUER, NOW, InProcess, Server, worlds

METADATA = f"{ISSUER}/.well-known/oauth-authorization-server"
WORLDS = worlds()
ALL = [case.id for case in CHECKLIST]


def examine(server: Server, inputs: Inputs, profile: Profile = Profile.DEPUTY) -> Report:
    port = InProcess(server)
    plan = Plan(inputs, profile, CHECKLIST, METADATA)
    return asyncio.run(run(plan, port, lambda: NOW, port.progress))


def found(report: Report) -> dict[str, str]:
    return {result.case.id: result.got for result in report.results if result.status in {"fail", "warning"}}


@cache
def of_good_server(world: str) -> Report:
    return examine(Server(), WORLDS[world])


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("profile", Profile)
def test_a_good_server_passes(world: str, profile: Profile) -> None:
    report = examine(Server(), WORLDS[world], profile)

    assert found(report) == {}
    assert report.problem is None
    assert report.counts["pass"] > 60


@pytest.mark.parametrize("case", ALL)
def test_each_case_finds_the_server_that_breaks_its_rule_and_only_that(case: str) -> None:
    seen_in = [
        world
        for world in WORLDS
        if any(each.case.id == case and each.status == "pass" for each in of_good_server(world).results)
    ]

    assert seen_in, "skipped from every side, so that it could never fail"
    # Lazily: from another side one mistake can break two rules (a token without act has no actors either).
    assert any(set(found(examine(Server(frozenset({case})), WORLDS[world]))) == {case} for world in seen_in)
