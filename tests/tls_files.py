"""TLS of a listener as three PEM files hold it, read anew at each handshake."""

from collections.abc import Callable
from pathlib import Path

from cryptography import x509

from authz.hosts.tls import Credential, ListenerTls
from authz.peers import Peers
from identity.bundle import Bundle
from identity.certificate_authority import authority_domain
from identity.keys import KeySet
from identity.trust_bundles import TrustBundles

FILES = ("chain.pem", "key.pem", "roots.pem")


def bundle_of(roots_pem: bytes) -> Bundle:
    """The bundle of the one trust domain that some roots name."""
    roots = tuple(x509.load_pem_x509_certificates(roots_pem))
    return Bundle(authority_domain(roots[0]), roots, KeySet.of(()), None, None)


def listener(
    credential: Callable[[], Credential], own: Callable[[], Bundle], *federated: Callable[[], Bundle]
) -> ListenerTls:
    """A listener for the peers of some trust domains."""

    def bundles() -> TrustBundles:
        others = [of() for of in federated]
        return TrustBundles(own(), {bundle.trust_domain: bundle for bundle in others})

    return ListenerTls(credential, Peers(bundles, frozenset(bundles().all)))


def tls_from_files(directory: Path) -> ListenerTls:
    """A listener for the peers of the trust domain whose roots lie in a directory."""
    chain, key, roots = (directory / name for name in FILES)
    return listener(
        lambda: Credential(chain.read_bytes(), key.read_bytes()), lambda: bundle_of(roots.read_bytes())
    )
