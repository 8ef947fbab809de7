"""A JSON body: the headers that say how to read it, and the one object that it holds.

- Media type `application/json` (or one that the protocol itself registers) in any case, alone or with
  `charset=utf-8`; any other type may be read by another parser (CVE class: type confusion).
- No content encoding but `identity`: the upstream would see another body.
- The body is strict JSON with a bounded number of values (hashing looks at each one), and its top level an
  object: an array is a batch, which hides a second call.
"""

import re
from collections.abc import Mapping

from authz.codes import Code
from authz.errors import InspectionError
from authz.headers import Headers
from authz.protocols.reader_codes import ReaderCodes
from identity.strict_json import Reason, StrictJsonError, loads

Object = Mapping[str, object]

JSON = "application/json"

_CONTENT_TYPE = re.compile(
    r" *([a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+) *(?:; *charset *= *(\"?)([a-z0-9_-]+)\2 *)?"
)
_JSON_CODES: Mapping[Reason, Code] = {
    "malformed": Code.JSON_MALFORMED,
    "duplicate-key": Code.JSON_DUPLICATE_KEY,
    "number": Code.JSON_NUMBER,
    "depth": Code.JSON_DEPTH,
    "surrogate": Code.JSON_SURROGATE,
    "keys": Code.JSON_KEYS,
    "encoding": Code.BODY_ENCODING,
}


def check_json_headers(headers: Headers, *media_types: str) -> None:
    """Check the headers that say how the body is to be read.

    Raises:
        InspectionError: with CONTENT_TYPE or BODY_ENCODING.
        RequestError: if one of them stands twice or is not text.
    """
    _check_content_type(headers.one("content-type"), media_types or (JSON,))
    encoding = headers.one("content-encoding")
    if encoding is not None and encoding.lower() != "identity":
        raise InspectionError(Code.BODY_ENCODING, "another content-encoding than identity")


def decode_object(body: bytes, codes: ReaderCodes) -> Object:
    """Read the body as one JSON object.

    Raises:
        InspectionError: if it is not strict JSON, or its top level is not an object.
    """
    try:
        document = loads(body)
    except StrictJsonError as error:
        raise InspectionError(_JSON_CODES[error.reason], str(error)) from error
    if isinstance(document, list):
        raise InspectionError(codes.batch, f"a batch of {len(document)}")
    if not isinstance(document, dict):
        raise InspectionError(codes.envelope, "a body that is not an object")
    return document


def _check_content_type(value: str | None, media_types: tuple[str, ...]) -> None:
    if value in media_types:
        return
    match = _CONTENT_TYPE.fullmatch((value or "").lower())
    if match is None or match[1] not in media_types:
        raise InspectionError(Code.CONTENT_TYPE, f"another content-type than {' or '.join(media_types)}")
    if match[3] not in {None, "utf-8"}:
        raise InspectionError(Code.BODY_ENCODING, "another charset than utf-8")
