"""How long each part takes."""

from dataclasses import dataclass
from typing import Self

PARTS = (
    *("rates", "flood", "orders", "envoy"),
    *("steps", "growth", "bombs", "inspect", "lists"),
    *("identity", "exchange", "revocation"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Seconds and counts; the whole run takes a few minutes, the quick one about one."""

    seconds: float
    rounds: int
    step_seconds: float
    walks: int
    growth_seconds: float
    bomb_seconds: float
    envoy_calls: int
    # Streams of the Workload API that are open at once, and how often the key changes under them.
    streams: int
    rotations: int
    # How often something is withdrawn under so many replicas.
    withdrawals: int
    # How often an agent is contained in one process.
    orders: int
    replicas: int = 4
    # Times the grants and the registry.
    scales: tuple[int, ...] = (10, 50)
    # One core for who is measured, another for who asks.
    pinned: bool = True

    @classmethod
    def whole(cls) -> Self:
        return cls(
            seconds=1.0,
            rounds=8,
            step_seconds=0.5,
            walks=6_000,
            growth_seconds=2.0,
            bomb_seconds=0.3,
            envoy_calls=4_000,
            streams=2_000,
            rotations=5,
            withdrawals=100,
            orders=200,
        )

    @classmethod
    def quick(cls) -> Self:
        return cls(
            seconds=0.4,
            rounds=5,
            step_seconds=0.1,
            walks=1_500,
            growth_seconds=0.5,
            bomb_seconds=0.05,
            envoy_calls=600,
            streams=2_000,
            rotations=3,
            withdrawals=50,
            orders=100,
        )

    @classmethod
    def smoke(cls) -> Self:
        """For the test of this code: no number of it says anything."""
        return cls(
            seconds=0.05,
            rounds=1,
            step_seconds=0.001,
            walks=3,
            growth_seconds=0.01,
            bomb_seconds=0.001,
            envoy_calls=40,
            streams=8,
            rotations=1,
            withdrawals=2,
            orders=2,
            replicas=2,
            scales=(2,),
            pinned=False,
        )
