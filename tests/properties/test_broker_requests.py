"""Any bytes to the broker's endpoints: a value or our own error."""

import json
from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st

from authz.broker.form import Form, FormError
from authz.broker.refusal import OAuthError, RefusedError
from authz.broker.task_request import JwtSvidRequest, RenewRequest, StartWithKey
from authz.broker.token_request import ACCESS_TOKEN, GRANT_TYPE, ID_TOKEN, JWT, TokenRequest, client_assertion
from identity.errors import ExchangeError

NAMES = st.sampled_from(
    ["grant_type", "subject_token", "subject_token_type", "actor_token", "actor_token_type", "audience"]
) | st.sampled_from(["scope", "client_id", "binding", "requested_token_type", "resource", "act"])
VALUES = st.sampled_from([GRANT_TYPE, ID_TOKEN, ACCESS_TOKEN, JWT, "key", "workload", "a b", ""]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=20
)
ERRORS = OAuthError.__args__  # type: ignore[attr-defined] # the members of a Literal


@given(
    st.binary(max_size=300)
    | st.lists(st.tuples(NAMES, VALUES), max_size=14).map(lambda p: urlencode(p).encode())
)
def test_any_body_is_a_token_request_or_an_oauth_error(body: bytes) -> None:
    try:
        form = Form.parse(body)
    except FormError:
        return
    try:
        request = TokenRequest.parse(form)
        client_assertion(form)
    except ExchangeError as error:
        assert error.error in ERRORS
        return
    except FormError:
        return
    assert request.unverified_subject
    assert request.audience


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.dictionaries(
    st.sampled_from(["agent", "csr", "subject_token", "lifetime_seconds", "audience", "x"]), JSON, max_size=5
)
BODIES = st.binary(max_size=200) | (JSON | MEMBERS).map(lambda value: json.dumps(value).encode())


@given(BODIES)
def test_any_body_is_a_task_request_or_refused(body: bytes) -> None:
    for parse in (StartWithKey.parse, RenewRequest.parse, JwtSvidRequest.parse):
        try:
            parse(body)
        except RefusedError as error:
            assert error.deny.code == "DPT-REQUEST-MALFORMED"
