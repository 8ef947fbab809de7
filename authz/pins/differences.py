"""What changed between two declarations of a tool, in words that somebody reads before they accept it.

- Each line stands for one place; what it quotes of a declaration is cut, and holds nothing that a terminal
  would act on, or not show.
- There are so many lines at most; how many more there would be is said.
- `true` is not `1`, and the order of members is no difference.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from authz.visible import escaped
from identity.canonical import canonical_json

MAX_LINES: Final = 16
_QUOTED: Final = 96
# What stands before the first difference of two long texts.
_BEFORE: Final = 24
_MISSING: Final = object()
_ARGUMENTS: Final = ("inputSchema", "properties")
_REQUIRED: Final = ("inputSchema", "required")


@dataclass(frozen=True, slots=True)
class _Place:
    where: tuple[str, ...]
    before: object
    after: object


def differences(before: Mapping[str, object], after: Mapping[str, object]) -> tuple[str, ...]:
    """Return the lines; none where both are the same."""
    lines: list[str] = []
    more = 0
    for place in _places(before, after, ()):
        # A server can make thousands, and whoever reviews waits for each that is written.
        some = list(islice(_lines(place), MAX_LINES - len(lines)))
        lines += some
        more += _count(place) - len(some)
    return (*lines, f"and {more} more") if more else tuple(lines)


def quoted(value: object) -> str:
    """Write a value of a declaration in one short line."""
    return _cut(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")))


def _cut(text: str) -> str:
    shown = escaped(text[:_QUOTED])
    return shown if len(text) <= _QUOTED else f"{shown}… ({len(text)} characters)"


def _places(before: object, after: object, where: tuple[str, ...]) -> Iterator[_Place]:
    if not (isinstance(before, dict) and isinstance(after, dict)):
        if before is _MISSING or after is _MISSING or canonical_json(before) != canonical_json(after):
            yield _Place(where, before, after)
        return
    for name in sorted({**before, **after}, key=lambda each: _rank(where, each)):
        yield from _places(before.get(name, _MISSING), after.get(name, _MISSING), (*where, name))


def _rank(where: tuple[str, ...], name: str) -> tuple[int, str]:
    """What a model reads first stands first: the end of a long list is where somebody would hide it."""
    first = {"description": 0, "title": 1, "inputSchema": 2, "annotations": 3}
    return (first.get(name, 4) if not where else 0, name)


def _lines(place: _Place) -> Iterator[str]:
    where, before, after = place.where, place.before, place.after
    if where == _REQUIRED:
        yield from _required(before, after)
        return
    name = _name(where)
    if before is _MISSING:
        yield f"{name} is new: {_value(after)}"
    elif after is _MISSING:
        yield f"{name} is gone: {_value(before)}"
    elif isinstance(before, str) and isinstance(after, str):
        yield f"{name} changed: {_texts(before, after)}"
    else:
        yield f"{name} changed: {_value(before)} → {_value(after)}"


def _count(place: _Place) -> int:
    """Count the lines that `_lines` has."""
    if place.where != _REQUIRED:
        return 1
    return len(_names(place.before) ^ _names(place.after)) or 1


def _name(where: tuple[str, ...]) -> str:
    """Name a place: an argument by its name, whatever else by its path."""
    if where[:2] == _ARGUMENTS and len(where) > 2:
        name, rest = f"argument {quoted(where[2])}", where[3:]
        return f"{name}: {_path(rest)}" if rest else name
    return _path(where)


def _path(where: tuple[str, ...]) -> str:
    return _cut("/".join(where))


def _value(value: object) -> str:
    """Write a value; of a schema its type says more than its beginning."""
    if not isinstance(value, dict):
        return quoted(value)
    kind, text = value.get("type"), value.get("description")
    said = [f"type {quoted(kind)}"] if kind is not None else []
    said += [f"description {quoted(text)}"] if text is not None else []
    return ", ".join(said) or quoted(value)


def _texts(before: str, after: str) -> str:
    """Write two texts from where they differ, or the end of a long one would never be seen."""
    same = 0
    while same < min(len(before), len(after)) and before[same] == after[same]:
        same += 1
    start = max(0, same - _BEFORE)
    parts = (f"{'…' if start else ''}{quoted(text[start:])}" for text in (before, after))
    return " → ".join(parts)


def _required(before: object, after: object) -> Iterator[str]:
    was, now = (_names(each) for each in (before, after))
    for name in sorted(now - was):
        yield f"argument {quoted(name)} must be given now"
    for name in sorted(was - now):
        yield f"argument {quoted(name)} may be left out now"
    if was == now:
        yield f"{_path(_REQUIRED)} changed: {_shown(before)} → {_shown(after)}"


def _names(value: object) -> set[str]:
    return {each for each in value if isinstance(each, str)} if isinstance(value, list) else set()


def _shown(value: object) -> str:
    return "nothing" if value is _MISSING else quoted(value)
