"""What others are told of withdrawals: once at least, in order, whatever they do, and without delaying us."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from authz.broker import events_outgoing
from authz.broker.deps import Settings
from authz.broker.event_cursor import DIRECTORY, FileCursor
from authz.broker.event_discovery import event_metadata
from authz.broker.event_push import Pusher, PushError, PushRefusedError, Receiver
from authz.broker.event_secret import EventSecret
from authz.broker.event_signal import LANES, Signal, by_event, ends_sign_ins, event_of, is_told
from authz.broker.events_outgoing import (
    FIRST_PAUSE_SECONDS,
    GIVE_UP_AFTER,
    MAX_PAUSE_SECONDS,
    MAX_REFUSALS,
    Outbox,
    Outside,
)
from authz.errors import ConfigError, StoreError
from authz.store.whole_file import read_whole, replace_whole
from identity.caller import Human
from identity.errors import IssuanceUnavailableError
from identity.event_subject import JwtId
from identity.jws import UnverifiedToken
from identity.names import new_ulid
from identity.security_event import SecurityEvent, issue_security_event, verify_security_event
from identity.withdrawal import Withdrawal
from tests.broker_fakes import FakeSink, serving
from tests.event_world import EVENT_KEY, EVENT_KEYS, LEAD, OTHER_PARTY, TRANSMITTER, event, iss_sub
from tests.identity_world import ISSUER, NOW, RUNNER, SECONDS, ulid

AUDIENCE = "https://receiver.example"
SECRET = "s3cret-of-the-receiver"
WAIT_SECONDS = 20


def withdrawal(kind: Any = "human", subject: str = LEAD.uri, **changes: Any) -> Withdrawal:
    plain = Withdrawal(kind, subject, None, "the laptop was stolen", "uid 1000", NOW)
    return replace(plain, **changes)


def signal(number: int = 1, human: Any = LEAD, txn: str | None = None, **changes: Any) -> Signal:
    return Signal(number, withdrawal(**changes), human, txn)


# ---------------------------------------------------------------- what is told


def test_a_person_who_is_stopped_is_told_as_a_person() -> None:
    told = event_of(signal(), ISSUER, AUDIENCE, SECONDS + 3)
    assert told == SecurityEvent(
        jti=told.jti,
        issuer=ISSUER,
        issued_at=SECONDS + 3,
        kind="session-revoked",
        type_uri="https://schemas.openid.net/secevent/caep/event-type/session-revoked",
        person=LEAD,
        event_timestamp=SECONDS,
        initiating_entity="admin",
        reason="the laptop was stolen",
    )


@pytest.mark.parametrize(("kind", "subject"), [("txn", "T" * 22), ("grant", ulid(1)), ("task", ulid(2))])
def test_a_part_of_what_a_person_does_is_told_as_one_session(kind: Any, subject: str) -> None:
    told = event_of(signal(kind=kind, subject=subject, txn="T" * 22), ISSUER, AUDIENCE, SECONDS)
    assert (told.person, told.session, told.txn) == (LEAD, f"{kind}:{subject}", "T" * 22)
    assert told.to_claims(AUDIENCE)["sub_id"] == {
        "format": "complex",
        "user": {"format": "iss_sub", "iss": TRANSMITTER, "sub": "lead"},
        "session": {"format": "opaque", "id": f"{kind}:{subject}"},
    }


def test_a_token_is_told_as_the_jwt_that_it_is() -> None:
    """CAEP 1.0 section 3.1: a session by the properties by which a receiver finds it; SSF section 3.5.1."""
    told = event_of(signal(kind="token", subject="J" * 22), ISSUER, AUDIENCE, SECONDS)
    assert (told.kind, told.person, told.session) == ("session-revoked", LEAD, JwtId(ISSUER, "J" * 22))
    assert told.to_claims(AUDIENCE)["sub_id"] == {
        "format": "complex",
        "user": {"format": "iss_sub", "iss": TRANSMITTER, "sub": "lead"},
        "session": {"format": "jwt_id", "iss": ISSUER, "jti": "J" * 22},
    }


@pytest.mark.parametrize(("before", "expected"), [(SECONDS - 60, SECONDS - 60), (SECONDS + 9, SECONDS)])
def test_the_time_is_that_of_the_sessions_end_and_never_to_come(before: int, expected: int) -> None:
    assert event_of(signal(before=before), ISSUER, AUDIENCE, SECONDS).event_timestamp == expected


def test_who_revokes_what_is_their_own_is_a_user() -> None:
    told = event_of(signal(by=LEAD.uri), ISSUER, AUDIENCE, SECONDS)
    assert told.initiating_entity == "user"
    other = event_of(signal(by=f"{TRANSMITTER}#admin"), ISSUER, AUDIENCE, SECONDS)
    assert other.initiating_entity == "admin"


def test_what_a_workload_revokes_was_neither_the_person_nor_an_operator() -> None:
    told = event_of(signal(kind="token", subject="J" * 22, by=str(RUNNER)), ISSUER, AUDIENCE, SECONDS)
    assert told.initiating_entity == "system"


@pytest.mark.parametrize(
    ("session", "txn", "ends"),
    [
        (None, None, True),
        ("s-1", None, True),
        ("s-1", "8675309", True),
        ("txn:8675309", None, True),
        ("txn:8675309", "other", True),
        ("txn:8675309", "8675309", False),
        (JwtId(TRANSMITTER, "j"), None, True),
        (JwtId(ISSUER, "j"), None, False),
    ],
)
def test_a_token_of_another_than_the_persons_provider_is_no_sign_in(
    session: str | JwtId | None, txn: str | None, *, ends: bool
) -> None:
    assert ends_sign_ins(event(session=session, txn=txn)) is ends


def test_no_token_leaves_in_a_reason() -> None:
    secret = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJsZWFkIn0.c2ln"
    told = event_of(signal(reason=f"found {secret} " + "x" * 400), ISSUER, AUDIENCE, SECONDS)
    assert "eyJ" not in told.reason
    assert len(told.reason) <= 256


def test_one_withdrawal_has_one_name_for_each_receiver() -> None:
    def name(one: Signal, audience: str = AUDIENCE, seconds: int = SECONDS) -> str:
        return event_of(one, ISSUER, audience, seconds).jti

    assert name(signal()) == name(signal(), seconds=SECONDS + 999)
    others = (signal(2), signal(at=NOW + timedelta(seconds=1)), signal(subject=f"{TRANSMITTER}#clerk"))
    assert len({name(signal()), name(signal(), OTHER_PARTY), *map(name, others)}) == 5


def test_what_came_as_an_event_is_not_sent_on() -> None:
    """Else two brokers that tell each other would never end."""
    assert is_told(signal(), None)
    assert not is_told(signal(by=by_event(TRANSMITTER)), None)


def test_a_receiver_hears_of_the_people_it_may_hear_of() -> None:
    assert is_told(signal(), frozenset({TRANSMITTER}))
    assert not is_told(signal(), frozenset({OTHER_PARTY}))
    assert not is_told(signal(human=None, kind="agent", subject="triage"), None)
    with pytest.raises(ValueError, match="nobody"):
        event_of(signal(human=None), ISSUER, AUDIENCE, SECONDS)


def test_the_metadata_says_what_exists() -> None:
    assert event_metadata(Settings(issuer="https://b.example/deputy/", audiences={})) == {
        "spec_version": "1_0",
        "issuer": "https://b.example/deputy/",
        "jwks_uri": "https://b.example/deputy/jwks",
        "delivery_methods_supported": ["urn:ietf:rfc:8935"],
        "critical_subject_members": ["user", "session"],
        "default_subjects": "ALL",
    }


# ---------------------------------------------------------------- one push

Answer = Callable[[Request], Awaitable[Response]]


@dataclass
class Party:
    """A receiver on a port: answers as it is told, one answer a push, the last one for ever."""

    answers: list[Response | Answer] = field(default_factory=lambda: [Response(status_code=202)])
    pushed: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def events(self, request: Request) -> Response:
        self.pushed.append((dict(request.headers), await request.body()))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer if isinstance(answer, Response) else await answer(request)

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/events", self.events, methods=["POST"])])

    def heard(self, audience: str = AUDIENCE, now: datetime = NOW) -> list[SecurityEvent]:
        return [
            verify_security_event(
                UnverifiedToken.parse(body.decode()),
                EVENT_KEYS,
                issuer=ISSUER,
                audience=audience,
                now=now,
                leeway=30,
            )
            for _, body in self.pushed
        ]


def receiver_at(base: str, **changes: Any) -> Receiver:
    return Receiver(f"{base}/events", AUDIENCE, **{"allow_loopback": True, **changes})


def pushed_to(party: Party, timeout: float = 2.0, **changes: Any) -> None:
    async def scenario() -> None:
        async with serving(party.app()) as base, AsyncExitStack() as stack:
            pusher = Pusher(receiver_at(base, **changes), timeout)
            stack.push_async_callback(pusher.close)
            await pusher.push("a.b.c")
            await pusher.push("a.b.c")

    asyncio.run(scenario())


async def _long(_: Request) -> Response:
    async def megabytes() -> Any:
        for _ in range(5):
            yield b"x" * 1_000_000

    return StreamingResponse(megabytes(), 400)


async def _hang(_: Request) -> Response:
    await asyncio.Event().wait()
    return Response(status_code=202)


def test_a_push_is_one_signed_event_with_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text(SECRET)
    party = Party()
    pushed_to(party, secret=EventSecret.read(path))
    assert len(party.pushed) == 2
    headers, body = party.pushed[0]
    assert body == b"a.b.c"
    assert headers["content-type"] == "application/secevent+jwt"
    assert headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (Response(status_code=200), PushError, "answer 200"),
        (Response(status_code=204), PushError, "answer 204"),
        (Response(status_code=401), PushError, "answer 401"),
        (Response("secret of theirs", 500), PushError, "answer 500"),
        (RedirectResponse("http://127.0.0.1:1/elsewhere", 307), PushError, "answer 307"),
        (RedirectResponse("/events", 308), PushError, "answer 308"),
        (
            JSONResponse({"err": "invalid_key", "description": "secret of theirs"}, 400),
            PushRefusedError,
            "answer 400 invalid_key",
        ),
        (JSONResponse({"err": "secret of theirs"}, 400), PushRefusedError, "without an error"),
        (JSONResponse(["invalid_key"], 400), PushRefusedError, "without an error"),
        (Response(b"\xff", 400), PushRefusedError, "without an error"),
        (Response("[" * 8000, 400), PushRefusedError, "without an error"),
        (_long, PushRefusedError, "without an error"),
        (_hang, PushError, "no answer within"),
    ],
)
def test_a_receiver_can_answer_what_it_wants(
    answer: Response | Answer, error: type[PushError], text: str
) -> None:
    party = Party([answer])
    with pytest.raises(PushError, match=text) as raised:
        pushed_to(party, 0.5 if answer is _hang else 5)
    assert type(raised.value) is error
    assert "theirs" not in str(raised.value)
    assert len(party.pushed) == 1


def test_a_long_answer_to_what_was_taken_is_not_read() -> None:
    async def taken(request: Request) -> Response:
        response = await _long(request)
        response.status_code = 202
        return response

    party = Party([taken])
    pushed_to(party)
    assert len(party.pushed) == 2


def test_nobody_there_is_an_error_of_ours() -> None:
    async def scenario() -> None:
        async with serving(Party().app()) as base:
            gone = base
        with pytest.raises(PushError, match="cannot push"):
            await Pusher(receiver_at(gone)).push("a.b.c")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:1/events",
        "https://localhost:1/events",
        "https://[::1]:1/events",
        "https://[::ffff:127.0.0.1]:1/events",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1/events",
        "https://0.0.0.0:1/events",
    ],
)
def test_no_event_goes_to_an_address_that_is_not_allowed(url: str) -> None:
    with pytest.raises(PushError, match="cannot push"):
        asyncio.run(Pusher(Receiver(url, AUDIENCE)).push("a.b.c"))


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://receiver.example/events", False),
        ("http://receiver.example/events", True),
        ("http://127.0.0.1/events", False),
        ("file:///etc/passwd", True),
        ("https://user:pass@receiver.example/", False),
        ("https://receiver.example/#x", False),
        ("https://", False),
        ("https://[::1", False),
    ],
)
def test_refuses_the_address_of_a_receiver(url: str, *, local: bool) -> None:
    with pytest.raises(ConfigError) as raised:
        Pusher(Receiver(url, AUDIENCE, allow_loopback=local))
    assert "pass" not in str(raised.value)


# ---------------------------------------------------------------- all that is to be told


class Pauses:
    """Sleeps for no time at all, and says for how long it was asked."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        self.meanwhile()
        await asyncio.sleep(0)


