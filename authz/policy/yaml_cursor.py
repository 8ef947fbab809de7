"""A place in a YAML document: reads what is there, or refuses it by line and key.

- Every refusal is one sentence: the line, the key, what is wrong, what to write instead.
- Nothing is skipped: a mapping with fixed keys refuses every other key.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from authz.policy.yaml_strict import Document, Path

_SHOWN = 80

Refuse = Callable[[str], Exception]


@dataclass(frozen=True, slots=True)
class Cursor:
    """A value of a document, and where it stands; `error` makes the exception of the file's owner."""

    value: object
    path: Path
    document: Document
    error: Refuse

    def refuse(self, problem: str) -> NoReturn:
        """Raise the owner's error, with line and key before the problem."""
        where = ".".join(_named(str(part)) for part in self.path)
        line = self.document.lines.get(self.path, 1)
        raise self.error(f"line {line}, {where}: {problem}" if where else f"line {line}: {problem}")

    def members(self, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, "Cursor"]:
        """Read a mapping whose keys are fixed."""
        mapping = self._mapping()
        for key in mapping:
            if key not in required and key not in optional:
                self._at(key).refuse(f"an unknown key; known here: {', '.join([*required, *optional])}")
        for key in required:
            if key not in mapping:
                self.refuse(f"the key {key!r} is missing")
        return {key: self._at(key) for key in mapping}

    def entries(self, name: re.Pattern[str], form: str, at_most: int) -> dict[str, "Cursor"]:
        """Read a mapping whose keys are names of the file's author; an empty one is refused."""
        mapping = self._mapping()
        if not mapping:
            self.refuse(
                "nothing stands here, so nothing would ever be allowed: add an entry or take the key out"
            )
        if len(mapping) > at_most:
            self.refuse(f"more than {at_most} entries")
        for key in mapping:
            if not name.fullmatch(key):
                self._at(key).refuse(f"not {form}: {key[:_SHOWN]!r}")
        return {key: self._at(key) for key in mapping}

    def items(self, at_most: int) -> list["Cursor"]:
        """Read a list; an empty one and one that repeats itself are refused."""
        if not isinstance(self.value, list):
            self.refuse(f"a list is expected, such as [a, b], not {_shown(self.value)}")
        if not self.value:
            self.refuse(
                "nothing stands here, so nothing would ever be allowed: add an item or take the key out"
            )
        if len(self.value) > at_most:
            self.refuse(f"more than {at_most} items")
        items = [
            Cursor(item, (*self.path, at), self.document, self.error) for at, item in enumerate(self.value)
        ]
        seen: set[tuple[bool, object]] = set()
        for item in items:
            if isinstance(item.value, dict | list):
                continue
            # A boolean equals 1 in Python; in JSON it does not.
            key = (isinstance(item.value, bool), item.value)
            if key in seen:
                item.refuse(f"{_shown(item.value)} stands twice: keep one")
            seen.add(key)
        return items

    def text(self, form: str, pattern: re.Pattern[str]) -> str:
        """Read a text of some form."""
        if not isinstance(self.value, str) or not pattern.fullmatch(self.value):
            self.refuse(f"not {form}: {_shown(self.value)}")
        return self.value

    def choice(self, choices: Sequence[str], what: str) -> str:
        """Read one of some words."""
        if not isinstance(self.value, str) or self.value not in choices:
            self.refuse(f"{_shown(self.value)} is not {what}: use one of {', '.join(sorted(choices))}")
        return self.value

    def number(self) -> int | float:
        """Read a number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            self.refuse(f"a number is expected, not {_shown(self.value)}")
        return self.value

    def _mapping(self) -> dict[str, object]:
        if not isinstance(self.value, dict):
            self.refuse(f"a mapping of keys to values is expected, not {_shown(self.value)}")
        return self.value

    def _at(self, key: str) -> "Cursor":
        return Cursor(self._mapping()[key], (*self.path, key), self.document, self.error)


def _named(key: str) -> str:
    """Show a key as it stands where that is safe to print."""
    return key if key.isprintable() and len(key) <= _SHOWN else repr(key[:_SHOWN])


def _shown(value: object) -> str:
    """Show a value as YAML's author knows it, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"{value!r}"[:_SHOWN]
