"""Delegation tokens: rules/token-exchange.md sections 2.2 and 2.3, and tokens of other kinds."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from identity.actor_chain import encode_act
from identity.caller import Human, WorkloadBinding
from identity.delegation import DelegationToken, issue_delegation_token, verify_delegation_token
from identity.errors import (
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
from identity.jwt_svid import issue_jwt_svid
from identity.keys import KeySet
from identity.spiffe import agent_task_id
from identity.transaction import TransactionIssuer
from tests.identity_world import (
    AUDIENCE,
    ISSUER,
    LEAD,
    LEEWAY,
    NOW,
    RUNNER,
    SECONDS,
    STRANGER_KEY,
    SVID_KEY,
    TD,
    THUMBPRINT,
    TOKEN_KEY,
    TOKEN_KEYS,
    caller,
    delegation,
    forge,
    grant,
    header_of,
    hop,
    ulid,
)

RIGHT = delegation().to_claims()


def check(text: str, now: datetime = NOW, keys: KeySet = TOKEN_KEYS, **options: Any) -> DelegationToken:
    asked: dict[str, Any] = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "leeway": LEEWAY,
        "max_depth": 4,
        **options,
    }
    return verify_delegation_token(UnverifiedToken.parse(text), keys, now=now, **asked)


def forged(**changes: object) -> str:
    claims = {name: value for name, value in (RIGHT | changes).items() if value is not ...}
    return forge(TOKEN_KEY, header_of(TOKEN_KEY, "at+jwt"), claims)


@pytest.mark.parametrize(
    "said",
    [
        delegation(),
        delegation(chain=(hop("triage", 2), hop("resolver", 1))),
        delegation(binding=WorkloadBinding(RUNNER)),
        delegation(human=Human.parse("https://idp.example", "bare")),
        delegation(human=Human.parse("https://idp.example/realms/a", "a#b#c")),
    ],
)
def test_what_is_said_is_what_is_read(said: Any) -> None:
    token = check(issue_delegation_token(TOKEN_KEY, said))
    assert replace(said) == type(said)(**{name: getattr(token, name) for name in said.__slots__})
    assert len(token.token_id) == 64


def test_cl01_claims_of_rfc_9068() -> None:
    """CL-01: required ones, and the human's login carried on."""
    assert {"iss", "exp", "aud", "sub", "client_id", "iat", "jti", "scope"} <= RIGHT.keys()
    assert (RIGHT["auth_time"], RIGHT["acr"]) == (SECONDS - 60, "urn:example:mfa")
    assert UnverifiedToken.parse(forged()).header["typ"] == "at+jwt"


def test_id09_names_the_human_and_the_agent() -> None:
    """ID-09: `sub` the user, `client_id` the agent, and `act` beside it."""
    assert RIGHT["sub"] == "https://idp.example#lead"
    assert RIGHT["client_id"] == "triage"


@pytest.mark.parametrize(
    "changes", [{"client_id": "resolver"}, {"task": ulid(7)}, {"client_id": 7}, {"task": None}]
)
def test_id09_refuses_client_or_task_that_is_not_the_presenter(changes: dict[str, object]) -> None:
    """ID-09: `client_id` never stands for `act`."""
    with pytest.raises(TokenClaimsError):
        check(forged(**changes))


@pytest.mark.parametrize(
    "cnf",
    [
        ...,
        None,
        {},
        [],
        "x",
        {"x5t#S256": THUMBPRINT, "workload": str(RUNNER)},
        {"x5t#S256": THUMBPRINT, "jkt": THUMBPRINT},
        {"jkt": THUMBPRINT[:-1]},
        {"jwk": {}},
        {"kid": "x"},
        {"x5t#S256": ""},
        {"x5t#S256": THUMBPRINT + "="},
        {"x5t#S256": THUMBPRINT[:-1] + "\u212a"},
        {"x5t#S256": THUMBPRINT[:-1]},
        {"x5t#S256": "AAAA"},
        {"x5t#S256": 7},
        {"x5t#S256": [THUMBPRINT]},
        {"X5T#S256": THUMBPRINT},
        {"workload": ""},
        {"workload": f"{RUNNER}\n"},
        {"workload": "*"},
        {"workload": [str(RUNNER)]},
        [{"x5t#S256": THUMBPRINT}],
    ],
)
def test_cl08_bound_by_exactly_one_member(cnf: object) -> None:
    """CL-08: a token without a binding, with two, or with one that we do not check, is refused."""
    with pytest.raises(TokenClaimsError):
        check(forged(cnf=cnf))


