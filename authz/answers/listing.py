"""What a list names, and the same list with only what its reader could use.

- Four lists of MCP (tools, resources, their templates, prompts), and the list of models of OpenAI and
  Anthropic. A result may hold several; each is cut.
- A name is read by the functions that the inspector reads it with: what no call could name is taken out,
  and so is an element with two readings. A gateway's prefix is taken off for the policy, not for the client.
- An element that cannot be written anew is taken out; so is a tool that cannot be hashed, where hashes are
  asked for.
- A tool that is listed twice alike is listed once, and one that is listed in two ways not at all: nobody
  could say which of the two is called.
- What a model's provider says beside its list is left out: another member may hold the list again.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from authz.answers.json_answer import unreadable, write
from authz.errors import AnswerError, InspectionError
from authz.pins.declared import Declared
from authz.policy.names import MAX_NAME, MAX_NAMES
from authz.policy.query import Kind
from authz.protocols.llm_facts import MODEL_NAME
from authz.protocols.mcp_target import MAX_NAME_CHARS, MAX_URI_CHARS, plain_name, tool_name
from authz.protocols.members import MAX_FOLDED_CHARS, MemberNames
from authz.protocols.reader_codes import MCP
from authz.protocols.route import Route
from identity.canonical import CanonicalJsonError

Element = Mapping[str, object]
Object = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _Member:
    """Where a list stands, and which text of each element names it."""

    kind: Kind
    name: str
    read_name: Callable[[str, Route], str]


def _uri(value: str, _: Route) -> str:
    return plain_name(value, MAX_URI_CHARS, "a resource")


def _prompt(value: str, _: Route) -> str:
    return plain_name(value, MAX_NAME_CHARS, "a prompt")


def _model(value: str, _: Route) -> str:
    if not MODEL_NAME.fullmatch(value):
        raise unreadable("not the name of a model")
    return value


_OF_MCP: Final[Mapping[str, _Member]] = {
    "tools": _Member("tool", "name", tool_name),
    "resources": _Member("resource", "uri", _uri),
    "resourceTemplates": _Member("resource_template", "uriTemplate", _uri),
    "prompts": _Member("prompt", "name", _prompt),
}
# Which of them answers which method.
MEMBER_OF: Final[Mapping[str, str]] = {
    "tools/list": "tools",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
}
_OF_MODELS: Final[Mapping[str, _Member]] = {"data": _Member("model", "id", _model)}
_RESULT: Final = MemberNames.of(*_OF_MCP, "nextCursor", "_meta", "ttlMs", "cacheScope", "resultType")
_ELEMENT: Final = MemberNames.of(
    *("name", "uri", "uriTemplate", "title", "description", "mimeType", "size", "icons", "arguments"),
    *("inputSchema", "outputSchema", "annotations", "execution", "_meta"),
)
# What results of the modern era have, which may be kept unless they say whose they are.
_MODERN: Final = frozenset({"ttlMs", "cacheScope", "resultType"})
_PAGES: Final = ("first_id", "last_id")
# Of a result; each is written by itself.
MAX_MEMBERS: Final = 256


@dataclass(frozen=True, slots=True)
class NamedList:
    """One list: what the policy calls each element, and each as it is written."""

    kind: Kind
    names: tuple[str, ...]
    written: tuple[bytes, ...] = field(repr=False)

    def only(self, visible: Collection[str]) -> bytes:
        """Write what is visible, in its order."""
        kept = [each for name, each in zip(self.names, self.written, strict=True) if name in visible]
        return b"[" + b",".join(kept) + b"]"


@dataclass(frozen=True, slots=True)
class Listing:
    """An object with lists in it."""

    # Each member as it is written, and its value, too, unless it is a list of ours.
    members: tuple[tuple[bytes, bytes | NamedList], ...] = field(repr=False)
    # What its tools are, where that was asked for.
    declared: tuple[Declared, ...] = field(default=(), repr=False)

    @property
    def lists(self) -> tuple[NamedList, ...]:
        """The lists in it."""
        return tuple(value for _, value in self.members if isinstance(value, NamedList))

    def only(self, visible: Mapping[Kind, Collection[str]]) -> bytes:
        """Write the object with what is visible; a kind that is not there is not."""
        parts = [
            name + b":" + (value.only(visible.get(value.kind, ())) if isinstance(value, NamedList) else value)
            for name, value in self.members
        ]
        return b"{" + b",".join(parts) + b"}"


def read_result(result: Object, route: Route, required: str | None = None, *, declares: bool) -> Listing:
    """Read the result of an MCP answer; without `required` it may hold no list.

    Raises:
        AnswerError: with ANSWER_UNREADABLE, if a list is none, or is too long.
    """
    try:
        _RESULT.check_lookalikes(result, MCP, "a result")
    except InspectionError as error:
        raise unreadable(error.detail) from error
    if len(result) > MAX_MEMBERS:
        raise unreadable(f"a result with more than {MAX_MEMBERS} members")
    if required is not None and required not in result:
        raise unreadable(f"a result without {required!r}")
    if not _OF_MCP.keys().isdisjoint(result) and not _MODERN.isdisjoint(result):
        result = {**result, "cacheScope": "private"}
    return _read(result, _OF_MCP, route, declares=declares)


def read_models(document: Object, route: Route) -> Listing:
    """Read a list of models.

    Raises:
        AnswerError: with ANSWER_UNREADABLE, if it is none, or is too long.
    """
    if "data" not in document:
        raise unreadable("no list of models")
    known = {name: document[name] for name in ("object", "data", "has_more") if name in document}
    # They name models, and serve to ask for the next page.
    more = document.get("has_more") is True
    known |= {name: document[name] if more else None for name in _PAGES if name in document}
    return _read(known, _OF_MODELS, route, declares=False)


def _read(document: Object, of: Mapping[str, _Member], route: Route, *, declares: bool) -> Listing:
    members: list[tuple[bytes, bytes | NamedList]] = []
    declared: tuple[Declared, ...] = ()
    for name, value in document.items():
        if name not in of:
            members.append((write(name), write(value)))
            continue
        elements = list(_elements(name, value, of[name], route))
        if of[name].kind == "tool":
            elements = _unambiguous(elements)
            if declares:
                declared = tuple(_declared(elements))
                known = {each.name for each in declared}
                elements = [each for each in elements if each[0] in known]
        members.append((write(name), _written(of[name].kind, elements)))
    return Listing(tuple(members), declared)


def _elements(member: str, value: object, of: _Member, route: Route) -> Iterator[tuple[str, Element]]:
    if not isinstance(value, list) or not all(isinstance(element, dict) for element in value):
        raise unreadable(f"{member!r} is no list of objects")
    if len(value) > MAX_NAMES:
        raise unreadable(f"{member!r} names more than {MAX_NAMES}")
    # The elements of one list mostly have the same members.
    clear: dict[tuple[str, ...], bool] = {}
    # For all together: folding takes long, and a list has room for thousands of names to fold.
    left = MAX_FOLDED_CHARS
    for element in value:
        name = _name(element.get(of.name), of, route)
        # Of what is longer the policy cannot be asked, and so not of the whole list.
        if name is None or len(name) > MAX_NAME:
            continue
        members = tuple(element)
        if members not in clear:
            folded = sum(len(member) for member in members if not member.isascii())
            left -= folded
            clear[members] = (left >= 0 or not folded) and _has_no_lookalike(element)
        if clear[members]:
            yield name, element


def _name(value: object, of: _Member, route: Route) -> str | None:
    try:
        return of.read_name(value, route) if isinstance(value, str) else None
    except (AnswerError, InspectionError):
        return None


def _has_no_lookalike(element: Element) -> bool:
    try:
        _ELEMENT.check_lookalikes(element, MCP, "an element")
    except InspectionError:
        return False
    return True


def _unambiguous(elements: Sequence[tuple[str, Element]]) -> list[tuple[str, Element]]:
    first: dict[str, Element] = {}
    ambiguous: set[str] = set()
    for name, element in elements:
        known = first.setdefault(name, element)
        if known is not element and known != element:
            ambiguous.add(name)
    return [each for each in first.items() if each[0] not in ambiguous]


def _declared(elements: Sequence[tuple[str, Element]]) -> Iterator[Declared]:
    for name, element in elements:
        try:
            yield Declared.of(name, element)
        except CanonicalJsonError:
            continue


def _written(kind: Kind, elements: Sequence[tuple[str, Element]]) -> NamedList:
    names, written = [], []
    for name, element in elements:
        try:
            written.append(write(element))
        except AnswerError:
            continue
        names.append(name)
    return NamedList(kind, tuple(names), tuple(written))
