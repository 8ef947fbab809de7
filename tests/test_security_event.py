"""Security events: what counts as one, what it says, and every other kind of token that is none."""

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.caller import Human
from identity.delegation import issue_delegation_token
from identity.errors import (
    TokenAlgorithmError,
    TokenAudienceError,
    TokenClaimsError,
    TokenError,
    TokenExpiredError,
    TokenIssuerError,
    TokenKeyError,
    TokenNotYetValidError,
    TokenSignatureError,
    TokenTypeError,
)
from identity.event_subject import MAX_ALIASES, JwtId, person_of, session_of
from identity.jws import MAX_LEEWAY, UnverifiedToken
from identity.keys import KeySet
from identity.security_event import (
    MAX_AGE_SECONDS,
    MAX_REASON,
    SESSION_REVOKED,
    SecurityEvent,
    issue_security_event,
    verify_security_event,
)
from tests.event_world import (
    CAEP,
    EVENT_KEY,
    EVENT_KEYS,
    EVENTS_AUDIENCE,
    LEAD,
    OTHER_PARTY,
    RISC,
    TRANSMITTER,
    VERIFICATION,
    event,
    event_token,
    iss_sub,
)
from tests.identity_world import LEEWAY, NOW, SECONDS, STRANGER_KEY, delegation


def read(token: str, keys: KeySet = EVENT_KEYS, *, seconds: float = 0, leeway: int = LEEWAY) -> SecurityEvent:
    return verify_security_event(
        UnverifiedToken.parse(token),
        keys,
        issuer=TRANSMITTER,
        audience=EVENTS_AUDIENCE,
        now=NOW + timedelta(seconds=seconds),
        leeway=leeway,
    )


# ---------------------------------------------------------------- what an event says


def test_a_session_revoked_says_who_when_and_why() -> None:
    payload = {
        "event_timestamp": SECONDS - 60,
        "initiating_entity": "policy",
        "reason_admin": {"de": "Richtlinie", "en": "two regions at once"},
        "reason_user": {"en": "please sign in again"},
    }
    assert read(event_token(payload=payload)) == SecurityEvent(
        jti="event-1",
        issuer=TRANSMITTER,
        issued_at=SECONDS,
        kind="session-revoked",
        type_uri=SESSION_REVOKED,
        person=LEAD,
        event_timestamp=SECONDS - 60,
        txn="8675309",
        initiating_entity="policy",
        reason="two regions at once",
    )


@pytest.mark.parametrize(
    ("type_uri", "kind"),
    [
        (CAEP + "session-revoked", "session-revoked"),
        (RISC + "sessions-revoked", "session-revoked"),
        (CAEP + "credential-change", "credential-change"),
        (RISC + "account-disabled", "account-disabled"),
        (RISC + "account-purged", "account-purged"),
        (RISC + "account-enabled", "other"),
        (CAEP + "session-revoked/", "other"),
        (CAEP + "Session-Revoked", "other"),
        ("https://evil.example/session-revoked", "other"),
    ],
)
def test_the_type_is_compared_whole(type_uri: str, kind: str) -> None:
    found = read(event_token(type_uri))
    assert (found.kind, found.type_uri) == (kind, type_uri)


def test_a_verification_event_is_about_a_stream_and_nobody() -> None:
    found = read(event_token(VERIFICATION, {"state": "x"}, sub_id={"format": "opaque", "id": "stream"}))
    assert (found.kind, found.person, found.event_timestamp) == ("verification", None, SECONDS)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({}, SECONDS),
        ({"event_timestamp": 0}, 0),
        ({"event_timestamp": SECONDS - 0.25}, SECONDS - 1),
        ({"event_timestamp": SECONDS + LEEWAY}, SECONDS + LEEWAY),
    ],
)
def test_the_time_of_the_event_may_be_long_ago_or_missing(payload: dict[str, object], expected: int) -> None:
    assert read(event_token(payload=payload)).event_timestamp == expected


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ({"de": "Grund"}, "Grund"),
        ({"en": "x" * 10_00}, "x" * MAX_REASON),
        ({}, ""),
        ({"en": 1}, ""),
        ("text", ""),
        (["text"], ""),
        (None, ""),
    ],
)
def test_no_malformed_or_long_reason_keeps_a_revocation_from_counting(reason: object, expected: str) -> None:
    assert read(event_token(payload={"reason_admin": reason})).reason == expected


@pytest.mark.parametrize("value", ["root", "", 1, None, ["admin"], {"admin": 1}])
def test_an_unknown_initiating_entity_is_nobody(value: object) -> None:
    assert read(event_token(payload={"initiating_entity": value})).initiating_entity is None


def test_what_a_transmitter_adds_is_ignored() -> None:
    token = event_token(payload={"event_timestamp": 1, "x": {}}, toe=1, act={"sub": "x"}, header={"x5t": "a"})
    assert read(token).person == LEAD


