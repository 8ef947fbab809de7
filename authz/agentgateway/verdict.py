"""What the flow answered, as agentgateway takes it.

- On a pass the headers are removed and set that Envoy would remove and set; agentgateway removes after it has
  set, so no name is in both.
- An error has message and data of our denial. The number is agentgateway's choice, by the kind of refusal.
  It has no results and no statuses here: a call that waits for a person is an error with the URL in its data.
- Whose call it is goes to the gateway as `metadata`, and comes back with the result.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from authz.agentgateway.message import PASSAGE
from authz.answers.json_answer import MAX_ANSWER, decode, read_object, unreadable, write
from authz.answers.passage import PASSAGE_FIELD
from authz.approvals import prompt
from authz.codes import Code, find_code
from authz.form import Form
from authz.pb import ext_authz_pb2 as pb
from authz.pb import ext_mcp_pb2 as mcp

_OK: Final = 0
_HIDING: Final = -32602

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message does not pass, in the words that the client gets."""

    code: mcp.AuthorizationError.Code
    message: str
    data: Json

    @classmethod
    def of_code(cls, code: str, decision_id: str = "") -> "Refusal":
        """Say no more than the code does."""
        known = find_code(code) or Code.DENIED
        data = {"reason": code, "fix": known.fix, **({"decision_id": decision_id} if decision_id else {})}
        return cls(_kind(code), known.sentence, data)

    def message_of(self) -> mcp.AuthorizationError:
        """Return it for the wire."""
        return mcp.AuthorizationError(
            code=self.code, reason=self.message, mcp_error=json.dumps(self.data, ensure_ascii=False).encode()
        )


@dataclass(frozen=True, slots=True)
class Allowed:
    """What an allow changes about the request."""

    decision_id: str
    headers: tuple[tuple[str, bytes], ...] = field(repr=False)
    removed: tuple[str, ...]
    passage: str | None = field(repr=False)


def read_answer(data: bytes) -> Allowed | Refusal:
    """Read a CheckResponse of ours; whatever is no allow is a refusal."""
    response = pb.CheckResponse.FromString(data)
    said = {name: value.string_value for name, value in response.dynamic_metadata.fields.items()}
    decision_id = said.get("decision_id", "")
    if response.HasField("status") and response.status.code == _OK and response.HasField("ok_response"):
        ok = response.ok_response
        set_headers = [option.header for option in ok.headers]
        return Allowed(
            decision_id=decision_id,
            headers=tuple([(each.key, each.raw_value or each.value.encode()) for each in set_headers]),
            removed=tuple(ok.headers_to_remove),
            passage=said.get(PASSAGE_FIELD),
        )
    return _refusal(response.denied_response.body, said.get("reason", Code.INTERNAL.value), decision_id)


def request_passes(allowed: Allowed) -> bytes:
    """Return the answer that lets a request go on."""
    result = mcp.McpRequestResult(passed=mcp.Pass())
    for name, value in allowed.headers:
        result.header_mutation.set.add(key=name, value=value)
    result.header_mutation.remove.extend(allowed.removed)
    result.metadata.update({"decision_id": allowed.decision_id})
    if allowed.passage is not None:
        result.metadata.update({PASSAGE: allowed.passage})
    return result.SerializeToString()


def request_refused(refusal: Refusal) -> bytes:
    """Return the answer that refuses a request."""
    return mcp.McpRequestResult(error=refusal.message_of()).SerializeToString()


def result_passes() -> bytes:
    """Return the answer that passes a result on as it is."""
    return mcp.McpResponseResult(passed=mcp.Pass()).SerializeToString()


def result_replaced(result: Json) -> bytes:
    """Return the answer that puts another result in its place."""
    text = json.dumps(result, ensure_ascii=False, separators=(",", ":"))
    return mcp.McpResponseResult(mutated=text.encode()).SerializeToString()


def result_refused(refusal: Refusal) -> bytes:
    """Return the answer that refuses a result."""
    return mcp.McpResponseResult(error=refusal.message_of()).SerializeToString()


def response_of(result: bytes) -> bytes:
    """Return a result of the gateway as the message that a server would have sent.

    It is written anew, so that nothing in it ends the message. What one of several targets says, and not all
    readers take, is for the reader of lists to take out: the things of the others stay.

    Raises:
        AnswerError: with ANSWER_UNREADABLE, if it is no object of JSON.
    """
    if len(result) > MAX_ANSWER:
        raise unreadable(f"more than {MAX_ANSWER} bytes")
    document = read_object(decode(result))
    return b"".join((b'{"jsonrpc":"2.0","id":1,"result":', write(document), b"}"))


def result_of(message: bytes) -> Json | None:
    """Return the result of a JSON-RPC response of ours; None where it is an error."""
    match json.loads(message):
        case {"result": dict(result)}:
            return result
        case _:
            return None


def error_of(message: bytes) -> Refusal:
    """Return the refusal that a JSON-RPC error of ours is."""
    return _refusal(message.decode(), Code.INTERNAL.value, "")


def _refusal(body: str, code: str, decision_id: str) -> Refusal:
    plain = Refusal.of_code(code, decision_id)
    try:
        document = json.loads(body)
    except ValueError:
        return plain
    match document:
        case {"error": {"code": int(number), "message": str(message), "data": dict(told)}}:
            # What is hidden reads alike, whatever it is hidden for.
            is_hiding = number == _HIDING
            kind = mcp.AuthorizationError.INVALID if is_hiding else _kind(told.get("reason", code))
            return Refusal(kind, message, told)
        case {"error": str(message)}:
            return Refusal(
                plain.code, message, {name: document[name] for name in document if name != "error"}
            )
        case {
            "result": {"inputRequests": {prompt.INPUT: {"params": {"url": str(url), "message": str(text)}}}}
        }:
            return Refusal(plain.code, f"{text} {url}", {**plain.data, "approval": {"url": url}})
        case {"result": {"content": [{"text": str(text)}]}}:
            return Refusal(plain.code, text, plain.data)
        case _:
            return plain


def _kind(code: object) -> mcp.AuthorizationError.Code:
    known = find_code(str(code)) or Code.DENIED
    if known is Code.OVERLOADED:
        return mcp.AuthorizationError.RESOURCE_EXHAUSTED
    match known.form:
        case Form.MALFORMED:
            return mcp.AuthorizationError.INVALID
        case Form.UNAVAILABLE:
            return mcp.AuthorizationError.UNKNOWN
        case _:
            return mcp.AuthorizationError.PERMISSION_DENIED
