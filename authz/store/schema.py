"""The tables of the state, version 4.

- `user_version` holds the version; `application_id` says that the file is ours ("DPTY").
- A file of an older version is brought up to this one by the statements of each step between, in order.
- Times are RFC 3339 in UTC with microseconds, so that text order is time order and an operator can read
  them. Sets are JSON lists, sorted.
- `changes` names each thing that changed, in the order of the changes: others follow it to read again only
  what is new. `meta.epoch` is the newest change by which somebody could lose a right; `meta.term` counts the
  processes that wrote here, one after the other.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, MetaData, String, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

SCHEMA_VERSION: Final = 4
APPLICATION_ID: Final = int.from_bytes(b"DPTY")
FIRST_EPOCH: Final = 1

METADATA: Final = MetaData()

AGENTS: Final = Table(
    "agents",
    METADATA,
    Column("name", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("sponsor", String, nullable=False),
    Column("purpose", String, nullable=False),
    Column("ceiling", String, nullable=False),
    Column("autonomous", Boolean, nullable=False),
    # SPIFFE IDs have no space, so one separates them.
    Column("hosts", String, nullable=False),
    Column("max_depth", Integer, nullable=False),
    Column("expires_at", String),
    Column("sandbox", String),
    Column("retired_at", String),
    # [[issuer, client_id], …]
    Column("clients", String, nullable=False, server_default="[]"),
    # Where it is changed: "file" is deputy.yaml, "api" the administration.
    Column("managed_by", String, nullable=False, server_default="file"),
)

TASKS: Final = Table(
    "tasks",
    METADATA,
    Column("id", String, primary_key=True),
    Column("agent", String, ForeignKey("agents.name"), nullable=False),
    Column("human", String),
    Column("workload", String, nullable=False),
    Column("started_at", String, nullable=False),
    Column("deadline", String, nullable=False),
    Column("ended_at", String),
    Column("thumbprint", String),
    Column("origin", String),
    Index("tasks_deadline", "deadline"),
    Index("tasks_agent", "agent"),
)

CONSENTS: Final = Table(
    "consents",
    METADATA,
    Column("id", String, primary_key=True),
    Column("human", String, nullable=False),
    Column("agent", String, ForeignKey("agents.name"), nullable=False),
    Column("scopes", String, nullable=False),
    Column("tools", String),
    Column("delegates_to", String, nullable=False),
    Column("created_at", String, nullable=False),
    Column("expires_at", String, nullable=False),
    Column("revoked_at", String),
    Index("consents_human", "human", "created_at"),
    Index("consents_agent", "agent"),
    Index("consents_expires_at", "expires_at"),
)

WITHDRAWALS: Final = Table(
    "withdrawals",
    METADATA,
    Column("n", Integer, primary_key=True),
    Column("kind", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("before", Integer),
    Column("reason", String, nullable=False),
    Column("by", String, nullable=False),
    Column("at", String, nullable=False),
    Column("expires_at", String),
    Column("released_at", String),
    Column("released_by", String),
    Column("release_reason", String),
    Column("human", String),
    Index("withdrawals_subject", "kind", "subject"),
    Index("withdrawals_expires_at", "expires_at"),
    # A number is never given out twice, also when the rows are gone.
    sqlite_autoincrement=True,
)

CHANGES: Final = Table(
    "changes",
    METADATA,
    Column("n", Integer, primary_key=True),
    Column("kind", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("at", String, nullable=False),
    Index("changes_at", "at"),
    sqlite_autoincrement=True,
)

META: Final = Table(
    "meta",
    METADATA,
    Column("name", String, primary_key=True),
    Column("value", Integer, nullable=False),
)

FIRST_META: Final = f"INSERT INTO meta (name, value) VALUES ('term', 0), ('epoch', {FIRST_EPOCH:d})"  # noqa: S608 - a number of ours


def create_statements(*tables: Table) -> tuple[str, ...]:
    """Return what makes some tables and their indexes."""
    dialect = sqlite.dialect()
    statements: list[str] = []
    for table in tables:
        statements.append(str(CreateTable(table).compile(dialect=dialect)))
        indexes = sorted(table.indexes, key=str)
        statements.extend(str(CreateIndex(index).compile(dialect=dialect)) for index in indexes)
    return tuple(statements)


# As version 3 made it: what a later version adds comes by its own step.
_WITHDRAWALS_3: Final = (
    """CREATE TABLE withdrawals (
    n INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, kind VARCHAR NOT NULL, subject VARCHAR NOT NULL,
    "before" INTEGER, reason VARCHAR NOT NULL, "by" VARCHAR NOT NULL, at VARCHAR NOT NULL, expires_at VARCHAR,
    released_at VARCHAR, released_by VARCHAR, release_reason VARCHAR
)""",
    "CREATE INDEX withdrawals_subject ON withdrawals (kind, subject)",
    "CREATE INDEX withdrawals_expires_at ON withdrawals (expires_at)",
)

# What brings a file from one version to the next.
MIGRATIONS: Final[Mapping[int, tuple[str, ...]]] = {
    1: ("ALTER TABLE tasks ADD COLUMN origin VARCHAR",),
    2: (
        "ALTER TABLE agents ADD COLUMN clients VARCHAR DEFAULT '[]' NOT NULL",
        "ALTER TABLE agents ADD COLUMN managed_by VARCHAR DEFAULT 'file' NOT NULL",
        # Who changes these tables writes their form of version 3 here, as it was.
        *create_statements(CONSENTS),
        *_WITHDRAWALS_3,
        *create_statements(CHANGES, META),
        FIRST_META,
    ),
    # Whose what was withdrawn before is, nobody can say any more.
    3: ("ALTER TABLE withdrawals ADD COLUMN human VARCHAR",),
}
