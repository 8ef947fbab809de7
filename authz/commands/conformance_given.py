"""What the command line gives to the conformance runner, read from its files.

- A secret comes from a file, and is in no `repr` and no message.
- A file is bounded; white space around a token or a secret is not part of it.
- Of the ways to log in exactly one is given; of the second client's at most one.
"""

import hashlib
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import typer

from authz.commands.conformance import ReportForm, SecretMethod
from authz.conformance.login import (
    JWT_BEARER,
    JWT_SPIFFE,
    AssertionLogin,
    Certificate,
    CertificateLogin,
    Login,
    SecretLogin,
    SignedLogin,
)
from authz.conformance.signer import Signer
from authz.conformance.situation import TOKEN_TYPE, Inputs, Presented, Profile
from authz.conformance.token import Jwt
from authz.errors import ConfigError
from identity.base64url import encode_base64url
from identity.errors import KeyMaterialError
from identity.keys import MAX_SET_BYTES, parse_set
from identity.strict_json import Limits, StrictJsonError, loads

_MAX_FILE: Final = 256 * 1024
_ONE_LOGIN: Final = "a client logs in with one of a secret, a certificate and an assertion"
_SHORT_ASSERTIONS: Final = {"jwt-spiffe": JWT_SPIFFE, "jwt-bearer": JWT_BEARER}


@dataclass(frozen=True, slots=True)
class Given:
    """The options of `deputy conformance delegation`, by their names."""

    token_endpoint: str | None
    issuer: str | None
    metadata: str | None
    ca: Path | None
    client_id: str | None
    client_secret_file: Path | None
    client_secret_method: SecretMethod
    client_cert: Path | None
    client_key: Path | None
    client_assertion_file: Path | None
    client_assertion_type: str | None
    subject_token_file: Path | None
    subject_token_type: str
    subject_jwks: Path | None
    actor_token_file: Path | None
    actor_token_type: str
    audience: Sequence[str] | None
    resource: Sequence[str] | None
    scope: str | None
    requested_token_type: str | None
    wider_scope: str | None
    unknown_audience: str | None
    other_client_id: str | None
    other_client_secret_file: Path | None
    other_client_cert: Path | None
    other_client_key: Path | None
    other_client_assertion_file: Path | None
    wrong_audience_assertion_file: Path | None
    subject_token_2_file: Path | None
    subject_token_2_type: str
    ungranted_subject_token_file: Path | None
    expired_subject_token_file: Path | None
    client_assertion_key_file: Path | None
    client_assertion_kid: str | None
    client_assertion_audience: str | None
    dpop_key_file: Path | None
    subject_key_file: Path | None
    authorization_details_file: Path | None
    id_jag_audience: str | None
    txn_audience: str | None
    request_details_file: Path | None
    next_request_details_file: Path | None
    service_client_id: str | None
    service_client_secret_file: Path | None
    service_client_cert: Path | None
    protected_resource: str | None
    login_hint: str | None
    profile: Profile
    only: Sequence[str] | None
    skip: Sequence[str] | None
    list_: bool
    output: ReportForm

    def inputs(self) -> Inputs:
        """Read the files.

        Raises:
            typer.BadParameter: if an option is missing, or two exclude each other.
            ConfigError: if a file is empty, too long or not what it should be.
        """
        if self.token_endpoint is None or self.subject_token_file is None:
            raise typer.BadParameter("--token-endpoint and --subject-token-file are both needed")
        login = self._own_login()
        subject_type = _token_type(self.subject_token_type)
        wrong, subject = self.wrong_audience_assertion_file, _read(self.subject_token_file)
        return Inputs(
            token_endpoint=self.token_endpoint,
            login=login,
            subject=Presented(subject, subject_type),
            actor=_presented(self.actor_token_file, _token_type(self.actor_token_type)),
            targets=(
                *(("audience", each) for each in self.audience or ()),
                *(("resource", each) for each in self.resource or ()),
            ),
            scope=self.scope,
            requested_type=None
            if self.requested_token_type is None
            else _token_type(self.requested_token_type),
            issuer=self.issuer,
            other_login=self._other_login(),
            other_audience=None if wrong is None else self._assertion(wrong),
            second_subject=_presented(self.subject_token_2_file, _token_type(self.subject_token_2_type)),
            ungranted_subject=_presented(self.ungranted_subject_token_file, subject_type),
            expired_subject=_presented(self.expired_subject_token_file, subject_type),
            wider_scope=self.wider_scope,
            subject_jwks=None if self.subject_jwks is None else _key_set(self.subject_jwks),
            subject_signer=_signer(self.subject_key_file, subject),
            dpop_key=_signer(self.dpop_key_file),
            details=()
            if self.authorization_details_file is None
            else _details(self.authorization_details_file),
            id_jag_audience=self.id_jag_audience,
            txn_audience=self.txn_audience,
            request_details=_text(self.request_details_file),
            next_request_details=_text(self.next_request_details_file),
            service_login=self._service_login(),
            protected_resource=self.protected_resource,
            login_hint=self.login_hint,
            **({} if self.unknown_audience is None else {"unknown_audience": self.unknown_audience}),
        )

    def certificates(self) -> dict[Certificate, tuple[Path, Path]]:
        """Return the certificates of the clients, with their keys."""
        pairs: dict[Certificate, tuple[Path | None, Path | None]] = {
            "own": (self.client_cert, self.client_key),
            "other": (self.other_client_cert, self.other_client_key),
            "service": (self.service_client_cert, None),
        }
        return {name: (cert, key or cert) for name, (cert, key) in pairs.items() if cert is not None}

    def _own_login(self) -> Login:
        if self.client_assertion_key_file is not None:
            return self._signed_login(self.client_assertion_key_file)
        login = self._login(
            self.client_id, self.client_secret_file, self.client_cert, self.client_assertion_file, "own"
        )
        if login is None:
            raise typer.BadParameter(
                "a client logs in with --client-secret-file, --client-cert, --client-assertion-file "
                "or --client-assertion-key-file"
            )
        return login

    def _signed_login(self, key: Path) -> SignedLogin:
        others = (self.client_secret_file, self.client_cert, self.client_assertion_file)
        if any(each is not None for each in others):
            raise typer.BadParameter(_ONE_LOGIN)
        signer = _signer(key)
        if self.client_id is None or signer is None:
            raise typer.BadParameter("a client that signs its assertions has an id: --client-id")
        audience = self.client_assertion_audience or self.issuer or self.token_endpoint or ""
        return SignedLogin(self.client_id, signer, audience, self.client_assertion_kid)

    def _service_login(self) -> Login | None:
        return self._login(
            self.service_client_id, self.service_client_secret_file, self.service_client_cert, None, "service"
        )

    def _other_login(self) -> Login | None:
        return self._login(
            self.other_client_id,
            self.other_client_secret_file,
            self.other_client_cert,
            self.other_client_assertion_file,
            "other",
        )

    def _login(
        self,
        client_id: str | None,
        secret: Path | None,
        cert: Path | None,
        assertion: Path | None,
        who: Literal["own", "other", "service"],
    ) -> Login | None:
        if sum(each is not None for each in (secret, cert, assertion)) > 1:
            raise typer.BadParameter(_ONE_LOGIN)
        if secret is not None:
            if client_id is None:
                raise typer.BadParameter("a client with a secret has an id: --client-id, --other-client-id")
            return SecretLogin(client_id, _read(secret), self.client_secret_method.value)
        if cert is not None:
            return CertificateLogin(who, _thumbprint(cert), client_id)
        return None if assertion is None else self._assertion(assertion, client_id)

    def _assertion(self, file: Path, client_id: str | None = None) -> AssertionLogin:
        text, said = _read(file), self.client_assertion_type
        if said is None:
            token = Jwt.read(text)
            sub = token.unverified_claims.get("sub") if token is not None else None
            said = "jwt-spiffe" if isinstance(sub, str) and sub.startswith("spiffe://") else "jwt-bearer"
        return AssertionLogin(text, _SHORT_ASSERTIONS.get(said, said), client_id)


