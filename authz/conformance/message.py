"""What is sent to the server that is examined, and what came back.

- A `Request` is a value; what it looks like on the wire follows from it alone, but for what is made when it
  is sent: proofs, and the assertions of a client that signs one for each request.
- An `Answer` was read to its end, or it says why not. Its body is read strictly, and is in no `repr`.
- `got` says what came back without a word of a token or of a sentence that the server wrote.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal
from urllib.parse import urlencode

from authz.conformance.login import Fields, Login, login_fields, login_headers
from authz.conformance.proof import Proof
from identity.strict_json import Limits, StrictJsonError, loads

Endpoint = Literal[
    "token", "introspection", "revocation", "backchannel_authentication", "resource", "resource_metadata"
]
# Why there is no answer; `closed` is a refusal of what is far too long, `late` never is one.
Problem = Literal["closed", "late", "long"]

FORM: Final = "application/x-www-form-urlencoded"

_JSON_LIMITS: Final = Limits(depth=64)
_ERROR: Final = re.compile(r"[!#-\[\]-~ ]{1,64}")  # RFC 6749 section 5.2
_JSON_TYPE: Final = re.compile(r"application/json(?:\s*;.*)?", re.IGNORECASE)
_PROBLEMS: Final = {
    "closed": "a connection that was closed without an answer",
    "late": "no answer in time",
    "long": "an answer that is too long to read",
}


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `label` names what is unusual in it."""

    form: Fields = field(repr=False)
    login: Login | None
    endpoint: Endpoint = "token"
    label: str = ""
    method: str = "POST"
    query: Fields = field(default=(), repr=False)
    headers: Fields = field(default=(), repr=False)
    content_type: str = FORM
    body: bytes | None = field(default=None, repr=False)
    proofs: tuple[Proof, ...] = field(default=(), repr=False)

    def labelled(self, label: str) -> "Request":
        """Return the same request with a name for what is unusual in it."""
        return replace(self, label=label)

    def with_(self, name: str, value: str) -> "Request":
        """Return the request with this value of a parameter, and no other."""
        return replace(self, form=(*_without(self.form, name), (name, value)))

    def without(self, *names: str) -> "Request":
        """Return the request without these parameters."""
        return replace(self, form=_without(self.form, *names))

    def adding(self, name: str, value: str) -> "Request":
        """Return the request with one more value of a parameter."""
        return replace(self, form=(*self.form, (name, value)))

    def one(self, name: str) -> str | None:
        """Return the first value of a parameter."""
        return next((value for key, value in self.form if key == name), None)


def _without(form: Fields, *names: str) -> Fields:
    return tuple((key, value) for key, value in form if key not in names)


@dataclass(frozen=True, slots=True)
class Wire:
    """A request as HTTP has it."""

    method: str
    query: str = field(repr=False)
    headers: Fields = field(repr=False)
    body: bytes = field(repr=False)


def wire(request: Request) -> Wire:
    """Return what is sent for a request."""
    form = (*request.form, *login_fields(request.login))
    body = urlencode(form).encode("ascii") if request.body is None else request.body
    has_body = request.method != "GET"
    headers = (
        ("Accept", "application/json"),
        *((("Content-Type", request.content_type),) if has_body else ()),
        *login_headers(request.login),
        *request.headers,
    )
    return Wire(request.method, urlencode(request.query), headers, body if has_body else b"")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `members` is the JSON object of the body, empty if it is none."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    members: Mapping[str, object] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    problem: Problem | None = None
    label: str = ""
    detail: str = ""  # what this machine says about a connection that failed

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], body: bytes, label: str = "") -> "Answer":
        """Read an answer."""
        lower = {name.lower(): value for name, value in headers.items()}
        return cls(status, lower, _members(body), body, label=label)

    @classmethod
    def missing(cls, problem: Problem, label: str = "", detail: str = "") -> "Answer":
        """Say that there is none."""
        return cls(0, {}, {}, problem=problem, label=label, detail=detail)

    @property
    def unverified_token(self) -> str | None:
        """The token that was issued, if one was."""
        token = self.members.get("access_token")
        return token if isinstance(token, str) and token and 200 <= self.status < 300 else None

    @property
    def error(self) -> str | None:
        """The OAuth error (RFC 6749 section 5.2)."""
        error = self.members.get("error")
        return error if isinstance(error, str) and _ERROR.fullmatch(error) else None

    @property
    def is_json(self) -> bool:
        """Whether the server says that the body is JSON, and it is an object."""
        said = _JSON_TYPE.fullmatch(self.headers.get("content-type", "")) is not None
        return said and bool(self.members)

    @property
    def got(self) -> str:
        """What came back, in words that are fit for a report."""
        if self.problem is not None:
            what = _PROBLEMS[self.problem]
        elif self.unverified_token is not None:
            what = f"{self.status} with a token"
        elif self.error is not None:
            what = f"{self.status} {self.error}"
        else:
            what = f"{self.status} without an OAuth error"
        return f"{self.label}: {what}" if self.label else what


def _members(body: bytes) -> Mapping[str, object]:
    try:
        value = loads(body, _JSON_LIMITS)
    except StrictJsonError:
        return {}
    return value if isinstance(value, dict) else {}
