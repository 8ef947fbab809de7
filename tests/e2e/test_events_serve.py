"""Two whole services: what one takes back, the other hears of and obeys (SSF, CAEP).

- Events go over TLS with both sides' own certificates, signed, and with the secret that both know.
- What is said while the other side is down, or before our own restart or crash, is said when both are up.
"""

import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from authz.broker.token_request import ACCESS_TOKEN, ID_TOKEN
from authz.codes import Code
from identity.jws import UnverifiedToken
from identity.security_event import issue_security_event
from identity.spiffe import TrustDomain
from tests.e2e.peopled import CONSOLE, Task, World, command, issuer, peopled, provider, sign_in, world
from tests.e2e.services import Config, until
from tests.event_world import event
from tests.service_files import authority_on_disk

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
SESSION_REVOKED = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"


@dataclass
class Companies:
    """`here` says what it takes back, `there` listens."""

    here: World
    there: World

    @property
    def person(self) -> str:
        return self.here.people.human("lead").uri

    def order(self, *arguments: str) -> None:
        done = command(self.here.service, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr

    def heard(self) -> list[dict[str, Any]]:
        """The records there of what came from here."""
        return [each for each in self.there.service.records("event") if each["outcome"] != "sent"]

    def begun(self) -> tuple[Task, str]:
        """A run there for the person who signs in now, and its token, which counts."""
        task = self.there.task()
        token = task.token()
        assert task.read(token) == ""
        return task, token

    def wait_until_refused(self, task: Task, token: str) -> None:
        until(lambda: task.read(token) == Code.REVOKED, why=self.there.service.log_end)
        # The run began with the sign-in that is over, so it is no client any more.
        again = task.exchange(token, ACCESS_TOKEN)
        assert (again.status_code, again.json()["deputy_code"]) == (401, Code.REVOKED)
        # What begins in the very second of the event is taken back with it.
        next_second()


def next_second() -> None:
    second = int(time.time())
    until(lambda: time.time() >= second + 1)


@pytest.fixture(scope="module")
def companies() -> Iterator[Companies]:
    with provider() as people, ExitStack() as stack:
        services = {name: peopled(name, people) for name in ("here.example", "there.example")}
        here, there = services.values()
        secret = secrets.token_urlsafe(24)
        for service in services.values():
            (service.directory / "secret").write_text(secret)
            (service.directory / "secret").chmod(0o600)
            # Written as soon as its owner runs: neither side has roots before.
            (service.directory / "other.pem").touch()
        common: Config = {"ca_file": "other.pem", "bearer_file": "secret", "allow_loopback": True}
        here.config["events"] = {
            "receivers": [{"url": f"{issuer(there)}/events", "audience": issuer(there), **common}]
        }
        there.config["events"] = {
            "transmitters": [{"issuer": issuer(here), "issuers": [people.issuer], **common}]
        }
        worlds = [stack.enter_context(world(service, people)) for service in (here, there)]
        (here.directory / "other.pem").write_text(worlds[1].roots)
        (there.directory / "other.pem").write_text(worlds[0].roots)
        for each in worlds:
            each.grant()
        yield Companies(*worlds)


def test_a_person_who_is_contained_here_is_signed_out_there(
    companies: Companies, record_property: Callable[[str, object], None]
) -> None:
    task, token = companies.begun()
    old = sign_in(companies.there.people)
    companies.order("people", "contain", companies.person, "--reason", "account taken over")
    try:
        returned = time.monotonic()
        until(lambda: task.read(token) == Code.REVOKED)
        seconds = time.monotonic() - returned
        record_property("seconds_until_the_other_company_refuses", f"{seconds:.3f}")
        print(f"the other company refused {seconds:.3f} s after the command returned")
        companies.wait_until_refused(task, token)
        # A new sign-in counts; the old one does not, whoever brings it.
        later, _ = companies.begun()
        refused = later.exchange(old, ID_TOKEN)
        assert (refused.status_code, refused.json()["deputy_code"]) == (400, Code.REVOKED)
        (event,) = companies.heard()
        assert (event["outcome"], event["event"]) == ("received", SESSION_REVOKED)
        assert "account taken over" in event["detail"]
    finally:
        companies.order("people", "release", companies.person, "--reason", "password changed")


def test_a_grant_that_a_person_revokes_here_ends_their_session_there(companies: Companies) -> None:
    grant = companies.here.grant("resolver")
    task, token = companies.begun()
    before = len(companies.heard())
    headers = {"authorization": f"Bearer {sign_in(companies.here.people, client=CONSOLE)}"}
    place = f"{companies.here.base}/admin/v1/grants/{grant}/revoke"
    done = companies.here.anonymous().post(place, json={}, headers=headers)
    assert done.status_code == 200, done.text
    companies.wait_until_refused(task, token)
    assert len(companies.heard()) == before + 1
    companies.begun()


def test_what_an_agent_takes_back_is_told_and_signs_its_person_out_nowhere_else(
    companies: Companies, tmp_path: Path
) -> None:
    """By RFC 7009, by the command with a token; by its name alone, nobody knows whose it was."""
    there_task, there_token = companies.begun()
    task = companies.here.task()
    tokens = [task.token() for _ in range(3)]
    by_itself, only_named, in_a_file = (UnverifiedToken.parse(token).unverified_claims for token in tokens)
    before = len(companies.heard())

    taken_back = task.http.post(f"{companies.here.base}/revoke", data={"token": tokens[0]})
    assert (taken_back.status_code, taken_back.json()) == (200, {})
    companies.order("token", "revoke", "--jti", str(only_named["jti"]), "--reason", "in a log")
    path = tmp_path / "token"
    path.write_text(tokens[2])
    companies.order("token", "revoke", str(path), "--lineage", "--reason", "in a chat")
    until(lambda: len(companies.heard()) >= before + 2, why=companies.there.service.log_end)

    heard = companies.heard()[before:]
    assert [(each["outcome"], each["event"]) for each in heard] == [("ignored", SESSION_REVOKED)] * 2
    sessions = [f"session token:{by_itself['jti']}; by system", f"session txn:{in_a_file['txn']}; by admin"]
    for each, session in zip(heard, sessions, strict=True):
        assert session in each["detail"]
        assert f"{each['human']['issuer']}#{each['human']['subject']}" == companies.person
    assert heard[1]["txn"] == in_a_file["txn"]
    assert [task.read(token) for token in tokens] == [Code.REVOKED] * 3
    assert there_task.read(there_token) == ""
    assert not any(token in str(each) for token in tokens for each in heard)


@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGKILL])
def test_what_is_taken_back_while_the_other_side_is_down_outlives_our_own_restart(
    companies: Companies, ends: signal.Signals
) -> None:
    here, there = companies.here.service, companies.there.service
    task, token = companies.begun()
    before = len(companies.heard())
    assert there.stop() == 0, there.log_end()
    companies.order("people", "sign-out", companies.person, "--reason", "laptop lost")
    assert here.process is not None
    here.process.send_signal(ends)
    here.process.wait(30)
    there.start()
    assert task.read(token) == ""  # nobody has told it yet
    here.start()
    companies.wait_until_refused(task, token)
    assert [each["outcome"] for each in companies.heard()[before:]] == ["received"]
    companies.begun()


