"""Any WIT-SVID, proof or review of a pod is a value or our error; only what was proven is believed."""

import json

from hypothesis import given
from hypothesis import strategies as st

from identity.errors import AttestationError, TokenError
from identity.jws import UnverifiedToken
from identity.keys import KeySet, SigningKey
from identity.pod_identity import PodIdentity, token_review
from identity.spiffe import SpiffeId, agent_task_id
from identity.wit_svid import issue_wit_svid, verify_wit_svid
from identity.workload_proof import issue_workload_proof, verify_workload_proof
from tests.identity_world import NOW, SECONDS, TD, forge_bytes, header_of, ulid

WIT_KEY, HOLDER = SigningKey.generate(), SigningKey.generate()
TASK_ID = agent_task_id(TD, "triage", ulid(1))
TARGET = "https://tickets.mesh.example/mcp"
BUNDLES = {TD: KeySet.of([WIT_KEY.public])}
WIT_TEXT = issue_wit_svid(
    WIT_KEY, TASK_ID, HOLDER.private_key.public_key(), now=NOW, ttl=600, not_after=NOW.replace(year=2030)
)
WIT = verify_wit_svid(UnverifiedToken.parse(WIT_TEXT), BUNDLES, now=NOW, leeway=0)
PROOF = issue_workload_proof(HOLDER, WIT_TEXT, audience=TARGET, now=NOW, ttl=60, entropy=bytes(16))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8) | st.floats(),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=6), parts, max_size=3),
    max_leaves=6,
)
tokens = st.none() | st.text(max_size=12)


def written(value: object) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


@given(
    st.dictionaries(st.sampled_from(["sub", "exp", "cnf", "nbf", "iat", "jti", "iss", "aud"]), json_values)
)
def test_any_claims_of_a_wit_are_a_wit_or_our_error(changes: dict[str, object]) -> None:
    right = dict(UnverifiedToken.parse(WIT_TEXT).unverified_claims)
    text = forge_bytes(WIT_KEY, written(header_of(WIT_KEY, "wit+jwt")), written(right | changes))
    try:
        wit = verify_wit_svid(UnverifiedToken.parse(text), BUNDLES, now=NOW, leeway=0)
    except TokenError:
        return
    assert wit.spiffe_id == TASK_ID
    assert "aud" not in changes


@given(
    st.dictionaries(st.sampled_from(["aud", "exp", "jti", "wth", "ath", "tth", "oth", "nbf"]), json_values)
)
def test_any_claims_of_a_proof_are_a_proof_or_our_error(changes: dict[str, object]) -> None:
    right = dict(UnverifiedToken.parse(PROOF).unverified_claims)
    text = forge_bytes(HOLDER, written({"alg": "ES256", "typ": "wpt+jwt"}), written(right | changes))
    try:
        proven = verify_workload_proof(WIT, text, audience=TARGET, now=NOW)
    except TokenError:
        return
    assert (proven.spiffe_id, proven.expires_at <= SECONDS + 330) == (TASK_ID, True)
    assert not changes.keys() & {"ath", "tth"}


@given(tokens, tokens, tokens, tokens)
def test_a_proof_covers_exactly_the_tokens_that_it_was_made_for(
    access: str | None, transaction: str | None, other_access: str | None, other_transaction: str | None
) -> None:
    proof = issue_workload_proof(
        HOLDER,
        WIT_TEXT,
        audience=TARGET,
        now=NOW,
        ttl=60,
        entropy=bytes(16),
        access_token=access,
        transaction_token=transaction,
    )
    is_same = (access, transaction) == (other_access, other_transaction)
    try:
        verify_workload_proof(
            WIT,
            proof,
            audience=TARGET,
            now=NOW,
            access_token=other_access,
            transaction_token=other_transaction,
        )
    except TokenError:
        assert not is_same
        return
    assert is_same


@given(st.integers(0, len(PROOF) - 1), st.characters(max_codepoint=0x7F))
def test_any_change_of_a_proof_is_refused(position: int, character: str) -> None:
    text = PROOF[:position] + character + PROOF[position + 1 :]
    try:
        verify_workload_proof(WIT, text, audience=TARGET, now=NOW)
    except TokenError:
        return
    assert text == PROOF


@given(st.binary(max_size=200) | json_values.map(written))
def test_any_bytes_are_no_pod(answer: bytes) -> None:
    try:
        PodIdentity.parse(answer, "deputy")
    except AttestationError:
        return
    raise AssertionError(answer)


POD = "authentication.kubernetes.io/pod-name"
UID = "authentication.kubernetes.io/pod-uid"
names = st.text("ab.-/:\n", max_size=6) | json_values


@given(names, names, st.lists(names, max_size=2) | names, st.lists(names, max_size=2) | names)
def test_any_names_are_a_pod_with_an_id_of_its_own_or_our_error(
    namespace: object, account: object, pod: object, uid: object
) -> None:
    user = {
        "username": f"system:serviceaccount:{namespace}:{account}",
        "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"],
        "extra": {POD: pod, UID: uid},
    }
    status = {"authenticated": True, "user": user, "audiences": ["deputy"]}
    review = {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status}
    try:
        found = PodIdentity.parse(written(review), "deputy")
        spiffe_id = found.workload(TD)
    except AttestationError:
        return
    assert str(spiffe_id) == f"spiffe://mesh.example/ns/{namespace}/sa/{account}"
    assert SpiffeId.parse(str(spiffe_id)).path.count("/") == 4
    assert ([found.pod_name], [found.pod_uid]) == (pod, uid)


@given(st.text(max_size=60) | st.text('AZaz09-_.="\n', max_size=60))
def test_any_text_is_asked_about_as_it_is_or_not_at_all(text: str) -> None:
    try:
        question = token_review(text, "deputy")
    except AttestationError:
        return
    assert json.loads(question)["spec"] == {"token": text, "audiences": ["deputy"]}
