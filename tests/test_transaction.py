"""Transaction tokens: rules/token-exchange.md CL-02, CL-03 and CL-07."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from identity.actor_chain import encode_act
from identity.authorization_details import Detail
from identity.caller import WorkloadBinding
from identity.errors import (
    AgentNameError,
    ChainError,
    TokenAudienceError,
    TokenClaimsError,
    TokenExpiredError,
    TokenIssuerError,
    TokenKeyError,
    TokenMalformedError,
    TokenNotYetValidError,
    TokenSignatureError,
    TokenTypeError,
)
from identity.jws import UnverifiedToken, sign
from identity.keys import KeySet
from identity.spiffe import SpiffeId, agent_task_id
from identity.transaction import (
    IssuedTransaction,
    TransactionIssuer,
    TransactionToken,
    verify_passed_on,
    verify_transaction_token,
)
from tests.identity_world import (
    ARGS_SHA256,
    ISSUER,
    LEAD,
    LEEWAY,
    NOW,
    OTHER_TD,
    RUNNER,
    SECONDS,
    STRANGER_KEY,
    SVID_KEY,
    TD,
    TOKEN_KEY,
    TOKEN_KEYS,
    agent,
    caller,
    delegation,
    forge,
    grant,
    header_of,
    hop,
    task,
    ulid,
)

TRANSACTIONS = TransactionIssuer(lambda: TOKEN_KEY, ISSUER, TD, 60)
NIGHTLY = caller(
    human=None,
    agent=agent("nightly-report", autonomous=True),
    task=task("nightly-report", human=None),
    chain=(hop("nightly-report", 1),),
    binding="svid",
    scopes=frozenset(),
    txn=ulid(1),
)
NIGHTLY_GRANT = grant(human=None, agent="nightly-report", scopes=frozenset())


def issue(now: datetime = NOW, **changes: Any) -> IssuedTransaction:
    parts: dict[str, Any] = {"grant": grant(), "caller": caller(), **changes}
    return TRANSACTIONS.issue(parts["grant"], parts["caller"], now, bytes)


def claims_of(issued: IssuedTransaction) -> dict[str, Any]:
    return dict(UnverifiedToken.parse(issued.token).unverified_claims)


RIGHT = claims_of(issue())


def check(text: str, now: datetime = NOW, keys: KeySet = TOKEN_KEYS, **options: Any) -> TransactionToken:
    asked: dict[str, Any] = {"issuer": ISSUER, "trust_domain": TD, "service": "tickets", **options}
    return verify_transaction_token(text, keys, now=now, leeway=LEEWAY, **asked)


def forged(**changes: object) -> str:
    claims = {name: value for name, value in (RIGHT | changes).items() if value is not ...}
    return forge(TOKEN_KEY, header_of(TOKEN_KEY, "txntoken+jwt"), claims)


def context(**changes: object) -> dict[str, object]:
    return {name: value for name, value in (RIGHT["tctx"] | changes).items() if value is not ...}


def test_cl02_claims_and_type_of_the_draft() -> None:
    """CL-02: `iat, aud, exp, txn, sub, scope, req_wl`, and `iss` because there is an `act`."""
    token = UnverifiedToken.parse(issue().token)
    assert dict(token.header) == header_of(TOKEN_KEY, "txntoken+jwt")
    assert RIGHT["aud"] == TD.name
    assert RIGHT["req_wl"] == str(RUNNER)
    assert (RIGHT["iat"], RIGHT["exp"]) == (SECONDS, SECONDS + 60)
    assert RIGHT["tctx"] == {
        "service": "tickets",
        "action": "tools/call",
        "tool": "read_ticket",
        "task": ulid(1),
        "args_sha256": ARGS_SHA256,
        "decision_id": ulid(9),
    }


def test_verified_token_names_everybody() -> None:
    issued = issue()
    token = check(issued.token)
    assert token.human is not None
    assert (token.human.uri, token.chain, token.requester) == (LEAD.uri, caller().chain, RUNNER)
    assert (token.service, token.action, token.tool) == ("tickets", "tools/call", "read_ticket")
    assert (token.arguments_sha256, token.decision_id, token.jti) == (ARGS_SHA256, ulid(9), issued.jti)
    assert token.to_claims() == RIGHT


def test_cl03_holds_nothing_of_the_inbound_token() -> None:
    """CL-03: no access token, and none of the personal parts of one."""
    text = str(RIGHT)
    for secret in (caller().token_id, "urn:example:mfa", "staff"):
        assert secret not in text


def test_id08_autonomous_agent_is_the_subject_and_has_no_actor() -> None:
    """ID-08: `sub` is the agent's task."""
    issued = TRANSACTIONS.issue(NIGHTLY_GRANT, NIGHTLY, NOW, bytes)
    claims = claims_of(issued)
    assert claims["sub"] == str(agent_task_id(TD, "nightly-report", ulid(1)))
    assert "act" not in claims
    assert claims["scope"] == ""
    token = check(issued.token)
    assert (token.human, token.chain) == (None, NIGHTLY.chain)
    assert token.to_claims() == claims


