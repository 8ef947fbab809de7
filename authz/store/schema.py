"""The tables of the state, version 2.

- `user_version` holds the version; `application_id` says that the file is ours ("DPTY").
- A file of an older version is brought up to this one by the statements of each step between, in order.
- Times are RFC 3339 in UTC with microseconds, so that text order is time order and an operator can read
  them.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, MetaData, String, Table

SCHEMA_VERSION: Final = 2
APPLICATION_ID: Final = int.from_bytes(b"DPTY")

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

# What brings a file from one version to the next.
MIGRATIONS: Final[Mapping[int, tuple[str, ...]]] = {1: ("ALTER TABLE tasks ADD COLUMN origin VARCHAR",)}
