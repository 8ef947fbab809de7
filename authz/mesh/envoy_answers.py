"""The part of the Envoy configuration that shows answers to Deputy: ext_proc, behind ext_authz.

- Only answers are shown: requests are what ext_authz is for. Of calls that may go on for long before there is
  an answer, streams of gRPC, the headers are shown, too, so that they end with their caller's rights.
- All of an answer is shown, unless Deputy says that it need not see the rest, answer by answer.
- Whose call it is goes from ext_authz to ext_proc in metadata, which no client and no upstream writes.
- Fails closed: without Deputy there is no answer, and one that has begun is reset.
- Every answer is shown, but on routes that say that theirs need not be. A route that nobody thought of has
  no passage, and so no answer. What has no route at all (a request that Envoy cannot read) is Envoy's own to
  answer, at once.
- It has connections of its own to Deputy: a thousand open answers take nothing from those who ask for a
  decision.
"""

from typing import Final

from authz.answers.arrival import DETAILS, EXT_AUTHZ, EXT_PROC
from authz.mesh.envoy_clusters import ANSWERS_CLUSTER, RETRY_ON
from authz.mesh.envoy_parts import TYPE, Json

_ANSWERS: Final[Json] = {
    "request_header_mode": "SKIP",
    "response_header_mode": "SEND",
    "request_body_mode": "NONE",
    "response_body_mode": "STREAMED",
    "request_trailer_mode": "SKIP",
    "response_trailer_mode": "SEND",
}


def answers_filter() -> Json:
    """Return the filter; it stands right behind ext_authz."""
    config = {
        "@type": f"{TYPE}extensions.filters.http.ext_proc.v3.ExternalProcessor",
        "stat_prefix": "deputy",
        "grpc_service": {
            "envoy_grpc": {
                "cluster_name": ANSWERS_CLUSTER,
                "retry_policy": {"num_retries": 1, "retry_on": RETRY_ON},
            }
        },
        "failure_mode_allow": False,
        "status_on_error": {"code": "ServiceUnavailable"},
        "processing_mode": dict(_ANSWERS),
        "allow_mode_override": True,
        # What passes keeps its length; of what is replaced Deputy removes it.
        "allow_content_length_header": True,
        # For one message, not for the answer, which may be a long stream.
        "message_timeout": "1s",
        "response_attributes": [DETAILS],
        "metadata_options": {"forwarding_namespaces": {"untyped": [EXT_AUTHZ]}},
        "mutation_rules": {"disallow_system": True, "disallow_is_error": True},
        "route_cache_action": "RETAIN",
    }
    return {"name": EXT_PROC, "disabled": True, "typed_config": config}


def guarded_calls() -> Json:
    """Return what shows calls from their start: callers of these may go on speaking without an answer."""
    mode = dict(_ANSWERS) | {"request_header_mode": "SEND"}
    return {
        EXT_PROC: {
            "@type": f"{TYPE}extensions.filters.http.ext_proc.v3.ExtProcPerRoute",
            "overrides": {"processing_mode": mode},
        }
    }


def guarded() -> Json:
    """Return what turns the filter on, for all routes together."""
    return {
        EXT_PROC: {"@type": f"{TYPE}extensions.filters.http.ext_proc.v3.ExtProcPerRoute", "overrides": {}}
    }


def unguarded() -> Json:
    """Return what makes a route keep its answers to itself."""
    return {
        EXT_PROC: {"@type": f"{TYPE}extensions.filters.http.ext_proc.v3.ExtProcPerRoute", "disabled": True}
    }