def test_chain_is_carried_whole() -> None:
    chain = (hop("triage", 1), hop("resolver", 2))
    assert check(issue(caller=caller(chain=chain)).token).chain == chain


def test_request_that_calls_no_tool_names_the_resource() -> None:
    issued = issue(grant=grant(action="tools/list", resource="tickets", arguments_sha256=None))
    assert claims_of(issued)["tctx"].keys() == {"service", "action", "resource", "task", "decision_id"}
    token = check(issued.token)
    assert (token.tool, token.resource, token.arguments_sha256) == (None, "tickets", None)
    bare = issue(grant=grant(action="ping", resource="", arguments_sha256=None))
    assert check(bare.token).to_claims() == claims_of(bare)


@pytest.mark.parametrize(
    "changes",
    [
        {"human": None},
        {"human": "https://idp.example#clerk"},
        {"agent": "resolver"},
        {"task": ulid(7)},
        {"scopes": frozenset({"tickets:read", "tickets:write"})},
        {"granted_at": NOW - timedelta(seconds=61)},
    ],
)
def test_grant_of_another_caller_or_an_old_one_issues_nothing(changes: dict[str, Any]) -> None:
    with pytest.raises(TokenClaimsError):
        issue(grant=grant(**changes))


def test_grant_for_nobody_issues_nothing_for_a_human() -> None:
    with pytest.raises(TokenClaimsError):
        issue(grant=replace(NIGHTLY_GRANT, agent="triage"))


def test_cl07_ends_with_the_task() -> None:
    """CL-07: never beyond what stands behind it."""
    short = caller(task=task(deadline=NOW + timedelta(seconds=7)))
    assert check(issue(caller=short).token).expires_at == SECONDS + 7
    with pytest.raises(TokenExpiredError):
        issue(caller=caller(task=task(deadline=NOW)))


def test_cl06_name_is_of_fresh_entropy() -> None:
    """CL-06: no two are equal."""
    issued = TRANSACTIONS.issue(grant(), caller(), NOW, lambda size: b"\x01" * size)
    assert issued.jti != issue().jti
    with pytest.raises(ValueError, match="entropy"):
        TRANSACTIONS.issue(grant(), caller(), NOW, lambda _: b"")


def test_issued_token_cannot_be_printed() -> None:
    issued = issue()
    assert issued.token not in repr(issued)
    assert issued.jti in repr(issued)


def test_token_for_another_service_or_trust_domain() -> None:
    with pytest.raises(TokenAudienceError):
        check(issue().token, service="billing")
    with pytest.raises(TokenAudienceError):
        check(issue().token, trust_domain=OTHER_TD)
    with pytest.raises(TokenAudienceError):
        check(forged(aud=[TD.name]))
    with pytest.raises(TokenIssuerError):
        check(issue().token, issuer="https://evil.example")


def test_expired_by_the_leeway_exactly() -> None:
    text = issue().token
    check(text, NOW + timedelta(seconds=60 + LEEWAY - 1))
    with pytest.raises(TokenExpiredError):
        check(text, NOW + timedelta(seconds=60 + LEEWAY))
    check(text, NOW - timedelta(seconds=LEEWAY))
    with pytest.raises(TokenNotYetValidError):
        check(text, NOW - timedelta(seconds=LEEWAY + 1))


def test_keys_and_types_of_others() -> None:
    with pytest.raises(TokenKeyError):
        check(sign(SVID_KEY, "txntoken+jwt", RIGHT))
    with pytest.raises(TokenSignatureError):
        check(forge(STRANGER_KEY, header_of(TOKEN_KEY, "txntoken+jwt"), RIGHT))
    for typ in ("at+jwt", "JWT", None, "txntoken"):
        with pytest.raises(TokenTypeError):
            check(forge(TOKEN_KEY, header_of(TOKEN_KEY, typ), RIGHT))
    with pytest.raises(TokenMalformedError):
        check("")
    with pytest.raises(TokenMalformedError):
        check(issue().token + ", " + issue().token)


