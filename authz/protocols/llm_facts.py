"""What a policy sees of a request to a model: a few facts, each with one meaning in every API.

- `model`, `stream`, `n`: as asked for, or what the API does where nothing is said.
- `max_tokens`: the limit of the answer, under whichever name it travelled; not there where none was asked
  for, so that a limit in the grants refuses. Two names at once are refused: providers differ in which counts.
- `max_tool_calls`, `thinking_tokens`: likewise.
- `tools`, `tool_types`, `mcp_servers`: what is offered to the model; see authz/protocols/llm_tools.py.
- `store`, `background`, `continues`: whether the provider keeps the answer, works on when the client is gone,
  or adds a context that it kept.
- A header that repeats the model, because a gateway routes by it, equals it. One by which a gateway takes
  another model, provider or address than the operator's configuration has is refused.
- `service_tier`, `speed`, `betas`: what else the provider is asked for, in the body and in its headers.
"""

import re
from collections.abc import Mapping

from authz.codes import Code
from authz.errors import InspectionError
from authz.headers import Headers
from authz.protocols.llm_members import Api
from authz.protocols.llm_tools import Tools
from authz.protocols.members import MemberNames
from authz.protocols.reader_codes import LLM
from identity.strict_json import MAX_SAFE_INTEGER

MAX_BETAS = 64

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,255}")
_THINKING = MemberNames.of("budget_tokens")
_WORD = re.compile(r"[a-z_]{1,32}")
_BETA = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=-]{0,127}")
_BETA_HEADERS = ("anthropic-beta", "openai-beta")
# Envoy AI Gateway, and the inference extension of the Gateway API.
_MODEL_HEADERS = ("x-ai-eg-model", "x-gateway-model-name")
# Portkey and Helicone.
_TURNING_HEADERS = frozenset(
    {
        "helicone-fallbacks",
        "helicone-model-override",
        "helicone-target-url",
        "x-portkey-config",
        "x-portkey-custom-host",
        "x-portkey-provider",
        "x-portkey-virtual-key",
    }
)
_VERSION_HEADER = "anthropic-version"
_VERSIONS = frozenset({None, "2023-01-01", "2023-06-01"})


def read_facts(body: Mapping[str, object], api: Api, headers: Headers) -> dict[str, object]:
    """Return the facts.

    Raises:
        InspectionError: with LLM_BODY or JSON_LOOKALIKE_KEY.
        RequestError: if a header stands twice or is not text.
    """
    api.members.check(body, LLM, "a request")
    tools = Tools(api.method)
    tools.read(body, api.content)
    facts: dict[str, object] = {
        "model": _text(body, "model", MODEL_NAME),
        "stream": _truth(body, "stream"),
        "n": _number(body, "n") or 1,
        "tools": tools.names,
        "tool_types": sorted(tools.types),
        "mcp_servers": tools.servers,
        "store": _truth(body, "store", otherwise=api.keeps),
        "background": _truth(body, "background"),
        "continues": any(body.get(name) is not None for name in api.continuing),
        "betas": _betas(headers),
    }
    _check_content(body, api)
    _check_model_headers(facts["model"], headers)
    asked = {
        "max_tokens": _limit(body, api),
        "max_tool_calls": _number(body, "max_tool_calls"),
        "thinking_tokens": _thinking(body),
        "service_tier": _word(body, "service_tier"),
        "speed": _word(body, "speed"),
    }
    return facts | {name: value for name, value in asked.items() if value is not None}


def _check_content(body: Mapping[str, object], api: Api) -> None:
    content = body.get(api.content)
    is_text = isinstance(content, str) and api.content == "input"
    if not is_text and not isinstance(content, list):
        raise InspectionError(LLM.params, f"{api.content} that cannot be read")


def _check_model_headers(model: object, headers: Headers) -> None:
    if not _TURNING_HEADERS.isdisjoint(headers.last):
        turning = min(_TURNING_HEADERS & headers.names())
        raise InspectionError(LLM.params, f"a model, a provider or an address in {turning}")
    for name in _MODEL_HEADERS:
        if headers.one(name) not in {None, model}:
            raise InspectionError(LLM.params, f"{name} is not the model in the body")


def _limit(body: Mapping[str, object], api: Api) -> int | None:
    limits = [limit for name in api.limits if (limit := _number(body, name)) is not None]
    if len(limits) > 1:
        raise InspectionError(LLM.params, f"both {' and '.join(api.limits)}")
    return limits[0] if limits else None


def _thinking(body: Mapping[str, object]) -> int | None:
    thinking = body.get("thinking")
    if thinking is None:
        return None
    if not isinstance(thinking, dict):
        raise InspectionError(LLM.params, "thinking that is not an object")
    _THINKING.check_lookalikes(thinking, LLM, "thinking")
    return _number(thinking, "budget_tokens")


def _text(body: Mapping[str, object], name: str, pattern: re.Pattern[str]) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InspectionError(LLM.params, f"{name} that cannot be read")
    return value


def _word(body: Mapping[str, object], name: str) -> str | None:
    return None if body.get(name) is None else _text(body, name, _WORD)


def _truth(body: Mapping[str, object], name: str, *, otherwise: bool = False) -> bool:
    value = body.get(name)
    if value is None:
        return otherwise
    if not isinstance(value, bool):
        raise InspectionError(LLM.params, f"{name} that is neither true nor false")
    return value


def _number(body: Mapping[str, object], name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    # By exact type: a boolean is an integer to Python, and some servers take 1.0 or "1" for 1.
    if type(value) is not int or not 0 <= value <= MAX_SAFE_INTEGER:
        raise InspectionError(LLM.params, f"{name} that is not a whole number")
    return value


def _betas(headers: Headers) -> list[str]:
    if headers.one(_VERSION_HEADER) not in _VERSIONS:
        raise InspectionError(LLM.params, f"an unknown version in {_VERSION_HEADER}")
    found: set[str] = set()
    for name in _BETA_HEADERS:
        value = headers.one(name)
        found.update([] if value is None else [beta.strip(" ") for beta in value.split(",")])
    if len(found) > MAX_BETAS or not all(map(_BETA.fullmatch, found)):
        raise InspectionError(Code.LLM_BODY, f"a beta header that is no list of at most {MAX_BETAS} names")
    return sorted(found)
