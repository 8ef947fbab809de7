"""`deputy audit`: is the log what was written?"""

from typing import Annotated

import typer

from authz.audit.read_verify import verify_directory
from authz.commands.group import examples, group
from authz.commands.output import FINDINGS, Output, OutputOption, emit_one
from authz.commands.place import AuditDirOption, ConfigOption, audit_directory

app = group("Verify the audit log.")


@app.command(epilog=examples("deputy audit verify", "deputy audit verify --audit-dir /copy/of/audit -o json"))
def verify(
    config: ConfigOption = None,
    audit_dir: AuditDirOption = None,
    output: OutputOption = Output.TABLE,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing, only exit.")] = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Find a changed, dropped or reordered record, and say which; exit 3 if there is one.

    The log can be verified while it is written, and anywhere: a copy of the directory is enough.
    """
    directory = audit_directory(config, audit_dir)
    verification = verify_directory(directory)
    row = {
        "ok": verification.ok,
        "directory": str(directory),
        "records": verification.records,
        "first_seq": verification.first_seq,
        "last_seq": verification.last_seq,
        "head": verification.head.hash,
        "problems": [str(problem) for problem in verification.problems],
    }
    lines: list[tuple[str, object]] = [
        ("audit log", "verified" if verification.ok else "NOT what was written"),
        ("records", f"{verification.records} (numbers {verification.first_seq} to {verification.last_seq})"),
        ("head", verification.head.hash),
        *(("problem", str(problem)) for problem in verification.problems),
    ]
    if not quiet:
        emit_one(row, output, lines, name="head")
    if not verification.ok:
        raise typer.Exit(FINDINGS)