def test_refuses_delegation_token_as_transaction_token() -> None:
    claims = delegation(binding=WorkloadBinding(RUNNER)).to_claims()
    with pytest.raises(TokenTypeError):
        check(sign(TOKEN_KEY, "at+jwt", claims))
    with pytest.raises(TokenClaimsError):
        check(sign(TOKEN_KEY, "txntoken+jwt", claims | {"aud": TD.name}))


AGENT_SUBJECT = str(agent_task_id(TD, "triage", ulid(1)))


@pytest.mark.parametrize(
    "changes",
    [
        *({name: ...} for name in ("iat", "txn", "sub", "scope", "req_wl", "jti", "tctx")),
        {"act": ...},
        {"act": None},
        {"sub": AGENT_SUBJECT},
        {"sub": "lead"},
        {"sub": 7},
        {"act": ..., "sub": "spiffe://mesh.example/ns/agents/sa/runner"},
        {"act": ..., "sub": "spiffe://other.example/ns/agents/sa/runner"},
        {"act": ..., "sub": str(agent_task_id(TD, "triage", ulid(2)))},
        {"act": ..., "sub": str(agent_task_id(OTHER_TD, "triage", ulid(2)))},
        {"act": encode_act((hop("triage", 1),), ISSUER, OTHER_TD)},
        {"act": encode_act((hop("triage", 1),), "https://evil.example", TD)},
        {"req_wl": "runner"},
        {"req_wl": ""},
        {"scope": "a  b"},
        {"scope": None},
        {"scope": ["tickets:read"]},
        {"jti": "short"},
        {"cnf": {}},
        {"rctx": {}},
        {"actor": {}},
        {"tctx": None},
        {"tctx": []},
        {"tctx": {}},
        *({"tctx": context(**{name: ...})} for name in ("service", "action", "task", "decision_id", "tool")),
        {"tctx": context(resource="x")},
        {"tctx": context(action="tools/list")},
        {"tctx": context(action="tools/list", tool=..., resource="")},
        {"tctx": context(task=ulid(2))},
        {"tctx": context(args_sha256="AB" * 32)},
        {"tctx": context(args_sha256="ab" * 32 + "\n")},
        {"tctx": context(args_sha256=None)},
        {"tctx": context(tool=["read_ticket"])},
        {"tctx": context(more="x")},
    ],
)
def test_claim_that_is_missing_malformed_or_unknown(changes: dict[str, object]) -> None:
    with pytest.raises(TokenClaimsError):
        check(forged(**changes))


def test_an_agent_of_another_trust_domain_keeps_its_id() -> None:
    name = f"{OTHER_TD.name}/nightly-report"
    foreign = replace(
        NIGHTLY,
        agent=agent(name, autonomous=True),
        task=task(name, human=None),
        chain=(hop(name, 1),),
    )
    issued = issue(caller=foreign, grant=replace(NIGHTLY_GRANT, agent=name))
    assert claims_of(issued)["sub"] == str(agent_task_id(OTHER_TD, "nightly-report", ulid(1)))
    assert claims_of(issued)["aud"] == TD.name
    token = check(issued.token)
    assert (token.trust_domain, token.human, token.chain) == (TD, None, (hop(name, 1),))
    assert token.to_claims() == claims_of(issued)


def test_an_agent_of_another_trust_domain_never_stands_in_the_chain_of_a_person() -> None:
    name = f"{OTHER_TD.name}/triage"
    foreign = caller(agent=agent(name), task=task(name), chain=(hop(name, 1),))
    with pytest.raises(AgentNameError):
        issue(caller=foreign, grant=grant(agent=name))


def test_each_token_is_signed_with_the_key_of_its_moment() -> None:
    keys = [TOKEN_KEY, STRANGER_KEY]
    issuer = TransactionIssuer(lambda: keys.pop(0), ISSUER, TD, 60)
    tokens = [UnverifiedToken.parse(issuer.issue(grant(), caller(), NOW, bytes).token) for _ in range(2)]
    assert [token.header["kid"] for token in tokens] == [TOKEN_KEY.kid, STRANGER_KEY.kid]


def test_chain_that_comes_back() -> None:
    act = encode_act((hop("triage", 1), hop("resolver", 2), hop("triage", 3)), ISSUER, TD)
    with pytest.raises(ChainError):
        check(forged(act=act))


