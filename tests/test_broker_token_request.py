"""The form of a token request: TX-02, TX-03, TX-04, TX-12, NR-03, NR-04, CA-01, CA-04."""

from urllib.parse import urlencode

import pytest

from authz.broker.form import Form, FormError
from authz.broker.token_request import (
    ACCESS_TOKEN,
    GRANT_TYPE,
    ID_JAG,
    ID_TOKEN,
    JWT,
    JWT_SPIFFE,
    TokenRequest,
    client_assertion,
)
from identity.authorization_details import Detail
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
    return TokenRequest.parse(Form.parse(urlencode(pairs).encode()))


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
    assert (request.binding, request.client_id) == (None, "triage")


def test_reads_a_delegation() -> None:
    request = parsed(DELEGATED, binding="workload")

    assert request.unverified_actor == "secret.actor.token"
    assert (request.scopes, request.binding, request.client_id) == (None, "workload", None)


def test_no_token_can_be_printed() -> None:
    assert "secret" not in repr(parsed(DELEGATED))


def test_tx02_another_grant_type() -> None:
    """TX-02: `unsupported_grant_type`."""
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
def test_tx03_a_required_parameter_is_missing(missing: str) -> None:
    """TX-03: `invalid_request`."""
    assert error_of(PLAIN, **{missing: None}) == "invalid_request"
    assert error_of(PLAIN, **{missing: ""}) == "invalid_request"


@pytest.mark.parametrize("missing", ["actor_token", "actor_token_type"])
def test_tx03_actor_token_and_its_type_come_together(missing: str) -> None:
    """TX-03: either alone is refused."""
    assert error_of(DELEGATED, **{missing: None}) == "invalid_request"


@pytest.mark.parametrize("name", [*DELEGATED, "scope", "client_id", "binding", "requested_token_type"])
def test_tx03_a_repeated_parameter(name: str) -> None:
    """TX-03: two values, no guess."""
    value = DELEGATED.get(name, "key")
    body = urlencode([*DELEGATED.items(), (name, value), *([] if name in DELEGATED else [(name, value)])])

    with pytest.raises(ExchangeError) as raised:
        TokenRequest.parse(Form.parse(body.encode()))
    assert raised.value.error == ("invalid_target" if name == "audience" else "invalid_request")


@pytest.mark.parametrize(
    "kind",
    [
        "refresh_token",
        "saml1",
        "saml2",
        "self_signed",
        "unsigned_json",
        "id-jag",
        "ID_TOKEN",
    ],
)
def test_tx04_a_subject_of_another_type(kind: str) -> None:
    """TX-04: SAML, refresh tokens and `unsigned_json` are no subject."""
    assert error_of(PLAIN, subject_token_type=TYPE + kind) == "invalid_request"
    assert error_of(DELEGATED, subject_token_type=TYPE + kind) == "invalid_request"


def test_tx04_a_jwt_is_an_access_token_and_never_an_id_token() -> None:
    """TX-04: what the `jwt` is, its header says; where it says nothing it is no ID token."""
    assert parsed(PLAIN, subject_token_type=JWT).subject_kind == "access_token"


@pytest.mark.parametrize("kind", ["access_token", "id_token", "refresh_token", "saml2", "unsigned_json"])
def test_tx04_an_actor_of_another_type(kind: str) -> None:
    """TX-04: an actor shows a JWT."""
    assert error_of(DELEGATED, actor_token_type=TYPE + kind) == "invalid_request"


@pytest.mark.parametrize("kind", ["refresh_token", "id_token", "jwt", "txn_token", "saml2", "unsigned_json"])
def test_tx04_another_type_is_requested(kind: str) -> None:
    """TX-04: what we do not issue."""
    assert error_of(PLAIN, requested_token_type=TYPE + kind) == "invalid_request"
    assert parsed(PLAIN, requested_token_type=ACCESS_TOKEN) == parsed(PLAIN)


def test_an_assertion_for_another_domain_names_no_actor() -> None:
    assert parsed(PLAIN, requested_token_type=ID_JAG).output == "id-jag"
    assert error_of(DELEGATED, requested_token_type=ID_JAG) == "invalid_request"


def test_an_id_token_with_an_actor_says_twice_who_acts() -> None:
    assert error_of(DELEGATED, subject_token_type=ID_TOKEN) == "invalid_request"


@pytest.mark.parametrize(
    "name", ["act", "sub", "cnf", "txn", "iss", "exp", "may_act", "jti", "client", "groups"]
)
def test_tx12_a_reserved_claim_as_a_parameter_has_no_effect(name: str) -> None:
    """TX-12: `act`, `sub`, `cnf`, `txn` and the like."""
    assert parsed(PLAIN, **{name: "x"}) == parsed(PLAIN)


