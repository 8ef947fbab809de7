"""Two trust domains that federate: each sees the other's SVIDs, and neither can make one of the other's.

- The forgeries go through real TLS handshakes, with the roots of both domains in the pool of the TLS library:
  that is where X-7 is broken, unless who it is gets said with the roots of one domain.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from authz.address import TcpAddress
from authz.hosts.http import HttpHost, Receive, Scope, Send, peer_chain
from authz.hosts.tls import Credential, TlsMaterial
from authz.identity_service.bundle_app import BUNDLE_PATH, bundle_app
from authz.identity_service.federation import Federation
from identity.authority import Authority
from identity.bundle import Bundle
from identity.certificate_authority import SIGNS_CERTIFICATES, CertificateAuthority
from identity.errors import CertificateError, TokenError, TokenIssuerError, TokenKeyError
from identity.federation import Relationship
from identity.jws import UnverifiedToken
from identity.jwt_svid import issue_jwt_svid, verify_jwt_svid
from identity.key_ring import Action, KeyChange, Role
from identity.keys import SigningKey
from identity.live_authority import AuthoritySettings, LiveAuthority
from identity.spiffe import SpiffeId, TrustDomain
from identity.trust_bundles import TrustBundles
from tests.federation_world import NOW, OURS, THEIRS, Answers, WebCa, bundle_bytes, credential, endpoint

OURSELVES = Authority.generate(OURS, NOW)
OTHERS = Authority.generate(THEIRS, NOW)
BUNDLES = TrustBundles(OURSELVES.trust_bundle(), {THEIRS: OTHERS.trust_bundle()})
OUR_AGENT = SpiffeId.parse("spiffe://mesh.example/agent/triage/task/01JDD2W4Y0000000000000000A")
THEIR_AGENT = SpiffeId.parse("spiffe://other.example/agent/triage/task/01JDD2W4Y0000000000000000A")
AUDIENCE = "https://tickets.mesh.example"
DER = serialization.Encoding.DER


# ---------------------------------------------------------------- forgeries, by handshake


def named_like(ca: CertificateAuthority, other: CertificateAuthority) -> CertificateAuthority:
    """A root with the subject, the key identifier and the SPIFFE name of another, and a key of its own."""
    certificate = (
        x509.CertificateBuilder(
            other.certificate.subject,
            other.certificate.subject,
            ca.key.private_key.public_key(),
            other.certificate.serial_number,
        )
        .not_valid_before(NOW - timedelta(minutes=1))
        .not_valid_after(NOW + timedelta(hours=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(SIGNS_CERTIFICATES, critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(other.trust_domain.spiffe_id))]),
            critical=False,
        )
        .add_extension(
            other.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value,
            critical=False,
        )
        .sign(ca.key.private_key, hashes.SHA256())
    )
    return CertificateAuthority(other.trust_domain, certificate, ca.key)


def below(root: CertificateAuthority, trust_domain: TrustDomain) -> CertificateAuthority:
    """A CA that another one signed, with the name of a trust domain."""
    key = SigningKey.generate()
    public_key = key.private_key.public_key()
    uri = x509.UniformResourceIdentifier(str(trust_domain.spiffe_id))
    certificate = (
        x509.CertificateBuilder(
            root.certificate.subject,
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "below")]),
            public_key,
            x509.random_serial_number(),
        )
        .not_valid_before(NOW - timedelta(minutes=1))
        .not_valid_after(NOW + timedelta(hours=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(SIGNS_CERTIFICATES, critical=True)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.private_key.public_key()),
            critical=False,
        )
        .sign(root.key.private_key, hashes.SHA256())
    )
    return CertificateAuthority(trust_domain, certificate, key)


def unbounded(trust_domain: TrustDomain) -> CertificateAuthority:
    """A root that may have CAs below it, as an upstream authority of SPIRE is one."""
    plain = CertificateAuthority.generate(trust_domain, NOW)
    return named_like(plain, plain)


UPSTREAM = unbounded(THEIRS)
TRUSTING_UPSTREAM = TrustBundles(
    OURSELVES.trust_bundle(),
    {THEIRS: Bundle(THEIRS, (*OTHERS.roots, UPSTREAM.certificate), OTHERS.svid_keys, 1, 60)},
)
THEIR_SERVER, FALSE_SERVER = below(UPSTREAM, THEIRS), below(UPSTREAM, OURS)
MASK = named_like(OTHERS.ca, OURSELVES.ca)


def der(ca: CertificateAuthority) -> bytes:
    return ca.certificate.public_bytes(DER)


RIGHTFUL = {
    "ours by our CA": (credential(OURSELVES.ca, OUR_AGENT), OUR_AGENT),
    "theirs by their CA": (credential(OTHERS.ca, THEIR_AGENT), THEIR_AGENT),
    "theirs by a CA below their upstream": (
        credential(THEIR_SERVER, THEIR_AGENT, der(THEIR_SERVER)),
        THEIR_AGENT,
    ),
}
FORGED = {
    "ours by their CA": credential(OTHERS.ca, OUR_AGENT),
    "theirs by our CA": credential(OURSELVES.ca, THEIR_AGENT),
    "ours by their CA, with their root in the chain": credential(OTHERS.ca, OUR_AGENT, der(OTHERS.ca)),
    "ours by their CA, with our root in the chain": credential(OTHERS.ca, OUR_AGENT, der(OURSELVES.ca)),
    "ours by their key under a mask of our root": credential(MASK, OUR_AGENT, der(MASK)),
    "ours by a CA of our name below their upstream": credential(FALSE_SERVER, OUR_AGENT, der(FALSE_SERVER)),
    "ours by their upstream itself": credential(UPSTREAM, OUR_AGENT),
    "a stranger's by their CA": credential(OTHERS.ca, SpiffeId.parse("spiffe://third.example/agent/x")),
}


@asynccontextmanager
async def pooled(bundles: TrustBundles) -> AsyncIterator[tuple[str, list[Sequence[bytes]]]]:
    """A TLS server with the roots of all domains in one pool; gives its URL and the chains it let in."""
    seen: list[Sequence[bytes]] = []

    async def keep(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(peer_chain(scope))
        await Answers()(scope, receive, send)

    presented = WEB.credential
    roots = b"".join(
        root.public_bytes(serialization.Encoding.PEM) for each in bundles.all.values() for root in each.roots
    )
    material = TlsMaterial(presented.certificate_chain, presented.private_key, roots)
    host = HttpHost(keep, tls=lambda: material)
    address = await host.listen(TcpAddress("127.0.0.1", 0))
    assert isinstance(address, TcpAddress)
    try:
        yield f"https://localhost:{address.port}/", seen
    finally:
        await host.close(0.1)


WEB = WebCa.generate("localhost")


def presented_over_tls(presented: Credential, directory: Path) -> Sequence[bytes] | None:
    """Shake hands, and return the chain as the server's TLS library let it in; None if it did not."""

    async def scenario() -> Sequence[bytes] | None:
        (directory / "client.pem").write_bytes(presented.private_key + presented.certificate_chain)
        tls = ssl.create_default_context(cadata=WEB.ca_pem.decode())
        tls.load_cert_chain(directory / "client.pem")
        async with pooled(TRUSTING_UPSTREAM) as (url, seen), AsyncExitStack() as stack:
            http = await stack.enter_async_context(httpx2.AsyncClient(verify=tls, trust_env=False))
            try:
                await http.get(url)
            except httpx2.TransportError:
                assert seen == []
                return None
            return seen[0]

    return asyncio.run(scenario())


