"""Frozen values that are made quickly are what `dataclass` makes of them."""

import copy
import inspect
import pickle
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, field, replace

import pytest

from identity.quick_init import quick_init


@dataclass(frozen=True, slots=True)
class Slow:
    first: str
    second: int = 2
    named: str = field(kw_only=True, repr=False)
    listed: Mapping[str, int] = field(default_factory=dict, compare=False)
    last: str | None = field(default=None, kw_only=True)


@quick_init
@dataclass(frozen=True, slots=True)
class Quick:
    first: str
    second: int = 2
    named: str = field(kw_only=True, repr=False)
    listed: Mapping[str, int] = field(default_factory=dict, compare=False)
    last: str | None = field(default=None, kw_only=True)


@quick_init
@dataclass(frozen=True, slots=True)
class More(Quick):
    own: int = 0


def test_a_value_is_of_its_class_and_has_its_members() -> None:
    made = Quick("a", named="b")
    assert type(made) is Quick
    assert (made.first, made.second, made.named, made.listed, made.last) == ("a", 2, "b", {}, None)
    other = Quick("a", 3, {"x": 1}, named="b", last="z")
    assert (other.second, other.listed, other.last) == (3, {"x": 1}, "z")


def test_a_value_is_frozen_like_any_other() -> None:
    made = Quick("a", named="b")
    for name in ("first", "named", "unknown"):
        with pytest.raises((FrozenInstanceError, TypeError)):
            setattr(made, name, "c")
    with pytest.raises((FrozenInstanceError, TypeError)):
        del made.first
    assert not hasattr(made, "__dict__")
    assert made.first == "a"


def test_equality_hash_and_representation_are_as_before() -> None:
    one, same, other = Quick("a", named="b"), Quick("a", named="b", listed={"x": 1}), Quick("a", named="c")
    assert one == same
    assert one != other
    assert hash(one) == hash(same)
    assert repr(one) == repr(Slow("a", named="b")).replace("Slow", "Quick")


def test_defaults_that_are_made_are_made_anew() -> None:
    assert Quick("a", named="b").listed is not Quick("a", named="b").listed


def test_the_parameters_are_as_before() -> None:
    quick, slow = inspect.signature(Quick.__init__).parameters, inspect.signature(Slow.__init__).parameters
    assert [(each.name, each.kind) for each in quick.values()] == [
        (each.name, each.kind) for each in slow.values()
    ]
    assert Quick.__init__.__annotations__ == Slow.__init__.__annotations__
    assert Quick.__init__.__qualname__ == "Quick.__init__"
    assert Quick.__match_args__ == Slow.__match_args__


@pytest.mark.parametrize(
    ("given", "named"),
    [((), {"named": "b"}), (("a",), {}), (("a", 2, {}, 4), {"named": "b"}), (("a",), {"named": "b", "x": 1})],
)
def test_arguments_that_are_missing_or_too_many_are_refused(
    given: tuple[object, ...], named: dict[str, object]
) -> None:
    with pytest.raises(TypeError):
        Quick(*given, **named)  # type: ignore[arg-type]  # what is refused
    with pytest.raises(TypeError):
        Slow(*given, **named)  # type: ignore[arg-type]  # as above


def test_a_class_below_one_has_the_members_of_both() -> None:
    made = More("a", named="b", own=7)
    assert type(made) is More
    assert (made.first, made.named, made.own) == ("a", "b", 7)
    assert isinstance(made, Quick)
    assert made != Quick("a", named="b")
    with pytest.raises((FrozenInstanceError, TypeError)):
        made.own = 8  # type: ignore[misc]  # what is refused


def test_values_can_be_replaced_copied_and_pickled() -> None:
    made = More("a", named="b", own=7)
    assert replace(made, own=8) == More("a", named="b", own=8)
    for again in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert again == made
        assert type(again) is More
        with pytest.raises((FrozenInstanceError, TypeError)):
            again.own = 9  # type: ignore[misc]  # as above


@dataclass(slots=True)
class Open:
    a: int


@dataclass(frozen=True)
class Loose:
    a: int


@dataclass(frozen=True, slots=True)
class Checked:
    a: int

    def __post_init__(self) -> None:
        """Do something of its own."""


@pytest.mark.parametrize("other", [Open, Loose, Checked, str])
def test_another_kind_of_class_is_refused(other: type) -> None:
    with pytest.raises(TypeError):
        quick_init(other)
