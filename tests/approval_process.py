"""One of several processes that spend the same approvals, started by tests/test_store_approvals.py.

It prints `ready`, waits for a line, spends all, and prints the numbers of those that it was given. Where the
file is busy with the others it tries again, as whoever is answered 503 does.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from authz.approvals.key import ApprovalKey
from authz.errors import StoreError
from authz.store.approvals import ApprovalFile
from tests.approvals_world import asked

TRIES = 100


def main(path: str, count: int, at: float) -> None:
    file = ApprovalFile.open(Path(path))
    now = datetime.fromtimestamp(at, UTC)
    print("ready", flush=True)
    sys.stdin.readline()
    given = [n for n in range(count) if spends(file, asked(f'{{"number":{n}}}').key, now)]
    print(" ".join(map(str, given)), flush=True)


def spends(file: ApprovalFile, key: ApprovalKey, now: datetime) -> bool:
    for _ in range(TRIES):
        try:
            return file.spend(key, now, "") is not None
        except StoreError:
            continue
    raise TimeoutError


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