def _token_type(name: str) -> str:
    return name if ":" in name else f"{TOKEN_TYPE}{name}"


def _presented(file: Path | None, kind: str) -> Presented | None:
    return None if file is None else Presented(_read(file), kind)


def _read(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise ConfigError(f"a file longer than {_MAX_FILE} bytes: {str(path)!r}")
    try:
        text = data.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise ConfigError(f"a file that is not text: {str(path)!r}") from error
    if not text:
        raise ConfigError(f"an empty file: {str(path)!r}")
    return text


def _text(file: Path | None) -> str | None:
    return None if file is None else _read(file)


def _signer(file: Path | None, unverified_token: str = "") -> Signer | None:
    """Read a private key; the token that it signs says which algorithm of an RSA key is meant."""
    if file is None:
        return None
    token = Jwt.read(unverified_token)
    try:
        return Signer.parse_pem(_read(file).encode(), token.unverified_header.get("alg") if token else None)
    except ConfigError as error:
        raise ConfigError(f"{str(file)!r}: {error}") from error


def _details(path: Path) -> tuple[Mapping[str, object], ...]:
    try:
        value = loads(_read(path).encode(), Limits())
    except StrictJsonError as error:
        raise ConfigError(f"not strict JSON: {str(path)!r}") from error
    if not isinstance(value, list) or not value or not all(isinstance(each, dict) for each in value):
        raise ConfigError(f"not a list of authorization details: {str(path)!r}")
    return tuple(value)


def _key_set(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        data = file.read(MAX_SET_BYTES + 1)
    try:
        return dict(parse_set(data, "key set", Limits()))
    except KeyMaterialError as error:
        raise ConfigError(f"{str(path)!r}: {error}") from error


def _thumbprint(path: Path) -> str:
    text = _read(path)
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    start, stop = text.find(begin), text.find(end)
    try:
        der = ssl.PEM_cert_to_DER_cert(text[start : stop + len(end)])
    except ValueError as error:
        raise ConfigError(f"not a certificate in PEM: {str(path)!r}") from error
    return encode_base64url(hashlib.sha256(der).digest())
