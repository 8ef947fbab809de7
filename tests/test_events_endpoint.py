"""Security events that are pushed to us (RFC 8935): what they stop, and what a forger cannot."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from authz.audit.strangers import Rates, Strangers
from authz.broker import event_memory
from authz.broker.app import read_arrival
from authz.broker.arrival import Arrival
from authz.broker.deps import Broker, Settings
from authz.broker.event_memory import MEMORY_FILE, EventMemory
from authz.broker.event_routes import event_routes
from authz.broker.event_secret import EventSecret
from authz.broker.event_transmitters import Transmitter, Transmitters, metadata_url
from authz.broker.events_endpoint import MAX_EVENT_BODY, SESSION_MEMORY, Inbox, receive_event
from authz.broker.fetch import Fetched, FetchError
from authz.broker.reply import Reply
from authz.errors import ConfigError, StoreError
from identity.caller import Human
from identity.delegation import issue_delegation_token
from identity.keys import SigningKey
from identity.names import new_ulid
from identity.security_event import MAX_AGE_SECONDS
from identity.withdrawal import Standing, Withdrawal, Withdrawals
from tests.broker_fakes import FakeSink, Ticks, serving
from tests.event_world import (
    CAEP,
    EVENT_KEY,
    EVENTS_AUDIENCE,
    LEAD,
    OTHER_PARTY,
    RISC,
    TRANSMITTER,
    VERIFICATION,
    event_token,
    iss_sub,
)
from tests.identity_world import LEEWAY, NOW, SECONDS, STRANGER_KEY, delegation

SECRET = "s3cret-of-the-transmitter"
LOGOUT = "http://schemas.openid.net/event/backchannel-logout"


def part(session: dict[str, object]) -> dict[str, object]:
    return {"format": "complex", "user": iss_sub(), "session": session}


def jwks(*keys: SigningKey) -> dict[str, object]:
    return {"keys": [{**key.public.jwk(), "use": "sig"} for key in keys]}


@dataclass
class FakeState:
    """What was withdrawn; the epoch moves, as the real one's does."""

    withdrawn: list[Withdrawal] = field(default_factory=list)
    epoch: int = 1
    broken: bool = False
    before: Callable[[], object] = lambda: None

    def withdraw(self, withdrawal: Withdrawal, now: datetime) -> None:
        self.before()
        if self.broken:
            raise StoreError("the disk is full")
        self.withdrawn.append(withdrawal)
        self.epoch += 1

    @property
    def stops(self) -> Withdrawals:
        return Withdrawals.of(self.withdrawn)


class Web:
    """What the transmitter publishes."""

    def __init__(self, *keys: SigningKey, issuer: str = TRANSMITTER) -> None:
        self.documents: dict[str, object] = {
            f"{issuer}/.well-known/ssf-configuration": {"issuer": issuer, "jwks_uri": f"{issuer}/keys"},
            f"{issuer}/keys": jwks(*keys),
        }
        self.asked: list[str] = []

    async def fetch(self, url: str) -> Fetched:
        self.asked.append(url)
        if url not in self.documents:
            raise FetchError("not found")
        return Fetched(json.dumps(self.documents[url]).encode(), None)


