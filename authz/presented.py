"""Which credential a request presents: what stands in its headers, nothing of it verified.

- `Authorization` with the scheme `Bearer` or `DPoP`, or else `Txn-Token`; each once, and never both, nor any
  other header in which a credential travels: two readers could believe two of them.
- What is bound to a key of proofs comes as `DPoP`, and nothing else does (RFC 9449 section 7.1).
"""

from dataclasses import dataclass, field
from typing import Final

from authz.codes import Code
from authz.dpop import DPOP_SCHEME
from authz.errors import AuthenticationError, RequestError
from authz.outside import CREDENTIAL_HEADERS, TRANSACTION_HEADER
from authz.request import Request

BEARER: Final = "bearer"


@dataclass(frozen=True, slots=True)
class Presented:
    """A token that nobody verified, and its scheme in lower case."""

    scheme: str
    unverified_token: str = field(repr=False)


def presented(request: Request) -> Presented:
    """Read `Authorization`.

    Raises:
        AuthenticationError: with TOKEN_MISSING.
        RequestError: if it stands twice or is not text.
    """
    value = request.headers.one("authorization")
    if value is None:
        raise AuthenticationError(Code.TOKEN_MISSING)
    scheme, _, token = value.partition(" ")
    scheme = scheme.lower()
    if scheme not in {BEARER, DPOP_SCHEME} or not token:
        raise AuthenticationError(Code.TOKEN_MISSING, "the scheme is neither Bearer nor DPoP")
    return Presented(scheme, token)


def passed_on(request: Request) -> str | None:
    """Return the unverified transaction token of a call that is passed on, None if it is not.

    Raises:
        RequestError: if there are two, or another credential is beside it.
    """
    unverified_token = request.headers.one(TRANSACTION_HEADER)
    if unverified_token is not None and not request.headers.last.keys().isdisjoint(CREDENTIAL_HEADERS):
        raise RequestError(Code.REQUEST_MALFORMED, "a transaction token beside another credential")
    return unverified_token


def require_bearer(request: Request) -> None:
    """Refuse as `DPoP` what is not bound to a key of proofs.

    Raises:
        AuthenticationError: with DPOP_INVALID, or as `presented`.
        RequestError: as `presented`.
    """
    if presented(request).scheme != BEARER:
        raise AuthenticationError(Code.DPOP_INVALID, "the token is not bound to a key of proofs")
