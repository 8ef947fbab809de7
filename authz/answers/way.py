"""Which way an answer goes, by whose call it is and by its status and headers.

- Lists are written anew, and so are the streams that a server may say anything on: that of a session (`GET`),
  where answers to earlier requests come again, lists among them, and `subscriptions/listen`.
- Whatever the status, what has a body is read: a server may put a list into any of 2xx, and into the text of
  an error. A redirect leads the client to where nobody looks, so it is refused; so is a switch of protocols.
- What answers any other call of MCP is read, too, where a client would take it for messages: clients hand a
  response to the request whose id it has, whichever request it came in answer to, so that a list could come
  as the answer to a call. A failure hands over nothing but an error, and passes.
- The body of a list has exactly one media type that we read, and no encoding. A header that says so twice
  says two things.
- Everything else passes. Where it can go on for long it is watched, so that it ends with the caller's rights.
"""

import re
from typing import Final, Literal

from authz.answers.json_answer import unreadable
from authz.answers.passage import Passage
from authz.errors import RequestError
from authz.headers import Headers
from authz.protocols.llm_members import MODELS_METHOD
from authz.protocols.mcp import STREAM_OPEN

# `list` and `events` are written anew. In the body of `error` only an error may be, or nothing.
Way = Literal["pass", "watch", "list", "events", "error"]

JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"
# More than that is watched: a server that says how long its answer is may still take its time.
MAX_UNWATCHED: Final = 16 << 10

_MEDIA_TYPE: Final = re.compile(
    r" *([a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+) *(?:; *charset *= *(\"?)utf-8\2 *)?"
)
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")
_STREAMS: Final = frozenset({STREAM_OPEN, "subscriptions/listen"})
_OK: Final = range(200, 300)
_FAILED: Final = range(400, 600)


def way_of(passage: Passage, status: int, headers: Headers, *, end_of_stream: bool) -> Way:
    """Return the way.

    Raises:
        AnswerError: with ANSWER_UNREADABLE, if the body of a list cannot be read.
    """
    if is_cut(passage):
        return _of_list(passage, status, headers, end_of_stream=end_of_stream)
    if passage.protocol == "mcp" and status not in _FAILED:
        if status not in _OK:
            raise unreadable(f"an answer with status {status}")
        if not end_of_stream and _length(headers) != 0 and _may_be_messages(headers):
            return _of_body(passage, headers)
    if end_of_stream or (status in {*_OK, *_FAILED} and _is_short(headers)):
        return "pass"
    return "watch"


def is_cut(passage: Passage) -> bool:
    """Say whether the answer is to a request for a list, or one in which any answer may come."""
    return is_list(passage) or is_replay(passage)


def is_list(passage: Passage) -> bool:
    """Say whether the answer is a list that is cut."""
    if passage.phase != "list":
        return False
    return passage.protocol == "mcp" or (passage.protocol == "llm" and passage.method == MODELS_METHOD)


def is_replay(passage: Passage) -> bool:
    """Say whether the answers to other requests may come in this one."""
    return passage.protocol == "mcp" and passage.method in _STREAMS


def _of_list(passage: Passage, status: int, headers: Headers, *, end_of_stream: bool) -> Way:
    if status not in _OK and status not in _FAILED:
        raise unreadable(f"a list with status {status}")
    if end_of_stream:
        return "pass"
    if status in _FAILED or _length(headers) == 0:
        return "error"
    return _of_body(passage, headers)


def _of_body(passage: Passage, headers: Headers) -> Way:
    try:
        content_type, encoding = headers.one("content-type"), headers.one("content-encoding")
    except RequestError as error:
        raise unreadable(error.detail) from error
    if encoding is not None and encoding.lower() != "identity":
        raise unreadable("a list in a content-encoding")
    if content_type is None:
        # An empty body has no type, and its end may come later than its beginning.
        return "error"
    match = _MEDIA_TYPE.fullmatch(content_type.lower())
    if match is not None and match[1] == JSON:
        return "list"
    if match is not None and match[1] == EVENT_STREAM and passage.protocol == "mcp":
        return "events"
    raise unreadable("a list of another content-type than it has")


def _may_be_messages(headers: Headers) -> bool:
    """Say whether some client looks for messages there; some look for the name of the type anywhere."""
    if "content-type" in headers.repeated:
        return True
    media_type = headers.last.get("content-type", b"").lower()
    return b"json" in media_type or b"event-stream" in media_type


def _is_short(headers: Headers) -> bool:
    media_type = headers.last.get("content-type", b"").partition(b";")[0].strip().lower()
    if media_type == EVENT_STREAM.encode() or media_type.startswith(b"application/grpc"):
        return False
    length = _length(headers)
    return length is not None and length <= MAX_UNWATCHED


def _length(headers: Headers) -> int | None:
    value = headers.last.get("content-length", b"")
    return int(value) if "content-length" not in headers.repeated and _LENGTH.fullmatch(value) else None
