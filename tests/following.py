"""What a replica follows, without a state to follow."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class FakeFollowing:
    """Follows nothing: each call takes the next of `acts`, as a read that learns something would."""

    acts: list[Callable[[], None]] = field(default_factory=list)
    learns: Callable[[], None] = lambda: None
    reached: list[int] = field(default_factory=list)
    reaches: Callable[[int], None] = lambda _: None
    asked: int = 0

    async def refresh(self) -> None:
        if self.acts:
            self.acts.pop(0)()

    async def reach(self, min_epoch: int) -> None:
        self.reached.append(min_epoch)
        self.reaches(min_epoch)

    async def learn(self) -> None:
        self.asked += 1
        self.learns()
