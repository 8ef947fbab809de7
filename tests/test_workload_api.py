"""The Workload API, over its real wire: each line of the standard that is ours to keep."""

import asyncio
import json
import os
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.json_format import MessageToDict

from identity.authority import Authority
from identity.entitlement import Entitlement
from identity.errors import AttestationError, IssuanceUnavailableError
from identity.key_ring import KeyChange, KeyRing, KeySlot, Stage
from identity.keys import KeySet
from identity.live_authority import AuthoritySettings, LiveAuthority
from identity.pb import workload_pb2 as pb
from identity.socket_server import SocketServer
from identity.spiffe import SpiffeId
from identity.svid_source import IssuingSource, SvidSettings
from identity.trust_bundles import TrustBundles
from identity.workload_api import WorkloadApi
from identity.workload_messages import BundleBytes, validated
from tests.socket_world import (
    AUDIENCE,
    HEADER,
    JOB,
    MESH,
    OTHER,
    WEB,
    Client,
    GivenEntitlements,
    SocketWorld,
    TurningLive,
    refusal,
    wit_world,
    with_wit,
)

DENIED = grpc.StatusCode.PERMISSION_DENIED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE

STREAMS: list[tuple[str, Any]] = [
    ("FetchX509SVID", pb.X509SVIDRequest()),
    ("FetchX509Bundles", pb.X509BundlesRequest()),
    ("FetchJWTBundles", pb.JWTBundlesRequest()),
]
CALLS: list[tuple[str, Any]] = [
    ("FetchJWTSVID", pb.JWTSVIDRequest(audience=[AUDIENCE])),
    ("ValidateJWTSVID", pb.ValidateJWTSVIDRequest(audience=AUDIENCE, svid="a.b.c")),
]
WIT: list[tuple[str, Any]] = [
    ("FetchWITSVID", pb.WITSVIDRequest()),
    ("FetchWITBundles", pb.WITBundlesRequest()),
]
ALL = STREAMS + CALLS


async def ask(client: Client, rpc: str, request: Any, metadata: Any = HEADER) -> Any:
    if (rpc, request) in CALLS or rpc in dict(CALLS):
        return await client.call(rpc, request, metadata)
    return await client.first(rpc, request, metadata)


@pytest.mark.parametrize(("rpc", "request_"), ALL + WIT)
@pytest.mark.parametrize(
    "metadata", [(), (("workload.spiffe.io", "True"),), (("workload.spiffe.io", ""),), (*HEADER, *HEADER)]
)
def test_e2_call_without_the_security_header_is_invalid(
    tmp_path: Path, rpc: str, request_: Any, metadata: Any
) -> None:
    """E-2: metadata `workload.spiffe.io: true`, else InvalidArgument."""

    async def main() -> None:
        world = SocketWorld()
        async with world.served(tmp_path / "s" / "api.sock") as client:
            assert (await refusal(ask(client, rpc, request_, metadata)))[0] is INVALID
        assert world.recorder.kept == []

    asyncio.run(main())


@pytest.mark.parametrize(("rpc", "request_"), ALL)
def test_e3_nothing_ready_is_unavailable(tmp_path: Path, rpc: str, request_: Any) -> None:
    """E-3: initialising is Unavailable."""

    async def main() -> None:
        world = SocketWorld()
        world.is_ready = False
        async with world.served(tmp_path / "s" / "api.sock") as client:
            assert (await refusal(ask(client, rpc, request_)))[0] is UNAVAILABLE

    asyncio.run(main())


@pytest.mark.parametrize(("rpc", "request_"), ALL)
def test_e3_no_identity_is_permission_denied(tmp_path: Path, rpc: str, request_: Any) -> None:
    """E-3: no identity is PermissionDenied."""

    async def main() -> None:
        world = SocketWorld()
        world.entitlements.given = ()
        async with world.served(tmp_path / "s" / "api.sock") as client:
            assert (await refusal(ask(client, rpc, request_)))[0] is DENIED

    asyncio.run(main())


