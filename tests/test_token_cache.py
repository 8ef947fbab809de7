"""Known tokens: what is saved, what is asked each time, and what a flood does not do."""

import base64
from dataclasses import replace
from datetime import timedelta

import pytest

from authz.authenticate import verify
from authz.request import Request
from authz.token_cache import VerifiedTokens
from identity.authority import Authority
from identity.caller import KeyBinding
from identity.jws import sign
from identity.keys import VerificationKey
from tests.calls import count_calls
from tests.fakes import DOMAIN, NOW, TICKETS, Run, World, reason

OK = 0


def passes(made: World, run: Run, token: str) -> bool:
    return made.check(made.request(token, run)).status.code == OK


class Signatures:
    """Counts how often a signature is verified."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        right = VerificationKey.verify

        def verify_one(key: VerificationKey, signature: bytes, data: bytes, algorithm: object) -> None:
            self.count += 1
            right(key, signature, data, algorithm)

        monkeypatch.setattr(VerificationKey, "verify", verify_one)


@pytest.fixture
def signatures(monkeypatch: pytest.MonkeyPatch) -> Signatures:
    return Signatures(monkeypatch)


def test_a_known_token_is_verified_once(signatures: Signatures) -> None:
    made = World()
    run, autonomous = made.run("triage"), made.run("nightly-report", human=None)
    token, svid = made.token(run), made.svid(autonomous)
    for _ in range(3):
        assert passes(made, run, token)
        assert passes(made, autonomous, svid)
    assert (signatures.count, len(made.known)) == (2, 2)


def test_a_hit_costs_a_part_of_a_miss() -> None:
    made = World()
    run = made.run("triage")
    request = Request.parse(made.request(made.token(run), run))
    trust, service = made.trust(), made.services.by_name["tickets"]
    made.known.see(trust, 1)
    miss = count_calls(lambda: verify(request, service, trust, NOW, made.known))
    hit = count_calls(lambda: verify(request, service, trust, NOW, made.known))
    assert 4 * hit < miss


def test_who_presents_it_is_asked_each_time(signatures: Signatures) -> None:
    """What is known says what a token is, never who may present it."""
    made = World()
    owner, thief = made.run("triage"), made.run("triage")
    token = made.token(owner)
    assert passes(made, owner, token)
    assert reason(made.check(made.request(token, thief))) == "DPT-NOT-BOUND"
    made.rights.tasks[owner.task.id] = replace(owner.task, ended_at=NOW)
    assert reason(made.check(made.request(token, owner))) == "DPT-TASK-ENDED"
    assert signatures.count == 1


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(0, ""), (299, ""), (330, "DPT-TOKEN-EXPIRED"), (-30, ""), (-31, "DPT-TOKEN-NOT-YET")],
)
def test_jw06_the_time_is_looked_at_each_time(seconds: int, code: str) -> None:
    """JW-06: a known token begins and ends to the second as an unknown one."""
    made = World()
    run = made.run("triage")
    token = made.token(run)
    request, service = Request.parse(made.request(token, run)), made.services.by_name["tickets"]
    assert passes(made, run, token)
    made.now += timedelta(seconds=seconds)
    assert reason(made.check(made.request(token, run))) == code
    made.known.see(made.trust(), 1)
    assert (made.known.find(token, TICKETS, made.trust(), made.now) is None) == bool(code)
    assert service.audience == TICKETS
    assert request.peer == run.spiffe_id


def test_it_is_known_for_one_audience() -> None:
    made = World()
    run = made.run("triage")
    token = made.token(run)
    assert passes(made, run, token)
    made.known.see(made.trust(), 1)
    assert made.known.find(token, TICKETS, made.trust(), NOW) is not None
    assert made.known.find(token, "https://billing.mesh.example", made.trust(), NOW) is None
    assert made.known.find(token + "=", TICKETS, made.trust(), NOW) is None


def test_new_keys_forget_everything() -> None:
    """A key that was revoked verifies nothing, however often its tokens were seen."""
    made = World()
    run = made.run("triage")
    token = made.token(run)
    assert passes(made, run, token)
    made.authority = Authority.generate(DOMAIN, NOW)
    assert reason(made.check(made.request(token, run))) == "DPT-TOKEN-KEY"
    assert len(made.known) == 0


def test_a_new_epoch_forgets_everything(signatures: Signatures) -> None:
    made = World()
    run = made.run("triage")
    token = made.token(run)
    assert passes(made, run, token)
    made.rights.epoch += 1
    assert passes(made, run, token)
    assert signatures.count == 2


def test_trust_that_was_not_seen_finds_and_keeps_nothing() -> None:
    made = World()
    run = made.run("triage")
    request, service = Request.parse(made.request(made.token(run), run)), made.services.by_name["tickets"]
    other = replace(made.trust(), leeway=0)
    made.known.see(made.trust(), 1)
    verify(request, service, other, NOW, made.known)
    assert len(made.known) == 0
    verify(request, service, made.trust(), NOW, made.known)
    assert len(made.known) == 1
    verify(request, service, other, NOW, made.known)
    assert len(made.known) == 1


# ---------------------------------------------------------------- floods


def test_a_flood_of_tokens_that_do_not_verify_takes_no_place() -> None:
    made = World()
    run = made.run("triage")
    token = made.token(run)
    assert passes(made, run, token)
    head, claims, signature = token.split(".")
    for number in range(300):
        wrong = base64.urlsafe_b64encode(number.to_bytes(64)).decode().rstrip("=")
        for text in (f"{head}.{claims}.{wrong}", f"{head}.{claims}", "x" * number, f"{token}{number}"):
            assert not passes(made, run, text)
    made.known.see(made.trust(), 1)
    assert len(made.known) == 1
    assert made.known.find(token, TICKETS, made.trust(), NOW) is not None
    assert signature


def test_one_agent_s_flood_of_good_tokens_takes_no_other_s_place() -> None:
    made = World()
    quiet, loud = made.run("triage"), made.run("resolver")
    token = made.token(quiet)
    made.known = VerifiedTokens(max_tokens=16, max_of_presenter=4)
    assert passes(made, quiet, token)
    for number in range(40):
        assert passes(made, loud, made.token(loud, jti=f"{number:022d}"))
    assert len(made.known) == 5
    assert made.known.find(token, TICKETS, made.trust(), NOW) is not None


def test_the_second_spelling_of_a_signature_is_one_more_of_the_same_presenter() -> None:
    """ECDSA: whoever has a token can write it in two ways; both are bounded by its owner's share."""
    made = World()
    run = made.run("triage")
    token = made.token(run)
    head, claims, signature = token.split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    flipped = raw[:32] + (order - int.from_bytes(raw[32:])).to_bytes(32)
    other = f"{head}.{claims}.{base64.urlsafe_b64encode(flipped).decode().rstrip('=')}"
    assert passes(made, run, token)
    assert passes(made, run, other)
    assert len(made.known) == 2


