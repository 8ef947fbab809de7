"""Two trust domains, their endpoints on real TLS servers, and those who pretend to be one of them."""

import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from authz.address import TcpAddress
from authz.hosts.http import App, Limits, Receive, Scope, Send
from authz.hosts.tls import Credential
from authz.identity_service.bundle_host import BundleHost
from identity.authority import Authority
from identity.certificate_authority import CertificateAuthority
from identity.errors import FederationError
from identity.federation import Profile
from identity.keys import SigningKey
from identity.spiffe import SpiffeId, TrustDomain
from identity.x509_svid import issue_x509_svid

# OpenSSL reads the machine's clock.
NOW = datetime.now(UTC).replace(microsecond=0)
OURS = TrustDomain.parse("mesh.example")
THEIRS = TrustDomain.parse("other.example")
ENDPOINT = SpiffeId.parse("spiffe://other.example/bundle-endpoint")
URL = "https://bundles.other.example/bundle"


def bundle_bytes(authority: Authority, **changes: object) -> bytes:
    return json.dumps({**authority.bundle(), **changes}).encode()


def credential(ca: CertificateAuthority, spiffe_id: SpiffeId, *intermediates: bytes) -> Credential:
    """An X.509-SVID and its key, whoever's ID it holds."""
    key = SigningKey.generate()
    forging = CertificateAuthority(spiffe_id.trust_domain, ca.certificate, ca.key)
    der = issue_x509_svid(
        ca=forging,
        spiffe_id=spiffe_id,
        public_key=key.private_key.public_key(),
        not_after=NOW + timedelta(hours=1),
        now=NOW,
    )
    chain = "".join(map(ssl.DER_cert_to_PEM_cert, [der, *intermediates]))
    return Credential(chain.encode(), key.reveal_pem())


@dataclass(frozen=True)
class WebCa:
    """A CA of the web, and a certificate that it gave to a host."""

    ca_pem: bytes
    credential: Credential

    @classmethod
    def generate(cls, *hosts: str) -> "WebCa":
        ca_key, key = ec.generate_private_key(ec.SECP256R1()), SigningKey.generate()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Web CA")])
        ca = _certificate(name, name, ca_key.public_key(), x509.BasicConstraints(True, 0)).sign(
            ca_key, hashes.SHA256()
        )
        leaf = (
            _certificate(
                x509.Name([]), name, key.private_key.public_key(), x509.BasicConstraints(False, None)
            )
            .add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=True)
            .sign(ca_key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        return cls(ca.public_bytes(pem), Credential(leaf.public_bytes(pem), key.reveal_pem()))

    def file(self, directory: Path) -> str:
        path = directory / "ca.pem"
        path.write_bytes(self.ca_pem)
        return str(path)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, constraints: x509.BasicConstraints
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
        .not_valid_before(NOW - timedelta(minutes=1))
        .not_valid_after(NOW + timedelta(hours=1))
        .add_extension(constraints, critical=True)
    )


def _host(text: str) -> x509.GeneralName:
    return x509.IPAddress(ip_address(text)) if text[0].isdigit() else x509.DNSName(text)


@asynccontextmanager
async def endpoint(
    app: App, presented: Credential | Callable[[], Credential], limits: Limits | None = None
) -> AsyncIterator[str]:
    """Serve an application to anybody; gives its base URL."""
    host = BundleHost(app, presented if callable(presented) else lambda: presented, limits)
    address = await host.listen(TcpAddress("127.0.0.1", 0))
    assert isinstance(address, TcpAddress)
    try:
        yield f"https://localhost:{address.port}"
    finally:
        await host.close(0.1)


@dataclass
class Answers:
    """An application that answers each path as it is told, and keeps what it was asked."""

    by_path: dict[str, tuple[int, Mapping[str, str], bytes]] = field(default_factory=dict)
    asked: list[Scope] = field(default_factory=list)

    def document(self, body: bytes, path: str = "/bundle") -> "Answers":
        self.by_path[path] = (200, {"content-type": "application/json"}, body)
        return self

    def redirect(self, to: str, status: int = 302, path: str = "/bundle") -> "Answers":
        self.by_path[path] = (status, {"location": to}, b"")
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope)
        status, headers, body = self.by_path.get(scope["path"], (404, {}, b""))
        names = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": names})
        await send({"type": "http.response.body", "body": body, "more_body": False})


@dataclass
class FakeFetcher:
    """Bundles by URL; keeps what it was asked for, and what it was to verify the endpoint with."""

    served: dict[str, bytes | Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    roots: list[Sequence[x509.Certificate]] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None

    async def fetch(self, url: str, profile: Profile, roots: Sequence[x509.Certificate] = ()) -> bytes:
        self.asked.append(url)
        self.roots.append(roots)
        result = self.meanwhile()
        if hasattr(result, "__await__"):
            await result
        answer = self.served.get(url, FederationError("nobody there"))
        if isinstance(answer, Exception):
            raise answer
        return answer