@pytest.mark.parametrize("name", ["audience", "resource"])
def test_nr03_one_audience_and_one_resource(name: str) -> None:
    """NR-03: widening to a list is refused, also where both name the same."""
    first = "https://tickets.mesh.example"
    for second in (first, "https://billing.mesh.example"):
        rest = [pair for pair in PLAIN.items() if pair[0] != "audience"]
        two = urlencode([*rest, (name, first), (name, second)])
        with pytest.raises(ExchangeError) as raised:
            TokenRequest.parse(Form.parse(two.encode()))
        assert raised.value.error == "invalid_target"


def test_nr03_audience_and_resource_name_one_service() -> None:
    """NR-03: the same target in both (RFC 8707); never two."""
    both = parsed(PLAIN, resource="HTTPS://tickets.mesh.example:443/")
    assert both.audience == "https://tickets.mesh.example"
    assert parsed(PLAIN, audience=None, resource="https://a.example/x").audience == "https://a.example/x"
    assert error_of(PLAIN, resource="https://billing.mesh.example") == "invalid_target"


@pytest.mark.parametrize(
    "resource", ["tickets", "/tickets", "https://a.example#x", "https://a.example/#", "urn:a", "https://"]
)
def test_nr03_a_resource_is_an_absolute_uri_without_fragment(resource: str) -> None:
    """NR-03: RFC 8707 section 2."""
    assert error_of(PLAIN, audience=None, resource=resource) == "invalid_target"


@pytest.mark.parametrize(
    "scope", [" ", "a  b", "a a", 'a"b', "a\\b", "é", "a\nb", " ".join(map(str, range(65)))]
)
def test_a_malformed_scope(scope: str) -> None:
    assert error_of(PLAIN, scope=scope) == "invalid_scope"


def assertion_of(**form: str) -> str | None:
    return client_assertion(Form.parse(urlencode({**PLAIN, **form}).encode()))


def test_ca01_a_jwt_svid_logs_in() -> None:
    """CA-01: `jwt-spiffe`."""
    assert assertion_of() is None
    assert assertion_of(client_assertion="a.b.c", client_assertion_type=JWT_SPIFFE) == "a.b.c"


@pytest.mark.parametrize(
    "form",
    [
        {"client_secret": "x"},
        {"client_secret": ""},
        {"client_assertion": "x"},
        {"client_assertion_type": JWT_SPIFFE},
        {"client_assertion": "x", "client_assertion_type": ""},
        {"client_assertion": "", "client_assertion_type": JWT_SPIFFE},
        {
            "client_assertion": "x",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        },
        {"client_assertion": "x", "client_assertion_type": "none"},
        {"client_assertion": "x", "client_assertion_type": JWT_SPIFFE, "client_secret": "x"},
    ],
)
def test_ca04_another_login_or_half_a_one(form: dict[str, str]) -> None:
    """CA-04: nothing is guessed from half a login, and none is ignored."""
    with pytest.raises(ExchangeError) as raised:
        assertion_of(**form)
    assert raised.value.error == "invalid_request"


def test_ca04_a_repeated_login() -> None:
    """CA-04: two assertions are two clients."""
    for name in ("client_assertion", "client_assertion_type"):
        with pytest.raises(FormError):
            client_assertion(Form.parse(urlencode([(name, "x"), (name, "x")]).encode()))


DETAIL = (
    '{"type":"mcp_tool_call","locations":["https://tickets.mesh.example"],'
    '"actions":["tools/call"],"tool":"close_ticket"}'
)


def test_nr04_authorization_details() -> None:
    """NR-04: read whole, or refused whole."""
    request = parsed(PLAIN, authorization_details=f"[{DETAIL}]")
    assert request.details == (Detail("https://tickets.mesh.example", "close_ticket"),)


@pytest.mark.parametrize(
    "details",
    [
        "[]",
        "{}",
        DETAIL,
        "null",
        "x",
        "[1]",
        f"[{DETAIL},{{}}]",
        f'[{DETAIL[:-1]},"type":"mcp_tool_call"}}]',
        "[" * 10_000,
        f"[{','.join([DETAIL] * 33)}]",
    ],
)
def test_nr04_other_authorization_details(details: str) -> None:
    """NR-04: an unknown type, a list of none, too many, or JSON of two readings."""
    assert error_of(PLAIN, authorization_details=details) == "invalid_authorization_details"


@pytest.mark.parametrize("binding", ["none", "KEY", "workload ", "svid"])
def test_another_binding(binding: str) -> None:
    assert error_of(PLAIN, binding=binding) == "invalid_request"


def test_the_two_bindings() -> None:
    assert parsed(PLAIN, binding="key").binding == "key"
    assert parsed(PLAIN, binding="workload").binding == "workload"