# ---------------------------------------------------------------- calls that are passed on, and several calls

OTHERS = tuple(SpiffeId.parse(f"spiffe://mesh.example/ns/shop/sa/s{number}") for number in range(9))


def onward(**changes: Any) -> TransactionToken:
    """What a service gets that may pass the call on."""
    issued = TRANSACTIONS.issue(grant(), caller(**changes), NOW, bytes, min_epoch=7)
    return check(issued.token)


def test_cl03_what_may_be_passed_on_holds_what_the_next_decision_takes() -> None:
    """CL-03: and nothing of the kind where it may not."""
    details = (Detail("https://tickets.example", "read_ticket"),)
    said = onward(jti="J" * 22, parents=("P" * 22,), grants=(ulid(5),), details=details)
    assert said.human == LEAD
    assert (said.min_epoch, said.parents, said.grants) == (7, ("P" * 22, "J" * 22), (ulid(5),))
    assert said.details == details
    assert check(sign(TOKEN_KEY, "txntoken+jwt", said.to_claims())).to_claims() == said.to_claims()
    plain = check(TRANSACTIONS.issue(grant(), caller(jti="J" * 22, details=details), NOW, bytes).token)
    assert (plain.min_epoch, plain.parents, plain.details) == (None, (), None)
    assert plain.human == replace(LEAD, groups=(), acr=None, auth_time=None)


def test_cl04_the_requesters_are_kept_in_their_order() -> None:
    """CL-04: `req_wl` is who asks, the context has who asked before."""
    said = onward(requesters=OTHERS[:8])
    assert (said.requester, said.requesters) == (RUNNER, OTHERS[:8])
    assert said.to_claims()["tctx"]["requesters"] == [str(each) for each in OTHERS[:8]]  # type: ignore[index]  # an object


def test_cl04_the_number_of_replacements_is_limited() -> None:
    """CL-04: eight have asked before, and no more."""
    with pytest.raises(ChainError) as error:
        onward(requesters=OTHERS)
    assert error.value.reason == "depth"


def test_a_token_of_one_tool_has_no_hash_and_says_so() -> None:
    issued = TRANSACTIONS.issue(grant(), caller(), NOW, bytes, per_tool=True)
    said = check(issued.token)
    assert (said.per_tool, said.arguments_sha256, said.tool) == (True, None, "read_ticket")
    assert claims_of(issued)["tctx"]["per"] == "tool"
    listing = grant(action="tools/list", resource="tickets", arguments_sha256=None)
    assert not check(TRANSACTIONS.issue(listing, caller(), NOW, bytes, per_tool=True).token).per_tool


@pytest.mark.parametrize(
    "changes",
    [
        {"per": "tool"},
        {"per": "service", "args_sha256": ...},
        {"per": 1, "args_sha256": ...},
        {"per": "tool", "args_sha256": ..., "tool": ..., "action": "tools/list"},
        {"requesters": []},
        {"requesters": [str(each) for each in OTHERS]},
        {"requesters": ["x"]},
        {"requesters": {"a": 1}},
    ],
)
def test_a_context_of_more_than_we_know_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(TokenClaimsError):
        check(forged(tctx=context(**changes)))


@pytest.mark.parametrize("name", ["groups", "acr", "auth_time", "grants", "parents", "authorization_details"])
def test_what_is_for_the_next_decision_stands_in_no_other_token(name: str) -> None:
    """A claim that narrows must not be passed over by whoever reads a token that is not to be passed on."""
    with pytest.raises(TokenClaimsError):
        check(forged(**{name: ["x"]}))


def passed_on(text: str, now: datetime = NOW) -> TransactionToken:
    return verify_passed_on(
        UnverifiedToken.parse(text), TOKEN_KEYS, issuer=ISSUER, trust_domain=TD, now=now, leeway=LEEWAY
    )


def test_cl04_never_from_an_expired_one() -> None:
    """CL-04: the leeway is for clocks of those who verify, not for another life."""
    token = TRANSACTIONS.issue(grant(), caller(), NOW, bytes, min_epoch=0).token
    assert passed_on(token, NOW + timedelta(seconds=59.5)).min_epoch == 0
    with pytest.raises(TokenExpiredError):
        passed_on(token, NOW + timedelta(seconds=60))
    with pytest.raises(TokenClaimsError, match="must not be passed on"):
        passed_on(issue().token)
