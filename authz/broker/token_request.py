"""The parameters of a token exchange, read strictly (RFC 8693 section 2.1).

- Each parameter stands once (RFC 6749 section 3.2); a repeated one is refused, also a repeated `audience` or
  `resource`: a token is for one service (NR-03). Both may stand, if they name the same.
- A parameter that is standard but does not exist here is refused, not ignored, where ignoring it would give
  more than was asked for.
- Unknown parameters are ignored (RFC 6749 section 3.2): none of them reaches a claim (TX-12).
- A transaction token is made for a call, and asked for in another form (authz/broker/transaction_request.py).
- A client logs in with its certificate, with a JWT-SVID, or with both if they are of one task; never with a
  secret (CA-04).
- `binding` is ours: `workload` binds to the workload that started the task, for meshes that hide the key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from authz.broker.form import Form, FormError
from authz.broker.target import TargetError, one_target
from identity.authorization_details import Details, parse_details
from identity.errors import ExchangeError
from identity.quick_init import quick_init
from identity.scopes import ScopeError, parse_scopes
from identity.strict_json import Limits, StrictJsonError, loads

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_TYPES: Final = "urn:ietf:params:oauth:token-type:"
ID_TOKEN: Final = f"{_TYPES}id_token"
ACCESS_TOKEN: Final = f"{_TYPES}access_token"
TXN_TOKEN: Final = f"{_TYPES}txn_token"
ID_JAG: Final = f"{_TYPES}id-jag"
JWT: Final = f"{_TYPES}jwt"
# draft-ietf-oauth-spiffe-client-auth-02
JWT_SPIFFE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"

BindingWish = Literal["key", "workload"]
SubjectKind = Literal["id_token", "access_token"]
Output = Literal["access_token", "id-jag"]

_SUBJECTS: Final[Mapping[str, SubjectKind]] = {
    ID_TOKEN: "id_token",
    ACCESS_TOKEN: "access_token",
    # What the `jwt` is, its own header says; an ID token must be called one.
    JWT: "access_token",
}
_OUTPUTS: Final[Mapping[str, Output]] = {ACCESS_TOKEN: "access_token", ID_JAG: "id-jag"}
_JSON: Final = Limits(depth=16, keys=512)


@quick_init
@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A well-formed token exchange; no token in it is verified."""

    unverified_subject: str = field(repr=False)
    subject_kind: SubjectKind
    unverified_actor: str | None = field(repr=False)
    output: Output
    audience: str
    scopes: frozenset[str] | None
    details: Details | None
    binding: BindingWish | None
    client_id: str | None

    @classmethod
    def parse(cls, form: Form) -> "TokenRequest":
        """Read the parameters of a form, but the login.

        Raises:
            ExchangeError: with the OAuth error that RFC 6749 and RFC 8693 have for it.
        """
        try:
            return _parse(form)
        except FormError as error:
            raise ExchangeError("invalid_request", str(error)) from error


def _parse(form: Form) -> TokenRequest:
    grant_type = form.one("grant_type")
    if grant_type is None:
        raise ExchangeError("invalid_request", "grant_type is missing")
    if grant_type != GRANT_TYPE:
        raise ExchangeError("unsupported_grant_type", "only token exchange exists here")
    subject, kind = _subject(form)
    output = _output(form)
    actor = _actor(form)
    if kind == "id_token" and actor is not None:
        raise ExchangeError("invalid_request", "an ID token is exchanged without an actor")
    if output != "access_token" and actor is not None:
        raise ExchangeError("invalid_request", "only an access token is made for an actor")
    return TokenRequest(
        unverified_subject=subject,
        subject_kind=kind,
        unverified_actor=actor,
        output=output,
        audience=_audience(form),
        scopes=scopes_of(form),
        details=details_of(form),
        binding=_binding(form),
        client_id=form.one("client_id"),
    )


def client_assertion(form: Form) -> str | None:
    """Return the JWT-SVID that a client logs in with, None where it sent none (CA-01).

    Raises:
        ExchangeError: if it logs in in a way that does not exist here (CA-04).
        FormError: if a parameter is repeated.
    """
    assertion, kind = form.one("client_assertion"), form.one("client_assertion_type")
    if "client_secret" in form:
        raise ExchangeError("invalid_request", "a client logs in with its certificate or a JWT-SVID")
    if (assertion is None) != (kind is None):
        raise ExchangeError("invalid_request", "client_assertion and client_assertion_type come together")
    if kind not in {None, JWT_SPIFFE}:
        raise ExchangeError("invalid_request", "client_assertion_type is not jwt-spiffe")
    return assertion


def _subject(form: Form) -> tuple[str, SubjectKind]:
    subject, kind = form.one("subject_token"), form.one("subject_token_type")
    if subject is None or kind is None:
        raise ExchangeError("invalid_request", "subject_token and subject_token_type are both needed")
    if kind not in _SUBJECTS:
        raise ExchangeError("invalid_request", "subject_token_type is not one that is exchanged here")
    return subject, _SUBJECTS[kind]


def _actor(form: Form) -> str | None:
    actor, kind = form.one("actor_token"), form.one("actor_token_type")
    if (actor is None) != (kind is None):
        raise ExchangeError("invalid_request", "actor_token and actor_token_type come together")
    if kind not in {None, JWT}:
        raise ExchangeError("invalid_request", "actor_token_type is not jwt (a JWT-SVID)")
    return actor


def _output(form: Form) -> Output:
    kind = form.one("requested_token_type") or ACCESS_TOKEN
    if kind not in _OUTPUTS:
        raise ExchangeError("invalid_request", "requested_token_type is not one that is issued here")
    return _OUTPUTS[kind]


def _audience(form: Form) -> str:
    audiences, resources = form.values.get("audience", ()), form.values.get("resource", ())
    if len(audiences) > 1 or len(resources) > 1:
        raise ExchangeError("invalid_target", "one audience or resource names the service")
    try:
        target = one_target(form.one("audience"), form.one("resource"))
    except TargetError as error:
        raise ExchangeError("invalid_target", str(error)) from error
    if target is None:
        raise ExchangeError("invalid_request", "audience is missing")
    return target


def scopes_of(form: Form) -> frozenset[str] | None:
    """Return the scopes that are asked for, None where none are named.

    Raises:
        ExchangeError: with invalid_scope.
        FormError: if the parameter is repeated.
    """
    text = form.one("scope")
    if text is None:
        return None
    try:
        return parse_scopes(text)
    except ScopeError as error:
        raise ExchangeError("invalid_scope", "scope is not a list of scopes") from error


def details_of(form: Form) -> Details | None:
    """Return the authorization details that are asked for, None where there are none.

    Raises:
        ExchangeError: with invalid_authorization_details.
        FormError: if the parameter is repeated.
    """
    text = form.one("authorization_details")
    if text is None:
        return None
    try:
        return parse_details(loads(text.encode(), _JSON))
    except StrictJsonError as error:
        raise ExchangeError(
            "invalid_authorization_details", "authorization_details is not strict JSON"
        ) from error


def _binding(form: Form) -> BindingWish | None:
    match form.one("binding"):
        case None:
            return None
        case "key":
            return "key"
        case "workload":
            return "workload"
    raise ExchangeError("invalid_request", "binding is neither key nor workload")
