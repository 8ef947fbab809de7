"""YAML with one reading: the subset that YAML 1.1 and 1.2 read alike, and that a person reads as it stands.

- The bytes are UTF-8 without byte order mark, at most `max_bytes`, and hold exactly one document.
- No tags, no anchors, no aliases, no merge keys: nothing is built, nothing grows.
- No key twice in a mapping; a key is text.
- A plain scalar is null, true, false, a decimal number or text. What versions of YAML read differently
  (`yes`, `off`, `010`, `1:30`) must be quoted.
- Integers are within ±(2^53-1) and floats are finite, so that every reader of the data sees the same number.
- The line of every value is kept, for error messages.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Final

import yaml

from identity.strict_json import MAX_SAFE_INTEGER

MAX_DEPTH: Final = 32
_QUOTED: Final = ("'", '"', "|", ">")

_NULL: Final = re.compile(r"~|null|")
_BOOLEAN: Final = re.compile(r"true|false")
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,15})")
_FLOAT: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,15})\.[0-9]{1,17}(?:[eE][-+][0-9]{1,3})?")
_AMBIGUOUS: Final = re.compile(
    r"y|n|yes|no|on|off|true|false|null"  # in any other case than the two above
    r"|[-+]?\.(?:inf|nan)"
    r"|[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?(?:e[-+]?[0-9]+)?|[-+]?\.[0-9][0-9_]*(?:e[-+]?[0-9]+)?"
    r"|[-+]?0[box][0-9a-f_]+"
    r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"
    r"|<<|=",
    re.IGNORECASE,
)

Path = tuple[str | int, ...]


class YamlError(ValueError):
    """Not YAML that has one reading only; the message names the line."""

    def __init__(self, line: int, message: str) -> None:
        """Put the line before the text."""
        super().__init__(f"line {line}: {message}")
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """A value, and the line on which each part of it begins."""

    value: object
    lines: Mapping[Path, int]


def load_yaml(data: bytes, max_bytes: int) -> object:
    """Read one YAML document.

    Raises:
        YamlError: if the bytes are not YAML, or are YAML that two readers could read in two ways.
    """
    return parse_yaml(data, max_bytes).value


def parse_yaml(data: bytes, max_bytes: int) -> Document:
    """Read one YAML document and remember the lines.

    Raises:
        YamlError: if the bytes are not YAML, or are YAML that two readers could read in two ways.
    """
    if len(data) > max_bytes:
        raise YamlError(1, f"the file is larger than {max_bytes} bytes")
    try:
        text = data.decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise YamlError(line, "the file is not UTF-8") from error
    if text.startswith("\ufeff"):
        raise YamlError(1, "the file begins with a byte order mark: save it without one")
    try:
        return _Builder(text).document()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise YamlError(line, f"not YAML: {error.problem or error.context or 'malformed'}") from error
    except yaml.YAMLError as error:
        raise YamlError(1, "not YAML: a character that YAML does not allow") from error


class _Builder:
    """Turns events into plain values; the depth is bounded before it recurs."""

    def __init__(self, text: str) -> None:
        # libyaml, where the wheel has it, is ten times as fast; both give the same events.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=loader)
        self._lines: dict[Path, int] = {}

    def document(self) -> Document:
        """Read the stream: one document with one value."""
        event = self._next()
        while isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent):
            event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            raise YamlError(1, "the file is empty: nothing can be read from it")
        value = self._value(event, ())
        self._next()  # the end of the document
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            raise YamlError(_line(event), "a second document: keep one in the file")
        return Document(value, self._lines)

    def _next(self) -> yaml.Event:
        return next(self._events)

    def _value(self, event: yaml.Event, path: Path) -> object:
        line = _line(event)
        if not isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            raise YamlError(line, "an alias: write the value out")
        if event.anchor is not None:
            raise YamlError(line, f"the anchor {event.anchor!r}: write the value out where it is used")
        if event.tag is not None:
            raise YamlError(line, f"the tag {event.tag!r}: tags are not accepted")
        if len(path) > MAX_DEPTH:
            raise YamlError(line, f"nested deeper than {MAX_DEPTH}")
        self._lines[path] = line
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        return self._mapping(path) if isinstance(event, yaml.MappingStartEvent) else self._sequence(path)

    def _mapping(self, path: Path) -> dict[str, object]:
        mapping: dict[str, object] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._key(event)
            if key in mapping:
                raise YamlError(_line(event), f"the key {key!r} stands twice: keep one")
            mapping[key] = self._value(self._next(), (*path, key))
            # The line of a member is that of its key, where a person looks for it.
            self._lines[*path, key] = _line(event)
        return mapping

    def _key(self, event: yaml.Event) -> str:
        line = _line(event)
        if not isinstance(event, yaml.ScalarEvent) or event.anchor is not None or event.tag is not None:
            raise YamlError(line, "a key that is not plain text")
        key = _scalar(event)
        if not isinstance(key, str):
            raise YamlError(line, f"the key {event.value!r} is not text: quote it")
        return key

    def _sequence(self, path: Path) -> list[object]:
        items: list[object] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _scalar(event: yaml.ScalarEvent) -> object:
    """Resolve a scalar by YAML 1.2's core rules, as far as YAML 1.1 agrees."""
    text: str = event.value
    if event.style in _QUOTED:
        return text
    if _NULL.fullmatch(text):
        return None
    if _BOOLEAN.fullmatch(text):
        return text == "true"
    if _INTEGER.fullmatch(text) and abs(integer := int(text)) <= MAX_SAFE_INTEGER:
        return integer
    if _FLOAT.fullmatch(text) and isfinite(number := float(text)):
        return number
    if _AMBIGUOUS.fullmatch(text):
        raise YamlError(
            _line(event), f"{text!r} is read differently by different programs: quote it, or write it plainly"
        )
    return text
