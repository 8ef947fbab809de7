"""The section `events` of `deputy.yaml`: who tells us of sessions that ended, and whom we tell."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from authz.config_forms import FilePath, Matches, ProviderIssuer, Text
from authz.config_sections import Section

_HOST = r"(https://[A-Za-z0-9.\-]{1,253}|http://(127\.0\.0\.1|localhost))(:[0-9]{1,5})?"
EventUrl = Annotated[
    str,
    Matches(
        _HOST + r"(/[A-Za-z0-9._~/%\-]{0,400})?",
        "an https URL without query and fragment, or http on this machine",
    ),
]


class TransmitterConfig(Section):
    """A party whose security events count (SSF, CAEP, RISC), pushed to `<issuer>/events`."""

    issuer: ProviderIssuer = Field(description="`iss` of its events")
    audience: Text | None = Field(default=None, description="`aud` of its events to us; else our issuer")
    issuers: list[ProviderIssuer] = Field(
        default_factory=list,
        max_length=64,
        description="providers whose people it may speak of; else its own",
    )
    jwks_uri: EventUrl | None = Field(
        default=None, description="its keys; else as `/.well-known/ssf-configuration` of the issuer says"
    )
    bearer_file: FilePath | None = Field(
        default=None, description="file of mode 0600 with the bearer token that its pushes must carry"
    )
    ca_file: FilePath | None = Field(
        default=None, description="PEM file with the CA of its certificate; else the system's"
    )
    allow_loopback: bool = Field(
        default=False, description="accept one on this machine, over plain HTTP (development)"
    )
    allow_private: bool = Field(default=False, description="accept one in a private network")

    @model_validator(mode="after")
    def _plain_http_is_for_development(self) -> Self:
        _check_plain((self.issuer, self.jwks_uri or ""), allow_loopback=self.allow_loopback)
        return self


class ReceiverConfig(Section):
    """A party that is told when somebody's session, grant or token was revoked (CAEP session-revoked)."""

    url: EventUrl = Field(description="where events are pushed to (RFC 8935)")
    audience: Text = Field(description="`aud` of the events")
    issuers: list[ProviderIssuer] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="providers whose people it is told of; else everybody's",
    )
    bearer_file: FilePath | None = Field(
        default=None, description="file of mode 0600 with the bearer token that our pushes carry"
    )
    ca_file: FilePath | None = Field(
        default=None, description="PEM file with the CA of its certificate; else the system's"
    )
    allow_loopback: bool = Field(
        default=False, description="push to one on this machine, over plain HTTP (development)"
    )
    allow_private: bool = Field(default=False, description="push to one in a private network")

    @model_validator(mode="after")
    def _plain_http_is_for_development(self) -> Self:
        _check_plain((self.url,), allow_loopback=self.allow_loopback)
        return self


class EventsConfig(Section):
    """Security events of others, and to others."""

    transmitters: list[TransmitterConfig] = Field(
        default_factory=list, max_length=64, description="whose events count"
    )
    receivers: list[ReceiverConfig] = Field(default_factory=list, max_length=64, description="who is told")

    @model_validator(mode="after")
    def _each_stands_once(self) -> Self:
        issuers = [transmitter.issuer for transmitter in self.transmitters]
        if len(set(issuers)) != len(issuers):
            raise ValueError("transmitters: two with one issuer")
        places = [(receiver.url, receiver.audience) for receiver in self.receivers]
        if len(set(places)) != len(places):
            raise ValueError("receivers: two with one url and audience")
        return self


def _check_plain(urls: tuple[str, ...], *, allow_loopback: bool) -> None:
    if not allow_loopback and any(url.startswith("http:") for url in urls):
        raise ValueError("plain HTTP needs allow_loopback: true, which is for development")