@pytest.mark.parametrize("case", RIGHTFUL)
def test_an_svid_of_each_domain_counts(case: str, tmp_path: Path) -> None:
    presented, spiffe_id = RIGHTFUL[case]
    chain = presented_over_tls(presented, tmp_path)
    assert chain is not None
    svid = TRUSTING_UPSTREAM.verify_x509(chain, NOW)
    assert svid.spiffe_id == spiffe_id


@pytest.mark.parametrize("case", FORGED)
def test_x_7_no_ca_makes_an_id_of_another_domain(case: str, tmp_path: Path) -> None:
    """X-7: TLS with one pool lets most of these in; they are nobody all the same."""
    chain = presented_over_tls(FORGED[case], tmp_path)
    if chain is not None:
        with pytest.raises(CertificateError):
            TRUSTING_UPSTREAM.verify_x509(chain, NOW)


def test_x_7_the_pool_of_a_tls_library_alone_is_fooled(tmp_path: Path) -> None:
    """X-7: the reason for all of this; if it ever fails, the test above proves nothing."""
    assert presented_over_tls(FORGED["ours by their CA"], tmp_path) is not None


def test_a_domain_without_a_bundle_is_a_stranger() -> None:
    chain = [ssl.PEM_cert_to_DER_cert(credential(OTHERS.ca, THEIR_AGENT).certificate_chain.decode())]
    alone = TrustBundles(OURSELVES.trust_bundle())
    with pytest.raises(CertificateError, match="no roots"):
        alone.verify_x509(chain, NOW)
    with pytest.raises(CertificateError, match="no certificate"):
        alone.verify_x509([], NOW)
    empty = Bundle.parse(bundle_bytes(OTHERS, keys=[]), THEIRS)
    with pytest.raises(CertificateError, match="no roots"):
        TrustBundles(OURSELVES.trust_bundle(), {THEIRS: empty}).verify_x509(chain, NOW)


