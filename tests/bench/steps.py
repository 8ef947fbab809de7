"""Each step of the flow: alone in a loop, and in its place between the others.

Alone, a step has the caches for itself and is up to twice as fast; a call pays what it costs in the flow.
"""

import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle, pairwise
from typing import TypeVar, cast

from authz.audit import entry
from authz.audit.arguments import hmac_arguments
from authz.authenticate import Credential, bind, verify
from authz.decision import Allow, decide
from authz.evidence import Evidence
from authz.flow import Flow
from authz.policy.port import Query
from authz.policy.query import check_query
from authz.protocols.inspect import inspect
from authz.protocols.operation import Operation
from authz.request import Request
from authz.response import allow_response
from identity.caller import Caller
from identity.transaction import IssuedTransaction
from tests.bench.grants import SERVICE
from tests.bench.measure import Cost, Work, costs, percentile
from tests.bench.place import GATEWAY, Place

FULL = "the full flow"
CALLS = 128
T = TypeVar("T")
Mark = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Walk:
    """One allowed call, with what each step gave."""

    data: bytes
    evidence: Evidence
    request: Request
    credential: Credential
    caller: Caller
    operation: Operation
    query: Query
    allow: Allow
    issued: IssuedTransaction
    entry: entry.Entry


def measure_steps(place: Place, *, seconds: float, walks: int) -> dict[str, tuple[Cost, float]]:
    """Return of each step what it costs alone, and the median of what it costs in the flow."""
    flow = place.parts.flow
    calls = place.calls(place.presenter(), CALLS)
    alone = costs(steps_alone(place, calls), seconds=seconds)
    times: dict[str, list[float]] = {}
    for data in (calls * (walks // CALLS + 1))[:walks]:
        marks = [("", time.perf_counter())]
        walk(data, flow, partial(_note, marks))
        for (_, before), (name, after) in pairwise(marks):
            times.setdefault(name, []).append((after - before) * 1e6)
        times.setdefault(FULL, []).append((marks[-1][1] - marks[0][1]) * 1e6)
    return {name: (cost, percentile(times[name], 50)) for name, cost in alone.items()}


def _note(marks: list[tuple[str, float]], name: str) -> None:
    marks.append((name, time.perf_counter()))


def steps_alone(place: Place, calls: list[bytes]) -> dict[str, Work]:
    """Return the steps in the order of the flow; each piece of work takes the next call."""
    flow = place.parts.flow
    service = flow.services.by_name[SERVICE]
    walks = [walk(data, flow) for data in calls]

    def over(step: Callable[[Walk], object]) -> Work:
        turn: Iterator[Walk] = cycle(walks)
        return lambda: step(next(turn))

    def now(each: Walk) -> Evidence:
        return Evidence(flow.new_id(each.evidence.started), each.evidence.started, GATEWAY)

    return {
        "name the decision": over(now),
        "read the CheckRequest": over(lambda w: Request.parse(w.data)),
        "find the service": over(lambda w: flow.services.target(w.request, flow.services.asker(GATEWAY))),
        "verify the token": over(
            lambda w: verify(w.request, service, flow.trust(), w.evidence.started, flow.known)
        ),
        "bind the caller": over(
            lambda w: bind(
                w.credential, w.request, flow.rights, flow.trust(), w.evidence.started, flow.services
            )
        ),
        "inspect the MCP call": over(lambda w: inspect(w.request, service.route)),
        "hash the arguments": over(lambda w: _hmac(flow, w.operation)),
        "build the question": over(lambda w: check_query(w.caller, w.operation, w.request, service.name)),
        "decide (embedded Rego)": over(lambda w: run(flow.policy.decide(w.query))),
        "sign the transaction token": over(
            lambda w: flow.transactions.issue(w.allow.grant, w.caller, w.evidence.started, flow.entropy)
        ),
        "make the record": over(lambda w: _entry(w.evidence, w.allow, w.issued)),
        "append the record": over(lambda w: run(flow.sink.append(w.entry))),
        "write the answer": over(lambda w: _answer(w.allow, w.issued, w.request)),
        FULL: over(lambda w: run(place.check(w.data, GATEWAY))),
    }


def walk(data: bytes, flow: Flow, mark: Mark = lambda _: None) -> Walk:
    """Go through the flow as authz/check.py does, and name each step when it is done."""
    now = flow.clock()
    evidence = Evidence(flow.new_id(now), now, GATEWAY)
    mark("name the decision")
    request = evidence.request = Request.parse(data)
    mark("read the CheckRequest")
    service = evidence.service = flow.services.target(request, flow.services.asker(GATEWAY))
    mark("find the service")
    trust = evidence.trust = flow.trust()
    flow.known.see(trust, flow.rights.epoch)
    credential = evidence.credential = verify(request, service, trust, now, flow.known)
    mark("verify the token")
    caller = evidence.caller = bind(credential, request, flow.rights, trust, now, flow.services)
    mark("bind the caller")
    operation = evidence.operation = inspect(request, service.route)
    mark("inspect the MCP call")
    evidence.args_hmac = _hmac(flow, operation)
    mark("hash the arguments")
    query = check_query(caller, operation, request, service.name)
    mark("build the question")
    verdict = run(flow.policy.decide(query))
    allow = decide(
        verdict, caller, operation, service=service.name, decision_id=evidence.decision_id, now=now
    )
    mark("decide (embedded Rego)")
    if not isinstance(allow, Allow):
        raise TypeError(f"a call of the benchmark is denied: {allow}")
    issued = flow.transactions.issue(allow.grant, caller, now, flow.entropy)
    mark("sign the transaction token")
    made = _entry(evidence, allow, issued)
    mark("make the record")
    run(flow.sink.append(made))
    mark("append the record")
    _answer(allow, issued, request)
    mark("write the answer")
    return Walk(data, evidence, request, credential, caller, operation, query, allow, issued, made)


def run(step: Awaitable[T]) -> T:
    """Run a coroutine that waits for nothing, as all of the flow does on the embedded engine."""
    steps = step.__await__()
    try:
        next(steps)
    except StopIteration as stop:
        return cast("T", stop.value)
    raise RuntimeError("a step that waits")


def _hmac(flow: Flow, operation: Operation) -> str:
    return hmac_arguments(flow.arguments_key, operation.canonical_arguments or b"")


def _entry(evidence: Evidence, allow: Allow, issued: IssuedTransaction) -> entry.Entry:
    facts = evidence.facts(allow, evidence.started, issued.jti)
    return entry.decision(facts, evidence.decision_id, evidence.started)


def _answer(allow: Allow, issued: IssuedTransaction, request: Request) -> bytes:
    return allow_response(allow, issued.token, request.headers.names())
