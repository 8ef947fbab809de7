"""Whatever is refused, in whatever form: a status, no detail, and the id as it was."""

from dataclasses import replace
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

from authz.approvals.prompt import Prompt
from authz.codes import Code
from authz.decision import Deny, denied
from authz.denials.speech import Speech
from authz.form import DenialForm, Form
from authz.protocols.operation import Operation, Protocol, Wire
from tests.denials import CALL, DECISION, refuse

DETAIL = "only for the operator"


def _is_no_detail(text: str) -> bool:
    # Hypothesis tries the literals of the code, this one too.
    return DETAIL not in text


IDS = st.none() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])).filter(_is_no_detail)
# Texts of a policy are printable.
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=1024).filter(_is_no_detail)
CODES = st.sampled_from([code for code in Code if code.form is not Form.ALLOWED])
SPEECHES: st.SearchStrategy[Speech | None] = st.none() | st.sampled_from(
    ("mcp", "a2a", "a2a_rest", "openai", "anthropic", "grpc", "http")
)
FORMS: st.SearchStrategy[DenialForm] = st.sampled_from(("json_rpc", "tool_error", "unknown_tool", "http"))
PROMPTS = st.none() | st.builds(Prompt, st.just("01"), st.just("https://a.example/1"), TEXTS)


@st.composite
def denials(draw: st.DrawFn) -> Deny:
    made = denied(draw(CODES))
    return replace(made, message=draw(TEXTS), fix=draw(TEXTS), detail=DETAIL, approval=draw(PROMPTS))


@st.composite
def operations(draw: st.DrawFn) -> Operation | None:
    method = draw(st.sampled_from(["tools/call", "resources/read", "tools/list", "SendMessage", "messages"]))
    protocol: Protocol = draw(st.sampled_from(get_args(Protocol)))
    wire: Wire = draw(st.sampled_from(get_args(Wire)))
    made = replace(
        CALL, protocol=protocol, method=method, wire=wire, elicits_urls=draw(st.booleans()), rpc_id=draw(IDS)
    )
    return draw(st.sampled_from([made, None]))


@given(denials(), operations(), IDS, SPEECHES, FORMS)
def test_every_denial_is_an_answer_and_tells_no_detail(
    deny: Deny, operation: Operation | None, rpc_id: str | int | None, speech: Speech | None, form: DenialForm
) -> None:
    seen = refuse(deny, operation, rpc_id, speech=speech, denials=form)
    assert seen.status in {200, 400, 401, 403, 503}
    assert DETAIL not in seen.body + "".join(seen.headers.values())
    assert seen.headers["x-deputy-decision"] == DECISION
    assert all(value.isascii() and value.isprintable() for value in seen.headers.values())
    if seen.headers["content-type"] == "application/grpc":
        assert seen.headers["grpc-status"] != "0"
        return
    document: Any = seen.json
    # What is 200 is the answer to one call, and never looks like a success.
    if seen.status == 200:
        result = document.get("result", {})
        assert "error" in document or result.get("isError") or result.get("resultType") == "input_required"
    if "jsonrpc" in document:
        expected = rpc_id if rpc_id is not None or operation is None else operation.rpc_id
        assert document["id"] == expected
        assert type(document["id"]) is type(expected)
