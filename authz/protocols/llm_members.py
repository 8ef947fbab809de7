"""The members that a request to a model may have, by API.

- OpenAI chat completions and responses, Anthropic messages.
- A member that is not in the table is refused. Gateways take more than their provider documents, and some of
  it chooses another model or another address (`fallbacks`, `models`, `route`, `api_base`, `extra_body`).
- `prompt` of the responses API is refused: the provider keeps what it holds, model and tools included.
- Null is what is not set, as OpenAI has it; Anthropic takes it in the same members.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from authz.protocols.members import MemberNames


@dataclass(frozen=True, slots=True)
class Api:
    """One API: its path below the provider's own, its members, and where it differs from the others."""

    method: str
    path: str
    members: MemberNames
    # What the model is given; it must stand.
    content: str
    # The names under which a limit of the answer's tokens travels.
    limits: tuple[str, ...]
    # Whether the provider keeps the answer where the request does not say.
    keeps: bool
    # Where a part of the context is what the provider keeps.
    continuing: tuple[str, ...] = ()


def _names(*lists: str) -> MemberNames:
    return MemberNames.of(*" ".join(lists).split())


_SHARED: Final = "metadata model service_tier stream temperature tool_choice tools top_p"
_OPENAI: Final = """
    parallel_tool_calls prompt_cache_key prompt_cache_options prompt_cache_retention safety_identifier store
    stream_options top_logprobs user
"""
_CHAT: Final = """
    audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens
    messages modalities n prediction presence_penalty reasoning_effort response_format seed stop verbosity
    web_search_options
"""
_RESPONSES: Final = """
    background context_management conversation include input instructions max_output_tokens max_tool_calls
    previous_response_id reasoning text truncation
"""
_MESSAGES: Final = """
    cache_control container context_management inference_geo max_tokens mcp_servers messages output_config
    output_format speed stop_sequences system thinking top_k
"""

_APIS: Final = (
    Api(
        "chat.completions",
        "/v1/chat/completions",
        _names(_SHARED, _OPENAI, _CHAT),
        content="messages",
        limits=("max_tokens", "max_completion_tokens"),
        keeps=False,
    ),
    Api(
        "responses",
        "/v1/responses",
        _names(_SHARED, _OPENAI, _RESPONSES),
        content="input",
        limits=("max_output_tokens",),
        keeps=True,
        continuing=("conversation", "previous_response_id"),
    ),
    Api(
        "messages",
        "/v1/messages",
        _names(_SHARED, _MESSAGES),
        content="messages",
        limits=("max_tokens",),
        keeps=False,
        continuing=("container",),
    ),
)

APIS: Final[Mapping[str, Api]] = {api.path: api for api in _APIS}
MODELS_METHOD: Final = "models"
MODELS_PATH: Final = "/v1/models"