class World:
    """A broker that hears events, with everything around it in memory."""

    def __init__(self, directory: Path, *others: Transmitter, web: Web | None = None, **changes: Any) -> None:
        self.now = NOW
        self.sink, self.state = FakeSink(), FakeState()
        self.strangers = Strangers(Rates(per_peer=5))
        self.web = web or Web(EVENT_KEY)
        plain: dict[str, Any] = {
            "issuer": TRANSMITTER,
            "audience": EVENTS_AUDIENCE,
            "issuers": frozenset({TRANSMITTER}),
        }
        self.transmitters = [Transmitter(**(plain | changes)), *others]
        self.directory = directory
        self.restart()

    def restart(self) -> None:
        transmitters = Transmitters(
            self.transmitters, LEEWAY, fetch=lambda _: self.web.fetch, monotonic=Ticks()
        )
        self.memory = EventMemory.open(self.directory, lambda: self.now)
        self.inbox = Inbox(transmitters, self.state, self.memory)

    settings = Settings(issuer=f"{EVENTS_AUDIENCE}/deputy", audiences={})

    # What `answer` asks of a Broker.
    @property
    def tasks(self) -> FakeState:
        return self.state

    def clock(self) -> datetime:
        return self.now

    def new_id(self, now: datetime) -> str:
        return new_ulid(now, len(self.sink.entries).to_bytes(10))

    def push(
        self,
        body: str | bytes | None,
        content_type: str | None = "application/secevent+jwt",
        authorization: tuple[str, ...] = (),
    ) -> Reply:
        data = body.encode() if isinstance(body, str) else body
        arrival = Arrival("POST", "192.0.2.1", (), data, content_type, authorization=authorization)
        # It has the five things that are used here.
        return asyncio.run(receive_event(arrival, cast("Broker", self), self.inbox))

    def refused(self, err: str, *arguments: Any, status: int = 400, **more: Any) -> Mapping[str, object]:
        """Push what must be refused: nothing happens, one short record is left."""
        count = len(self.sink.entries)
        reply = self.push(*arguments, **more)
        assert reply.body is not None
        assert (reply.status, reply.body["err"]) == (status, err)
        assert set(reply.body) == {"err", "description", "decision_id"}
        assert reply.headers == {"Content-Language": "en"}
        assert self.state.withdrawn == []
        assert len(self.sink.entries) == count + 1
        entry = self.sink.entries[-1]
        assert (entry.of_stranger, entry.fields["effect"]) == (True, "deny")
        return self.sink.last


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# ---------------------------------------------------------------- what an event does


def test_a_revoked_session_takes_back_what_was_before_it_and_nothing_after(world: World) -> None:
    assert world.push(event_token()) == Reply(202, None)

    (withdrawal,) = world.state.withdrawn
    assert withdrawal == Withdrawal(
        "human",
        LEAD.uri,
        SECONDS - 5,
        "session-revoked",
        f"event {TRANSMITTER}",
        NOW,
        NOW + SESSION_MEMORY,
    )
    stops = world.state.stops
    assert stops.find(Standing(human=LEAD.uri, issued_at=SECONDS - 5)) == withdrawal
    assert stops.find(Standing(human=LEAD.uri, issued_at=SECONDS - 4)) is None
    assert stops.find(Standing(human=f"{TRANSMITTER}#clerk", issued_at=0)) is None


@pytest.mark.parametrize("kind", ["account-disabled", "account-purged"])
def test_an_account_that_ended_stops_the_person_until_they_are_released(world: World, kind: str) -> None:
    assert world.push(event_token(RISC + kind, {"reason": "hijacking"})).status == 202

    (withdrawal,) = world.state.withdrawn
    assert (withdrawal.before, withdrawal.expires_at, withdrawal.is_containment) == (None, None, True)
    assert world.state.stops.find(Standing(human=LEAD.uri, issued_at=2**40)) == withdrawal


def test_the_record_comes_before_the_effect_and_says_what_was_heard(world: World) -> None:
    recorded: list[int] = []
    world.state.before = lambda: recorded.append(len(world.sink.entries))
    payload = {
        "event_timestamp": SECONDS - 9,
        "initiating_entity": "policy",
        "reason_admin": {"en": "left the company"},
    }
    world.push(event_token(payload=payload))

    assert recorded == [1]
    record = world.sink.last
    assert {name: record[name] for name in ("kind", "outcome", "event", "party", "jti", "txn")} == {
        "kind": "event",
        "outcome": "received",
        "event": CAEP + "session-revoked",
        "party": TRANSMITTER,
        "jti": "event-1",
        "txn": "8675309",
    }
    assert record["human"] == {"issuer": TRANSMITTER, "subject": "lead"}
    assert record["detail"] == f"at {SECONDS - 9}; by policy; reason left the company"
    assert world.state.withdrawn[0].reason == "session-revoked: left the company"


