"""What `policy eval` and `policy explain` are asked: a policy input, or a CheckRequest that was captured.

- Both are JSON, and read strictly. A policy input says `"version": "deputy.input/v1"` and fits its schema.
- A CheckRequest is protobuf JSON (`raw_body` in base64, or `body` as text); members that this program does
  not know are ignored, as Envoy's newer fields are on the wire.
- It becomes bytes at once: authz/request.py alone reads it.
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf import json_format, message_factory

from authz.codes import Code
from authz.errors import RequestError
from authz.pb.ext_authz_pb2 import DESCRIPTOR
from authz.policy.query import INPUT_VERSION
from authz.policy.schema import problems
from identity.strict_json import Limits, StrictJsonError, loads

MAX_BYTES: Final = 8 << 20
_LIMITS: Final = Limits(depth=64, keys=65_536)
_BYTES: Final = frozenset({"raw_body", "rawBody", "raw_value", "rawValue"})
# Both alphabets, with or without padding, as protobuf JSON allows.
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/_-]{4})*(?:[A-Za-z0-9+/_-]{2}(?:==)?|[A-Za-z0-9+/_-]{3}=?)?")
_FORMS: Final = f'neither a policy input ("version": "{INPUT_VERSION}") nor a CheckRequest ("attributes": …)'


@dataclass(frozen=True, slots=True)
class PolicyInput:
    """A question as the policy sees it."""

    query: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Capture:
    """The bytes of a CheckRequest."""

    data: bytes


def read_question(file: Path) -> PolicyInput | Capture:
    """Read a file, or standard input where it is `-`.

    Raises:
        RequestError: if it is not one of the two.
        OSError: if it cannot be read.
    """
    if str(file) == "-":
        return parse_question(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input")
    with file.open("rb") as opened:
        return parse_question(opened.read(MAX_BYTES + 1), file.name)


def parse_question(data: bytes, name: str) -> PolicyInput | Capture:
    """Read the bytes of one.

    Raises:
        RequestError: if it is not one of the two.
    """
    if len(data) > MAX_BYTES:
        raise _refused(f"{name}: larger than {MAX_BYTES} bytes")
    try:
        value: Any = loads(data, _LIMITS)
    except StrictJsonError as error:
        raise _refused(f"{name}: not JSON that has one reading: {error}") from error
    match value:
        case {"version": version}:
            if version != INPUT_VERSION:
                raise _refused(f"{name}: a version that is not known here; write {INPUT_VERSION!r}")
            # A question that was written down before there was `payload` found nothing.
            return PolicyInput(_fitting({"payload": [], **value}, name))
        case {"attributes": _}:
            return Capture(_check_request(value, name))
        case _:
            raise _refused(f"{name}: {_FORMS}")


def _fitting(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if misfits := problems("input", value):
        raise _refused(f"{name}: {'; '.join(misfits)}")
    if value["phase"] == "visible":
        raise _refused(f"{name}: a question about a list has no verdict; ask about a call, in phase 'check'")
    return value


def _check_request(value: Mapping[str, Any], name: str) -> bytes:
    if not _bytes_are_whole(value):
        raise _refused(f"{name}: a body or a header's raw value that is not base64")
    check = DESCRIPTOR.services_by_name["Authorization"].methods_by_name["Check"]
    message = message_factory.GetMessageClass(check.input_type)()
    try:
        json_format.ParseDict(dict(value), message, ignore_unknown_fields=True)
        return message.SerializeToString()
    except (json_format.ParseError, ValueError, RecursionError) as error:
        raise _refused(
            f"{name}: not a CheckRequest in protobuf JSON: {str(error).partition('.')[0]}"
        ) from error


def _bytes_are_whole(value: object) -> bool:
    """Look at the texts that stand for bytes: protobuf's reader drops what is no base64 without a word."""
    if isinstance(value, list):
        return all(map(_bytes_are_whole, value))
    if not isinstance(value, dict):
        return True
    return all(
        _BASE64.fullmatch(part) is not None
        if key in _BYTES and isinstance(part, str)
        else _bytes_are_whole(part)
        for key, part in value.items()
    )


def _refused(sentence: str) -> RequestError:
    return RequestError(Code.REQUEST_MALFORMED, sentence)
