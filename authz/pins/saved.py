"""An answer to `tools/list` that somebody saved: from a server, or from where its code is reviewed.

- It is the answer, its `result`, or its list of tools; as JSON, never as a stream.
- What could be read in two ways is refused, and so is a name that stands twice: nobody could say which of the
  two was reviewed.
"""

from typing import Final

from authz.errors import AuthzError
from authz.pins.declared import Declared, is_tool_name
from identity.strict_json import Limits, StrictJsonError, loads

MAX_SAVED: Final = 16 << 20
_LIMITS: Final = Limits(depth=64, values=1_000_000, keys=500_000)


class SavedListError(AuthzError):
    """What was saved is no list of tools."""


def parse_saved(data: bytes, prefix: str = "") -> tuple[Declared, ...]:
    """Read the tools; `prefix` is what a gateway put before their names.

    Raises:
        SavedListError: if it is none, or could be read in two ways.
    """
    if len(data) > MAX_SAVED:
        raise SavedListError(f"a list of tools of more than {MAX_SAVED >> 20} MiB")
    try:
        value = loads(data, _LIMITS)
    except StrictJsonError as error:
        raise SavedListError(
            f"no JSON that has one reading: {error}; save the answer to tools/list, not a stream of events"
        ) from error
    tools = _tools(value)
    found = tuple(_declared(tool, prefix) for tool in tools)
    names = [each.name for each in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SavedListError(f"the tool {twice!r} stands in it twice")
    return found


def _tools(value: object) -> list[object]:
    for member in ("result", "tools"):
        if isinstance(value, dict) and member in value:
            value = value[member]
    if not isinstance(value, list) or not value:
        raise SavedListError("no answer to tools/list: there are no tools in it")
    return value


def _declared(tool: object, prefix: str) -> Declared:
    name = tool.get("name") if isinstance(tool, dict) else None
    if not isinstance(tool, dict) or not isinstance(name, str):
        raise SavedListError("a tool that is no object with a name")
    if not name.startswith(prefix):
        raise SavedListError(f"the tool {name[:128]!r} lacks the prefix {prefix!r}")
    if not is_tool_name(plain := name.removeprefix(prefix)):
        raise SavedListError(f"not the name of a tool: {name[:128]!r}")
    return Declared.of(plain, tool)