@pytest.mark.parametrize(
    ("type_uri", "sub_id"),
    [
        (CAEP + "credential-change", iss_sub()),
        (CAEP + "device-compliance-change", iss_sub()),
        (RISC + "account-enabled", iss_sub()),
        ("https://x.example/never-heard-of", iss_sub()),
        (CAEP + "session-revoked", {"format": "email", "email": "lead@idp.example"}),
        (CAEP + "session-revoked", {"format": "never-heard-of", "x": 1}),
        (RISC + "account-disabled", {"format": "complex", "tenant": {"format": "opaque", "id": "t"}}),
        # One token and one lineage of another broker, as this one would tell of its own.
        (CAEP + "session-revoked", part({"format": "jwt_id", "iss": OTHER_PARTY, "jti": "j"})),
        (CAEP + "session-revoked", part({"format": "opaque", "id": "txn:8675309"})),
    ],
)
def test_what_has_no_effect_here_is_acknowledged_and_recorded(
    world: World, type_uri: str, sub_id: object
) -> None:
    assert world.push(event_token(type_uri, {}, sub_id=sub_id)) == Reply(202, None)
    assert world.state.withdrawn == []
    assert world.sink.last["outcome"] == "ignored"


@pytest.mark.parametrize(
    ("type_uri", "session"),
    [
        (CAEP + "session-revoked", {"format": "jwt_id", "iss": TRANSMITTER, "jti": "j"}),
        (CAEP + "session-revoked", {"format": "jwt_id", "iss": OTHER_PARTY}),
        (CAEP + "session-revoked", {"format": "opaque", "id": "s-1"}),
        (CAEP + "session-revoked", {"format": "opaque", "id": "txn:1"}),
        (CAEP + "session-revoked", {"format": "opaque", "id": "grant:8675309"}),
        (RISC + "account-disabled", {"format": "jwt_id", "iss": OTHER_PARTY, "jti": "j"}),
    ],
)
def test_a_part_that_we_do_not_know_is_all_of_it(
    world: World, type_uri: str, session: dict[str, object]
) -> None:
    assert world.push(event_token(type_uri, sub_id=part(session))).status == 202
    assert [one.subject for one in world.state.withdrawn] == [LEAD.uri]


def test_a_stream_is_verified(world: World) -> None:
    token = event_token(VERIFICATION, {"state": "x"}, sub_id={"format": "opaque", "id": "stream-1"})
    assert world.push(token) == Reply(202, None)
    assert (world.sink.last["outcome"], world.state.withdrawn) == ("received", [])


def test_a_reason_cannot_break_a_record_or_show_a_token(world: World) -> None:
    secret = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJsZWFkIn0.c2ln"
    payload = {"reason_admin": {"en": f"\x1b[2J\u202e {secret}\n" + "x" * 10_000}}
    token = event_token(payload=payload)
    # Eight kilobytes is the longest token, so the reason is cut to what fits one.
    assert world.push(token).status == 400
    assert world.push(event_token(payload={"reason_admin": {"en": f"\x1b\u202e {secret}"}})).status == 202
    assert "eyJ" not in str(world.sink.last)
    assert world.state.withdrawn[0].reason.isprintable()
    assert "eyJ" not in world.state.withdrawn[0].reason


# ---------------------------------------------------------------- an event that comes again


def test_an_event_has_its_effect_once(world: World) -> None:
    token = event_token()
    assert [world.push(token).status for _ in range(3)] == [202] * 3
    assert len(world.state.withdrawn) == 1
    assert [entry.fields["outcome"] for entry in world.sink.entries] == ["received", "repeated", "repeated"]
    assert world.sink.entries[-1].of_stranger


@pytest.mark.parametrize("kind", [RISC + "account-disabled", RISC + "account-purged"])
def test_who_kept_an_event_cannot_stop_a_released_person_again(world: World, kind: str) -> None:
    token = event_token(kind, {})
    world.push(token)
    world.state.withdrawn.clear()  # an operator releases the person

    assert world.push(token).status == 202
    world.restart()
    assert world.push(token).status == 202
    world.now = NOW + timedelta(seconds=MAX_AGE_SECONDS - 1)
    assert world.push(token).status == 202
    world.now += timedelta(seconds=1)
    world.restart()
    assert world.push(token).status == 400
    assert world.state.withdrawn == []


