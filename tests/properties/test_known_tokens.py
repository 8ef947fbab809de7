"""A model: with known tokens the flow answers as it does without, whatever happens in between."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from authz.authenticate import Credential, Trust, verify
from authz.errors import AuthenticationError
from authz.request import Request
from authz.token_cache import VerifiedTokens
from identity.authority import Authority
from identity.fair_cache import FairCache
from tests.fakes import DOMAIN, NOW, World

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("show"), st.integers(0, 7)),
        st.tuples(st.just("tick"), st.integers(-60, 200)),
        st.tuples(st.just("epoch"), st.just(0)),
        st.tuples(st.just("keys"), st.integers(0, 1)),
        st.tuples(st.just("leeway"), st.sampled_from([0, 30])),
        st.tuples(st.just("service"), st.integers(0, 1)),
    ),
    max_size=40,
)
OTHER = Authority.generate(DOMAIN, NOW)


def outcome(
    request: Request, made: World, service: str, trust: Trust, known: VerifiedTokens | None
) -> Credential | tuple[str, str]:
    try:
        return verify(request, made.services.by_name[service], trust, made.now, known)
    except AuthenticationError as error:
        return error.code.value, error.detail


def requests(made: World) -> list[Request]:
    run, autonomous = made.run("triage"), made.run("nightly-report", human=None)
    seconds = int(NOW.timestamp())
    tokens = [
        made.token(run),
        made.token(run, jti="k" * 22),
        made.token(run, expires_at=seconds + 10),
        made.token(run, issued_at=seconds + 20),
        made.token(run, audience="https://billing.mesh.example"),
        made.svid(autonomous),
        made.token(run)[:-6] + "AAAAAA",
        "not.a.token",
    ]
    return [Request.parse(made.request(token, run)) for token in tokens]


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_jw06_known_tokens_change_no_answer(steps: list[tuple[str, int]]) -> None:
    """JW-06: nothing is believed longer, or by other keys, than without them."""
    made = World()
    shown, authorities = requests(made), [made.authority, OTHER]
    known, epoch, service = VerifiedTokens(max_tokens=4, max_of_presenter=2), 1, "tickets"
    for what, number in steps:
        match what:
            case "tick":
                made.now += timedelta(seconds=number)
            case "epoch":
                epoch += 1
            case "keys":
                made.authority = authorities[number]
            case "leeway":
                made.trust = replace(made.trust, leeway=number)
            case "service":
                service = ("tickets", "billing")[number]
            case _:
                trust = made.trust()
                known.see(trust, epoch)
                with_known = outcome(shown[number], made, service, trust, known)
                assert with_known == outcome(shown[number], made, service, trust, None)
        assert len(known) <= 4


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("pgd"), st.integers(0, 9), st.integers(0, 3)), max_size=60))
def test_what_is_remembered_is_what_was_put_last(steps: list[tuple[str, int, int]]) -> None:
    cache: FairCache[int, tuple[int, int]] = FairCache(5, 2)
    put: dict[int, tuple[int, int]] = {}
    for turn, (what, key, owner) in enumerate(steps):
        match what:
            case "p":
                cache.put(key, (turn, owner), str(owner))
                put[key] = (turn, owner)
                assert cache.get(key) == put[key]
            case "d":
                cache.drop(key)
                put.pop(key, None)
            case _:
                assert cache.get(key) in {None, put.get(key)}
        assert len(cache) <= 5
        assert sum(cache.of_owner(str(owner)) for owner in range(4)) == len(cache)
        assert all(cache.of_owner(str(owner)) <= 2 for owner in range(4))
