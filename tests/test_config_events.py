"""The section `events` of the configuration."""

from typing import Any

import pytest
from pydantic import ValidationError

from authz.config_events import EventsConfig

TRANSMITTER = {"issuer": "https://idp.example/tenant/"}
RECEIVER = {"url": "https://soc.example/hooks/a%20b", "audience": "https://soc.example"}


def parse(**section: Any) -> EventsConfig:
    return EventsConfig.model_validate(section)


def test_nobody_is_heard_and_nobody_is_told_by_default() -> None:
    assert parse() == EventsConfig(transmitters=[], receivers=[])


def test_the_least_is_an_issuer_or_an_address_with_an_audience() -> None:
    events = parse(transmitters=[TRANSMITTER], receivers=[RECEIVER])
    (transmitter,), (receiver,) = events.transmitters, events.receivers
    assert (transmitter.audience, transmitter.issuers, transmitter.jwks_uri) == (None, [], None)
    assert (receiver.issuers, receiver.bearer_file) == (None, None)
    switches = (transmitter.allow_loopback, transmitter.allow_private, receiver.allow_loopback)
    assert switches == (False, False, False)


def test_all_can_be_said() -> None:
    files = {"bearer_file": "secrets/bearer", "ca_file": "ca.pem", "allow_private": True}
    local = {"allow_loopback": True, **files}
    parse(
        transmitters=[
            {
                "issuer": "http://127.0.0.1:8080",
                "audience": "here",
                "issuers": ["https://idp.example"],
                "jwks_uri": "http://localhost:8080/keys",
                **local,
            }
        ],
        receivers=[
            {"url": "http://127.0.0.1:9/", "audience": "x", "issuers": ["https://idp.example"], **local}
        ],
    )


@pytest.mark.parametrize(
    "section",
    [
        {"transmitters": [{}]},
        {"transmitters": [{"issuer": "idp.example"}]},
        {"transmitters": [{"issuer": "https://idp.example?x"}]},
        {"transmitters": [{"issuer": "http://idp.example", "allow_loopback": True}]},
        {"transmitters": [{"issuer": "http://127.0.0.1:1"}]},
        {"transmitters": [{**TRANSMITTER, "jwks_uri": "http://127.0.0.1:1/keys"}]},
        {"transmitters": [{**TRANSMITTER, "jwks_uri": "http://169.254.169.254/", "allow_loopback": True}]},
        {"transmitters": [{**TRANSMITTER, "jwks_uri": "https://user:pass@idp.example/"}]},
        {"transmitters": [{**TRANSMITTER, "bearer": "s3cret"}]},
        {"transmitters": [TRANSMITTER, {**TRANSMITTER, "audience": "other"}]},
        {"receivers": [{"url": "https://soc.example"}]},
        {"receivers": [{"audience": "x"}]},
        {"receivers": [{**RECEIVER, "url": "http://soc.example/", "allow_loopback": True}]},
        {"receivers": [{**RECEIVER, "url": "http://127.0.0.1/"}]},
        {"receivers": [{**RECEIVER, "url": "https://soc.example/?token=s3cret"}]},
        {"receivers": [{**RECEIVER, "url": "file:///etc/passwd"}]},
        {"receivers": [{**RECEIVER, "issuers": []}]},
        {"receivers": [RECEIVER, RECEIVER]},
        {"receivers": [{**RECEIVER, "audience": str(number)} for number in range(65)]},
        {"else": []},
    ],
)
def test_refuses_and_repeats_no_secret(section: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        parse(**section)
    assert "s3cret" not in str(raised.value)
    assert "pass@" not in str(raised.value)
