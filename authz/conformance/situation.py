"""What a case is made from: what the operator gave, what the server publishes, and its two good answers.

- The good request is the one that each case changes; it was answered with a token, twice, before any case.
- Two answers, because what must differ from token to token is seen in two only.
- An endpoint that the metadata names counts only on the host of the token endpoint: a login is never sent
  to a host that the server chose.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from authz.conformance.login import (
    AssertionLogin,
    CertificateLogin,
    Fields,
    Login,
    SecretLogin,
    SignedLogin,
)
from authz.conformance.message import Answer, Endpoint, Request
from authz.conformance.proof import Proof
from authz.conformance.signer import Signer, own_signer
from authz.conformance.token import Jwt
from identity.errors import KeyMaterialError
from identity.keys import VerificationKey, jwks

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
TOKEN_TYPE: Final = "urn:ietf:params:oauth:token-type:"  # noqa: S105 - the beginning of names of types
ACCESS_TOKEN: Final = f"{TOKEN_TYPE}access_token"
_RESOURCE: Final = "/.well-known/oauth-protected-resource"


class Profile(StrEnum):
    """Whose rules must be kept."""

    RFC8693 = "rfc8693"
    ACTOR = "actor-profile"
    DEPUTY = "deputy"


class Need(StrEnum):
    """What a case cannot do without, as the operator would say it."""

    OTHER_CLIENT = "a second client: --other-client-cert, --other-client-id or --other-client-assertion-file"
    SECOND_SUBJECT = "--subject-token-2-file"
    UNGRANTED = "--ungranted-subject-token-file"
    EXPIRED = "--expired-subject-token-file"
    WIDER_SCOPE = "--wider-scope"
    ASSERTION = "--client-assertion-file"
    OTHER_AUDIENCE = "--wrong-audience-assertion-file"
    METADATA = "--issuer or --metadata"
    INTROSPECTION = "metadata that names an introspection_endpoint on the host of the token endpoint"
    REVOCATION = "metadata that names a revocation_endpoint on the host of the token endpoint"
    TARGET = "--audience or --resource"
    JWT_SUBJECT = "a subject token that is a JWT"
    JWT_ISSUED = "an issued token that is a JWT"
    ACTOR = "--actor-token-file"
    CERTIFICATE = "--client-cert"
    SIGNED_LOGIN = "--client-assertion-key-file"
    SUBJECT_SIGNER = "--subject-key-file, the private key of the subject token"
    DPOP = "metadata with dpop_signing_alg_values_supported, or --dpop-key-file"
    DETAILS = "--authorization-details-file"
    ID_JAG = "--id-jag-audience"
    TRANSACTION = "--txn-audience"
    SERVICE = "--service-client-cert or --service-client-id"
    RESOURCE = "--protected-resource"
    LOGIN_HINT = "--login-hint"
    BACKCHANNEL = (
        "metadata that names a backchannel_authentication_endpoint on the host of the token endpoint"
    )
    SUBJECT_KEY = "--subject-jwks with the key of the subject token, or a jwks_uri that holds it"


@dataclass(frozen=True, slots=True)
class Presented:
    """A token and the type that it is said to have."""

    unverified_token: str = field(repr=False)
    kind: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the operator gave; what is None makes cases skip."""

    token_endpoint: str
    login: Login
    subject: Presented
    actor: Presented | None = None
    targets: Fields = ()  # ("audience" or "resource", value)
    scope: str | None = None
    requested_type: str | None = None
    issuer: str | None = None
    other_login: Login | None = None
    other_audience: AssertionLogin | None = None
    second_subject: Presented | None = None
    ungranted_subject: Presented | None = None
    expired_subject: Presented | None = None
    wider_scope: str | None = None
    unknown_audience: str = "https://deputy-conformance.invalid/unknown"
    subject_jwks: Mapping[str, object] | None = field(default=None, repr=False)
    subject_signer: Signer | None = None
    dpop_key: Signer | None = None
    details: tuple[Mapping[str, object], ...] = ()
    id_jag_audience: str | None = None
    txn_audience: str | None = None
    request_details: str | None = None
    next_request_details: str | None = None
    service_login: Login | None = None
    protected_resource: str | None = None
    login_hint: str | None = None

    @property
    def good(self) -> Request:
        """The request that must be answered with a token."""
        form = [
            ("grant_type", GRANT_TYPE),
            ("subject_token", self.subject.unverified_token),
            ("subject_token_type", self.subject.kind),
            *self.targets,
        ]
        if self.actor is not None:
            form += [("actor_token", self.actor.unverified_token), ("actor_token_type", self.actor.kind)]
        if self.scope is not None:
            form.append(("scope", self.scope))
        if self.requested_type is not None:
            form.append(("requested_token_type", self.requested_type))
        proofs = () if self.dpop_key is None else (Proof(self.dpop_key),)
        return Request(tuple(form), self.login, proofs=proofs)

    @property
    def target_name(self) -> str:
        """The parameter that names the target."""
        return self.targets[0][0] if self.targets else "audience"


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that a case is made from and judged by; `now` is in seconds since 1970."""

    inputs: Inputs
    profile: Profile
    now: int
    good: tuple[Answer, Answer]
    metadata: Answer | None = None
    key_set: Answer | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no report may show: every token and secret that was given, or issued to the good request."""
        inputs = self.inputs
        logins = (inputs.login, inputs.other_login, inputs.other_audience, inputs.service_login)
        tokens = (inputs.subject, inputs.actor, inputs.second_subject, inputs.ungranted_subject)
        return (
            *(login.secret for login in logins if isinstance(login, SecretLogin)),
            *(login.assertion for login in logins if isinstance(login, AssertionLogin)),
            *(token.unverified_token for token in (*tokens, inputs.expired_subject) if token is not None),
            *(answer.unverified_token for answer in self.good if answer.unverified_token is not None),
        )

    @property
    def subject(self) -> Jwt | None:
        """The subject token, if it is a JWT."""
        return Jwt.read(self.inputs.subject.unverified_token)

    @property
    def issued(self) -> Jwt | None:
        """The first token that was issued, if it is a JWT."""
        return Jwt.read(self.good[0].unverified_token or "")

    @property
    def issued_again(self) -> Jwt | None:
        """The second one."""
        return Jwt.read(self.good[1].unverified_token or "")

    @property
    def document(self) -> Mapping[str, object]:
        """The metadata; empty if there is none."""
        return self.metadata.members if self.metadata is not None else {}

    def endpoint(self, name: Endpoint) -> str | None:
        """Return the URL of an endpoint; None if there is none that a login may be sent to."""
        if name == "resource":
            return self.inputs.protected_resource
        if name == "resource_metadata":
            return resource_metadata_url(self.inputs.protected_resource)
        return endpoint_url(self.inputs.token_endpoint, self.document, name)

    @property
    def signer(self) -> Signer:
        """The key of proofs."""
        return self.inputs.dpop_key or own_signer()

    @property
    def takes_proofs(self) -> bool:
        """Whether proofs are looked at, as the server says, or as we ask of it."""
        told = self.document.get("dpop_signing_alg_values_supported")
        is_told = isinstance(told, list) and self.signer.algorithm in told
        return is_told or self.inputs.dpop_key is not None or self.profile is Profile.DEPUTY

    @property
    def subject_key(self) -> VerificationKey | None:
        """The public key of the subject token."""
        given = _published(self.inputs.subject_jwks or {}, _kid(self.subject))
        return _key(given or _published(self._keys, _kid(self.subject)))

    @property
    def issuer_jwk(self) -> Mapping[str, object] | None:
        """The public key of the issued token, as the server publishes it."""
        return _published(self._keys, _kid(self.issued))

    @property
    def issuer_key(self) -> VerificationKey | None:
        """The same, if it is a key that can be used here."""
        return _key(self.issuer_jwk)

    @property
    def _keys(self) -> Mapping[str, object]:
        return self.key_set.members if self.key_set is not None else {}


