"""One message of a server of MCP: a list, or something else that is passed on.

- Every message is written anew from what was read of it: of a response the id and the result or the error,
  and nothing beside them; of a request or a notification all of it.
- A message that is two things at once (a notification with a result, a result with an error), a batch, and an
  envelope with look-alikes of its members are refused: clients read them in different ways.
- Where a response is written as the SDKs write it, the text of its result is a key to what was read of the
  same text before.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from authz.answers.json_answer import read_object, unreadable, write
from authz.answers.known_lists import Asked, KnownLists
from authz.answers.listing import Listing, read_result
from authz.codes import Code
from authz.errors import AnswerError, InspectionError
from authz.protocols.json_rpc import is_id
from authz.protocols.members import MemberNames
from authz.protocols.reader_codes import MCP
from authz.protocols.route import Route

_ENVELOPE: Final = MemberNames.of("jsonrpc", "id", "method", "params", "result", "error")

_ID = r'(-?(?:0|[1-9][0-9]{0,14})|"[^"\\\x00-\x1f]{1,255}")'
# As pydantic and Go write it, and as the TypeScript SDK does.
_HEAD: Final = re.compile(r'\{"jsonrpc":"2\.0","id":' + _ID + r',"result":(?=\{)')
_BARE_HEAD: Final = '{"result":'
_TAIL_MARK: Final = ',"jsonrpc":"2.0","id":'
_TAIL: Final = re.compile(_TAIL_MARK.replace(".", r"\.") + _ID + r"\}")


@dataclass(frozen=True, slots=True)
class RpcList:
    """A response with a result, which may hold lists."""

    id: str | int
    listing: Listing

    def written(self, result: bytes) -> bytes:
        """Write it with a result that was written."""
        return b'{"jsonrpc":"2.0","id":' + write(self.id) + b',"result":' + result + b"}"


@dataclass(frozen=True, slots=True)
class RpcOther:
    """An error, or what is no response; as it is written."""

    written: bytes = field(repr=False)
    is_error: bool


def read_answer(text: str, asked: Asked, known: KnownLists) -> RpcList | RpcOther:
    """Read one message.

    Raises:
        AnswerError: with ANSWER_UNREADABLE, and the id if that could be read.
    """
    found = _split(text)
    if found is None:
        return _read(text, asked)
    rpc_id, result = found
    listing = known.find(asked, result)
    if listing is None:
        try:
            document = read_object(result)
        except AnswerError:
            # What stands there is more than one value, or none.
            return _read(text, asked)
        listing = _listing(document, rpc_id, asked)
        if listing.lists:
            known.keep(asked, result, listing)
    return RpcList(rpc_id, listing)


def _split(text: str) -> tuple[str | int, str] | None:
    """Return the id and the text where the result should be, if that is one value and nothing else."""
    if text.startswith(_BARE_HEAD):
        end = text.rfind(_TAIL_MARK)
        tail = _TAIL.fullmatch(text, end) if end > 0 else None
        return (_read_id(tail[1]), text[len(_BARE_HEAD) : end]) if tail is not None else None
    head = _HEAD.match(text)
    return (_read_id(head[1]), text[head.end() : -1]) if head is not None and text[-1] == "}" else None


def _read_id(text: str) -> str | int:
    return text[1:-1] if text.startswith('"') else int(text)


def _read(text: str, asked: Asked) -> RpcList | RpcOther:
    message = read_object(text)
    try:
        _ENVELOPE.check_lookalikes(message, MCP, "a message")
    except InspectionError as error:
        raise unreadable(error.detail) from error
    if message.get("jsonrpc") != "2.0":
        raise unreadable('a message without jsonrpc "2.0"')
    if len(message.keys() & {"method", "result", "error"}) != 1:
        raise unreadable("neither one request nor one response")
    if "method" in message:
        return RpcOther(write(message), is_error=False)
    rpc_id = message.get("id")
    if "error" in message:
        return RpcOther(_error(message["error"], rpc_id), is_error=True)
    if not is_id(rpc_id):
        raise unreadable("a response without id")
    return RpcList(rpc_id, _listing(message["result"], rpc_id, asked))


def _listing(result: object, rpc_id: str | int, asked: Asked) -> Listing:
    route = Route("", "mcp", asked.tool_prefix)
    try:
        if not isinstance(result, dict):
            raise unreadable("a result that is not an object")
        return read_result(result, route, asked.required, declares=asked.declares)
    except AnswerError as error:
        raise AnswerError(error.code, error.detail, rpc_id) from error


def _error(error: object, rpc_id: object) -> bytes:
    # A server that could not read the request does not know its id.
    if not is_id(rpc_id) and rpc_id is not None:
        raise unreadable("an error with an id that is none")
    known = rpc_id if is_id(rpc_id) else None
    if isinstance(error, dict) and type(error.get("code")) is int and isinstance(error.get("message"), str):
        told = {name: error[name] for name in ("code", "message", "data") if name in error}
        return write({"jsonrpc": "2.0", "id": known, "error": told})
    raise AnswerError(Code.ANSWER_UNREADABLE, "an error without code and message", known)