def test_a_bundle_stands_under_its_own_name_only() -> None:
    for wrong in ({OURS: OTHERS.trust_bundle()}, {OURS: OURSELVES.trust_bundle()}):
        with pytest.raises(CertificateError):
            TrustBundles(OURSELVES.trust_bundle(), wrong)
    with pytest.raises(CertificateError):
        TrustBundles(OURSELVES.trust_bundle(), {TrustDomain.parse("third.example"): OTHERS.trust_bundle()})
    assert list(BUNDLES.all) == [OURS, THEIRS]
    assert BUNDLES.of(OURS) is BUNDLES.own
    assert BUNDLES.of(TrustDomain.parse("third.example")) is None


# ---------------------------------------------------------------- forgeries, by token


def verified(token: str, bundles: TrustBundles = BUNDLES) -> SpiffeId:
    return verify_jwt_svid(
        UnverifiedToken.parse(token), bundles.jwt_keys, audience=AUDIENCE, now=NOW, leeway=0
    ).spiffe_id


def jwt_by(key: SigningKey, spiffe_id: SpiffeId) -> str:
    return issue_jwt_svid(
        key, spiffe_id, audience=AUDIENCE, now=NOW, ttl=60, not_after=NOW + timedelta(hours=1)
    )


def test_x_7_no_jwt_key_makes_an_id_of_another_domain() -> None:
    """X-7, J-10: the subject's trust domain chooses the keys."""
    assert verified(jwt_by(OURSELVES.jwt_key, OUR_AGENT)) == OUR_AGENT
    assert verified(jwt_by(OTHERS.jwt_key, THEIR_AGENT)) == THEIR_AGENT
    for key, spiffe_id in ((OTHERS.jwt_key, OUR_AGENT), (OURSELVES.jwt_key, THEIR_AGENT)):
        with pytest.raises(TokenKeyError):
            verified(jwt_by(key, spiffe_id))
    with pytest.raises(TokenIssuerError):
        verified(jwt_by(OTHERS.jwt_key, SpiffeId.parse("spiffe://third.example/agent/x")))


