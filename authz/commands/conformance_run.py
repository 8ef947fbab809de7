"""What `deputy conformance delegation` does: builds the client, runs the checklist, prints the report.

- The stranger's certificate is a copy of the names in the client's own, with a key that nobody vouches for.
- Progress goes to standard error, on a terminal only, and not before two seconds have gone.
"""

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, assert_never

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from authz.commands.conformance import ReportForm
from authz.commands.conformance_given import Given
from authz.commands.output import ERROR, FINDINGS, OK, Output, Row, emit, say
from authz.conformance.case import EVERY, Case
from authz.conformance.checklist import select
from authz.conformance.client import HttpServer, check_url
from authz.conformance.login import Certificate
from authz.conformance.report import Report
from authz.conformance.run import Plan, metadata_url, run
from authz.errors import ConfigError

_QUIET_SECONDS: Final = 2.0
_COLUMNS: Final = {
    "": "status",
    "rule": "rule",
    "case": "case",
    "expected": "expected",
    "got": "got",
}
_LIST_COLUMNS: Final = {
    "rule": "rule",
    "case": "case",
    "sent": "sent",
    "expected": "expected",
    "an error for": "must",
    "needs": "needs",
}


def delegation_report(given: Given) -> int:
    """Run the checklist, or print it, and return the exit code."""
    try:
        cases = select(given.only or (), given.skip or ())
        for each in (given.token_endpoint, given.issuer, given.metadata):
            if each is not None:
                check_url(each)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error
    if given.list_:
        _print_list(cases, given.output)
        return OK
    url = given.metadata or (None if given.issuer is None else metadata_url(given.issuer))
    plan = Plan(given.inputs(), given.profile, cases, url)
    server = HttpServer(_contexts(given))
    report = asyncio.run(run(plan, server, time.time, _Progress().show))
    _print(report, given.output)
    if report.problem is not None:
        say(f"deputy: {report.problem}")
        return ERROR
    return FINDINGS if report.has_findings else OK


def _print(report: Report, output: ReportForm) -> None:
    match output:
        case ReportForm.TABLE:
            emit(report.rows(), _COLUMNS, Output.TABLE)
            typer.echo()
            typer.echo(report.summary())
        case ReportForm.JSON:
            typer.echo(json.dumps(report.document(), indent=2, ensure_ascii=True))
        case ReportForm.JUNIT:
            typer.echo(report.junit())
        case _:
            assert_never(output)


def _print_list(cases: tuple[Case, ...], output: ReportForm) -> None:
    if output is ReportForm.JUNIT:
        raise typer.BadParameter("--list has no form of junit")
    rows = [_listed(case) for case in cases]
    if output is ReportForm.JSON:
        emit(rows, {}, Output.JSON)
        return
    # A person reads texts, where a machine reads lists.
    every = sorted(EVERY)
    texts = [
        {
            **row,
            "must": "all" if row["must"] == every else _joined(row["must"]),
            "needs": _joined(row["needs"]),
        }
        for row in rows
    ]
    emit(texts, _LIST_COLUMNS, Output.TABLE)


def _joined(value: object) -> str:
    return ", ".join(value) if isinstance(value, list) else ""


def _listed(case: Case) -> Row:
    return {
        "rule": case.rule,
        "case": case.name,
        "sent": case.title,
        "expected": case.expected,
        "must": sorted(case.must),
        "needs": [need.value for need in case.needs],
    }


# ---------------------------------------------------------------- TLS


def _contexts(given: Given) -> Mapping[Certificate | None, ssl.SSLContext]:
    contexts: dict[Certificate | None, ssl.SSLContext] = {None: _context(given.ca)}
    for name, (cert, key) in given.certificates().items():
        contexts[name] = _context(given.ca)
        _load(contexts[name], cert, key)
    own = given.certificates().get("own")
    if own is not None:
        contexts["stranger"] = _context(given.ca)
        with TemporaryDirectory() as directory:
            file = Path(directory, "stranger.pem")
            file.write_bytes(_copy(own[0]))
            _load(contexts["stranger"], file, file)
    return contexts


def _context(ca: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise ConfigError(f"no roots in PEM: {str(ca)!r}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _load(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        raise ConfigError(f"not a certificate and its key in PEM: {str(cert)!r}, {str(key)!r}") from error


def _no_password() -> str:
    """Answer instead of a person who would be asked in the terminal."""
    raise ConfigError("the key of a certificate is encrypted: decrypt it first")


def _copy(path: Path) -> bytes:
    """Return a certificate with the names of another one and a signature of nobody, and its key."""
    try:
        own = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (ValueError, IndexError) as error:
        raise ConfigError(f"not a certificate in PEM: {str(path)!r}") from error
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(own.subject)
        .issuer_name(own.issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
    )
    for extension in own.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName | x509.KeyUsage | x509.BasicConstraints):
            builder = builder.add_extension(extension.value, extension.critical)
    made = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM) + private


class _Progress:
    """One line that a terminal sees being overwritten."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def show(self, number: int, total: int, case: str) -> None:
        """Say which case runs, if somebody has waited long enough to wonder."""
        if sys.stderr.isatty() and time.monotonic() - self._started > _QUIET_SECONDS:
            done = number + 1 == total
            sys.stderr.write(f"\r\x1b[K{'' if done else f'{number + 1} of {total}  {case}'}")
            sys.stderr.flush()