def test_one_audience_of_several_may_be_ours() -> None:
    assert read(event_token(aud=["https://a.example", EVENTS_AUDIENCE])).person == LEAD
    assert read(event_token(txn=None)).txn is None


@pytest.mark.parametrize("typ", ["secevent+jwt", "application/secevent+jwt", "SecEvent+JWT"])
def test_the_type_may_be_written_in_full(typ: str) -> None:
    assert read(event_token(typ=typ)).person == LEAD


# ---------------------------------------------------------------- whom it is about


@pytest.mark.parametrize(
    "sub_id",
    [
        iss_sub(),
        {"format": "complex", "user": iss_sub()},
        {"format": "complex", "user": iss_sub(), "session": {"format": "opaque", "id": "s"}, "x": {}},
        {"format": "aliases", "identifiers": [{"format": "email", "email": "lead@x.example"}, iss_sub()]},
        {"format": "aliases", "identifiers": [iss_sub(), iss_sub()]},
        {"format": "complex", "user": {"format": "aliases", "identifiers": [iss_sub()]}},
    ],
)
def test_a_person_is_named_by_issuer_and_subject(sub_id: object) -> None:
    assert person_of(sub_id) == LEAD


@pytest.mark.parametrize(
    "sub_id",
    [
        {"format": "email", "email": "lead@idp.example"},
        {"format": "opaque", "id": "https://idp.example#lead"},
        {"format": "uri", "uri": "https://idp.example#lead"},
        {"format": "jwt_id", "iss": TRANSMITTER, "jti": "x"},
        {"format": "ISS_SUB", "iss": TRANSMITTER, "sub": "lead"},
        {"format": "never-heard-of"},
        {"format": "complex", "tenant": iss_sub()},
        {"format": "complex", "device": iss_sub(), "session": {"format": "opaque", "id": "s"}},
        {"format": "complex", "user": {"format": "phone_number", "phone_number": "+12065550100"}},
        {"format": "aliases", "identifiers": [{"format": "email", "email": "lead@x.example"}]},
    ],
)
def test_every_other_format_names_nobody(sub_id: object) -> None:
    assert person_of(sub_id) is None


@pytest.mark.parametrize(
    "sub_id",
    [
        None,
        "lead",
        [],
        [iss_sub()],
        {},
        {"format": ""},
        {"format": 1},
        {"format": None, "iss": TRANSMITTER, "sub": "lead"},
        {"subject_type": "iss_sub", "iss": TRANSMITTER, "sub": "lead"},
        {"format": "iss_sub", "iss": TRANSMITTER},
        {"format": "iss_sub", "sub": "lead"},
        {"format": "iss_sub", "iss": TRANSMITTER, "sub": 7},
        {"format": "iss_sub", "iss": [TRANSMITTER], "sub": "lead"},
        iss_sub("a b"),
        iss_sub("x" * 256),
        iss_sub("lead\u202e"),
        iss_sub(issuer="https://idp.example#lead"),
        iss_sub(issuer="idp.example"),
        {"format": "complex"},
        {"format": "complex", "user": "lead"},
        {"format": "complex", "user": {"format": "complex", "user": iss_sub()}},
        {"format": "aliases"},
        {"format": "aliases", "identifiers": []},
        {"format": "aliases", "identifiers": iss_sub()},
        {"format": "aliases", "identifiers": ["lead"]},
        {"format": "aliases", "identifiers": [iss_sub()] * (MAX_ALIASES + 1)},
        {"format": "aliases", "identifiers": [iss_sub(), iss_sub("clerk")]},
        {"format": "aliases", "identifiers": [{"format": "aliases", "identifiers": [iss_sub()]}]},
    ],
)
def test_refuses_a_subject_that_is_malformed_or_two_people(sub_id: object) -> None:
    with pytest.raises(TokenClaimsError):
        person_of(sub_id)
    with pytest.raises(TokenClaimsError):
        read(event_token(sub_id=sub_id))


def test_the_old_place_of_the_subject_does_not_count() -> None:
    """SSF section 3.1.1: the claim at the top is required for every event."""
    with pytest.raises(TokenClaimsError):
        read(event_token(payload={"subject": iss_sub()}, sub_id=None))


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        ({"format": "opaque", "id": "s-1"}, "s-1"),
        ({"format": "opaque", "id": "s" * 300}, "s" * 255),
        ({"format": "opaque", "id": 1}, None),
        ({"format": "jwt_id", "iss": TRANSMITTER, "jti": "j-1"}, JwtId(TRANSMITTER, "j-1")),
        ({"format": "jwt_id", "iss": TRANSMITTER, "jti": "j" * 300}, JwtId(TRANSMITTER, "j" * 255)),
        ({"format": "jwt_id", "iss": TRANSMITTER}, None),
        ({"format": "jwt_id", "iss": [TRANSMITTER], "jti": "j-1"}, None),
        ({"format": "jwt-id", "iss": TRANSMITTER, "jti": "j-1"}, None),
        ({"format": "email"}, None),
        ("s-1", None),
    ],
)
def test_the_session_of_a_complex_subject_is_read(session: object, expected: str | JwtId | None) -> None:
    sub_id = {"format": "complex", "user": iss_sub(), "session": session}
    assert session_of(sub_id) == expected
    assert read(event_token(sub_id=sub_id)).session == expected


