"""The parts of security events, as the configuration names them."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from authz.audit.sink import Sink
from authz.broker.event_cursor import FileCursor
from authz.broker.event_memory import EventMemory
from authz.broker.event_push import Receiver
from authz.broker.event_secret import EventSecret
from authz.broker.event_signal import signal_of
from authz.broker.event_transmitters import Transmitter, Transmitters
from authz.broker.events_endpoint import Inbox, Withdraws
from authz.broker.events_outgoing import Outbox, Outside
from authz.config_events import EventsConfig, ReceiverConfig, TransmitterConfig
from authz.store.withdrawal_log import WithdrawalLog
from identity.keys import SigningKey
from identity.security_event import issue_security_event

STATE_FILE: Final = "state.db"

Clock = Callable[[], datetime]


def open_inbox(
    events: EventsConfig, *, issuer: str, leeway: int, state: Withdraws, data_dir: Path, clock: Clock
) -> Inbox:
    """Return who may tell us of security events, and what we remember of them.

    Raises:
        ConfigError: if a secret cannot be read.
        StoreError: if what is remembered cannot be read.
    """
    transmitters = Transmitters([_transmitter(one, issuer) for one in events.transmitters], leeway)
    return Inbox(transmitters, state, EventMemory.open(data_dir, clock))


def open_outbox(
    events: EventsConfig,
    *,
    issuer: str,
    token_key: Callable[[], SigningKey],
    sink: Sink,
    data_dir: Path,
    clock: Clock,
    new_id: Callable[[datetime], str],
) -> Outbox:
    """Return whom we tell of withdrawals.

    Raises:
        ConfigError: if a secret cannot be read, or an address is not one that we push to.
    """
    log = WithdrawalLog(data_dir / STATE_FILE)
    outside = Outside(
        issuer=issuer,
        signals=lambda after, limit: [signal_of(written) for written in log.after(after, limit)],
        # The key of the moment: an event that waits for its receiver may outlive one.
        sign=lambda event, audience: issue_security_event(token_key(), event, audience),
        sink=sink,
        clock=clock,
        new_id=new_id,
    )
    receivers = [_receiver(one) for one in events.receivers]
    return Outbox(receivers, lambda one, lane: FileCursor(data_dir, one.url, one.audience, lane), outside)


def _transmitter(config: TransmitterConfig, issuer: str) -> Transmitter:
    return Transmitter(
        issuer=config.issuer,
        audience=config.audience or issuer,
        issuers=frozenset(config.issuers or [config.issuer]),
        jwks_uri=config.jwks_uri,
        ca_file=config.ca_file,
        allow_loopback=config.allow_loopback,
        allow_private=config.allow_private,
        secret=_secret(config.bearer_file),
    )


def _receiver(config: ReceiverConfig) -> Receiver:
    return Receiver(
        url=config.url,
        audience=config.audience,
        issuers=None if config.issuers is None else frozenset(config.issuers),
        ca_file=config.ca_file,
        allow_loopback=config.allow_loopback,
        allow_private=config.allow_private,
        secret=_secret(config.bearer_file),
    )


def _secret(path: Path | None) -> EventSecret | None:
    return None if path is None else EventSecret.read(path)
