"""A mapping that never changes, and of which a changed copy is cheap.

- A copy shares all buckets but one, so it costs a 512th part of a dictionary's copy. Reading costs two
  look-ups, whatever the size.
- Which keys meet in a bucket depends on a seed of the process, so nobody can choose them to meet.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

BUCKETS: Final = 512


@dataclass(frozen=True, slots=True)
class BucketMap(Generic[K, V]):
    """An immutable mapping; `BucketMap()` is empty."""

    _buckets: tuple[Mapping[K, V], ...] = ({},) * BUCKETS
    _size: int = 0

    @classmethod
    def of(cls, pairs: Iterable[tuple[K, V]]) -> "BucketMap[K, V]":
        """Return the mapping of some pairs; of two with one key the last counts."""
        buckets: list[dict[K, V]] = [{} for _ in range(BUCKETS)]
        for key, value in pairs:
            buckets[hash(key) % BUCKETS][key] = value
        return cls(tuple(buckets), sum(map(len, buckets)))

    def get(self, key: K) -> V | None:
        """Return what belongs to a key."""
        return self._buckets[hash(key) % BUCKETS].get(key)

    def plus(self, key: K, value: V) -> "BucketMap[K, V]":
        """Return a copy that has this too, or in the place of what the key had."""
        return self._with(key, {**self._buckets[hash(key) % BUCKETS], key: value})

    def minus(self, key: K) -> "BucketMap[K, V]":
        """Return a copy without a key."""
        bucket = self._buckets[hash(key) % BUCKETS]
        if key not in bucket:
            return self
        return self._with(key, {other: value for other, value in bucket.items() if other != key})

    def values(self) -> Iterator[V]:
        """Give all values, in no order."""
        for bucket in self._buckets:
            yield from bucket.values()

    def __len__(self) -> int:
        """Return how many there are."""
        return self._size

    def _with(self, key: K, bucket: Mapping[K, V]) -> "BucketMap[K, V]":
        at = hash(key) % BUCKETS
        size = self._size + len(bucket) - len(self._buckets[at])
        return BucketMap((*self._buckets[:at], bucket, *self._buckets[at + 1 :]), size)
