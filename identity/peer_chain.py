"""The chain that a TLS peer presented, as Python's ssl tells it."""

import ssl
from contextlib import suppress
from typing import Any, Final, Protocol

# `_ssl.ENCODING_DER`, which has no public name before Python 3.13.
_DER: Final = 2


class _Certificate(Protocol):
    def public_bytes(self, encoding: int) -> bytes: ...


def presented_chain(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """Return the certificates that the peer sent, DER, the leaf first; empty if it sent none.

    Of a resumed session only the leaf is known, so a peer with an intermediate has to connect anew.
    """
    with suppress(ValueError):  # the handshake was not completed
        leaf = tls.getpeercert(binary_form=True)
        if leaf is None:
            return ()
        chain = _unverified_chain(tls)
        return chain if chain[:1] == (leaf,) else (leaf,)
    return ()


def _unverified_chain(tls: Any) -> tuple[bytes, ...]:  # noqa: ANN401 - private before Python 3.13
    if hasattr(tls, "get_unverified_chain"):
        return tuple(tls.get_unverified_chain() or ())
    chain: list[_Certificate] = tls._sslobj.get_unverified_chain() or []  # noqa: SLF001 - as above
    return tuple(certificate.public_bytes(_DER) for certificate in chain)
