"""Tools as they are, as they were accepted, and what changed: see it, accept it, forget it.

- Who accepts names the hash of what they looked at: what a server declares in its place meanwhile is not
  accepted (409), and what it declares after that has changed.
- A declaration that nobody has seen here is accepted with its text, which must have that hash.
- The record has service, tool, hashes and author; no text of a server.
- Of what waits there is said what changed, in words; the whole declarations are shown of one tool.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from authz.admin import Action, Actor, AdminRequest
from authz.administration.document import members, moment_json, reason_of, text
from authz.administration.order import ExistenceError, Order, OrderError
from authz.broker.arrival import Arrival
from authz.pins.declared import Declared, is_tool_name
from authz.pins.differences import differences
from authz.pins.known import KnownPins
from authz.pins.pin import Pin, Sighting
from authz.pins.port import PinMode
from identity.canonical import CanonicalJsonError
from identity.strict_json import StrictJsonError, loads

MAX_LISTED: Final = 2000
NOT_KEPT: Final = "the declaration is too long, or there is no room for it: nobody can accept it"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")

Declarations = Mapping[str, Mapping[str, Any]]


class Pinned(Protocol):
    """The file of pins; every method may wait for the disk."""

    def load(self) -> KnownPins:
        """Return all pins."""

    def declarations(self, service: str, tool: str) -> Declarations:
        """Return what is kept of a tool's declarations, by digest."""

    def accept(
        self, of: tuple[str, str], digest: str, by: str, now: datetime, declared: Declared | None = None
    ) -> Pin:
        """Let a declaration count."""

    def forget(self, service: str, tool: str) -> Pin:
        """Know nothing of a tool any more."""


@dataclass(frozen=True, slots=True)
class PinDesk:
    """The pins, and the services that there are, each with what counts there."""

    pins: Pinned
    modes: Mapping[str, PinMode]
    clock: Callable[[], datetime]


async def list_pins(service: str | None, desk: PinDesk) -> Order:
    """Plan a list (GET /admin/v1/pins): of one service all that is known, else of each what waits.

    Raises:
        OrderError: if there is no such service.
    """
    if service is not None:
        _mode_of(service, desk)

    def body() -> dict[str, object]:
        known = desk.pins.load()
        found = [
            (pin, mode)
            for name, mode in sorted(desk.modes.items())
            if service in {None, name}
            for _, pin in sorted(known.of(name).items())
            if service is not None or is_open(pin, mode)
        ]
        return {
            "services": [_service_json(name, mode, known) for name, mode in sorted(desk.modes.items())],
            "total": len(found),
            "pins": [pin_json(pin, mode, _kept(pin, desk)) for pin, mode in found[:MAX_LISTED]],
        }

    return Order(request=AdminRequest("pins/list"), subject=service or "all services", body=body)


async def show_pin(service: str, tool: str, desk: PinDesk) -> Order:
    """Plan to show one tool with its declarations (GET /admin/v1/pins/{service}/{name}).

    Raises:
        OrderError: if nothing is known of it.
    """
    mode, pin = _mode_of(service, desk), await _pin(service, tool, desk)
    if pin is None:
        raise ExistenceError(f"no tool {tool[:128]!r} of {service} was seen here")

    def body() -> dict[str, object]:
        kept = desk.pins.declarations(service, tool)
        return pin_json(pin, mode, kept, whole=True)

    return Order(request=_request("pins/show", service, tool), subject=_subject(service, tool), body=body)


async def accept_pin(service: str, tool: str, arrival: Arrival, desk: PinDesk, actor: Actor) -> Order:
    """Plan to accept a declaration (POST /admin/v1/pins/{service}/{name}/accept).

    Raises:
        OrderError: if there is none like it.
    """
    body = members(arrival, required=frozenset({"digest"}), optional=frozenset({"declaration", "reason"}))
    mode, digest = _mode_of(service, desk), text(body, "digest")
    if not _DIGEST.fullmatch(digest):
        raise OrderError("digest is not 64 lower-case hexadecimal digits")
    declared = _declared(tool, text(body, "declaration"), digest) if "declaration" in body else None
    pin = await _pin(service, tool, desk)
    if pin is None and declared is None:
        raise ExistenceError(f"no tool {tool[:128]!r} of {service} was seen here")
    before = pin.accepted.digest if pin is not None and pin.accepted is not None else "nothing"
    done: list[Pin] = []

    def act() -> None:
        done.append(desk.pins.accept((service, tool), digest, actor.id, desk.clock(), declared))

    return Order(
        request=_request("pins/accept", service, tool),
        subject=_subject(service, tool),
        body=lambda: pin_json(done[0], mode, _kept(done[0], desk)),
        act=act,
        reason=reason_of(body) if "reason" in body else "",
        detail=f"accepts sha256 {digest}, before {before}",
    )


