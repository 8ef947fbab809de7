"""Is what a document shows what the command prints, but for what differs from run to run?

- Identifiers, times, durations, ports, hashes and directories are masked on both sides, nothing else.
- A line that holds only `…` stands for any number of lines.
"""

import re
from typing import Final

_MASKS: Final = (
    (re.compile(r"\b[0-9A-HJKMNP-TV-Z]{26}\b"), "ULID"),
    (re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z"), "TIME"),
    (re.compile(r"\b[0-9a-f]{12}(?:[0-9a-f]{52})?\b"), "HASH"),
    (re.compile(r"\b(127\.0\.0\.1|localhost):[0-9]+"), r"\1:PORT"),
    (re.compile(r"(?<![\w-])[A-Za-z0-9_-]{43}(?![\w-])"), "KEY"),
    (re.compile(r"\[ *[0-9]+\.[0-9] s\]"), "[SECONDS]"),
    (re.compile(r"\b[0-9]+ µs"), "MICROSECONDS"),
    (re.compile(r"(?<![.\w])[0-9]+ (?:d|h|min|s)\b(?: [0-9]+ (?:h|min|s)\b)?"), "DURATION"),
    (re.compile(r"\b[0-9]+ records\b"), "COUNT records"),
    (re.compile(r"\b(records +)[0-9]+ \(numbers 1 to [0-9]+\)"), r"\1COUNT"),
    (re.compile(r"\b(number|sequence|epoch) [0-9]+\b"), r"\1 COUNT"),
    (re.compile(r"\b(iat|exp)\": [0-9]{10}\b"), r"\1: SECONDS"),
    (re.compile(r"\"(txn|jti)\": \"[A-Za-z0-9_-]{22}\""), r"\1: NAME"),
    (re.compile(r"(?<=[ (])(?:/[^ /()]+)*/(?=\.demo/)"), ""),
    # The table of the demo: the end of the task's id, and the milliseconds.
    (re.compile(r"(?<= )[0-9A-HJKMNP-TV-Z]{6}(?= )"), "TASK"),
    (re.compile(r"(?<= )[0-9]+\.[0-9](?= )"), "MS"),
    (re.compile(r" +"), " "),
)  # fmt: skip
ANYTHING: Final = "…"


def masked(text: str) -> list[str]:
    """Return the lines of a text without what differs from run to run."""
    for pattern, word in _MASKS:
        text = pattern.sub(word, text)
    return [line.strip() for line in text.strip().splitlines()]


def first_difference(shown: str, printed: str) -> str | None:
    """Return the first line of a document that the command did not print, None if there is none."""
    lines, at, skipping = masked(printed), 0, False
    for line in masked(shown):
        if line == ANYTHING:
            skipping = True
            continue
        found = next((i for i in range(at, len(lines)) if lines[i] == line), None)
        if found is None or (found != at and not skipping):
            return f"shown {line!r}, printed {lines[at : at + 1]!r}"
        at, skipping = found + 1, False
    return None if skipping or at == len(lines) else f"printed and not shown: {lines[at]!r}"
