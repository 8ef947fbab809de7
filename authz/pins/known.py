"""All pins of one moment, ready for the question that each call asks.

- A tool that is what was accepted costs two look-ups; a list of such tools one for each.
- Of tools that are denied already, some are looked at again in a minute, however many a server changes.
- What there is no room for is no tool that may be called, in whichever mode: full is closed.
- A name that no call could have is not shown, and not remembered. A name that stands in one list with two
  declarations is shown with neither.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from authz.codes import Code
from authz.pins.declared import Declared, is_tool_name
from authz.pins.pin import MAX_LOOKED_AT, Pin, Sighting
from authz.pins.port import PinMode


@dataclass(frozen=True, slots=True)
class PinLimits:
    """How many tools of a service are remembered, how long a declaration of one is, and all of them."""

    tools: int = 2000
    declaration_bytes: int = 64 * 1024
    service_bytes: int = 8 << 20


DEFAULT_LIMITS: Final = PinLimits()
_NONE: Final[Mapping[str, str]] = MappingProxyType({})
_NO_PINS: Final[Mapping[str, Pin]] = MappingProxyType({})


class KnownPins:
    """The pins, by service and tool."""

    def __init__(self, pins: Iterable[Pin], limits: PinLimits = DEFAULT_LIMITS) -> None:
        """Take all that are known."""
        self._limits = limits
        self._by_service: dict[str, dict[str, Pin]] = {}
        # What may be called, and was declared so last: its digest, by mode, service and tool.
        self._clean: dict[PinMode, dict[str, dict[str, str]]] = {"learn": {}, "require": {}}
        for pin in pins:
            self._by_service.setdefault(pin.service, {})[pin.tool] = pin
            self._note_clean(pin)

    def _note_clean(self, pin: Pin) -> None:
        accepted, seen = pin.accepted, pin.seen
        if accepted is None or seen is None or accepted.digest != seen.digest:
            return
        for mode, services in self._clean.items():
            if pin.refusal(mode) is None:
                services.setdefault(pin.service, {})[pin.tool] = accepted.digest

    def of(self, service: str) -> Mapping[str, Pin]:
        """Return the pins of a service, by tool."""
        return self._by_service.get(service, _NO_PINS)

    def refusal(self, service: str, tool: str, mode: PinMode) -> Code | None:
        """Say why a call of a tool is refused; None where it is not."""
        if mode == "off" or tool in self._clean_of(service, mode):
            return None
        pins = self.of(service)
        pin = pins.get(tool)
        if pin is not None:
            return pin.refusal(mode)
        return Code.TOOL_UNPINNED if mode == "require" or len(pins) >= self._limits.tools else None

    def is_news(self, service: str, declared: Sequence[Declared], mode: PinMode, now: datetime) -> bool:
        """Say whether a list holds what is to be remembered."""
        suspects = self._suspects(service, declared, mode)
        if not suspects:
            return False
        pins = self.of(service)
        is_full, is_busy = len(pins) >= self._limits.tools, looked_at(pins.values(), now) >= MAX_LOOKED_AT
        names = {each.name for each in suspects}
        for name, several in by_name([each for each in declared if each.name in names]).items():
            pin = pins.get(name)
            if (
                is_tool_name(name) and not is_full
                if pin is None
                else _is_news(pin, several, mode, now, is_busy=is_busy)
            ):
                return True
        return False

    def hidden(self, service: str, declared: Sequence[Declared], mode: PinMode) -> frozenset[str]:
        """Name those of a list that must not be shown."""
        pins = self.of(service)
        return frozenset(
            each.name
            for each in self._suspects(service, declared, mode)
            if not _may_be_shown(pins.get(each.name), each, mode)
        )

    def _suspects(self, service: str, declared: Sequence[Declared], mode: PinMode) -> list[Declared]:
        """Return what of a list is not as it was declared last, and may be called."""
        if mode == "off":
            return []
        clean = self._clean_of(service, mode)
        return [each for each in declared if clean.get(each.name) != each.digest]

    def _clean_of(self, service: str, mode: PinMode) -> Mapping[str, str]:
        return self._clean[mode].get(service, _NONE)


def by_name(declared: Sequence[Declared]) -> dict[str, tuple[Declared, ...]]:
    """Group a list by names; what stands twice and is the same counts once."""
    found: dict[str, dict[str, Declared]] = {}
    for each in declared:
        found.setdefault(each.name, {})[each.digest] = each
    return {name: tuple(several.values()) for name, several in found.items()}


def looked_at(pins: Iterable[Pin], now: datetime) -> int:
    """Count those that were looked at a moment ago, and were something else than what counts."""
    return sum(pin.was_looked_at(now) for pin in pins)


def _is_news(pin: Pin, several: Sequence[Declared], mode: PinMode, now: datetime, *, is_busy: bool) -> bool:
    learns = mode == "learn" and len(several) == 1
    sightings = [Sighting(each.digest, now) for each in several]
    return any(
        pin.notice(each, learns=learns) is not pin
        for each in sightings
        if not (is_busy and pin.is_repeat(each))
    )


def _may_be_shown(pin: Pin | None, declared: Declared, mode: PinMode) -> bool:
    if pin is None or pin.accepted is None:
        return False
    return pin.accepted.digest == declared.digest and pin.refusal(mode) is None
