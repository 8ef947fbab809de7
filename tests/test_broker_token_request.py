"""The form of a token request: TX-02, TX-03, TX-04, TX-07, TX-08, TX-12, NR-03, CA-04."""

from urllib.parse import urlencode

import pytest

from authz.broker.token_request import ACCESS_TOKEN, GRANT_TYPE, ID_TOKEN, JWT, TokenRequest
from identity.errors import ExchangeError

PLAIN = {
    "grant_type": GRANT_TYPE,
    "subject_token": "secret.id.token",
    "subject_token_type": ID_TOKEN,
    "audience": "https://tickets.mesh.example",
}
DELEGATED = {
    **PLAIN,
    "subject_token_type": ACCESS_TOKEN,
    "actor_token": "secret.actor.token",
    "actor_token_type": JWT,
}
TYPE = "urn:ietf:params:oauth:token-type:"


def parsed(form: dict[str, str], **changes: str | None) -> TokenRequest:
    pairs = {name: value for name, value in {**form, **changes}.items() if value is not None}
    return TokenRequest.parse(urlencode(pairs).encode())


def error_of(form: dict[str, str], **changes: str | None) -> str:
    with pytest.raises(ExchangeError) as raised:
        parsed(form, **changes)
    assert "secret" not in str(raised.value)
    return raised.value.error


def test_reads_an_exchange_of_an_id_token() -> None:
    request = parsed(PLAIN, scope="tickets:read tickets:write", client_id="triage")

    assert request.unverified_subject == "secret.id.token"
    assert request.unverified_actor is None
    assert request.audience == "https://tickets.mesh.example"
    assert request.scopes == frozenset({"tickets:read", "tickets:write"})
    assert (request.binding, request.client_id) == ("key", "triage")


def test_reads_a_delegation() -> None:
    request = parsed(DELEGATED, binding="workload")

    assert request.unverified_actor == "secret.actor.token"
    assert (request.scopes, request.binding, request.client_id) == (None, "workload", None)


def test_no_token_can_be_printed() -> None:
    assert "secret" not in repr(parsed(DELEGATED))


def test_tx_02_another_grant_type() -> None:
    for other in (
        "authorization_code",
        "client_credentials",
        "password",
        GRANT_TYPE + "s",
        GRANT_TYPE.upper(),
    ):
        assert error_of(PLAIN, grant_type=other) == "unsupported_grant_type"
    assert error_of(PLAIN, grant_type=None) == "invalid_request"
    assert error_of(PLAIN, grant_type="") == "invalid_request"


@pytest.mark.parametrize("missing", ["subject_token", "subject_token_type", "audience"])
def test_tx_03_a_required_parameter_is_missing(missing: str) -> None:
    assert error_of(PLAIN, **{missing: None}) == "invalid_request"
    assert error_of(PLAIN, **{missing: ""}) == "invalid_request"


@pytest.mark.parametrize("missing", ["actor_token", "actor_token_type"])
def test_tx_03_actor_token_and_its_type_come_together(missing: str) -> None:
    assert error_of(DELEGATED, **{missing: None}) == "invalid_request"


@pytest.mark.parametrize("name", [*DELEGATED, "scope", "client_id", "binding", "requested_token_type"])
def test_tx_03_a_repeated_parameter(name: str) -> None:
    value = DELEGATED.get(name, "key")
    body = urlencode([*DELEGATED.items(), (name, value), *([] if name in DELEGATED else [(name, value)])])

    with pytest.raises(ExchangeError) as raised:
        TokenRequest.parse(body.encode())
    assert raised.value.error == ("invalid_target" if name == "audience" else "invalid_request")


@pytest.mark.parametrize(
    "kind",
    [
        "refresh_token",
        "saml1",
        "saml2",
        "jwt",
        "txn_token",
        "self_signed",
        "unsigned_json",
        "id-jag",
        "ID_TOKEN",
    ],
)
def test_tx_04_a_subject_of_another_type(kind: str) -> None:
    assert error_of(PLAIN, subject_token_type=TYPE + kind) == "invalid_request"
    assert error_of(DELEGATED, subject_token_type=TYPE + kind) == "invalid_request"


@pytest.mark.parametrize("kind", ["access_token", "id_token", "refresh_token", "saml2", "unsigned_json"])
def test_tx_04_an_actor_of_another_type(kind: str) -> None:
    assert error_of(DELEGATED, actor_token_type=TYPE + kind) == "invalid_request"


@pytest.mark.parametrize("kind", ["refresh_token", "id_token", "jwt", "txn_token"])
def test_tx_04_another_type_is_requested(kind: str) -> None:
    assert error_of(PLAIN, requested_token_type=TYPE + kind) == "invalid_request"
    assert parsed(PLAIN, requested_token_type=ACCESS_TOKEN) == parsed(PLAIN)


def test_tx_07_tx_08_a_delegation_token_without_an_actor() -> None:
    assert error_of(PLAIN, subject_token_type=ACCESS_TOKEN) == "invalid_request"


def test_an_id_token_with_an_actor_says_twice_who_acts() -> None:
    assert error_of(DELEGATED, subject_token_type=ID_TOKEN) == "invalid_request"


@pytest.mark.parametrize(
    "name", ["act", "sub", "cnf", "txn", "iss", "exp", "may_act", "jti", "client", "groups"]
)
def test_tx_12_a_reserved_claim_as_a_parameter_has_no_effect(name: str) -> None:
    assert parsed(PLAIN, **{name: "x"}) == parsed(PLAIN)


def test_nr_03_one_audience_and_no_resource() -> None:
    two = urlencode([*PLAIN.items(), ("audience", "https://billing.mesh.example")])
    with pytest.raises(ExchangeError) as raised:
        TokenRequest.parse(two.encode())
    assert raised.value.error == "invalid_target"
    assert error_of(PLAIN, resource="https://tickets.mesh.example") == "invalid_target"


@pytest.mark.parametrize(
    "scope", [" ", "a  b", "a a", 'a"b', "a\\b", "é", "a\nb", " ".join(map(str, range(65)))]
)
def test_a_malformed_scope(scope: str) -> None:
    assert error_of(PLAIN, scope=scope) == "invalid_scope"


@pytest.mark.parametrize("name", ["client_secret", "client_assertion", "client_assertion_type"])
def test_ca_04_a_second_login(name: str) -> None:
    assert error_of(PLAIN, **{name: "x"}) == "invalid_request"
    assert error_of(PLAIN, **{name: ""}) == "invalid_request"


def test_authorization_details_do_not_exist_and_are_not_ignored() -> None:
    assert error_of(PLAIN, authorization_details="[]") == "invalid_authorization_details"


@pytest.mark.parametrize("binding", ["none", "KEY", "workload ", "svid"])
def test_another_binding(binding: str) -> None:
    assert error_of(PLAIN, binding=binding) == "invalid_request"


@pytest.mark.parametrize("body", [b"", b"grant_type", b"{}", b"\xff", b"a=1&"])
def test_a_body_that_is_no_form(body: bytes) -> None:
    with pytest.raises(ExchangeError) as raised:
        TokenRequest.parse(body)
    assert raised.value.error == "invalid_request"
