"""The AuthZEN endpoints: below the issuer's path `/access/v1/evaluation` and `evaluations`, and the metadata.

- A gateway asks with its certificate. It is one that may ask about the service over ext_authz: the same list.
- A request that is malformed is 400 with a sentence; nobody authenticated is 401, an unknown asker 403.
- `X-Request-ID` comes back as it was sent, if it is a short printable text.
- Whoever may not ask leaves a record, as every stranger does: few and short ones.
- A batch is decided in order, one after the other: each has its own record.
"""

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from authz.audit.entry import stranger
from authz.audit.facts import DecisionFacts
from authz.audit.strangers import Admission
from authz.authzen.answer import answer_of, broken
from authz.authzen.evaluation import Evaluation, EvaluationError, read_batch, read_object
from authz.authzen.question import question_of
from authz.broker.arrival import Arrival
from authz.broker.client import authenticate, workload_client
from authz.broker.deps import Broker
from authz.broker.refusal import RefusedError, refusal_of
from authz.codes import Code
from authz.errors import AuditError, CodedError
from authz.services import Services
from identity.spiffe import SpiffeId

METADATA: Final = "/.well-known/authzen-configuration"
EVALUATION: Final = "/access/v1/evaluation"
EVALUATIONS: Final = "/access/v1/evaluations"

_METHOD: Final = "authzen"
_REQUEST_ID: Final = "x-request-id"
_MAX_REQUEST_ID: Final = 256

Check = Callable[[bytes, SpiffeId], Awaitable[bytes]]
Read = Callable[[Request], Awaitable[Arrival]]


@dataclass(frozen=True, slots=True)
class DecisionPoint:
    """What decides, and about which services; `check` is the one flow."""

    check: Check
    services: Services
    broker: Broker


def authzen_routes(point: DecisionPoint, read: Read) -> list[Route]:
    """Return the routes."""
    base = point.broker.settings.issuer.rstrip("/")
    path = point.broker.settings.path

    async def evaluation(request: Request) -> Response:
        async def single(body: Mapping[str, object], asker: SpiffeId) -> Mapping[str, object]:
            return await _decide(Evaluation.parse(body), asker, point)

        return await _answered(request, await read(request), point, single)

    async def evaluations(request: Request) -> Response:
        return await _answered(
            request, await read(request), point, lambda body, asker: _all(body, asker, point)
        )

    async def metadata(_: Request) -> Response:
        return JSONResponse(
            {
                "policy_decision_point": point.broker.settings.issuer,
                "access_evaluation_endpoint": f"{base}{EVALUATION}",
                "access_evaluations_endpoint": f"{base}{EVALUATIONS}",
            }
        )

    return [
        Route(f"{path}{EVALUATION}", evaluation, methods=["POST"]),
        Route(f"{path}{EVALUATIONS}", evaluations, methods=["POST"]),
        Route(f"{METADATA}{path}", metadata, methods=["GET"]),
    ]


Evaluate = Callable[[Mapping[str, object], SpiffeId], Awaitable[Mapping[str, object]]]


async def _answered(request: Request, arrival: Arrival, point: DecisionPoint, evaluate: Evaluate) -> Response:
    headers = {"Cache-Control": "no-store"}
    request_id = request.headers.get(_REQUEST_ID, "")
    if (
        request_id
        and len(request_id) <= _MAX_REQUEST_ID
        and request_id.isascii()
        and request_id.isprintable()
    ):
        headers["X-Request-ID"] = request_id
    try:
        asker = _asker(arrival, point)
    except (CodedError, RefusedError) as error:
        status = 401 if isinstance(error, CodedError) and error.code is Code.PEER_MISSING else 403
        await _record(error, arrival, point.broker)
        return JSONResponse("this gateway may not ask: show the certificate of one that may", status, headers)
    try:
        return JSONResponse(dict(await evaluate(read_object(arrival.json_body()), asker)), 200, headers)
    except EvaluationError as error:
        return JSONResponse(str(error), 400, headers)
    except RefusedError as error:
        return JSONResponse(error.description, 400, headers)


async def _record(error: CodedError | RefusedError, arrival: Arrival, broker: Broker) -> None:
    """Record that somebody asked who may not, as seldom as for every stranger."""
    now = broker.clock()
    if broker.strangers.admit(arrival.source, now) is not Admission.RECORD:
        return
    deny = refusal_of(error).deny
    facts = DecisionFacts(
        effect="deny", code=deny.code, peer=arrival.source, method=_METHOD, detail=deny.detail
    )
    # Nothing was decided, so nothing hangs on the record.
    with contextlib.suppress(AuditError):
        await broker.sink.append(stranger(facts, broker.new_id(now), now))


def _asker(arrival: Arrival, point: DecisionPoint) -> SpiffeId:
    """Return the gateway that asks.

    Raises:
        CodedError or RefusedError: if it is nobody, or not one that may ask.
    """
    svid = authenticate(arrival.chain, point.broker, point.broker.clock())
    return point.services.asker(workload_client(svid.spiffe_id)).spiffe_id


async def _decide(evaluation: Evaluation, asker: SpiffeId, point: DecisionPoint) -> Mapping[str, object]:
    return answer_of(await point.check(question_of(evaluation, point.services), asker))


async def _all(body: Mapping[str, object], asker: SpiffeId, point: DecisionPoint) -> Mapping[str, object]:
    batch = read_batch(body)
    if batch is None:
        return await _decide(Evaluation.parse(body), asker, point)
    answers: list[Mapping[str, object]] = []
    for item in batch.items:
        try:
            answer = (
                broken(str(item)) if isinstance(item, EvaluationError) else await _decide(item, asker, point)
            )
        except EvaluationError as error:
            answer = broken(str(error))
        answers.append(answer)
        if batch.ends_with(answer["decision"] is True):
            break
    return {"evaluations": answers}
