"""The mesh peer: what the proxy says of the client's verified certificate.

- Empty is nobody; malformed is refused, never taken for nobody.
- The certificate is one PEM block and nothing else; only its hash is kept, which tokens are bound to.
  The proxy has verified it, and its client has shown possession of its key.
- A connection sends the same texts again and again, so what they mean is remembered, for a bounded number.
"""

import binascii
import hashlib
import re
from base64 import b64decode, b64encode, urlsafe_b64encode
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from authz.codes import Code
from authz.errors import RequestError
from identity.errors import SpiffeIdError
from identity.spiffe import SpiffeId

MAX_CERTIFICATE_CHARS = 32 * 1024

_PERCENT_ENCODED = re.compile(r"(?:[A-Za-z0-9._~+/=-]|%[0-9A-Fa-f]{2})*")
# RFC 7468 section 3, the strict form, which is what BoringSSL writes.
_PEM = re.compile(
    rb"-----BEGIN CERTIFICATE-----\n"
    rb"((?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{1,64}={0,2}\n)"
    rb"-----END CERTIFICATE-----\n?"
)


def parse_peer(principal: str) -> SpiffeId | None:
    """Return who is at the other end, or None if the proxy knows nobody.

    Raises:
        RequestError: if the principal is not a SPIFFE ID.
    """
    return _spiffe_id(principal) if principal else None


def peer_thumbprint(certificate: str) -> str | None:
    """Return `x5t#S256` of the URL-encoded PEM (RFC 8705 section 3.1), or None if there is no certificate.

    Raises:
        RequestError: if the text is not exactly one certificate.
    """
    if len(certificate) > MAX_CERTIFICATE_CHARS:
        raise RequestError(Code.REQUEST_MALFORMED, f"source.certificate of {len(certificate)} characters")
    return _thumbprint(certificate) if certificate else None


@lru_cache(maxsize=1024)
def _spiffe_id(principal: str) -> SpiffeId:
    try:
        return SpiffeId.parse(principal)
    except SpiffeIdError as error:
        raise RequestError(Code.REQUEST_MALFORMED, f"source.principal: {error}") from error


@lru_cache(maxsize=256)
def _thumbprint(certificate: str) -> str:
    pem = _PEM.fullmatch(unquote_to_bytes(certificate)) if _PERCENT_ENCODED.fullmatch(certificate) else None
    if pem is None:
        raise RequestError(
            Code.REQUEST_MALFORMED, "source.certificate is not one URL-encoded PEM certificate"
        )
    text = pem[1].replace(b"\n", b"")
    try:
        der = b64decode(text, validate=True)
    except binascii.Error as error:
        raise RequestError(Code.REQUEST_MALFORMED, "source.certificate is not base64") from error
    if b64encode(der) != text:
        raise RequestError(Code.REQUEST_MALFORMED, "source.certificate is not canonical base64")
    return urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode("ascii")
