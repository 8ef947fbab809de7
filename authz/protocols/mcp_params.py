"""The params of MCP methods, checked against the MCP schemas of all revisions that we know.

- A member has one type wherever it stands; the types are exact, so that `true` is not a number.
- A method takes the members that one of the schemas lists for it, plus `_meta`, and no other.
- `_meta` may hold anything but look-alikes of the members that the protocol itself gives a meaning.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from authz.approvals.prompt import INPUT
from authz.codes import Code
from authz.errors import InspectionError
from authz.protocols.json_rpc import Params
from authz.protocols.members import MemberNames
from authz.protocols.reader_codes import MCP

PROTOCOL_VERSION_META = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_META = "io.modelcontextprotocol/clientCapabilities"

_META = MemberNames.of(
    PROTOCOL_VERSION_META,
    CAPABILITIES_META,
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/logLevel",
    "io.modelcontextprotocol/related-task",
    "progressToken",
)
_NUMBER = (int, float)
_TYPES: Mapping[str, tuple[type, ...]] = {
    "_meta": (dict,),
    "argument": (dict,),
    "arguments": (dict,),
    "capabilities": (dict,),
    "clientInfo": (dict,),
    "context": (dict,),
    "createdAt": (str,),
    "cursor": (str,),
    "inputResponses": (dict,),
    "lastUpdatedAt": (str,),
    "level": (str,),
    "message": (str,),
    "name": (str,),
    "notifications": (dict,),
    "pollInterval": _NUMBER,
    "progress": _NUMBER,
    "progressToken": (str, int),
    "promptsListChanged": (bool,),
    "protocolVersion": (str,),
    "reason": (str,),
    "ref": (dict,),
    "requestId": (str, int),
    "requestState": (str,),
    "resourceSubscriptions": (list,),
    "resourcesListChanged": (bool,),
    "status": (str,),
    "statusMessage": (str,),
    "task": (dict,),
    "taskId": (str,),
    "title": (str,),
    "toolsListChanged": (bool,),
    "total": _NUMBER,
    "ttl": (int, float, type(None)),
    "type": (str,),
    "uri": (str,),
    "value": (str,),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """What one kind of object must and may have."""

    required: frozenset[str]
    members: MemberNames

    @classmethod
    def of(cls, required: str = "", optional: str = "") -> "Shape":
        """Name the members, separated by spaces."""
        needed = required.split()
        return cls(frozenset(needed), MemberNames.of(*needed, *optional.split()))

    def check(self, members: Params, what: str) -> None:
        """Check names and types.

        Raises:
            InspectionError: with MCP_PARAMS or MCP_LOOKALIKE_KEY.
        """
        self.members.check(members, MCP, what)
        if not self.required <= members.keys():
            missing = min(self.required - members.keys())
            raise InspectionError(Code.MCP_PARAMS, f"{what} without {missing!r}")
        for name, value in members.items():
            if type(value) not in _TYPES[name]:
                raise InspectionError(Code.MCP_PARAMS, f"{what} with {name!r} of the wrong type")


def shows_urls(params: Params) -> bool:
    """Say whether the client declares that it can show a URL to its person (modern era).

    A client whose person did not want to look is not made to show it again: it would be asked in turns.
    """
    answers = params.get("inputResponses")
    answer = answers.get(INPUT) if isinstance(answers, dict) else None
    if isinstance(answer, dict) and answer.get("action") in {"decline", "cancel"}:
        return False
    capabilities = meta_of(params).get(CAPABILITIES_META)
    elicitation = capabilities.get("elicitation") if isinstance(capabilities, dict) else None
    return isinstance(elicitation, dict) and isinstance(elicitation.get("url"), dict)


def meta_of(params: Params) -> Mapping[str, object]:
    """Return `_meta`, or nothing.

    Raises:
        InspectionError: if it is not an object, or has a look-alike of a member of the protocol.
    """
    meta = params.get("_meta")
    if meta is None and "_meta" not in params:
        return {}
    if not isinstance(meta, dict):
        raise InspectionError(Code.MCP_PARAMS, "_meta that is not an object")
    _META.check_lookalikes(meta, MCP, "_meta")
    return meta