def test_a_kid_of_ours_in_their_bundle_changes_nothing() -> None:
    """Their document may name a key as it likes: it is looked up in their set only."""
    theirs = {**OTHERS.jwt_key.public.jwk(), "use": "jwt-svid", "kid": OURSELVES.jwt_key.kid}
    bundle = Bundle.parse(bundle_bytes(OTHERS, keys=[theirs]), THEIRS)
    bundles = TrustBundles(OURSELVES.trust_bundle(), {THEIRS: bundle})
    assert verified(jwt_by(OURSELVES.jwt_key, OUR_AGENT), bundles) == OUR_AGENT
    with pytest.raises(TokenError):
        verified(jwt_by(OURSELVES.jwt_key, THEIR_AGENT), bundles)


# ---------------------------------------------------------------- two clusters, from end to end


@dataclass
class Cluster:
    """One trust domain: its keys, its endpoint, and whom it federates with."""

    live: LiveAuthority
    federation: Federation
    url: str
    endpoint_id: SpiffeId

    @property
    def trust_domain(self) -> TrustDomain:
        return self.live.current.trust_domain

    @property
    def agent(self) -> SpiffeId:
        return SpiffeId(self.trust_domain, OUR_AGENT.path)

    def svid(self) -> bytes:
        key = SigningKey.generate().private_key.public_key()
        return self.live.current.issue_workload_svid(self.agent, key, NOW, 600)

    def jwt_svid(self) -> str:
        return self.live.current.issue_jwt_svid(self.agent, AUDIENCE, NOW, 60, NOW + timedelta(hours=1))

    def believes(self, other: "Cluster") -> bool:
        """Whether an X.509-SVID and a JWT-SVID of the other both count here; never one of the two."""
        trust = self.federation.trust()
        try:
            found = trust.verify_x509([other.svid()], NOW).spiffe_id
        except CertificateError:
            with pytest.raises(TokenError):
                verified(other.jwt_svid(), trust)
            return False
        assert found == other.agent == verified(other.jwt_svid(), trust)
        return True


@asynccontextmanager
async def cluster(directory: Path, trust_domain: TrustDomain, *, web: bool) -> AsyncIterator[Cluster]:
    live = LiveAuthority.open(directory / trust_domain.name, trust_domain, AuthoritySettings(), NOW)

    def own() -> Bundle:
        return live.current.trust_bundle()

    federation = Federation.open(directory / trust_domain.name, own)
    endpoint_id = SpiffeId(trust_domain, "/bundle-endpoint")

    def presented() -> Credential:
        return WEB.credential if web else credential(live.current.ca, endpoint_id)

    try:
        async with endpoint(bundle_app(lambda: live.current), presented) as base:
            yield Cluster(live, federation, base + BUNDLE_PATH, endpoint_id)
    finally:
        federation.close()
        live.close()


Act = Callable[[Cluster, Cluster], Awaitable[None]]


def two_clusters(directory: Path, act: Act) -> None:
    """Ours follows theirs by https_spiffe, theirs follows ours by https_web."""

    async def scenario() -> None:
        async with (
            cluster(directory, OURS, web=True) as ours,
            cluster(directory, THEIRS, web=False) as theirs,
        ):
            ca_file = WEB.file(directory)
            await ours.federation.add(
                Relationship.parse(
                    THEIRS.name,
                    theirs.url,
                    "https_spiffe",
                    endpoint_id=str(theirs.endpoint_id),
                    bundle=bundle_bytes(theirs.live.current),
                )
            )
            await theirs.federation.add(Relationship.parse(OURS.name, ours.url, "https_web", ca_file=ca_file))
            await poll(ours, theirs)
            await act(ours, theirs)

    asyncio.run(scenario())


MINUTES = iter(range(5, 10_000, 5))


async def poll(*clusters: Cluster) -> None:
    """Let the next interval pass."""
    now = NOW + timedelta(minutes=next(MINUTES))
    for each in clusters:
        await each.federation.poll(now)