def test_an_event_that_was_not_acknowledged_has_its_effect_when_it_comes_again(world: World) -> None:
    token = event_token(RISC + "account-disabled", {})
    world.state.broken = True
    assert world.push(token).status == 503
    assert [entry.kind for entry in world.sink.entries] == ["event", "withdrawn"]
    world.state.broken = False
    assert world.push(token).status == 202
    assert len(world.state.withdrawn) == 1


def test_without_a_record_there_is_no_effect_and_no_acknowledgement(world: World) -> None:
    world.sink.broken = True
    reply = world.push(event_token())
    assert (reply.status, world.state.withdrawn) == (503, [])
    assert reply.body is not None
    assert "err" not in reply.body
    world.sink.broken = False
    assert world.push(event_token()).status == 202
    assert len(world.state.withdrawn) == 1


def test_an_event_that_is_sent_for_ever_fills_no_log(world: World) -> None:
    token = event_token()
    statuses = [world.push(token).status for _ in range(40)]
    assert set(statuses) == {202, 503}
    assert len(world.sink.entries) == 6
    assert len(world.state.withdrawn) == 1


def test_one_name_of_two_transmitters_is_two_events(tmp_path: Path) -> None:
    web = Web(EVENT_KEY)
    web.documents |= Web(STRANGER_KEY, issuer=OTHER_PARTY).documents
    other = Transmitter(OTHER_PARTY, EVENTS_AUDIENCE, frozenset({OTHER_PARTY}))
    world = World(tmp_path, other, web=web)
    world.push(event_token())
    theirs = event_token(key=STRANGER_KEY, iss=OTHER_PARTY, sub_id=iss_sub("boss", OTHER_PARTY))
    assert world.push(theirs).status == 202
    assert [withdrawal.subject for withdrawal in world.state.withdrawn] == [LEAD.uri, f"{OTHER_PARTY}#boss"]


