"""A Deputy of the tests: the real host round a check whose answer the path asks for.

Runs as a process of its own, so that a test may stop, freeze or kill it. Each CheckRequest is kept in a file.
"""

import argparse
import asyncio
import struct
import sys
from pathlib import Path

import grpc

from authz.address import parse_address
from authz.hosts.grpc import SERVICE, Denials, GrpcHost, Limits
from authz.hosts.tls import server_credentials
from authz.pb.ext_authz_pb2 import (
    CheckRequest,
    CheckResponse,
    DeniedHttpResponse,
    HeaderValue,
    HeaderValueOption,
    HttpStatus,
    OkHttpResponse,
    Status,
)
from identity.spiffe import SpiffeId
from tests.tls_files import tls_from_files

DECISION = "01JD000000000000000000TEST"
REMOVED = ("authorization", "x-deputy-human", "x-deputy-agent")


def set_header(name: str, value: str) -> HeaderValueOption:
    return HeaderValueOption(
        header=HeaderValue(key=name, value=value),
        append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def allowed(*headers: HeaderValueOption) -> bytes:
    answer = CheckResponse(status=Status(code=0))
    answer.ok_response.CopyFrom(OkHttpResponse(headers=headers, headers_to_remove=REMOVED))
    answer.dynamic_metadata["decision_id"] = DECISION
    return answer.SerializeToString()


def denied(code: int, http: int, body: str) -> bytes:
    answer = CheckResponse(status=Status(code=code))
    json = set_header("content-type", "application/json")
    denial = DeniedHttpResponse(status=HttpStatus(code=http), headers=[json], body=body)
    answer.denied_response.CopyFrom(denial)
    answer.dynamic_metadata["decision_id"] = DECISION
    return answer.SerializeToString()


FAILED = denied(13, 503, '{"reason":"DPT-INTERNAL"}')
DENIALS = Denials(failed=FAILED, busy=FAILED, stranger=denied(7, 403, '{"reason":"DPT-ASKER-UNKNOWN"}'))
TXN = set_header("txn-token", "from-deputy")
ANSWERS = {
    "deny": denied(7, 403, '{"reason":"DPT-DENIED"}'),
    "deny200": denied(7, 200, '{"jsonrpc":"2.0","id":1,"error":{"code":403,"message":"denied"}}'),
    "empty": b"",
    "reroute": allowed(set_header(":path", "/billing/allow")),
    "rehost": allowed(set_header("host", "elsewhere")),
    "split": allowed(set_header("txn-token", "a\r\nx-admin: 1")),
    "raw": allowed(HeaderValueOption(header=HeaderValue(key="x-raw", raw_value=b"lost"))),
    "names": allowed(TXN, set_header("x-mcp-authorized", "from-deputy")),
    "set-and-remove": allowed(TXN, set_header("authorization", "Bearer exchanged")),
}


class Recorder:
    """Writes what Envoy sent, then answers as the last segment of the path asks."""

    def __init__(self, file: Path) -> None:
        self.file = file

    async def check(self, request: bytes, asker: SpiffeId | None) -> bytes:
        name = str(asker or "").encode()
        with self.file.open("ab") as out:
            out.write(struct.pack("!II", len(name), len(request)) + name + request)
        path = CheckRequest.FromString(request).attributes.request.http.path
        match path.partition("?")[0].rpartition("/")[2]:
            case "raise":
                raise ValueError("a bug")
            case "hang":
                await asyncio.Event().wait()
            case wish if wish in ANSWERS:
                return ANSWERS[wish]
        return allowed(TXN)


def recorded(file: Path) -> list[tuple[str, CheckRequest]]:
    data, found, at = file.read_bytes() if file.exists() else b"", [], 0
    while at < len(data):
        name_size, size = struct.unpack_from("!II", data, at)
        at += 8 + name_size + size
        found.append(
            (data[at - size - name_size : at - size].decode(), CheckRequest.FromString(data[at - size : at]))
        )
    return found


async def unguarded(listen: str, directory: Path) -> None:
    """A server as one would write it without our host: it answers `CheckResponse()`."""

    async def check(request: bytes, context: object) -> bytes:
        return CheckResponse().SerializeToString()

    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(check)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Check": handler}),))
    port = server.add_secure_port(listen, server_credentials(tls_from_files(directory)))
    await server.start()
    announce(f"127.0.0.1:{port}")
    await server.wait_for_termination()


async def guarded(listen: str, directory: Path) -> None:
    recorder = Recorder(directory / "checks.bin")
    host = GrpcHost(
        recorder.check,
        denials=DENIALS,
        listen=parse_address(listen),
        tls=tls_from_files(directory),
        limits=Limits(drain_seconds=0, grace_seconds=0),
    )
    address = await host.start()
    await host.set_ready(True)
    announce(str(address))
    await asyncio.Event().wait()


def announce(address: str) -> None:
    sys.stdout.write(address + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--unguarded", action="store_true")
    options = parser.parse_args()
    run = unguarded if options.unguarded else guarded
    asyncio.run(run(options.listen, options.directory))
