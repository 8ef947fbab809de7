"""One core for who is measured, another for who asks, where the machine has two."""

import os


def pin(which: int) -> None:
    """Run on one core from now on; 0 is the first of those that this process may use, 1 the second."""
    if hasattr(os, "sched_setaffinity") and len(usable := sorted(os.sched_getaffinity(0))) > 1:
        os.sched_setaffinity(0, {usable[which % len(usable)]})