def test_the_memory_is_bounded_and_forgets_what_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_memory, "MAX_EVENTS", 3)
    now = [NOW]
    memory = EventMemory.open(tmp_path, lambda: now[0])
    for durable in (True, False):
        for number in range(5):
            memory.remember(f"{durable}{number}", SECONDS + 10 + number, durable=durable)
    known = [name for name in (f"{d}{n}" for d in (True, False) for n in range(5)) if memory.is_known(name)]
    assert known == ["True2", "True3", "True4", "False2", "False3", "False4"]

    now[0] = NOW + timedelta(seconds=13)
    memory.remember("new", SECONDS + 100, durable=True)
    again = EventMemory.open(tmp_path, lambda: now[0])
    assert [again.is_known(name) for name in ("True3", "True4", "new", "False4")] == [
        False,
        True,
        True,
        False,
    ]
    assert (tmp_path / MEMORY_FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("data", [b"", b"[]", b'{"a":"b"}', b'{"a":1,"a":2}', b"x" * 2_000_000])
def test_a_damaged_memory_is_not_taken_for_an_empty_one(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / MEMORY_FILE
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(StoreError):
        EventMemory.open(tmp_path, lambda: NOW)


def test_a_memory_that_others_can_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / MEMORY_FILE).write_text("{}")
    (tmp_path / MEMORY_FILE).chmod(0o644)
    with pytest.raises(StoreError, match="chmod"):
        EventMemory.open(tmp_path, lambda: NOW)


# ---------------------------------------------------------------- forgeries


@pytest.mark.parametrize(
    ("err", "token"),
    [
        ("invalid_request", event_token(typ="JWT")),
        ("invalid_request", event_token(typ="at+jwt")),
        ("invalid_request", event_token(typ="logout+jwt", events={LOGOUT: {}})),
        ("invalid_request", event_token(exp=SECONDS + 60)),
        ("invalid_request", event_token(sub="lead")),
        ("invalid_request", issue_delegation_token(EVENT_KEY, delegation())),
        ("invalid_key", event_token(key=STRANGER_KEY)),
        ("invalid_key", event_token(key=STRANGER_KEY, header={"kid": EVENT_KEY.kid})),
        ("invalid_key", event_token(header={"kid": 1})),
        ("invalid_key", event_token(header={"alg": "none"})),
        ("invalid_key", event_token(header={"alg": "HS256"})),
        ("invalid_issuer", event_token(iss=OTHER_PARTY)),
        ("invalid_issuer", event_token(iss=TRANSMITTER + "/")),
        ("invalid_issuer", event_token(iss=None)),
        ("invalid_issuer", event_token(iss=["x"])),
        ("invalid_audience", event_token(aud="https://other.example")),
        ("invalid_audience", event_token(aud=None)),
        ("invalid_request", event_token(iat=SECONDS + LEEWAY + 1)),
        ("invalid_request", event_token(iat=SECONDS - MAX_AGE_SECONDS)),
        ("invalid_request", event_token(payload={"event_timestamp": SECONDS + LEEWAY + 1})),
        ("invalid_request", event_token(payload={"event_timestamp": (SECONDS - 5) * 1000})),
        ("invalid_request", event_token(events={CAEP + "session-revoked": {}, RISC + "account-purged": {}})),
        ("invalid_request", event_token(sub_id={"format": "iss_sub", "iss": TRANSMITTER})),
        ("access_denied", event_token(sub_id=iss_sub(issuer=OTHER_PARTY))),
        ("access_denied", event_token(RISC + "account-disabled", {}, sub_id=iss_sub("boss", OTHER_PARTY))),
        ("access_denied", event_token(sub_id={"format": "complex", "user": iss_sub(issuer=OTHER_PARTY)})),
        ("access_denied", event_token(CAEP + "credential-change", sub_id=iss_sub(issuer=TRANSMITTER + "/"))),
    ],
)  # fmt: skip
def test_a_forged_event_does_nothing(world: World, err: str, token: str) -> None:
    world.refused(err, token)


def test_a_forger_learns_nothing_of_the_inside_and_leaves_no_token(world: World) -> None:
    token = event_token(sub_id=iss_sub(issuer=OTHER_PARTY))
    record = world.refused("access_denied", token)
    assert OTHER_PARTY in str(record["detail"])
    reply = world.push(token)
    assert reply.body is not None
    assert OTHER_PARTY not in str(reply.body)
    assert token.split(".")[2] not in str([entry.fields for entry in world.sink.entries])


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (event_token(), None, 400),
        (event_token(), "application/jwt", 400),
        (event_token(), "application/secevent+jwt; charset=utf-8", 400),
        (event_token(), "application/x-www-form-urlencoded", 400),
        ("", "application/secevent+jwt", 400),
        ("{}", "application/secevent+jwt", 400),
        (event_token() + "\n", "application/secevent+jwt", 400),
        (b"\xff" * 9, "application/secevent+jwt", 400),
        ("." * 9, "application/secevent+jwt", 400),
        ("a" * MAX_EVENT_BODY, "application/secevent+jwt", 400),
        ("a" * (MAX_EVENT_BODY + 1), "application/secevent+jwt", 413),
        (None, "application/secevent+jwt", 413),
    ],
)
def test_refuses_a_push_that_is_not_one_event(
    world: World, body: str | bytes | None, content_type: str | None, status: int
) -> None:
    world.refused("invalid_request", body, content_type, status=status)
    assert world.web.asked == []


def test_a_stranger_makes_us_fetch_nothing_but_the_keys_of_whom_we_know(world: World) -> None:
    for token in (event_token(iss="http://169.254.169.254"), event_token(typ="JWT"), event_token(iss=None)):
        world.push(token)
    assert world.web.asked == []
    tokens = [event_token(key=SigningKey.generate(), header={"jku": "https://evil.example"}) for _ in "123"]
    for token in tokens:
        world.push(token)
    assert world.web.asked == [metadata_url(TRANSMITTER), f"{TRANSMITTER}/keys"]