def test_cl08_cnf_within_act_proves_nothing_and_is_refused() -> None:
    """CL-08: it is of the presenter, at the top."""
    act = encode_act(delegation().chain, ISSUER, TD) | {"cnf": {"x5t#S256": THUMBPRINT}}
    with pytest.raises(TokenClaimsError):
        check(forged(act=act))


@pytest.mark.parametrize(
    "subject",
    [
        ...,
        "",
        7,
        None,
        "lead",
        "https://idp.example",
        "https://idp.example#",
        "#lead",
        "https://idp.example##"[:-1],
        "https://idp.example #lead",
        "https://idp.example\n#lead",
        "https://idp.example#lead\n",
        "https://idp.example#le ad",
        "https://idp.example#l\u00e9ad",
        "https://idp.example#" + "x" * 256,
        "http://idp.example#lead",
        "https://user@idp.example#lead",
        "spiffe://mesh.example/agent/triage",
        str(agent_task_id(TD, "triage", ulid(1))),
    ],
)
def test_id01_subject_is_a_human(subject: object) -> None:
    """ID-01: an agent in `sub` is an inverted token."""
    with pytest.raises(TokenClaimsError):
        check(forged(sub=subject))


def test_subject_with_two_fragments_has_one_reading() -> None:
    """An issuer has no `#`, so the first one splits; nobody at one provider is somebody at another."""
    token = check(forged(sub="https://idp.example#https://evil.example#lead"))
    assert (token.human.issuer, token.human.subject) == ("https://idp.example", "https://evil.example#lead")
    assert token.human.uri != LEAD.uri


@pytest.mark.parametrize(
    "audience", [..., "", "billing", [AUDIENCE], [AUDIENCE, "billing"], None, 7, f"{AUDIENCE}\n"]
)
def test_audience_is_one_text(audience: object) -> None:
    with pytest.raises(TokenAudienceError):
        check(forged(aud=audience))


@pytest.mark.parametrize(
    "issuer", [..., "", "https://broker.mesh.example/", "https://evil.example", None, [ISSUER]]
)
def test_issuer_is_compared_exactly(issuer: object) -> None:
    with pytest.raises(TokenIssuerError):
        check(forged(iss=issuer))


@pytest.mark.parametrize(
    "changes",
    [
        *({name: ...} for name in ("client_id", "scope", "iat", "exp", "jti", "txn", "act", "task")),
        {"scope": ""},
        {"scope": "a  b"},
        {"scope": ["tickets:read"]},
        {"scope": "a a"},
        {"jti": "short"},
        {"txn": "x" * 65},
        {"txn": 7},
        {"groups": "lead"},
        {"groups": [7]},
        {"groups": ["g"] * 65},
        {"groups": ["g" * 65]},
        {"groups": ["a\nb"]},
        {"groups": {"lead": 1}},
        {"acr": ""},
        {"acr": 7},
        {"acr": None},
        {"auth_time": "1"},
        {"auth_time": 1.5},
        {"auth_time": True},
        {"act": None},
        {"may_act": {}},
        {"authorization_details": []},
        {"nbf": SECONDS},
        {"admin": True},
    ],
)
def test_claim_that_is_missing_malformed_or_unknown(changes: dict[str, object]) -> None:
    """A claim that we do not know could be one that narrows; TX-12."""
    with pytest.raises(TokenClaimsError):
        check(forged(**changes))


def test_id04_depth_is_the_callers_limit() -> None:
    """ID-04: the local maximum."""
    chain = tuple(hop(f"agent-{number}", number) for number in range(5))
    text = issue_delegation_token(TOKEN_KEY, delegation(chain=chain))
    assert check(text, max_depth=5).chain == chain
    with pytest.raises(ChainError) as caught:
        check(text, max_depth=4)
    assert caught.value.reason == "depth"