async def forget_pin(service: str, tool: str, arrival: Arrival, desk: PinDesk) -> Order:
    """Plan to forget a tool (POST /admin/v1/pins/{service}/{name}/forget).

    Raises:
        OrderError: if nothing is known of it.
    """
    body = members(arrival, required=frozenset(), optional=frozenset({"reason"}))
    _mode_of(service, desk)
    pin = await _pin(service, tool, desk)
    if pin is None:
        raise ExistenceError(f"no tool {tool[:128]!r} of {service} was seen here")
    before = pin.accepted.digest if pin.accepted is not None else "nothing"

    def act() -> None:
        desk.pins.forget(service, tool)

    return Order(
        request=_request("pins/forget", service, tool),
        subject=_subject(service, tool),
        body=lambda: {"service": service, "tool": tool, "forgotten": True},
        act=act,
        reason=reason_of(body) if "reason" in body else "",
        detail=f"before sha256 {before}",
    )


def is_open(pin: Pin, mode: PinMode) -> bool:
    """Say whether somebody should look: it is refused, or was another one for a while."""
    return pin.refusal(mode) is not None or pin.drift is not None


def pin_json(pin: Pin, mode: PinMode, kept: Declarations, *, whole: bool = False) -> dict[str, object]:
    """Write what is known of a tool; `whole` adds the declarations."""
    accepted, code = pin.accepted, pin.refusal(mode)
    written: dict[str, object] = {
        "service": pin.service,
        "tool": pin.tool,
        "mode": mode,
        "state": pin.state,
        "refused": None if code is None else code.value,
        "accepted_sha256": accepted.digest if accepted is not None else None,
        "accepted_by": accepted.by if accepted is not None else None,
        "accepted_at": moment_json(accepted.at) if accepted is not None else None,
        **_sighting_json("seen", pin.seen),
        **_sighting_json("drift", pin.drift),
        "waiting_sha256": pin.waiting,
        "departures": pin.departures,
        "changes": list(_changes(pin, kept)),
    }
    if whole:
        waiting = pin.waiting or (pin.drift.digest if pin.drift is not None else "")
        written["accepted"] = kept.get(accepted.digest) if accepted is not None else None
        written["waiting"] = kept.get(waiting)
    return written


def _changes(pin: Pin, kept: Declarations) -> tuple[str, ...]:
    latest = pin.drift if pin.accepted is not None else pin.seen
    if latest is None:
        return ()
    if not latest.is_kept:
        return (NOT_KEPT,)
    before = kept.get(pin.accepted.digest) if pin.accepted is not None else None
    after = kept.get(latest.digest)
    return () if before is None or after is None else differences(before, after)


def _sighting_json(name: str, sighting: Sighting | None) -> dict[str, object]:
    return {
        f"{name}_sha256": sighting.digest if sighting is not None else None,
        f"{name}_at": moment_json(sighting.at) if sighting is not None else None,
    }


def _service_json(name: str, mode: PinMode, known: KnownPins) -> dict[str, object]:
    pins = known.of(name).values()
    refused = sum(pin.refusal(mode) is not None for pin in pins)
    return {"name": name, "mode": mode, "tools": len(pins), "refused": refused}


def _kept(pin: Pin, desk: PinDesk) -> Declarations:
    """Read what a comparison needs; of most there is nothing to compare."""
    return desk.pins.declarations(pin.service, pin.tool) if pin.drift is not None else {}


def _mode_of(service: str, desk: PinDesk) -> PinMode:
    mode = desk.modes.get(service)
    if mode is None:
        raise ExistenceError(f"no service {service[:64]!r} is configured")
    return mode


async def _pin(service: str, tool: str, desk: PinDesk) -> Pin | None:
    known = await asyncio.to_thread(desk.pins.load)
    return known.of(service).get(tool)


def _declared(tool: str, unverified_text: str, digest: str) -> Declared:
    try:
        value = loads(unverified_text.encode())
        declared = Declared.of(tool, value) if isinstance(value, dict) and is_tool_name(tool) else None
    except (StrictJsonError, CanonicalJsonError) as error:
        raise OrderError(f"declaration is not strict JSON: {error}") from error
    if declared is None:
        raise OrderError("declaration is not that of a tool that can be called")
    if declared.digest != digest:
        raise OrderError("digest is not that of the declaration")
    return declared


def _request(action: Action, service: str, tool: str) -> AdminRequest:
    return AdminRequest(action, id=f"{service}/{tool}")


def _subject(service: str, tool: str) -> str:
    return f"tool {service}/{tool}"