def test_what_we_cannot_know_is_sent_again(tmp_path: Path) -> None:
    world = World(tmp_path, web=Web(EVENT_KEY))
    world.web.documents.clear()
    assert world.push(event_token()).status == 503
    assert world.state.withdrawn == []


def test_the_metadata_of_another_transmitter_gives_no_keys(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.web.documents[metadata_url(TRANSMITTER)] = {
        "issuer": OTHER_PARTY,
        "jwks_uri": f"{TRANSMITTER}/keys",
    }
    assert world.push(event_token()).status == 503


def test_a_transmitter_may_speak_of_whom_the_configuration_says(tmp_path: Path) -> None:
    world = World(tmp_path, issuers=frozenset({OTHER_PARTY}))
    assert world.push(event_token(sub_id=iss_sub("boss", OTHER_PARTY))).status == 202
    assert world.state.withdrawn[0].subject == Human(OTHER_PARTY, "boss").uri
    assert world.push(event_token(jti="event-2")).status == 400


def test_one_transmitter_cannot_speak_with_the_key_of_another(tmp_path: Path) -> None:
    web = Web(EVENT_KEY)
    web.documents |= Web(STRANGER_KEY, issuer=OTHER_PARTY).documents
    other = Transmitter(OTHER_PARTY, EVENTS_AUDIENCE, frozenset({OTHER_PARTY}))
    world = World(tmp_path, other, web=web)
    world.refused("invalid_key", event_token(key=STRANGER_KEY))
    world.refused("invalid_key", event_token(iss=OTHER_PARTY))


def test_fixed_keys_need_no_metadata(tmp_path: Path) -> None:
    world = World(tmp_path, jwks_uri=f"{TRANSMITTER}/keys")
    assert world.push(event_token()).status == 202
    assert world.web.asked == [f"{TRANSMITTER}/keys"]


def test_two_transmitters_with_one_issuer_are_a_mistake() -> None:
    one = Transmitter(TRANSMITTER, EVENTS_AUDIENCE, frozenset())
    with pytest.raises(ConfigError, match="two transmitters"):
        Transmitters([one, one], LEEWAY)


@pytest.mark.parametrize(
    ("issuer", "url"),
    [
        ("https://a.example", "https://a.example/.well-known/ssf-configuration"),
        ("https://a.example:8443/", "https://a.example:8443/.well-known/ssf-configuration"),
        ("https://a.example/b/c/", "https://a.example/.well-known/ssf-configuration/b/c"),
    ],
)
def test_metadata_is_before_the_path_of_the_issuer(issuer: str, url: str) -> None:
    assert metadata_url(issuer) == url


# ---------------------------------------------------------------- the secret of a transmitter


def secret_file(directory: Path, data: bytes = SECRET.encode() + b"\n", mode: int = 0o600) -> Path:
    path = directory / "secret"
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "authorization",
    [
        (),
        ("",),
        ("Bearer",),
        ("Bearer ",),
        (f"Basic {SECRET}",),
        (f"Bearer {SECRET}x",),
        (f"Bearer {SECRET[:-1]}",),
        (f"Bearer  {SECRET}",),
        (f"Bearer {SECRET}", f"Bearer {SECRET}"),
        ("Bearer \u00e9\ud800",),
    ],
)
def test_a_push_without_the_secret_is_not_authenticated(
    tmp_path: Path, authorization: tuple[str, ...]
) -> None:
    world = World(tmp_path / "data", secret=EventSecret.read(secret_file(tmp_path)))
    world.refused("authentication_failed", event_token(), authorization=authorization)
    assert world.web.asked == []
    for scheme in ("Bearer", "bearer"):
        assert world.push(event_token(), authorization=(f"{scheme} {SECRET}",)).status == 202


def test_the_secret_is_not_printed(tmp_path: Path) -> None:
    secret = EventSecret.read(secret_file(tmp_path))
    transmitter = Transmitter(TRANSMITTER, EVENTS_AUDIENCE, frozenset(), secret=secret)
    assert SECRET not in repr(secret) + str(transmitter)


