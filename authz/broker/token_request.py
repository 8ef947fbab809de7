"""A token request, as RFC 8693 section 2.1 has it, as far as it exists here.

- One grant, two kinds of subject: a person's ID token, or the delegation token that the client presents
  together with the JWT-SVID of the one that it delegates to (TX-02, TX-03, TX-04).
- A delegation token without an actor would be handed on without its new presenter, so it is refused (TX-07,
  TX-08); an ID token with an actor would say twice who acts.
- One audience; scopes only narrow. What is standard but does not exist here is refused, not ignored, where
  ignoring it would give more than was asked for.
- Unknown parameters are ignored (RFC 6749 section 3.2): none of them reaches a claim (TX-12).
- `binding` is ours: `workload` binds to the workload that started the task, for meshes that hide the key.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

from authz.broker.form import Form, FormError
from identity.errors import ExchangeError
from identity.scopes import ScopeError, parse_scopes

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN: Final = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - the name of a type, no secret
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a type
JWT: Final = "urn:ietf:params:oauth:token-type:jwt"

BindingWish = Literal["key", "workload"]

# The client is who holds the key of the connection; a second login would be a second identity (CA-04).
_OTHER_LOGINS: Final = ("client_secret", "client_assertion", "client_assertion_type")


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A well-formed token exchange; no token in it is verified."""

    unverified_subject: str = field(repr=False)
    unverified_actor: str | None = field(repr=False)
    audience: str
    scopes: frozenset[str] | None
    binding: BindingWish
    client_id: str | None

    @classmethod
    def parse(cls, body: bytes) -> "TokenRequest":
        """Read a form.

        Raises:
            ExchangeError: with the OAuth error that RFC 6749 and RFC 8693 have for it.
        """
        try:
            return _parse(Form.parse(body))
        except FormError as error:
            raise ExchangeError("invalid_request", str(error)) from error


def _parse(form: Form) -> TokenRequest:
    grant_type = form.one("grant_type")
    if grant_type is None:
        raise ExchangeError("invalid_request", "grant_type is missing")
    if grant_type != GRANT_TYPE:
        raise ExchangeError("unsupported_grant_type", "only token exchange exists here")
    if any(name in form.names() for name in _OTHER_LOGINS):
        raise ExchangeError("invalid_request", "a client logs in with its certificate and nothing else")
    subject, actor = _subject_and_actor(form)
    if form.one("requested_token_type") not in {None, ACCESS_TOKEN}:
        raise ExchangeError("invalid_request", "requested_token_type is not access_token")
    if form.one("authorization_details") is not None:
        raise ExchangeError("invalid_authorization_details", "authorization_details does not exist here")
    return TokenRequest(
        unverified_subject=subject,
        unverified_actor=actor,
        audience=_audience(form),
        scopes=_scopes(form),
        binding=_binding(form),
        client_id=form.one("client_id"),
    )


def _subject_and_actor(form: Form) -> tuple[str, str | None]:
    subject, subject_type = form.one("subject_token"), form.one("subject_token_type")
    actor, actor_type = form.one("actor_token"), form.one("actor_token_type")
    if subject is None or subject_type is None:
        raise ExchangeError("invalid_request", "subject_token and subject_token_type are both needed")
    if (actor is None) != (actor_type is None):
        raise ExchangeError("invalid_request", "actor_token and actor_token_type come together")
    if actor_type not in {None, JWT}:
        raise ExchangeError("invalid_request", "actor_token_type is not jwt (a JWT-SVID)")
    match subject_type, actor:
        case str(kind), None if kind == ID_TOKEN:
            return subject, None
        case str(kind), str() if kind == ACCESS_TOKEN:
            return subject, actor
        case str(kind), None if kind == ACCESS_TOKEN:
            raise ExchangeError("invalid_request", "a delegation token is exchanged for an actor only")
        case str(kind), str() if kind == ID_TOKEN:
            raise ExchangeError("invalid_request", "an ID token is exchanged without an actor")
    raise ExchangeError("invalid_request", "subject_token_type is neither id_token nor access_token")


def _audience(form: Form) -> str:
    audiences = form.values.get("audience", ())
    if len(audiences) > 1 or "resource" in form.names():
        raise ExchangeError("invalid_target", "one audience names the service, and no resource")
    if not audiences or not audiences[0]:
        raise ExchangeError("invalid_request", "audience is missing")
    return audiences[0]


def _scopes(form: Form) -> frozenset[str] | None:
    text = form.one("scope")
    if text is None:
        return None
    try:
        return parse_scopes(text)
    except ScopeError as error:
        raise ExchangeError("invalid_scope", "scope is not a list of scopes") from error


def _binding(form: Form) -> BindingWish:
    match form.one("binding"):
        case None | "key":
            return "key"
        case "workload":
            return "workload"
    raise ExchangeError("invalid_request", "binding is neither key nor workload")
