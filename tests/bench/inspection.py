"""The inspector alone: by `json.loads` of the same body in the same run, and in microseconds.

- `inspected` is what authz/protocols does with a request that has been read, down to the hash of its
  arguments; `whole` reads the CheckRequest as well.
- `searched` is what a service pays whose grants have payload rules for every class of data.
- Refusals read the CheckRequest and inspect.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from authz.errors import InspectionError, RequestError
from authz.payload.classes import PAYLOAD_CLASSES
from authz.payload.find import find_classes
from authz.protocols.inspect import inspect
from authz.protocols.route import Route
from authz.request import Request
from identity.strict_json import DEFAULT_LIMITS, loads
from tests.bench.grants import SERVICE
from tests.bench.inspection_bodies import LARGE, LARGER, bodies, pathological
from tests.bench.measure import Cost, Work, costs
from tests.bench.place import GATEWAY, headers
from tests.check_requests import check_request

ROUTE = Route(SERVICE, "mcp")
CLASSES = frozenset(PAYLOAD_CLASSES)
# Many short batches: on a shared machine the best of a few long ones is of today.
ROUNDS_A_SECOND = 60
# Of a server, whose lists have more members than a client's message may.
LIMITS = replace(DEFAULT_LIMITS, values=65_536, keys=65_536)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What one body costs."""

    size: int
    bare: Cost
    strict: Cost
    searched: Cost
    # Of what a client may send.
    inspected: Cost | None = None
    whole: Cost | None = None

    @property
    def ratio(self) -> float:
        """The inspector, or the reader of JSON alone, by `json.loads`."""
        return (self.inspected or self.strict).best / self.bare.best


def measure_inspection(*, seconds: float) -> dict[str, Inspection]:
    """Measure each body that is accepted."""
    return {name: _measure(body, seconds) for name, body in bodies().items()}


def measure_refusals(*, seconds: float) -> dict[str, float]:
    """Return the milliseconds of each refusal, the best of some."""
    works = {name: _refusal(_check_request(body), name) for name, body in pathological()}
    found = costs(works, seconds=seconds, rounds=_rounds(seconds))
    return {name: cost.best / 1000 for name, cost in found.items()}


def growth(found: Mapping[str, Inspection]) -> float:
    """Return what a byte of the largest call costs, by what one of a large call does."""
    larger, large = found[LARGER], found[LARGE]
    return (larger.ratio * larger.bare.best / larger.size) / (large.ratio * large.bare.best / large.size)


def rows(found: Mapping[str, Inspection]) -> Iterable[Sequence[str]]:
    """Return the table."""
    for name, each in found.items():
        times = (each.bare, each.strict, each.inspected, each.whole, each.searched)
        yield [name, *(f"{cost.best:,.1f}" if cost else "" for cost in times), f"{each.ratio:.2f}"]


def _rounds(seconds: float) -> int:
    return max(4, int(seconds * ROUNDS_A_SECOND))


def _measure(body: bytes, seconds: float) -> Inspection:
    message = json.loads(body)
    value = message["params"]["arguments"] if "params" in message else message["result"]
    arms: dict[str, Work] = {
        "bare": lambda: json.loads(body),
        "strict": lambda: loads(body, LIMITS),
        "searched": lambda: find_classes(value, CLASSES),
    }
    if "params" in message:
        data = _check_request(body)
        request = Request.parse(data)
        arms["inspected"] = lambda: inspect(request, ROUTE)
        arms["whole"] = lambda: inspect(Request.parse(data), ROUTE)
    return Inspection(len(body), **costs(arms, seconds=seconds, rounds=_rounds(seconds)))


def _refusal(data: bytes, name: str) -> Callable[[], None]:
    def refuse() -> None:
        try:
            inspect(Request.parse(data), ROUTE)
        except (InspectionError, RequestError):
            return
        raise RuntimeError(f"a body that was made to be slow is accepted: {name}")

    return refuse


def _check_request(body: bytes) -> bytes:
    message = check_request(
        body,
        path="/mcp",
        headers=headers("a.b.c"),
        principal=str(GATEWAY),
        extensions={"service": SERVICE},
    )
    return message.SerializeToString()
