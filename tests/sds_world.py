"""Secret discovery on a real Unix socket, with an authority whose keys, time and callers the test turns."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509

from identity.authority import Authority
from identity.entitlement import Entitlement, Peer
from identity.errors import AttestationError
from identity.pb import sds_pb2 as pb
from identity.sds import PATH, SecretDiscovery
from identity.sds_secrets import SECRET_TYPE
from identity.socket_server import SocketServer, peer_of
from identity.spiffe import SpiffeId
from tests.socket_world import OTHER, SocketWorld

ENVOY = SpiffeId.parse("spiffe://mesh.example/ns/gateway/sa/envoy")
SECOND = SpiffeId.parse("spiffe://mesh.example/ns/gateway/sa/second")
FOREIGN = str(OTHER.spiffe_id)


class SecretsWorld(SocketWorld):
    """All parts of one socket that serves Envoy."""

    def __init__(self) -> None:
        super().__init__()
        self.entitlements.given = (Entitlement(ENVOY, dns_names=("localhost",)),)
        self.foreign = Authority.generate(OTHER, self.clock.now)
        self.is_gone = False
        self.looked = 0
        self.secrets = SecretDiscovery(self.source, self.entitlements, self._peer_of)

    def _peer_of(self, stream: Any) -> Peer:
        self.looked += 1
        if self.is_gone:
            raise AttestationError("a caller that is gone")
        return peer_of(stream)

    def renew(self) -> None:
        """Let half of each SVID's life pass, and tell so."""
        self.clock.advance(400)
        self.live.feed.publish()

    @asynccontextmanager
    async def envoy(self, directory: Path) -> AsyncIterator["EnvoyClient"]:
        path = directory / "s" / "sds.sock"
        server = SocketServer(is_ready=lambda: self.is_ready, changes=self.live.feed)
        await server.listen(path, [self.secrets])
        try:
            async with grpc.aio.insecure_channel(f"unix:{path}") as channel, asyncio.timeout(30):
                yield EnvoyClient(channel)
        finally:
            await server.close()


class EnvoyClient:
    """A raw client of grpcio, which knows nothing of the service but the wire."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    def stream(self, rpc: str = "StreamSecrets") -> Any:
        answer = pb.DiscoveryResponse if rpc == "StreamSecrets" else pb.DeltaDiscoveryResponse
        method = self.channel.stream_stream(
            f"{PATH}/{rpc}", request_serializer=_bytes, response_deserializer=answer.FromString
        )
        return method()

    async def world(self, *names: str) -> Any:
        call = self.stream()
        await call.write(pb.DiscoveryRequest(resource_names=names, type_url=SECRET_TYPE))
        return call

    async def delta(self, *names: str) -> Any:
        call = self.stream("DeltaSecrets")
        await call.write(pb.DeltaDiscoveryRequest(resource_names_subscribe=names, type_url=SECRET_TYPE))
        return call

    async def fetch(self, *names: str) -> dict[str, pb.Secret]:
        method = self.channel.unary_unary(
            f"{PATH}/FetchSecrets",
            request_serializer=_bytes,
            response_deserializer=pb.DiscoveryResponse.FromString,
        )
        return secrets(await method(pb.DiscoveryRequest(resource_names=names)))


async def heard(call: Any) -> dict[str, pb.Secret]:
    """The secrets of the next answer."""
    return secrets(await answered(call))


async def answered(call: Any) -> Any:
    answer = await call.read()
    assert answer is not grpc.aio.EOF, (await call.code(), await call.details())
    return answer


def secrets(answer: Any) -> dict[str, pb.Secret]:
    assert answer.type_url == SECRET_TYPE
    bodies = [getattr(body, "resource", body) for body in answer.resources]
    assert all(body.type_url == SECRET_TYPE for body in bodies)
    found = [pb.Secret.FromString(body.value) for body in bodies]
    return {secret.name: secret for secret in found}


async def ending(call: Any) -> grpc.StatusCode:
    """The status with which a stream ends, whatever still comes before it."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    code: grpc.StatusCode = await call.code()
    return code


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that nobody tells of."""
    for _ in range(1000):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError("it did not happen")


def leaf(secret: pb.Secret) -> x509.Certificate:
    return x509.load_pem_x509_certificate(secret.tls_certificate.certificate_chain.inline_bytes)


def trusted(secret: pb.Secret) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(secret.validation_context.trusted_ca.inline_bytes)


def domains(secret: pb.Secret) -> dict[str, list[x509.Certificate]]:
    """The trust domains of a SPIFFE validator, with their roots."""
    context = secret.validation_context
    assert not context.HasField("trusted_ca")
    assert context.custom_validator_config.name == "envoy.tls.cert_validator.spiffe"
    config = pb.SPIFFECertValidatorConfig.FromString(context.custom_validator_config.typed_config.value)
    return {
        domain.name: x509.load_pem_x509_certificates(domain.trust_bundle.inline_bytes)
        for domain in config.trust_domains
    }


def _bytes(message: Any) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()
