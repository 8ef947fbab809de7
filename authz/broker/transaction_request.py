"""The parameters of a request for a transaction token (CL-02), read strictly.

- `audience` (the trust domain), `scope`, `subject_token` and `request_details` are needed; the last one is
  the call: service, action, tool and arguments, as plain JSON.
- The subject is the client's own delegation token, or the transaction token that it replaces (CL-04); nobody
  else's, and never with an actor.
- Nothing of it is believed: the service is looked up, the call is decided as at `Check`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from authz.broker.form import Form, FormError
from authz.broker.token_request import ACCESS_TOKEN, GRANT_TYPE, JWT, TXN_TOKEN, details_of, scopes_of
from identity.authorization_details import Details
from identity.errors import ExchangeError
from identity.strict_json import Limits, StrictJsonError, loads
from identity.transaction import TOOL_CALL

_JSON: Final = Limits(depth=64, keys=4096)
_MEMBERS: Final = frozenset({"service", "action", "tool", "arguments"})
_ABSENT: Final = ("actor_token", "actor_token_type", "resource", "binding")


@dataclass(frozen=True, slots=True)
class UnverifiedCall:
    """The call of a tool that a client says it is about to make; arguments may be secret."""

    service: str
    tool: str
    arguments: Mapping[str, object] | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class TransactionRequest:
    """A well-formed request for a transaction token; no token in it is verified."""

    unverified_subject: str = field(repr=False)
    is_replacement: bool
    audience: str
    scopes: frozenset[str] | None
    details: Details | None
    client_id: str | None
    unverified_call: UnverifiedCall

    @classmethod
    def parse(cls, form: Form) -> "TransactionRequest":
        """Read the parameters of a form, but the login.

        Raises:
            ExchangeError: with the OAuth error that RFC 6749 and RFC 8693 have for it.
        """
        try:
            return _parse(form)
        except FormError as error:
            raise ExchangeError("invalid_request", str(error)) from error


def is_transaction(form: Form) -> bool:
    """Say whether a form asks for a transaction token, in whichever of several values."""
    return TXN_TOKEN in form.values.get("requested_token_type", ())


def is_replacement(form: Form) -> bool:
    """Say whether a form offers a transaction token for another one."""
    return is_transaction(form) and form.values.get("subject_token_type") == (TXN_TOKEN,)


def _parse(form: Form) -> TransactionRequest:
    # 1. What it is; a repeated parameter is refused.
    form.one("requested_token_type")
    grant_type = form.one("grant_type")
    if grant_type is None:
        raise ExchangeError("invalid_request", "grant_type is missing")
    if grant_type != GRANT_TYPE:
        raise ExchangeError("unsupported_grant_type", "only token exchange exists here")
    given = next((name for name in _ABSENT if name in form), None)
    if given is not None:
        raise ExchangeError("invalid_request", f"a transaction token is asked for without {given}")
    # 2. For whom, for what.
    subject, kind = form.one("subject_token"), form.one("subject_token_type")
    if subject is None or kind is None:
        raise ExchangeError("invalid_request", "subject_token and subject_token_type are both needed")
    if kind not in {ACCESS_TOKEN, JWT, TXN_TOKEN}:
        raise ExchangeError("invalid_request", "subject_token_type is not one that is exchanged for this")
    audience = form.one("audience")
    if audience is None:
        raise ExchangeError("invalid_request", "audience is missing")
    return TransactionRequest(
        unverified_subject=subject,
        is_replacement=kind == TXN_TOKEN,
        audience=audience,
        scopes=scopes_of(form),
        details=details_of(form),
        client_id=form.one("client_id"),
        unverified_call=_call(form.one("request_details")),
    )


def _call(text: str | None) -> UnverifiedCall:
    if text is None:
        raise ExchangeError("invalid_request", "a transaction token takes request_details: the call")
    try:
        call = loads(text.encode(), _JSON)
    except StrictJsonError as error:
        raise ExchangeError("invalid_request", "request_details is not strict JSON") from error
    if not isinstance(call, dict) or not call.keys() <= _MEMBERS or call.get("action") != TOOL_CALL:
        raise ExchangeError("invalid_request", f"request_details is not a {TOOL_CALL} of a service")
    match call.get("service"), call.get("tool"), call.get("arguments"):
        case str() as service, str() as tool, dict() | None as arguments:
            # `null` is not what an absent member is.
            if arguments is not None or "arguments" not in call:
                return UnverifiedCall(service, tool, arguments)
        case _:
            pass
    raise ExchangeError("invalid_request", "request_details takes service, tool and an object of arguments")