def _kid(token: Jwt | None) -> object:
    return token.unverified_header.get("kid") if token is not None else None


def endpoint_url(token_endpoint: str, document: Mapping[str, object], name: Endpoint) -> str | None:
    """Return the URL of an endpoint, as the metadata has it, if a login may be sent there."""
    if name == "token":
        return token_endpoint
    url = document.get(f"{name}_endpoint")
    return url if isinstance(url, str) and _origin(url) == _origin(token_endpoint) else None


def resource_metadata_url(resource: str | None) -> str | None:
    """Return where a protected resource publishes its metadata (RFC 9728 section 3.1)."""
    if resource is None:
        return None
    split = urlsplit(resource)
    return f"{split.scheme}://{split.netloc}{_RESOURCE}{split.path.rstrip('/')}"


def _origin(url: str) -> tuple[str, str]:
    try:
        split = urlsplit(url)
    except ValueError:
        return "", url
    return split.scheme, split.netloc


def _published(document: Mapping[str, object], kid: object) -> Mapping[str, object] | None:
    """Return the key of a name; the only key of a set where a token names none."""
    try:
        found = list(jwks(document))
    except KeyMaterialError:
        return None
    named = [jwk for jwk in found if kid is None or jwk.get("kid") == kid]
    return named[0] if len(named) == 1 else None