@pytest.mark.parametrize(("rpc", "request_"), ALL)
def test_e3_attestation_that_is_unsure_issues_nothing(tmp_path: Path, rpc: str, request_: Any) -> None:
    """E-3: who cannot be attested has no identity."""

    async def main() -> None:
        world = SocketWorld()
        world.entitlements.refusal = AttestationError("a pod that is gone: 'secret detail'")
        async with world.served(tmp_path / "s" / "api.sock") as client:
            assert await refusal(ask(client, rpc, request_)) == (DENIED, "the caller cannot be attested")
        assert world.recorder.kept == []

    asyncio.run(main())


@pytest.mark.parametrize(("rpc", "request_"), WIT)
def test_a8_wit_is_unimplemented_where_it_is_off(tmp_path: Path, rpc: str, request_: Any) -> None:
    """A-8: WIT-SVIDs are optional; E-3: what is not implemented is Unimplemented."""

    async def main() -> None:
        async with SocketWorld().served(tmp_path / "s" / "api.sock") as client:
            code, _ = await refusal(client.first(rpc, request_))
            assert code is grpc.StatusCode.UNIMPLEMENTED

    asyncio.run(main())


def test_a7_the_service_has_no_method_beyond_the_standard() -> None:
    """A-7: the API is not extended."""
    assert sorted(SocketWorld().api.__mapping__()) == [
        f"/SpiffeWorkloadAPI/{name}"
        for name in [
            "FetchJWTBundles",
            "FetchJWTSVID",
            "FetchWITBundles",
            "FetchWITSVID",
            "FetchX509Bundles",
            "FetchX509SVID",
            "ValidateJWTSVID",
        ]
    ]


def test_e1_neither_tls_nor_a_credential_of_the_caller_is_asked_for(tmp_path: Path) -> None:
    """E-1: gRPC on a Unix socket, without TLS and without direct authentication of the client."""

    async def main() -> None:
        world = SocketWorld()
        async with world.served(tmp_path / "s" / "api.sock") as client:
            assert len((await client.first("FetchX509SVID", pb.X509SVIDRequest())).svids) == 1
        assert world.entitlements.asked[0].pid == os.getpid()

    asyncio.run(main())


def test_e1_one_socket_a_workload_tells_workloads_apart(tmp_path: Path) -> None:
    """E-1: a socket that is placed for one workload is how its caller is known."""

    async def main() -> None:
        world = SocketWorld()
        server = SocketServer()
        names = {}
        for spiffe_id in (WEB, JOB):
            path = tmp_path / spiffe_id.path.rpartition("/")[2] / "api.sock"
            await server.listen(
                path, [WorkloadApi(world.source, GivenEntitlements((Entitlement(spiffe_id),)))]
            )
            async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
                answer = await Client(channel).first("FetchX509SVID", pb.X509SVIDRequest())
            names[path.parent.name] = [svid.spiffe_id for svid in answer.svids]
        await server.close()
        assert names == {"web": [str(WEB)], "job": [str(JOB)]}

    asyncio.run(main())


