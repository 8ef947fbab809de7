"""How much of the process's time goes into the answers of each service.

- Whoever decides on everybody's calls reads what servers send, too, and a few bytes can take long: a thousand
  small lists, a million events of nothing. Once the answers of a service took BURST_SECONDS, each part of
  them waits as long as the one before it took, so that half of the time is left for the others.
- The services are ours to name, so what is remembered is bounded.
"""

from typing import Final

# Less than a proxy waits for a decision.
BURST_SECONDS: Final = 0.1


class Shares:
    """What was spent on each service, less what has been waited for."""

    def __init__(self) -> None:
        """Begin with nothing spent."""
        self._spent: dict[str, tuple[float, float]] = {}

    def charge(self, service: str, seconds: float, now: float) -> None:
        """Note what was spent; `now` is later by that."""
        self._spent[service] = (self._left(service, now) + 2 * seconds, now)

    def wait(self, service: str, now: float) -> float:
        """Return for how long the next part has to wait."""
        return max(0.0, self._left(service, now) - BURST_SECONDS)

    def _left(self, service: str, now: float) -> float:
        spent, since = self._spent.get(service, (0.0, now))
        return max(0.0, spent - max(0.0, now - since))
