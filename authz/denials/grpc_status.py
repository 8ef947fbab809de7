"""gRPC: trailers only, that is HTTP 200 with the status in the headers and no body.

- The status is ours: what Envoy makes of an HTTP status of its own is INTERNAL for 400, and UNKNOWN for 200.
- The message is all that most clients show, so it holds the fix and the URL of an approval, too. It is
  written in the percent-encoding of gRPC over HTTP/2 (PROTOCOL-HTTP2.md, Responses), and bounded: it is a
  header.
"""

from typing import Final
from urllib.parse import quote

from authz.denials.told import Answer, Told
from authz.form import Form

# Encoded it is three times as much at most; gRPC in C takes 8 KiB of headers together.
_MAX_BYTES: Final = 1024

# google.rpc.Code: INVALID_ARGUMENT, PERMISSION_DENIED, UNAUTHENTICATED, UNAVAILABLE.
_STATUS: Final = {
    Form.MALFORMED: 3,
    Form.REFUSED: 7,
    Form.TOKEN: 16,
    Form.SCOPE: 7,
    Form.POLICY: 7,
    Form.UNAVAILABLE: 14,
}
# Printable ASCII stands as it is, but the percent sign.
_PLAIN: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


def grpc_answer(told: Told) -> Answer:
    """Answer a client of gRPC."""
    text = told.sentence().encode()[:_MAX_BYTES].decode(errors="ignore")
    headers = (
        ("content-type", "application/grpc"),
        ("grpc-status", str(_STATUS[told.form])),
        ("grpc-message", quote(text, safe=_PLAIN)),
    )
    return Answer(200, "", headers)
