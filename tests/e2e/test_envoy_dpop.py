"""Proofs of possession behind a real Envoy: it says what a proof is compared with, and nobody else does."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from authz.codes import Code
from authz.dpop import call_of, verify_possession
from authz.errors import AuthenticationError, RequestError
from authz.request import Request
from identity.dpop import DpopProof
from identity.spiffe import SpiffeId
from tests.dpop_proofs import KEY, proof
from tests.e2e.envoy_world import ENVOY, Header, World, world

pytestmark = pytest.mark.e2e
TOKEN = "the.access.token"


class Mesh:
    """A world with one Envoy, and a client that calls it with proofs."""

    def __init__(self, made: World) -> None:
        self.world = made
        self.port = made.start_envoy(made.start_deputy())

    def seen(self, path: str, *headers: Header, method: str = "GET") -> Request:
        """Send a request, and read what Deputy was asked about it."""
        assert self.world.request(self.port, path, method=method, headers=headers).status == 200
        return Request.parse(self.world.checks()[-1].SerializeToString())

    def proof(self, path: str, **changes: Any) -> Header:
        iat = int(datetime.now(UTC).timestamp())
        uri = f"https://localhost:{self.port}{path}"
        return "DPoP", proof(TOKEN, **{"htm": "GET", "htu": uri, "iat": iat, **changes})


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with world() as made:
        yield Mesh(made)


def found(request: Request) -> DpopProof:
    return verify_possession(TOKEN, KEY.kid, request, datetime.now(UTC))


def test_ca05_proof_of_the_uri_that_the_client_wrote(mesh: Mesh) -> None:
    """CA-05: Envoy rewrites host and path for the service; the proof is for what came."""
    request = mesh.seen("/tickets/x?q=%20", mesh.proof("/tickets/x"))
    assert request.scheme == "https"
    assert found(request).jkt == KEY.kid


@pytest.mark.parametrize(
    "lie",
    [
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Envoy-Original-Path", "/evil"),
        ("X-Forwarded-Port", "80"),
        ("Forwarded", "proto=http;host=evil.example"),
        ("X-HTTP-Method-Override", "DELETE"),
    ],
)
def test_ca05_no_header_of_the_client_changes_what_a_proof_is_for(mesh: Mesh, lie: Header) -> None:
    """CA-05: method and URI are those of the request."""
    assert found(mesh.seen("/tickets/x", mesh.proof("/tickets/x"), lie)).jkt == KEY.kid
    evil = mesh.proof("/tickets/x", htu="http://evil.example/evil", htm="DELETE")
    with pytest.raises(AuthenticationError) as refused:
        found(mesh.seen("/tickets/x", evil, lie))
    assert refused.value.code is Code.DPOP_INVALID


def test_ca05_two_headers_arrive_as_two(mesh: Mesh) -> None:
    """CA-05: Envoy does not join them, and we believe neither."""
    request = mesh.seen("/tickets/x", mesh.proof("/tickets/x"), mesh.proof("/tickets/x"))
    with pytest.raises(RequestError) as refused:
        found(request)
    assert refused.value.code is Code.HEADER_DUPLICATE


def test_two_requests_are_two_calls_whatever_id_the_client_sends(mesh: Mesh) -> None:
    """Threat 12: only the proxy's own repeated question is no replay."""
    asker = SpiffeId.parse(ENVOY)
    names = [
        call_of(mesh.seen("/tickets/x", ("X-Request-Id", "1"), ("X-Client-Trace-Id", "1")), asker)
        for _ in range(2)
    ]
    assert all(names)
    assert len(set(names)) == 2
