"""Proof of possession in its two places: at the token endpoint, and at each call with a token bound by it.

- A token that is bound by `cnf.jkt` counts with `Authorization: DPoP` and exactly one `DPoP` header, and a
  proof of that very key, for this token, method and URI (RFC 9449 section 7.1).
- The URI is the one that the proxy saw: host, port and path. Where the proxy saw `https`, the proof must say
  `https`. Where it saw `http`, or nothing is known, both count: TLS may have ended before the proxy (at a
  load balancer, in a mesh), so what the client wrote is not known. The host, the port and the path say the
  place, and a proof counts once.
- The port must be written in the proof as the client wrote it in `Host`; a proxy that strips it
  (`strip_any_host_port`) makes every proof for another port fail.
- A proof counts once, and whoever cannot know whether it did refuses. The proxy may ask again about the same
  request: `call_of` names it.
- At the token endpoint there is no access token yet; the proof's `jkt` is what the new token is bound to. No
  header is no proof; two headers are an error and never none.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from authz.codes import Code
from authz.errors import AuthenticationError, StoreError
from authz.replay import Replay
from authz.request import Request
from identity.dpop import PROOF_HEADER, DpopProof
from identity.dpop_nonce import DpopNonces
from identity.errors import DpopError
from identity.http_uri import HttpUri, HttpUriError
from identity.spiffe import SpiffeId

DPOP_SCHEME: Final = "dpop"


def client_proof(
    unverified_headers: Sequence[str], endpoint: HttpUri, now: datetime, nonces: DpopNonces | None = None
) -> DpopProof | None:
    """Verify the proof of a POST to an endpoint of ours; None where no `DPoP` header was sent (section 5).

    `unverified_headers` are all the values of that header. Nonces are asked for where they are given. Whoever
    gets a proof from here spends it.

    Raises:
        DpopError: with the OAuth error in `error`.
    """
    if not unverified_headers:
        return None
    if len(unverified_headers) > 1:
        raise DpopError("malformed", "more than one DPoP header")
    return DpopProof.verify(
        unverified_headers[0],
        method="POST",
        targets=(endpoint,),
        now=now,
        nonces=None if nonces is None else nonces.valid(now),
    )


def verify_possession(token: str, jkt: str, request: Request, now: datetime) -> DpopProof:
    """Verify that whoever sends this request with a token holds the key that it is bound to.

    It is pure, and may be asked again about one request; `spend` may not.

    Raises:
        AuthenticationError: with DPOP_MISSING or DPOP_INVALID.
        RequestError: if there are two `DPoP` headers, or it is not text.
    """
    unverified_proof = request.headers.one(PROOF_HEADER)
    if unverified_proof is None:
        raise AuthenticationError(Code.DPOP_MISSING)
    try:
        proof = DpopProof.verify(
            unverified_proof,
            method=request.method,
            targets=_targets(request),
            now=now,
            access_token=token,
        )
        proof.require_key(jkt)
    except (DpopError, HttpUriError) as error:
        raise AuthenticationError(Code.DPOP_INVALID, str(error)) from error
    return proof


def spend(proof: DpopProof, replay: Replay, *, presenter: str, now: datetime, call: str = "") -> None:
    """Count a proof; each counts once (section 11.1).

    Raises:
        AuthenticationError: with REPLAYED, or with REPLAY_UNKNOWN where it cannot be known.
    """
    try:
        is_first = replay.first_time(
            "dpop", proof.replay_key, proof.replay_until, presenter=presenter, now=now, call=call
        )
    except StoreError as error:
        raise AuthenticationError(Code.REPLAY_UNKNOWN, str(error)) from error
    if not is_first:
        raise AuthenticationError(Code.REPLAYED, "a proof that was presented before")


def call_of(request: Request, asker: SpiffeId | None) -> str:
    """Name one request as the proxy counts it, so that its repeated question is no replay.

    It is empty where the proxy does not count. Envoy makes the id of its stream itself; `x-request-id`, which
    a client can choose, is another thing.
    """
    return f"{asker or ''} {request.http_id}" if request.http_id else ""


def _targets(request: Request) -> tuple[HttpUri, ...]:
    """Return what the client may have written as the URI of this request."""
    port = "" if request.port is None else f":{request.port:d}"
    place = f"{request.host}{port}{request.path.partition('?')[0]}"
    schemes = ("https",) if request.scheme == "https" else ("https", "http")
    return tuple(HttpUri.parse(f"{scheme}://{place}") for scheme in schemes)