# ---------------------------------------------------------------- what is no event


@pytest.mark.parametrize(
    "typ",
    [None, "JWT", "at+jwt", "txntoken+jwt", "oauth-id-jag+jwt", "dpop+jwt", "logout+jwt", "secevent",
     "token-introspection+jwt", "secevent+jwt ", "x/secevent+jwt"],
)  # fmt: skip
def test_jw04_no_other_kind_of_token_is_an_event(typ: str | None) -> None:
    """JW-04: with the claims of an event and the right key, another typ is another kind."""
    with pytest.raises(TokenTypeError):
        read(event_token(typ=typ))


def test_jw04_no_event_is_another_kind_and_no_delegation_is_an_event() -> None:
    """JW-04: both are signed by one key."""
    with pytest.raises(TokenTypeError):
        read(issue_delegation_token(EVENT_KEY, delegation()))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        # An ID token, an access token or a logout token that somebody gave the right typ.
        ({"exp": SECONDS + 600}, TokenClaimsError),
        ({"sub": "lead"}, TokenClaimsError),
        ({"exp": SECONDS - 600}, TokenClaimsError),
        ({"iss": OTHER_PARTY}, TokenIssuerError),
        ({"iss": TRANSMITTER + "/"}, TokenIssuerError),
        ({"iss": None}, TokenIssuerError),
        ({"aud": "https://other.example"}, TokenAudienceError),
        ({"aud": None}, TokenAudienceError),
        ({"aud": []}, TokenAudienceError),
        ({"aud": {EVENTS_AUDIENCE: 1}}, TokenAudienceError),
        ({"aud": [[EVENTS_AUDIENCE]]}, TokenAudienceError),
        ({"aud": [EVENTS_AUDIENCE] * 17}, TokenAudienceError),
        ({"aud": EVENTS_AUDIENCE + "/"}, TokenAudienceError),
        ({"iat": None}, TokenClaimsError),
        ({"iat": SECONDS + LEEWAY + 1}, TokenNotYetValidError),
        ({"iat": SECONDS - MAX_AGE_SECONDS}, TokenExpiredError),
        ({"iat": 0}, TokenExpiredError),
        ({"jti": None}, TokenClaimsError),
        ({"jti": ""}, TokenClaimsError),
        ({"jti": 7}, TokenClaimsError),
        ({"jti": "a\0b"}, TokenClaimsError),
        ({"jti": "x" * 256}, TokenClaimsError),
        ({"txn": ""}, TokenClaimsError),
        ({"txn": "x" * 256}, TokenClaimsError),
        ({"events": None}, TokenClaimsError),
        ({"events": []}, TokenClaimsError),
        ({"events": {}}, TokenClaimsError),
        ({"events": SESSION_REVOKED}, TokenClaimsError),
        ({"events": {SESSION_REVOKED: {}, RISC + "account-purged": {}}}, TokenClaimsError),
        ({"events": {SESSION_REVOKED: {}, RISC + "sessions-revoked": {}}}, TokenClaimsError),
        ({"events": {SESSION_REVOKED: None}}, TokenClaimsError),
        ({"events": {SESSION_REVOKED: [{}]}}, TokenClaimsError),
        ({"events": {"x" * 256: {}}}, TokenClaimsError),
        ({"events": {"": {}}}, TokenClaimsError),
        ({"events": {"a\nb": {}}}, TokenClaimsError),
    ],
)
def test_refuses_an_event_with(changes: dict[str, object], error: type[TokenError]) -> None:
    # In the forger's claims None leaves a claim out.
    with pytest.raises(error):
        read(event_token(**changes))  # type: ignore[arg-type] # claims of any type are the point


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (SECONDS + LEEWAY + 1, TokenNotYetValidError),
        (float(SECONDS) * 1000, TokenNotYetValidError),
        (2**53 - 1, TokenNotYetValidError),
        (-1, TokenClaimsError),
        (True, TokenClaimsError),
        (None, TokenClaimsError),
        (str(SECONDS), TokenClaimsError),
        ([SECONDS], TokenClaimsError),
    ],
)
def test_refuses_a_time_to_come_and_what_is_no_time(value: object, error: type[TokenError]) -> None:
    """A time to come would keep the person out until then; milliseconds are such a time."""
    with pytest.raises(error):
        read(event_token(payload={"event_timestamp": value}))


