"""Calls of models: OpenAI chat completions and responses, Anthropic messages, and the list of models.

- The path is exactly that of one API below the route's own; everything else of a provider (files, batches,
  fine-tuning, assistants, keys) is refused.
- POST with strict JSON, one object, known members only. A policy sees facts (authz/protocols/llm_facts.py);
  a detector of data classes sees the whole body, and the hashes are those of the whole body.
- The query is empty, but for `beta=true` of the Anthropic clients, and the pages of the list.
- The list of models is a list: it is asked for without a model.
"""

from authz.codes import Code
from authz.errors import InspectionError
from authz.protocols.http_path import HttpPath
from authz.protocols.json_body import check_json_headers, decode_object
from authz.protocols.llm_facts import read_facts
from authz.protocols.llm_members import APIS, MODELS_METHOD, MODELS_PATH, Api
from authz.protocols.operation import Operation
from authz.protocols.query import read_query
from authz.protocols.reader_codes import LLM
from authz.protocols.route import Route
from authz.request import Request
from identity.canonical import canonical_json, sha256_hex

_PAGES = frozenset({"after_id", "before_id", "limit"})


def inspect_llm(request: Request, route: Route) -> Operation:
    """Read a request to a model.

    Raises:
        InspectionError: with LLM_PATH, LLM_BODY or the code of what is wrong with the body.
        RequestError: if a header stands twice or is not text.
    """
    target = HttpPath.parse(request.path)
    path = _below(target.path, route)
    api = APIS.get(path)
    if api is not None and request.method == "POST":
        return _inspect_call(request, target, api)
    if path == MODELS_PATH and request.method == "GET":
        return _inspect_list(request, target, route)
    raise InspectionError(Code.LLM_PATH, f"{request.method} {target.path[:255]!r}")


def _below(path: str, route: Route) -> str:
    for base in route.paths or {""}:
        below = path.removeprefix(base)
        if path.startswith(base) and (below in APIS or below == MODELS_PATH):
            return below
    return ""


def _inspect_call(request: Request, target: HttpPath, api: Api) -> Operation:
    query = read_query(target.query)
    if query and not (api.method == "messages" and query == {"beta": "true"}):
        raise InspectionError(Code.LLM_BODY, "a query that is not read")
    if query is None:
        raise InspectionError(Code.LLM_BODY, "a query with two readings")
    check_json_headers(request.headers)
    body = decode_object(request.body, LLM)
    facts = read_facts(body, api, request.headers)
    canonical = canonical_json(body)
    return Operation(
        protocol="llm",
        method=api.method,
        phase="call",
        resource_type="model",
        resource_name=str(facts["model"]),
        arguments=facts,
        arguments_sha256=sha256_hex(canonical),
        canonical_arguments=canonical,
        payload=body,
    )


def _inspect_list(request: Request, target: HttpPath, route: Route) -> Operation:
    query = read_query(target.query)
    if request.body or query is None or not query.keys() <= _PAGES:
        raise InspectionError(Code.LLM_BODY, "a list with a body or with a query that is not read")
    return Operation("llm", MODELS_METHOD, "list", "server", route.service)
