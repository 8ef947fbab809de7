"""What `deputy identity status`, `rotate`, `taint` and `revoke` do."""

import shlex
import sys
from pathlib import Path
from typing import Any, Final

import typer

from authz.commands.identity_client import Service, with_service
from authz.commands.identity_lines import KEY_COLUMNS, key_rows, status_lines, status_row
from authz.commands.identity_place import data_dir, read_status
from authz.commands.output import OK, Output, emit, emit_one, say
from authz.identity_service.status import ROLE_NAMES, ROLE_NUMBERS, STAGE_NAMES
from identity.key_ring import Role
from identity.pb import authority_pb2 as pb

ROTATION_VERSION: Final = "deputy.identity-rotation/v1"
CHANGE_VERSION: Final = "deputy.identity-key/v1"
_INTERRUPTED: Final = 130
# A terminal hears of the wait at once, and then so often.
_TELL_EVERY: Final = 15
_EVER: Final = 1 << 32
_SIGINT_NOTE: Final = (
    "the next key stays published and does not sign yet: run the same command again to go on from here"
)
_NOW_NOTE: Final = (
    "--now: who has not fetched the new key yet refuses what it signs until their next poll "
    "(our own streams have it at once; federated trust domains, caches and clouds later)"
)


def show_status(config: Path | None, output: Output) -> None:
    """Print the status."""
    answer = read_status(config)
    match output:
        case Output.TABLE:
            emit_one({}, output, list(status_lines(answer.status, running=answer.running)))
            typer.echo()
            emit(key_rows(answer.status), KEY_COLUMNS, output)
        case Output.NAME:
            emit(key_rows(answer.status), KEY_COLUMNS, output, name="kid")
        case _:
            emit_one(status_row(answer.status, running=answer.running), output, [])


def rotate_keys(config: Path | None, which: Role | str | None, *, now: bool, output: Output) -> int:
    """Rotate, wait, print, and return the exit code."""
    directory = data_dir(config)
    if now:
        say(_NOW_NOTE)

    async def rotate(service: Service) -> list[dict[str, Any]]:
        status = await service.call("GetStatus", pb.GetStatusRequest(), pb.AuthorityStatus)
        before = {role.role: _active(role) for role in status.roles}
        wanted = [number for name, number in ROLE_NUMBERS.items() if which in {None, name}]
        # All means all that there are; one that is named and not there is for the service to refuse.
        roles = [number for number in wanted if which is not None or number in before]
        done: list[dict[str, Any]] = []
        told: dict[int, int] = {}
        request = pb.RotateRequest(roles=roles, now=now)
        async for progress in service.stream("Rotate", request, pb.RotateProgress):
            row = _progress_row(progress, before.get(progress.role))
            if output is Output.JSONL:
                emit_one(row, output, [])
            if progress.stage == pb.STAGE_ACTIVE:
                done.append(row)
            elif (
                sys.stderr.isatty() and told.get(progress.role, _EVER) - progress.seconds_left >= _TELL_EVERY
            ):
                told[progress.role] = progress.seconds_left
                say(f"{row['role']}: {row['kid']} is published; it signs in {progress.seconds_left} s")
        return done

    try:
        done = with_service(directory, rotate)
    except KeyboardInterrupt:
        say(_SIGINT_NOTE)
        return _INTERRUPTED
    match output:
        case Output.TABLE | Output.NAME:
            emit(done, {"role": "role", "signs now": "kid", "signed before": "previous"}, output, name="kid")
        case Output.JSONL:
            pass  # told while it went on
        case _:
            emit_one({"version": ROTATION_VERSION, "rotated": done}, output, [])
    return OK


def taint_key(config: Path | None, key: str, output: Output) -> None:
    """Taint a key, and say what comes next."""

    async def taint(service: Service) -> pb.KeyChanged:
        changed: pb.KeyChanged = await service.call("Taint", pb.TaintRequest(key_id=key), pb.KeyChanged)
        return changed

    changed = with_service(data_dir(config), taint)
    _print_change("taint", "tainted: it can be revoked, and verifies until then", changed, output)
    named = ("-- " if key.startswith("-") else "") + shlex.quote(key)
    say(f"it still verifies; once everybody has their new SVIDs: deputy identity revoke {named}")


def revoke_key(config: Path | None, key: str, *, force: bool, yes: bool, output: Output) -> None:
    """Revoke a key, after asking on a terminal."""
    directory = data_dir(config)
    if not yes and sys.stdin.isatty():
        typer.confirm(
            f"Nothing that {key[:64]!r} signed will verify any more. Revoke it?", abort=True, err=True
        )

    async def revoke(service: Service) -> pb.KeyChanged:
        request = pb.RevokeRequest(key_id=key, force=force)
        changed: pb.KeyChanged = await service.call("Revoke", request, pb.KeyChanged)
        return changed

    _print_change(
        "revoke", "revoked: nothing that it signed verifies", with_service(directory, revoke), output
    )


def _print_change(change: str, words: str, changed: pb.KeyChanged, output: Output) -> None:
    role = ROLE_NAMES.get(changed.role, "unknown")
    row = {
        "version": CHANGE_VERSION,
        "change": change,
        "kid": changed.key_id,
        "role": role,
        "bundle_sequence": changed.sequence,
    }
    lines = [
        ("key", changed.key_id),
        ("role", role),
        ("now", words),
        ("bundle", f"sequence {changed.sequence}"),
    ]
    emit_one(row, output, lines, name="kid")


def _progress_row(progress: pb.RotateProgress, previous: str | None) -> dict[str, Any]:
    return {
        "role": ROLE_NAMES.get(progress.role, "unknown"),
        "kid": progress.key_id,
        "stage": STAGE_NAMES.get(progress.stage, "unknown"),
        "seconds_left": progress.seconds_left,
        "previous": previous,
    }


def _active(role: pb.RoleStatus) -> str | None:
    return next((key.key_id for key in role.keys if key.stage == pb.STAGE_ACTIVE), None)
