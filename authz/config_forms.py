"""The texts of `deputy.yaml`: what form each has, and what is said of one that has another.

- A text is matched whole. A message says which form is wanted, and does not repeat what was written: a
  secret may have been pasted into the wrong place.
- What an authorizer compares later is checked by the code that compares it, so that an entry which could
  never match is refused when it is read.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, GetJsonSchemaHandler
from pydantic.annotated_handlers import GetCoreSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from authz.address import parse_address
from authz.errors import ConfigError, RequestError
from authz.host import parse_authority
from identity.caller import Human
from identity.errors import IdentityError
from identity.names import parse_agent_name
from identity.qualified_name import parse_registered_name
from identity.spiffe import SpiffeId, TrustDomain

_HTTPS: Final = r"https://[A-Za-z0-9.\-]{1,253}(:[0-9]{1,5})?"
_PATH: Final = r"(/[A-Za-z0-9._~/\-]{0,200})?"


@dataclass(frozen=True, slots=True)
class Matches:
    """A text that a pattern matches whole; people are told `wanted`, editors get the pattern."""

    pattern: str
    wanted: str

    def check(self, text: str) -> str:
        """Return the text.

        Raises:
            ValueError: if it has another form.
        """
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"must be {self.wanted}")
        return text

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - pydantic's protocol
        """Check after pydantic has seen that it is text."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the pattern for editors."""
        return {**handler(schema), "pattern": f"^({self.pattern})$"}


def _spiffe_id(text: str) -> str:
    try:
        return str(SpiffeId.parse(text))
    except IdentityError as error:
        raise ValueError(
            f"must be a SPIFFE ID such as spiffe://mesh.example/ns/mesh/sa/gateway: {error}"
        ) from error


def _agent_name(text: str) -> str:
    try:
        return parse_agent_name(text)
    except IdentityError as error:
        raise ValueError(str(error)) from error


def _registered_name(text: str) -> str:
    try:
        return parse_registered_name(text)
    except IdentityError as error:
        raise ValueError(str(error)) from error


def _trust_domain(text: str) -> str:
    try:
        return TrustDomain.parse(text).name
    except IdentityError as error:
        raise ValueError(str(error)) from error


def _listen(text: str) -> str:
    try:
        return str(parse_address(text))
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _listen_tcp(text: str) -> str:
    listen = _listen(text)
    if listen.startswith("unix:"):
        raise ValueError("must be 'host:port': over a Unix socket nobody could show a certificate")
    return listen


def _listen_unix(text: str) -> str:
    listen = _listen(text)
    if not listen.startswith("unix:"):
        raise ValueError("must be 'unix:///absolute/path': only a Unix socket tells who is at the other end")
    return listen


def _host(text: str) -> str:
    try:
        host, port = parse_authority(text)
    except RequestError as error:
        raise ValueError("must be a host name without a scheme or a path") from error
    if port is not None:
        raise ValueError("must be a host without its port: hosts are compared without one")
    return host


def _issuer(text: str) -> str:
    try:
        return Human.parse(text, "anybody").issuer
    except IdentityError as error:
        raise ValueError(
            "must be an https URL without query and fragment, or http on this machine"
        ) from error


def _path(value: object) -> object:
    # A tilde is expanded by shells only: it would become a directory of that name.
    if isinstance(value, str) and (not value or value.startswith("~") or "\0" in value):
        raise ValueError("must be a path, written out")
    return value


def _moment(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be a time such as 2026-11-21T08:00:00Z")  # noqa: TRY004 - pydantic wraps ValueError
    return value


SpiffeText = Annotated[str, AfterValidator(_spiffe_id)]
AgentName = Annotated[str, AfterValidator(_agent_name)]
RegisteredName = Annotated[str, AfterValidator(_registered_name)]
TrustDomainName = Annotated[str, AfterValidator(_trust_domain)]
ServiceName = Annotated[
    str, Matches(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "a name of 1 to 63 of a-z, 0-9 and '-'")
]
Text = Annotated[str, Field(min_length=1, max_length=255)]
Listen = Annotated[str, AfterValidator(_listen)]
ListenTcp = Annotated[str, AfterValidator(_listen_tcp)]
ListenUnix = Annotated[str, AfterValidator(_listen_unix)]
Sha256Hex = Annotated[str, Matches(r"[0-9a-f]{64}", "64 digits of lower-case hex")]
HttpsUri = Annotated[str, Matches(_HTTPS + _PATH, "an https URL without query and fragment")]
OpaUrl = Annotated[
    str, Matches(rf"unix:///.{{1,100}}|{_HTTPS}", "'unix:///absolute/path' or 'https://host:port'")
]
ProviderIssuer = Annotated[str, AfterValidator(_issuer)]
Host = Annotated[str, AfterValidator(_host)]
ToolPrefix = Annotated[str, Matches(r"[A-Za-z0-9_.\-]{0,64}", "at most 64 of A-Z, a-z, 0-9, '_', '.', '-'")]
EndpointPath = Annotated[
    str,
    Matches(r"/|(/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,99}){1,16}", "a path such as /mcp, without a last slash"),
]
FilePath = Annotated[Path, Field(strict=False), BeforeValidator(_path)]
Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_moment)]