def test_a2_svids_keys_and_bundles_have_the_form_of_the_standard(tmp_path: Path) -> None:
    """A-2: DER, the chain leaf first, PKCS#8 keys, bundles by the SPIFFE ID of their trust domain."""

    async def main() -> None:
        world = SocketWorld()
        old, new = Authority.generate(MESH, world.clock.now), world.live.current
        world.live.current = replace(
            new,
            rings={**new.rings, "x509": KeyRing("x509", (retired(old), *new.rings["x509"].slots))},
        )
        async with world.served(tmp_path / "s" / "api.sock") as client:
            [svid] = (await client.first("FetchX509SVID", pb.X509SVIDRequest())).svids
            bundles = (await client.first("FetchX509Bundles", pb.X509BundlesRequest())).bundles
        der = serialization.Encoding.DER
        roots = b"".join(root.public_bytes(der) for root in (old.roots[0], new.roots[0]))
        assert svid.bundle == bundles["spiffe://mesh.example"] == roots
        leaf = x509.load_der_x509_certificate(svid.x509_svid)
        assert leaf.public_bytes(der) == svid.x509_svid
        key = serialization.load_der_private_key(svid.x509_svid_key, None)
        assert svid.x509_svid_key == key.private_bytes(
            der, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    asyncio.run(main())


def retired(authority: Authority) -> KeySlot:
    return replace(authority.rings["x509"].slots[0], stage=Stage.RETIRED)


def test_a1_first_message_is_immediate_and_complete(tmp_path: Path) -> None:
    """A-1: the first message at once, with the complete state; A-2: its form."""

    async def main() -> None:
        world = SocketWorld()
        world.federated[OTHER] = Authority.generate(OTHER, world.clock.now).trust_bundle()
        async with world.served(tmp_path / "s" / "api.sock") as client:
            answer = await client.first("FetchX509SVID", pb.X509SVIDRequest())
        [svid] = answer.svids
        leaf = x509.load_der_x509_certificate(svid.x509_svid)
        key = serialization.load_der_private_key(svid.x509_svid_key, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.public_key() == leaf.public_key()
        assert svid.spiffe_id == str(WEB)
        assert x509.load_der_x509_certificate(svid.bundle) == world.live.current.roots[0]
        assert world.bundles().verify_x509([svid.x509_svid], world.clock.now).spiffe_id == WEB
        assert list(answer.federated_bundles) == ["spiffe://other.example"]
        assert answer.crl == []

    asyncio.run(main())


def test_a1_stream_pushes_the_whole_state_when_it_changes(tmp_path: Path) -> None:
    """A-1: every message is the complete state; absence is redaction; nothing is sent that did not change."""

    async def main() -> None:
        world = SocketWorld()
        other = Authority.generate(OTHER, world.clock.now)
        async with world.served(tmp_path / "s" / "api.sock") as client:
            messages = aiter(client.stream("FetchX509SVID", pb.X509SVIDRequest()))
            first = await anext(messages)
            world.live.feed.publish()  # nothing changed: nothing is sent
            world.federate(other)
            second = await anext(messages)
            assert list(second.federated_bundles) == ["spiffe://other.example"]
            assert second.svids == first.svids
            world.entitle(Entitlement(WEB), Entitlement(JOB))
            third = await anext(messages)
            assert [svid.spiffe_id for svid in third.svids] == [str(WEB), str(JOB)]
            assert third.svids[0] == first.svids[0]
            world.entitle(Entitlement(JOB))
            fourth = await anext(messages)
            assert fourth.svids == third.svids[1:]
            world.rotate()
            fifth = await anext(messages)
            assert fifth.svids[0].bundle != fourth.svids[0].bundle
            assert fifth.svids[0].x509_svid != fourth.svids[0].x509_svid

    asyncio.run(main())


@pytest.mark.parametrize(
    "rpc_request", [*STREAMS, pytest.param(("FetchWITSVID", pb.WITSVIDRequest()), id="FetchWITSVID")]
)
def test_a1_stream_ends_denied_when_the_entitlement_is_lost(
    tmp_path: Path, rpc_request: tuple[str, Any]
) -> None:
    """A-1: the stream ends PermissionDenied when entitlement is lost."""

    async def main() -> None:
        world = wit_world()
        async with world.served(tmp_path / "s" / "api.sock") as client:
            messages = aiter(client.stream(*rpc_request))
            await anext(messages)
            world.entitle()
            assert (await refusal(anext(messages)))[0] is DENIED

    asyncio.run(main())


def test_a1_an_identity_that_is_lost_while_it_is_issued_is_not_handed_out(tmp_path: Path) -> None:
    """A-1: a task that ends wins the race against the SVID that is being made for it."""

    async def main() -> None:
        world = SocketWorld()
        world.recorder.gate = asyncio.Event()
        async with world.served(tmp_path / "s" / "api.sock") as client:
            calls = [
                asyncio.create_task(refusal(client.first("FetchX509SVID", pb.X509SVIDRequest()))),
                asyncio.create_task(
                    refusal(client.call("FetchJWTSVID", pb.JWTSVIDRequest(audience=[AUDIENCE])))
                ),
            ]
            while len(world.entitlements.asked) < 2:  # noqa: ASYNC110  # bounded by the socket's own time
                await asyncio.sleep(0.001)
            world.entitle()
            world.recorder.gate.set()
            assert [code for code, _ in await asyncio.gather(*calls)] == [DENIED, DENIED]

    asyncio.run(main())


def test_a1_a_forced_rotation_of_the_real_authority_reaches_an_open_stream(tmp_path: Path) -> None:
    """A-1: the new root first, then an SVID of it; the old root goes last, and nothing fails meanwhile."""

    async def main() -> None:
        world = SocketWorld()
        live = LiveAuthority.open(tmp_path / "keys", MESH, AuthoritySettings(), world.clock.now)
        source = IssuingSource(
            live,
            lambda: TrustBundles(live.current.trust_bundle()),
            world.recorder,
            SvidSettings(),
            clock=world.clock,
            chance=lambda: 0.5,
        )
        world.live = cast("TurningLive", live)
        world.api = WorkloadApi(source, world.entitlements)
        async with world.served(tmp_path / "s" / "api.sock") as client:
            messages = aiter(client.stream("FetchX509SVID", pb.X509SVIDRequest()))
            [first] = (await anext(messages)).svids
            old = live.current.ca.key.kid
            live.apply([KeyChange("prepare", "x509")], world.clock.now)
            [prepared] = (await anext(messages)).svids
            assert prepared.x509_svid == first.x509_svid
            assert len(x509_certificates(prepared.bundle)) == 2
            ring = live.current.rings["x509"]
            assert ring.prepared is not None
            live.apply([KeyChange("activate", "x509", ring.prepared.kid)], world.clock.now, force=True)
            [active] = (await anext(messages)).svids
            assert active.x509_svid != first.x509_svid
            assert active.bundle == prepared.bundle
            live.apply([KeyChange("taint", "x509", old)], world.clock.now, force=True)
            live.apply([KeyChange("revoke", "x509", old)], world.clock.now, force=True)
            [revoked] = (await anext(messages)).svids
            assert revoked.x509_svid == active.x509_svid
            assert len(x509_certificates(revoked.bundle)) == 1
        live.close()

    asyncio.run(main())


def x509_certificates(der: bytes) -> list[x509.Certificate]:
    """Read concatenated certificates."""
    found = []
    while der:
        size = 4 + int.from_bytes(der[2:4])
        found.append(x509.load_der_x509_certificate(der[:size]))
        der = der[size:]
    return found


def test_a1_an_entitlement_whose_deadline_is_over_is_none(tmp_path: Path) -> None:
    """A-1: an entitlement ends at its deadline, also where nobody says so."""

    async def main() -> None:
        world = SocketWorld()
        world.entitlements.given = (Entitlement(WEB, not_after=world.clock.now + timedelta(seconds=60)),)
        async with world.served(tmp_path / "s" / "api.sock") as client:
            messages = aiter(client.stream("FetchX509SVID", pb.X509SVIDRequest()))
            [svid] = (await anext(messages)).svids
            leaf = x509.load_der_x509_certificate(svid.x509_svid)
            assert leaf.not_valid_after_utc == world.clock.now + timedelta(seconds=60)
            world.clock.advance(61)
            world.live.feed.publish()
            assert (await refusal(anext(messages)))[0] is DENIED

    asyncio.run(main())


def test_a1_a_stream_that_cannot_be_renewed_ends_unavailable(tmp_path: Path) -> None:
    """E-3, A-1: what cannot be issued now is Unavailable, and nothing stale is kept for ever."""

    async def main() -> None:
        world = SocketWorld()
        async with world.served(tmp_path / "s" / "api.sock") as client:
            messages = aiter(client.stream("FetchX509SVID", pb.X509SVIDRequest()))
            await anext(messages)
            world.recorder.refusal = IssuanceUnavailableError("the log cannot be written")
            world.rotate()
            assert await refusal(anext(messages)) == (UNAVAILABLE, "the log cannot be written")

    asyncio.run(main())


def test_a1_redacted_federated_bundle_on_an_open_stream(tmp_path: Path) -> None:
    """A-1, A-5: an empty or removed bundle of a federated domain is pushed on open streams."""

    async def main() -> None:
        world = SocketWorld()
        world.federate(Authority.generate(OTHER, world.clock.now))
        other = "spiffe://other.example"
        async with world.served(tmp_path / "s" / "api.sock") as client:
            roots = aiter(client.stream("FetchX509Bundles", pb.X509BundlesRequest()))
            keys = aiter(client.stream("FetchJWTBundles", pb.JWTBundlesRequest()))
            assert sorted((await anext(roots)).bundles) == ["spiffe://mesh.example", other]
            assert len(json.loads((await anext(keys)).bundles[other])["keys"]) == 1
            empty = replace(world.federated[OTHER], roots=(), jwt_keys=KeySet.of([]))
            world.federated[OTHER] = empty
            world.live.feed.publish()
            assert sorted((await anext(roots)).bundles) == ["spiffe://mesh.example"]
            assert json.loads((await anext(keys)).bundles[other]) == {"keys": []}
            del world.federated[OTHER]
            world.live.feed.publish()
            assert sorted((await anext(keys)).bundles) == ["spiffe://mesh.example"]

    asyncio.run(main())


def test_a3_hints_are_unique_and_bounded_and_the_first_identity_is_the_default(tmp_path: Path) -> None:
    """A-3: hints unique per response, at most 1024 bytes; the first SVID is the default identity."""

    async def main() -> None:
        world = SocketWorld()
        third = SpiffeId.parse("spiffe://mesh.example/third")
        world.entitlements.given = (
            Entitlement(JOB, hint="inner"),
            Entitlement(WEB, hint="inner"),
            Entitlement(JOB, hint="again"),
            Entitlement(third, hint="x" * 1025),
        )
        async with world.served(tmp_path / "s" / "api.sock") as client:
            answer = await client.first("FetchX509SVID", pb.X509SVIDRequest())
            tokens = await client.call("FetchJWTSVID", pb.JWTSVIDRequest(audience=[AUDIENCE]))
        expected = [(str(JOB), "inner"), (str(WEB), ""), (str(third), "")]
        assert [(svid.spiffe_id, svid.hint) for svid in answer.svids] == expected
        assert [(svid.spiffe_id, svid.hint) for svid in tokens.svids] == expected

    asyncio.run(main())


@pytest.mark.parametrize(
    ("audiences", "code"),
    [
        ([], INVALID),
        ([""], INVALID),
        (["x" * 2049], INVALID),
        ([AUDIENCE, "https://other.example"], INVALID),
        ([AUDIENCE, AUDIENCE], INVALID),
        (["https://nobody.example"], DENIED),
    ],
)
def test_a4_audience_is_one_that_is_known(
    tmp_path: Path, audiences: list[str], code: grpc.StatusCode
) -> None:
    """A-4: an empty audience is InvalidArgument; J-6: exactly one; ours: one that the operator named."""

    async def main() -> None:
        world = SocketWorld()
        async with world.served(tmp_path / "s" / "api.sock") as client:
            request = pb.JWTSVIDRequest(audience=audiences)
            assert (await refusal(client.call("FetchJWTSVID", request)))[0] is code
        assert world.recorder.kept == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("spiffe_id", "code"),
    [
        (str(JOB), DENIED),
        ("spiffe://other.example/ns/demo/sa/web", DENIED),
        ("spiffe://mesh.example/ns/demo/sa/web\n", INVALID),
        ("Spiffe://mesh.example/ns/demo/sa/web", INVALID),
        ("spiffe://mesh.example/" + "a" * 300, INVALID),
        ("web", INVALID),
    ],
)
def test_a4_an_identity_of_somebody_else_is_denied(
    tmp_path: Path, spiffe_id: str, code: grpc.StatusCode
) -> None:
    """A-4: `spiffe_id` not entitled is PermissionDenied; overlong and malformed IDs are InvalidArgument."""

    async def main() -> None:
        async with wit_world().served(tmp_path / "s" / "api.sock") as client:
            request = pb.JWTSVIDRequest(audience=[AUDIENCE], spiffe_id=spiffe_id)
            assert (await refusal(client.call("FetchJWTSVID", request)))[0] is code
            wit = client.first("FetchWITSVID", pb.WITSVIDRequest(spiffe_id=spiffe_id))
            assert (await refusal(wit))[0] is code

    asyncio.run(main())


def test_a4_one_identity_or_all(tmp_path: Path) -> None:
    """A-4: with `spiffe_id` that identity alone, without it all of the caller's."""

    async def main() -> None:
        world = SocketWorld()
        world.entitlements.given = (Entitlement(WEB), Entitlement(JOB))
        async with world.served(tmp_path / "s" / "api.sock") as client:
            every = await client.call("FetchJWTSVID", pb.JWTSVIDRequest(audience=[AUDIENCE]))
            one = await client.call(
                "FetchJWTSVID", pb.JWTSVIDRequest(audience=[AUDIENCE], spiffe_id=str(JOB))
            )
        assert [svid.spiffe_id for svid in every.svids] == [str(WEB), str(JOB)]
        assert [svid.spiffe_id for svid in one.svids] == [str(JOB)]
        assert [kept.kind for kept in world.recorder.kept] == ["jwt-svid"] * 3

    asyncio.run(main())


def test_a5_jwt_bundles_hold_keys_of_jwt_svids_alone(tmp_path: Path) -> None:
    """A-5: no X.509, WIT or token keys among those of JWT-SVIDs."""

    async def main() -> None:
        world = wit_world()
        authority = world.live.current
        async with world.served(tmp_path / "s" / "api.sock") as client:
            answer = await client.first("FetchJWTBundles", pb.JWTBundlesRequest())
            wit = await client.first("FetchWITBundles", pb.WITBundlesRequest())
        [key] = json.loads(answer.bundles["spiffe://mesh.example"])["keys"]
        assert key["kid"] == authority.jwt_key.kid
        assert "use" not in key
        [key] = json.loads(wit.bundles["spiffe://mesh.example"])["keys"]
        assert authority.wit_key is not None
        assert key["kid"] == authority.wit_key.kid

    asyncio.run(main())


def test_a6_validation_returns_the_claims(tmp_path: Path) -> None:
    """A-6: the claims of a valid JWT-SVID are returned."""

    async def main() -> None:
        world = SocketWorld()
        async with world.served(tmp_path / "s" / "api.sock") as client:
            [svid] = (await client.call("FetchJWTSVID", pb.JWTSVIDRequest(audience=[AUDIENCE]))).svids
            answer = await client.call(
                "ValidateJWTSVID", pb.ValidateJWTSVIDRequest(audience=AUDIENCE, svid=svid.svid)
            )
        claims = MessageToDict(answer.claims)
        assert answer.spiffe_id == str(WEB)
        assert claims["sub"] == str(WEB)
        assert claims["aud"] == [AUDIENCE]
        assert claims["exp"] == world.clock.now.timestamp() + 60
        assert "iat" in claims

    asyncio.run(main())


def test_a6_claims_of_a_foreign_trust_domain_are_filtered(tmp_path: Path) -> None:
    """A-6: of a foreign SVID only `sub`, `aud` and `exp`."""

    async def main() -> None:
        world = SocketWorld()
        other = Authority.generate(OTHER, world.clock.now)
        world.federate(other)
        agent = SpiffeId.parse("spiffe://other.example/agent/x")
        end = world.clock.now + timedelta(minutes=1)
        token = other.issue_jwt_svid(agent, AUDIENCE, world.clock.now, 60, end)
        async with world.served(tmp_path / "s" / "api.sock") as client:
            answer = await client.call(
                "ValidateJWTSVID", pb.ValidateJWTSVIDRequest(audience=AUDIENCE, svid=token)
            )
        assert answer.spiffe_id == str(agent)
        assert sorted(MessageToDict(answer.claims)) == ["aud", "exp", "sub"]

    asyncio.run(main())


def test_a6_what_is_no_jwt_svid_for_us_is_refused(tmp_path: Path) -> None:
    """A-6, J-9, J-10: another audience, an unknown domain, an expired or broken token, missing fields."""

    async def main() -> None:
        world = SocketWorld()
        now = world.clock.now
        end = now + timedelta(minutes=10)
        stranger = Authority.generate(OTHER, now)
        impostor = Authority.generate(MESH, now)
        good = world.live.current.issue_jwt_svid(WEB, AUDIENCE, now, 60, end)
        cases = [
            ("https://else.example", good),
            (
                AUDIENCE,
                stranger.issue_jwt_svid(SpiffeId.parse("spiffe://other.example/x"), AUDIENCE, now, 60, end),
            ),
            (AUDIENCE, impostor.issue_jwt_svid(WEB, AUDIENCE, now, 60, end)),
            (
                AUDIENCE,
                world.live.current.issue_jwt_svid(WEB, AUDIENCE, now - timedelta(seconds=5), 1, end)[:-4]
                + "AAAA",
            ),
            (AUDIENCE, good + "."),
            (AUDIENCE, "x" * 9000),
            (AUDIENCE, ""),
            ("", good),
        ]
        async with world.served(tmp_path / "s" / "api.sock") as client:
            for audience, token in cases:
                request = pb.ValidateJWTSVIDRequest(audience=audience, svid=token)
                code, details = await refusal(client.call("ValidateJWTSVID", request))
                assert code is INVALID, (audience, token)
                assert not token or token not in details

    asyncio.run(main())


def test_a8_wit_svid_comes_with_its_key(tmp_path: Path) -> None:
    """A-8, W-2: where WIT-SVIDs are on, each comes with the private key that it names."""

    async def main() -> None:
        world = wit_world()
        async with world.served(tmp_path / "s" / "api.sock") as client:
            messages = aiter(client.stream("FetchWITSVID", pb.WITSVIDRequest(spiffe_id=str(WEB))))
            [svid] = (await anext(messages)).svids
            key = json.loads(svid.wit_svid_key)
            assert {"kty", "crv", "x", "y", "d", "alg", "kid"} == set(key)
            assert svid.wit_svid.count(".") == 2
            world.live.current = with_wit(world.live.current, world)
            world.live.feed.publish()
            [newer] = (await anext(messages)).svids
            assert newer.wit_svid != svid.wit_svid

    asyncio.run(main())


@pytest.mark.parametrize(("rpc", "request_"), ALL)
def test_a_request_with_unknown_fields_is_refused(tmp_path: Path, rpc: str, request_: Any) -> None:
    async def main() -> None:
        world = SocketWorld()
        unknown = request_.SerializeToString() + b"\xfa\x01\x01x"
        async with world.served(tmp_path / "s" / "api.sock") as client:
            assert (await refusal(ask(client, rpc, unknown)))[0] is INVALID
            assert (await refusal(ask(client, rpc, b"\xff")))[0] is INVALID

    asyncio.run(main())


def test_a_claim_that_no_struct_can_hold_is_refused() -> None:
    for value in (10**400, object()):
        with pytest.raises(ValueError, match="no Struct"):
            validated(WEB, {"x": value}, MESH)


def test_a2_an_svid_without_roots_is_not_served() -> None:
    """A-2: `bundle` is mandatory; without it nobody could verify the peers of the SVID."""
    bundles = BundleBytes.of(SocketWorld().bundles())
    with pytest.raises(IssuanceUnavailableError, match=re.escape("other.example")):
        bundles.roots_of(OTHER)
