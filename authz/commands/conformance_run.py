"""What `deputy conformance delegation` does: builds the client, runs the checklist, prints the report.

- Progress goes to standard error, on a terminal only, and not before two seconds have gone.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from typing import Any, Final, assert_never

import typer

from authz.commands.conformance import ReportForm
from authz.commands.conformance_given import Given
from authz.commands.conformance_tls import contexts
from authz.commands.output import ERROR, FINDINGS, OK, Output, Row, emit, say
from authz.conformance.case import EVERY, Case
from authz.conformance.checklist import select
from authz.conformance.client import HttpServer, check_url
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


def examine(options: Mapping[str, Any]) -> int:
    """Do what the options say, and return the exit code."""
    return delegation_report(Given(**options))


def delegation_report(given: Given) -> int:
    """Run the checklist, or print it, and return the exit code."""
    try:
        cases = select(given.only or (), given.skip or ())
        for each in (given.token_endpoint, given.issuer, given.metadata, given.protected_resource):
            if each is not None:
                check_url(each)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error
    if given.list_:
        _print_list(cases, given.output)
        return OK
    url = given.metadata or (None if given.issuer is None else metadata_url(given.issuer))
    plan = Plan(given.inputs(), given.profile, cases, url)
    server = HttpServer(contexts(given.ca, given.certificates()))
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
            typer.echo(f"{report.unseen()}\n")
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
