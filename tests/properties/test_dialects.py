"""Any claims and any text are judged; what is refused is no caller; our own tokens are read back."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from identity.actor_chain import check_chain
from identity.base64url import encode_base64url
from identity.bundle import JWT_USE
from identity.caller import Binding, Hop, Human, KeyBinding, WorkloadBinding
from identity.delegation import Delegation, issue_delegation_token
from identity.dialect import ABOUT, Dialect, detect
from identity.dialect_actors import read_actors
from identity.dialect_caller import judge_token
from identity.dialect_findings import Judged
from identity.errors import ChainError
from identity.inspect_keys import TrustMaterial
from identity.inspection import InspectionError
from identity.keys import KeySet
from identity.token_inspection import inspect_token
from tests.identity_world import (
    ISSUER,
    NOW,
    RUNNER,
    SECONDS,
    TD,
    THUMBPRINT,
    TOKEN_KEY,
    delegation,
    forge,
    header_of,
    ulid,
)

MATERIAL = TrustMaterial(None, (), {"sig": KeySet.of([TOKEN_KEY.public]), JWT_USE: KeySet.of([])})
MAX_FINDINGS = 200
VECTORS = Path(__file__).parent.parent / "vectors" / "dialects"
DOCUMENTED = [
    case for path in sorted(VECTORS.glob("*.json")) for case in json.loads(path.read_text("utf-8"))["cases"]
]

texts = st.text(max_size=12) | st.sampled_from(
    [
        *("alice", "alice@x.example", "auth0|1", "spiffe://mesh.example/agent/a", "a@clients", "user"),
        *("ai_agent", "service user", "https://idp.example", "3 9 11", "13", "app", "agent", "", "/"),
    ]
)
scalars = st.none() | st.booleans() | st.integers(-1, 2**62) | st.floats() | texts
names = st.sampled_from(
    [
        *(
            "iss",
            "sub",
            "aud",
            "exp",
            "iat",
            "nbf",
            "jti",
            "scope",
            "scp",
            "scopes",
            "client_id",
            "azp",
            "appid",
        ),
        *("sub_profile", "client_profile", "agent_instance", "cnf", "may_act", "actor", "principal", "txn"),
        *("req_wl", "xms_act_fct", "xms_sub_fct", "xms_par_app_azp", "idtyp", "tid", "oid", "ver", "nonce"),
        *("identity_type", "delegation_depth", "chain_complete", "authorization_details", "acr", "auth_time"),
    ]
)
values = st.recursive(
    scalars,
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(names | texts, parts, max_size=4),
    max_leaves=6,
)
members = st.dictionaries(names | texts, values, max_size=8)
acts = st.recursive(
    members | scalars,
    lambda inner: st.builds(lambda one, act: {**one, "act": act}, members, inner),
    max_leaves=4,
)
claims_of_anybody = st.builds(
    lambda one, act: one if act is None else {**one, "act": act}, members, st.none() | acts
)
types = st.sampled_from(["", "jwt", "at+jwt", "txntoken+jwt", "oauth-id-jag+jwt", "wit+jwt", "?"]) | texts
headers = st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "jku"]) | texts, values, max_size=5)

agents = st.sampled_from(["triage", "resolver", "nightly-report", "a", "z0"])
chains = st.lists(st.builds(Hop, agents, st.integers(0, 6).map(ulid)), min_size=1, max_size=6).map(tuple)
subjects = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
humans = st.builds(
    Human,
    st.sampled_from(["https://idp.example", "https://idp.example/realms/a", "http://127.0.0.1:8080"]),
    subjects
    | st.sampled_from(["x@p.iam.gserviceaccount.com", "x@clients", "spiffe://td/x", "triage", "a#b"]),
)
bindings: st.SearchStrategy[Binding] = st.sampled_from([KeyBinding(THUMBPRINT), WorkloadBinding(RUNNER)])


@given(claims_of_anybody, types, headers)
def test_any_claims_are_judged_and_nothing_refused_is_a_caller(claims: Any, typ: str, header: Any) -> None:
    check_judgement(claims, typ, header)


@given(st.sampled_from(DOCUMENTED), members, st.sets(names, max_size=2))
def test_any_change_of_a_documented_token_is_judged(case: Any, changes: Any, left_out: set[str]) -> None:
    claims = {name: value for name, value in (case["claims"] | changes).items() if name not in left_out}
    check_judgement(claims, case["typ"].lower(), {"alg": "ES256", "kid": "k"})


def moment_of(claims: Any) -> datetime:
    """A moment at which the token holds, where that can be said."""
    issued = claims.get("iat", claims.get("nbf"))
    return datetime.fromtimestamp(issued if type(issued) is int and 0 <= issued < 2**32 else SECONDS, UTC)


def check_judgement(claims: Any, typ: str, header: Any) -> None:
    actors = read_actors(claims)
    dialect = detect(typ, claims, actors)
    judged = Judged(typ, header, claims, dialect, actors, moment_of(claims))
    caller, findings = judge_token(judged)
    errors = [finding for finding in findings if finding.severity == "error"]
    assert dialect in ABOUT
    assert (caller is None) == bool(errors)
    assert len(findings) < MAX_FINDINGS
    if caller is not None:
        assert ABOUT[dialect].refused is None
        assert caller.row()["presenter"] == caller.row()["chain"][0]  # type: ignore[index]  # a row is JSON
        assert caller.human is None or caller.human.subject in claims["sub"]
        assert len(caller.chain) == max(actors.depth, 1)
        assert dialect is not Dialect.INVERTED_ACT


@given(claims_of_anybody, headers)
def test_any_signed_token_is_explained_and_never_repeated(claims: Any, header: Any) -> None:
    text = forge(TOKEN_KEY, header, claims)
    for material in (None, MATERIAL):
        try:
            report = inspect_token(text, material, NOW)
        except InspectionError:
            continue
        told = json.dumps(report.row())
        assert text not in told + repr(report)
        assert text.rpartition(".")[2] not in told + repr(report)
        assert report.caller is None or material is not None
        assert (report.refusal is None) == (report.unverified_caller is not None)


@given(
    st.text(max_size=80) | st.lists(st.binary(max_size=40).map(encode_base64url), max_size=6).map(".".join)
)
def test_any_text_is_a_report_or_our_error(text: str) -> None:
    try:
        report = inspect_token(text, MATERIAL, NOW)
    except InspectionError:
        return
    assert report.refusal is not None
    assert report.caller is None


@given(humans, chains, bindings, st.integers(1, 600))
def test_our_own_tokens_give_back_their_chain(
    human: Human, chain: tuple[Hop, ...], binding: Binding, ttl: int
) -> None:
    try:
        check_chain(chain, 8)
    except ChainError:
        return
    issued: Delegation = delegation(human=human, chain=chain, binding=binding, expires_at=SECONDS + ttl)
    report = inspect_token(issue_delegation_token(TOKEN_KEY, issued), MATERIAL, NOW)
    assert report.dialect is Dialect.DEPUTY
    assert report.verification == "verified"
    assert report.caller is not None
    assert report.caller.human is not None
    assert (report.caller.human.issuer, report.caller.human.subject) == (human.issuer, human.subject)
    assert [(one.iss, one.sub, one.instance) for one in report.caller.chain] == [
        (ISSUER, f"spiffe://{TD.name}/agent/{hop.agent}", hop.task) for hop in chain
    ]
    assert report.caller.scopes == issued.scopes
    assert (report.caller.audience, report.caller.expires_at) == (issued.audience, issued.expires_at)


@given(st.sampled_from(["act", "actor", "x"]), st.integers(33, 1400))
def test_a_token_that_nests_deep_is_refused_before_it_is_parsed(name: str, depth: int) -> None:
    claims = f'{{"{name}":' * depth + "1" + "}" * depth
    header = encode_base64url(json.dumps(header_of(TOKEN_KEY, "at+jwt")).encode())
    text = f"{header}.{encode_base64url(claims.encode())}.{encode_base64url(b'x' * 64)}"
    try:
        report = inspect_token(text, MATERIAL, NOW)
    except InspectionError as error:
        assert len(text) > 16 * 1024, error
        return
    assert report.refusal is not None
    assert report.refusal.rule == "ID-04"
