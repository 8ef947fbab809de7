"""Calls of models: errors that the SDKs of OpenAI and of Anthropic take apart.

- The type follows the status, as the SDKs' exceptions do.
- No status is one that they try again by themselves (408, 409, 429, 500 and above), but 503: there they
  should, and they stop after a few (docs/reference/denials.md).
"""

from typing import Final

from authz.denials.told import Answer, Told, dump

# Both name them alike but for what cannot be known, which neither has a name for.
_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    503: "api_error",
}


def openai_answer(told: Told) -> Answer:
    """Answer a client of OpenAI's API."""
    known = {"message": told.message, "type": _TYPES[told.status], "param": None, "code": told.reason}
    return Answer(told.status, dump({"error": {**known, **told.facts()}}))


def anthropic_answer(told: Told) -> Answer:
    """Answer a client of Anthropic's API."""
    error = {"type": _TYPES[told.status], "message": told.message, **told.facts()}
    return Answer(told.status, dump({"type": "error", "error": error, "request_id": told.decision_id}))
