"""A denial as an answer, in the words of the one who asked."""

from typing import assert_never

from authz.denials.a2a import a2a_answer, a2a_rest_answer
from authz.denials.grpc_status import grpc_answer
from authz.denials.json_rpc import RpcId
from authz.denials.llm import anthropic_answer, openai_answer
from authz.denials.mcp import mcp_answer
from authz.denials.speech import Speech
from authz.denials.told import Answer, Told, plain_answer
from authz.form import DenialForm
from authz.protocols.operation import Operation


def answer_of(
    told: Told, speech: Speech, operation: Operation | None, rpc_id: RpcId, denials: DenialForm
) -> Answer:
    """Say it."""
    match speech:
        case "mcp":
            return mcp_answer(told, operation, rpc_id, denials)
        case "mcp_modern":
            return mcp_answer(told, operation, rpc_id, denials, is_modern=True)
        case "a2a":
            return a2a_answer(told, rpc_id, denials)
        case "a2a_rest":
            return a2a_rest_answer(told)
        case "openai":
            return openai_answer(told)
        case "anthropic":
            return anthropic_answer(told)
        case "grpc":
            return grpc_answer(told)
        case "http":
            return plain_answer(told)
        case _:
            assert_never(speech)