class FakeCursor:
    """Keeps the number; fails when it is told to."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.fails = 0

    def load(self) -> int:
        self._fail()
        return self.number

    def store(self, number: int) -> None:
        self._fail()
        self.number = number

    def _fail(self) -> None:
        if self.fails:
            self.fails -= 1
            raise StoreError("the disk is full")


class World:
    """What there is to tell, and everything around it."""

    def __init__(self, *signals: Signal) -> None:
        self.now = NOW
        self.signals = list(signals)
        self.sink, self.pauses = FakeSink(), Pauses()
        self.cursors = {lane: FakeCursor() for lane in LANES}
        self.asked: list[int] = []
        self.sign: Callable[[SecurityEvent, str], str] = lambda event, audience: issue_security_event(
            EVENT_KEY, event, audience
        )

    @property
    def cursor(self) -> FakeCursor:
        return self.cursors["people"]

    def after(self, number: int, limit: int) -> Sequence[Signal]:
        self.asked.append(limit)
        return [one for one in self.signals if one.number > number][:limit]

    @property
    def outside(self) -> Outside:
        return Outside(
            ISSUER,
            self.after,
            self.sign,
            self.sink,
            lambda: self.now,
            lambda now: new_ulid(now, os.urandom(10)),
            self.pauses,
        )

    def tell(self, party: Party, until: Callable[[Outbox], bool] | None = None, **changes: Any) -> Outbox:
        """Tell one receiver until it was told all, or until something else is so."""

        async def scenario() -> Outbox:
            async with serving(party.app()) as base:
                receivers = [receiver_at(base, **changes)]
                outbox = Outbox(receivers, lambda _, lane: self.cursors[lane], self.outside)
                await self._run(outbox, until or self._is_done)
                return outbox

        return asyncio.run(scenario())

    def _is_done(self, _: Outbox) -> bool:
        return {cursor.number for cursor in self.cursors.values()} == {self.signals[-1].number}

    @staticmethod
    async def _run(outbox: Outbox, until: Callable[[Outbox], bool]) -> None:
        running = asyncio.create_task(outbox.run())
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not until(outbox):
                    await asyncio.sleep(0.01)
                    outbox.wake()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    @property
    def outcomes(self) -> list[object]:
        return [entry.fields["outcome"] for entry in self.sink.entries]


def test_a_receiver_that_fails_twice_then_accepts_hears_it_once_and_leaves_one_record() -> None:
    world = World(signal())
    party = Party([Response(status_code=500), Response(status_code=503), Response(status_code=202)])
    outbox = world.tell(party)

    heard = party.heard()
    assert len(heard) == 3
    assert heard[0] == heard[1] == heard[2] == event_of(signal(), ISSUER, AUDIENCE, SECONDS)
    assert world.pauses.asked == [FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS]
    assert world.outcomes == ["sent"]
    record = world.sink.last
    assert (record["kind"], record["party"], record["jti"]) == ("event", AUDIENCE, heard[0].jti)
    assert record["human"] == {"issuer": TRANSMITTER, "subject": "lead"}
    assert record["detail"] == "tried 3 times"
    (status,) = asyncio.run(outbox.status())
    assert (status.receiver, status.last_delivered, status.waiting) == (AUDIENCE, NOW, 0)
    assert (status.given_up, status.last_error) == (0, "")


def test_all_is_told_in_order_and_what_is_for_nobody_is_passed_over() -> None:
    world = World(
        signal(3),
        signal(4, human=None, kind="agent", subject="triage"),
        signal(7, by=by_event(TRANSMITTER)),
        signal(8, kind="task", subject=ulid(8)),
        *(signal(number, kind="grant", subject=ulid(number)) for number in range(20, 90)),
        signal(90, human=None, kind="agent", subject="triage"),
    )
    party = Party()
    world.tell(party)
    sessions = [one.session for one in party.heard()]
    assert sessions == [None, f"task:{ulid(8)}", *(f"grant:{ulid(number)}" for number in range(20, 90))]
    assert world.outcomes == ["sent"] * 72
    assert world.cursor.number == 90
    # A few at a time, however many wait.
    assert max(world.asked) <= 32


def test_a_start_goes_on_where_the_last_one_ended() -> None:
    world = World(
        signal(1), signal(2, kind="txn", subject="x"), signal(3), signal(4, kind="txn", subject="y")
    )
    world.cursor.number, world.cursors["tokens"].number = 1, 2
    party = Party()
    world.tell(party)
    assert {one.session for one in party.heard()} == {None, "txn:y"}
    assert len(party.pushed) == 2


def test_what_comes_later_is_told_when_it_comes() -> None:
    world = World(signal(1))
    party = Party()

    def until(_: Outbox) -> bool:
        if len(party.pushed) == 1 and len(world.signals) == 1:
            world.signals.append(signal(2, kind="task", subject=ulid(1)))
        return world.cursor.number == 2

    world.tell(party, until)
    assert len(party.pushed) == 2


def test_what_a_receiver_refuses_is_given_up_and_the_next_is_told() -> None:
    world = World(signal(1), signal(2, kind="task", subject=ulid(1)))
    no = JSONResponse({"err": "invalid_audience", "description": "no"}, 400)
    party = Party([*[no] * MAX_REFUSALS, Response(status_code=202)])
    outbox = world.tell(party)
    assert world.outcomes == ["given-up", "sent"]
    assert world.sink.entries[0].fields["detail"] == "answer 400 invalid_audience; tried 5 times"
    assert asyncio.run(outbox.status())[0].given_up == 1


def test_a_receiver_that_is_away_is_asked_less_and_less_and_given_up_after_a_day() -> None:
    world = World(signal())

    def hours_go_by() -> None:
        world.now += timedelta(seconds=world.pauses.asked[-1])

    world.pauses.meanwhile = hours_go_by
    party = Party([Response(status_code=503)])
    world.tell(party)
    asked = world.pauses.asked
    assert asked[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, MAX_PAUSE_SECONDS]
    assert set(asked[9:]) == {MAX_PAUSE_SECONDS}
    assert sum(asked) >= GIVE_UP_AFTER.total_seconds()
    assert world.outcomes == ["given-up"]


def test_what_is_older_than_a_day_is_tried_once() -> None:
    world = World(*(signal(number, kind="grant", subject=ulid(number)) for number in range(1, 4)))
    world.now += GIVE_UP_AFTER + timedelta(seconds=1)
    party = Party([Response(status_code=503)])
    world.tell(party)
    assert (len(party.pushed), world.outcomes) == (3, ["given-up"] * 3)


# ---------------------------------------------------------------- tokens, of which there may be very many


def token(number: int, end: timedelta = timedelta(minutes=10), **changes: Any) -> Signal:
    return signal(number, kind="token", subject=f"{number:022d}", expires_at=NOW + end, **changes)


def test_an_agent_that_revokes_without_end_holds_up_nothing_that_an_operator_ordered() -> None:
    """Its tokens are never taken; who is contained behind a thousand of them is told at once."""

    async def people_only(request: Request) -> Response:
        return Response(status_code=202 if _subject(await request.body()) == iss_sub() else 503)

    world = World(*(token(number) for number in range(1, 1000)), signal(1000))
    party = Party([people_only])
    outbox = world.tell(party, lambda _: world.cursor.number == 1000 and bool(world.pauses.asked))
    assert world.outcomes == ["sent"]
    assert world.cursors["tokens"].number == 0
    (status,) = asyncio.run(outbox.status())
    assert (status.waiting, status.last_delivered, status.last_error) == (999, NOW, "answer 503")


def test_a_token_that_is_over_by_itself_is_not_told() -> None:
    """Nor recorded: a receiver that is new hears nothing of the tokens of the last month."""
    second = timedelta(seconds=1)
    world = World(token(1, -second), token(2, timedelta(0)), token(3, second), signal(4))
    party = Party()
    world.tell(party)
    assert {str(one.session) for one in party.heard()} == {f"token:{3:022d}", "None"}
    assert world.outcomes == ["sent"] * 2


def test_a_token_is_given_up_when_it_is_over() -> None:
    world = World(token(1), token(2, timedelta(hours=9)))

    def minutes_go_by() -> None:
        world.now += timedelta(seconds=world.pauses.asked[-1])

    world.pauses.meanwhile = minutes_go_by
    no, taken = Response(status_code=503), Response(status_code=202)

    async def second_only(request: Request) -> Response:
        return taken if f"{2:022d}" in str(_subject(await request.body())) else no

    party = Party([second_only])
    outbox = world.tell(party)
    assert world.outcomes == ["given-up", "sent"]
    assert timedelta(minutes=10) <= world.now - NOW < timedelta(minutes=16)
    assert asyncio.run(outbox.status())[0].given_up == 1


def _subject(body: bytes) -> object:
    return UnverifiedToken.parse(body.decode()).unverified_claims["sub_id"]


def test_nobody_s_token_is_told_to_nobody() -> None:
    world = World(token(1, human=None), token(2))
    party = Party()
    world.tell(party)
    assert [str(one.session) for one in party.heard()] == [f"token:{2:022d}"]


def test_a_receiver_hears_of_the_tokens_of_its_own_people_only() -> None:
    world = World(token(1, human=Human.parse(OTHER_PARTY, "lead")), token(2))
    party = Party()
    world.tell(party, issuers=frozenset({TRANSMITTER}))
    assert [one.person for one in party.heard()] == [LEAD]


def test_without_its_record_an_event_is_not_done_with_nor_pushed_again() -> None:
    world = World(signal())
    world.sink.broken = True

    def repair() -> None:
        world.sink.broken = len(world.pauses.asked) < 3

    world.pauses.meanwhile = repair
    party = Party()
    world.tell(party)
    assert (len(party.pushed), world.outcomes) == (1, ["sent"])


def test_a_cursor_that_cannot_be_read_or_kept_is_tried_again() -> None:
    world = World(signal())
    world.cursor.fails = 1
    party = Party()

    def until(_: Outbox) -> bool:
        if party.pushed and not world.outcomes:
            world.cursor.fails = 2
        return world.cursor.number == 1

    outbox = world.tell(party, until)
    assert (len(party.pushed), world.outcomes) == (1, ["sent"])
    assert asyncio.run(outbox.status())[0].waiting == 0


def test_a_key_that_cannot_sign_now_is_waited_for() -> None:
    world = World(signal())
    right, fails = world.sign, [IssuanceUnavailableError("no key"), IssuanceUnavailableError("no key")]

    def sign(event: SecurityEvent, audience: str) -> str:
        if fails:
            raise fails.pop()
        return right(event, audience)

    world.sign = sign
    party = Party()
    world.tell(party)
    assert (len(party.pushed), world.outcomes) == (1, ["sent"])


def test_a_fault_that_nobody_foresaw_ends_nothing_for_good(caplog: pytest.LogCaptureFixture) -> None:
    world = World(signal())
    right, fails = world.sign, [RuntimeError("secret"), RuntimeError("secret")]

    def sign(event: SecurityEvent, audience: str) -> str:
        if fails:
            raise fails.pop()
        return right(event, audience)

    world.sign = sign
    world.tell(Party())
    assert world.outcomes == ["sent"]
    assert world.pauses.asked == [1, 2]
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_a_source_that_repeats_itself_is_not_told_again() -> None:
    world = World(signal())
    asked: list[int] = []

    def after(number: int, _: int) -> Sequence[Signal]:
        asked.append(number)
        return world.signals

    world.after = after  # type: ignore[assignment, method-assign] # a source that is wrong
    party = Party()
    world.tell(party, lambda _: len(asked) > 4)
    assert len(party.pushed) == 1


def test_a_receiver_that_hangs_delays_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither another receiver, nor the loop that withdraws."""
    monkeypatch.setattr(events_outgoing, "Pusher", lambda receiver: Pusher(receiver, 0.2))
    world = World(*(signal(number, kind="task", subject=ulid(number)) for number in range(1, 6)))
    cursors = {name: FakeCursor() for name in ("bad", "good")}
    bad, good = Party([_hang]), Party()

    async def scenario() -> None:
        async with serving(bad.app()) as bad_base, serving(good.app()) as good_base:
            receivers = [
                replace(receiver_at(bad_base), audience="bad"),
                replace(receiver_at(good_base), audience="good"),
            ]
            outbox = Outbox(
                receivers,
                lambda one, lane: cursors[one.audience] if lane == "people" else FakeCursor(),
                world.outside,
            )
            await World._run(outbox, lambda _: cursors["good"].number == 5 and len(bad.pushed) > 1)
            statuses = {status.receiver: status for status in await outbox.status()}
            assert (statuses["bad"].waiting, statuses["good"].waiting) == (5, 0)
            assert "no answer within" in statuses["bad"].last_error

    asyncio.run(scenario())
    assert cursors["bad"].number == 0
    assert [one.session for one in good.heard("good")] == [f"task:{ulid(number)}" for number in range(1, 6)]


