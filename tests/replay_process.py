"""One of several processes that show the same things to one memory, started by tests/test_replay.py.

It prints `ready`, waits for a line, shows everything, and prints how often it was the first.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from authz.store.replay import ReplayFile


def main(path: str, count: int, at: float, presenter: str) -> None:
    memory = ReplayFile.open(Path(path))
    now = datetime.fromtimestamp(at, UTC)
    print("ready", flush=True)
    sys.stdin.readline()
    first = [
        number
        for number in range(count)
        if memory.first_time("dpop", f"proof {number}", int(at) + 60, presenter=presenter, now=now)
    ]
    print(" ".join(map(str, first)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
