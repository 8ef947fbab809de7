"""The page about security events: its configuration is one, and what it says is so."""

import re

import yaml

from authz.broker.event_push import Pusher, Receiver
from authz.config_events import EventsConfig
from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs/how-to/share-signals.md").read_text("utf-8")


def test_its_configuration_is_accepted() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    events = EventsConfig.model_validate(yaml.safe_load(block)["events"])
    assert [one.issuer for one in events.transmitters] == ["https://idp.example"]
    (receiver,) = events.receivers
    Pusher(Receiver(receiver.url, receiver.audience))
