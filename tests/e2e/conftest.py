"""A running world for end-to-end tests: every part real, started once for a module."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import pytest

from authz.demo.stage import Stage
from authz.demo.world import DemoWorld, clean_directory, start_world

T = TypeVar("T")


@dataclass(frozen=True)
class Live:
    """The world, and a loop to talk to it."""

    world: DemoWorld
    runner: asyncio.Runner

    def run(self, play: Callable[[Stage], Awaitable[T]]) -> T:
        """Play something with a fresh cast."""

        async def played() -> T:
            return await play(Stage(self.world))

        return self.runner.run(played())


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The demo's world on the embedded engine."""
    directory = clean_directory(tmp_path_factory.mktemp("world"))
    with asyncio.Runner() as runner:
        started = start_world(directory, None, print)
        world = runner.run(started.__aenter__())
        try:
            yield Live(world, runner)
        finally:
            runner.run(started.__aexit__(None, None, None))
