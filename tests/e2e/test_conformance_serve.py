"""`deputy conformance` as an operator types it, against a whole `deputy serve`: no finding in our profile.

What is skipped is named, because a skip that nobody expects is a finding that nobody sees.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.conformance_skips import (
    BY_ASSERTION,
    BY_CERTIFICATE,
    FIRST_HOP,
    NOT_OURS,
    OF_THE_ACTOR,
    ONCE,
    TRANSACTIONS,
)
from tests.e2e.peopled import SHORT_LIVED, World, audience, command, peopled, provider, sign_in, world
from tests.e2e.services import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

# What these runs do not hand in: a second domain, tools, calls, a resource.
NOT_GIVEN = {
    *(f"CL-05/{name}" for name in ("answer", "claims", "unknown-audience", "two-audiences", "not-here")),
    *(f"DM-02/{name}" for name in ("published", "servers", "header-only", "challenge")),
    *(f"JW-06/{name}" for name in ("expired", "endless", "not-yet", "from-later")),
    *("JW-03/crit-signed", "JW-04/typ-signed", "JW-05/ambiguous-signed"),
    *("ID-07/unclassified", "ID-07/client-profile", "CA-05/resource", "CA-05/nonce"),
    # One scope, and no service that passes calls on.
    *("NR-05/regained", "CL-04/kept", "CL-04/regained"),
}


@pytest.fixture(scope="module")
def running() -> Iterator[World]:
    with provider() as people, world(peopled("mesh.example", people), people) as made:
        made.grant("triage", "lead")
        made.grant("resolver", "lead")
        made.grant("resolver", "clerk")
        yield made


class Files:
    """What an examiner has in files; each name is that of the option."""

    def __init__(self, directory: Path, world: World) -> None:
        self.directory = directory
        self.world = world
        self.options: list[str] = []
        self.write("ca", world.roots)
        detail = {"type": "mcp_tool_call", "actions": ["tools/call"], "tool": "read_ticket"}
        detail["locations"] = [audience(world.service)]
        self.write("authorization-details-file", json.dumps([detail]))

    def write(self, option: str, text: str) -> None:
        path = self.directory / option
        path.write_text(text)
        self.options += [f"--{option}", str(path)]

    def examine(self, *options: str) -> dict[str, Any]:
        """Run the command; return its report."""
        done = command(
            self.world.service,
            *("conformance", "delegation", "--token-endpoint", f"{self.world.base}/token"),
            *("--issuer", self.world.base, "--audience", audience(self.world.service)),
            *(
                "--scope",
                "tickets:read tickets:write",
                "--wider-scope",
                "tickets:admin",
                "--profile",
                "deputy",
            ),
            *("-o", "json", *self.options, *options),
            seconds=240,
        )
        assert done.stdout, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        found = {
            name_of(each): each["got"] for each in report["results"] if each["status"] in {"fail", "warning"}
        }
        assert found == {}
        assert report["problem"] is None
        assert done.returncode == 0, done.stderr
        return report


def name_of(result: dict[str, str]) -> str:
    return f"{result['rule']}/{result['case']}"


def skipped(report: dict[str, Any]) -> set[str]:
    return {name_of(each) for each in report["results"] if each["status"] == "skip"}


def transactions(files: Files, world: World) -> None:
    """A call that the agent is about to make, for a transaction token."""
    call = {
        "service": "tickets",
        "action": "tools/call",
        "tool": "read_ticket",
        "arguments": {"ticket": "T-1"},
    }
    files.write("request-details-file", json.dumps(call))
    files.options += ["--txn-audience", world.service.name]


def expired_id_token(world: World) -> str:
    token = sign_in(world.people, client=SHORT_LIVED)
    ends = jwt.decode(token, options={"verify_signature": False})["exp"]
    until(lambda: time.time() > ends + 3)
    return token


def person(files: Files, world: World) -> None:
    """What there is to show about people who signed in."""
    files.write("subject-token-file", sign_in(world.people))
    files.write("ungranted-subject-token-file", sign_in(world.people, "clerk"))
    files.write("expired-subject-token-file", expired_id_token(world))
    files.options += ["--subject-token-type", "id_token"]
    jwks = world.anonymous().get(f"{world.people.issuer}/jwks")
    files.write("subject-jwks", jwks.text)


def test_no_finding_for_a_person_and_an_agent_with_a_certificate(running: World, tmp_path: Path) -> None:
    own, other = running.task("triage"), running.task("resolver", "clerk")
    files = Files(tmp_path, running)
    person(files, running)
    files.write("subject-token-2-file", other.token("clerk"))
    transactions(files, running)
    certificates = [
        *("--client-cert", str(own.write_svid(tmp_path / "own.pem"))),
        *("--other-client-cert", str(other.write_svid(tmp_path / "other.pem"))),
    ]
    report = files.examine(*certificates)
    assert skipped(report) == FIRST_HOP | BY_ASSERTION | NOT_OURS | NOT_GIVEN


def test_no_finding_for_a_person_and_an_agent_with_a_jwt_svid(running: World, tmp_path: Path) -> None:
    own, other = running.task("triage"), running.task("resolver", "clerk")
    files = Files(tmp_path, running)
    person(files, running)
    files.write("client-assertion-file", own.jwt())
    files.write("wrong-audience-assertion-file", own.jwt(audience(running.service)))
    files.write("other-client-assertion-file", other.jwt())
    files.write("subject-token-2-file", other.token("clerk"))
    # An assertion has no key that the token could be seen to be bound to.
    assert (
        skipped(files.examine())
        == FIRST_HOP | {"CL-08/bound"} | BY_CERTIFICATE | ONCE | TRANSACTIONS | NOT_OURS | NOT_GIVEN
    )


def test_no_finding_for_an_agent_that_hands_its_token_on(running: World, tmp_path: Path) -> None:
    own, actor, other = running.task("triage"), running.task("resolver"), running.task("resolver")
    files = Files(tmp_path, running)
    files.write("subject-token-file", own.token())
    files.write("actor-token-file", actor.jwt())
    files.write("subject-token-2-file", other.token())
    transactions(files, running)
    certificates = [
        *("--client-cert", str(own.write_svid(tmp_path / "own.pem"))),
        *("--other-client-cert", str(other.write_svid(tmp_path / "other.pem"))),
    ]
    report = files.examine(*certificates)
    inputs = {"TX-10/no-grant", "CL-07/expired-subject"}
    assert skipped(report) == inputs | OF_THE_ACTOR | BY_ASSERTION | NOT_OURS | NOT_GIVEN
