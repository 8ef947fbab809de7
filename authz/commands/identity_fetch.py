"""What `deputy identity fetch` does: a client of the SPIFFE Workload API, for curl and shells.

- What came is checked before it is shown or written: key, name and chain belong together, and the chain
  verifies with the roots that came with it.
- A private key is written to a file of mode 0600 in a directory of mode 0700, and printed nowhere.
- A JWT-SVID is printed, alone, because that is what it was asked for.
"""

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import typer
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from grpclib import GRPCError, Status
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.exceptions import StreamTerminatedError
from h2.exceptions import ProtocolError

from authz.commands.identity_client import ServiceError
from authz.commands.output import Output, emit_one, printable
from authz.errors import ConfigError
from identity.certificate_authority import UNREADABLE, load_certificate
from identity.der import split_der
from identity.errors import CertificateError
from identity.inspection import moment
from identity.jws import UnverifiedToken
from identity.key_directory import KeyDirectory
from identity.pb import workload_pb2 as pb
from identity.spiffe import SpiffeId
from identity.x509_svid import thumbprint, verify_x509_svid

X509_VERSION: Final = "deputy.identity-x509-svid/v1"
JWT_VERSION: Final = "deputy.identity-jwt-svid/v1"
_API: Final = "/SpiffeWorkloadAPI"
_HEADER: Final = {"workload.spiffe.io": "true"}
_SECONDS: Final = 20.0
_SOCKET: Final = re.compile(r"unix:(?://)?(/[^/?#\x00][^?#\x00]*)")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line said."""

    socket: str
    write: Path | None
    audience: str | None
    spiffe_id: str | None


@dataclass(frozen=True, slots=True)
class Svid:
    """An X.509-SVID with its key and the roots of its trust domain, all PEM."""

    spiffe_id: SpiffeId
    hint: str
    chain: Sequence[x509.Certificate]
    roots: Sequence[x509.Certificate]
    key_pem: bytes = field(repr=False)

    @classmethod
    def parse(cls, message: pb.X509SVID, now: datetime) -> "Svid":
        """Read what a Workload API sent.

        Raises:
            CertificateError: if its parts do not belong together, or the chain does not verify.
        """
        spiffe_id = SpiffeId.parse(message.spiffe_id)
        ders, roots = split_der(message.x509_svid), split_der(message.bundle)
        try:
            chain, trusted = [load_certificate(der) for der in ders], [load_certificate(der) for der in roots]
            key = serialization.load_der_private_key(message.x509_svid_key, password=None)
            if not chain or key.public_key() != chain[0].public_key():
                raise CertificateError("a private key that is not that of its certificate")
            pem = key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        except UNREADABLE:
            # Without the cause: its traceback would hold the key.
            raise CertificateError("a certificate or key that cannot be read") from None
        if verify_x509_svid(ders, trusted, spiffe_id.trust_domain, now).spiffe_id != spiffe_id:
            raise CertificateError("a certificate with another name than the one that it is sent under")
        return cls(spiffe_id, message.hint, chain, trusted, pem)

    @property
    def thumbprint(self) -> str:
        """What a token of its holder is bound to."""
        return thumbprint(self.chain[0].public_bytes(serialization.Encoding.DER))


def fetched(wanted: Wanted, output: Output) -> None:
    """Fetch, show and write.

    Raises:
        ServiceError: if there is no Workload API, or it gives this process nothing.
        IdentityError: if what it gives is not what it should be.
    """
    path = _SOCKET.fullmatch(wanted.socket)
    if path is None:
        raise ConfigError(f"not unix:///absolute/path of a Workload API: {wanted.socket[:200]!r}")
    if wanted.audience is not None:
        _show_token(asyncio.run(_calling(path[1], _fetch_jwt, wanted)), wanted, output)
        return
    svid = _chosen(asyncio.run(_calling(path[1], _fetch_x509, wanted)), wanted.spiffe_id)
    if wanted.write is not None:
        _write(wanted.write, svid)
    _show(svid, wanted.write, output)


async def _calling(path: str, fetch: Any, wanted: Wanted) -> Any:  # noqa: ANN401 - the answer of the method that is called
    channel = Channel(path=path)
    try:
        async with asyncio.timeout(_SECONDS):
            return await fetch(channel, wanted)
    except GRPCError as error:
        raise ServiceError(_refusal(error)) from error
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise ServiceError(
            f"nobody serves a Workload API on {path!r}: is 'deputy serve' running, with this socket?"
        ) from error
    except TimeoutError as error:
        raise ServiceError(f"the Workload API did not answer within {_SECONDS:.0f} s") from error
    except (StreamTerminatedError, ProtocolError, OSError) as error:
        raise ServiceError(
            f"the Workload API on {path!r} cannot be used: {printable(error)[:200]}"
        ) from error
    finally:
        channel.close()


async def _fetch_x509(channel: Channel, _: Wanted) -> pb.X509SVIDResponse:
    method = UnaryStreamMethod(channel, f"{_API}/FetchX509SVID", pb.X509SVIDRequest, pb.X509SVIDResponse)
    async with method.open(metadata=_HEADER) as stream:
        await stream.send_message(pb.X509SVIDRequest(), end=True)
        answer = await stream.recv_message()
        if answer is not None:
            # The first answer is the whole state; the stream would go on for as long as we live, unless the
            # server ended it already.
            with suppress(ProtocolError):
                await stream.cancel()
            return answer
    raise ServiceError("the Workload API ended the stream without an answer")


async def _fetch_jwt(channel: Channel, wanted: Wanted) -> pb.JWTSVIDResponse:
    method = UnaryUnaryMethod(channel, f"{_API}/FetchJWTSVID", pb.JWTSVIDRequest, pb.JWTSVIDResponse)
    request = pb.JWTSVIDRequest(audience=[wanted.audience or ""], spiffe_id=wanted.spiffe_id or "")
    return await method(request, metadata=_HEADER)


def _refusal(error: GRPCError) -> str:
    said = printable(error.message or "")[:400]
    match error.status:
        case Status.PERMISSION_DENIED:
            return f"this process has no identity here ({said}): see identity.workloads in deputy.yaml"
        case Status.UNAVAILABLE:
            return f"the Workload API cannot issue anything now ({said}): try again"
        case _:
            return f"the Workload API refused: {error.status.name}: {said}"


def _chosen(answer: pb.X509SVIDResponse, wanted: str | None) -> Svid:
    found = [one for one in answer.svids if wanted in {None, one.spiffe_id}]
    if not found:
        names = ", ".join(printable(one.spiffe_id)[:255] for one in answer.svids[:20]) or "none"
        raise ServiceError(f"the identity {(wanted or '')[:255]!r} is not this process's; it has: {names}")
    return Svid.parse(found[0], datetime.now(UTC))


def _write(directory: Path, svid: Svid) -> None:
    kept = KeyDirectory.open(directory)
    try:
        kept.write("key.pem", svid.key_pem)
        kept.write("svid.pem", _pem(svid.chain))
        kept.write("roots.pem", _pem(svid.roots))
    finally:
        kept.close()


def _show(svid: Svid, directory: Path | None, output: Output) -> None:
    end = moment(svid.chain[0].not_valid_after_utc)
    files = (
        {name: str(directory / name) for name in ("svid.pem", "key.pem", "roots.pem")} if directory else {}
    )
    row = {
        "version": X509_VERSION,
        "spiffe_id": str(svid.spiffe_id),
        "hint": svid.hint or None,
        "not_after": end,
        "x5t#S256": svid.thumbprint,
        "certificates": len(svid.chain),
        "roots": len(svid.roots),
        "files": list(files.values()),
    }
    lines: list[tuple[str, object]] = [
        ("SPIFFE ID", svid.spiffe_id),
        ("until", end),
        ("x5t#S256", svid.thumbprint),
        ("roots", f"{len(svid.roots)} of {svid.spiffe_id.trust_domain}"),
        *([("hint", svid.hint)] if svid.hint else []),
        *(("written", file) for file in files.values()),
    ]
    emit_one(row, output, lines, name="spiffe_id")


def _show_token(answer: pb.JWTSVIDResponse, wanted: Wanted, output: Output) -> None:
    if not answer.svids:
        raise ServiceError("the Workload API gave no JWT-SVID")
    token = answer.svids[0].svid
    # Its form at least: what is printed here goes into a header of somebody's request.
    claims = UnverifiedToken.parse(token).unverified_claims
    if wanted.write is not None:
        kept = KeyDirectory.open(wanted.write)
        try:
            kept.write("svid.jwt", token.encode("ascii"))
        finally:
            kept.close()
    if output in {Output.TABLE, Output.NAME}:
        typer.echo(token)
        return
    row = {
        "version": JWT_VERSION,
        "spiffe_id": answer.svids[0].spiffe_id,
        "exp": claims.get("exp"),
        "svid": token,
    }
    emit_one(row, output, [])


def _pem(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)
