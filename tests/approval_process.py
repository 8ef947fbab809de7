"""One of several processes that spend the same approvals, started by tests/test_store_approvals.py.

It prints `ready`, waits for a line, spends all, and prints the numbers of those that it was given.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from authz.store.approvals import ApprovalFile
from tests.approvals_world import asked


def main(path: str, count: int, at: float) -> None:
    file = ApprovalFile.open(Path(path))
    now = datetime.fromtimestamp(at, UTC)
    print("ready", flush=True)
    sys.stdin.readline()
    given = [n for n in range(count) if file.spend(asked(f'{{"number":{n}}}').key, now, "") is not None]
    print(" ".join(map(str, given)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
