"""The process that is measured: GrpcHosts of one event loop, each with another check behind it.

- One process for all arms, so that they share interpreter, heap and core; who is not asked costs nothing.
- `noop` is the floor: the host as it is, round a check that returns the same bytes each time.
- It says where the arms listen, then answers each line with the CPU time that it used so far.
"""

import argparse
import asyncio
import os
import resource
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from authz.address import Address, TcpAddress, UnixAddress
from authz.administration.place import API_SOCKET
from authz.administration_parts import private_socket
from authz.hosts.grpc import Check, Denials, GrpcHost, Limits
from authz.policy.modules import shipped_modules
from authz.policy.opa_process import start_opa
from authz.response import fallback_response, overloaded_response, stranger_response
from authz.store.private import private_directory
from authz.token_cache import MAX_OF_PRESENTER
from identity.base64url import encode_base64url
from identity.delegation import issue_delegation_token
from identity.keys import SigningKey
from identity.spiffe import SpiffeId
from tests.bench.cores import pin
from tests.bench.messages import say, write_requests
from tests.bench.place import CALLS, GATEWAY, HOUR, Place, Presenter, body, call, open_place

GATEWAY_HOME = "gateway"
Arms = dict[str, dict[str, object]]


def noop(answer: bytes) -> Check:
    """Return a check that allows whatever it is asked."""

    async def check(request: bytes, asker: SpiffeId | None) -> bytes:
        return answer

    return check


@asynccontextmanager
async def arms(directory: Path, opa: Path | None) -> AsyncIterator[Arms]:
    """Open everything and listen."""
    private_directory(directory)
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(open_place(directory / "embedded"))
        presenter = place.presenter()
        allowed = await place.check(write_calls(place, presenter)[0], GATEWAY)
        write_identities(place, presenter)
        checks = {"noop": (noop(allowed), place), "full": (place.check, place)}
        if opa is not None:
            process = stack.enter_context(start_opa(opa, directory / "opa", shipped_modules()))
            on_opa = await stack.enter_async_context(open_place(directory / "on-opa", opa_url=process.url))
            write_calls(on_opa, on_opa.presenter())
            checks["opa"] = (on_opa.check, on_opa)
        found: Arms = {}
        for name, (check, owner) in checks.items():
            found[name] = await listen(stack, owner, check, UnixAddress(str(directory / f"{name}.sock")))
        for name, calls in (("fresh", fresh_calls(place)), ("forged", forged_calls(place))):
            path = place.directory / f"{name}.bin"
            write_requests(path, calls)
            found[name] = {**found["full"], "requests": str(path)}
        for name in ("noop", "full"):
            found[f"{name}-tls"] = await listen(stack, place, checks[name][0], TcpAddress("127.0.0.1", 0))
        await stack.enter_async_context(private_socket(place.parts))
        found["admin"] = {"socket": str(place.config.data_dir / API_SOCKET)}
        yield found


async def listen(stack: AsyncExitStack, place: Place, check: Check, address: Address) -> dict[str, object]:
    """Serve a check, and say where and to whom."""
    secure = isinstance(address, TcpAddress)
    host = GrpcHost(
        check,
        denials=Denials(failed=fallback_response(), busy=overloaded_response(), stranger=stranger_response()),
        listen=address,
        tls=place.parts.identity.check_tls() if secure else None,
        limits=Limits(drain_seconds=0, grace_seconds=0, connection_seconds=HOUR),
    )
    bound = await host.start()
    stack.push_async_callback(host.stop)
    await host.set_ready(True)
    target = f"127.0.0.1:{bound.port}" if isinstance(bound, TcpAddress) else str(bound)
    tls = str(place.directory / GATEWAY_HOME) if secure else None
    return {"target": target, "requests": str(place.directory / "calls.bin"), "tls": tls}


def write_calls(place: Place, presenter: Presenter) -> list[bytes]:
    """Write the calls where the load generator finds them."""
    calls = place.calls(presenter)
    write_requests(place.directory / "calls.bin", calls)
    return calls


def fresh_calls(place: Place) -> Iterator[bytes]:
    """Make calls of one run that each carry a token of its own, more of them than are remembered of a run."""
    presenter = place.presenter()
    for number in range(max(CALLS, 2 * MAX_OF_PRESENTER)):
        token = issue_delegation_token(
            place.parts.authority.current.token_key, replace(presenter.delegation, jti=f"j{number:021}")
        )
        yield call(presenter, body(number), token=token)


def forged_calls(place: Place) -> Iterator[bytes]:
    """Make calls with the token of a run, each with another signature that is not ours."""
    presenter = place.presenter()
    signed = presenter.token.rpartition(".")[0]
    for number in range(CALLS):
        token = f"{signed}.{encode_base64url(os.urandom(64))}"
        yield call(presenter, body(number), token=token)


def write_identities(place: Place, presenter: Presenter) -> None:
    """Write what the gateway and the agent need for mTLS, and the agent's token."""
    home = place.directory / GATEWAY_HOME
    home.mkdir(mode=0o700)
    key, authority = SigningKey.generate(), place.parts.authority.current
    der = authority.issue_workload_svid(
        GATEWAY, key.private_key.public_key(), now=place.parts.clock(), ttl=HOUR, dns_names=("localhost",)
    )
    for name, data in (
        ("chain.pem", ssl.DER_cert_to_PEM_cert(der).encode()),
        ("key.pem", key.reveal_pem()),
        ("roots.pem", authority.ca.certificate_pem()),
        ("agent-chain.pem", presenter.certificate),
        ("agent-key.pem", presenter.key.reveal_pem()),
        ("token", presenter.token.encode()),
    ):
        (home / name).write_bytes(data)


async def main(directory: Path, opa: Path | None) -> None:
    loop = asyncio.get_running_loop()
    async with arms(directory, opa) as found:
        say(found)
        while await loop.run_in_executor(None, sys.stdin.readline):
            usage = resource.getrusage(resource.RUSAGE_SELF)
            say({"cpu": usage.ru_utime + usage.ru_stime})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--opa", type=Path)
    parser.add_argument("--pinned", action="store_true")
    options = parser.parse_args()
    if options.pinned:
        pin(0)
    asyncio.run(main(options.directory, options.opa))