def test_a_thief_of_many_tokens_fills_only_their_owners_shares() -> None:
    """What is presented by whoever stole it counts for the run that it names."""
    made = World()
    thief, owner = made.run("triage"), made.run("resolver")
    made.known = VerifiedTokens(max_tokens=16, max_of_presenter=4)
    mine = made.token(thief)
    assert passes(made, thief, mine)
    for number in range(20):
        stolen = made.token(owner, jti=f"{number:022d}")
        assert reason(made.check(made.request(stolen, thief))) == "DPT-NOT-BOUND"
    assert made.known.find(mine, TICKETS, made.trust(), NOW) is not None


def test_what_is_refused_after_its_signature_is_not_kept() -> None:
    made = World()
    run = made.run("triage")
    wrong = {"sub": "x", "iss": "https://broker.mesh.example", "aud": TICKETS, "iat": 1, "exp": 2**33}
    assert reason(made.check(made.request(sign(made.authority.token_key, "at+jwt", wrong), run))) != ""
    other = made.token(run, binding=KeyBinding("A" * 43), audience="https://billing.mesh.example")
    assert reason(made.check(made.request(other, run))) == "DPT-TOKEN-AUDIENCE"
    assert len(made.known) == 0


def test_no_secret_in_repr() -> None:
    made = World()
    run = made.run("triage")
    assert passes(made, run, made.token(run))
    assert repr(made.known) == "VerifiedTokens(1 known)"
    assert repr(made.reused) == "ReusedTokens(0 issued)"