def test_what_was_heard_is_known_after_a_restart(companies: Companies) -> None:
    task, token = companies.begun()
    companies.order("people", "sign-out", companies.person, "--reason", "laptop lost")
    companies.wait_until_refused(task, token)
    there = companies.there.service
    assert there.stop() == 0, there.log_end()
    there.start()
    assert task.read(token) == Code.REVOKED


def test_a_real_event_counts_with_the_secret_for_us_and_once(companies: Companies) -> None:
    """Who has an event that was meant for another, or no secret, or sends it again, stops nobody."""
    here, there = companies.here.service, companies.there
    key = authority_on_disk(here.data / "keys", TrustDomain.parse(here.name)).token_key
    secret = (here.directory / "secret").read_text()
    next_second()
    task, token = companies.begun()
    next_second()

    def push(audience: str, **headers: str) -> tuple[int, str]:
        pushed = there.anonymous().post(
            f"{there.base}/events",
            content=issue_security_event(key, revoked, audience),
            headers={"content-type": "application/secevent+jwt", **headers},
        )
        return pushed.status_code, pushed.json()["err"] if pushed.content else ""

    now, bearer = int(time.time()), {"authorization": f"Bearer {secret}"}
    revoked = event(
        issuer=companies.here.base,
        jti=secrets.token_urlsafe(16),
        issued_at=now,
        event_timestamp=now,
        person=there.people.human("lead"),
    )
    assert push(there.base) == (400, "authentication_failed")
    assert push(there.base, authorization=f"Bearer {secret[::-1]}") == (400, "authentication_failed")
    assert push("https://somebody.else.example", **bearer) == (400, "invalid_audience")
    assert task.read(token) == ""
    assert push(there.base, **bearer) == (202, "")
    assert task.read(token) == Code.REVOKED
    next_second()
    later, other = companies.begun()
    assert push(there.base, **bearer) == (202, "")
    assert later.read(other) == ""
    assert [each["outcome"] for each in companies.heard()[-2:]] == ["received", "repeated"]
