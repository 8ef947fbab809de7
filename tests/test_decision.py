"""Decisions: allow with a grant, deny with a reason, nothing between."""

import pytest

from authz.codes import Code
from authz.decision import Allow, Deny, decide, denied, denied_by, refused
from authz.errors import AuditError, PolicyUnavailableError
from authz.form import Form
from authz.pb import ext_authz_pb2 as pb
from authz.policy.verdict import Verdict
from authz.protocols.operation import Operation
from authz.response import deny_response
from identity.caller import Caller
from tests.fakes import LEAD, NOW, SCOPES, World, agent

READ = Operation("mcp", "tools/call", "call", "tool", "read_ticket", {"a": 1}, "0" * 64, 7, wire="json_rpc")
REASON = {"code": "DPT-AGENT-TIER", "msg": "m", "rule": "r", "fix": "f", "audience": "agent"}


def _decide(
    *reasons: dict[str, str], effect: str = "deny", obligations: dict[str, list[str]] | None = None
) -> Allow | Deny:
    world = World()
    run = world.run("triage")
    caller = Caller(
        LEAD,
        agent("triage"),
        run.task,
        (run.hop,),
        (agent("triage"),),
        run.spiffe_id,
        "key",
        SCOPES,
        "id",
        "t",
        0,
    )
    verdict = Verdict.parse(
        {"effect": effect, "reasons": list(reasons), "obligations": obligations or {}}, "policy.data"
    )
    return decide(verdict, caller, READ, service="tickets", decision_id="01", now=NOW)


def test_a_denial_is_falsy_and_an_allow_is_truthy() -> None:
    assert not denied(Code.DENIED)
    assert _decide(effect="allow")


def test_only_an_allow_has_a_grant_and_it_names_what_was_allowed() -> None:
    allow = _decide(effect="allow")
    assert isinstance(allow, Allow)
    grant = allow.grant
    assert (grant.human, grant.agent, grant.service) == (LEAD.uri, "triage", "tickets")
    assert (grant.action, grant.resource, grant.arguments_sha256) == ("tools/call", "read_ticket", "0" * 64)
    assert not hasattr(_decide(REASON), "grant")


def test_the_caller_sees_the_agents_reason_and_the_record_the_operators() -> None:
    secret = {**REASON, "code": "DPT-ARGUMENT-LIMIT", "msg": "limit is 100", "audience": "operator"}
    deny = _decide(secret, REASON)
    assert isinstance(deny, Deny)
    assert (deny.code, deny.codes) == ("DPT-ARGUMENT-LIMIT", ("DPT-ARGUMENT-LIMIT", "DPT-AGENT-TIER"))
    assert (deny.message, deny.detail) == ("m", "limit is 100; m")


def test_reasons_for_operators_alone_tell_the_caller_nothing() -> None:
    deny = _decide({**REASON, "msg": "grants of bob", "audience": "operator"})
    assert isinstance(deny, Deny)
    assert "bob" not in deny.message + deny.fix


def test_a_code_of_the_policys_own_travels_as_a_policy_denial() -> None:
    deny = _decide({**REASON, "code": "DPT-TOOL-ARG-012"})
    assert isinstance(deny, Deny)
    assert (deny.code, deny.form) == ("DPT-TOOL-ARG-012", Form.POLICY)


@pytest.mark.parametrize(("needed", "form"), [({}, Form.POLICY), ({"needed_scopes": ["a:read"]}, Form.SCOPE)])
def test_more_scope_is_asked_for_only_where_it_would_help(needed: dict[str, list[str]], form: Form) -> None:
    deny = _decide({**REASON, "code": "DPT-SCOPE-MISSING"}, obligations=needed)
    assert isinstance(deny, Deny)
    assert deny.form is form


def test_the_challenge_names_the_scope_that_is_needed() -> None:
    deny = _decide({**REASON, "code": "DPT-SCOPE-MISSING"}, obligations={"needed_scopes": ["tickets:write"]})
    assert isinstance(deny, Deny)
    response = pb.CheckResponse.FromString(deny_response(deny, "01", READ)).denied_response
    headers = {option.header.key: option.header.value for option in response.headers}
    assert response.status.code == 403
    assert headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="tickets:write"'


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Code.REQUEST_MALFORMED, 400),
        (Code.MCP_METHOD_UNKNOWN, 200),
        (Code.TOKEN_EXPIRED, 401),
        (Code.POLICY_UNAVAILABLE, 503),
        (Code.AGENT_TIER, 200),
    ],
)
def test_each_form_has_its_status(code: Code, status: int) -> None:
    response = pb.CheckResponse.FromString(deny_response(denied(code), "01", READ))
    assert (response.status.code, response.denied_response.status.code) == (7, status)
    assert all(option.header.value for option in response.denied_response.headers)


def test_a_policy_denial_without_an_id_to_answer_is_403() -> None:
    for operation in (None, Operation("http", "GET", "call", "path", "/x")):
        response = pb.CheckResponse.FromString(deny_response(denied(Code.AGENT_TIER), "01", operation))
        assert response.denied_response.status.code == 403


def test_what_cannot_be_known_asks_to_try_again() -> None:
    response = pb.CheckResponse.FromString(deny_response(refused(PolicyUnavailableError("x")), "01", READ))
    headers = {option.header.key: option.header.value for option in response.denied_response.headers}
    assert headers["retry-after"] == "1"


def test_no_detail_reaches_the_caller() -> None:
    response = deny_response(refused(AuditError("/var/lib/secret is full")), "01", READ)
    assert b"secret" not in response


def test_a_policys_text_cannot_break_out_of_a_header() -> None:
    hostile = 'x"\r\nset-cookie: a=b'
    deny = Deny(Code.TOKEN_EXPIRED.value, Form.TOKEN, hostile, hostile)
    response = pb.CheckResponse.FromString(deny_response(deny, "01"))
    for option in response.denied_response.headers:
        assert "\n" not in option.header.value
        assert "set-cookie" not in option.header.value


@pytest.mark.parametrize(("effect", "code"), [("deny", Code.DENIED), ("approve", Code.APPROVAL_REQUIRED)])
def test_a_verdict_without_reasons_still_says_something(effect: str, code: Code) -> None:
    deny = denied_by(Verdict(effect))  # type: ignore[arg-type]  # a Literal
    assert (deny.code, deny.message) == (code.value, code.sentence)
