"""One of several processes that learn the same tools, each in words of its own.

It prints `ready`, waits for a line, learns its list, and prints how many of it are hidden.
"""

import sys
from pathlib import Path

from authz.errors import StoreError
from tests.pins_world import PinBook, declared

TRIES = 100


def main(directory: str, word: str, count: int) -> None:
    book = PinBook(Path(directory))
    tools = [declared(f"tool_{n}", description=word) for n in range(count)]
    print("ready", flush=True)
    sys.stdin.readline()
    hidden: list[str] = []
    for each in tools:
        for _ in range(TRIES):
            try:
                hidden += book.learn(each)
            except StoreError:
                continue
            break
    print(len(hidden), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
