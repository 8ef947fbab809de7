"""A bounded memory: nobody takes the place of the others."""

import pytest

from identity.fair_cache import FairCache


def test_whoever_has_filled_their_share_loses_their_own_oldest() -> None:
    cache: FairCache[int, str] = FairCache(10, 3)
    cache.put(0, "mine", "quiet")
    for number in range(1, 100):
        cache.put(number, "flood", "loud")
    assert cache.get(0) == "mine"
    assert [cache.get(number) for number in (96, 97, 98, 99)] == [None, "flood", "flood", "flood"]
    assert (len(cache), cache.of_owner("loud"), cache.of_owner("quiet")) == (4, 3, 1)


def test_when_all_is_full_the_oldest_is_lost() -> None:
    cache: FairCache[int, int] = FairCache(4, 2)
    for number in range(6):
        cache.put(number, number, f"owner {number}")
    assert [cache.get(number) for number in range(6)] == [None, None, 2, 3, 4, 5]
    assert cache.of_owner("owner 0") == 0


def test_a_value_that_is_put_again_takes_one_place() -> None:
    cache: FairCache[str, int] = FairCache(4, 2)
    cache.put("key", 1, "one")
    cache.put("key", 2, "other")
    assert (cache.get("key"), len(cache), cache.of_owner("one"), cache.of_owner("other")) == (2, 1, 0, 1)


def test_forgetting() -> None:
    cache: FairCache[str, int] = FairCache(4, 2)
    cache.put("a", 1, "one")
    cache.put("b", 2, "one")
    cache.drop("a")
    cache.drop("a")
    assert (cache.get("a"), cache.get("b"), cache.of_owner("one")) == (None, 2, 1)
    cache.clear()
    assert (len(cache), cache.get("b"), cache.of_owner("one")) == (0, None, 0)


def test_it_shows_nothing_of_what_it_holds() -> None:
    cache: FairCache[str, str] = FairCache(4, 2)
    cache.put("key", "value", "owner")
    assert repr(cache) == "FairCache(1 of 4)"


@pytest.mark.parametrize(("entries", "share"), [(0, 0), (4, 0), (4, 4), (4, 5), (1, 1)])
def test_a_bound_that_is_none(entries: int, share: int) -> None:
    with pytest.raises(ValueError, match="for one owner"):
        FairCache(entries, share)
