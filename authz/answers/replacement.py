"""What a caller gets in place of an answer that is not passed on: code, sentence and fix, in its own words.

- Nothing of what the service sent is in it, and nothing of the detail, which is for the log.
"""

from authz.answers.passage import Passage
from authz.decision import refused
from authz.denials.grpc_status import grpc_answer
from authz.denials.json_rpc import DENIED, RpcId, rpc_error
from authz.denials.llm import openai_answer
from authz.denials.told import Answer, Told, plain_answer
from authz.errors import CodedError


def replacement(
    passage: Passage, error: CodedError, rpc_id: RpcId = None, *, is_grpc: bool = False
) -> Answer:
    """Say why there is no answer."""
    told = Told.of(refused(error), passage.decision_id)
    if is_grpc:
        return grpc_answer(told)
    match passage.protocol:
        case "mcp":
            return rpc_error(told.status, rpc_id, DENIED, told.message, told.facts())
        case "llm":
            return openai_answer(told)
        case _:
            return plain_answer(told)
