"""How many calls some work makes: what a bomb can make many of, and no clock can say on a shared machine."""

import sys
from collections.abc import Callable


def count_calls(work: Callable[[], object]) -> int:
    """Run the work, and count the calls of functions, those of Python and those of C."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count