def test_nobody_to_tell_is_nothing_to_do() -> None:
    outbox = Outbox([], lambda *_: FakeCursor(), World().outside)
    asyncio.run(outbox.run())
    assert asyncio.run(outbox.status()) == ()


def test_neither_the_address_nor_the_secret_of_a_receiver_is_printed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text(SECRET)
    world = World(signal())
    party = Party([Response(status_code=500), Response(status_code=202)])
    outbox = world.tell(party, secret=EventSecret.read(path))
    seen = caplog.text + repr(asyncio.run(outbox.status())) + str(world.sink.last)
    receiver = Receiver("https://receiver.example/hooks/T0KEN", AUDIENCE, secret=EventSecret.read(path))
    for secret in (SECRET, "/events", "T0KEN"):
        assert secret not in seen + repr(receiver)
    assert party.pushed[0][1].decode().split(".")[2] not in seen


# ---------------------------------------------------------------- how far it was told, on disk


def test_a_cursor_is_kept_over_a_start(tmp_path: Path) -> None:
    assert FileCursor(tmp_path, "https://a.example", AUDIENCE).load() == 0
    FileCursor(tmp_path, "https://a.example", AUDIENCE).store(41)
    FileCursor(tmp_path, "https://a.example", AUDIENCE).store(2**63)
    assert FileCursor(tmp_path, "https://a.example", AUDIENCE).load() == 2**63
    assert FileCursor(tmp_path, "https://a.example", "other").load() == 0
    assert FileCursor(tmp_path, "https://b.example", AUDIENCE).load() == 0
    assert FileCursor(tmp_path, "https://a.example", AUDIENCE, "people").load() == 2**63
    assert FileCursor(tmp_path, "https://a.example", AUDIENCE, "tokens").load() == 0
    (path,) = (tmp_path / DIRECTORY).iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("data", [b"", b"1", b"-1\n", b"x\n", b"1\n1\n", b"1" * 20 + b"\n", b"1" * 100])
def test_a_damaged_cursor_is_not_guessed(tmp_path: Path, data: bytes) -> None:
    cursor = FileCursor(tmp_path, "https://a.example", AUDIENCE)
    cursor.store(1)
    (path,) = (tmp_path / DIRECTORY).iterdir()
    path.write_bytes(data)
    with pytest.raises(StoreError):
        cursor.load()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    assert read_whole(path, 9) is None
    replace_whole(path, b"one")
    path.with_name("file.tmp").mkdir()
    with pytest.raises(StoreError):
        replace_whole(path, b"two")
    assert read_whole(path, 9) == b"one"
    with pytest.raises(StoreError, match="longer"):
        read_whole(path, 2)
    with pytest.raises(StoreError, match="cannot be read"):
        read_whole(path / "below", 2)


def test_json_of_a_receiver_is_bounded() -> None:
    party = Party([Response(json.dumps({"err": "invalid_key", "x": "y" * 9000}), 400)])
    with pytest.raises(PushRefusedError, match="without an error"):
        pushed_to(party)