def test_an_event_is_heard_for_a_week_to_the_second() -> None:
    token = event_token()
    assert read(token, seconds=MAX_AGE_SECONDS - 1).person == LEAD
    with pytest.raises(TokenExpiredError):
        read(token, seconds=MAX_AGE_SECONDS)


def test_jw06_the_leeway_is_bounded() -> None:
    """JW-06: at most 60 seconds."""
    assert read(event_token(), seconds=-MAX_LEEWAY, leeway=MAX_LEEWAY).person == LEAD
    for leeway in (-1, MAX_LEEWAY + 1):
        with pytest.raises(ValueError, match="leeway"):
            read(event_token(), leeway=leeway)


def test_refuses_the_key_of_somebody_else() -> None:
    with pytest.raises(TokenKeyError):
        read(event_token(key=STRANGER_KEY))
    with pytest.raises(TokenSignatureError):
        read(event_token(key=STRANGER_KEY, header={"kid": EVENT_KEY.kid}))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "HS256", "ES256K", ""])
def test_jw01_refuses_an_event_that_nobody_signed(alg: str) -> None:
    """JW-01: no `none` in any case, no HS* with a public key."""
    _, claims, signature = event_token().split(".")
    header = json.dumps({"alg": alg, "typ": "secevent+jwt", "kid": EVENT_KEY.kid}).encode()
    text = base64.urlsafe_b64encode(header).rstrip(b"=").decode()
    for last in (signature, ""):
        with pytest.raises((TokenAlgorithmError, TokenError)):
            read(f"{text}.{claims}.{last}")


# ---------------------------------------------------------------- what we send


def test_what_we_send_is_what_a_receiver_reads() -> None:
    sent = event(session="token:abc", txn="T" * 22, initiating_entity="admin", reason="the laptop was stolen")
    assert read(issue_security_event(EVENT_KEY, sent, EVENTS_AUDIENCE)) == sent
    token = UnverifiedToken.parse(issue_security_event(EVENT_KEY, sent, EVENTS_AUDIENCE))
    assert dict(token.header) == {"alg": "ES256", "kid": EVENT_KEY.kid, "typ": "secevent+jwt"}
    assert dict(token.unverified_claims) == {
        "iss": TRANSMITTER,
        "aud": EVENTS_AUDIENCE,
        "jti": sent.jti,
        "iat": SECONDS,
        "txn": "T" * 22,
        "sub_id": {
            "format": "complex",
            "user": {"format": "iss_sub", "iss": TRANSMITTER, "sub": "lead"},
            "session": {"format": "opaque", "id": "token:abc"},
        },
        "events": {
            SESSION_REVOKED: {
                "event_timestamp": SECONDS - 5,
                "initiating_entity": "admin",
                "reason_admin": {"en": "the laptop was stolen"},
            }
        },
    }


def test_a_token_of_ours_is_what_a_receiver_reads() -> None:
    sent = event(session=JwtId(TRANSMITTER, "J" * 22))
    assert read(issue_security_event(EVENT_KEY, sent, EVENTS_AUDIENCE)) == sent
    assert sent.to_claims(EVENTS_AUDIENCE)["sub_id"] == {
        "format": "complex",
        "user": iss_sub(),
        "session": {"format": "jwt_id", "iss": TRANSMITTER, "jti": "J" * 22},
    }


def test_a_whole_person_is_a_simple_subject() -> None:
    claims = event().to_claims(EVENTS_AUDIENCE)
    assert claims["sub_id"] == iss_sub()
    assert claims["events"] == {SESSION_REVOKED: {"event_timestamp": SECONDS - 5}}
    assert {"exp", "sub", "txn"}.isdisjoint(claims)


def test_an_event_of_ours_is_about_a_person() -> None:
    with pytest.raises(ValueError, match="person"):
        event(person=None).to_claims(EVENTS_AUDIENCE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
CLAIMS = st.sampled_from(["iss", "aud", "jti", "iat", "txn", "sub_id", "events", "sub", "exp", "nbf"])


@given(st.dictionaries(CLAIMS, JSON, max_size=3))
def test_any_claims_are_an_event_or_our_error(changes: dict[str, Any]) -> None:
    try:
        found = read(event_token(**changes))
    except TokenError:
        return
    assert found.person is None or isinstance(found.person, Human)
    assert found.event_timestamp <= SECONDS + LEEWAY


@given(JSON)
def test_any_subject_is_a_person_nobody_or_our_error(sub_id: object) -> None:
    session_of(sub_id)
    try:
        assert person_of(sub_id) is None
    except TokenClaimsError:
        return
