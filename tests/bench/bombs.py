"""What it costs to refuse what was made to be costly: the whole flow, down to the record and the answer.

- The bodies come from an agent that has proved who it is: nobody else gets as far.
- Tokens and headers are a stranger's.
"""

import json
from collections.abc import Iterator

from authz.headers import MAX_HEADER_BYTES, MAX_HEADERS
from authz.pb import ext_authz_pb2 as pb
from identity.base64url import encode_base64url
from tests.bench.measure import costs
from tests.bench.place import GATEWAY, Place, call
from tests.bench.steps import run
from tests.bombs import BODIES

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


def tokens(right: str) -> Iterator[tuple[str, str]]:
    """Return tokens that are not the right one."""
    header, claims, signature = right.split(".")
    yield "64 kB", f"{header}.{'A' * 64_000}.{signature}"
    yield "8 kB of base64 that is no JSON", f"{header}.{'A' * 7_800}.{signature}"
    yield "2,000 audiences", f"{header}.{_part({'aud': ['a'] * 1_400})}.{signature}"
    yield "claims of 2,000 levels", f"{header}.{encode_base64url(b'[' * 2_800 + b']' * 2_800)}.{signature}"
    yield "1,000 claims", f"{header}.{_part({f'{number:x}': 1 for number in range(600)})}.{signature}"
    yield "2,600 parts", ".".join(["eyJh"] * 1_600)
    yield "a foreign signature", f"{header}.{claims}.{encode_base64url(bytes(range(64)))}"
    yield "p2c, zip, crit", f"{_part({'alg': 'ES256', 'p2c': 10**6, 'zip': 'DEF', 'crit': []})}.{claims}.AA"


def headers() -> Iterator[tuple[str, list[tuple[str, str | bytes]]]]:
    """Return header fields beyond those of a call."""
    yield "100,000 in number", [("x", b"")] * 100_000
    yield "100,000 names", [(f"x{number:x}", b"") for number in range(100_000)]
    yield (
        "as many as are read, too large",
        [(f"x-{number}", bytes(MAX_HEADER_BYTES // 100)) for number in range(MAX_HEADERS - 20)],
    )
    yield "one of 1 MiB", [("x", bytes(1 << 20))]
    yield "names of 500 characters", [("n" * 500 + str(number), b"") for number in range(MAX_HEADERS - 20)]


def _part(value: object) -> str:
    return encode_base64url(json.dumps(value, separators=(",", ":")).encode())
