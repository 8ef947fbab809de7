"""What `deputy token inspect` does: reads one bounded token, prints what the core says of it.

- A token comes from a file or from standard input. One that was given as an argument is refused and not
  repeated: other users of the machine see arguments, and shells remember them.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import typer

from authz.commands.output import FINDINGS, OK, Lines, Output, emit, emit_one, say
from authz.errors import ConfigError
from identity.dialect import ABOUT
from identity.dialect_caller import NormalisedCaller, Party
from identity.inspect_jwt import looks_like_jwt
from identity.inspect_keys import TrustMaterial
from identity.inspection import MAX_INPUT, InspectionError, moment, seconds
from identity.token_inspection import MAX_TOKEN, TokenReport, inspect_token

VERSION: Final = "deputy.token-inspection/v1"
_STDIN: Final = Path("-")
_LONG_NAME: Final = 128
_FINDING_COLUMNS: Final = {"rule": "rule", "": "severity", "claim": "claim", "says": "sentence"}
_TITLES: Final = {"verified": "VERIFIED", "failed": "REFUSED", "not-verified": "NOT VERIFIED"}


def inspected(file: Path, jwks: Path | None, output: Output) -> int:
    """Explain a token, and return the exit code."""
    if _is_token(file.name) or (jwks is not None and _is_token(jwks.name)):
        raise ConfigError(
            "a token on the command line can be seen by others and stays in the history: give a file, or - "
            "for standard input; treat this one as exposed"
        )
    if file == _STDIN and jwks == _STDIN:
        raise ConfigError("standard input can be FILE or --jwks, not both")
    material = None if jwks is None else TrustMaterial.parse(_read(jwks, MAX_INPUT))
    report = _report(file, material)
    if output is Output.TABLE:
        _print(report)
    else:
        row = {"version": VERSION, "ok": report.unverified_caller is not None, **report.row()}
        emit_one(row, output, [], name="dialect")
        if report.verification == "not-verified":
            say("NOTHING IS VERIFIED: name the issuer's keys with --jwks FILE")
    return FINDINGS if report.unverified_caller is None else OK


def _is_token(name: str) -> bool:
    # Also one whose header does not begin as most do; no file of a person's has such a name.
    return looks_like_jwt(name) or (len(name) > _LONG_NAME and name.count(".") in {2, 4})


def _report(file: Path, material: TrustMaterial | None) -> TokenReport:
    try:
        # Who copies a token ends its line.
        text = _read(file, MAX_TOKEN + 2).decode("ascii").strip()
        return inspect_token(text, material, datetime.now(UTC))
    except UnicodeDecodeError as error:
        raise InspectionError(f"{str(file)!r} holds no token: it is not text") from error
    except InspectionError as error:
        raise InspectionError(f"{str(file)!r} cannot be inspected: {error}") from error


def _print(report: TokenReport) -> None:
    about = ABOUT[report.dialect]
    emit_one(
        {},
        Output.TABLE,
        [
            ("dialect", report.dialect.value),
            ("this is", about.title),
            ("see", about.source),
            *report.parts,
        ],
    )
    if report.findings:
        typer.echo()
        rows = report.row()["findings"]
        emit(rows if isinstance(rows, list) else [], _FINDING_COLUMNS, Output.TABLE)
    typer.echo()
    if report.unverified_caller is not None:
        what = "caller" if report.caller else "unverified caller"
        lines = [(what, report.dialect.value), *_caller_lines(report.unverified_caller)]
        emit_one({}, Output.TABLE, lines)
        typer.echo()
    verdict: list[tuple[str, object]] = [(_TITLES.get(report.verification, "note"), report.verdict)]
    if report.refusal is not None and report.verification != "failed":
        verdict.append(("REFUSED", f"{report.refusal.rule}: {report.refusal.sentence}"))
    emit_one({}, Output.TABLE, verdict)


def _caller_lines(caller: NormalisedCaller) -> Lines:
    human = caller.human
    end = seconds(caller.expires_at)
    return [
        ("human", "nobody: the agent acts for itself" if human is None else human.uri),
        *((f"{'presenter' if not depth else 'for'}", _party(one)) for depth, one in enumerate(caller.chain)),
        ("audience", caller.audience),
        ("scopes", " ".join(sorted(caller.scopes)) or "none"),
        ("until", caller.expires_at if end is None else moment(end)),
    ]


def _party(party: Party) -> str:
    where = "" if party.iss is None else f" of {party.iss}"
    return f"{party.sub}{where}" + ("" if party.instance is None else f", instance {party.instance}")


def _read(path: Path, limit: int) -> bytes:
    if path == _STDIN:
        return sys.stdin.buffer.read(limit + 1)
    with path.open("rb") as file:
        return file.read(limit + 1)
