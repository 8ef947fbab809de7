"""Any text is a proof or our error; a proof is for its own request alone; what counts once counts once."""

from datetime import timedelta
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.errors import StoreError
from authz.replay import ReplayMemory
from authz.store.replay import ReplayFile
from identity.base64url import encode_base64url
from identity.dpop import DpopProof
from identity.errors import DpopError
from identity.http_uri import HttpUri
from tests.dpop_proofs import HEADER, JWK, KEY, METHOD, URI, ath, claims, forged, proof
from tests.identity_world import NOW, SECONDS, forge_bytes

RIGHT = proof()
TARGETS = (HttpUri.parse(URI),)
TOKENS = [None, "a.b.c", "a.b.d"]
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
members = st.sampled_from(["typ", "alg", "jwk", "kid", "jku", "crit", "x5c", "b64"])
names = st.sampled_from(["jti", "htm", "htu", "iat", "ath", "nonce", "exp", "nbf", "cnf"])


def verify(text: str, token: str | None = None) -> DpopProof | None:
    """Return the proof, or None where it is refused; nothing else may be raised."""
    try:
        return DpopProof.verify(text, method=METHOD, targets=TARGETS, now=NOW, access_token=token)
    except DpopError:
        return None


@given(st.text(max_size=200) | st.text("abc.-_=,", max_size=60))
def test_any_text_is_refused(text: str) -> None:
    assert verify(text) is None


@given(st.integers(0, len(RIGHT) - 1), st.characters())
def test_proof_with_one_other_character_is_the_same_or_refused(at: int, char: str) -> None:
    text = RIGHT[:at] + char + RIGHT[at + 1 :]
    assert text == RIGHT or verify(text) is None


@given(st.dictionaries(members, json_values, max_size=4))
def test_any_header_signed_by_the_key_is_that_key_s_or_refused(changes: dict[str, object]) -> None:
    found = verify(forged({**HEADER, **changes}))
    assert found is None or found.jkt == KEY.kid


@given(
    st.dictionaries(
        st.sampled_from([*JWK, "alg", "use", "d", "n", "e", "k", "key_ops"]), json_values, max_size=3
    )
)
def test_any_embedded_key_is_the_one_that_signed_or_refused(changes: dict[str, object]) -> None:
    found = verify(forged({**HEADER, "jwk": {**JWK, **changes}}))
    assert found is None or found.jkt == KEY.kid


@given(st.dictionaries(names, json_values, max_size=4))
def test_any_claims_are_a_proof_in_the_window_or_refused(changes: dict[str, object]) -> None:
    found = verify(forged(body={**claims(), **changes}))
    if found is not None:
        assert -30 <= SECONDS - found.issued_at <= 60
        assert 16 <= len(found.jti) <= 128
        assert 0 < found.replay_until - SECONDS <= 91


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_signed_by_the_key_are_refused(header: bytes, body: bytes) -> None:
    assert verify(forge_bytes(KEY, header, body)) is None


@cache
def made(token: str | None) -> str:
    return proof(token)


@given(st.sampled_from(TOKENS), st.sampled_from(TOKENS))
def test_proof_is_for_its_own_token_alone(signed: str | None, presented: str | None) -> None:
    assert (verify(made(signed), presented) is not None) == (signed == presented)


@given(st.binary(min_size=32, max_size=32))
def test_no_other_hash_is_the_token_s(digest: bytes) -> None:
    said = encode_base64url(digest)
    assert said == ath("a.b.c") or verify(forged(body=claims(ath=said)), "a.b.c") is None


# ---------------------------------------------------------------- once

keys = st.sampled_from("abcd")
steps = st.lists(
    st.tuples(
        keys, st.integers(1, 40), st.sampled_from("xy"), st.sampled_from(["", "1"]), st.integers(0, 15)
    ),
    max_size=30,
)


@settings(max_examples=60)
@given(steps)
def test_both_memories_do_what_a_list_would(
    tmp_path_factory: pytest.TempPathFactory, shown: list[tuple[str, int, str, str, int]]
) -> None:
    """A model: what is valid is in a dict; the two memories agree with it, also about when they are full."""
    file = ReplayFile.open(tmp_path_factory.mktemp("data") / "a" / "replay.db", 3, 2)
    memory = ReplayMemory(3, 2)
    valid: dict[str, tuple[int, str, str]] = {}
    seconds = SECONDS
    for key, lives, presenter, call, passes in shown:
        seconds += passes
        now = NOW + timedelta(seconds=seconds - SECONDS)
        valid = {name: use for name, use in valid.items() if use[0] > seconds}
        if key in valid:
            expected: bool | None = valid[key][2] == call != ""
        elif len(valid) >= 3 or sum(use[1] == presenter for use in valid.values()) >= 2:
            expected = None
        else:
            expected = True
            valid[key] = (seconds + lives, presenter, call)
        for each in (file, memory):
            try:
                got: bool | None = each.first_time(
                    "dpop", key, seconds + lives, presenter=presenter, now=now, call=call
                )
            except StoreError:
                got = None
            assert got == expected, (key, type(each).__name__)
    file.close()