def test_jw06_leeway_is_exact() -> None:
    """JW-06: applied to `exp`, to the second."""
    text = forged()
    check(text, NOW + timedelta(seconds=300 + LEEWAY - 1))
    with pytest.raises(TokenExpiredError):
        check(text, NOW + timedelta(seconds=300 + LEEWAY))
    check(text, NOW - timedelta(seconds=LEEWAY))
    with pytest.raises(TokenNotYetValidError):
        check(text, NOW - timedelta(seconds=LEEWAY + 1))


def test_order_of_the_checks() -> None:
    """Type, key, signature, time, issuer, audience, claims, chain: the first that fails speaks."""
    wrong: dict[str, Any] = {
        "exp": SECONDS - 100,
        "iss": "https://evil.example",
        "aud": "billing",
        "admin": True,
        "act": encode_act(tuple(hop(f"a{number}", number) for number in range(5)), ISSUER, TD),
        "client_id": "a0",
        "task": ulid(0),
    }
    header = header_of(TOKEN_KEY, "at+jwt")
    steps: list[tuple[type[Exception], str]] = [
        (TokenTypeError, forge(STRANGER_KEY, header_of(STRANGER_KEY, "JWT"), RIGHT | wrong)),
        (TokenKeyError, forge(STRANGER_KEY, header_of(STRANGER_KEY, "at+jwt"), RIGHT | wrong)),
        (TokenSignatureError, forge(STRANGER_KEY, header, RIGHT | wrong)),
    ]
    errors = [TokenExpiredError, TokenIssuerError, TokenAudienceError, TokenClaimsError, ChainError]
    for name, error in zip(["exp", "iss", "aud", "admin", "act"], errors, strict=True):
        steps.append((error, forge(TOKEN_KEY, header, RIGHT | wrong)))
        del wrong[name]
    for error, text in steps:
        with pytest.raises(error):
            check(text)


def test_refuses_agents_svid_as_delegation_token() -> None:
    """Row 7 of the demo; and with its type forged, the key refuses it."""
    svid_id = agent_task_id(TD, "triage", ulid(1))
    svid = issue_jwt_svid(
        SVID_KEY, svid_id, audience=AUDIENCE, now=NOW, ttl=60, not_after=NOW + timedelta(hours=1)
    )
    with pytest.raises(TokenTypeError):
        check(svid)
    with pytest.raises(TokenKeyError):
        check(sign(SVID_KEY, "at+jwt", RIGHT))


def test_refuses_transaction_token_as_delegation_token() -> None:
    """CL-03: a transaction token is no access token."""
    issued = TransactionIssuer(lambda: TOKEN_KEY, ISSUER, TD, 60).issue(grant(), caller(), NOW, bytes)
    with pytest.raises(TokenTypeError):
        check(issued.token)
    with pytest.raises(TokenAudienceError):
        check(sign(TOKEN_KEY, "at+jwt", UnverifiedToken.parse(issued.token).unverified_claims))


@pytest.mark.parametrize("typ", ["wit+jwt", "id_token", "JWT", None, "logout+jwt", "dpop+jwt"])
def test_refuses_other_types(typ: str | None) -> None:
    """W-6: a WIT in `Authorization`; an ID token; a bare JWT."""
    with pytest.raises(TokenTypeError):
        check(forge(TOKEN_KEY, header_of(TOKEN_KEY, typ), RIGHT))


def test_refuses_header_with_more_than_we_write() -> None:
    with pytest.raises(TokenMalformedError):
        check(forge(TOKEN_KEY, header_of(TOKEN_KEY, "at+jwt", cty="JWT"), RIGHT))


def test_large_token_fits_and_a_larger_one_is_not_issued() -> None:
    """64 groups of 64 letters and a chain of four stay below 8 kB; what does not is not cut."""
    chain = tuple(hop(f"{number}" + "a" * 30, number) for number in range(4))
    groups = tuple(f"{number:064}" for number in range(64))
    human = Human.parse("https://idp.example", "s" * 64, groups)
    assert check(issue_delegation_token(TOKEN_KEY, delegation(human=human, chain=chain))).human == human
    wide = Human.parse(
        "https://idp.example", "s", tuple("\u00e9" * 62 + f"{number:02}" for number in range(64))
    )
    with pytest.raises(TokenMalformedError):
        issue_delegation_token(TOKEN_KEY, delegation(human=wide))
