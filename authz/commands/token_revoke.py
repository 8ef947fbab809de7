"""What `deputy token revoke` does."""

from dataclasses import dataclass
from pathlib import Path

from authz.commands.api import read_token
from authz.commands.output import Output
from authz.commands.switch import revoke
from authz.commands.where import Where
from authz.errors import ConfigError


@dataclass(frozen=True, slots=True)
class What:
    """What is to be revoked: exactly one of these; `lineage` belongs to `file`."""

    file: Path | None
    lineage: bool
    jti: str | None
    txn: str | None
    task: str | None

    def body(self) -> dict[str, object]:
        """Return what the service is told.

        Raises:
            ConfigError: if it is not exactly one thing.
        """
        named = {"token": self.jti, "txn": self.txn, "task": self.task}
        given = {kind: subject for kind, subject in named.items() if subject is not None}
        if len(given) + (self.file is not None) != 1:
            raise ConfigError("name one thing: FILE, --jti, --txn or --task")
        if self.file is not None:
            return {"kind": "txn" if self.lineage else "token", "token": read_token(self.file)}
        if self.lineage:
            raise ConfigError("--lineage belongs to FILE; for a transaction that you know, use --txn")
        ((kind, subject),) = given.items()
        return {"kind": kind, "subject": subject}


def revoke_token(where: Where, what: What, reason: str, *, wait: bool, output: Output) -> int:
    """Revoke, and return the exit code."""
    return revoke(where, what.body(), reason, wait=wait, output=output)
