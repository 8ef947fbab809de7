"""What Envoy shows of an answer; the only reader of ProcessingRequest.

- Whose call it is stands in the metadata that ext_authz set, and who made the answer in an attribute that
  Envoy sets. No client and no upstream writes either; headers, which an upstream writes, say nothing here.
- An answer is Envoy's own only if its details are among those that are listed: what is new, or comes from
  a filter that we do not know (a cache, a script), is taken for an upstream's.
- A part that was never asked for is refused, and so is a proxy that does not wait for what we say.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import DecodeError

from authz.answers.passage import PASSAGE_FIELD
from authz.codes import Code
from authz.errors import AnswerError
from authz.headers import Headers
from authz.pb import ext_proc_pb2 as pb

EXT_AUTHZ: Final = "envoy.filters.http.ext_authz"
EXT_PROC: Final = "envoy.filters.http.ext_proc"
DETAILS: Final = "response.code_details"

_WHOLE: Final = frozenset({pb.ProcessingMode.STREAMED, pb.ProcessingMode.BUFFERED})
_STATUS = re.compile(r"[1-5][0-9]{2}")
# Envoy's "Response Code Details"; a reason in braces or brackets may follow.
_DETAILS = re.compile(r"[a-z0-9_]*")
_LOCAL: Final = frozenset(
    {
        "ext_authz_denied",
        "ext_authz_error",
        # Filters that operators put before ours.
        "jwt_authn_access_denied",
        "local_rate_limited",
        "rbac_access_denied_matched_policy",
        "request_rate_limited",
        # What Envoy says of a request that it does not understand.
        "absolute_path_rejected",
        "early_connect_data",
        "invalid_path",
        "low_version",
        "missing_host_header",
        "missing_path_rejected",
        "path_normalization_failed",
        "rejecting_because_detection_failed",
        "request_header_timeout",
        "request_headers_failed_strict_check",
        "request_payload_exceeded_retry_buffer_limit",
        "request_payload_too_large",
        "upgrade_failed",
        # What it says in the place of a server that it does not know, or that does not answer.
        "cluster_not_found",
        "direct_response",
        "drop_overload",
        "filter_removed_required_request_headers",
        "maintenance_mode",
        "max_duration_timeout",
        "no_healthy_upstream",
        "overload",
        "request_overall_timeout",
        "response_timeout",
        "route_configuration_not_found",
        "route_not_found",
        "stream_idle_timeout",
        "unconditional_drop_overload",
        "upstream_max_stream_duration_reached",
        "upstream_per_try_idle_timeout",
        "upstream_per_try_timeout",
        "upstream_reset_before_response_started",
    }
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """The beginning of an answer."""

    status: int
    headers: Headers
    end_of_stream: bool
    # Envoy itself made it: a denial of ours, or that the service could not be reached.
    is_local: bool
    # The proxy sends the body here unless it is told not to. One that sends none might send none when it is
    # asked to, too (`allow_mode_override`), and pass it as it is.
    shows_body: bool
    # As it was written at `Check`; empty where nothing was.
    unverified_passage: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Departure:
    """A call that was allowed and goes on: its caller may still speak, and no answer has begun."""

    shows_body: bool
    unverified_passage: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of the body."""

    body: bytes = field(repr=False)
    end_of_stream: bool


@dataclass(frozen=True, slots=True)
class Trailers:
    """The end of an answer that has trailers."""


Part = Departure | Arrival | Chunk | Trailers


def parse_part(data: bytes) -> Part:
    """Read a ProcessingRequest.

    Raises:
        AnswerError: with PASSAGE_MISSING, if it is none, or a part that was never asked for.
        RequestError: if there are too many headers, they are too large, or a name is not one.
    """
    try:
        message = pb.ProcessingRequest.FromString(data)
    except DecodeError as error:
        raise AnswerError(Code.PASSAGE_MISSING, "not a ProcessingRequest") from error
    if message.observability_mode:
        raise AnswerError(Code.PASSAGE_MISSING, "the proxy waits for nothing that is said here")
    match message.WhichOneof("request"):
        case "request_headers":
            return Departure(_shows_body(message), _passage(message))
        case "response_headers":
            return _arrival(message)
        case "response_body":
            return Chunk(message.response_body.body, message.response_body.end_of_stream)
        case "response_trailers":
            return Trailers()
        case _:
            raise AnswerError(Code.PASSAGE_MISSING, "a part that was never asked for")


def _arrival(message: pb.ProcessingRequest) -> Arrival:
    part = message.response_headers
    # Envoy fills one of the two; an older one the text.
    fields = [(each.key, each.raw_value or each.value.encode()) for each in part.headers.headers]
    status = next((value.decode("latin-1") for name, value in fields if name == ":status"), "")
    if not _STATUS.fullmatch(status):
        raise AnswerError(Code.ANSWER_UNREADABLE, f"status {status[:16]!r}")
    headers = Headers.parse((name, value) for name, value in fields if not name.startswith(":"))
    return Arrival(
        int(status),
        headers,
        part.end_of_stream,
        is_local=_is_local(message),
        shows_body=_shows_body(message),
        unverified_passage=_passage(message),
    )


def _shows_body(message: pb.ProcessingRequest) -> bool:
    return message.protocol_config.response_body_mode in _WHOLE


def _is_local(message: pb.ProcessingRequest) -> bool:
    # Looked up with `in`: what is read of a map of messages is put into it.
    if EXT_PROC not in message.attributes or DETAILS not in message.attributes[EXT_PROC].fields:
        return False
    details = message.attributes[EXT_PROC].fields[DETAILS].string_value
    match = _DETAILS.match(details)
    return match is not None and match[0] in _LOCAL and details[match.end() :][:1] in {"", "{", "["}


def _passage(message: pb.ProcessingRequest) -> str:
    known = message.metadata_context.filter_metadata
    if EXT_AUTHZ not in known or PASSAGE_FIELD not in known[EXT_AUTHZ].fields:
        return ""
    return known[EXT_AUTHZ].fields[PASSAGE_FIELD].string_value
