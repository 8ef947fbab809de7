"""JSON that a stranger wrote, shown line by line to who decides about it.

- It is shown as it is, and so that it can be told from what only looks like it: characters that a terminal
  would not show, or would act on, are written as their codes; a line that is too long goes on behind a mark,
  so that no text fills a line and then looks like another member.
- Who sees letters that are written from right to left is told so, for a terminal may move what stands between
  them.
"""

import json
from typing import Final
from unicodedata import bidirectional

from rich.cells import chop_cells

from authz.visible import escaped

# The column of the titles with its space, where the stranger writes nothing, and what stands there.
TITLES: Final = 12
GOES_ON: Final = "  goes on"
FROM_RIGHT: Final = "there are letters from right to left: -o json writes each as its code"
_NARROWEST: Final = 20
_FROM_RIGHT: Final = frozenset({"R", "AL", "AN"})


def json_lines(title: str, value: object, width: int) -> list[tuple[str, object]]:
    """Return a value line by line, below a title: a text in it cannot begin a line of its own."""
    text = escaped(json.dumps(value, indent=2, ensure_ascii=False), line_end="\n")
    lines: list[tuple[str, object]] = []
    for line in text.split("\n"):
        first, *more = chop_cells(line, max(width, _NARROWEST))
        lines += [("" if lines else title, first), *((GOES_ON, each) for each in more)]
    if is_from_right(text):
        lines.append(("note", FROM_RIGHT))
    return lines


def is_from_right(text: str) -> bool:
    """Say whether a terminal may write some of it from right to left."""
    return any(bidirectional(each) in _FROM_RIGHT for each in text)