@pytest.mark.parametrize(
    ("data", "mode"),
    [
        (SECRET.encode(), 0o640),
        (b"", 0o600),
        (b"short", 0o600),
        (b"x" * 5000, 0o600),
        (b"two words of a secret", 0o600),
        (SECRET.encode() + b"\n\n", 0o600),
        (b"\xff" * 20, 0o600),
    ],
)
def test_refuses_a_file_that_is_not_one_secret(tmp_path: Path, data: bytes, mode: int) -> None:
    with pytest.raises(ConfigError) as raised:
        EventSecret.read(secret_file(tmp_path, data, mode))
    assert SECRET not in str(raised.value)
    with pytest.raises(ConfigError):
        EventSecret.read(tmp_path / "missing")


# ---------------------------------------------------------------- over HTTP


def test_a_transmitter_with_real_keys_pushes_over_http(tmp_path: Path) -> None:
    """The key set is fetched over HTTP, the event is pushed over HTTP, and both sides are servers."""

    async def scenario() -> None:
        published: dict[str, object] = {}

        async def document(request: Request) -> Response:
            return JSONResponse(published[request.url.path])

        theirs = Starlette(routes=[Route("/{path:path}", document)])
        async with serving(theirs) as issuer, httpx2.AsyncClient(trust_env=False) as http:
            published["/.well-known/ssf-configuration"] = {"issuer": issuer, "jwks_uri": f"{issuer}/keys"}
            published["/keys"] = jwks(EVENT_KEY)
            world = World(tmp_path)
            transmitter = Transmitter(issuer, EVENTS_AUDIENCE, frozenset({issuer}), allow_loopback=True)
            inbox = Inbox(Transmitters([transmitter], LEEWAY), world.state, world.memory)

            # It has what is used of a Broker.
            ours = Starlette(routes=event_routes(cast("Broker", world), inbox, read_arrival))
            async with serving(ours) as base:
                headers = {"content-type": "application/secevent+jwt"}
                token = event_token(iss=issuer, sub_id=iss_sub(issuer=issuer))
                metadata = await http.get(f"{base}/.well-known/ssf-configuration/deputy")
                assert metadata.json()["jwks_uri"] == f"{EVENTS_AUDIENCE}/deputy/jwks"
                taken = await http.post(f"{base}/deputy/events", content=token, headers=headers)
                assert (taken.status_code, taken.content) == (202, b"")
                forged = event_token(iss=issuer, sub_id=iss_sub(issuer=issuer), key=STRANGER_KEY)
                refused = await http.post(f"{base}/deputy/events", content=forged, headers=headers)
                assert (refused.status_code, refused.json()["err"]) == (400, "invalid_key")
                assert refused.headers["content-language"] == "en"
                assert (await http.get(f"{base}/deputy/events")).status_code == 405
                long = await http.post(f"{base}/deputy/events", content=b"a" * 70_000, headers=headers)
                assert (long.status_code, long.json()["err"]) == (413, "invalid_request")
                world.sink.broken = True
                late = event_token(iss=issuer, sub_id=iss_sub(issuer=issuer), jti="event-2")
                unknown = await http.post(f"{base}/deputy/events", content=late, headers=headers)
                assert (unknown.status_code, unknown.headers["retry-after"]) == (503, "1")
            assert [withdrawal.subject for withdrawal in world.state.withdrawn] == [f"{issuer}#lead"]

    asyncio.run(scenario())


def test_where_nobody_may_tell_us_there_is_no_endpoint(world: World) -> None:
    async def scenario() -> None:
        app = Starlette(routes=event_routes(cast("Broker", world), None, read_arrival))
        async with serving(app) as base, httpx2.AsyncClient(trust_env=False) as http:
            assert (await http.post(f"{base}/deputy/events", content="a.b.c")).status_code == 404
            assert (await http.get(f"{base}/.well-known/ssf-configuration/deputy")).status_code == 200

    asyncio.run(scenario())
