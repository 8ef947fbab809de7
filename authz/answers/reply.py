"""What Envoy is told about an answer; the only writer of ProcessingResponse.

- By default Envoy sends the whole answer here: one that is told nothing else hides nothing. Of what passes,
  no more is asked for. What is watched only keeps its stream to us open, by asking for the trailers: nothing
  of it comes here, and Envoy ends it when we end the stream.
- A body that is replaced has no length that anybody knows before.
- A refusal replaces the whole answer, headers included.
"""

from typing import Final

from authz.answers.guard import HeadersAnswer
from authz.decision import refused
from authz.denials.told import Told, plain_answer
from authz.errors import CodedError
from authz.pb import ext_authz_pb2 as auth
from authz.pb import ext_proc_pb2 as pb
from authz.response import DECISION_HEADER, REASON_HEADER

_OVERWRITE: Final = auth.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


def headers_reply(answer: HeadersAnswer, *, end_of_stream: bool) -> bytes:
    """Say what becomes of an answer whose headers were seen; after its end there is nothing to ask for."""
    response = pb.ProcessingResponse()
    if answer.kind == "refuse":
        immediate = response.immediate_response
        immediate.status.code = answer.status
        immediate.body = answer.body
        immediate.details = "deputy_refused"
        _mutate(immediate.headers, answer)
        return response.SerializeToString()
    response.response_headers.SetInParent()
    if answer.set_headers or answer.remove_headers:
        _mutate(response.response_headers.response.header_mutation, answer)
    if end_of_stream:
        return response.SerializeToString()
    mode = response.mode_override
    mode.request_header_mode = mode.request_trailer_mode = pb.ProcessingMode.SKIP
    mode.response_header_mode = pb.ProcessingMode.SEND
    mode.response_trailer_mode = pb.ProcessingMode.SKIP if answer.kind == "pass" else pb.ProcessingMode.SEND
    if answer.kind == "rewrite":
        mode.response_body_mode = pb.ProcessingMode.STREAMED
        response.response_headers.response.header_mutation.remove_headers.append("content-length")
    return response.SerializeToString()


def departure_reply() -> bytes:
    """Let a call go on, and stay beside it."""
    response = pb.ProcessingResponse()
    response.request_headers.SetInParent()
    return response.SerializeToString()


def body_reply(body: bytes) -> bytes:
    """Put this in place of a chunk."""
    response = pb.ProcessingResponse()
    mutation = response.response_body.response.body_mutation
    if body:
        mutation.body = body
    else:
        mutation.clear_body = True
    return response.SerializeToString()


def kept_reply() -> bytes:
    """Let a chunk pass as it is."""
    response = pb.ProcessingResponse()
    response.response_body.SetInParent()
    return response.SerializeToString()


def trailers_reply() -> bytes:
    """Let trailers pass."""
    response = pb.ProcessingResponse()
    response.response_trailers.SetInParent()
    return response.SerializeToString()


def refusal(error: CodedError, decision_id: str = "") -> HeadersAnswer:
    """Refuse an answer of which nobody knows whose it is."""
    deny = refused(error)
    answer = plain_answer(Told.of(deny, decision_id))
    headers = [*answer.headers, ("cache-control", "no-store"), (REASON_HEADER, deny.code)]
    if decision_id:
        headers.append((DECISION_HEADER, decision_id))
    return HeadersAnswer("refuse", tuple(headers), status=answer.status, body=answer.body.encode())


def _mutate(mutation: pb.HeaderMutation, answer: HeadersAnswer) -> None:
    for name, value in answer.set_headers:
        option = mutation.set_headers.add()
        option.append_action = _OVERWRITE
        option.header.key = name
        option.header.raw_value = value.encode()
    mutation.remove_headers.extend(answer.remove_headers)
