"""Any text is a token or our error; only what the key signed is believed; what we sign is what is read."""

import json

from hypothesis import given
from hypothesis import strategies as st

from identity.actor_chain import check_chain, encode_act, parse_act
from identity.caller import Binding, Hop, Human, KeyBinding, WorkloadBinding
from identity.delegation import Delegation, issue_delegation_token, verify_delegation_token
from identity.errors import ChainError, TokenError
from identity.jws import UnverifiedToken, verify
from identity.jwt_svid import verify_jwt_svid
from identity.transaction import verify_transaction_token
from tests.identity_world import (
    AUDIENCE,
    ISSUER,
    LEEWAY,
    NOW,
    RUNNER,
    SECONDS,
    SVID_KEYS,
    TD,
    THUMBPRINT,
    TOKEN_KEY,
    TOKEN_KEYS,
    delegation,
    forge_bytes,
    header_of,
    ulid,
)

RIGHT = issue_delegation_token(TOKEN_KEY, delegation())
TYP = frozenset({"at+jwt"})

agents = st.sampled_from(["triage", "resolver", "nightly-report", "a", "z0"])
hops = st.builds(Hop, agents, st.integers(0, 6).map(ulid))
chains = st.lists(hops, min_size=1, max_size=6).map(tuple)
scopes = st.frozensets(st.sampled_from(["tickets:read", "tickets:write", "billing:read", "x"]), min_size=1)
subjects = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
humans = st.builds(
    Human,
    st.sampled_from(["https://idp.example", "https://idp.example/realms/a", "http://127.0.0.1:8080"]),
    subjects,
    st.lists(st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20), max_size=3).map(
        tuple
    ),
    st.none() | subjects,
    st.none() | st.integers(0, 2**40),
)
bindings: st.SearchStrategy[Binding] = st.sampled_from([KeyBinding(THUMBPRINT), WorkloadBinding(RUNNER)])
delegations = st.builds(
    Delegation,
    issuer=st.just(ISSUER),
    trust_domain=st.just(TD),
    human=humans,
    audience=st.just(AUDIENCE),
    scopes=scopes,
    chain=chains,
    binding=bindings,
    txn=st.just("T" * 22),
    jti=st.just("J" * 22),
    issued_at=st.integers(SECONDS - 600, SECONDS + LEEWAY),
    expires_at=st.integers(SECONDS - LEEWAY + 1, SECONDS + 600),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8) | st.floats(),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=6), parts, max_size=3),
    max_leaves=6,
)
mutations = st.lists(
    st.tuples(st.integers(0, len(RIGHT) - 1), st.characters(max_codepoint=0x7F)), min_size=1, max_size=4
)


def verify_all(text: str) -> None:
    """Every kind of verification of one text: it passes, or raises a `TokenError`."""
    for kind in range(4):
        try:
            token = UnverifiedToken.parse(text)
            if kind == 0:
                verify_delegation_token(
                    token, TOKEN_KEYS, issuer=ISSUER, audience=AUDIENCE, now=NOW, leeway=LEEWAY, max_depth=4
                )
            elif kind == 1:
                verify_jwt_svid(token, SVID_KEYS, audience=AUDIENCE, now=NOW, leeway=LEEWAY)
            elif kind == 2:
                verify(token, TOKEN_KEYS, typ=TYP, header_members=None)
            else:
                verify_transaction_token(
                    text, TOKEN_KEYS, issuer=ISSUER, trust_domain=TD, service=AUDIENCE, now=NOW, leeway=LEEWAY
                )
        except TokenError:
            continue


@given(st.text(max_size=60) | st.text("AZaz09-_.=", max_size=80))
def test_any_text_is_a_token_or_our_error(text: str) -> None:
    verify_all(text)


@given(st.binary(max_size=80), st.binary(max_size=120))
def test_any_bytes_that_our_key_signed_are_a_token_or_our_error(header: bytes, claims: bytes) -> None:
    verify_all(forge_bytes(TOKEN_KEY, header, claims))


@given(
    st.dictionaries(
        st.sampled_from([*delegation().to_claims(), "groups", "tctx", "req_wl", "nbf"]), json_values
    ),
    st.sampled_from(["at+jwt", "txntoken+jwt", "JWT"]),
)
def test_any_claims_that_our_key_signed_are_a_token_or_our_error(
    changes: dict[str, object], typ: str
) -> None:
    claims = json.dumps(delegation().to_claims() | changes).encode("utf-8", "surrogatepass")
    verify_all(forge_bytes(TOKEN_KEY, json.dumps(header_of(TOKEN_KEY, typ)).encode(), claims))


@given(mutations)
def test_any_change_of_a_token_is_refused(changes: list[tuple[int, str]]) -> None:
    text = list(RIGHT)
    for position, character in changes:
        text[position] = character
    mutated = "".join(text)
    try:
        verify(UnverifiedToken.parse(mutated), TOKEN_KEYS, typ=TYP)
    except TokenError:
        return
    assert mutated == RIGHT


@given(delegations, st.integers(1, 8))
def test_what_is_said_is_what_is_read_or_refused_for_its_chain(said: Delegation, max_depth: int) -> None:
    text = issue_delegation_token(TOKEN_KEY, said)
    try:
        check_chain(said.chain, max_depth)
        is_right = True
    except ChainError:
        is_right = False
    try:
        read = verify_delegation_token(
            UnverifiedToken.parse(text),
            TOKEN_KEYS,
            issuer=ISSUER,
            audience=AUDIENCE,
            now=NOW,
            leeway=LEEWAY,
            max_depth=max_depth,
        )
    except ChainError:
        assert not is_right
        return
    assert is_right
    assert all(getattr(read, name) == getattr(said, name) for name in Delegation.__slots__)


@given(chains)
def test_chain_reads_back(chain: tuple[Hop, ...]) -> None:
    try:
        check_chain(chain, 8)
    except ChainError:
        return
    assert parse_act(encode_act(chain, ISSUER, TD), ISSUER, 8) == (TD, chain)