def _key(jwk: Mapping[str, object] | None) -> VerificationKey | None:
    try:
        # A key without a name is as good here; what it is called is the publisher's affair.
        return None if jwk is None else VerificationKey.parse_jwk({"kid": "unnamed", **jwk})
    except KeyMaterialError:
        return None


_THERE: Final[Mapping[Need, Callable[[Situation], object]]] = {
    Need.OTHER_CLIENT: lambda situation: situation.inputs.other_login,
    Need.SECOND_SUBJECT: lambda situation: situation.inputs.second_subject,
    Need.UNGRANTED: lambda situation: situation.inputs.ungranted_subject,
    Need.EXPIRED: lambda situation: situation.inputs.expired_subject,
    Need.WIDER_SCOPE: lambda situation: situation.inputs.wider_scope,
    Need.ASSERTION: lambda situation: _login(situation, AssertionLogin),
    Need.OTHER_AUDIENCE: lambda situation: situation.inputs.other_audience,
    Need.METADATA: lambda situation: situation.metadata,
    Need.INTROSPECTION: lambda situation: situation.endpoint("introspection"),
    Need.REVOCATION: lambda situation: situation.endpoint("revocation"),
    Need.TARGET: lambda situation: situation.inputs.targets or None,
    Need.JWT_SUBJECT: lambda situation: situation.subject,
    Need.JWT_ISSUED: lambda situation: situation.issued,
    Need.SUBJECT_KEY: lambda situation: situation.subject_key,
    Need.ACTOR: lambda situation: situation.inputs.actor,
    Need.CERTIFICATE: lambda situation: _login(situation, CertificateLogin),
    Need.SIGNED_LOGIN: lambda situation: _login(situation, SignedLogin),
    Need.SUBJECT_SIGNER: lambda situation: situation.inputs.subject_signer,
    Need.DPOP: lambda situation: situation.takes_proofs or None,
    Need.DETAILS: lambda situation: situation.inputs.details or None,
    Need.ID_JAG: lambda situation: situation.inputs.id_jag_audience,
    Need.TRANSACTION: lambda situation: situation.inputs.txn_audience,
    Need.SERVICE: lambda situation: situation.inputs.service_login,
    Need.RESOURCE: lambda situation: situation.inputs.protected_resource,
    Need.LOGIN_HINT: lambda situation: situation.inputs.login_hint,
    Need.BACKCHANNEL: lambda situation: situation.endpoint("backchannel_authentication"),
}


def _login(situation: Situation, kind: type[Login]) -> Login | None:
    login = situation.inputs.login
    return login if isinstance(login, kind) else None


def missing(need: Need, situation: Situation) -> bool:
    """Tell whether something that a case needs is not there."""
    return _THERE[need](situation) is None
