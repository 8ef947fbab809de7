"""One of several processes that present the same sessions, started by tests/test_sessions.py.

It prints `ready`, waits for a line, presents all as one owner, and prints the numbers of those that are its.
Where the file is busy with the others it tries again, as whoever is told that it cannot be known does.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from authz.errors import StoreError
from authz.sessions.port import Owner
from authz.sessions.session_key import owner_key, session_key
from authz.store.sessions import Presented, SessionFile

TRIES = 100


def main(path: str, count: int, at: float, agent: str) -> None:
    file = SessionFile.open(Path(path))
    owner, now = owner_key(Owner(None, agent)), datetime.fromtimestamp(at, UTC)
    print("ready", flush=True)
    sys.stdin.readline()
    own = [n for n in range(count) if binds(file, session_key("docs", f"session-{n}"), owner, now)]
    print(" ".join(map(str, own)), flush=True)


def binds(file: SessionFile, session: bytes, owner: bytes, now: datetime) -> bool:
    for _ in range(TRIES):
        try:
            return file.bind([Presented(session, owner, int(now.timestamp()))]) == ["own"]
        except StoreError:
            continue
    raise TimeoutError


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
