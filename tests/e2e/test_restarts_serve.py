"""A whole service that ends and comes again: what was acknowledged stays, and the log of it verifies.

- SIGTERM and SIGKILL are one to whoever was answered: nothing that was promised is lost, nothing comes back.
"""

import json
import signal
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from authz.broker.token_request import ACCESS_TOKEN
from authz.codes import Code
from tests.e2e.peopled import CONSOLE, World, command, peopled, provider, sign_in, world
from tests.e2e.services import SECONDS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
MANY, BEFORE_THE_END, AT_ONCE = 50, 20, 8


@pytest.fixture
def made() -> Iterator[World]:
    with provider() as people, world(peopled("mesh.example", people), people) as running:
        yield running


def ended(made: World, how: signal.Signals) -> None:
    """End the process, and start it again."""
    assert made.service.process is not None
    made.service.process.send_signal(how)
    made.service.process.wait(SECONDS)
    made.service.start()


def state(made: World) -> dict[str, Any]:
    """What the operator beside the service sees."""
    done = command(made.service, "grants", "list", "-o", "json")
    assert done.returncode == 0, done.stderr
    return {each["id"]: each for each in json.loads(done.stdout)}


def revoke(made: World, *what: str) -> int:
    """Revoke something; return the epoch from which it counts."""
    done = command(made.service, "token", "revoke", *what, "--reason", "a drill", "-o", "json")
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout)["epoch"])


def verified(made: World) -> None:
    done = command(made.service, "audit", "verify")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_taken_back_stays_so_and_what_was_given_stays(made: World, how: signal.Signals) -> None:
    grant, other = made.grant("triage"), made.grant("resolver")
    task, second = made.task(), made.task("resolver")
    good, bad, by_grant = task.token(), task.token(), second.token()
    child = task.exchange(bad, ACCESS_TOKEN).json()["access_token"]
    (made.service.directory / "bad").write_text(bad)
    before = revoke(made, str(made.service.directory / "bad"))
    done = command(made.service, "grants", "revoke", other, "--reason", "a drill")
    assert done.returncode == 0, done.stderr
    reasons = [task.read(good), task.read(bad), task.read(child), second.read(by_grant)]
    assert reasons == ["", Code.REVOKED, Code.REVOKED, Code.REVOKED]
    grants = state(made)

    ended(made, how)

    after = [task.read(good), task.read(bad), task.read(child), second.read(by_grant)]
    assert after == reasons
    assert state(made) == grants
    assert grants.keys() == {grant, other}
    assert grants[other]["revoked_at"]
    # The grant that stayed still gives tokens; the task has its identity as before.
    assert task.read(task.token()) == ""
    # Two orders before, one now: no epoch is used twice.
    assert revoke(made, "--jti", "j" * 22) > before + 1
    verified(made)


def test_every_grant_that_was_acknowledged_is_there_after_kill_9(made: World) -> None:
    token = sign_in(made.people, client=CONSOLE)
    acknowledged: list[str] = []
    unanswered: list[str] = []
    enough = threading.Event()

    def create(number: int, http: httpx2.Client) -> None:
        body = {"agent": "triage", "scopes": [f"tickets:n{number}"]}
        headers = {"authorization": f"Bearer {token}"}
        try:
            answer = http.post(f"{made.base}/admin/v1/grants", json=body, headers=headers)
        except httpx2.TransportError as error:
            unanswered.append(str(error))
            return
        assert answer.status_code == 201, answer.text
        acknowledged.append(answer.json()["id"])
        if len(acknowledged) >= BEFORE_THE_END:
            enough.set()

    clients = [made.anonymous() for _ in range(AT_ONCE)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        doing = [pool.submit(create, number, clients[number % AT_ONCE]) for number in range(MANY)]
        assert enough.wait(SECONDS)
        assert made.service.process is not None
        made.service.process.kill()
        for each in doing:
            each.result(SECONDS)
    made.service.process.wait(SECONDS)
    assert unanswered, "it was killed too late to be in the middle"
    assert len(acknowledged) >= BEFORE_THE_END

    made.service.start()

    kept = state(made)
    assert set(acknowledged) <= kept.keys()
    # Whatever is there was recorded before it acted, answered or not.
    recorded = json.dumps(made.service.records("admin"))
    assert all(each in recorded for each in kept)
    verified(made)
    print(f"{len(acknowledged)} acknowledged, {len(kept)} kept, {len(unanswered)} unanswered of {MANY}")
    with sqlite3.connect(f"file:{made.service.data}/state.db?mode=ro", uri=True) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    made.grant("triage")


def test_the_log_of_a_service_that_was_killed_tells_a_forged_record(made: World) -> None:
    made.grant("triage")
    ended(made, signal.SIGKILL)
    verified(made)
    assert made.service.stop() == 0
    (path, *_) = sorted((made.service.data / "audit").glob("*.jsonl"))
    text = path.read_text()
    assert '"grant' in text
    path.write_text(text.replace("triage", "friend", 1))
    assert command(made.service, "audit", "verify").returncode != 0
