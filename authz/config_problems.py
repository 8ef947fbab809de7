"""What is wrong with a configuration, as sentences that say where and what to do.

- One sentence for each problem, with the key's full name; at most a handful, in the order of the file's keys.
- A value is never repeated. A key is, made printable: it may come from anywhere.
- An unknown key is told with the known one that it resembles.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final, cast

from pydantic import ValidationError

MAX_TOLD: Final = 10
_MAX_KEY: Final = 64

_WORDS: Final = {
    "missing": "is missing",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "string_type": "must be text: quote it",
    "path_type": "must be a path",
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "list_type": "must be a list",
    "timezone_aware": "must be a time with its zone, such as 2026-11-21T08:00:00Z",
    "datetime_from_date_parsing": "must be a time such as 2026-11-21T08:00:00Z",
    "datetime_parsing": "must be a time such as 2026-11-21T08:00:00Z",
}
_BOUNDS: Final = {
    "greater_than_equal": ("ge", "must be at least {}"),
    "less_than_equal": ("le", "must be at most {}"),
    "too_short": ("min_length", "needs at least {}"),
    "string_too_short": ("min_length", "must have at least {} character(s)"),
    "string_too_long": ("max_length", "must have at most {} characters"),
    "literal_error": ("expected", "must be {}"),
}

Schema = Mapping[str, Any]


def sentences(error: ValidationError, schema: Schema) -> str:
    """Say all that is wrong, in one line; `schema` is the JSON Schema of the configuration."""
    items = error.errors(include_url=False, include_input=False)
    told = [_sentence(cast("Mapping[str, Any]", item), schema) for item in items[:MAX_TOLD]]
    if len(items) > MAX_TOLD:
        told.append(f"and {len(items) - MAX_TOLD} more")
    return "; ".join(told)


def _sentence(item: Mapping[str, Any], schema: Schema) -> str:
    location: tuple[int | str, ...] = item["loc"]
    kind: str = item["type"]
    where = _where(location)
    if kind == "extra_forbidden":
        return f"{where}: unknown key; {_resembling(location, schema)}"
    if kind in _WORDS:
        return f"{where}: {_WORDS[kind]}"
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        return f"{where}: {words.format(item['ctx'][bound])}"
    return f"{where}: {str(item['msg']).removeprefix('Value error, ')}"


def _where(location: Iterable[int | str]) -> str:
    """Name a place as `services.tickets.hosts[0]`."""
    text = ""
    for part in location:
        if part == "[key]":
            text += " (the name)"
        elif isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{_printable(part)}"
    return text.removeprefix(".") or "deputy.yaml"


def _printable(key: str) -> str:
    return key if key.isprintable() and len(key) <= _MAX_KEY and " " not in key else repr(key[:_MAX_KEY])


def _resembling(location: tuple[int | str, ...], schema: Schema) -> str:
    known = sorted(properties_at(location[:-1], schema))
    close = get_close_matches(str(location[-1]), known, 1)
    return f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"


def properties_at(location: Iterable[int | str], schema: Schema) -> Schema:
    """Return the keys that a place of the configuration may have, with their schemas."""
    found: Schema = schema
    for part in location:
        below = found.get("properties", {}).get(part)
        if below is None:
            below = found.get("items" if isinstance(part, int) else "additionalProperties")
        if below is None:  # a mapping whose names have a form
            below = next(iter(found.get("patternProperties", {}).values()), {})
        found = resolve(below, schema)
    return cast("Schema", found.get("properties", {}))


def resolve(part: object, schema: Schema) -> Schema:
    """Follow references, and take the one form beside null."""
    if not isinstance(part, Mapping):
        return {}
    if "$ref" in part:
        return cast("Schema", schema["$defs"][str(part["$ref"]).rpartition("/")[2]])
    forms = [form for form in part.get("anyOf", []) if form != {"type": "null"}]
    return resolve(forms[0], schema) if len(forms) == 1 else part