def rotate(live: LiveAuthority, *actions: Action) -> None:
    for action in actions:
        live.apply([KeyChange(action, "x509"), KeyChange(action, "jwt")], NOW)


def test_two_clusters_believe_each_other_through_a_rotation(tmp_path: Path) -> None:
    """B-5: a key that is published before it signs is known everywhere in time."""

    async def act(ours: Cluster, theirs: Cluster) -> None:
        assert ours.believes(theirs)
        assert theirs.believes(ours)
        for _ in range(3):
            for each in (ours, theirs):
                rotate(each.live, "prepare")
            await poll(ours, theirs)
            for each in (ours, theirs):
                rotate(each.live, "activate")
            assert ours.believes(theirs)
            assert theirs.believes(ours)
        assert [each.problem for each in ours.federation.relationships()] == [""]

    two_clusters(tmp_path, act)


def test_a_key_that_was_not_published_in_time_is_a_strangers(tmp_path: Path) -> None:
    async def act(ours: Cluster, theirs: Cluster) -> None:
        rotate(theirs.live, "prepare", "activate")
        assert not ours.believes(theirs)
        await poll(ours)
        # The endpoint itself has gone over to the new CA: only an operator can bridge that.
        assert "not the endpoint" in ours.federation.relationships()[0].problem
        assert not ours.believes(theirs)

    two_clusters(tmp_path, act)


def test_a_revoked_key_of_theirs_is_pushed_to_open_streams(tmp_path: Path) -> None:
    """Redacted federated bundle on an open stream: whoever waits is told, and finds the key gone."""

    async def act(ours: Cluster, theirs: Cluster) -> None:
        old = theirs.live.current
        rotate(theirs.live, "prepare")
        await poll(ours)
        rotate(theirs.live, "activate")
        stream = asyncio.create_task(ours.federation.feed.wait(ours.federation.feed.version))
        revoked: dict[Role, str] = {"x509": old.ca.key.kid, "jwt": old.jwt_key.kid}
        for role, kid in revoked.items():
            changes = [KeyChange("taint", role, kid), KeyChange("revoke", role, kid)]
            theirs.live.apply(changes, NOW, force=True)
        await poll(ours)
        async with asyncio.timeout(10):
            await stream
        bundle = ours.federation.bundles()[THEIRS]
        assert old.ca.certificate not in bundle.roots
        assert bundle.jwt_keys.get(old.jwt_key.kid) is None
        with pytest.raises(TokenError):
            verified(jwt_by(old.jwt_key, theirs.agent), ours.federation.trust())
        assert ours.believes(theirs)

    two_clusters(tmp_path, act)


def test_whom_an_operator_removes_is_a_stranger_at_once(tmp_path: Path) -> None:
    """Section 6.3: in one direction; the other is theirs to end."""

    async def act(ours: Cluster, theirs: Cluster) -> None:
        await ours.federation.remove(THEIRS)
        assert not ours.believes(theirs)
        assert theirs.believes(ours)

    two_clusters(tmp_path, act)


def test_a_cluster_whose_endpoint_is_down_is_believed_until_its_keys_end(tmp_path: Path) -> None:
    """B-6: one missed poll costs nothing."""

    async def scenario() -> None:
        async with cluster(tmp_path, OURS, web=True) as ours:
            async with cluster(tmp_path, THEIRS, web=True) as theirs:
                ca_file = WEB.file(tmp_path)
                await ours.federation.add(
                    Relationship.parse(THEIRS.name, theirs.url, "https_web", ca_file=ca_file)
                )
                await poll(ours)
                svid = theirs.svid()
            await poll(ours)
            (relationship,) = ours.federation.relationships()
            assert "cannot connect" in relationship.problem
            assert ours.federation.trust().verify_x509([svid], NOW).spiffe_id == theirs.agent

    asyncio.run(scenario())
