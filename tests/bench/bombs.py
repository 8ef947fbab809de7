"""What it costs to refuse what was made to be costly: the whole flow, down to the record and the answer.

- The bodies come from an agent that has proved who it is: nobody else gets as far.
- Tokens and headers are a stranger's.
"""

from collections.abc import Iterator

from authz.pb import ext_authz_pb2 as pb
from tests.bench.measure import costs
from tests.bench.place import GATEWAY, Place, call
from tests.bench.steps import run
from tests.bombs import BODIES, headers, tokens

DENIED = 7


def measure_bombs(place: Place, *, seconds: float) -> dict[str, float]:
    """Return the milliseconds of each refusal, the best of some."""
    arms = dict(bombs(place))
    for name, data in arms.items():
        answer = pb.CheckResponse.FromString(run(place.check(data, GATEWAY)))
        if answer.status.code != DENIED:
            raise RuntimeError(f"a bomb is allowed: {name}")
    works = {name: lambda data=data: run(place.check(data, GATEWAY)) for name, data in arms.items()}
    return {name: cost.best / 1000 for name, cost in costs(works, seconds=seconds, rounds=8).items()}


def bombs(place: Place) -> Iterator[tuple[str, bytes]]:
    """Return CheckRequests by name."""
    presenter = place.presenter()
    for name, (data, _) in BODIES.items():
        yield f"body of 1 MiB: {name}", call(presenter, data)
    for name, token in tokens(presenter.token):
        yield f"token: {name}", call(presenter, b"{}", token=token)
    for name, fields in headers():
        yield f"headers: {name}", call(presenter, b"{}", more=fields)
